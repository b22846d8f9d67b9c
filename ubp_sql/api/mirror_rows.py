"""Rows on their way into the mirror: all of them, those of an id range, all of some users; of every origin."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ubp_sql.api.event_rows import Origin, number_keys, origins, query_origin
from ubp_sql.api.heap import (
    ALL_OF_USERS,
    CODED,
    MOMENT,
    OF_BLOCKS,
    OF_IDS,
    PAGE_OF_USER,
    Found,
    declared_columns,
    number_kinds,
    read_portions,
    read_rows,
    rows_query,
)
from ubp_sql.api.session import run
from ubp_sql.api.source_rows import Where
from ubp_sql.errors import NotReady

if TYPE_CHECKING:
    from ubp_sql.mirror.layout import Block

PORTION = 1 << 18
"""Events asked for at a time: sorting them takes less than 100 ms."""
LEAVES = """
select t.relid::regclass::text as name, has_table_privilege(t.relid, 'select') as readable,
       pg_relation_size(t.relid) / current_setting('block_size')::bigint as blocks
  from pg_partition_tree('ubp.events') t where t.isleaf order by t.relid"""
# What a relation's rows lie in; foreign ones lie in no blocks of ours.
PARTS = """
select coalesce(max(pg_relation_size(c.oid)) / current_setting('block_size')::bigint, 0) as blocks, count(*) as n,
       coalesce(bool_and(c.relkind = 'r'), true) as here
  from pg_class c
 where c.oid in (select $1::regclass union select t.relid from pg_partition_tree($1::regclass) t where t.isleaf
                  union select i.inhrelid from pg_inherits i where i.inhparent = $1::regclass) and c.relkind <> 'p'"""
FIRST_BLOCKS = 512
BEFORE_US = -3_000_000_000_000_000
"""In 1874, before every event: the table's check wants 1900 or later."""
SIZES = """
select string_agg(int8send(x.user_id), '') as users, string_agg(int8send(x.n), '') as sizes
  from (select e.user_id, count(*) as n from {relation} e where {where}
         group by e.user_id order by e.user_id) x"""
# The last id of a portion: those of others' tables may lie far apart.
LAST_ID = """
select max(x.key) as key from (select e.raw_id as key from {relation} e where {where} order by e.raw_id limit $3) x"""
BETWEEN_IDS = Where(inner="{key} >= $1 and {key} <= $2")
BEYOND_ID = Where(inner="{mark} > $1 and {mark} <= $2")
BEYOND_TIME = Where(inner=f"{{mark}} > {MOMENT.format(us='$1')} and {{mark}} <= {MOMENT.format(us='$2')}")
SOURCES = "select coalesce(array_agg(s.source_id), '{}') as ids from ubp.sources s"


class Range(NamedTuple):
    """Ids of an origin, and times in microseconds since 1970, both ends within."""

    low: int
    high: int
    from_us: int
    until_us: int
    origin: int = 0


class Mark(NamedTuple):
    """Rows of a source that no trigger watches: beyond `low` up to `high`, ids or microseconds since 1970."""

    origin: Origin
    low: int
    high: int

    @property
    def where(self) -> Where:
        """With the marks as $1 and $2."""
        return BEYOND_ID if self.origin.attached.watermark == "event_key" else BEYOND_TIME

    def from_the_first(self) -> "Mark":
        """All rows up to `high`."""
        return self._replace(low=-(2**63) if self.origin.attached.watermark == "event_key" else BEFORE_US)


class Sink(Protocol):
    """Where blocks go."""

    def add(self, block: "Block") -> None:
        """Takes a sorted block."""


