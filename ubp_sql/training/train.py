"""From events in a database to a deployed model: rows, temporal test, fit, registration."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from ubp_sql.errors import TrainingError, UnknownTask
from ubp_sql.features.label_rule import AMOUNT, LabelRule
from ubp_sql.install import state
from ubp_sql.training.baseline import Baseline, baseline_of
from ubp_sql.training.cuts import last_matured, training_cuts
from ubp_sql.training.declared_steps import DEFAULT, Declared, declared
from ubp_sql.training.evaluate import as_rows, metrics, of_amounts
from ubp_sql.training.fit import fit, objective
from ubp_sql.training.leaks import leaking
from ubp_sql.training.rows import CutRows, fetch
from ubp_sql.training.settings import (
    BASE_RATE_SHIFT,
    CUTS_PER_HORIZON,
    HALF_LIFE_DAYS,
    LIGHTGBM,
    LOGISTIC,
    ROUNDS,
)

Connection = psycopg.Connection[Any]
Say = Callable[[str], None]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]

TASK = """
select t.task, extract(epoch from t.horizon)::bigint as horizon_s, t.population_kind, t.feature_set_id, t.label
  from ubp.task_definitions t where t.task = %s"""
NAMES = "select name, spec from ubp.feature_definitions where feature_set_id = %s order by position"
# A table of outcomes may be behind the events.
UNTIL = "select ubp.outcomes_until(%s) as until"
SPAN = "select first_event, last_event from ubp.event_span(%s)"
HELD_OUT = "same settings, trained only on moments whose labels end before this cut"
REGISTER = "select ubp.register_model(%s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True)
class Recipe:
    """What is made of training rows."""

    model: str
    prepare: list[Declared] | None
    threads: int

    def fit(self, rows: Sequence[CutRows], names: list[str], say: Say) -> tuple[str, Predict]:
        """A model's file, and what it says of rows. Raises TrainingError (UB014)."""
        if self.prepare is None:
            booster = fit(rows, names, self.threads)
            return booster.model_to_string(), lambda features: np.asarray(booster.predict(features))
        from ubp_sql.training.linear_fit import fit_prepared, score

        source = fit_prepared(rows, names, self.model, self.prepare, self.threads, say)
        return source.decode(), lambda features: score(source, names, features)

    def settings(self) -> dict[str, Any]:
        """What ubp.models.settings keeps of it."""
        found: dict[str, Any] = {"lightgbm": LIGHTGBM, "rounds": ROUNDS}
        if self.model == "linear":
            found = {"logistic": LOGISTIC}
        if self.prepare is not None:
            found["prepare"] = [
                {"step": step.kind, "columns": list(step.patterns), **step.options} for step in self.prepare
            ]
        return found


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


def train(
    conn: Connection,
    task: str,
    *,
    test_cuts: Sequence[datetime] | None = None,
    deploy: bool = True,
    model: str = "trees",
    prepare: list[Declared] | None = None,
    threads: int = 0,
    say: Say = lambda line: None,
) -> Trained:
    """Tests the settings on `test_cuts` (default: the last matured midnight), then trains on every matured cut.

    model    'trees' or 'linear', a logistic regression
    prepare  what is done to the features before the model, learnt anew from the rows of each model; None: nothing for
             trees, declared_steps.DEFAULT for a linear model

    The model that is registered has seen the test cuts too; its metrics are those of models that had not, as the
    protocol column of ubp.model_metrics says.

    Raises UnknownTask (UB001), TrainingError (UB014).
    """
    started = time.perf_counter()
    recipe = Recipe(model, declared(DEFAULT, "default") if prepare is None and model == "linear" else prepare, threads)
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
    by_cut = {rows.cut: rows for rows in fetch(conn, task, needed)}
    final = _matured(by_cut, final, horizon, say)
    seconds = {"rows": time.perf_counter() - started}
    tested = [_test(cut, plans[cut], by_cut, names, recipe, say, naive) for cut in tests]
    seconds["test"] = time.perf_counter() - started - seconds["rows"]
    rows = [by_cut[cut] for cut in final]
    count = sum(len(cut.labels) for cut in rows)
    say(f"training on {count:,} rows of {len(rows)} moments")
    source, _ = recipe.fit(rows, names, say)
    seconds["fit"] = time.perf_counter() - started - sum(seconds.values())
    result = Trained(task, None, False, tested, count, source, names, seconds, _warnings(rows[-1], names))
    _register(conn, result, recipe, final[0], final[-1] + horizon, deploy, naive, objective(rows[-1].labels))
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
    _, predict = recipe.fit(past, names, say)
    scores = predict(rows.features)
    if without := int(np.isnan(scores).sum()):
        raise TrainingError(
            f"the model has no score for {without:,} of {len(scores):,} users at {cut:%Y-%m-%d}",
            "prepare their features: impute, and clip what may be infinite",
        )
    found = metrics(rows.labels, scores)
    beside = metrics(rows.labels, naive.amounts(past, rows)) if of_amounts(rows.labels) else {}
    return Tested(cut, rows, scores, found, count, {f"baseline_{name}": value for name, value in beside.items()})


def _register(
    conn: Connection,
    result: Trained,
    recipe: Recipe,
    data_from: datetime,
    data_until: datetime,
    deploy: bool,
    naive: Baseline,
    loss: dict[str, Any],
) -> None:
    settings = {
        **recipe.settings(),
        "rows": result.training_rows,
        "cuts_per_horizon": CUTS_PER_HORIZON,
        "half_life_days": HALF_LIFE_DAYS,
        "base_rate_shift": BASE_RATE_SHIFT,
    }
    if recipe.model == "trees":
        settings["lightgbm"] = {**LIGHTGBM, **loss}
    measured = [
        row
        for test in result.tested
        for values, protocol in ((test.metrics, HELD_OUT), (test.baseline, naive.words))
        for row in as_rows(test.cut.isoformat(), test.rows.labels, values, protocol)
    ]
    arguments = [result.task, result.model.encode(), json.dumps(settings), data_from, data_until, json.dumps(measured)]
    with conn.transaction(), conn.cursor() as cursor:
        row = cursor.execute(REGISTER, arguments).fetchone()
        result.version = row[0] if row else None
        if deploy:
            cursor.execute("select ubp.deploy_model(%s, %s)", [result.task, result.version])
            result.deployed = True
