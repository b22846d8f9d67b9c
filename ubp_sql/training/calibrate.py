"""Held-out scores into a database, and the calibration maps that the server fits on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from ubp_sql.errors import BadInput, NotReady, TrainingError
from ubp_sql.features.label_rule import LabelRule
from ubp_sql.install import state
from ubp_sql.models.calibration import AUTO
from ubp_sql.models.loaded import open_model
from ubp_sql.training.backtest import HeldOut
from ubp_sql.training.rows import fetch

Connection = psycopg.Connection[Any]
NO_MAP = "none"
RECORD = "select ubp.record_test(%s, %s, %s, %s, %s, %s, %s, %s)"
CALIBRATE = "select ubp.calibrate_model(%s, %s, %s) as map_id"
MAP = "select map_id, method, n, cuts, metrics from ubp.calibration_maps where map_id = %s"
REPORT = """
select cut, calibrated, method, n, error, low, high, by_chance, with_drift, log_loss, brier
  from ubp.calibration_report where task = %s and version = %s order by cut, calibrated"""
MODEL = """
select m.version, m.compiled, m.data_until, m.feature_set_hash = s.hash as same_set,
       extract(epoch from t.horizon)::bigint as horizon_s, t.label
  from ubp.models m
  join ubp.feature_sets s using (feature_set_id)
  join ubp.task_definitions t using (task)
 where m.task = %s and (m.version = %s or %s::integer is null and m.retired_at is null)
 order by m.version desc limit 1"""
LATER = "scored by the model itself, at a moment after all outcomes that it learnt from"


@dataclass(frozen=True)
class Calibrated:
    """The map of a version, if one was made, and how well calibrated it is at its tests."""

    version: int
    map_id: int | None
    method: str | None
    metrics: dict[str, Any]
    report: list[dict[str, Any]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """What was chosen, and why, in a line."""
        losses = self.metrics.get("log_loss") or {}
        said = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        why = f" (log loss on the newest held-out moment: {said})" if said else ""
        if self.method is None:
            return "calibration: scores stay as they are, no map is surely better"
        return f"calibration: {self.method} map {self.map_id}{why}"


def record(conn: Connection, task: str, version: int | None, found: HeldOut, part: str, protocol: str) -> None:
    """A row of ubp.model_tests."""
    columns = (found.users.astype("<i8"), found.scores.astype("<f8"), found.labels.astype("<f8"))
    conn.execute(RECORD, [task, version, found.cut, part, *(column.tobytes() for column in columns), protocol])


def calibrate(conn: Connection, task: str, version: int | None, method: str = AUTO) -> Calibrated:
    """Fits a map of that version (None: the newest) on its held-out scores, in the server."""
    map_id = state.one(conn, CALIBRATE, task, version, method)
    row = state.rows(conn, MAP, map_id)[0] if map_id is not None else {"method": None, "metrics": {}}
    number = version or state.rows(conn, MODEL, task, None, None)[0]["version"]
    return Calibrated(number, map_id, row["method"], row["metrics"], state.rows(conn, REPORT, task, number))


def score_later(conn: Connection, task: str, version: int | None, cuts: Sequence[datetime]) -> int:
    """Records what a registered model says at moments after all that it learnt from; returns its version.

    Raises BadInput (UB003) for a moment before, NotReady (UB005) for one whose outcome is not known yet.
    """
    found = state.rows(conn, MODEL, task, version, version)
    if not found:
        raise TrainingError(f"task {task!r} has no such version", "`ubp-sql model list` shows what there is")
    model = found[0]
    if not model["same_set"]:
        raise TrainingError(f"the feature set of {task!r} has changed since version {model['version']}", "train again")
    gap = timedelta(microseconds=LabelRule.from_json(model["label"]).from_us)
    known = model["data_until"] or datetime.min.replace(tzinfo=UTC)
    for cut in cuts:
        if cut + gap < known:
            raise BadInput(
                f"version {model['version']} has learnt from outcomes up to {known:%Y-%m-%d}, after {cut:%Y-%m-%d}",
                "a later moment: what a model has seen says nothing of how right it is",
            )
    loaded = open_model(bytes(model["compiled"]))
    for rows in fetch(conn, task, sorted(cuts)):
        if not len(rows.labels) or not rows.matured:
            end = rows.cut + gap + timedelta(seconds=model["horizon_s"])
            raise NotReady(f"what happened until {end:%Y-%m-%d} is not wholly known yet", "an earlier moment")
        scores = loaded.score_batch(rows.features)[:, 0]
        has = ~np.isnan(scores)
        one = HeldOut(rows.cut, rows.user_ids[has], scores[has], rows.labels[has])
        record(conn, task, model["version"], one, "calibration", LATER)
    return int(model["version"])
