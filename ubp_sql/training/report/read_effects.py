"""What `ubp.study_model` found about a version's features."""

from typing import Any

import numpy as np
import psycopg

from ubp_sql.install import state
from ubp_sql.training.report import words
from ubp_sql.training.report.figures_effects import Effect, Importance

Connection = psycopg.Connection[Any]
MOST_FEATURES, MOST_EFFECTS = 12, 8
METHODS = {
    "shap": "exact Shapley values (SHAP)",
    "linear": "exact Shapley values",
    "sampled shap": "sampled Shapley values",
}

IMPORTANCE = """
select feature, meaning, share, as_of, sampled, method
  from ubp.feature_importance where task = %s and version = %s order by rank limit %s"""
EFFECTS = """
select p.feature, i.meaning, p.x, p.mean
  from ubp.partial_dependence p join ubp.feature_importance i using (task, version, feature)
 where p.task = %s and p.version = %s and p.mean is not null order by i.rank, p.x"""


def importance(conn: Connection, task: str, version: int) -> list[Importance]:
    """The features that move scores most."""
    rows = state.rows(conn, IMPORTANCE, task, version, MOST_FEATURES)
    return [Importance(row["feature"], row["meaning"], row["share"]) for row in rows if row["share"]]


def studied(conn: Connection, task: str, version: int) -> str:
    """On whom, in words; empty where the version was never studied."""
    rows = state.rows(conn, IMPORTANCE, task, version, 1)
    if not rows:
        return ""
    one = rows[0]
    how = METHODS.get(one["method"], one["method"])
    return f"{words.many(one['sampled'], 'user')} as of {words.moment(one['as_of'])}, by {how}"


def effects(conn: Connection, task: str, version: int) -> list[Effect]:
    """How the prediction goes with each of the features that move scores most."""
    by_feature: dict[str, list[dict[str, Any]]] = {}
    for row in state.rows(conn, EFFECTS, task, version):
        by_feature.setdefault(row["feature"], []).append(row)
    found: list[Effect] = []
    for feature, rows in by_feature.items():
        known = [row for row in rows if row["x"] is not None]
        missing = next((row["mean"] for row in rows if row["x"] is None), None)
        if known and len(found) < MOST_EFFECTS:
            x, mean = (np.array([row[key] for row in known], float) for key in ("x", "mean"))
            found.append(Effect(feature, rows[0]["meaning"], x, mean, missing))
    return found
