"""Events out of the mirror as a snapshot sees it: merged runs, and over them what mirror_overlay.py reads."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api import mirror_store as store
from ubp_sql.api.event_rows import origins
from ubp_sql.api.heap import OF_USERS, declared_columns
from ubp_sql.api.mirror_fold import look
from ubp_sql.api.mirror_items import with_users_about
from ubp_sql.api.mirror_overlay import changes
from ubp_sql.api.mirror_rows import Range
from ubp_sql.api.mirror_slices import slices_of
from ubp_sql.api.session import run, touch
from ubp_sql.features.columns import Columns, Declared

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I32, I64
    from ubp_sql.mirror.encode import Meta
    from ubp_sql.mirror.layout import Block, Column
    from ubp_sql.mirror.merge import Cursor

CODES = "select code, kind from ubp.mirror_kinds"
# A log that nobody folded: beyond so many statements, or events that these may have brought, rows are read instead.
MOST_PENDING, MOST_NEW = 10_000, 1_000_000
RANGES_APART = 8
AT_A_TIME = 1 << 19
"""Events of a batch out of one run: half of BATCH_EVENTS, for less memory; many more batches would cost time."""
METAS = "ubp.mirror chunks"


class Mirror(NamedTuple):
    """What a read has to put together: the runs' chunks, oldest run first, and what waits in the log."""

    chunks: "list[list[Meta]]"
    declared: list[Declared]  # all that chunks hold
    place: "I32"  # by the code of a kind in chunks: its place among the kinds asked for, else -1
    users: list[int]  # to be read from rows alone
    ranges: list[Range]  # of ids and times to be read from rows besides


def mirror_now(plpy: Any, memory: dict[str, Any], kinds: list[str]) -> Mirror | None:
    """The mirror as this snapshot sees it; None where rows must be read: no mirror, or it is not right."""
    import numpy as np

    now = store.state(plpy, memory, MOST_PENDING + 1)
    if not now.built or now.row_security or now.pending > MOST_PENDING:
        return None
    users: list[int] = []
    ranges: list[Range] = []
    if now.pending:
        said = look(plpy, memory, origins(plpy, memory))
        if said.everything or said.anew or sum(part.high - part.low + 1 for part in said.ranges) > MOST_NEW:
            return None
        said = with_users_about(plpy, memory, said, _chunks(plpy, memory, now.version))
        users, ranges = said.users, said.ranges
        if len(ranges) > RANGES_APART:
            ranges = list(_around(ranges))
            if any(part.high - part.low >= MOST_NEW for part in ranges):
                return None
    codes = {row["kind"]: row["code"] for row in run(plpy, memory, CODES, [], [])}
    place = np.full(max(codes.values(), default=0) + 1, -1, np.int32)
    for number, kind in enumerate(kinds):
        if kind in codes:
            place[codes[kind]] = number
    return Mirror(_chunks(plpy, memory, now.version), declared_columns(plpy, memory), place, users, ranges)


def _around(ranges: Sequence[Range]) -> Iterator[Range]:
    """One range around all of an origin: what it holds beside is in the mirror already, and dropped as such."""
    for origin in sorted({part.origin for part in ranges}):
        low, high, from_us, until_us, _ = zip(*(part for part in ranges if part.origin == origin), strict=True)
        yield Range(min(low), max(high), min(from_us), max(until_us), origin)


def _chunks(plpy: Any, memory: dict[str, Any], version: int) -> "list[list[Meta]]":
    """Chunks of each run that has any; kept for the session: runs never change, and numbers never come again."""
    kept = memory.get(METAS)
    if kept is None or kept[0] != version:
        known = {} if kept is None else kept[1]
        ids = [one.run_id for one in store.runs(plpy, memory) if one.events or one.users]
        found = {run_id: known.get(run_id) or store.metas(plpy, memory, run_id) for run_id in ids}
        kept = memory[METAS] = (version, found)
    return list(kept[1].values())


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
    plpy: Any, memory: dict[str, Any], mirror: Mirror, chunks: "Sequence[Meta]", names: Sequence[str], together: int
) -> "Iterator[tuple[Block, bool]]":
    """Chunks of one run as blocks, and whether the last user goes on in the next."""
    from ubp_sql.mirror.encode import blocks_of, decode

    for group, goes_on in blocks_of(chunks, together):
        rows = store.chunk_rows(plpy, memory, group, names)
        block = decode(store.events_in(group), rows, names, mirror.declared, mirror.place)
        yield _asked(block, names), goes_on


def batches(
    plpy: Any,
    memory: dict[str, Any],
    mirror: Mirror,
    columns: Columns,
    lowest: int,
    highest: int,
    overlay: "Cursor | None",
    known_at_us: int | None,
    batch: int,
) -> "Iterator[Block]":
    """Blocks of whole users who have events, about `batch` of them each, or one user."""
    from ubp_sql.mirror.merge import Cursor, merged
    from ubp_sql.mirror.spill import TOGETHER

    runs = [
        [meta for meta in chunks if meta.last_user >= lowest and meta.first_user <= highest] for chunks in mirror.chunks
    ]
    runs = [chunks for chunks in runs if chunks]
    if len(runs) == 1 and overlay is None:
        stream = _straight(
            plpy, memory, mirror, runs[0], _names(columns, merging=False), known_at_us, min(batch, AT_A_TIME)
        )
    else:
        names = _names(columns, merging=True)
        together = TOGETHER // max(1, len(runs))
        cursors = [Cursor(_of_run(plpy, memory, mirror, chunks, names, together)) for chunks in runs]
        stream = _whole_users(merged([*cursors, *([overlay] if overlay else [])]), batch, lambda: touch(plpy, memory))
    for block in stream:
        block = _between(block, lowest, highest)
        block = block.take(block.sizes > 0)
        if block.n:
            yield block


