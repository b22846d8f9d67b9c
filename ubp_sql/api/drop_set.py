"""The end of a feature set: its definitions, view, stored rows and tasks, unless a model was trained on it."""

from typing import Any

from ubp_sql.api.catalogue import LOCK
from ubp_sql.api.mirror_store import LOCK as MIRROR_LOCK
from ubp_sql.api.session import check_version, entry, no_such_set, run, single
from ubp_sql.api.set_view import drop_statement
from ubp_sql.errors import BadInput, NotReady

NUMBER = "select feature_set_id from ubp.feature_sets where name = $1 for update"
MODEL = """
select m.task, m.version,
       exists (select from ubp.deployments d where d.model_id = m.model_id and d.retired_at > now()) as deployed
  from ubp.models m where m.feature_set_id = $1 order by deployed desc, m.task, m.version desc limit 1"""
JOB = "select job_id from ubp.refresh_jobs where feature_set_id = $1"
TASKS = "delete from ubp.task_definitions where feature_set_id = $1 returning task"
ROWS = "delete from ubp.feature_rows where feature_set_id = $1"
REST = """
with dirty as (delete from ubp.dirty_users where feature_set_id = $1),
     awaited as (delete from ubp.awaited_users where feature_set_id = $1),
     expiries as (delete from ubp.expiries where feature_set_id = $1),
     definitions as (delete from ubp.feature_definitions where feature_set_id = $1)
delete from ubp.feature_sets where feature_set_id = $1"""
NEEDED_BY_OTHERS = "2BP01"


@entry
def drop_feature_set(plpy: Any, memory: dict[str, Any], name: str) -> int:
    """Drops a set and the tasks defined on it; returns how many stored rows went with it.

    Raises NotReady (UB005) without such a set and while a refresh of it is under way, BadInput (UB003) where a model
    was trained on it or a view of somebody else's reads its own.
    """
    check_version(plpy, memory)
    # As a refresh takes them: no fold may note users for a set that goes, and no refresh write rows of it.
    run(plpy, memory, LOCK, ["text"], [name])
    run(plpy, memory, MIRROR_LOCK, [], [])
    row = single(plpy, memory, NUMBER, ["text"], [name])
    if row is None:
        raise no_such_set(plpy, memory, name)
    number = row["feature_set_id"]
    _refuse_used(plpy, memory, name, number)
    _drop_view(plpy, name)
    tasks = sorted(row["task"] for row in run(plpy, memory, TASKS, ["integer"], [number]))
    if tasks:
        plpy.notice(f"dropped with feature set {name}, and never trained: {', '.join(tasks)}")
    dropped: int = run(plpy, memory, ROWS, ["integer"], [number]).nrows()
    run(plpy, memory, REST, ["integer"], [number])
    return dropped


def _refuse_used(plpy: Any, memory: dict[str, Any], name: str, number: int) -> None:
    model = single(plpy, memory, MODEL, ["integer"], [number])
    if model is not None:
        which = "answered by" if model["deployed"] else "in the registry with"
        raise BadInput(
            f"feature set {name!r} stays: task {model['task']!r} is {which} version {model['version']}, trained on it",
            "models are kept with what they were trained on; docs/features.md says how a DBA removes both",
        )
    job = single(plpy, memory, JOB, ["integer"], [number])
    if job is not None:
        raise NotReady(
            f"a refresh of feature set {name!r} is under way",
            f"let it end, or: select ubp.cancel_refresh({job['job_id']})",
        )


def _drop_view(plpy: Any, name: str) -> None:
    statement = drop_statement(name, plpy.quote_ident)
    try:
        plpy.execute(statement)
    except plpy.SPIError as error:
        if error.sqlstate != NEEDED_BY_OTHERS:
            raise
        detail = " ".join(str(error.spidata[1]).split())
        raise BadInput(f"feature set {name!r} stays: {detail}", "drop or change what reads the view first") from None
