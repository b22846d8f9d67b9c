"""Scores: of one stored user, of many, of a user at a past moment, of a row of numbers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from ubp_sql.api.ageing import ROW, Ageing, ageing_of
from ubp_sql.api.session import Row, check_version, entry, run, single, to_server
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, UbpError, UnknownTask
from ubp_sql.models.loaded import Loaded, ModelCache, open_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whose turn it is by the clock of the statement: a switch-over takes place between two of them.
LIVE = "d.deployed_at <= statement_timestamp() and d.retired_at > statement_timestamp()"
# One query finds the deployed version and the user's row, so both belong to the statement's snapshot.
LOOKUP = f"""
select d.deployment_id, {ROW}
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = $2
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only
# What a deployment is never changes, so a session asks once for each that it meets.
DEPLOYMENT = """
select d.task, d.compiled_sha256, d.model_id, d.population_position, d.version, d.feature_set_id,
       s.hash = d.feature_set_hash as same_set
  from ubp.deployments d join ubp.feature_sets s using (feature_set_id) where d.deployment_id = $1"""
ARMS = """
select a.role, a.share, d.task, a.compiled_sha256, a.model_id, a.population_position, a.version, a.feature_set_id,
       s.hash = a.feature_set_hash as same_set
  from ubp.deployment_arms a
  join ubp.deployments d using (deployment_id)
  join ubp.feature_sets s on s.feature_set_id = a.feature_set_id
 where a.deployment_id = $1 order by a.model_id"""
OWN_ROW = f"""
select {ROW}
  from ubp.feature_sets s
  left join ubp.feature_rows r on r.feature_set_id = s.feature_set_id and r.user_id = $2
 where s.feature_set_id = $1"""  # noqa: S608 - constants only
KNOWN_TASK = "select 1 as found from ubp.task_definitions where task = $1"
COMPILED = "select compiled from ubp.models where model_id = $1"

NO_ROW = "no features: the user is unknown or had no event before the feature set's as_of"
OTHER_LENGTH = "the stored feature rows do not have the model's length", "run ubp.refresh_features(), then score again"
TOO_LITTLE = "too little history: no event of the task's population kind yet"

# What a process keeps of models, by the hash of their compiled form: what is replaced is simply never asked for again.
_models = ModelCache(64 * 1024 * 1024)


class Deployed:
    """What a session keeps of a deployment: its model, whom it is for, how its features age.

    challengers  versions that answer for a share of the users each; `bounds`: up to which place (models/split.py)
    shadows      versions that are only scored beside
    """

    def __init__(self, row: Row, loaded: Loaded, ageing: Ageing) -> None:
        self.loaded = loaded
        self.task: str = row["task"]
        self.version: int = row["version"]
        self.feature_set_id: int = row["feature_set_id"]
        self.population: int = row["population_position"] - 1
        self.ageing = ageing
        self.challengers: list[Deployed] = []
        self.bounds: list[float] = []
        self.shadows: list[Deployed] = []


def _load(plpy: Any, memory: dict[str, Any], sha256: str, model_id: int) -> Loaded:
    loaded = _models.get(sha256)
    if loaded is None:
        row = single(plpy, memory, COMPILED, ["bigint"], [model_id])
        if row is None:
            raise NoModelDeployed("the deployed model is gone", "deploy another version")
        loaded = _models.add(sha256, open_model(row["compiled"]))
    return loaded


def deployment(plpy: Any, memory: dict[str, Any], number: int) -> Deployed:
    """The deployment of that number, kept in the function's SD.

    The versions of code and database are compared here, once a session: an upgrade replaces the functions, which
    empties their SD.
    """
    check_version(plpy, memory)
    row = single(plpy, memory, DEPLOYMENT, ["bigint"], [number])
    made = _made(plpy, memory, row)
    arms = run(plpy, memory, ARMS, ["bigint"], [number])
    if len(arms):
        _set_beside(plpy, memory, made, arms)
    # One a task: a session that lives through a thousand deployments must not keep a thousand models.
    for key in [key for key, kept in memory.items() if isinstance(kept, Deployed) and kept.task == made.task]:
        del memory[key]
    memory[number] = made  # type: ignore[index]  # SD takes any key; numbers cannot meet a query's text
    return made


