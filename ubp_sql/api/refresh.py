"""Features of all users at one moment, stored as rows: in one transaction, computing those whose events changed.

Why this is exact is in docs/adr/0009-incremental-refresh.md. The order matters: first the locks, then the log is folded
into the mirror and into dirty users, then users are chosen, then their events are read.
"""

import json
import time
from typing import TYPE_CHECKING, Any

from ubp_sql.api.catalogue import define_found_kinds
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.refresh_rows import Moment, compute_users
from ubp_sql.api.refresh_store import await_no_more, begin_anew, forget, store
from ubp_sql.api.refresh_users import Todo, choose, stored_users
from ubp_sql.api.session import Row, check_version, entry, prepare_numba, run, single
from ubp_sql.api.standings import record
from ubp_sql.errors import NotReady
from ubp_sql.features.standing import day_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ubp_sql.features.events import Events
    from ubp_sql.kernels.dispatch import I64

LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.refresh_features ' || $1, 0))"
# now() is the start of the transaction: after a wait for the lock it would lie before the other refresh's moment.
PRESENT = """
select case when $1 = now() and current_setting('transaction_isolation') = 'read committed'
            then clock_timestamp() else $1 end as as_of, $1 > clock_timestamp() as future"""
# Under REPEATABLE READ: what another refresh moved since our snapshot ends in 40001 here, not when its rows are met.
HOLD = "select 1 from ubp.feature_sets where feature_set_id = $1 for no key update"
EXISTS = "select 1 as found from ubp.feature_sets where name = $1"
MOVE = """
update ubp.feature_sets
   set as_of = $2, as_of_us = $3, as_of_weekday = $4, users = $5, refreshed_at = clock_timestamp(),
       stale = stale and $6
 where feature_set_id = $1"""
MIRRORED = """
select coalesce(sum(r.events), 0)::bigint as events
  from ubp.mirror_state m cross join ubp.mirror_runs r where m.built"""
ANY_EVENT = "select exists (select 1 from ubp.event_rows() where kind = any ($1)) as found"
LOG = """
insert into ubp.job_runs (job, state, started_at, finished_at, rows, detail)
values ($1, 'done', clock_timestamp() - make_interval(secs => $2), clock_timestamp(), $3, $4)"""

USERS_A_LOOK_UP, EVENTS_A_LOOK_UP = 8, 500
"""To read everything in passing takes as long as to look up one user of so many, and one for so many events. Measured
in docs/adr/0009-incremental-refresh.md."""
BATCH_EVENTS = 1_000_000
FIRST_BATCH, MOST_USERS = 2_000, 100_000
"""Users a look-up: the first batch tells how many events a user has."""


@entry
def refresh_features(plpy: Any, memory: dict[str, Any], as_of: str | None, name: str, dry_run: bool) -> list[Row]:
    """Brings every user's stored features to `as_of`; one row that says what was done."""
    started = time.perf_counter()
    check_version(plpy, memory)
    moment_us(plpy, memory, as_of, "UTC")
    if dry_run:
        from ubp_sql.api.refresh_plan import plan

        return [plan(plpy, memory, str(as_of), name)]
    # Two refreshes of one set would overwrite each other's moment: the second waits for the first.
    run(plpy, memory, LOCK, ["text"], [name])
    found, moment = begin(plpy, memory, str(as_of), name)
    todo = take(plpy, memory, found, moment)
    # Anew: a holiday may have been named since, and that the set was stale for it is settled by this refresh.
    found = feature_set(plpy, memory, found.feature_set_id)
    users, removed, events, recomputed = _store(plpy, memory, found, todo, moment)
    move(plpy, memory, found, moment, users)
    seconds = time.perf_counter() - started
    detail = {
        "feature_set": name,
        "events": events,
        "features": len(found.definition.features),
        "recomputed": recomputed,
        "why": todo.why,
    }
    types = ["text", "double precision", "bigint", "jsonb"]
    run(plpy, memory, LOG, types, ["refresh_features", seconds, recomputed, json.dumps(detail)])
    return [
        {
            "feature_set_name": name,
            "as_of_time": moment.text,
            "users": users,
            "feature_count": len(found.definition.features),
            "events": events,
            "seconds": seconds,
            "recomputed": recomputed,
            "removed": removed,
            "detail": todo.why,
        }
    ]


def begin(plpy: Any, memory: dict[str, Any], as_of: str, name: str) -> tuple[FeatureSet, Moment]:
    """The set, defined where it is the default and missing, and the moment to compute. The set's lock is held."""
    present = single(plpy, memory, PRESENT, ["timestamptz"], [as_of])
    if present is not None and present["as_of"] != as_of:
        as_of = present["as_of"]
    elif present is not None and present["future"]:
        plpy.notice(f"as_of {as_of} lies in the future: the features hold what is known today")
    if name == "default" and single(plpy, memory, EXISTS, ["text"], [name]) is None:
        define_found_kinds(plpy, memory, name)
    found = feature_set(plpy, memory, name)
    return found, Moment(as_of, *moment_us(plpy, memory, as_of, found.time_zone))


