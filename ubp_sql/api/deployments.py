"""Versions into service and out of it: now or at a set time, for everybody or a share of the users, or beside.

A task's deployments are a timeline of rows that never change but for their end: the one that holds the statement's
moment answers. Nothing has to run at that moment, and a transaction that is undone leaves no trace. Whatever changes
who answers whom - another challenger, another share - is one more row.
"""

from collections.abc import Callable
from typing import Any

from ubp_sql.api.catalogue import make_predict
from ubp_sql.api.model_checks import not_ready
from ubp_sql.api.moments import feature_set
from ubp_sql.api.registry import task_row
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, UnsupportedModel, no_version
from ubp_sql.models.blob import outputs_of

# The set's row stays locked: between the look at its hash and the deployment it must not grow.
VERSION = """
select m.model_id, m.version, m.compiled_sha256, m.feature_set_id, m.feature_set_hash, s.hash as present_hash,
       m.retired_at, m.status, m.checked, substr(m.compiled, 1, 64) as head
  from ubp.models m join ubp.feature_sets s using (feature_set_id)
 where m.task = $1 and (m.version = $2 or $2 is null and m.retired_at is null) order by m.version desc limit 1
   for share of s"""
# The clock, not the transaction's moment: a deployment may be changed by the transaction that made it.
LIVE = """
select d.deployment_id, d.model_id, d.version, d.map_id
  from ubp.deployments d
 where d.task = $1 and d.deployed_at <= clock_timestamp() and d.retired_at > clock_timestamp()"""
NEXT = """
select d.deployment_id, d.version, d.deployed_at
  from ubp.deployments d
 where d.task = $1 and d.deployed_at > clock_timestamp() and d.cancelled_at is null"""
