"""Reads events out of the server as packed columns: binary send functions aggregated into one value a column."""

from collections.abc import Iterator
from typing import Any

from ubp_sql.api.session import run, single
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events

# One value is limited to 1 GB; two million events of 60 bytes stay far below it, and a chunk below 0.3 s of work.
CHUNK_EVENTS = 2_000_000
NO_ITEM = "'-9223372036854775808'::bigint"

# Rows reach string_agg in the subquery's order: nothing between the sort and the aggregate reorders them.
COLUMNS = f"""
select string_agg(int8send(x.user_id), '') as user_id, string_agg(timestamptz_send(x.event_time), '') as event_time,
       string_agg(timestamp_send(x.event_time at time zone x.zone), '') as local_time,
       string_agg(timestamptz_send(x.ingested_at), '') as ingested, string_agg(int4send(x.kind), '') as kind,
       string_agg(int8send(coalesce(x.item_id, {NO_ITEM})), '') as item,
       string_agg(int8send(x.order_code), '') as order,
       string_agg(float8send(coalesce(x.value, 'NaN')), '') as value
  from (
    select e.user_id, e.event_time, e.ingested_at, coalesce(s.time_zone, 'UTC') as zone, e.item_id, e.value,
           coalesce(array_position($1, e.kind), 0) - 1 as kind,
           coalesce(hashtextextended(e.attributes ->> 'order_id', 0),
                    (extract(epoch from e.event_time) * 1000000)::bigint) as order_code
      from ubp.events e left join ubp.sources s on s.source_id = e.source
     where e.kind = any ($1) and {{which}}
     order by e.user_id, e.event_time, e.ingested_at, e.event_id
  ) x"""  # noqa: S608 - constants only

OF_USER = COLUMNS.format(which="e.user_id = $2 and e.event_time < $3 and e.ingested_at <= $3")
OF_RANGE = COLUMNS.format(which="e.user_id >= $2 and e.user_id <= $3 and e.event_time < $4 and e.ingested_at <= $5")
SIZES = """
select string_agg(int8send(x.user_id), '' order by x.user_id) as users,
       string_agg(int8send(x.n), '' order by x.user_id) as sizes
  from (select user_id, count(*) as n from ubp.events where kind = any ($1) and event_time < $2 group by user_id) x"""
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def _events(row: dict[str, Any] | None) -> Events | None:
    if row is None or row["user_id"] is None:
        return None
    return Events.from_bytes(**row)


def of_user(
    plpy: Any, memory: dict[str, Any], definition: FeatureSetDefinition, user_id: int, as_of: str
) -> Events | None:
    """What was known at `as_of` of one user; None without events."""
    kinds = list(definition.kinds)
    return _events(single(plpy, memory, OF_USER, ["text[]", "bigint", "timestamptz"], [kinds, user_id, as_of]))


def in_chunks(plpy: Any, memory: dict[str, Any], kinds: list[str], until: str, known_at: str) -> Iterator[Events]:
    """All events of `kinds` before `until` that were ingested by `known_at`, by ranges of whole users."""
    import numpy as np

    sizes = single(plpy, memory, SIZES, ["text[]", "timestamptz"], [kinds, until])
    if sizes is None or sizes["users"] is None:
        return
    users = np.frombuffer(sizes["users"], ">i8")
    total = np.cumsum(np.frombuffer(sizes["sizes"], ">i8"))
    last = np.flatnonzero(np.diff(total // CHUNK_EVENTS))
    # The ends are open, so that a user who arrives between the two queries falls into a chunk too.
    ends = [int(users[i]) for i in last]
    for low, high in zip([LOWEST, *(end + 1 for end in ends)], [*ends, HIGHEST], strict=True):
        types = ["text[]", "bigint", "bigint", "timestamptz", "timestamptz"]
        found = _events(single(plpy, memory, OF_RANGE, types, [kinds, low, high, until, known_at]))
        if found is not None:
            yield found


def touch(plpy: Any, memory: dict[str, Any]) -> None:
    """Lets a pending cancel or statement timeout take effect between two chunks of a kernel."""
    run(plpy, memory, "select 1", [], [])
