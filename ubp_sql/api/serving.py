"""Who answers for a task: its deployment as a session keeps it, with challengers and shadows, and what it says."""

from __future__ import annotations

from array import array
from time import time

from ubp_sql.api.ageing import ROW, Ageing, ageing_of
from ubp_sql.api.session import Row, check_version, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, UbpError, unknown_task
from ubp_sql.models.loaded import Loaded, ModelCache, open_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from ubp_sql.models.calibration import Map

    F64 = NDArray[np.float64]

# Whose turn it is by the clock of the statement: a switch-over takes place between two of them.
LIVE = "d.deployed_at <= statement_timestamp() and d.retired_at > statement_timestamp()"
# What a deployment is never changes, so a session asks once for each that it meets.
DEPLOYMENT = """
select d.task, d.compiled_sha256, d.model_id, d.population_position, d.version, d.feature_set_id,
       s.hash = d.feature_set_hash as same_set, c.map_id, c.method, c.x, c.y
  from ubp.deployments d
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.calibration_maps c using (map_id)
 where d.deployment_id = $1"""
ARMS = """
select a.role, a.share, d.task, a.compiled_sha256, a.model_id, a.population_position, a.version, a.feature_set_id,
       s.hash = a.feature_set_hash as same_set, c.map_id, c.method, c.x, c.y
  from ubp.deployment_arms a
  join ubp.deployments d using (deployment_id)
  join ubp.feature_sets s on s.feature_set_id = a.feature_set_id
  left join ubp.calibration_maps c on c.map_id = a.map_id
 where a.deployment_id = $1 order by a.model_id"""
# How many events the task asks for, and the features' age where that is too much. A query of its own, for it would make
# every prediction's 4 µs longer; only here does a prediction look at the clock. docs/adr/0020-calibration.md.
POLICY = """
select p.least_events, case when statement_timestamp() - s.as_of > p.most_age
         then extract(epoch from statement_timestamp() - s.as_of)::double precision end as too_old_s
  from ubp.task_policies p join ubp.feature_sets s on s.feature_set_id = $2 where p.task = $1"""
OWN_ROW = f"""
select {ROW}
  from ubp.feature_sets s
  left join ubp.feature_rows r on r.feature_set_id = s.feature_set_id and r.user_id = $2
 where s.feature_set_id = $1"""  # noqa: S608 - constants only
KNOWN_TASK = "select 1 as found from ubp.task_definitions where task = $1"
COMPILED = """
select task, version, status, checked, compiled, current_setting('ubp.model_cache', true) as cap
  from ubp.models where model_id = $1"""

NO_ROW = "no features: the user is unknown or had no event before as_of"
OTHER_LENGTH = "the stored feature rows do not have the model's length", "run ubp.refresh_features(), then score again"
NO_NUMBER = "the model gives no number for the user's features"
TOO_LITTLE = "too little history: no event of the task's population kind yet"

# What a process keeps of models, by the hash of their compiled form: what is replaced is simply never asked for again.
DEFAULT_CAP = 64 * 1024 * 1024
MOST_CAP = 1 << 40  # whatever the unit
UNITS = {"kB": 1024, "MB": 1024**2, "GB": 1024**3, "": 1}
models = ModelCache(DEFAULT_CAP)


class Deployed:
    """What a session keeps of a deployment: its model, its calibration map, whom it is for, how its features age.

    map          from the model's scores to what is said, None for the scores as they are; `value`: of one score
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
        self.map: Map | None = None
        self.value: Callable[[float], float] | None = None
        if row["map_id"] is not None:
            from ubp_sql.models.calibration import Map

            self.map = Map(row["method"], row["x"], row["y"], row["map_id"])
            self.value = self.map.value
        self.challengers: list[Deployed] = []
        self.bounds: list[float] = []
        self.shadows: list[Deployed] = []
        self.reasons: Any = None  # of explain_user.py, once somebody asks for them

    def values(self, scores: F64, pause: Callable[[], object]) -> F64:
        """(n,) what is said of scores: through the map, if there is one."""
        if self.map is None:
            return scores
        from ubp_sql.models.calibration import batch

        return batch(self.map, scores, pause)


class Policy:
    """When a task abstains, in one statement.

    least_events  of the population's kind, that a user must have
    too_old       why nobody gets a value: the features' age; None: it is not too high
    """

    __slots__ = ("least_events", "too_old")

    def __init__(self, least_events: int, too_old_s: float | None) -> None:
        self.least_events = least_events
        self.too_old = None
        if too_old_s is not None:
            days = int(too_old_s // 86_400)
            age = f"{days} days" if days > 1 else f"{int(too_old_s // 3600)} hours"
            self.too_old = f"abstained: features are {age} old"

    def why(self, deployed: Deployed, packed: bytes) -> str | None:
        """Why a user with some history gets no value; None: he gets one."""
        if self.too_old is not None:
            return self.too_old
        if self.least_events > 1:
            number = array("f", packed[4 * deployed.population : 4 * deployed.population + 4])[0]
            if 1.0 <= number < self.least_events:
                return self.too_few()
        return None

    def too_few(self) -> str:
        """Why users with fewer events get no value."""
        return f"abstained: fewer than {self.least_events} events of the task's population kind"


def policy_of(plpy: Any, memory: dict[str, Any], deployed: Deployed, abstains: bool) -> Policy | None:
    """When the task abstains; None where the deployment's row says that it never does."""
    row = (
        single(plpy, memory, POLICY, ["text", "integer"], [deployed.task, deployed.feature_set_id])
        if abstains
        else None
    )
    return None if row is None else Policy(row["least_events"] or 1, row["too_old_s"])


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
        return unknown_task(task)
    return NoModelDeployed(f"task {task!r} has no deployed model", f"`ubp-sql train {task}` trains and deploys one")


def stored(deployed: Deployed, row: Row) -> bytes | None:
    """The features of a row with the columns of ageing.ROW at the set's as_of; None where there is no row."""
    packed: bytes | None = row["packed"]
    anchors = row["anchors"]
    if anchors is None or packed is None or len(packed) != deployed.loaded.size:
        return packed
    return deployed.ageing.finish(packed, anchors, row["as_of_us"], row["as_of_weekday"])


def score_row(deployed: Deployed, packed: bytes) -> float | None:
    """What is said of a row of features, float32: the model's score, through the deployment's map if it has one; None
    for too little history.

    Raises FeatureSetMismatch (UB002) on a row of another length than the model's.
    """
    loaded = deployed.loaded
    if len(packed) != loaded.size:
        raise FeatureSetMismatch(*OTHER_LENGTH)
    loaded.used_at = time()
    score, value = loaded.score_packed(packed, deployed.population), deployed.value
    return score if value is None or score is None else value(score)


def judge(deployed: Deployed, packed: bytes | None, policy: Policy | None = None) -> tuple[float | None, str | None]:
    """(value, None), or (None, why there is none)."""
    if packed is None:
        return None, NO_ROW
    value = score_row(deployed, packed)
    if value is not None:
        why = None if policy is None else policy.why(deployed, packed)
        return (value, None) if why is None else (None, why)
    return None, NO_NUMBER if array("f", packed)[deployed.population] >= 1.0 else TOO_LITTLE
