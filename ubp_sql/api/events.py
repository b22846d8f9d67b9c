"""Reads events of some users, or of all by ranges of whole users: from the mirror where it is right, else from rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api import mirror_store as store
from ubp_sql.api.heap import (
    LISTED,
    OF_RANGE,
    OF_RANGE_AND_IDS,
    OF_USERS,
    OF_USERS_AND_IDS,
    declared_columns,
    read_rows,
    rows_query,
)
from ubp_sql.api.mirror_fold import LOOK, listen
from ubp_sql.api.session import run, single
from ubp_sql.features.columns import KEYS, NUMBERS, Columns, Declared

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.kernels.dispatch import I32
    from ubp_sql.mirror.encode import Meta
    from ubp_sql.mirror.layout import Block
    from ubp_sql.mirror.merge import Cursor

# One value is limited to 1 GB; a million events of 60 bytes stay far below it, and a batch below 0.3 s of work.
BATCH_EVENTS = 1_000_000
LOWEST, HIGHEST = store.LOWEST, store.HIGHEST
SIZES = """
select string_agg(int8send(x.user_id), '' order by x.user_id) as users,
       string_agg(int8send(x.n), '' order by x.user_id) as sizes
  from (select user_id, count(*) as n from ubp.events where kind = any ($1) and user_id >= $2 and user_id <= $3
         group by user_id) x"""
CODES = "select code, kind from ubp.mirror_kinds"
# A log that nobody folded: beyond so many statements, or events that these may have brought, rows are read instead.
MOST_PENDING, MOST_NEW = 10_000, 1_000_000
RANGES_APART = 8
CHUNKS_AT_A_TIME = 64
METAS = "ubp.mirror chunks"


def touch(plpy: Any, memory: dict[str, Any]) -> None:
    """Lets a pending cancel or statement timeout take effect between two chunks of a kernel."""
    run(plpy, memory, "select 1", [], [])


class _Mirror(NamedTuple):
    """What a read has to put together: the runs' chunks, oldest run first, and what waits in the log."""

    chunks: "list[list[Meta]]"
    declared: list[Declared]  # all that chunks hold
    place: "I32"  # by the code of a kind in chunks: its place among the kinds asked for, else -1
    users: list[int]  # to be read from rows alone
    ranges: list[tuple[int, int, int, int]]  # of ids and times to be read from rows besides


def read_users(
    plpy: Any, memory: dict[str, Any], kinds: Sequence[str], columns: Columns, users: Sequence[int]
) -> "Events | None":
    """Events of `kinds` of those users who have any; None if nobody has.

    kinds    the definition's: `Events.kind` is the index here
    columns  what to read beside user, time, ingestion and kind
    """
    declared = _declared(plpy, memory, columns)
    mirror = _mirror(plpy, memory, list(kinds))
    if mirror is None:
        found = _rows(plpy, memory, declared, OF_USERS, ["bigint[]"], [list(kinds), list(users)])
        return None if found is None else _events(found, columns)
    block = _users_of(plpy, memory, mirror, list(kinds), columns, declared, users)
    return None if block is None else _events(block, columns)


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
    mirror = _mirror(plpy, memory, list(kinds))
    if mirror is None:
        yield from _heap(plpy, memory, list(kinds), columns, declared, lowest, highest)
        return
    overlay = _overlay(plpy, memory, mirror, list(kinds), declared, lowest, highest)
    for block in _batches(plpy, memory, mirror, columns, lowest, highest, overlay, known_at_us):
        yield _events(block, columns)


def _rows(
    plpy: Any, memory: dict[str, Any], declared: list[Declared], where: str, types: list[str], arguments: list[Any]
) -> "Block | None":
    """Events out of rows; the kinds asked for are the first argument."""
    query = rows_query(plpy, LISTED, where, declared)
    block = read_rows(plpy, memory, query, ["text[]", *types], arguments, declared).block
    if block is not None:
        block.columns["kind"] -= 1  # the server counts places from 1
    return block


def _mirror(plpy: Any, memory: dict[str, Any], kinds: list[str]) -> _Mirror | None:
    """The mirror as this snapshot sees it; None where rows must be read: no mirror, or it is not right."""
    import numpy as np

    now = store.state(plpy, memory, MOST_PENDING + 1)
    if not now.built or now.row_security or now.pending > MOST_PENDING:
        return None
    users: list[int] = []
    ranges: list[tuple[int, int, int, int]] = []
    if now.pending:
        said = listen(run(plpy, memory, LOOK, [], []))
        if said.everything or said.anew or sum(high - low + 1 for low, high, *_ in said.ranges) > MOST_NEW:
            return None
        users, ranges = said.users, said.ranges
        if len(ranges) > RANGES_APART:
            # One range around all: what it holds beside is in the mirror already, and dropped as such.
            ends = list(zip(*ranges, strict=True))
            ranges = [(min(ends[0]), max(ends[1]), min(ends[2]), max(ends[3]))]
    codes = {row["kind"]: row["code"] for row in run(plpy, memory, CODES, [], [])}
    place = np.full(max(codes.values(), default=0) + 1, -1, np.int32)
    for number, kind in enumerate(kinds):
        if kind in codes:
            place[codes[kind]] = number
    return _Mirror(_chunks(plpy, memory, now.version), declared_columns(plpy, memory), place, users, ranges)


