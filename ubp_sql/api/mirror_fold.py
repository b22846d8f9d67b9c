"""The one consumer of ubp.event_log: folds what statements logged into the mirror, and says whose features changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api import mirror_store as store
from ubp_sql.api.mirror_items import with_users_about
from ubp_sql.api.mirror_rows import Reader
from ubp_sql.api.session import run, single

if TYPE_CHECKING:
    from ubp_sql.mirror.spill import Portions

# What the log says, with id ranges that lie close together as one. `{log}` is where the rows come from.
SAID = """
islands as (
  select g.*, sum((g.before is null or g.min_id::numeric > g.before::numeric + 1000)::integer)
                over (order by g.min_id, g.log_id) as island
    from (select l.*, max(l.max_id) over (order by l.min_id, l.log_id
                                          rows between unbounded preceding and 1 preceding) as before
            from log l where l.op = 'I' and l.users is null) g
)
select 'I' as op, min(min_id) as min_id, max(max_id) as max_id,
       (extract(epoch from min(min_time)) * 1000000)::bigint as from_us,
       (extract(epoch from max(max_time)) * 1000000)::bigint as until_us, null::bytea as users
  from islands group by island
union all
select 'U', null, null, null, null, string_agg(int8send(x.user_id), '' order by x.user_id)
  from (select distinct u.user_id from log l cross join unnest(l.users) as u (user_id)) x
having count(*) > 0
union all
select distinct l.op, null::bigint, null::bigint, null::bigint, null::bigint, null::bytea
  from log l where l.op in ('T', 'R')
union all
select 'A', null, null, null, null,
       string_agg(int8send(x.item_id) || timestamptz_send(x.since) || timestamptz_send(x.known), '' order by x.item_id)
  from (select coalesce(i.item_id, '-9223372036854775808') as item_id, min(l.min_time) as since,
               min(l.min_ingested) as known
          from log l left join lateral unnest(l.items) as i (item_id) on true
         where l.op = 'A' group by 1) x
