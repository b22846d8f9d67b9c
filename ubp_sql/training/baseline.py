"""What somebody without a model would say of an amount, beside which a model's error is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.label_rule import LabelRule
from ubp_sql.features.windows import width_text
from ubp_sql.training.rows import CutRows


@dataclass(frozen=True)
class Baseline:
    """The user's own past, where a feature says it; else the mean of the rows that the model learnt from.

    position  of that feature; None: the mean
    words     for the protocol of the metrics
    """

    position: int | None
    words: str

    def amounts(self, past: Sequence[CutRows], rows: CutRows) -> NDArray[np.float64]:
        """(n,) what it says of each row."""
        if self.position is None:
            labels = np.concatenate([cut.labels for cut in past])
            return np.full(len(rows.labels), labels.mean())
        return np.nan_to_num(rows.features[:, self.position].astype(np.float64))


def baseline_of(rule: LabelRule, horizon_us: int, features: Sequence[dict[str, Any]]) -> Baseline:
    """`features` are name and spec of each column of the set, in its order."""
    wanted = {"aggregate": rule.form, "kinds": list(rule.kinds), "window": width_text(horizon_us)}
    wanted |= {"of": rule.of} if rule.of else {}
    wanted |= {"where": rule.to_json()["where"]} if rule.where else {}
    for position, feature in enumerate(features):
        spec = {key: value for key, value in (feature["spec"] or {}).items() if key != "name"}
        if rule.form in ("sum", "count") and spec == wanted:
            return Baseline(position, f"baseline: the user's own past, {feature['name']}")
    return Baseline(None, "baseline: the mean of the rows that the model learnt from")