def _chunks(plpy: Any, memory: dict[str, Any], version: int) -> "list[list[Meta]]":
    """Chunks of each run that has any; kept for the session as long as the mirror is the same."""
    kept = memory.get(METAS)
    if kept is None or kept[0] != version:
        found = [store.metas(plpy, memory, one.run_id) for one in store.runs(plpy, memory) if one.events or one.users]
        kept = memory[METAS] = (version, found)
    chunks: list[list[Meta]] = kept[1]
    return chunks


def _names(columns: Columns, *, merging: bool) -> list[str]:
    """Columns of a block that `_events` needs; those that order events too where blocks are merged."""
    names = ["t", "ingested", "kind", *columns.numbers, *columns.keys]
    return [*names, *(["offset_s"] if columns.local else []), *(["event_id"] if merging else [])]


def _asked(block: "Block", names: Sequence[str]) -> "Block":
    """The columns asked for, without events of other kinds where these are most.

    Fewer are let through as kind -1: kernels pass over them faster than all columns are copied (2 ms a million events
    against 33).
    """
    from dataclasses import replace

    import numpy as np

    block = replace(block, columns={name: block.columns[name] for name in names})
    asked = block.columns["kind"] >= 0
    return block if 2 * np.count_nonzero(asked) >= block.n else block.rows(asked)


def _of_run(
    plpy: Any, memory: dict[str, Any], mirror: _Mirror, chunks: "Sequence[Meta]", names: Sequence[str], together: int
) -> "Iterator[tuple[Block, bool]]":
    """Chunks of one run as blocks, and whether the last user goes on in the next."""
    from ubp_sql.mirror.encode import blocks_of, decode

    for group, goes_on in blocks_of(chunks, together):
        rows = store.chunk_rows(plpy, memory, group, names)
        block = decode(store.events_in(group), rows, names, mirror.declared, places=mirror.place)
        yield _asked(block, names), goes_on


def _batches(
    plpy: Any,
    memory: dict[str, Any],
    mirror: _Mirror,
    columns: Columns,
    lowest: int,
    highest: int,
    overlay: "Cursor | None",
    known_at_us: int | None,
) -> "Iterator[Block]":
    """Blocks of whole users who have events."""
    from ubp_sql.mirror.merge import Cursor, merged
    from ubp_sql.mirror.spill import TOGETHER

    runs = [
        [meta for meta in chunks if meta.last_user >= lowest and meta.first_user <= highest] for chunks in mirror.chunks
    ]
    runs = [chunks for chunks in runs if chunks]
    if len(runs) == 1 and overlay is None:
        stream = _straight(plpy, memory, mirror, runs[0], _names(columns, merging=False), known_at_us)
    else:
        names = _names(columns, merging=True)
        together = TOGETHER // max(1, len(runs))
        cursors = [Cursor(_of_run(plpy, memory, mirror, chunks, names, together)) for chunks in runs]
        stream = _whole_users(merged([*cursors, *([overlay] if overlay else [])]))
    for block in stream:
        block = _between(block, lowest, highest)
        block = block.take(block.sizes > 0)
        if block.n:
            yield block


def _straight(
    plpy: Any,
    memory: dict[str, Any],
    mirror: _Mirror,
    chunks: "Sequence[Meta]",
    names: Sequence[str],
    known_at_us: int | None,
) -> "Iterator[Block]":
    """One run: its chunks one after the other, nothing to merge."""
    from ubp_sql.mirror.encode import blocks_of, decode

    group: list[Meta] = []
    for part, goes_on in blocks_of(chunks, BATCH_EVENTS):
        group += part
        if goes_on:
            continue
        latest = max((meta.max_ingested_us or 0 for meta in group), default=0)
        known = known_at_us is not None and latest <= known_at_us
        fetched = [name for name in names if name != "ingested"] if known else names
        rows = store.chunk_rows(plpy, memory, group, fetched)
        block = decode(
            store.events_in(group), rows, names, mirror.declared, known_at_us if known else None, mirror.place
        )
        group = []
        yield _asked(block, names)