def take(plpy: Any, memory: dict[str, Any], found: FeatureSet, moment: Moment) -> Todo:
    """Folds the log and takes the users to compute off the lists; the mirror's lock is held from here on."""
    from ubp_sql.api.mirror_fold import fold
    from ubp_sql.api.refresh_steps import overtake

    prepare_numba()
    overtake(plpy, memory, found.feature_set_id)
    folded = fold(plpy, memory, refreshing=found.feature_set_id)
    # Not before the mirror's lock: who holds it may be waiting for the row, to mark all sets as stale.
    run(plpy, memory, HOLD, ["integer"], [found.feature_set_id])
    todo = choose(plpy, memory, found.feature_set_id, moment, folded.taken)
    if found.definition.standings:
        record(plpy, memory, found, [day_of(moment.us)])
    return todo


def _store(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, todo: Todo, moment: Moment
) -> tuple[int, int, int, int]:
    """Computes and writes; returns (users with a row now, rows deleted, events read, users computed)."""
    import numpy as np

    number = found.feature_set_id
    # Rows of these are deleted unless they are computed.
    ends = stored_users(plpy, memory, number) if todo.users is None else todo.users
    kept = np.zeros(len(ends), np.bool_)
    before = len(ends) if todo.users is None else todo.total
    if todo.users is None:
        begin_anew(plpy, memory, number)
    else:
        await_no_more(plpy, memory, number, todo.users)
    new = events_read = computed = 0
    for events, which in work(plpy, memory, found, todo, moment):
        made = compute_users(plpy, memory, found, events, which, moment)
        mark(kept, ends, made.user_ids)
        stored = among(made.user_ids, ends) if todo.users is None else None
        new += store(plpy, memory, number, moment, made, stored)
        events_read += len(events.t_us)
        computed += len(made.user_ids)
    removed = forget(plpy, memory, number, ends[~kept])
    users = before + new - removed
    if users == 0:
        refuse_nothing(plpy, memory, found, moment)
    return users, removed, events_read, computed


def among(users: "I64", stored: "I64") -> "NDArray[Any]":
    """(n,) whether each of `users` is among `stored` (ascending)."""
    import numpy as np

    if not len(stored):
        return np.zeros(len(users), np.bool_)
    place = np.minimum(np.searchsorted(stored, users), len(stored) - 1)
    found: NDArray[Any] = stored[place] == users
    return found


def mark(kept: "NDArray[Any]", ends: "I64", users: "I64") -> None:
    """Sets `kept` where a user of `ends` (ascending) is among `users`."""
    import numpy as np

    kept[np.searchsorted(ends, users[among(users, ends)])] = True


def work(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, todo: Todo, moment: Moment
) -> "Iterator[tuple[Events, I64]]":
    """Events in batches of whole users, each with the indices of the users to compute."""
    import numpy as np

    from ubp_sql.api.events import read_all, read_users

    kinds, columns = found.definition.kinds, found.definition.columns
    if todo.users is None or _in_passing(plpy, memory, len(todo.users), todo.total):
        for events in read_all(plpy, memory, kinds, columns, known_at_us=moment.us):
            which = np.arange(len(events.user_id))
            if todo.users is not None:
                wanted = np.zeros(len(which), np.bool_)
                mark(wanted, events.user_id, todo.within(events.user_id))
                which = which[wanted]
            yield events, which
        return
    size = FIRST_BATCH
    low = 0
    while low < len(todo.users):
        part = todo.users[low : low + size]
        low += size
        some = read_users(plpy, memory, kinds, columns, part.tolist())
        if some is not None:
            yield some, np.arange(len(some.user_id))
            size = max(1, min(MOST_USERS, 4 * size, BATCH_EVENTS * len(part) // max(1, len(some.t_us))))


def _in_passing(plpy: Any, memory: dict[str, Any], users: int, stored: int) -> bool:
    """Whether so many users are computed sooner by reading all events than by looking theirs up."""
    if users <= stored // USERS_A_LOOK_UP:
        return False
    events = run(plpy, memory, MIRRORED, [], [])[0]["events"]
    return bool(users > stored // USERS_A_LOOK_UP + events // EVENTS_A_LOOK_UP)


def refuse_nothing(plpy: Any, memory: dict[str, Any], found: FeatureSet, moment: Moment) -> None:
    """No row is left: right when the events are gone, a mistake in the moment when there are some."""
    row = single(plpy, memory, ANY_EVENT, ["text[]"], [list(found.definition.kinds)])
    if found.as_of is None or (row is not None and row["found"]):
        raise NotReady(
            f"no event of {', '.join(found.definition.kinds)} was known by {moment.text}",
            "load events or move as_of; a plain INSERT is known from its ingested_at on, which is now() by default",
        )


def move(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, moment: Moment, users: int, *, keep_stale: bool = False
) -> None:
    """The set's one moment, together with the rows that speak of it."""
    types = ["integer", "timestamptz", "bigint", "smallint", "bigint", "boolean"]
    arguments = [found.feature_set_id, moment.text, moment.us, moment.weekday, users, keep_stale]
    run(plpy, memory, MOVE, types, arguments)
