"""Scores: of one stored user, of many, of a user at a past moment, of a row of numbers."""

import math
import struct
from array import array
from collections import OrderedDict
from typing import Any

from ubp_sql.api.session import Row, entry, require_version, run, single, to_server
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, NotReady, UbpError, UnknownTask
from ubp_sql.models.blob import open_blob
from ubp_sql.models.walker import Walker

# One query finds the deployed version and the user's row, so both belong to the statement's snapshot.
LOOKUP = """
select d.compiled_sha256, d.model_id, d.population_position, d.version, s.as_of, i.package_version,
       s.hash = d.feature_set_hash as same_set, pg_catalog.array_send(r.features) as packed
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
 cross join ubp.installation i
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = $2
 where d.task = $1 and d.retired_at is null"""
KNOWN_TASK = "select 1 as found from ubp.task_definitions where task = $1"
COMPILED = "select compiled from ubp.models where model_id = $1"

NO_ROW = "no features: the user is unknown or had no event before the feature set's as_of"
TOO_LITTLE = "too little history: no event of the task's population kind yet"

# Walkers by hash of the compiled model: what is rolled back or replaced is simply never asked for again.
_walkers: OrderedDict[object, "Loaded"] = OrderedDict()
MOST_WALKERS = 8


class Loaded:
    """A walker with the decoder of its packed feature rows."""

    def __init__(self, compiled: bytes) -> None:
        self.blob = open_blob(compiled)
        self.score = Walker(self.blob).score
        self.features = self.blob.n_features
        # array_send: 20 bytes of header, then for each element 4 bytes of length and the float, big-endian.
        self.packed_size = 20 + 8 * self.features
        self.unpack = struct.Struct(">20x" + "4xf" * self.features).unpack


def _remember(key: object, compiled: bytes) -> Loaded:
    loaded = _walkers[key] = Loaded(compiled)
    while len(_walkers) > MOST_WALKERS:
        _walkers.popitem(last=False)
    return loaded


def loaded_model(plpy: Any, memory: dict[str, Any], found: Row) -> Loaded:
    """The deployed model's walker; read from the table when this process has not seen these bytes."""
    require_version(found["package_version"])
    if not found["same_set"]:
        raise FeatureSetMismatch(
            "the feature set differs from the one the model was trained on",
            "train again, or `ubp-sql model rollback` to a version of this set",
        )
    key = found["compiled_sha256"]
    loaded = _walkers.get(key)
    if loaded is None:
        row = single(plpy, memory, COMPILED, ["bigint"], [found["model_id"]])
        if row is None:
            raise NoModelDeployed("the deployed model is gone", "deploy another version")
        loaded = _remember(key, row["compiled"])
    return loaded


def no_deployment(plpy: Any, memory: dict[str, Any], task: str) -> UbpError:
    """Why a task has nothing to answer with."""
    if single(plpy, memory, KNOWN_TASK, ["text"], [task]) is None:
        return UnknownTask(f"unknown task {task!r}", "select task from ubp.tasks lists the tasks")
    return NoModelDeployed(f"task {task!r} has no deployed model", f"`ubp-sql train {task}` trains and deploys one")


def _unpack(loaded: Loaded, packed: bytes) -> tuple[float, ...]:
    if len(packed) != loaded.packed_size:
        raise FeatureSetMismatch(
            "the stored feature rows do not have the model's length", "run ubp.refresh_features(), then score again"
        )
    return loaded.unpack(packed)


def predict(plpy: Any, memory: dict[str, Any], task: str, user_id: int) -> float | None:
    """Score of one user from the stored row; None when there is no row or too little history."""
    # Written flat: this is the hot path, each further call costs about 0.1 µs.
    plan = memory.get("lookup")
    if plan is None:
        plan = memory["lookup"] = plpy.prepare(LOOKUP, ["text", "bigint"])
    try:
        found = plan.execute([task, user_id])
        if not len(found):
            raise no_deployment(plpy, memory, task)
        row = found[0]
        loaded = loaded_model(plpy, memory, row)
        packed = row["packed"]
        if packed is None:
            return None
        values = _unpack(loaded, packed)
        if not values[row["population_position"] - 1] >= 1.0:
            return None
        return loaded.score(values)
    except UbpError as error:
        raise to_server(plpy, error) from None


DETAIL = LOOKUP.replace("select d.", "select d.model_id as model, u.percentile, d.", 1).replace(
    " where d.task",
    "  left join ubp.user_scores u on u.task = d.task and u.user_id = $2 and u.version = d.version and u.as_of = s.as_of\n where d.task",
)


