"""From events in a database to a deployed model: rows, temporal test, fit, registration."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from ubp_sql.errors import TrainingError, UnknownTask
from ubp_sql.features.label_rule import AMOUNT, LabelRule
from ubp_sql.install import state
from ubp_sql.models.calibration import AUTO
from ubp_sql.training.backtest import NAMES, SPAN, TASK, HeldOut, calibration_plans, held_out
from ubp_sql.training.baseline import Baseline, baseline_of
from ubp_sql.training.calibrate import NO_MAP, Calibrated, calibrate, record
from ubp_sql.training.cuts import last_matured, training_cuts
from ubp_sql.training.declared_steps import Declared
from ubp_sql.training.evaluate import as_rows, metrics, of_amounts
from ubp_sql.training.fit import objective
from ubp_sql.training.leaks import leaking
from ubp_sql.training.recipe import Recipe, Say
from ubp_sql.training.rows import CutRows, Source, batches, fetch
from ubp_sql.training.settings import BASE_RATE_SHIFT, CUTS_PER_HORIZON, HALF_LIFE_DAYS, LIGHTGBM

Connection = psycopg.Connection[Any]

# A table of outcomes may be behind the events.
UNTIL = "select ubp.outcomes_until(%s) as until"
HELD_OUT = "same settings, trained only on moments whose labels end before this cut"
REGISTER = "select ubp.register_model(%s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True)
class Tested:
    """What a model trained only on moments before `cut` did at `cut`."""

    cut: datetime
    rows: CutRows
    scores: NDArray[np.float64]
    metrics: dict[str, float]
    training_rows: int
    baseline: dict[str, float] = field(default_factory=dict)
    """Metrics of what somebody without a model would say of an amount."""


@dataclass
class Trained:
    """Outcome of `train`; `version` is None when it was not registered."""

    task: str
    version: int | None
    deployed: bool
    tested: list[Tested]
    training_rows: int
    model: str
    names: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    calibrated: Calibrated | None = None
    """None: nobody asked for a map, or it is about amounts."""


def train(
    conn: Connection,
    task: str,
    *,
    test_cuts: Sequence[datetime] | None = None,
    deploy: bool = True,
    model: str = "trees",
    prepare: list[Declared] | None = None,
    threads: int = 0,
    calibration: str = AUTO,
    source: Source = batches,
    say: Say = lambda line: None,
) -> Trained:
    """Tests the settings on `test_cuts` (default: the last matured midnight), then trains on every matured cut.

    model    'trees' or 'linear', a logistic regression
    prepare  what is done to the features before the model, learnt anew from the rows of each model; None: nothing for
             trees, declared_steps.DEFAULT for a linear model
    calibration  'isotonic' or 'platt': a map on scores held out at earlier moments, deployed with the model; 'auto':
             the better one, if any is better than the scores as they are; 'none': neither map nor held-out moments
    source   where the rows come from

    The model that is registered has seen the test cuts too; its metrics are those of models that had not, as the
    protocol column of ubp.model_metrics says.

    Raises UnknownTask (UB001), TrainingError (UB014).
    """
    started = time.perf_counter()
    recipe = Recipe.of(model, prepare, threads)
    found = state.rows(conn, TASK, task)
    if not found:
        raise UnknownTask(
            f"unknown task {task!r}", "ubp.define_task defines it; `ubp-sql train purchase` defines its own"
        )
    definition = found[0]
    rule = LabelRule.from_json(definition["label"])
    if rule.output == AMOUNT and model == "linear":
        raise TrainingError(f"labels of task {task!r} are amounts, and a linear model says chances", "train trees")
    # To the end of the label's window.
    horizon = timedelta(seconds=definition["horizon_s"], microseconds=rule.from_us)
    span = state.rows(conn, SPAN, definition["population_kind"])[0]
    if span["first_event"] is None:
        raise TrainingError(f"there is no event of kind {definition['population_kind']!r}", "load events first")
    features = state.rows(conn, NAMES, definition["feature_set_id"])
    names = [row["name"] for row in features]
    naive = baseline_of(rule, definition["horizon_s"] * 1_000_000, features)
    until = span["last_event"] if rule.table is None else state.rows(conn, UNTIL, task)[0]["until"]
    if until is None:
        raise TrainingError(f"the table of task {task!r} has no outcome yet", "fill it first")
    last = last_matured(min(span["last_event"], until), horizon)
    tests = sorted(test_cuts) if test_cuts is not None else [last]
    plans = {cut: training_cuts(span["first_event"], cut, horizon) for cut in tests}
    final = training_cuts(span["first_event"], last + horizon, horizon)
    needed = sorted({*final, *tests, *(cut for plan in plans.values() for cut in plan)})
    say(f"rows at {len(needed)} moments from {needed[0]:%Y-%m-%d} to {needed[-1]:%Y-%m-%d}")
    by_cut = {rows.cut: rows for rows in fetch(conn, task, needed, source)}
    final = _matured(by_cut, final, horizon, say)
    seconds = {"rows": time.perf_counter() - started}
    tested = [_test(cut, plans[cut], by_cut, names, recipe, say, naive) for cut in tests]
    seconds["test"] = time.perf_counter() - started - seconds["rows"]
    earlier = [] if calibration == NO_MAP else _held_out(by_cut, calibration_plans(plans, horizon), names, recipe, say)
    seconds["calibration"] = time.perf_counter() - started - sum(seconds.values())
    rows = [by_cut[cut] for cut in final]
    count = sum(len(cut.labels) for cut in rows)
    say(f"training on {count:,} rows of {len(rows)} moments")
    text, _ = recipe.fit(rows, names, say)
    seconds["fit"] = time.perf_counter() - started - sum(seconds.values())
    result = Trained(task, None, False, tested, count, text, names, seconds, _warnings(rows[-1], names))
    settings = _settings(result, recipe, objective(rows[-1].labels))
    _register(conn, result, settings, (final[0], final[-1] + horizon), naive, earlier, calibration, deploy, say)
    seconds["register"] = time.perf_counter() - started - sum(seconds.values())
    return result


def _matured(by_cut: dict[datetime, CutRows], cuts: list[datetime], horizon: timedelta, say: Say) -> list[datetime]:
    """The cuts whose outcome is known. Raises TrainingError (UB014) where that is none."""
    left = [cut for cut in cuts if not by_cut[cut].matured]
    for cut in left:
        users = f"{len(by_cut[cut].labels):,} users at {cut:%Y-%m-%d}"
        say(f"left out: {users}, of whom it is not known yet what happened until {cut + horizon:%Y-%m-%d}")
    if len(left) == len(cuts):
        raise TrainingError(
            f"what happened after {cuts[0]:%Y-%m-%d} is not wholly known yet, and so at all {len(cuts)} moments",
            "a shorter horizon, or a newer table of outcomes",
        )
    return [cut for cut in cuts if by_cut[cut].matured]


def _warnings(rows: CutRows, names: list[str]) -> list[str]:
    return [
        f"feature {name} alone ranks the label by {fit:.5f}: it may have been filled in afterwards"
        for name, fit in leaking(rows, names)
    ]


def _held_out(
    by_cut: Mapping[datetime, CutRows],
    plans: Mapping[datetime, Sequence[datetime]],
    names: list[str],
    recipe: Recipe,
    say: Say,
) -> list[HeldOut]:
    """What models say at the moments of `plans`; those at which nobody is known, or none can be made, are left out."""
    found = []
    if plans:
        first, last = min(plans), max(plans)
        say(f"holding out {len(plans)} earlier moments from {first:%Y-%m-%d} to {last:%Y-%m-%d}, for calibration")
    for cut, plan in plans.items():
        try:
            one = held_out(by_cut, cut, plan, names, recipe, lambda line: None)
        except TrainingError as error:
            say(f"left out: {cut:%Y-%m-%d}, {error.message}")
            continue
        if len(one.users) and by_cut[cut].matured:
            found.append(one)
    return found


def _test(
    cut: datetime,
    plan: list[datetime],
    by_cut: dict[datetime, CutRows],
    names: list[str],
    recipe: Recipe,
    say: Say,
    naive: Baseline,
) -> Tested:
    rows = by_cut[cut]
    if not rows.matured:
        raise TrainingError(
            f"what happened after {cut:%Y-%m-%d} is not wholly known yet, of {len(rows.labels):,} users",
            "test on an earlier moment, or leave it out",
        )
    past = [by_cut[moment] for moment in plan]
    count = sum(len(moment.labels) for moment in past)
    if len(rows.labels) == 0 or rows.labels.min() == rows.labels.max():
        raise TrainingError(f"all users have the same label at {cut:%Y-%m-%d}", "choose another test cut or horizon")
    say(f"testing at {cut:%Y-%m-%d}: trained on {count:,} rows of {len(plan)} earlier moments")
    scores = held_out(by_cut, cut, plan, names, recipe, say).scores
    found = metrics(rows.labels, scores)
    beside = metrics(rows.labels, naive.amounts(past, rows)) if of_amounts(rows.labels) else {}
    return Tested(cut, rows, scores, found, count, {f"baseline_{name}": value for name, value in beside.items()})


def _settings(result: Trained, recipe: Recipe, loss: dict[str, Any]) -> dict[str, Any]:
    settings = {
        **recipe.settings(),
        "rows": result.training_rows,
        "cuts_per_horizon": CUTS_PER_HORIZON,
        "half_life_days": HALF_LIFE_DAYS,
        "base_rate_shift": BASE_RATE_SHIFT,
    }
    if recipe.model == "trees":
        settings["lightgbm"] = {**LIGHTGBM, **loss}
    return settings


def _register(
    conn: Connection,
    result: Trained,
    settings: dict[str, Any],
    data: tuple[datetime, datetime],
    naive: Baseline,
    earlier: Sequence[HeldOut],
    calibration: str,
    deploy: bool,
    say: Say,
) -> None:
    """The model, what was held out, its map, and its deployment: all or nothing."""
    measured = [
        row
        for test in result.tested
        for values, protocol in ((test.metrics, HELD_OUT), (test.baseline, naive.words))
        for row in as_rows(test.cut.isoformat(), test.rows.labels, values, protocol)
    ]
    arguments = [result.task, result.model.encode(), json.dumps(settings), *data, json.dumps(measured)]
    with conn.transaction(), conn.cursor() as cursor:
        row = cursor.execute(REGISTER, arguments).fetchone()
        result.version = row[0] if row else None
        for one in earlier:
            record(conn, result.task, result.version, one, "calibration", HELD_OUT)
        for test in result.tested:
            one = HeldOut(test.cut, test.rows.user_ids, test.scores, test.rows.labels)
            record(conn, result.task, result.version, one, "test", HELD_OUT)
        if result.tested:
            cursor.execute("select ubp.conform_model(%s, %s)", [result.task, result.version])
        if calibration != NO_MAP and result.tested and not of_amounts(result.tested[0].rows.labels):
            result.calibrated = calibrate(conn, result.task, result.version, calibration)
            say(result.calibrated.words)
        if deploy:
            cursor.execute("select ubp.deploy_model(%s, %s)", [result.task, result.version])
            result.deployed = True
