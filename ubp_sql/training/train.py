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
from ubp_sql.install import state
from ubp_sql.training.cuts import last_matured, training_cuts
from ubp_sql.training.evaluate import as_rows, metrics
from ubp_sql.training.fit import fit
from ubp_sql.training.rows import CutRows, fetch
from ubp_sql.training.settings import BASE_RATE_SHIFT, CUTS_PER_HORIZON, HALF_LIFE_DAYS, LIGHTGBM, ROUNDS

Connection = psycopg.Connection[Any]
Say = Callable[[str], None]

TASK = """
select t.task, extract(epoch from t.horizon)::bigint as horizon_s, t.population_kind, t.feature_set_id
  from ubp.task_definitions t where t.task = %s"""
NAMES = "select name from ubp.feature_definitions where feature_set_id = %s order by position"
SPAN = """
select min(event_time) filter (where kind = %s) as first_event, max(event_time) as last_event from ubp.events"""
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


def train(
    conn: Connection,
    task: str,
    *,
    test_cuts: Sequence[datetime] | None = None,
    deploy: bool = True,
    threads: int = 0,
    say: Say = lambda line: None,
) -> Trained:
    """Tests the settings on `test_cuts` (default: the last matured midnight), then trains on every matured cut.

    The model that is registered has seen the test cuts too; its metrics are those of models that had not, as the
    protocol column of ubp.model_metrics says.

    Raises UnknownTask (UB001), TrainingError (UB014).
    """
    started = time.perf_counter()
    found = state.rows(conn, TASK, task)
    if not found:
        raise UnknownTask(
            f"unknown task {task!r}", "ubp.define_task defines it; `ubp-sql train purchase` defines its own"
        )
    definition = found[0]
    horizon = timedelta(seconds=definition["horizon_s"])
    span = state.rows(conn, SPAN, definition["population_kind"])[0]
    if span["first_event"] is None:
        raise TrainingError(f"there is no event of kind {definition['population_kind']!r}", "load events first")
    names = [row["name"] for row in state.rows(conn, NAMES, definition["feature_set_id"])]
    last = last_matured(span["last_event"], horizon)
    tests = sorted(test_cuts) if test_cuts is not None else [last]
    plans = {cut: training_cuts(span["first_event"], cut, horizon) for cut in tests}
    final = training_cuts(span["first_event"], last + horizon, horizon)
    needed = sorted({*final, *tests, *(cut for plan in plans.values() for cut in plan)})
    say(f"rows at {len(needed)} moments from {needed[0]:%Y-%m-%d} to {needed[-1]:%Y-%m-%d}")
    by_cut = {rows.cut: rows for rows in fetch(conn, task, needed)}
    seconds = {"rows": time.perf_counter() - started}
    tested = [_test(cut, plans[cut], by_cut, names, threads, say) for cut in tests]
    seconds["test"] = time.perf_counter() - started - seconds["rows"]
    rows = [by_cut[cut] for cut in final]
    count = sum(len(cut.labels) for cut in rows)
    say(f"training on {count:,} rows of {len(rows)} moments")
    model = fit(rows, names, threads).model_to_string()
    seconds["fit"] = time.perf_counter() - started - sum(seconds.values())
    result = Trained(task, None, False, tested, count, model, names, seconds)
    _register(conn, result, final[0], final[-1] + horizon, deploy)
    seconds["register"] = time.perf_counter() - started - sum(seconds.values())
    return result


def _test(
    cut: datetime, plan: list[datetime], by_cut: dict[datetime, CutRows], names: list[str], threads: int, say: Say
) -> Tested:
    rows = by_cut[cut]
    if not rows.matured:
        raise TrainingError(
            f"what happened after {cut:%Y-%m-%d} is not wholly known yet", "test on an earlier moment, or leave it out"
        )
    past = [by_cut[moment] for moment in plan]
    count = sum(len(moment.labels) for moment in past)
    if len(rows.labels) == 0 or rows.labels.min() == rows.labels.max():
        raise TrainingError(f"all users have the same label at {cut:%Y-%m-%d}", "choose another test cut or horizon")
    say(f"testing at {cut:%Y-%m-%d}: trained on {count:,} rows of {len(plan)} earlier moments")
    scores = np.asarray(fit(past, names, threads).predict(rows.features))
    return Tested(cut, rows, scores, metrics(rows.labels, scores), count)


def _register(conn: Connection, result: Trained, data_from: datetime, data_until: datetime, deploy: bool) -> None:
    settings = {
        "lightgbm": LIGHTGBM,
        "rounds": ROUNDS,
        "rows": result.training_rows,
        "cuts_per_horizon": CUTS_PER_HORIZON,
        "half_life_days": HALF_LIFE_DAYS,
        "base_rate_shift": BASE_RATE_SHIFT,
    }
    measured = [
        row for test in result.tested for row in as_rows(test.cut.isoformat(), test.rows.labels, test.metrics, HELD_OUT)
    ]
    arguments = [result.task, result.model.encode(), json.dumps(settings), data_from, data_until, json.dumps(measured)]
    with conn.transaction(), conn.cursor() as cursor:
        row = cursor.execute(REGISTER, arguments).fetchone()
        result.version = row[0] if row else None
        if deploy:
            cursor.execute("select ubp.deploy_model(%s, %s)", [result.task, result.version])
            result.deployed = True
