"""What a refresh would take: counted and estimated, nothing changed, no lock that anybody waits for."""

from typing import Any

from ubp_sql.api import mirror_store as store
from ubp_sql.api.event_rows import origins
from ubp_sql.api.mirror_fold import Said, look
from ubp_sql.api.mirror_items import with_users_about
from ubp_sql.api.moments import feature_set, moment_us
from ubp_sql.api.pending import pending_users
from ubp_sql.api.refresh_rows import Moment
from ubp_sql.api.refresh_users import STATE, dirty_users, everybody, expired_users
from ubp_sql.api.session import Row, single

PENDING = "select count(*) as rows from ubp.event_log"
PENDING = "select count(*) as rows from ubp.event_log"
# The last runs that computed everybody, and those that computed some: what a user took, and what the least took.
LAST_RUNS = """
select sum(x.seconds) / nullif(sum(x.rows), 0) as per_user, min(x.seconds) as least, count(*) as runs
  from (select r.rows, extract(epoch from r.finished_at - r.started_at)::double precision as seconds
          from ubp.job_runs r
         where r.job = 'refresh_features' and r.state = 'done' and r.detail ->> 'feature_set' = $1
           and (r.detail ->> 'why' like 'everybody%') = $2 and not r.detail ? 'steps'
         order by r.job_id desc limit 5) x"""
USERS = "select count(distinct user_id) as users from ubp.event_rows() where kind = any ($1)"
KNOWN = "select 1 as found from ubp.feature_sets where name = $1"
LOCKS = (
    "locks until commit: advisory ones of the set and of the mirror (another refresh of the set, score_users, a mirror"
    " build and a fold wait; inserts and predictions do not), row locks on what it writes"
)


def plan(plpy: Any, memory: dict[str, Any], as_of: str, name: str) -> Row:
    """The row of refresh_features with the users and seconds it would take; `events` is not known before."""
    if name == "default" and single(plpy, memory, KNOWN, ["text"], [name]) is None:
        return _row(name, as_of, None, None, None, None, "would define the set from the kinds found")
    found = feature_set(plpy, memory, name)
    moment = Moment(as_of, *moment_us(plpy, memory, as_of, found.time_zone))
    state = single(plpy, memory, STATE, ["integer", "timestamptz"], [found.feature_set_id, as_of])
    pending = single(plpy, memory, PENDING, [], [])
    assert state is not None  # noqa: S101 - the set was read above
    assert pending is not None  # noqa: S101 - an aggregate has a row
    why = everybody(state)
    said = look(plpy, memory, origins(plpy, memory))
    if why is None and (said.everything or said.anew):
        why = "everybody: the events were replaced"
    about_items = _about_items(plpy, memory, said)
    if why is None and about_items is None:
        why = "everybody: attributes of items changed, and there is no mirror to tell whom they concern"
    at_edge = None if why is not None else expired_users(plpy, memory, found.feature_set_id, state, moment)
    if why is None and at_edge is None:
        why = "everybody: most users changed"
    if why is None and at_edge is not None:
        dirty, expired = dirty_users(plpy, memory, found.feature_set_id), len(at_edge)
        new = sum(len(keys) for _, keys in said.keys)
        named = len(pending_users(plpy, memory, said)) + new + (about_items or 0)
        users = dirty + expired + named
        why = (
            f"at most {users} users: {dirty} marked as changed, {named} in {pending['rows']} log rows to"
            f" fold, {expired} at an edge of a window"
        )
        last = single(plpy, memory, LAST_RUNS, ["text", "boolean"], [name, False])
    else:
        users = int((single(plpy, memory, USERS, ["text[]"], [list(found.definition.kinds)]) or {"users": 0})["users"])
        last = single(plpy, memory, LAST_RUNS, ["text", "boolean"], [name, True])
    seconds = None
    if last is not None and last["per_user"] is not None:
        seconds = max(last["least"], users * last["per_user"])
    told = (
        "no run to estimate from" if seconds is None else f"seconds as in the last {last['runs'] if last else 0} runs"
    )
    return _row(name, as_of, state["users"], len(found.definition.features), users, seconds, f"{why}; {told}; {LOCKS}")


def _about_items(plpy: Any, memory: dict[str, Any], said: Said) -> int | None:
    """Users whose events are about items whose attributes changed; None where only a fold can tell."""
    if not said.items:
        return 0
    if not store.state(plpy, memory).built:
        return None
    return len(with_users_about(plpy, memory, said, store.metas_of_runs(plpy, memory)).users) - len(said.users)


def _row(
    name: str,
    as_of: str,
    users: int | None,
    features: int | None,
    recomputed: int | None,
    seconds: float | None,
    detail: str,
) -> Row:
    return {
        "feature_set_name": name,
        "as_of_time": as_of,
        "users": users,
        "feature_count": features,
        "events": None,
        "seconds": seconds,
        "recomputed": recomputed,
        "removed": None,
        "detail": f"dry run: {detail}",
    }
