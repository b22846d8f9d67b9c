"""Events out of rows as blocks: all of some users, or what waits in the log and goes over the runs of the mirror."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.api.event_rows import Origin, origins
from ubp_sql.api.heap import LISTED, OF_RANGE, OF_RANGE_AND_IDS, OF_USERS, OF_USERS_AND_IDS, read_rows, rows_query
from ubp_sql.api.source_rows import Where
from ubp_sql.features.columns import Declared

if TYPE_CHECKING:
    from ubp_sql.api.mirror_read import Mirror
    from ubp_sql.mirror.layout import Block
    from ubp_sql.mirror.merge import Cursor


def listed_rows(
    plpy: Any,
    memory: dict[str, Any],
    declared: list[Declared],
    where: Where,
    types: list[str],
    arguments: list[Any],
    everywhere: Sequence[Origin],
) -> "list[Block]":
    """Events out of rows, a block an origin that has some; the kinds asked for are the first argument."""
    blocks = []
    for origin in everywhere:
        query = rows_query(plpy, LISTED, where, declared, origin)
        block = read_rows(plpy, memory, query, ["text[]", *types], arguments, declared).block
        if block is not None:
            block.columns["kind"] -= 1  # the server counts places from 1
            blocks.append(block)
    return blocks


def listed(
    plpy: Any,
    memory: dict[str, Any],
    declared: list[Declared],
    where: Where,
    types: list[str],
    arguments: list[Any],
    everywhere: Sequence[Origin],
) -> "Block | None":
    """The same as one block."""
    from ubp_sql.mirror.merge import merge

    blocks = listed_rows(plpy, memory, declared, where, types, arguments, everywhere)
    return merge(blocks) if len(blocks) > 1 else blocks[0] if blocks else None


def overlay_of(
    plpy: Any,
    memory: dict[str, Any],
    mirror: "Mirror",
    kinds: list[str],
    declared: list[Declared],
    lowest: int,
    highest: int,
) -> "Cursor | None":
    """What waits in the log, of users from `lowest` to `highest`; None if nothing does."""
    from ubp_sql.mirror.merge import Cursor, merge
    from ubp_sql.mirror.spill import TOGETHER, pieces

    arguments: list[Any] = [lowest, highest]
    blocks = changes(plpy, memory, mirror, kinds, declared, OF_RANGE, ["bigint", "bigint"], arguments, None)
    if not blocks:
        return None
    return Cursor(pieces(merge(blocks), TOGETHER))


def changes(
    plpy: Any,
    memory: dict[str, Any],
    mirror: "Mirror",
    kinds: list[str],
    declared: list[Declared],
    where: Where,
    types: list[str],
    arguments: list[Any],
    among: Any,
) -> "list[Block]":
    """Rows that wait in the log as blocks: those of id ranges among `where`, then all of the users who changed."""
    import numpy as np

    from ubp_sql.mirror.layout import Block, starts

    if not mirror.ranges and not mirror.users:
        return []
    everywhere = origins(plpy, memory)
    blocks = []
    for part in mirror.ranges:
        both = OF_USERS_AND_IDS if where == OF_USERS else OF_RANGE_AND_IDS
        its = [origin for origin in everywhere if origin.number == part.origin]
        values = [kinds, *arguments, *part[:4]]
        blocks += listed_rows(plpy, memory, declared, both, [*types, *["bigint"] * 4], values, its)
    touched = np.array(mirror.users, np.int64)
    if where == OF_USERS:
        touched = np.intersect1d(touched, among)
    else:
        touched = touched[(touched >= arguments[0]) & (touched <= arguments[1])]
    if len(touched):
        found = listed_rows(plpy, memory, declared, OF_USERS, ["bigint[]"], [kinds, touched.tolist()], everywhere)
        none = _no_event(declared)
        u = len(touched)
        blocks.append(Block(touched, starts(np.zeros(u, np.int64)), np.ones(u, np.bool_), none))
        blocks += found
    return blocks


def _no_event(declared: list[Declared]) -> dict[str, Any]:
    """Columns of a block without events."""
    from ubp_sql.mirror.layout import BASE, empty

    return empty([*BASE, *(column.name for column in declared)], declared).columns
