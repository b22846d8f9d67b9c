"""The one consumer of ubp.event_log: folds what statements logged into the mirror, and says whose features changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api import mirror_sources as attached
from ubp_sql.api import mirror_store as store
from ubp_sql.api.event_rows import Origin, origins
from ubp_sql.api.mirror_items import with_users_about
from ubp_sql.api.mirror_rows import Mark, Range, Reader
from ubp_sql.api.session import run, sent_ids, single

if TYPE_CHECKING:
    from ubp_sql.mirror.spill import Portions

# What the log says, with id ranges that lie close together as one. `log` is where the rows come from.
SAID = """
islands as (
  select g.*, sum((g.before is null or g.min_id::numeric > g.before::numeric + 1000)::integer)
                over (partition by g.origin order by g.min_id, g.log_id) as island
    from (select l.*, max(l.max_id) over (partition by l.origin order by l.min_id, l.log_id
                                          rows between unbounded preceding and 1 preceding) as before
            from log l where l.op = 'I' and l.users is null and l.keys is null) g
)
select 'I' as op, min(min_id) as min_id, max(max_id) as max_id,
       (extract(epoch from greatest(min(min_time), '1800-01-01 00:00+00')) * 1000000)::bigint as from_us,
       (extract(epoch from least(max(max_time), '2400-01-01 00:00+00')) * 1000000)::bigint as until_us,
       null::bytea as users, origin, null::text[] as keys
  from islands group by origin, island
union all
select 'U', null, null, null, null, string_agg(int8send(x.user_id), '' order by x.user_id), null, null
  from (select distinct u.user_id from {users}) x
having count(*) > 0
union all{keys}
select distinct l.op, null::bigint, null::bigint, null::bigint, null::bigint, null::bytea, null::integer, null::text[]
  from log l where l.op in ('T', 'R')
union all
select 'A', null, null, null, null,
       string_agg(int8send(x.item_id) || timestamptz_send(x.since) || timestamptz_send(x.known), '' order by x.item_id),
       null, null
  from (select coalesce(i.item_id, '-9223372036854775808') as item_id, min(l.min_time) as since,
               min(l.min_ingested) as known
          from log l left join lateral unnest(l.items) as i (item_id) on true
         where l.op = 'A' group by 1) x
having count(*) > 0 and exists (select from ubp.event_columns c where c.of = 'item')"""
# Users are those that triggers saw and, of linked ones, whose they are: of both all events are read, and the former has
# none any more.
EVERYWHERE = SAID.format(
    users="""(
    select v.user_id
      from (select u.user_id from log l cross join unnest(l.users) as u (user_id)
             union all
            select u.user_id from log l cross join unnest(l.keys) as k (key)
              join ubp.users u on u.user_key = k.key and u.tenant = 0) t
      left join ubp.user_members m on m.member_id = t.user_id
     cross join lateral (values (t.user_id), (m.user_id)) v (user_id)
     where v.user_id is not null) u""",
    keys="""
select 'K', null, null, null, null, null, l.origin, array_agg(distinct k.key)
  from log l cross join unnest(l.keys) as k (key)
 where not exists (select from ubp.users u where u.user_key = k.key and u.tenant = 0)
 group by l.origin
union all""",
)
# No source with text keys, nobody linked: without joins that find nothing, which take 0.1 ms.
HERE = SAID.format(users="log l cross join unnest(l.users) as u (user_id)", keys="")
# Triggers leave out what a row of this transaction covers already: the row is about to go.
COVERED_NO_MORE = """
select set_config('ubp.source_' || s.source_id, '', true)
  from (select 0 as source_id union all select a.source_id from ubp.attached_sources a) s"""
CONSUME = "with log as (delete from ubp.event_log returning *), " + EVERYWHERE  # noqa: S608 - constants only
LOOK_EVERYWHERE = "with log as (select * from ubp.event_log), " + EVERYWHERE  # noqa: S608
LOOK_HERE = "with log as (select * from ubp.event_log), " + HERE  # noqa: S608
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
    keys   by source the key texts of users who have no id: nobody yet but for a fold
    """

    everything: bool
    anew: bool
    ranges: list[Range]
    users: list[int]
    items: bytes = b""
    keys: Sequence[tuple[int, list[str]]] = ()


def listen(rows: Any) -> Said:
    """Rows of CONSUME, or of what `look` asks."""
    ranges, users, items, keys = [], [], b"", []
    ops = {row["op"] for row in rows}
    for row in rows:
        if row["op"] == "I" and row["min_id"] is None:
            ops.add("T")  # the trigger saw no id: the column's constraint is gone
        elif row["op"] == "I":
            ranges.append(Range(row["min_id"], row["max_id"], row["from_us"], row["until_us"], row["origin"]))
        elif row["op"] == "U":
            users = list(sent_ids(row["users"]))
        elif row["op"] == "A":
            items = row["users"]
        elif row["op"] == "K":
            keys.append((row["origin"], row["keys"]))
    return Said("T" in ops, "R" in ops, sorted(ranges), users, items, keys)


