"""Who answers for a task: its deployment as a session keeps it, with challengers and shadows, and what it says."""

from __future__ import annotations

from array import array
from time import time

from ubp_sql.api.ageing import ROW, Ageing, ageing_of
from ubp_sql.api.session import Row, check_version, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, UbpError, UnknownTask
from ubp_sql.models.loaded import Loaded, ModelCache, open_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whose turn it is by the clock of the statement: a switch-over takes place between two of them.
LIVE = "d.deployed_at <= statement_timestamp() and d.retired_at > statement_timestamp()"
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
COMPILED = """
select task, version, status, checked, compiled, current_setting('ubp.model_cache', true) as cap
  from ubp.models where model_id = $1"""

NO_ROW = "no features: the user is unknown or had no event before the feature set's as_of"
OTHER_LENGTH = "the stored feature rows do not have the model's length", "run ubp.refresh_features(), then score again"
NO_NUMBER = "the model gives no number for the user's features"
TOO_LITTLE = "too little history: no event of the task's population kind yet"

# What a process keeps of models, by the hash of their compiled form: what is replaced is simply never asked for again.
DEFAULT_CAP = 64 * 1024 * 1024
MOST_CAP = 1 << 40  # whatever the unit
UNITS = {"kB": 1024, "MB": 1024**2, "GB": 1024**3, "": 1}
models = ModelCache(DEFAULT_CAP)


class Deployed:
    """What a session keeps of a deployment: its model, whom it is for, how its features age.

    challengers  versions that answer for a share of the users each; `bounds`: up to which place (models/split.py)
    shadows      versions that are only scored beside
    """

    def __init__(self, row: Row, loaded: Loaded, ageing: Ageing) -> None:
        self.loaded = loaded
        self.task: str = row["task"]
        self.model_id: int = row["model_id"]
        self.version: int = row["version"]
        self.feature_set_id: int = row["feature_set_id"]
        self.population: int = row["population_position"] - 1
        self.ageing = ageing
        self.challengers: list[Deployed] = []
        self.bounds: list[float] = []
        self.shadows: list[Deployed] = []


def load(plpy: Any, memory: dict[str, Any], sha256: str, model_id: int) -> Loaded:
    loaded = models.get(sha256)
    if loaded is None:
        row = single(plpy, memory, COMPILED, ["bigint"], [model_id])
        if row is None:
            raise NoModelDeployed("the deployed model is gone", "deploy another version")
        if row["status"] != "ready":
            from ubp_sql.api.model_checks import not_ready

            raise not_ready(row["task"], row["version"], row["status"], row["checked"])
        models.most_bytes = _cap(row["cap"])
        loaded = models.add(sha256, open_model(row["compiled"]))
    return loaded


def _cap(setting: str | None) -> int:
    """Bytes from the text of the setting ubp.model_cache. Raises BadInput (UB003)."""
    if not setting:  # never set, or reset
        return DEFAULT_CAP
    number = setting.rstrip("kMGTB ")
    unit = setting[len(number) :].strip()
    if not (setting.isascii() and number.strip().isdigit() and unit in UNITS):
        raise BadInput(
            f"ubp.model_cache is {setting!r}", "a number with kB, MB or GB: set ubp.model_cache = '64MB', or reset it"
        )
    return min(int(number), MOST_CAP) * UNITS[unit]


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
    task = made.task
    for key in [key for key, kept in memory.items() if isinstance(kept, Deployed) and kept.task == task]:
        del memory[key]
    for sha256 in {row["compiled_sha256"] for row in [row, *arms] if row is not None}:
        # Of the task, not of `made`: that one goes with its deployment, and its challengers' models with it.
        models.hold(sha256, (id(memory), task), lambda: _forget(memory, number, task))
    memory[number] = made  # type: ignore[index]  # SD takes any key; numbers cannot meet a query's text
    return made


def _forget(memory: dict[Any, Any], number: int, task: str) -> None:
    """Lets go of a deployment one of whose models went."""
    memory.pop(number, None)
    score = memory.get("served", {}).get(task)
    if score is not None:
        score.__self__.version = score.__self__.ahead = None


def _made(plpy: Any, memory: dict[str, Any], row: Row | None) -> Deployed:
    if row is None or not row["same_set"]:
        raise FeatureSetMismatch(
            "the feature set differs from the one the model was trained on",
            "train again, or `ubp-sql model rollback` to a version of this set",
        )
    loaded = load(plpy, memory, row["compiled_sha256"], row["model_id"])
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


def answering(
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
    loaded.used_at = time()
    return loaded.score_packed(packed, deployed.population)


def judge(deployed: Deployed, packed: bytes | None) -> tuple[float | None, str | None]:
    """(score, None), or (None, why there is none)."""
    if packed is None:
        return None, NO_ROW
    value = score_row(deployed, packed)
    if value is not None:
        return value, None
    return None, NO_NUMBER if array("f", packed)[deployed.population] >= 1.0 else TOO_LITTLE