def _whole_users(blocks: "Iterator[Block]") -> "Iterator[Block]":
    """Blocks of a merged stream, put together to batches that end with a user."""
    from ubp_sql.mirror.merge import join

    held: list[Block] = []
    events = 0
    for block in blocks:
        held.append(block)
        events += block.n
        if events >= BATCH_EVENTS and len(block.user_id) > 1:
            whole = join(held)
            yield whole.slice(0, len(whole.user_id) - 1)
            held = [whole.slice(len(whole.user_id) - 1, len(whole.user_id))]
            events = held[0].n
    if held:
        yield join(held)


def _between(block: "Block", lowest: int, highest: int) -> "Block":
    import numpy as np

    if not len(block.user_id) or (block.user_id[0] >= lowest and block.user_id[-1] <= highest):
        return block
    low, high = np.searchsorted(block.user_id, lowest), np.searchsorted(block.user_id, highest, "right")
    return block.slice(int(low), int(high))


def _users_of(
    plpy: Any,
    memory: dict[str, Any],
    mirror: _Mirror,
    kinds: list[str],
    columns: Columns,
    declared: list[Declared],
    users: Sequence[int],
) -> "Block | None":
    """Some users' events: of each run the chunks that may hold them, then what waits in the log."""
    import numpy as np

    from ubp_sql.mirror.encode import decode
    from ubp_sql.mirror.merge import join, merge

    wanted = np.unique(np.asarray(users, np.int64))
    names = _names(columns, merging=True)
    blocks = []
    for chunks in mirror.chunks:
        firsts = np.array([meta.first_user for meta in chunks], np.int64)
        lasts = np.array([meta.last_user for meta in chunks], np.int64)
        low, high = np.searchsorted(wanted, firsts), np.searchsorted(wanted, lasts, "right")
        group = [chunks[i] for i in np.flatnonzero(low < high)]
        parts = []
        for start in range(0, len(group), CHUNKS_AT_A_TIME):
            some = group[start : start + CHUNKS_AT_A_TIME]
            rows = store.chunk_rows(plpy, memory, some, names)
            found = decode(store.events_in(some), rows, names, mirror.declared, places=mirror.place)
            parts.append(_asked(found.take(np.isin(found.user_id, wanted)), names))
        if parts:
            blocks.append(join(parts))
    overlay = _changes(plpy, memory, mirror, kinds, declared, OF_USERS, ["bigint[]"], [wanted.tolist()], wanted)
    block = merge([*blocks, *overlay]) if blocks or overlay else None
    block = None if block is None else block.take(block.sizes > 0)
    return block if block is not None and block.n else None


def _overlay(
    plpy: Any,
    memory: dict[str, Any],
    mirror: _Mirror,
    kinds: list[str],
    declared: list[Declared],
    lowest: int,
    highest: int,
) -> "Cursor | None":
    """What waits in the log, of users from `lowest` to `highest`; None if nothing does."""
    from ubp_sql.mirror.merge import Cursor, merge
    from ubp_sql.mirror.spill import TOGETHER, pieces

    arguments: list[Any] = [lowest, highest]
    blocks = _changes(plpy, memory, mirror, kinds, declared, OF_RANGE, ["bigint", "bigint"], arguments, None)
    if not blocks:
        return None
    return Cursor(pieces(merge(blocks), TOGETHER))


def _changes(
    plpy: Any,
    memory: dict[str, Any],
    mirror: _Mirror,
    kinds: list[str],
    declared: list[Declared],
    where: str,
    types: list[str],
    arguments: list[Any],
    among: Any,
) -> "list[Block]":
    """Rows that wait in the log as blocks: those of id ranges among `where`, then all of the users who changed."""
    import numpy as np

    from ubp_sql.mirror.layout import Block, starts

    blocks = []
    for part in mirror.ranges:
        both = OF_USERS_AND_IDS if where == OF_USERS else OF_RANGE_AND_IDS
        found = _rows(plpy, memory, declared, both, [*types, *["bigint"] * 4], [kinds, *arguments, *part])
        if found is not None:
            blocks.append(found)
    touched = np.array(mirror.users, np.int64)
    if where == OF_USERS:
        touched = np.intersect1d(touched, among)
    else:
        touched = touched[(touched >= arguments[0]) & (touched <= arguments[1])]
    if len(touched):
        found = _rows(plpy, memory, declared, OF_USERS, ["bigint[]"], [kinds, touched.tolist()])
        none = _no_event(declared)
        u = len(touched)
        blocks.append(Block(touched, starts(np.zeros(u, np.int64)), np.ones(u, np.bool_), none))
        if found is not None:
            blocks.append(found)
    return blocks


def _no_event(declared: list[Declared]) -> dict[str, Any]:
    """Columns of a block without events."""
    from ubp_sql.mirror.layout import BASE, empty

    return empty([*BASE, *(column.name for column in declared)], declared).columns


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
    for start, end in zip([lowest, *(end + 1 for end in ends)], [*ends, highest], strict=True):
        block = _rows(plpy, memory, declared, OF_RANGE, ["bigint", "bigint"], [kinds, start, end])
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
