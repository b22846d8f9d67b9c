"""One user's rows as slices: those that the mirror does not hold yet, or all where it is of no use."""

import sys
from array import array
from typing import Any

from ubp_sql.api.event_rows import Origin, origins
from ubp_sql.api.heap import LISTED, OF_USERS, OF_USERS_AND_IDS, declared_columns, rows_query
from ubp_sql.api.live_set import LiveSet
from ubp_sql.api.mirror_fold import look
from ubp_sql.api.session import Row, run
from ubp_sql.api.source_rows import Where
from ubp_sql.kernels.live_layout import SENT

# Whether what is said of items now, and was not when the mirror was made, is about events of the user.
OF_HIS_ITEMS = """
select exists (select from ubp.event_log l
                 join ubp.event_rows() e on e.event_time >= l.min_time and e.ingested_at >= l.min_ingested
                                  and (l.items is null or e.item_id = any (l.items))
                where l.op = 'A' and e.user_id = $1) as found"""

# The server takes ids that it does not know for half a percent of a relation, so it plans the query of an attached one
# anew for each user: 0.35 ms, of 0.45.
PLANS = """
select current_setting('plan_cache_mode') as before, set_config('plan_cache_mode', $1, true)"""
Part = tuple[Origin, list[int]]
"""Where events lie, and from which id to which, at which times; all of them without."""


def pending_rows(plpy: Any, memory: dict[Any, Any], found: LiveSet, user_id: int) -> list[Row] | None:
    """The user's rows that the event log speaks of; None where all of his events have to be read."""
    everywhere = origins(plpy, memory)
    said = look(plpy, memory, everywhere)
    if said.everything or said.anew or user_id in said.users:
        return None
    if said.items and run(plpy, memory, OF_HIS_ITEMS, ["bigint"], [user_id])[0]["found"]:
        return None
    numbers = {origin.number: origin for origin in everywhere}
    parts = [(numbers[part.origin], list(part[:4])) for part in said.ranges if part.origin in numbers]
    return _sent(plpy, memory, found, OF_USERS_AND_IDS, user_id, parts)


def all_rows(plpy: Any, memory: dict[Any, Any], found: LiveSet, user_id: int) -> list[Row]:
    """All of the user's rows."""
    parts: list[Part] = [(origin, []) for origin in origins(plpy, memory)]
    return _sent(plpy, memory, found, OF_USERS, user_id, parts)


def _sent(
    plpy: Any, memory: dict[Any, Any], found: LiveSet, where: Where, user_id: int, parts: list[Part]
) -> list[Row]:
    """The user's rows of each part that has some."""
    rows = []
    kinds, before = list(found.plan.kinds), None
    if any(origin.source for origin, _ in parts):
        before = run(plpy, memory, PLANS, ["text"], ["force_generic_plan"])[0]["before"]
    try:
        for origin, ids in parts:
            query, types = _query(plpy, memory, found, where, origin), ["text[]", "bigint[]", *["bigint"] * len(ids)]
            rows += run(plpy, memory, query, types, [kinds, [user_id], *ids])
    finally:
        if before is not None:
            run(plpy, memory, PLANS, ["text"], [before])
    return [row for row in rows if row["user_id"] is not None]


def _query(plpy: Any, memory: dict[Any, Any], found: LiveSet, where: Where, origin: Origin) -> str:
    """Kept by set, condition and origin: a query is a long text."""
    key = ("rows", found.feature_set_id, found.hash, tuple(found.positions or ()), where, origin.key)
    query: str | None = memory.get(key)
    if query is None:
        names = {column.name for column in found.columns}
        declared = [column for column in declared_columns(plpy, memory) if column.name in names]
        query = memory[key] = rows_query(plpy, LISTED, where, declared, origin)
    return query


def add_sent(found: LiveSet, row: Row, table: list[int], longs: list[bytes], shorts: list[bytes]) -> None:
    """Appends a row of heap.HEAD as a slice to a table and to its packed columns."""
    extras = sorted({column.extra for column in found.columns if column.extra >= 0})
    n = len(row["t"]) // 8
    parts = [_longs(row["t"]), _longs(row["ingested"]), _longs(row["event_id"])]
    marks, offsets = _shorts(row["marks"]), _shorts(row["offset_s"])
    for column in found.columns:
        if column.extra >= 0:
            parts.append(_longs(row[f"x{1 + extras.index(column.extra)}"]))
        elif column.name in ("quantity", "duration_s"):
            parts.append(array("d", swapped("f", row[column.name])).tobytes())
        else:
            parts.append(_longs(row[column.name]))
    sizes = [len(part) // 8 for part in parts]
    table += [n, SENT, 0]
    for size in (*sizes[:3], len(marks) // 4, len(offsets) // 4, *sizes[3:]):
        table += (0, size)
    longs += parts
    shorts += [marks, offsets]


def _longs(sent: bytes | None) -> bytes:
    return swapped("q", sent).tobytes()


def _shorts(sent: bytes | None) -> bytes:
    return swapped("i", sent).tobytes()


def swapped(code: str, sent: bytes | None) -> "array[Any]":
    """Big-endian numbers, none for None, in the machine's order."""
    values: array[Any] = array(code, sent or b"")
    if sys.byteorder == "little":
        values.byteswap()
    return values
