"""Chunks: a block cut into rows of ubp.mirror_chunks, and such rows turned back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import unpack
from typing import Any, NamedTuple

import numpy as np

from ubp_sql.errors import NotReady
from ubp_sql.features.columns import Declared
from ubp_sql.kernels.dispatch import I32, I64, NO_KEY
from ubp_sql.kernels.widen import Widener
from ubp_sql.mirror.layout import BASE, Block, Bools, Column, dtype_of, starts
from ubp_sql.mirror.merge import join
from ubp_sql.mirror.pack import Packed, pack

CHUNK_EVENTS = 16_384
"""Most events and most users of a chunk. A larger one costs a live read of one user more, a smaller one a scan."""
FORM_BYTES = 16
"""What a column's form takes in `forms`."""
DIRECTORY = ("user_ids", "firsts", "complete_users")
STORED = {"order": "order_key"}
"""Columns whose name in the table is another."""


class Meta(NamedTuple):
    """What is known of a chunk without reading its columns."""

    chunk_id: int
    first_user: int
    last_user: int
    part: int
    n: int
    users: int
    max_ingested_us: int | None
    complete: bool | None
    kind_all: int | None
    offset_all: int | None
    forms: bytes


class Cutter:
    """Cuts a stream of blocks into chunks of whole users, or of parts of one user.

    write  called with each chunk: its block and its part
    limit  most events, and most users, of a chunk; None: CHUNK_EVENTS
    """

    def __init__(self, write: Callable[[Block, int], None], limit: int | None = None) -> None:
        self._write, self._limit = write, limit or CHUNK_EVENTS
        self._rest: list[Block] = []
        self._held = 0
        self._part = 0  # of the first user of the rest, who may have filled chunks already

    def add(self, block: Block) -> None:
        """Takes the next block; its first user may be the last one of the block before."""
        self._rest.append(block)
        self._held += block.n + len(block.user_id)
        if self._held >= 4 * self._limit:
            self._cut(last=False)

    def close(self) -> None:
        """Writes what is left."""
        if self._rest:
            self._cut(last=True)

    def _cut(self, *, last: bool) -> None:
        block = join(self._rest)
        u, limit, low, begin = len(block.user_id), self._limit, 0, 0
        whole = u if last else u - 1  # the last user may go on
        while low < u:
            if self._part or block.first[low + 1] - begin > limit:
                while block.first[low + 1] - begin > limit:
                    self._write(_rows(block, low, low + 1, begin, begin + limit), self._part)
                    self._part += 1
                    begin += limit
                if low == whole:
                    break
                high = low + 1
            else:
                fit = int(np.searchsorted(block.first, begin + limit, "right")) - 1
                high = min(fit, low + limit, whole)
                if not last and high == whole and fit == u and u - low <= limit:
                    break  # more may fit in
            end = int(block.first[high])
            self._write(_rows(block, low, high, begin, end), self._part)
            self._part, low, begin = 0, high, end
        rest = _rows(block, low, u, begin, block.n)
        self._rest = [rest] if low < u else []
        self._held = rest.n + u - low


def _rows(block: Block, low: int, high: int, begin: int, end: int) -> Block:
    """Users low..high-1 with events begin..end-1."""
    first = np.clip(block.first[low : high + 1], begin, end) - begin
    columns = {name: column[begin:end] for name, column in block.columns.items()}
    return Block(block.user_id[low:high], first, block.complete[low:high], columns)


def encode(block: Block, declared: Sequence[Declared]) -> dict[str, Any]:
    """A chunk as the values of its row in ubp.mirror_chunks, less run and part. What is the same in all is left out."""
    columns = block.columns
    t = columns["t"]
    row: dict[str, Any] = {
        "first_user": int(block.user_id[0]),
        "last_user": int(block.user_id[-1]),
        "n": block.n,
        "users": len(block.user_id),
        "min_us": int(t.min()) if block.n else None,
        "max_us": int(t.max()) if block.n else None,
        "max_ingested_us": int(columns["ingested"].max()) if block.n else None,
        "user_ids": _bytes(block.user_id, "<i8"),
        "firsts": _bytes(block.first[:-1], "<i4"),
    }
    mixed = bool(block.complete.any() != block.complete.all())
    row["complete"] = None if mixed else bool(block.complete[0])
    row["complete_users"] = _bytes(block.complete, "u1") if mixed else None
    kept = {name: _kept(block, name, declared) for name in [*BASE, *(extra.name for extra in declared)]}
    raw = {name: packed and packed.raw for name, packed in kept.items()}
    for name in ("kind", "offset_s"):
        row[f"{name.removesuffix('_s')}_all"] = int(columns[name][0]) if block.n and kept[name] is None else None
    for name in BASE:
        row[STORED.get(name, name)] = raw[name]
    row["extras"] = [raw[extra.name] for extra in declared] or None
    words = [word for packed in kept.values() for word in (packed[1:] if packed else (0, 0))]
    row["forms"] = _bytes(np.array(words, np.int64), "<i8")
    return row


def _kept(block: Block, name: str, declared: Sequence[Declared]) -> Packed | None:
    """A packed column; None for one that says nothing."""
    column, t = block.columns[name], block.columns["t"]
    if name in ("kind", "offset_s"):
        same = block.n > 0 and bool((column == column[0]).all())
    elif name in ("ingested", "order"):
        same = np.array_equal(column, t)
    elif name in ("t", "event_id"):
        same = False
    elif column.dtype.kind == "f":
        same = bool(np.isnan(column).all())
    else:
        same = bool((column == missing_of(name, declared)).all())
    return None if same else pack(column, time=name in ("t", "ingested"))