LATER = "select $1 > clock_timestamp() and isfinite($1) as good"
# The new row ends where the one that it ends would have ended: a switch-over that is set stays set.
END = """
update ubp.deployments d set retired_at = least(coalesce($2, now()), d.retired_at)
  from (select retired_at, deployment_id from ubp.deployments
         where task = $1 and deployed_at <= clock_timestamp() and retired_at > clock_timestamp() for update) old
 where d.deployment_id = old.deployment_id
returning old.retired_at"""
DEPLOY = """
insert into ubp.deployments
  (task, model_id, version, compiled_sha256, feature_set_id, feature_set_hash, population_position, deployed_at,
   retired_at, map_id, abstains)
values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()), coalesce($9, 'infinity'), $10,
        exists (select from ubp.task_policies p where p.task = $1 and num_nonnulls(p.least_events, p.most_age) > 0))
returning deployment_id"""
AGAIN = """
insert into ubp.deployments
  (task, model_id, version, compiled_sha256, feature_set_id, feature_set_hash, population_position, retired_at, map_id,
   abstains)
select task, model_id, version, compiled_sha256, feature_set_id, feature_set_hash, population_position, $2, $3, abstains
  from ubp.deployments where deployment_id = $1
returning deployment_id"""
ARM = """
insert into ubp.deployment_arms
  (deployment_id, model_id, role, share, version, compiled_sha256, feature_set_id, feature_set_hash,
   population_position, map_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
SAME_ARMS = """
insert into ubp.deployment_arms
select $2, a.model_id, a.role, a.share, a.version, a.compiled_sha256, a.feature_set_id, a.feature_set_hash,
       a.population_position, a.map_id
  from ubp.deployment_arms a where a.deployment_id = $1 and a.model_id <> $3"""
SAME_ARMS_WITH = """
insert into ubp.deployment_arms
select $2, a.model_id, a.role, a.share, a.version, a.compiled_sha256, a.feature_set_id, a.feature_set_hash,
       a.population_position, case when a.model_id = $3 then $4 else a.map_id end
  from ubp.deployment_arms a where a.deployment_id = $1"""
# The map that was fitted last counts.
NEWEST_MAP = "select max(map_id) as map_id from ubp.calibration_maps where model_id = $1"
MAP = """
select c.map_id, c.model_id, m.task, m.version,
       a.deployment_id is not null as beside
  from ubp.calibration_maps c
  join ubp.models m using (model_id)
  left join ubp.deployment_arms a on a.deployment_id = $2 and a.model_id = c.model_id
 where c.map_id = $1"""
SHARES = """
select coalesce(sum(share), 0) as taken from ubp.deployment_arms where deployment_id = $1 and model_id <> $2"""
HISTORY = """
select d.version, d.map_id from ubp.deployments d join ubp.models m using (model_id)
 where d.task = $1 and d.deployed_at <= clock_timestamp() and m.retired_at is null order by d.deployment_id"""
CANCEL = """
update ubp.deployments set retired_at = deployed_at, cancelled_at = now() where deployment_id = $1"""
REOPEN = """
update ubp.deployments set retired_at = 'infinity'
 where task = $1 and deployed_at <= clock_timestamp() and retired_at > clock_timestamp()"""
SERVING = """
select case when d.model_id = $1 and d.deployed_at > clock_timestamp() then 'takes over at ' || d.deployed_at
            when d.model_id = $1 then 'answers now' else 'is a ' || a.role end as how
  from ubp.deployments d
  left join ubp.deployment_arms a on a.deployment_id = d.deployment_id and a.model_id = $1
 where d.task = $2 and d.retired_at > clock_timestamp() and d.cancelled_at is null
   and (d.model_id = $1 or a.model_id is not null)
 order by d.deployed_at limit 1"""
RETIRE = "update ubp.models set retired_at = now(), retired_by = session_user where model_id = $1"

Answer = tuple[int, int | None]  # a version and its calibration map


@entry
def deploy_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None, at: str | None) -> int:
    """Makes a version answer for its task, now or from a later moment on; the first deployment makes predict_<task>.

    It answers through the map that was fitted for it last, if there is one.
    Challengers and shadows end with the deployment that they were set beside.
    """
    check_version(plpy, memory)
    row = task_row(plpy, memory, task)
    return _deploy(plpy, memory, row, version, at, lambda model_id: _newest_map(plpy, memory, model_id))


@entry
def use_calibration(plpy: Any, memory: dict[str, Any], task: str, map_id: int | None) -> int:
    """Lets who answers, or a version beside, speak through that map; None: who answers through none.

    Raises BadInput (UB003) for a map of another model.
    """
    check_version(plpy, memory)
    task_row(plpy, memory, task)
    live = single(plpy, memory, LIVE, ["text"], [task])
    if live is None:
        raise NoModelDeployed(f"task {task!r} has no deployed model", "ubp.deploy_model takes its newest map with it")
    model_id, version = live["model_id"], live["version"]
    if map_id is not None:
        found = single(plpy, memory, MAP, ["bigint", "bigint"], [map_id, live["deployment_id"]])
        if found is None:
            raise BadInput(
                f"there is no calibration map {map_id}", "select map_id, model_id from ubp.calibration_maps lists them"
            )
        if found["model_id"] != model_id and not found["beside"]:
            raise BadInput(
                f"calibration map {map_id} is of version {found['version']} of task {found['task']!r}, "
                f"version {version} of {task!r} answers",
                "the map of a model fits no other one's scores: ubp.calibrate_model fits one, or deploy that version",
            )
        model_id, version = found["model_id"], found["version"]
    number = _again(plpy, memory, task, live, map_id if model_id == live["model_id"] else live["map_id"])
    types = ["bigint", "bigint", "bigint", "bigint"]
    run(plpy, memory, SAME_ARMS_WITH, types, [live["deployment_id"], number, model_id, map_id])
    return int(version)


@entry
def rollback_model(plpy: Any, memory: dict[str, Any], task: str) -> int:
    """Makes the version that answered before the present one answer again."""
    check_version(plpy, memory)
    row = task_row(plpy, memory, task)
    kept = undone([(found["version"], found["map_id"]) for found in run(plpy, memory, HISTORY, ["text"], [task])])
    if len(kept) < 2:
        raise NoModelDeployed(
            f"task {task!r} has no earlier version to go back to", "ubp.deploy_model takes a version by number"
        )
    version, map_id = kept[-2]
    return _deploy(plpy, memory, row, version, None, lambda _: map_id)


def undone(deployed: list[Answer]) -> list[Answer]:
    """Who answered, with which map, still to go back through, newest last: deploying the one below the top takes the
    top off.

    So rollbacks after 1, 2, 3 give 2, then 1, and not 2, 3, 2.
    """
    kept: list[Answer] = []
    for version in deployed:
        if len(kept) > 1 and kept[-2] == version:
            kept.pop()
        elif not kept or kept[-1] != version:
            kept.append(version)
    return kept


@entry
def cancel_deployment(plpy: Any, memory: dict[str, Any], task: str) -> int:
    """Calls off the switch-over that is set; returns the version that would have taken over."""
    check_version(plpy, memory)
    task_row(plpy, memory, task)
    coming = single(plpy, memory, NEXT, ["text"], [task])
    if coming is None:
        raise NoModelDeployed(
            f"no version of task {task!r} is to take over later",
            "select * from ubp.deployed_versions shows who answers",
        )
    run(plpy, memory, CANCEL, ["bigint"], [coming["deployment_id"]])
    run(plpy, memory, REOPEN, ["text"], [task])
    return int(coming["version"])


@entry
def challenge_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None, share: float | None) -> int:
    """Lets a version answer for a share of the users, the same ones as long as it does; 0 ends it."""
    check_version(plpy, memory)
    if share is None or not 0.0 <= share <= 1.0:
        raise BadInput(f"share is {share}", "a part of the users from 0 (ends it) to 1, for example 0.1")
    return _beside(plpy, memory, task, version, "challenger", share, ends=share == 0.0)


@entry
def shadow_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None, active: bool | None) -> int:
    """Lets ubp.score_users store what a version would have said, beside the one that answers."""
    check_version(plpy, memory)
    return _beside(plpy, memory, task, version, "shadow", 0.0, ends=not active)


@entry
def retire_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None) -> int:
    """Takes a version out of what can be deployed; its row stays."""
    check_version(plpy, memory)
    task_row(plpy, memory, task)
    found = _version(plpy, memory, task, version, named=True)
    serving = single(plpy, memory, SERVING, ["bigint", "text"], [found["model_id"], task])
    if serving is not None:
        raise BadInput(
            f"version {found['version']} of task {task!r} cannot be retired: it {serving['how']}",
            "deploy another version first, or end the challenge, the shadow or the switch-over",
        )
    run(plpy, memory, RETIRE, ["bigint"], [found["model_id"]])
    return int(found["version"])


def _newest_map(plpy: Any, memory: dict[str, Any], model_id: int) -> int | None:
    found = single(plpy, memory, NEWEST_MAP, ["bigint"], [model_id])
    return None if found is None else found["map_id"]


def _again(plpy: Any, memory: dict[str, Any], task: str, live: Row, map_id: int | None) -> int:
    """One more deployment of who answers, with that map and nobody beside; its number."""
    ended = single(plpy, memory, END, ["text", "timestamptz"], [task, None])
    types = ["bigint", "timestamptz", "bigint"]
    again = single(plpy, memory, AGAIN, types, [live["deployment_id"], ended and ended["retired_at"], map_id])
    assert again is not None  # noqa: S101 - the row of `live` is there, and the task is locked
    return int(again["deployment_id"])


def _deploy(
    plpy: Any,
    memory: dict[str, Any],
    task: Row,
    version: int | None,
    at: str | None,
    map_of: Callable[[int], int | None],
) -> int:
    """map_of: the map of a model to deploy it with."""
    name = task["task"]
    found = _version(plpy, memory, name, version)
    position = _population(plpy, memory, task, found)
    coming = single(plpy, memory, NEXT, ["text"], [name])
    if at is not None:
        later = single(plpy, memory, LATER, ["timestamptz"], [at])
        if later is None or not later["good"]:
            raise BadInput(f"at is {at}", "a moment that is yet to come; without it the version answers at once")
        if coming is not None:
            raise BadInput(
                f"a switch-over of task {name!r} is set already, for {coming['deployed_at']}",
                "ubp.cancel_deployment first",
            )
    run(plpy, memory, END, ["text", "timestamptz"], [name, at])
    values = [*(name, found["model_id"], found["version"], found["compiled_sha256"]), found["feature_set_id"]]
    values += [found["feature_set_hash"], position, at, coming and coming["deployed_at"], map_of(found["model_id"])]
    types = ["text", "bigint", "integer", "text", "integer", "text", "integer", "timestamptz", "timestamptz", "bigint"]
    run(plpy, memory, DEPLOY, types, values)
    make_predict(plpy, name)
    return int(found["version"])


def _beside(
    plpy: Any, memory: dict[str, Any], task: str, version: int | None, role: str, share: float, *, ends: bool
) -> int:
    """One more deployment of the version that answers, with the other arms as they were and this one as it is said."""
    row = task_row(plpy, memory, task)
    found = _version(plpy, memory, task, version, named=True)
    live = single(plpy, memory, LIVE, ["text"], [task])
    if live is None:
        raise NoModelDeployed(f"task {task!r} has no deployed model to set it beside", "ubp.deploy_model first")
    if live["model_id"] == found["model_id"]:
        raise BadInput(f"version {found['version']} answers already", f"a {role} is another version")
    position = None if ends else _population(plpy, memory, row, found)
    taken = single(plpy, memory, SHARES, ["bigint", "bigint"], [live["deployment_id"], found["model_id"]])
    if share + (taken or {"taken": 0.0})["taken"] > 1.0:
        raise BadInput("the challengers' shares come to more than 1", "lower another one's first")
    number = _again(plpy, memory, task, live, live["map_id"])
    types = ["bigint", "bigint", "bigint"]
    run(plpy, memory, SAME_ARMS, types, [live["deployment_id"], number, found["model_id"]])
    if not ends:
        types = ["bigint", "bigint", "text", "double precision", *["integer", "text"] * 2, "integer", "bigint"]
        values = [number, found["model_id"], role, share, found["version"], found["compiled_sha256"]]
        values += [found["feature_set_id"], found["feature_set_hash"], position]
        run(plpy, memory, ARM, types, [*values, _newest_map(plpy, memory, found["model_id"])])
    return int(found["version"])


def _version(plpy: Any, memory: dict[str, Any], task: str, version: int | None, *, named: bool = False) -> Row:
    """A version of a task: that one, or the newest that is not retired."""
    if named and version is None:
        raise BadInput("the version is NULL", "select * from ubp.model_versions lists them")
    row = single(plpy, memory, VERSION, ["text", "integer"], [task, version])
    if row is None:
        raise no_version(task, version)
    return row


def _usable(task: str, version: Row) -> None:
    if version["retired_at"] is not None:
        raise NoModelDeployed(f"version {version['version']} is retired", "register the model again, or take another")
    if version["status"] != "ready":
        raise not_ready(task, version["version"], version["status"], version["checked"])
    if (outputs := outputs_of(version["head"])) > 1:
        raise UnsupportedModel(
            f"version {version['version']} of {task!r} has {outputs} outputs, ubp.predict gives one",
            f"ubp.score_all({task!r}, features, {version['version']}) gives all; or train a binary model a class",
        )
    if version["feature_set_hash"] != version["present_hash"]:
        raise FeatureSetMismatch(
            f"version {version['version']} was trained on another definition of its feature set", "train again"
        )


def _population(plpy: Any, memory: dict[str, Any], task: Row, version: Row) -> int:
    """Position of the feature that says who has a score: the lifetime count of the population's kind."""
    _usable(task["task"], version)
    found = feature_set(plpy, memory, version["feature_set_id"])
    lifetime = found.definition.lifetime_count(task["population_kind"])
    if lifetime is None:
        raise BadInput(
            f"feature set {found.name!r} has no number of all {task['population_kind']} events",
            "define the task on a set that has one: whom to score would not be known",
        )
    return lifetime + 1