def look(plpy: Any, memory: dict[str, Any], everywhere: Sequence[Origin]) -> Said:
    """What the log says now; `everywhere` as `origins` found it."""
    texts = any(origin.source is not None and origin.source.user_type == "text" for origin in everywhere)
    if not texts and not everywhere[0].linked:
        return listen(run(plpy, memory, LOOK_HERE, [], []))
    return listen(run(plpy, memory, LOOK_EVERYWHERE, [], []))


def fold(plpy: Any, memory: dict[str, Any], refreshing: int | None = None) -> Folded:
    """Consumes the event log: a run of the mirror, or the mirror itself where there is none; dirty users, stale sets.

    refreshing  a feature set whose dirty users the caller takes: it gets those of this fold without their being written

    The lock comes first, then the log's rows go, then the events are read: what is read is no older than what the rows
    spoke of, so nothing is lost, and an event that is read again with a later row of the log is dropped by its key.
    """
    run(plpy, memory, store.LOCK, [], [])
    unheard = _parts(plpy, memory)
    gone, parts = _attached(plpy, memory)
    run(plpy, memory, COVERED_NO_MORE, [], [])
    said = listen(run(plpy, memory, CONSUME, [], []))
    everywhere = origins(plpy, memory)
    said = attached.known(plpy, memory, everywhere, said)
    marks = list(attached.marks(plpy, memory, everywhere))
    now = store.state(plpy, memory)
    if now.built and not said.anew:
        said = with_users_about(plpy, memory, said, store.metas_of_runs(plpy, memory))
    everything = said.everything or unheard or gone or len(said.users) > MOST_DIRTY or bool(said.items)
    if everything:
        run(plpy, memory, STALE, [], [])
    attached.keep_marks(plpy, memory, marks)
    if now.enabled and (everything or said.anew or not now.built):
        if not everything and (said.ranges or said.users or parts or marks):
            everything = True
            run(plpy, memory, STALE, [], [])
        return Folded(build(plpy, memory, marks), None if everything else 0)
    if everything:
        attached.know_everybody(plpy, memory, everywhere)
        return Folded(0, None)
    if parts or marks:
        said = _with_users(plpy, memory, said, parts, marks)
        marks = [mark for mark in marks if mark.origin.attached.key_type != "none"]
    if not said.ranges and not said.users and not marks:
        return Folded(0, 0)
    from ubp_sql.mirror.spill import Portions

    portions = Portions(store.temporary_folder())
    reader = Reader(plpy, memory, portions)
    for mark in marks:
        reader.marked(mark)
    reader.said(said.ranges, said.users)
    taken: list[int] = []
    users = _write(plpy, memory, reader, portions, refreshing, taken, mirrored=now.built)
    if now.built:
        store.changed(plpy, memory, built=True)
        from ubp_sql.api.mirror_compact import compact

        compact(plpy, memory)
    elif marks:
        # What sessions keep of the population goes by the version; the log said nothing of these rows.
        store.changed(plpy, memory, built=False)
    return Folded(portions.events, users, taken if refreshing is not None else ())


def _attached(plpy: Any, memory: dict[str, Any]) -> tuple[bool, list[tuple[Origin, str]]]:
    """As `attached.partitions`; nothing where nothing is attached."""
    everywhere = origins(plpy, memory)
    if len(everywhere) == 1:
        return False, []
    attached.refuse_changed(plpy, memory, everywhere)
    return attached.partitions(plpy, memory, everywhere)


def _with_users(
    plpy: Any, memory: dict[str, Any], said: Said, parts: Sequence[tuple[Origin, str]], marks: Sequence[Mark]
) -> Said:
    """What the log says, with the users of new partitions, and of new rows that only whole users tell apart."""
    users = set(said.users)
    for origin, leaf in parts:
        users.update(attached.users_of(plpy, memory, origin, leaf))
    for mark in marks:
        if mark.origin.attached.key_type == "none":
            users.update(attached.users_beyond(plpy, memory, mark))
    return said._replace(users=sorted(users))


def build(plpy: Any, memory: dict[str, Any], marks: Sequence[Mark]) -> int:
    """Makes the mirror from all events; returns how many. The lock is held, the log has been consumed.

    marks  up to where to read sources that no trigger watches
    """
    from ubp_sql.mirror.merge import merged
    from ubp_sql.mirror.spill import Portions

    old = [found.run_id for found in store.runs(plpy, memory)]
    portions = Portions(store.temporary_folder())
    reader = Reader(plpy, memory, portions)
    reader.everything(marks)
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
