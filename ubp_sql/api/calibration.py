"""Calibration maps of models: fitted on their held-out tests, or brought along; and how well calibrated they are."""

import json
from typing import TYPE_CHECKING, Any

from ubp_sql.api.model_tests import Test, by_moment, model_of, tests_of
from ubp_sql.api.session import Row, check_version, entry, run, single, touch
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.features.windows import shown

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import F64
    from ubp_sql.models.calibration import Map
    from ubp_sql.models.calibration_fit import Outcomes

LOCK = "select 1 from ubp.models where model_id = $1 for no key update"
NEW_MAP = """
insert into ubp.calibration_maps (model_id, method, x, y, n, cuts, metrics)
values ($1, $2, $3, $4, $5, $6, $7) returning map_id"""
FORGET = "delete from ubp.calibration_tests where model_id = $1 and calibrated = $2"
MEASURED = """
insert into ubp.calibration_tests
  (model_id, cut, calibrated, method, n, positives, error, low, high, by_chance, with_drift, log_loss, brier, bin_n,
   bin_score, bin_share)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"""
MEASURED_TYPES = ["bigint", "timestamptz", "boolean", "text", "bigint", "bigint", *["double precision"] * 7]
MEASURED_TYPES += ["bigint[]", "double precision[]", "double precision[]"]


@entry
def calibrate_model(
    plpy: Any, memory: dict[str, Any], task: str, version: int | None, method: str | None
) -> int | None:
    """Fits a map on a version's tests and says how well calibrated it would have been; None where none is better."""
    from ubp_sql.models.calibration import AUTO, METHODS
    from ubp_sql.models.calibration_fit import LATEST, fitted

    check_version(plpy, memory)
    model = _chances(plpy, memory, task, version)
    if method is None or method not in (AUTO, *METHODS):
        raise BadInput(f"method is {shown(method)}", f"{AUTO}, {' or '.join(METHODS)}")
    run(plpy, memory, LOCK, ["bigint"], [model["model_id"]])
    tests = by_moment(tests_of(plpy, memory, model["model_id"]))
    if not tests:
        raise NotReady(
            f"version {model['version']} of task {task!r} has no held-out test to fit a map on",
            f"`ubp-sql train {task}` records some; `ubp-sql calibrate --cut` scores a moment after the training",
        )
    made = fitted(_outcomes(tests), method, lambda: touch(plpy, memory))
    # Without a map made, what is kept stays that of the map before, which may be the one that answers.
    measure_tests(plpy, memory, model, None if made.map is None else method)
    if made.map is None:
        plpy.notice(
            f"no map for {task!r} version {model['version']}: none is surely better than its scores on the newest test",
            detail=json.dumps(made.losses),
            hint="method => 'platt' or 'isotonic' makes one all the same",
        )
        return None
    used = tests[-LATEST:]
    return _add(plpy, memory, model, made.map, sum(len(t.users) for t in used), [t.cut for t in used], made.losses)


@entry
def add_calibration_map(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    version: int | None,
    method: str | None,
    x: list[float] | None,
    y: list[float] | None,
) -> int:
    """Stores a map that was fitted elsewhere."""
    from ubp_sql.models.calibration import Map

    check_version(plpy, memory)
    if version is None:
        raise BadInput("the version is NULL", "select * from ubp.model_versions lists them")
    model = _chances(plpy, memory, task, version)
    return _add(plpy, memory, model, Map(method or "", x or [], y or []), 0, [], {})


def _chances(plpy: Any, memory: dict[str, Any], task: str, version: int | None) -> Row:
    """The model, of a task whose scores are chances. Raises BadInput (UB003) for others."""
    model = model_of(plpy, memory, task, version)
    if model["output"] != "chance":
        raise BadInput(
            f"task {task!r} is about amounts", "only chances are calibrated; ubp.predict_interval has ranges"
        )
    return model


def _add(
    plpy: Any, memory: dict[str, Any], model: Row, map_: "Map", n: int, cuts: list[str], losses: dict[str, float]
) -> int:
    types = ["bigint", "text", "double precision[]", "double precision[]", "bigint", "timestamptz[]", "jsonb"]
    values = [model["model_id"], map_.method, list(map_.x), list(map_.y), n, cuts, json.dumps({"log_loss": losses})]
    row = single(plpy, memory, NEW_MAP, types, values)
    assert row is not None  # noqa: S101 - INSERT ... VALUES gives a row
    return int(row["map_id"])


def measure_tests(plpy: Any, memory: dict[str, Any], model: Row, method: str | None = None) -> None:
    """Writes how well calibrated a model is at its test cuts: without a map, and through the map of that method that
    could have been fitted by then. None: only without; what there is of maps stays.
    """
    from ubp_sql.models.calibration import batch
    from ubp_sql.models.calibration_error import drift_of
    from ubp_sql.models.calibration_fit import fitted

    def pause() -> None:
        touch(plpy, memory)

    tests = tests_of(plpy, memory, model["model_id"])
    moments = by_moment(tests)
    for calibrated in (False, True) if method is not None else (False,):
        run(plpy, memory, FORGET, ["bigint", "boolean"], [model["model_id"], calibrated])
    for test in tests:
        if test.part != "test":
            continue
        known = [t for t in moments if t.cut_us + model["horizon_us"] <= test.cut_us]
        drift = drift_of([(t.labels, t.scores) for t in known], pause)
        _measure(plpy, memory, model, test, test.scores, None, calibrated=False, drift=drift)
        if method is not None:
            map_ = fitted(_outcomes(known), method, pause).map if known else None
            values = test.scores if map_ is None else batch(map_, test.scores, pause)
            said = None if map_ is None else map_.method
            _measure(plpy, memory, model, test, values, said, calibrated=True, drift=drift)


def _measure(
    plpy: Any,
    memory: dict[str, Any],
    model: Row,
    test: Test,
    values: "F64",
    method: str | None,
    *,
    calibrated: bool,
    drift: float | None,
) -> None:
    from ubp_sql.models.calibration_error import measured

    found = measured(test.labels, values, drift, lambda: touch(plpy, memory))
    row = [model["model_id"], test.cut, calibrated, method, len(test.users), int(test.labels.sum()), found.error]
    row += [found.low, found.high, found.by_chance, found.with_drift, found.log_loss, found.brier]
    row += [column.tolist() for column in found.bins]
    run(plpy, memory, MEASURED, MEASURED_TYPES, row)


def _outcomes(tests: list[Test]) -> "list[Outcomes]":
    from ubp_sql.models.calibration_fit import Outcomes

    return [Outcomes(test.cut_us, test.scores, test.labels) for test in tests]