def _made(plpy: Any, memory: dict[str, Any], row: Row | None) -> Deployed:
    if row is None or not row["same_set"]:
        raise FeatureSetMismatch(
            "the feature set differs from the one the model was trained on",
            "train again, or `ubp-sql model rollback` to a version of this set",
        )
    loaded = _load(plpy, memory, row["compiled_sha256"], row["model_id"])
    return Deployed(row, loaded, ageing_of(plpy, memory, row["feature_set_id"]))


def _set_beside(plpy: Any, memory: dict[str, Any], champion: Deployed, arms: list[Row]) -> None:
    """The challengers and shadows of a deployment."""
    from ubp_sql.models.split import bounds

    shares = []
    for row in arms:
        made = _made(plpy, memory, row)
        if row["role"] == "shadow":
            champion.shadows.append(made)
        else:
            champion.challengers.append(made)
            shares.append(row["share"])
    champion.bounds = bounds(shares)


def challenger_of(champion: Deployed, user_id: int | None) -> Deployed:
    """Who answers for a user: a challenger for its share, else the champion."""
    if user_id is None or not champion.challengers:
        return champion
    from bisect import bisect_right

    from ubp_sql.models.split import place

    arm = bisect_right(champion.bounds, place(champion.task, user_id))
    return champion if arm == len(champion.bounds) else champion.challengers[arm]


def _answering(
    plpy: Any, memory: dict[str, Any], champion: Deployed, user_id: int | None, row: Row
) -> tuple[Deployed, bytes | None]:
    """Who answers for a user where there are challengers, and the user's row of that version's set."""
    found = challenger_of(champion, user_id)
    if found.feature_set_id != champion.feature_set_id:
        row = run(plpy, memory, OWN_ROW, ["integer", "bigint"], [found.feature_set_id, user_id])[0]
    return found, stored(found, row)


def known_deployment(plpy: Any, memory: dict[Any, Any], number: int) -> Deployed:
    """The deployment of that number as the session keeps it, else read."""
    return memory.get(number) or deployment(plpy, memory, number)


def no_deployment(plpy: Any, memory: dict[str, Any], task: str) -> UbpError:
    """Why a task has nothing to answer with."""
    if single(plpy, memory, KNOWN_TASK, ["text"], [task]) is None:
        return UnknownTask(f"unknown task {task!r}", "select task from ubp.tasks lists the tasks")
    return NoModelDeployed(f"task {task!r} has no deployed model", f"`ubp-sql train {task}` trains and deploys one")


def predict(plpy: Any, memory: dict[str, Any], task: str, user_id: int) -> float | None:
    """Score of one user from the stored row; None when there is no row or too little history."""
    # Written flat: this is the hot path, and every call and lookup here shows in the latency.
    try:
        plan = memory.get("lookup")
        if plan is None:
            plan = memory["lookup"] = plpy.prepare(LOOKUP, ["text", "bigint"])
        found = plan.execute((task, user_id))
        if not found:
            raise no_deployment(plpy, memory, task)
        row = found[0]
        number = row["deployment_id"]
        deployed = memory.get(number) or deployment(plpy, memory, number)
        if deployed.challengers:
            deployed, packed = _answering(plpy, memory, deployed, user_id, row)
        else:
            packed = stored(deployed, row)
        return None if packed is None else score_row(deployed, packed)
    except UbpError as error:
        raise to_server(plpy, error) from None


# As ubp.resolve_user, which costs 100 µs here because PostgreSQL plans an SQL function's body at every call. A test
# keeps the two equal.
USER_OF_KEY = """coalesce(
      (select u.user_id from ubp.users u where u.user_key = btrim($2) and u.tenant = 0),
      case when btrim($2) !~ '^(0|[1-9][0-9]{0,15})(\\.0+)?$' then null
           when split_part(btrim($2), '.', 1)::bigint < 4000000000000000 then coalesce(
             (select u.user_id from ubp.users u where u.user_key = split_part(btrim($2), '.', 1) and u.tenant = 0),
             split_part(btrim($2), '.', 1)::bigint) end)"""