def missing_of(name: str, declared: Sequence[Declared]) -> float:
    """What stands for no value in a column of numbers or keys."""
    if dtype_of(name, declared) == "<f8":
        return np.nan
    return 0 if any(extra.name == name and extra.type == "words" for extra in declared) else NO_KEY


def _bytes(column: Column, dtype: str) -> bytes:
    return column.astype(dtype, copy=False).tobytes()


def directories(chunks: Sequence[tuple[Meta, Mapping[str, Any]]]) -> tuple[I64, I64, Bools]:
    """(users, events of each, complete) of rows of chunks that follow each other; one who goes on comes again.

    Memory is taken, and indices made, by what they say: raises NotReady (UB005) where that cannot be.
    """
    users = np.frombuffer(b"".join(row["user_ids"] for _, row in chunks), "<i8").astype(np.int64, copy=False)
    firsts = np.frombuffer(b"".join(row["firsts"] for _, row in chunks), "<i4").astype(np.int64)
    counts = np.array([meta.users for meta, _ in chunks], np.int64)
    begins, bounds = starts(counts), starts(np.array([meta.n for meta, _ in chunks], np.int64))
    flags = [
        np.full(meta.users, meta.complete)
        if meta.complete is not None
        else np.frombuffer(row["complete_users"], np.uint8).astype(np.bool_)
        for meta, row in chunks
    ]
    complete = np.concatenate(flags) if flags else np.zeros(0, np.bool_)
    if len(users) == len(firsts) == len(complete) == begins[-1]:
        sizes = np.diff(firsts + np.repeat(bounds[:-1], counts), append=bounds[-1])
        rising = users[1:] > users[:-1]
        rising[begins[1:-1] - 1] = True
        if not firsts[begins[:-1]].any() and (sizes >= 0).all() and rising.all():
            return users, sizes, complete
    names = f"{chunks[0][0].chunk_id} .. {chunks[-1][0].chunk_id}"
    raise NotReady(f"one of the chunks {names} of the mirror is damaged", "select * from ubp.rebuild_mirror()")


def decode(
    n: int,
    chunks: Iterable[tuple[Meta, Mapping[str, Any]]],
    names: Sequence[str],
    declared: Sequence[Declared],
    places: I32 | None = None,
    empty: Callable[[int, np.dtype[Any]], Column] = np.empty,
) -> Block:
    """Chunks of one run that follow each other, as one block with the columns asked for; each is copied once.

    n       events in all
    chunks  may be read one by one: what was just fetched is copied while it is in the processor's cache
    names   columns; `t` comes always
    places  (codes,) what a kind becomes, by its code; None: the code
    empty   makes the arrays
    """
    every = [*BASE, *(extra.name for extra in declared)]
    wanted = [(name, every.index(name)) for name in dict.fromkeys(["t", *names])]
    out = {name: empty(n, np.dtype(dtype_of(name, declared)).newbyteorder("=")) for name, _ in wanted}
    wideners = {name: Widener(column) for name, column in out.items() if column.dtype != np.int32}
    scratch = np.empty(0, np.int64)
    wide = Widener(scratch)
    listed = []
    low = 0
    for meta, row in chunks:
        listed.append((meta, {name: row[name] for name in DIRECTORY}))
        words = unpack(f"<{len(meta.forms) // 8}q", meta.forms)
        for name, place in wanted:
            raw = row[STORED.get(name, name)] if name in BASE else row["extras"][place - len(BASE)]
            form, base = words[2 * place : 2 * place + 2]
            if raw is None:
                _say_nothing(out, name, slice(low, low + meta.n), meta, places, declared)
            elif name in wideners:
                wideners[name].column(raw, low, meta.n, form, base)
            else:
                if len(scratch) < meta.n:
                    scratch = np.empty(meta.n, np.int64)
                    wide = Widener(scratch)
                wide.column(raw, 0, meta.n, form, base)
                _narrow(out[name][low : low + meta.n], scratch[: meta.n], places if name == "kind" else None)
        low += meta.n
    user_id, size, flag = directories(listed)
    new = np.concatenate((np.ones(min(1, len(user_id)), np.bool_), user_id[1:] != user_id[:-1]))
    if not new.all():
        begin = np.flatnonzero(new)
        user_id, size, flag = user_id[new], np.add.reduceat(size, begin), np.logical_or.reduceat(flag, begin)
    return Block(user_id, starts(size), flag, out)


def _say_nothing(
    out: dict[str, Column], name: str, part: slice, meta: Meta, places: I32 | None, declared: Sequence[Declared]
) -> None:
    """A column that a chunk does not keep."""
    if name == "kind":
        code = meta.kind_all or 0
        out[name][part] = code if places is None else places[code]
    elif name == "offset_s":
        out[name][part] = meta.offset_all or 0
    elif name in ("ingested", "order"):
        out[name][part] = out["t"][part]
    else:
        out[name][part] = missing_of(name, declared)


def _narrow(out: Column, wide: I64, places: I32 | None) -> None:
    if places is None:
        out[:] = wide
    else:
        # `clip` writes straight into `out`; no code lies outside.
        places.take(wide, out=out, mode="clip")


def blocks_of(chunks: Sequence[Meta], together: int) -> Iterator[tuple[list[Meta], bool]]:
    """Chunks of a run in groups of about `together` events, and whether the group's last user goes on in the next."""
    group: list[Meta] = []
    held = 0
    for number, meta in enumerate(chunks):
        group.append(meta)
        held += meta.n
        goes_on = number + 1 < len(chunks) and chunks[number + 1].part > 0
        if held >= together or number + 1 == len(chunks):
            yield group, goes_on
            group, held = [], 0
