"""Compares the mirror with the events where they lie, one by one, in the caller's snapshot."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ubp_sql.api import mirror_sources as attached
from ubp_sql.api import mirror_store as store
from ubp_sql.api.event_rows import origins
from ubp_sql.api.mirror_fold import Said, look
from ubp_sql.api.mirror_items import with_users_about
from ubp_sql.api.mirror_rows import Reader
from ubp_sql.api.session import Row, check_version, entry, run, touch
from ubp_sql.errors import BadInput

if TYPE_CHECKING:
    from ubp_sql.mirror.layout import Block

# Statement triggers that are missing or switched off; ALTER TABLE ... ENABLE REPLICA hears only replicated statements.
UNHEARD = """
select t.relid::regclass::text as name
  from (select p.relid from pg_partition_tree('ubp.events') p union all select 'ubp.item_attributes') t
  cross join unnest(array['log_insert', 'log_update', 'log_delete', 'log_truncate']) as w (name)
  left join pg_trigger g on g.tgrelid = t.relid and g.tgname::text = w.name and g.tgenabled in ('O', 'A')
 where g.oid is null group by t.relid order by t.relid"""
MISSHAPEN = """
select c.chunk_id from ubp.mirror_chunks c
 where octet_length(c.user_ids) <> 8 * c.users or octet_length(c.firsts) <> 4 * c.users
    or octet_length(c.complete_users) <> c.users or (c.complete is null) <> (c.complete_users is not null)
    or c.first_user > c.last_user
    or case when octet_length(c.forms) <> 16 * (10 + coalesce(cardinality(c.extras), 0)) then true
       else exists (
         select from unnest(array[c.t, c.ingested, c.event_id, c.kind, c.item, c.order_key, c.value, c.quantity,
                                  c.duration_s, c.offset_s] || c.extras) with ordinality as x (raw, place)
          where octet_length(x.raw) <> get_byte(c.forms, 16 * (x.place::integer - 1)) * c.n
             or (x.raw is not null and get_byte(c.forms, 16 * (x.place::integer - 1)) <> all ('{1, 2, 3, 4, 6, 8}')))
       end
 order by c.chunk_id"""
MOST_ROWS = 4_000_000
MOST_BUCKETS = 4096


@entry
def verify_mirror(plpy: Any, memory: dict[str, Any], most: int | None) -> Iterator[Row]:
    """Rows (problem, user_id, missing, extra, changed); none where the mirror holds what the table holds.

    Raises BadInput (UB003) where `most`, the number of users to name, is not positive.
    """
    check_version(plpy, memory)
    if most is None or most < 1:
        raise BadInput(f"{most} users to name", "a number from 1")
    return _problems(plpy, memory, most)


def _problems(plpy: Any, memory: dict[str, Any], most: int) -> Iterator[Row]:
    for row in run(plpy, memory, UNHEARD, [], []):
        yield _row(f"statements on {row['name']} are not logged: a trigger is missing or switched off")
    for row in attached.problems(plpy, memory):
        yield _row(f"source {row['source']}: {row['problem']}; {row['way_out']}")
    now = store.state(plpy, memory)
    said = look(plpy, memory, origins(plpy, memory))
    if not now.built:
        yield _row("there is no mirror: ubp.build_mirror() makes it")
        return
    if said.everything or said.anew:
        yield _row("not compared: the event log has the next refresh, or ubp.build_mirror(), make the mirror anew")
        return
    broken = [row["chunk_id"] for row in run(plpy, memory, MISSHAPEN, [], [])]
    if broken:
        yield _row(f"chunks have columns of wrong length: {', '.join(map(str, broken[:20]))}")
        return
    said = with_users_about(plpy, memory, said, store.metas_of_runs(plpy, memory))
    yield from _compared(plpy, memory, said, most)


def _compared(plpy: Any, memory: dict[str, Any], said: Said, most: int) -> Iterator[Row]:
    from ubp_sql.mirror.compare import BUCKETS, Rows, Sums, in_order

    sums = Sums()
    shuffled = 0

    def look(block: "Block", side: int) -> None:
        nonlocal shuffled
        shuffled += side and not in_order(block)
        sums.add(block, side)

    _both(plpy, memory, said, look)
    if shuffled:
        yield _row("events lie in chunks out of order")
    differing = sums.differing()
    if not len(differing):
        return
    room = max(1, min(MOST_BUCKETS, MOST_ROWS * BUCKETS // max(1, *sums.events)))
    rows = Rows(differing[:room])
    _both(plpy, memory, said, rows.add)
    found = list(rows.differences())
    part = "" if len(differing) <= room else f", of {room:,} of {len(differing):,} groups of users that differ"
    yield _row(
        f"there are {sums.events[0]:,} events, the mirror has {sums.events[1]:,}; {len(found):,} users differ{part}: "
        "ubp.rebuild_mirror() mends it",
        None,
        *(sum(one[place] for one in found) for place in (1, 2, 3)),
    )
    for one in found[:most]:
        yield _row("events differ", *one)


def _both(plpy: Any, memory: dict[str, Any], said: Said, take: "Callable[[Block, int], None]") -> None:
    """Hands on all events as they lie, then all of the mirror with what waits in the log, block by block.

    What lies beyond a watermark is for the next fold.
    """
    from ubp_sql.mirror.layout import BASE
    from ubp_sql.mirror.merge import Cursor, merged
    from ubp_sql.mirror.spill import TOGETHER, Portions

    class Table:
        def add(self, block: "Block") -> None:
            take(block, 0)

    reader = Reader(plpy, memory, Table(), settles=False)
    reader.everything(attached.seen(reader.origins))
    portions = Portions(store.temporary_folder())
    Reader(plpy, memory, portions, settles=False).said(said.ranges, said.users)
    runs = store.runs(plpy, memory)
    names = [*BASE, *(column.name for column in reader.declared)]
    together = TOGETHER // max(1, len(runs))
    cursors: list[Cursor] = [
        store.cursor(plpy, memory, store.metas(plpy, memory, one.run_id), names, reader.declared, together)
        for one in runs
    ]
    for block in merged([*cursors, *portions.cursors()]):
        take(block, 1)
        touch(plpy, memory)


def _row(problem: str, user_id: int | None = None, *figures: int) -> Row:
    missing, extra, changed = figures or (None, None, None)
    return {"problem": problem, "user_id": user_id, "missing": missing, "extra": extra, "changed": changed}