class Reader:
    """Reads rows, a portion at a time.

    sink     gets them, in blocks with the mirror's numbers for kinds
    settles  kinds that have no number yet get one, and so do key texts of users and items; a function that may not
             write hands such kinds on as 0, nothing of such users, and such items as missing
    """

    def __init__(self, plpy: Any, memory: dict[str, Any], sink: Sink, *, settles: bool = True) -> None:
        self._plpy, self._memory, self._sink, self._settles = plpy, memory, sink, settles
        self.declared = declared_columns(plpy, memory)
        self.unknown_sources = False
        self.sources: list[int] = run(plpy, memory, SOURCES, [], [])[0]["ids"]
        """Sources that had a row before anything was read."""
        self.origins = origins(plpy, memory)

    def everything(self, marks: "Sequence[Mark]" = ()) -> None:
        """All rows, each partition from its first block to its last, as the file lies.

        Nothing is asked for in order of users: an index would fetch each block once per portion. Rows that others
        insert, move or change meanwhile are in the event log.

        marks  up to where to read sources that have one

        Raises NotReady (UB005) where a partition of ubp.events belongs to somebody else.
        """
        marked = {mark.origin.number: mark for mark in marks}
        for origin in self.origins:
            if origin.source is None:
                self._events()
            elif origin.number in marked:
                self.marked(marked[origin.number].from_the_first())
            elif origin.source.watermark is None:
                self._attached(origin)

    def _events(self) -> None:
        for leaf in run(self._plpy, self._memory, LEAVES, [], []):
            if not leaf["readable"]:
                hint = f"alter table {leaf['name']} owner to ubp_owner"
                raise NotReady(f"partition {leaf['name']} of ubp.events is not ubp_owner's", hint)
            self._blocks(self.origins[0], leaf["blocks"], FIRST_BLOCKS, leaf["name"])

    def _attached(self, origin: Origin) -> None:
        """Who may read a relation need not have the right to read its partitions: as many blocks of each at a time."""
        parts = run(self._plpy, self._memory, PARTS, ["text"], [origin.attached.relation])[0]
        if origin.attached.by_blocks and parts["here"]:
            self._blocks(origin, parts["blocks"], max(1, FIRST_BLOCKS // parts["n"]), None)
        else:
            self._portions(origin, Where(), [], [])

    def _blocks(self, origin: Origin, blocks: int, step: int, relation: str | None) -> None:
        low = 0
        while low < blocks:
            high = min(low + step, blocks)
            n = self._read(origin, OF_BLOCKS, ["tid", "tid"], [f"({low},0)", f"({high},0)"], relation)
            step = max(1, min(4 * step, int(step * PORTION / max(1, n) * 0.9)))
            low = high

    def marked(self, mark: "Mark") -> None:
        """New rows of a source."""
        self._portions(mark.origin, mark.where, ["bigint", "bigint"], [mark.low, mark.high])

    def _portions(self, origin: Origin, where: Where, types: list[str], arguments: list[Any]) -> None:
        """Rows that neither a block nor an id cuts."""
        if self._settles:
            number_keys(self._plpy, self._memory, where, types, arguments, origin)
            number_kinds(self._plpy, where, types, arguments, origin)
        query = rows_query(self._plpy, CODED, where, self.declared, origin, settled=self._settles, portion=PORTION)
        for found in read_portions(self._plpy, query, types, arguments, self.declared):
            if found.block is not None:
                self._sink.add(found.block)
            self.unknown_sources |= found.unknown_sources

    def said(self, ranges: "Sequence[Range]", users: "Sequence[int]") -> None:
        """What the log speaks of: events by ranges of ids and times, and all there is of some users."""
        for part in ranges:
            self.ids(part)
        if users:
            self.users(users)

    def ids(self, part: Range) -> None:
        """Events of a range, if its source is still there."""
        origin = next((one for one in self.origins if one.number == part.origin), None)
        if origin is None:
            return
        low = part.low
        while low <= part.high:
            high = self._last_id(origin, low, part.high)
            if high is None:
                return
            self._read(origin, OF_IDS, ["bigint"] * 4, [low, high, part.from_us, part.until_us])
            low = high + 1

    def _last_id(self, origin: Origin, low: int, high: int) -> int | None:
        """Up to which id a portion from `low` on goes; None where there is nothing."""
        if high - low < PORTION:
            return high
        if origin.source is None:
            return low + PORTION - 1
        arguments = [low, high, PORTION]
        found: int | None = query_origin(self._plpy, {}, LAST_ID, origin, BETWEEN_IDS, ["bigint"] * 3, arguments)[0][
            "key"
        ]
        return found

    def users(self, users: "Sequence[int]") -> None:
        """All there is of these users, who are in ascending order.

        First come entries that void whatever older runs hold; the events add to them.
        """
        import numpy as np

        from ubp_sql.mirror.layout import Block, empty, starts

        everyone = np.asarray(users, np.int64)
        none = empty(self._names(), self.declared)
        u = len(everyone)
        self._sink.add(Block(everyone, starts(np.zeros(u, np.int64)), np.ones(u, np.bool_), none.columns))
        for low in range(0, u, PORTION):
            for origin in self.origins:
                self._users(origin, everyone[low : low + PORTION].tolist())

    def _users(self, origin: Origin, part: list[int]) -> None:
        import numpy as np

        row = query_origin(self._plpy, self._memory, SIZES, origin, ALL_OF_USERS, ["bigint[]"], [part])[0]
        if row["users"] is None:
            return
        found, sizes = np.frombuffer(row["users"], ">i8"), np.frombuffer(row["sizes"], ">i8")
        big = sizes > PORTION
        ends = np.diff(np.cumsum(sizes) // PORTION) | big[1:] | big[:-1]
        for batch in np.split(np.arange(len(found)), np.flatnonzero(ends) + 1):
            if big[batch[0]]:
                self._pages(origin, int(found[batch[0]]))
            else:
                self._read(origin, ALL_OF_USERS, ["bigint[]"], [found[batch].tolist()])

    def _pages(self, origin: Origin, user: int) -> None:
        """One user's events in the order of time, a portion at a time."""
        t, event_id = BEFORE_US, 0
        while True:
            found = self._found(origin, PAGE_OF_USER, ["bigint"] * 4, [user, t, event_id, PORTION])
            if found.block is None:
                return
            last = found.block.columns["t"] == found.block.columns["t"][-1]
            t = int(found.block.columns["t"][-1])
            event_id = int(found.block.columns["event_id"][last].max())
            self._sink.add(found.block)

    def _names(self) -> list[str]:
        from ubp_sql.mirror.layout import BASE

        return [*BASE, *(column.name for column in self.declared)]

    def _read(
        self, origin: Origin, where: Where, types: list[str], arguments: list[Any], relation: str | None = None
    ) -> int:
        block = self._found(origin, where, types, arguments, relation).block
        if block is None:
            return 0
        self._sink.add(block)
        return block.n

    def _found(
        self, origin: Origin, where: Where, types: list[str], arguments: list[Any], relation: str | None = None
    ) -> Found:
        # A plan for each partition would stay with the session.
        plans = self._memory if relation is None else None
        if self._settles:
            number_keys(self._plpy, self._memory, where, types, arguments, origin, relation)
        query = rows_query(self._plpy, CODED, where, self.declared, origin, relation, settled=self._settles)
        found = read_rows(self._plpy, plans, query, types, arguments, self.declared)
        if found.new_kinds and self._settles:
            number_kinds(self._plpy, where, types, arguments, origin, relation)
            found = read_rows(self._plpy, plans, query, types, arguments, self.declared)
        self.unknown_sources |= found.unknown_sources
        return found
