"""What a report is about, as read from the database."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.training.report.curves import F64, Bin
from ubp_sql.training.report.figures_effects import Effect, Importance


@dataclass(frozen=True)
class Task:
    """A row of ubp.tasks; `amount`: what is predicted is a number, not a chance; `rule`: the label's, as JSON."""

    name: str
    meaning: str
    label: str
    rule: str
    population_kind: str
    horizon: timedelta
    feature_set: str
    amount: bool
    deployed_version: int | None
    as_of: datetime | None


@dataclass(frozen=True)
class Model:
    """A version: a row of ubp.model_versions with its number."""

    model_id: int
    version: int
    format: str
    objective: str
    trees: int
    feature_set: str
    feature_set_hash: str
    features: int
    data_from: datetime | None
    data_until: datetime | None
    settings: dict[str, Any]
    code_version: str
    created_by: str
    created_at: datetime
    status: str
    compiled_sha256: str
    preparation: Any


@dataclass(frozen=True)
class HeldOut:
    """Held-out users at one moment: what models trained only on earlier moments said, and what came."""

    cut: datetime
    users: NDArray[np.int64]
    scores: F64
    labels: F64
    protocol: str


@dataclass(frozen=True)
class Calibration:
    """Calibration error of a test, before or after a map; `method` of the map."""

    method: str | None
    error: float
    low: float
    high: float
    log_loss: float
    brier: float
    bins: list[Bin]


@dataclass(frozen=True)
class Map:
    """The calibration map that the deployment has; `n` scores it was fitted on, 0 where it was brought along."""

    map_id: int
    method: str
    n: int
    cuts: list[datetime]


@dataclass(frozen=True)
class Reason:
    """One line of ubp.explain_many."""

    meaning: str
    value: float | None
    typical: float | None


@dataclass
class Example:
    """A user by the key their source knows them by; `label`: what came, None where that is not known yet."""

    user_id: int
    key: str
    score: float
    percentile: float | None = None
    label: float | None = None
    reasons: list[Reason] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """Examples that have something in common."""

    title: str
    said: str
    examples: list[Example]


@dataclass(frozen=True)
class Scored:
    """Stored scores of this version: how many users have one, and why others have none."""

    as_of: datetime
    scored_at: datetime
    scored: int
    without: list[tuple[str, int]]


@dataclass
class Facts:
    """All that the page shows."""

    task: Task
    model: Model
    server: str
    tests: list[HeldOut]
    metrics: list[dict[str, Any]]
    calibration: dict[bool, Calibration]
    map: Map | None
    deployed_at: datetime | None
    scored: Scored | None
    importance: list[Importance]
    effects: list[Effect]
    studied: str
    groups: list[Group]

    @property
    def mapped(self) -> Calibration | None:
        """The newest test through a map made as the one that answers was; None where that one was not tried so."""
        found = self.calibration.get(True)
        if found is None or self.map is None or self.map.n == 0 or found.method != self.map.method:
            return None
        return found