BY_KEY = LOOKUP.replace("$2", USER_OF_KEY)
RESOLVE = f"select {USER_OF_KEY.replace('$2', '$1')} as user_id"


@entry
def predict_key(plpy: Any, memory: dict[str, Any], task: str, user_key: str) -> float | None:
    """`predict` by the key text of the source."""
    row = single(plpy, memory, BY_KEY, ["text", "text"], [task, user_key])
    if row is None:
        raise no_deployment(plpy, memory, task)
    deployed = known_deployment(plpy, memory, row["deployment_id"])
    user_id = run(plpy, memory, RESOLVE, ["text"], [user_key])[0]["user_id"] if deployed.challengers else None
    return judge(*_answering(plpy, memory, deployed, user_id, row))[0]


def stored(deployed: Deployed, row: Row) -> bytes | None:
    """The features of a row with the columns of ageing.ROW at the set's as_of; None where there is no row."""
    packed: bytes | None = row["packed"]
    anchors = row["anchors"]
    if anchors is None or packed is None or len(packed) != deployed.loaded.size:
        return packed
    return deployed.ageing.finish(packed, anchors, row["as_of_us"], row["as_of_weekday"])


def score_row(deployed: Deployed, packed: bytes) -> float | None:
    """Score of a row of features, float32; None for too little history.

    Raises FeatureSetMismatch (UB002) on a row of another length than the model's.
    """
    loaded = deployed.loaded
    if len(packed) != loaded.size:
        raise FeatureSetMismatch(*OTHER_LENGTH)
    return loaded.score_packed(packed, deployed.population)


def judge(deployed: Deployed, packed: bytes | None) -> tuple[float | None, str | None]:
    """(score, None), or (None, why there is none)."""
    if packed is None:
        return None, NO_ROW
    value = score_row(deployed, packed)
    return value, TOO_LITTLE if value is None else None


DETAIL = f"""
select d.deployment_id, {ROW}, s.as_of, u.percentile, u.version
  from ubp.deployments d
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = $2
  left join ubp.user_scores u on u.task = d.task and u.user_id = $2 and u.as_of = s.as_of
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only


@entry
def predict_detail(plpy: Any, memory: dict[str, Any], task: str, user_id: int) -> list[Row]:
    """Score with its reason, model, version, moment and percentile among the stored scores."""
    row = single(plpy, memory, DETAIL, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    deployed = known_deployment(plpy, memory, row["deployment_id"])
    deployed, packed = _answering(plpy, memory, deployed, user_id, row)
    percentile = row["percentile"] if row["version"] == deployed.version else None
    return _detail(task, deployed, judge(deployed, packed), row["as_of"], percentile)


@entry
def predict_detail_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> list[Row]:
    """As `predict_detail`, from the raw events at a moment of the past; no percentile is stored for it."""
    deployed, packed = _live(plpy, memory, task, user_id, as_of)
    return _detail(task, deployed, judge(deployed, packed), as_of, None)


def _detail(
    task: str, deployed: Deployed, verdict: tuple[float | None, str | None], as_of: str | None, percentile: float | None
) -> list[Row]:
    detail = {
        "score": verdict[0],
        "reason": verdict[1],
        "model": task,
        "version": deployed.version,
        "as_of": as_of,
        "percentile": percentile if verdict[0] is not None else None,
    }
    return [detail]


MANY = f"""
select d.deployment_id, q.user_id, {ROW}
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
 cross join unnest($2) with ordinality as q (user_id, place)
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = q.user_id
 where d.task = $1 and {LIVE} order by q.place"""  # noqa: S608 - constants only


@entry
def predict_many(plpy: Any, memory: dict[str, Any], task: str, user_ids: list[int | None]) -> Any:
    """(user_id, score, reason) in the order asked; a NULL id gives a reason, never an error."""
    found = run(plpy, memory, MANY, ["text", "bigint[]"], [task, user_ids])
    if not found and single(plpy, memory, LOOKUP, ["text", "bigint"], [task, 0]) is None:
        raise no_deployment(plpy, memory, task)
    result: list[tuple[int | None, float | None, str | None]] = []
    for row in found:
        if row["user_id"] is None:
            result.append((None, None, "the user id is NULL"))
        else:
            deployed = known_deployment(plpy, memory, row["deployment_id"])
            result.append((row["user_id"], *judge(*_answering(plpy, memory, deployed, row["user_id"], row))))
    return result


@entry
def predict_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> float | None:
    """Score of one user at a moment: features computed from the raw events by the same kernel."""
    return judge(*_live(plpy, memory, task, user_id, as_of))[0]


def _live(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None
) -> tuple[Deployed, bytes | None]:
    from ubp_sql.api.live import live_bytes

    row = single(plpy, memory, LOOKUP, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    deployed = challenger_of(known_deployment(plpy, memory, row["deployment_id"]), user_id)
    return deployed, live_bytes(plpy, memory, deployed.feature_set_id, user_id, as_of)


VERSION_OF = f"""
select m.model_id, m.compiled_sha256
  from ubp.models m
 where m.task = $1 and m.version = coalesce($2, (select d.version from ubp.deployments d where d.task = $1 and {LIVE}))
