"""Features of all users at one moment, stored as rows."""

import time
from typing import Any

from ubp_sql.api.catalogue import define_found_kinds
from ubp_sql.api.events import in_chunks, touch
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.session import Row, check_version, entry, prepare_numba, run, single
from ubp_sql.errors import NotReady

LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.refresh_features ' || $1, 0))"
# now() is the start of the transaction: after a wait for the lock it would lie before the other refresh's moment.
PRESENT = """
select case when $1 = now() and current_setting('transaction_isolation') = 'read committed'
            then clock_timestamp() else $1 end as as_of, $1 > clock_timestamp() as future"""
EXISTS = "select 1 as found from ubp.feature_sets where name = $1"
# A text literal becomes real[] in C at about 60 ns a number; a Python list would go element by element.
UPSERT = """
insert into ubp.feature_rows as r (feature_set_id, user_id, features, packed, as_of)
select $1, u.user_id, u.features::real[], substr($5, 1 + (u.place::integer - 1) * $6, $6), $4
  from unnest($2::bigint[], $3::text[]) with ordinality as u (user_id, features, place)
on conflict (feature_set_id, user_id) do update
   set features = excluded.features, packed = excluded.packed, as_of = excluded.as_of"""
STORED = "select string_agg(int8send(user_id), '') as users from ubp.feature_rows where feature_set_id = $1"
FORGET = "delete from ubp.feature_rows where feature_set_id = $1 and user_id = any ($2)"
MOVE = """
update ubp.feature_sets set as_of = $2, users = $3, refreshed_at = clock_timestamp() where feature_set_id = $1"""
LOG = """
insert into ubp.job_runs (job, state, started_at, finished_at, rows, detail)
values ($1, 'done', clock_timestamp() - make_interval(secs => $2), clock_timestamp(), $3, $4)"""
ROWS_A_STATEMENT = 5_000


@entry
def refresh_features(plpy: Any, memory: dict[str, Any], as_of: str | None, name: str) -> list[Row]:
    """Computes and stores every user's features at `as_of`; one row that says what was done."""
    started = time.perf_counter()
    check_version(plpy, memory)
    moment_us(plpy, memory, as_of, "UTC")
    # Two refreshes of one set would overwrite each other's moment: the second waits for the first.
    run(plpy, memory, LOCK, ["text"], [name])
    present = single(plpy, memory, PRESENT, ["timestamptz"], [as_of])
    if present is not None and present["as_of"] != as_of:
        as_of = present["as_of"]
    elif present is not None and present["future"]:
        plpy.notice(f"as_of {as_of} lies in the future: the features hold what is known today")
    if name == "default" and single(plpy, memory, EXISTS, ["text"], [name]) is None:
        define_found_kinds(plpy, memory, name)
    found = feature_set(plpy, memory, name)
    users, events, gone = _store(plpy, memory, found, str(as_of))
    if users == 0:
        raise NotReady(
            f"no event of {', '.join(found.definition.kinds)} was known by {as_of}",
            "load events or move as_of; a plain INSERT is known from its ingested_at on, which is now() by default",
        )
    run(plpy, memory, FORGET, ["integer", "bigint[]"], [found.feature_set_id, gone])
    run(plpy, memory, MOVE, ["integer", "timestamptz", "bigint"], [found.feature_set_id, as_of, users])
    seconds = time.perf_counter() - started
    detail = f'{{"events": {events}, "features": {len(found.definition.features)}}}'
    run(
        plpy, memory, LOG, ["text", "double precision", "bigint", "jsonb"], ["refresh_features", seconds, users, detail]
    )
    return [
        {
            "feature_set_name": name,
            "as_of_time": as_of,
            "users": users,
            "feature_count": len(found.definition.features),
            "events": events,
            "seconds": seconds,
        }
    ]


def _store(plpy: Any, memory: dict[str, Any], found: FeatureSet, as_of: str) -> tuple[int, int, list[int]]:
    """Writes the rows; returns how many users and events, and the users whose old row has no successor."""
    prepare_numba()
    import numpy as np

    from ubp_sql.features.compute import compute
    from ubp_sql.features.rows import array_literals

    as_of_us, local_us = moment_us(plpy, memory, as_of, found.time_zone)
    stored = single(plpy, memory, STORED, ["integer"], [found.feature_set_id])
    old = np.frombuffer(stored["users"] or b"" if stored else b"", ">i8").astype(np.int64)
    users = count = 0
    for events in in_chunks(plpy, memory, list(found.definition.kinds), as_of, as_of):
        everyone = np.arange(len(events.user_id))
        values = compute(
            events,
            found.definition,
            everyone,
            np.full(len(everyone), as_of_us),
            np.full(len(everyone), local_us),
            between_chunks=lambda: touch(plpy, memory),
        )
        for low in range(0, len(everyone), ROWS_A_STATEMENT):
            part = slice(low, low + ROWS_A_STATEMENT)
            types = ["integer", "bigint[]", "text[]", "timestamptz", "bytea", "integer"]
            ids, literals = events.user_id[part].tolist(), array_literals(values[part])
            packed = values[part].astype("<f4").tobytes()
            arguments = [found.feature_set_id, ids, literals, as_of, packed, 4 * values.shape[1]]
            run(plpy, memory, UPSERT, types, arguments)
        old = np.setdiff1d(old, events.user_id)
        users += len(everyone)
        count += len(events.t_us)
    return users, count, old.tolist()
