"""Rows of ubp.events on their way into the mirror: all of them, those of an id range, all of some users."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ubp_sql.api.heap import (
    ALL_OF_USERS,
    CODED,
    EVENTS,
    OF_BLOCKS,
    OF_IDS,
    PAGE_OF_USER,
    Found,
    declared_columns,
    number_kinds,
    read_rows,
    rows_query,
)
from ubp_sql.api.session import run, single
from ubp_sql.errors import NotReady

if TYPE_CHECKING:
    from ubp_sql.mirror.layout import Block

PORTION = 1 << 18
"""Events asked for at a time: sorting them takes less than 100 ms."""
LEAVES = """
select t.relid::regclass::text as name, has_table_privilege(t.relid, 'select') as readable,
       pg_relation_size(t.relid) / current_setting('block_size')::bigint as blocks
  from pg_partition_tree('ubp.events') t where t.isleaf order by t.relid"""
FIRST_BLOCKS = 512
BEFORE_US = -3_000_000_000_000_000
"""In 1874, before every event: the table's check wants 1900 or later."""
SIZES = """
select string_agg(int8send(x.user_id), '') as users, string_agg(int8send(x.n), '') as sizes
  from (select e.user_id, count(*) as n from ubp.events e where e.user_id = any ($1)
         group by e.user_id order by e.user_id) x"""


SOURCES = "select coalesce(array_agg(s.source_id), '{}') as ids from ubp.sources s"


class Sink(Protocol):
    """Where blocks go."""

    def add(self, block: "Block") -> None:
        """Takes a sorted block."""


class Reader:
    """Reads rows, a portion at a time.

    sink       gets them, in blocks with the mirror's numbers for kinds
    new_kinds  kinds that have no number yet get one (a function that may not write hands them on as 0)
    """

    def __init__(self, plpy: Any, memory: dict[str, Any], sink: Sink, *, new_kinds: bool = True) -> None:
        self._plpy, self._memory, self._sink, self._new_kinds = plpy, memory, sink, new_kinds
        self.declared = declared_columns(plpy, memory)
        self.unknown_sources = False
        self.sources: list[int] = run(plpy, memory, SOURCES, [], [])[0]["ids"]
        """Sources that had a row before anything was read."""

    def everything(self) -> None:
        """All rows, each partition from its first block to its last, as the file lies.

        Nothing is asked for in order of users: an index would fetch each block once per portion. Rows that others
        insert, move or change meanwhile are in the event log.

        Raises NotReady (UB005) where a partition belongs to somebody else.
        """
        for leaf in run(self._plpy, self._memory, LEAVES, [], []):
            if not leaf["readable"]:
                hint = f"alter table {leaf['name']} owner to ubp_owner"
                raise NotReady(f"partition {leaf['name']} of ubp.events is not ubp_owner's", hint)
            low, step = 0, FIRST_BLOCKS
            while low < leaf["blocks"]:
                high = min(low + step, leaf["blocks"])
                arguments = [f"({low},0)", f"({high},0)"]
                n = self._read(OF_BLOCKS, ["tid", "tid"], arguments, relation=leaf["name"])
                step = max(1, min(4 * step, int(step * PORTION / max(1, n) * 0.9)))
                low = high

    def said(self, ranges: "Sequence[tuple[int, int, int, int]]", users: "Sequence[int]") -> None:
        """What the log speaks of: events by ranges of ids and times, and all there is of some users."""
        for part in ranges:
            self.ids(*part)
        if users:
            self.users(users)

    def ids(self, low: int, high: int, from_us: int, until_us: int) -> None:
        """Events of an id range and times from `from_us` to `until_us`, microseconds since 1970."""
        types = ["bigint"] * 4
        for start in range(low, high + 1, PORTION):
            self._read(OF_IDS, types, [start, min(high, start + PORTION - 1), from_us, until_us])

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
            part = everyone[low : low + PORTION].tolist()
            row = single(self._plpy, self._memory, SIZES, ["bigint[]"], [part])
            if row is None or row["users"] is None:
                continue
            found, sizes = np.frombuffer(row["users"], ">i8"), np.frombuffer(row["sizes"], ">i8")
            big = sizes > PORTION
            ends = np.diff(np.cumsum(sizes) // PORTION) | big[1:] | big[:-1]
            for batch in np.split(np.arange(len(found)), np.flatnonzero(ends) + 1):
                if big[batch[0]]:
                    self._pages(int(found[batch[0]]))
                else:
                    self._read(ALL_OF_USERS, ["bigint[]"], [found[batch].tolist()])

    def _pages(self, user: int) -> None:
        """One user's events in the order of time, a portion at a time."""
        t, event_id = BEFORE_US, 0
        while True:
            found = self._found(PAGE_OF_USER, ["bigint"] * 4, [user, t, event_id, PORTION])
            if found.block is None:
                return
            last = found.block.columns["t"] == found.block.columns["t"][-1]
            t = int(found.block.columns["t"][-1])
            event_id = int(found.block.columns["event_id"][last].max())
            self._sink.add(found.block)

    def _names(self) -> list[str]:
        from ubp_sql.mirror.layout import BASE

        return [*BASE, *(column.name for column in self.declared)]

    def _read(self, where: str, types: list[str], arguments: list[Any], relation: str = EVENTS) -> int:
        block = self._found(where, types, arguments, relation).block
        if block is None:
            return 0
        self._sink.add(block)
        return block.n

    def _found(self, where: str, types: list[str], arguments: list[Any], relation: str = EVENTS) -> Found:
        query = rows_query(self._plpy, CODED, where, self.declared, relation)
        # A plan for each partition would stay with the session.
        plans = self._memory if relation == EVENTS else None
        found = read_rows(self._plpy, plans, query, types, arguments, self.declared)
        if found.new_kinds and self._new_kinds:
            number_kinds(self._plpy, where, types, arguments, relation)
            found = read_rows(self._plpy, plans, query, types, arguments, self.declared)
        self.unknown_sources |= found.unknown_sources
        return found