def _straight(
    plpy: Any,
    memory: dict[str, Any],
    mirror: Mirror,
    chunks: "Sequence[Meta]",
    names: Sequence[str],
    known_at_us: int | None,
    batch: int,
) -> "Iterator[Block]":
    """One run: its chunks one after the other, nothing to merge."""
    import numpy as np

    from ubp_sql.mirror.arrays import Arrays
    from ubp_sql.mirror.encode import blocks_of, decode
    from ubp_sql.mirror.layout import dtype_of

    arrays = Arrays()
    kept: dict[str, Column] = {}

    def of_one_value(name: str, value: int, n: int) -> "Column":
        """An array for all blocks."""
        if name not in kept or len(kept[name]) < n or kept[name][0] != value:
            kept[name] = np.full(n + n // 8, value, dtype_of(name, ()))
            kept[name].flags.writeable = False
        return kept[name][:n]

    group: list[Meta] = []
    for part, goes_on in blocks_of(chunks, batch):
        group += part
        if goes_on:
            continue
        n = store.events_in(group)
        constant: dict[str, int] = {}
        if known_at_us is not None and max((meta.max_ingested_us or 0 for meta in group), default=0) <= known_at_us:
            constant["ingested"] = known_at_us
        offsets = {meta.offset_all for meta in group if meta.n}
        if len(offsets) == 1 and None not in offsets:
            constant["offset_s"] = offsets.pop() or 0
        fetched = [name for name in names if name not in constant]
        rows = store.chunk_rows(plpy, memory, group, fetched)
        block = decode(n, rows, fetched, mirror.declared, mirror.place, arrays.empty)
        group = []
        for name in constant.keys() & set(names):
            block.columns[name] = of_one_value(name, constant[name], n)
        yield _asked(block, names)


def _whole_users(blocks: "Iterator[Block]", batch: int, pause: Callable[[], object]) -> "Iterator[Block]":
    """Blocks of a merged stream, put together to batches that end with a user."""
    from ubp_sql.mirror.merge import join

    held: list[Block] = []
    events = 0
    for block in blocks:
        held.append(block)
        events += block.n
        if events >= batch and len(block.user_id) > 1:
            whole = join(held, pause)
            yield whole.slice(0, len(whole.user_id) - 1)
            held = [whole.slice(len(whole.user_id) - 1, len(whole.user_id))]
            events = held[0].n
    if held:
        yield join(held, pause)


def _between(block: "Block", lowest: int, highest: int) -> "Block":
    import numpy as np

    if not len(block.user_id) or (block.user_id[0] >= lowest and block.user_id[-1] <= highest):
        return block
    low, high = np.searchsorted(block.user_id, lowest), np.searchsorted(block.user_id, highest, "right")
    return block.slice(int(low), int(high))


def users_of(
    plpy: Any,
    memory: dict[str, Any],
    mirror: Mirror,
    kinds: list[str],
    columns: Columns,
    declared: list[Declared],
    users: Sequence[int],
) -> "Block | None":
    """Some users' events: what each run holds of them, then what waits in the log."""
    import numpy as np

    from ubp_sql.mirror.merge import join, merge

    wanted = np.unique(np.asarray(users, np.int64))
    overlay = changes(plpy, memory, mirror, kinds, declared, OF_USERS, ["bigint[]"], [wanted.tolist()], wanted)

    def pause() -> None:
        touch(plpy, memory)

    def of_runs(which: "I64", *, ids: bool) -> "list[Block]":
        names = _names(columns, merging=ids)
        found = []
        for chunks in mirror.chunks:
            slices = slices_of(plpy, memory, chunks, names, mirror.declared, mirror.place, which)
            parts = [_asked(block, names) for block in slices]
            if parts:
                found.append(join(parts, pause))
        return found

    if overlay:
        block: Block | None = merge([*of_runs(wanted, ids=True), *overlay])
    else:
        # Ids tell events of the same moments apart; they are fetched of users of whom two runs have such, few if any.
        block, unclear = _without_ids(of_runs(wanted, ids=False))
        if block is not None and len(unclear):
            clear = block.take(~np.isin(block.user_id, unclear))
            block = merge([clear, *of_runs(unclear, ids=True)])
    block = None if block is None else block.take(block.sizes > 0)
    return block if block is not None and block.n else None


def _without_ids(blocks: "Sequence[Block]") -> "tuple[Block | None, I64]":
    """Runs' blocks merged, and the users of whom two runs have events that happened and were known at the same time.

    What the block says of those users is not right: one event may be there twice, others in the wrong order.
    """
    import numpy as np

    from ubp_sql.mirror.layout import starts
    from ubp_sql.mirror.merge import merge

    nobody = np.empty(0, np.int64)
    if len(blocks) == 0:
        return None, nobody
    ends = starts(np.array([block.n for block in blocks], np.int64))
    for block, low in zip(blocks, ends[:-1], strict=True):
        block.columns["event_id"] = low + np.arange(block.n)  # keeps the order that there is within a block
    if len(blocks) == 1:
        return blocks[0], nobody
    merged = merge(blocks)
    same = np.ones(max(0, merged.n - 1), np.bool_)
    for name in ("t", "ingested"):
        same &= merged.columns[name][1:] == merged.columns[name][:-1]
    pair = np.flatnonzero(same)
    its_run = np.searchsorted(ends, merged.columns["event_id"][np.stack((pair, pair + 1))], "right")
    unclear = pair[its_run[0] != its_run[1]]
    return merged, merged.user_id[np.unique(np.searchsorted(merged.first, unclear, "right") - 1)]