having count(*) > 0 and exists (select from ubp.event_columns c where c.of = 'item')"""
CONSUME = "with log as (delete from ubp.event_log returning *), " + SAID  # noqa: S608 - constants only
LOOK = "with log as (select * from ubp.event_log), " + SAID  # noqa: S608
# Triggers that somebody's DDL made unheard: a partition that is gone from the tree, or came into it without them.
PARTS = """
select coalesce(array_agg(t.relid::oid order by t.relid), '{}')::text as now,
       exists (select from unnest(s.partitions) as p (relid)
                where s.database = (select d.oid from pg_database d where d.datname = current_database())
                  and not exists (select from pg_partition_tree('ubp.events') x where x.relid = p.relid)) as gone,
       s.partitions is null as first
  from ubp.mirror_state s left join pg_partition_tree('ubp.events') t on true group by s.singleton"""
KEEP_PARTS = """
update ubp.mirror_state set partitions = $1::text::oid[],
       database = (select d.oid from pg_database d where d.datname = current_database())
 where partitions is distinct from $1::text::oid[]
    or database is distinct from (select d.oid from pg_database d where d.datname = current_database())"""
WATCH = "select ubp.watch_event_partitions() as made"
DIRTY = """
insert into ubp.dirty_users (feature_set_id, user_id)
select s.feature_set_id, u.user_id from ubp.feature_sets s cross join unnest($1::text::bigint[]) as u (user_id)
 where s.feature_set_id is distinct from $2
    on conflict do nothing"""
STALE = "update ubp.feature_sets set stale = true where not stale"
# Who describes a source looks for runs that met it as unknown, and cannot see the one that is being written: from here
# on nobody gets past that look before our commit, and whoever did makes the next fold build the mirror anew. An older
# snapshot would not show it.
HOLD_SOURCES = "lock table ubp.sources in share mode"
DESCRIBED = """
insert into ubp.event_log (op)
select 'T' where current_setting('transaction_isolation') <> 'read committed'
              or exists (select from ubp.sources s where s.time_zone <> 'UTC' and s.source_id <> all ($1))"""
USERS_A_STATEMENT = 50_000
MOST_DIRTY = 1_000_000
"""With more users than these everybody is computed anew."""


class Folded(NamedTuple):
    """What a fold did: events it read, users it found changed (None: all may be).

    taken  those users, ascending, of a fold that a set's refresh asked for: they are not on the set's list
    """

    events: int
    users: int | None
    taken: Sequence[int] = ()


class Said(NamedTuple):
    """What the log says: `everything` may have changed; the mirror must be made `anew`.

    items  whose attributes changed, as `with_users_about` reads it; empty while no event column is of the item
    """

    everything: bool
    anew: bool
    ranges: list[tuple[int, int, int, int]]
    users: list[int]
    items: bytes = b""


def listen(rows: Any) -> Said:
    """Rows of CONSUME or LOOK."""
    from struct import unpack

    ranges, users, items = [], [], b""
    ops = {row["op"] for row in rows}
    for row in rows:
        if row["op"] == "I":
            ranges.append((row["min_id"], row["max_id"], row["from_us"], row["until_us"]))
        elif row["op"] == "U":
            users = list(unpack(f">{len(row['users']) // 8}q", row["users"]))
        elif row["op"] == "A":
            items = row["users"]
    return Said("T" in ops, "R" in ops, sorted(ranges), users, items)


def fold(plpy: Any, memory: dict[str, Any], refreshing: int | None = None) -> Folded:
    """Consumes the event log: a run of the mirror, or the mirror itself where there is none; dirty users, stale sets.

    refreshing  a feature set whose dirty users the caller takes: it gets those of this fold without their being written

    The lock comes first, then the log's rows go, then the events are read: what is read is no older than what the rows
    spoke of, so nothing is lost, and an event that is read again with a later row of the log is dropped by its key.
    """
    run(plpy, memory, store.LOCK, [], [])
    unheard = _parts(plpy, memory)
    said = listen(run(plpy, memory, CONSUME, [], []))
    now = store.state(plpy, memory)
    if now.built and not said.anew:
        said = with_users_about(plpy, memory, said, store.metas_of_runs(plpy, memory))
    everything = said.everything or unheard or len(said.users) > MOST_DIRTY or bool(said.items)
    if everything:
        run(plpy, memory, STALE, [], [])
    if now.enabled and (everything or said.anew or not now.built):
        if not everything and (said.ranges or said.users):
            everything = True
            run(plpy, memory, STALE, [], [])
        return Folded(build(plpy, memory), None if everything else 0)
    if everything:
        return Folded(0, None)
    if not said.ranges and not said.users:
        return Folded(0, 0)
    from ubp_sql.mirror.spill import Portions

    portions = Portions(store.temporary_folder())
    reader = Reader(plpy, memory, portions)
    reader.said(said.ranges, said.users)
    taken: list[int] = []
    users = _write(plpy, memory, reader, portions, refreshing, taken, mirrored=now.built)
    if now.built:
        store.changed(plpy, memory, built=True)
        from ubp_sql.api.mirror_compact import compact

        compact(plpy, memory)
    return Folded(portions.events, users, taken if refreshing is not None else ())


def build(plpy: Any, memory: dict[str, Any]) -> int:
    """Makes the mirror from all events; returns how many. The lock is held, the log has been consumed."""
    from ubp_sql.mirror.merge import merged
    from ubp_sql.mirror.spill import Portions

    old = [found.run_id for found in store.runs(plpy, memory)]
    portions = Portions(store.temporary_folder())
    reader = Reader(plpy, memory, portions)
    reader.everything()
    writer = store.RunWriter(
        plpy, memory, "build", reader.declared, oldest=True, unknown_sources=reader.unknown_sources
    )
    for block in merged(portions.cursors()):
        writer.add(block)
    writer.close()
    _described(plpy, memory, reader)
    if old:
        store.delete_runs(plpy, memory, old)
    store.changed(plpy, memory, built=True, anew=True)
    return writer.events


def _write(
    plpy: Any,
    memory: dict[str, Any],
    reader: Reader,
    portions: "Portions",
    refreshing: int | None,
    taken: list[int],
    *,
    mirrored: bool,
) -> int | None:
    """Writes the portions as a run and their users as dirty, into `taken` too; returns how many, None for everybody."""
    from ubp_sql.mirror.merge import merged

    writer = None
    if mirrored:
        unknown = reader.unknown_sources
        writer = store.RunWriter(plpy, memory, "fold", reader.declared, unknown_sources=unknown)
    pending: list[int] = []
    users, last = 0, None
    for block in merged(portions.cursors()):
        if writer is not None:
            writer.add(block)
        ids = block.user_id.tolist()
        fresh = ids[1:] if ids and ids[0] == last else ids
        last = ids[-1] if ids else last
        users += len(fresh)
        if users <= MOST_DIRTY:
            pending += fresh
            taken += fresh
        while len(pending) >= USERS_A_STATEMENT:
            _dirty(plpy, memory, pending[:USERS_A_STATEMENT], refreshing)
            pending = pending[USERS_A_STATEMENT:]
    if pending:
        _dirty(plpy, memory, pending, refreshing)
    if writer is not None:
        writer.close()
        _described(plpy, memory, reader)
    if users > MOST_DIRTY:
        run(plpy, memory, STALE, [], [])
        return None
    return users


def _described(plpy: Any, memory: dict[str, Any], reader: Reader) -> None:
    """Sees to it that a source which got its row while its events were read gets its clock."""
    if reader.unknown_sources:
        run(plpy, memory, HOLD_SOURCES, [], [])
        run(plpy, memory, DESCRIBED, ["integer[]"], [reader.sources])


def _dirty(plpy: Any, memory: dict[str, Any], users: list[int], refreshing: int | None) -> None:
    run(plpy, memory, DIRTY, ["text", "integer"], ["{" + ",".join(map(str, users)) + "}", refreshing])


def _parts(plpy: Any, memory: dict[str, Any]) -> bool:
    """Whether partitions came or went without a word in the log; from now on those that are there are listened to."""
    row = single(plpy, memory, PARTS, [], [])
    made = single(plpy, memory, WATCH, [], [])
    if row is None or made is None:
        return False
    run(plpy, memory, KEEP_PARTS, ["text"], [row["now"]])
    return bool(row["gone"] or made["made"])
