"""Intervals of amounts and sets of outcomes that hold the truth in a stated share of cases."""

from __future__ import annotations

from ubp_sql.api.predict import predict_detail, row_for
from ubp_sql.api.served_task import LOOKUP
from ubp_sql.api.serving import Deployed, answering, known_deployment
from ubp_sql.api.session import Row, entry, run, single
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.models.conformal import INTERVAL, LEVELS, SET, Conformal, interval, outcomes, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OUTPUT = "select t.output from ubp.task_definitions t where t.task = $1"
NEWEST = "select max(c.conformal_id) as number from ubp.conformal_quantiles c where c.model_id = $1 and c.form = $2"
FITTED = """
select c.form, c.knots, c.scales, c.edges, c.quantiles, c.least, c.most, c.users
  from ubp.conformal_quantiles c where c.conformal_id = $1"""
STORE = """
insert into ubp.conformal_quantiles (model_id, form, knots, scales, edges, quantiles, least, most, users, cuts)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
FORMS = {"amount": INTERVAL, "chance": SET}
FUNCTIONS = {INTERVAL: ("ubp.predict_interval", "amounts"), SET: ("ubp.predict_set", "chances")}


@entry
def conform_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None) -> int:
    """Fits intervals or sets to a version's newest held-out tests; returns how many users that takes."""
    from ubp_sql.api.model_tests import by_moment, model_of, tests_of
    from ubp_sql.api.session import check_version

    check_version(plpy, memory)
    model = model_of(plpy, memory, task, version)
    tests = by_moment(tests_of(plpy, memory, model["model_id"]))[::-1]
    if not tests:
        raise NotReady(
            f"version {model['version']} of task {task!r} has no held-out test",
            f"`ubp-sql train {task}` records some; ubp.record_test takes those of a model made elsewhere",
        )
    import numpy as np

    from ubp_sql.models.conformal_fit import fit_interval, fit_set, newest

    form = FORMS[model["output"]]
    tests = tests[: newest([(test.scores, test.labels) for test in tests], form)]
    scores, labels = (np.concatenate([getattr(test, name) for test in tests]) for name in ("scores", "labels"))
    fitted = fit_interval(scores, labels) if form == INTERVAL else fit_set(scores, labels)
    types = ["bigint", "text", *["double precision[]"] * 4, "double precision", "double precision", "bigint"]
    arrays = [list(part) for part in (fitted.knots, fitted.scales, fitted.edges, fitted.quantiles)]
    values: list[Any] = [model["model_id"], form, *arrays]
    values += [fitted.least, fitted.most, fitted.users, [test.cut for test in tests]]
    run(plpy, memory, STORE, [*types, "timestamptz[]"], values)
    return fitted.users


@entry
def predict_interval(
    plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, coverage: float | None
) -> list[Row]:
    """score, low and high of a task of amounts."""
    place = place_of(coverage)
    said, found, score = _answer(plpy, memory, task, user_id, INTERVAL)
    ends = None if score is None else interval(found, score, place)
    reason = _too_few(found, coverage) if score is not None and ends is None else said["reason"]
    low, high = ends or (None, None)
    return [{"score": said["score"], "low": low, "high": high, "coverage": coverage, "reason": reason}]


@entry
def predict_set(plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, coverage: float | None) -> list[Row]:
    """The outcomes of a task of chances that cannot be ruled out."""
    place = place_of(coverage)
    said, found, score = _answer(plpy, memory, task, user_id, SET)
    kept = None if score is None else outcomes(found, score, place)
    few = score is not None and float("inf") in (found.quantiles[place], found.quantiles[LEVELS - 1 + place])
    reason = _too_few(found, coverage) if few else said["reason"]
    return [{"outcomes": kept, "score": said["score"], "coverage": coverage, "reason": reason}]


def _answer(
    plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, form: str
) -> tuple[Row, Any, float | None]:
    """What predict_detail says, the fitted quantiles of whoever answers, and the score before any calibration map.

    Raises BadInput (UB003) on a task of another form, NotReady (UB005) where nothing was fitted.
    """
    output = single(plpy, memory, OUTPUT, ["text"], [task])
    if output is not None and FORMS[output["output"]] != form:
        right, given = FUNCTIONS[FORMS[output["output"]]]
        name, asked = FUNCTIONS[form]
        raise BadInput(f"{name} is for {asked}, task {task!r} gives {given}", f"{right} is for {given}")
    said: Row = predict_detail(plpy, memory, task, user_id)[0]
    if said["score"] is None:
        return said, None, None
    deployed, packed = _scored_row(plpy, memory, task, user_id)
    found = _fitted(plpy, memory, deployed, form)
    if found is None:
        raise NotReady(
            f"version {deployed.version} of task {task!r} was never compared with what came",
            f"select ubp.conform_model('{task}', {deployed.version})",
        )
    return said, found, deployed.loaded.score_packed(packed, deployed.population)


def _scored_row(plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None) -> tuple[Deployed, bytes]:
    """Who answers for a user with a score, and the features that are scored."""
    row, user_id = row_for(plpy, memory, LOOKUP, task, user_id)
    champion = known_deployment(plpy, memory, row["deployment_id"])
    deployed, packed = answering(plpy, memory, champion, user_id, row)
    assert packed is not None  # noqa: S101 - predict_detail found a score in the same snapshot
    return deployed, packed


def _fitted(plpy: Any, memory: dict[Any, Any], deployed: Deployed, form: str) -> Conformal | None:
    """The newest row of a model, kept in the function's SD: rows never change."""
    number = run(plpy, memory, NEWEST, ["bigint", "text"], [deployed.model_id, form])[0]["number"]
    if number is None:
        return None
    kept = memory.get(("conformal", deployed.task, deployed.version))
    if kept is None or kept[0] != number:
        row = run(plpy, memory, FITTED, ["bigint"], [number])[0]
        arrays = {name: tuple(row[name]) for name in ("knots", "scales", "edges", "quantiles")}
        kept = number, Conformal(**{**row, **arrays})
        memory["conformal", deployed.task, deployed.version] = kept
    return kept[1]


def _too_few(found: Conformal, coverage: float | None) -> str:
    groups = "like scores" if found.form == INTERVAL else "each outcome"
    return f"too few held-out users of {groups} for a coverage of {coverage}: {found.users:,} altogether"
