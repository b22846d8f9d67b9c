"""What the same settings would have said at earlier moments: held-out scores that maps and intervals are fitted on."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from ubp_sql.errors import TrainingError
from ubp_sql.features.label_rule import LabelRule
from ubp_sql.install import state
from ubp_sql.training.cuts import training_cuts
from ubp_sql.training.recipe import Recipe, Say
from ubp_sql.training.rows import CutRows, Labels, fetch
from ubp_sql.training.settings import CALIBRATION_CUTS

TASK = """
select extract(epoch from t.horizon)::bigint as horizon_s, t.label, t.population_kind, t.feature_set_id
  from ubp.task_definitions t where t.task = %s"""
NAMES = "select name, spec from ubp.feature_definitions where feature_set_id = %s order by position"
SPAN = "select first_event, last_event from ubp.event_span(%s)"


class HeldOut(NamedTuple):
    """What a model said of users at a moment after all that it had learnt from."""

    cut: datetime
    users: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: Labels


def backtest(conn: psycopg.Connection[Any], task: str, cuts: Sequence[datetime]) -> list[HeldOut]:
    """Held-out scores at any matured moments, each by a model of its own, trained as `train` does on moments whose
    label windows end by then.

    Raises TrainingError (UB014) where nothing can be learnt before one of them.
    """
    definition = state.rows(conn, TASK, task)[0]
    rule = LabelRule.from_json(definition["label"])
    horizon = timedelta(seconds=definition["horizon_s"], microseconds=rule.from_us)
    first = state.rows(conn, SPAN, definition["population_kind"])[0]["first_event"]
    names = [row["name"] for row in state.rows(conn, NAMES, definition["feature_set_id"])]
    plans = {cut: training_cuts(first, cut, horizon) for cut in sorted(cuts)}
    needed = sorted({*plans, *(moment for plan in plans.values() for moment in plan)})
    by_cut = {rows.cut: rows for rows in fetch(conn, task, needed)}
    recipe = Recipe.of()
    return [held_out(by_cut, cut, plan, names, recipe, lambda line: None) for cut, plan in plans.items()]


def held_out(
    by_cut: Mapping[datetime, CutRows],
    cut: datetime,
    plan: Sequence[datetime],
    names: list[str],
    recipe: Recipe,
    say: Say,
) -> HeldOut:
    """What a model of the rows at the moments of `plan` says of those at `cut`. Raises TrainingError (UB014)."""
    rows = by_cut[cut]
    _, predict = recipe.fit([by_cut[moment] for moment in plan], names, say)
    scores = predict(rows.features) if len(rows.labels) else np.empty(0)
    if without := int(np.isnan(scores).sum()):
        raise TrainingError(
            f"the model has no score for {without:,} of {len(scores):,} users at {cut:%Y-%m-%d}",
            "prepare their features: impute, and clip what may be infinite",
        )
    return HeldOut(cut, rows.user_ids, scores, rows.labels)


def calibration_plans(
    plans: Mapping[datetime, Sequence[datetime]], horizon: timedelta
) -> dict[datetime, list[datetime]]:
    """Moments to calibrate at, each with the moments to train on: of each test's training moments the newest
    CALIBRATION_CUTS, whose outcomes were known by the test, as far as there are any to train on before.
    """
    found: dict[datetime, list[datetime]] = {}
    for plan in plans.values():
        for cut in plan[-CALIBRATION_CUTS:]:
            earlier = [moment for moment in plan if moment + horizon <= cut]
            if earlier and cut not in plans and len(earlier) > len(found.get(cut, [])):
                found[cut] = earlier
    return dict(sorted(found.items()))