"""  # noqa: S608 - constants only


@entry
def score(
    plpy: Any, memory: dict[str, Any], model: str, features: list[float | None], version: int | None
) -> float | None:
    """Score of a row of numbers by a model's deployed (or a named) version; each number is rounded to float32."""
    loaded = _version(plpy, memory, model, version)
    return loaded.score_packed(_checked(features, _one_output(loaded, "score")))


@entry
def score_all(
    plpy: Any, memory: dict[str, Any], model: str, features: list[float | None], version: int | None
) -> list[float]:
    """As `score`, all outputs of a model that may have several."""
    loaded = _version(plpy, memory, model, version)
    return loaded.all_packed(_checked(features, loaded))


def _version(plpy: Any, memory: dict[str, Any], model: str, version: int | None) -> Loaded:
    """The deployed version of a model, or the one named."""
    if "checked" not in memory:
        check_version(plpy, memory)
        memory["checked"] = True
    found = single(plpy, memory, VERSION_OF, ["text", "integer"], [model, version])
    if found is None:
        if version is None:
            error = no_deployment(plpy, memory, model)
            if isinstance(error, NoModelDeployed):
                error.hint = f"{error.hint}; or name a version: a model of several outputs has to be named"
            raise error
        raise NoModelDeployed(
            f"model {model!r} has no version {version}", "select * from ubp.model_versions lists them"
        )
    return _load(plpy, memory, found["compiled_sha256"], found["model_id"])


@entry
def score_blob(plpy: Any, memory: dict[str, Any], compiled: bytes, features: list[float | None]) -> float | None:
    """Score of a row of numbers by a compiled model handed in; touches no table (parallel safe)."""
    loaded = _handed_in(compiled)
    return loaded.score_packed(_checked(features, _one_output(loaded, "score_blob")))


@entry
def score_blob_all(plpy: Any, memory: dict[str, Any], compiled: bytes, features: list[float | None]) -> list[float]:
    """As `score_blob`, all outputs of a model that may have several."""
    loaded = _handed_in(compiled)
    return loaded.all_packed(_checked(features, loaded))


def _handed_in(compiled: bytes) -> Loaded:
    return _models.get(compiled) or _models.add(compiled, open_model(compiled))


def _one_output(loaded: Loaded, function: str) -> Loaded:
    """The model, if it has one output. Raises BadInput (UB003)."""
    if loaded.outputs > 1:
        raise BadInput(
            f"the model has {loaded.outputs} outputs, ubp.{function} gives one", f"ubp.{function}_all gives all of them"
        )
    return loaded


def _checked(features: list[float | None] | None, loaded: Loaded) -> bytes:
    if features is None or len(features) != loaded.features:
        raise BadInput(
            f"the model takes {loaded.features} features, {len(features or [])} were given",
            "the order is that of ubp.feature_catalogue.position",
        )
    try:
        return pack([math.nan if value is None else value for value in features])
    except TypeError:
        raise BadInput("features must be a flat array of numbers", "score('purchase', array[1.0, 2.0, ...])") from None


def pack(values: Sequence[float]) -> bytes:
    """float32; a C float rounds each value, and what lies beyond its range becomes infinite."""
    return array("f", values).tobytes()