@entry
def predict_detail(plpy: Any, memory: dict[str, Any], task: str, user_id: int) -> list[Row]:
    """Score with its reason, model, version, moment and percentile among the stored scores."""
    row = single(plpy, memory, DETAIL, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    loaded = loaded_model(plpy, memory, row)
    score_value, reason = _judge(loaded, row)
    return _detail(task, row, score_value, reason, row["percentile"])


@entry
def predict_detail_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> list[Row]:
    """As `predict_detail`, from the raw events at a moment of the past; no percentile is stored for it."""
    row, loaded, values = _live(plpy, memory, task, user_id, as_of)
    score_value, reason = _judge_values(loaded, row, values)
    return _detail(task, {**row, "as_of": as_of}, score_value, reason, None)


def _detail(
    task: str, row: Row, score_value: float | None, reason: str | None, percentile: float | None
) -> list[Row]:
    detail = {
        "score": score_value,
        "reason": reason,
        "model": task,
        "version": row["version"],
        "as_of": row["as_of"],
        "percentile": percentile if score_value is not None else None,
    }
    return [detail]


def _judge(loaded: Loaded, row: Row) -> tuple[float | None, str | None]:
    packed = row["packed"]
    return _judge_values(loaded, row, None if packed is None else _unpack(loaded, packed))


def _judge_values(loaded: Loaded, row: Row, values: tuple[float, ...] | None) -> tuple[float | None, str | None]:
    if values is None:
        return None, NO_ROW
    if not values[row["population_position"] - 1] >= 1.0:
        return None, TOO_LITTLE
    return loaded.score(values), None


MANY = LOOKUP.replace("r.user_id = $2", "r.user_id = q.user_id").replace("select d.", "select q.user_id, d.", 1).replace(
    " cross join", " cross join pg_catalog.unnest($2) with ordinality as q (user_id, place)\n cross join"
) + "\n order by q.place"


@entry
def predict_many(plpy: Any, memory: dict[str, Any], task: str, user_ids: list[int | None]) -> Any:
    """(user_id, score, reason) in the order asked; a NULL id gives a reason, never an error."""
    found = run(plpy, memory, MANY, ["text", "bigint[]"], [task, user_ids])
    if not len(found):
        if single(plpy, memory, LOOKUP, ["text", "bigint"], [task, 0]) is None:
            raise no_deployment(plpy, memory, task)
        return []
    result = []
    for row in found:
        if row["user_id"] is None:
            result.append((None, None, "the user id is NULL"))
        else:
            result.append((row["user_id"], *_judge(loaded_model(plpy, memory, row), row)))
    return result


@entry
def predict_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> float | None:
    """Score of one user at a moment: features computed from the raw events by the same kernel."""
    row, loaded, values = _live(plpy, memory, task, user_id, as_of)
    return _judge_values(loaded, row, values)[0]


def _live(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None
) -> tuple[Row, Loaded, tuple[float, ...] | None]:
    from ubp_sql.api.live import live_row

    row = single(plpy, memory, LOOKUP, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    loaded = loaded_model(plpy, memory, row)
    feature_set = single(plpy, memory, SET_OF_TASK, ["text"], [task])
    if feature_set is None:
        raise NotReady(f"task {task!r} has no feature set", "define it with ubp.define_task")
    return row, loaded, live_row(plpy, memory, feature_set["feature_set_id"], user_id, as_of)


SET_OF_TASK = "select feature_set_id from ubp.deployments where task = $1 and retired_at is null"

VERSION_OF = """
select m.model_id, m.compiled_sha256, i.package_version, true as same_set
  from ubp.models m cross join ubp.installation i
 where m.task = $1 and m.version = coalesce($2, (select d.version from ubp.deployments d where d.task = $1 and d.retired_at is null))"""


@entry
def score(plpy: Any, memory: dict[str, Any], model: str, features: list[float | None], version: int | None) -> float:
    """Score of a row of numbers by a model's deployed (or a named) version; each number is rounded to float32."""
    found = single(plpy, memory, VERSION_OF, ["text", "integer"], [model, version])
    if found is None:
        if version is None:
            raise no_deployment(plpy, memory, model)
        raise NoModelDeployed(f"model {model!r} has no version {version}", "select * from ubp.model_versions lists them")
    loaded = loaded_model(plpy, memory, found)
    return loaded.score(_as_float32(features, loaded))


@entry
def score_blob(plpy: Any, memory: dict[str, Any], compiled: bytes, features: list[float | None]) -> float:
    """Score of a row of numbers by a compiled model handed in; touches no table (parallel safe)."""
    loaded = _walkers.get(compiled)
    if loaded is None:
        loaded = _remember(compiled, compiled)
    return loaded.score(_as_float32(features, loaded))


def _as_float32(features: list[float | None], loaded: Loaded) -> tuple[float, ...]:
    if len(features) != loaded.features:
        raise BadInput(
            f"the model takes {loaded.features} features, {len(features)} were given",
            "the order is that of ubp.feature_catalogue.position",
        )
    try:
        # An array of C floats rounds each to float32; what lies beyond its range becomes infinite.
        return tuple(array("f", [math.nan if value is None else value for value in features]))
    except TypeError:
        raise BadInput("features must be a flat array of numbers", "score('purchase', array[1.0, 2.0, ...])") from None
