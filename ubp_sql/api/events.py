"""Reads events of some users, or of all by ranges of whole users: from the mirror where it is right, else from rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.api import mirror_store as store
from ubp_sql.api.event_rows import origins
from ubp_sql.api.heap import OF_RANGE, OF_USERS, declared_columns
from ubp_sql.api.mirror_overlay import listed, listed_rows, overlay_of
from ubp_sql.api.mirror_read import batches, mirror_now, users_of
from ubp_sql.api.session import single
from ubp_sql.features.columns import KEYS, NUMBERS, Columns, Declared

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.mirror.layout import Block

# One value is limited to 1 GB; a million events of 60 bytes stay far below it, and a batch below 0.3 s of work.
BATCH_EVENTS = 1_000_000
LOWEST, HIGHEST = store.LOWEST, store.HIGHEST
SIZES = """
select string_agg(int8send(x.user_id), '' order by x.user_id) as users,
       string_agg(int8send(x.n), '' order by x.user_id) as sizes
  from (select e.user_id, count(*) as n from ubp.event_rows() e
         where e.kind = any ($1) and e.user_id >= $2 and e.user_id <= $3 group by e.user_id) x"""


def read_users(
    plpy: Any, memory: dict[str, Any], kinds: Sequence[str], columns: Columns, users: Sequence[int]
) -> "Events | None":
    """Events of `kinds` of those users who have any; None if nobody has.

    kinds    the definition's: `Events.kind` is the index here
    columns  what to read beside user, time, ingestion and kind
    """
    declared = _declared(plpy, memory, columns)
    mirror = mirror_now(plpy, memory, list(kinds))
    if mirror is None:
        arguments = [list(kinds), list(users)]
        found = listed(plpy, memory, declared, OF_USERS, ["bigint[]"], arguments, origins(plpy, memory))
        return None if found is None else _events(found, columns)
    block = users_of(plpy, memory, mirror, list(kinds), columns, declared, users)
    return None if block is None else _events(block, columns)


def read_with(
    plpy: Any, memory: dict[str, Any], kinds: Sequence[str], columns: Columns, user_id: int, hypothetical: str
) -> "Events | None":
    """As `read_users` of one user and further events of his, as hypothetical.py has them; from rows, not the mirror."""
    from ubp_sql.api.hypothetical import block_of
    from ubp_sql.mirror.merge import merge

    declared = _declared(plpy, memory, columns)
    arguments = [list(kinds), [user_id]]
    blocks = listed_rows(plpy, memory, declared, OF_USERS, ["bigint[]"], arguments, origins(plpy, memory))
    block = block_of(plpy, memory, kinds, declared, user_id, hypothetical)
    if block is not None:
        blocks.append(block)
    return _events(merge(blocks), columns) if blocks else None


def read_all(
    plpy: Any,
    memory: dict[str, Any],
    kinds: Sequence[str],
    columns: Columns,
    low: int | None = None,
    high: int | None = None,
    known_at_us: int | None = None,
) -> "Iterator[Events]":
    """Events of `kinds` of all users from `low` to `high`, whole users in ascending order, in batches.

    Events of other kinds may come too, as kind -1, and users who have only such.
    A batch has at most about BATCH_EVENTS events, or one user. With `known_at_us`, ingestion times at or before it may
    come as any other such time: nothing is read then to tell them apart.
    """
    lowest, highest = LOWEST if low is None else low, HIGHEST if high is None else high
    declared = _declared(plpy, memory, columns)
    mirror = mirror_now(plpy, memory, list(kinds))
    if mirror is None:
        yield from _heap(plpy, memory, list(kinds), columns, declared, lowest, highest)
        return
    overlay = overlay_of(plpy, memory, mirror, list(kinds), declared, lowest, highest)
    for block in batches(plpy, memory, mirror, columns, lowest, highest, overlay, known_at_us, BATCH_EVENTS):
        yield _events(block, columns)


def _heap(
    plpy: Any,
    memory: dict[str, Any],
    kinds: list[str],
    columns: Columns,
    declared: list[Declared],
    lowest: int,
    highest: int,
) -> "Iterator[Events]":
    """From rows: batches of users by their number of events."""
    import numpy as np

    sizes = single(plpy, memory, SIZES, ["text[]", "bigint", "bigint"], [kinds, lowest, highest])
    if sizes is None or sizes["users"] is None:
        return
    users = np.frombuffer(sizes["users"], ">i8")
    total = np.cumsum(np.frombuffer(sizes["sizes"], ">i8"))
    last = np.flatnonzero(np.diff(total // BATCH_EVENTS))
    # The ends are open, so that a user who arrives between the two queries falls into a batch too.
    ends = [int(users[i]) for i in last]
    everywhere = origins(plpy, memory)
    for start, end in zip([lowest, *(end + 1 for end in ends)], [*ends, highest], strict=True):
        arguments = [kinds, start, end]
        block = listed(plpy, memory, declared, OF_RANGE, ["bigint", "bigint"], arguments, everywhere)
        if block is not None:
            yield _events(block, columns)


def _declared(plpy: Any, memory: dict[str, Any], columns: Columns) -> list[Declared]:
    """Those of ubp.event_columns that are asked for."""
    wanted = {*columns.numbers, *columns.keys} - {*NUMBERS, *KEYS}
    return [column for column in declared_columns(plpy, memory) if column.name in wanted] if wanted else []


def _events(block: "Block", columns: Columns) -> "Events":
    """Events of a block whose kinds are places among those asked for."""
    import numpy as np

    from ubp_sql.features.events import Events

    found = block.columns
    return Events.trusted(
        user_id=block.user_id,
        first=block.first,
        t_us=found["t"],
        ingested_us=found["ingested"],
        offset_s=found["offset_s"] if columns.local else np.zeros(block.n, np.int32),
        kind=found["kind"],
        numbers={name: found[name] for name in columns.numbers},
        keys={name: found[name] for name in columns.keys},
    )
