"""Some users' events out of a run: which slices of which chunks hold them, and a block of what was fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ubp_sql.features.columns import Declared
from ubp_sql.kernels.dispatch import I32, I64
from ubp_sql.kernels.widen import Widener
from ubp_sql.mirror.encode import Meta, directories, missing_of
from ubp_sql.mirror.layout import BASE, Block, Bools, Column, dtype_of, starts

GAP_EVENTS = 250
"""Up to so many events between two users wanted are fetched with them. The server keeps a column in pieces of 2 kB,
just as many events of 8 bytes; finding a piece costs more than copying it (docs/adr/0009-incremental-refresh.md)."""


@dataclass(slots=True, eq=False)
class Directory:
    """The users of c chunks of a run that follow each other, e entries. Their n events count from the first chunk's.

    chunk_id           (c,) int64
    bounds             (c+1,) int32  chunk i has the events bounds[i]:bounds[i+1]
    kind, offset       (c,) int32    what all events of the chunk have where that is not a column
    forms              (c, columns, 2) int64  of the chunk's columns (kernels/forms.py)
    user_id            (e,) int64    ascending; a user whose events fill several chunks has an entry in each
    first              (e+1,) int32  entry i has the events first[i]:first[i+1]
    complete           (e,) bool
    """

    chunk_id: I64
    bounds: I32
    kind: I32
    offset: I32
    forms: I64
    user_id: I64
    first: I32
    complete: Bools

    @property
    def nbytes(self) -> int:
        """What it takes of memory, without the chunks' share."""
        return self.user_id.nbytes + self.first.nbytes + self.complete.nbytes

    @classmethod
    def of(cls, chunks: Sequence[tuple[Meta, Mapping[str, Any]]]) -> "Directory":
        """From chunks with their rows: user_ids, firsts, complete_users."""
        users, sizes, complete = directories(chunks)
        metas = [meta for meta, _ in chunks]
        return cls(
            np.array([meta.chunk_id for meta in metas], np.int64),
            starts(np.array([meta.n for meta in metas], np.int64)).astype(np.int32),
            np.array([meta.kind_all or 0 for meta in metas], np.int32),
            np.array([meta.offset_all or 0 for meta in metas], np.int32),
            np.frombuffer(b"".join(meta.forms for meta in metas), "<i8").astype(np.int64).reshape(len(metas), -1, 2),
            users,
            starts(sizes).astype(np.int32),
            complete,
        )


@dataclass(slots=True, eq=False)
class Pieces:
    """Slices of chunks and the entries in them.

    chunk_id, begin, n  (s,)  events begin..begin+n-1 of the chunk, in the order of users
    kind, offset        (s,)  of the slice's chunk
    forms               (s, columns, 2)  likewise
    user_id, size, complete, place  (e,)  the entries wanted; place: where an entry begins among the slices' events
    """

    chunk_id: I64
    begin: I64
    n: I64
    kind: I32
    offset: I32
    forms: I64
    user_id: I64
    size: I64
    complete: Bools
    place: I64

    @property
    def events(self) -> int:
        """Events of all slices."""
        return int(self.n.sum())


class Answer(NamedTuple):
    """What the server sent of some columns.

    marks    int4send for each slice, bit i: the chunk has the i-th column; None without slices
    columns  of each column the slices one after the other, without those of chunks that have no such column
    """

    marks: bytes | None
    columns: Mapping[str, bytes | None]


def find(chunks: Directory, wanted: I64) -> Pieces:
    """Where the events of the wanted users (ascending, each once) lie."""
    low, high = np.searchsorted(chunks.user_id, wanted), np.searchsorted(chunks.user_id, wanted, "right")
    entry = _ranges(low, high - low)
    begin, end = chunks.first[entry].astype(np.int64), chunks.first[entry + 1].astype(np.int64)
    some = end > begin
    far = begin[some][1:] - end[some][:-1] > GAP_EVENTS
    edges = np.ones(min(1, int(some.sum())), np.bool_)
    start, stop = begin[some][np.concatenate((edges, far))], end[some][np.concatenate((far, edges))]
    bounds = chunks.bounds.astype(np.int64)
    inner = bounds[1:-1]
    inner = inner[np.searchsorted(start, inner) > np.searchsorted(stop, inner, "right")]  # bounds within a slice
    start, stop = np.sort(np.concatenate((start, inner))), np.sort(np.concatenate((stop, inner)))
    n = stop - start
    chunk = np.searchsorted(bounds, start, "right") - 1
    before = np.cumsum(n) - n
    its = np.searchsorted(start, begin, "right") - 1  # meaningless for an entry without events
    place = np.where(some, (before - start)[its] + begin, 0) if len(start) else np.zeros(len(entry), np.int64)
    return Pieces(
        chunks.chunk_id[chunk],
        start - bounds[chunk],
        n,
        chunks.kind[chunk],
        chunks.offset[chunk],
        chunks.forms[chunk],
        chunks.user_id[entry],
        end - begin,
        chunks.complete[entry],
        place,
    )


def together(pieces: Sequence[Pieces]) -> Pieces:
    """Pieces of chunks that follow each other as one."""
    if len(pieces) == 1:
        return pieces[0]
    before = starts(np.array([part.events for part in pieces], np.int64))
    return Pieces(
        np.concatenate([part.chunk_id for part in pieces]),
        np.concatenate([part.begin for part in pieces]),
        np.concatenate([part.n for part in pieces]),
        np.concatenate([part.kind for part in pieces]),
        np.concatenate([part.offset for part in pieces]),
        np.concatenate([part.forms for part in pieces]),
        np.concatenate([part.user_id for part in pieces]),
        np.concatenate([part.size for part in pieces]),
        np.concatenate([part.complete for part in pieces]),
        np.concatenate([part.place + low for part, low in zip(pieces, before[:-1], strict=True)]),
    )


def block_of(pieces: Pieces, answers: Sequence[Answer], declared: Sequence[Declared], places: I32) -> Block:
    """The wanted users' events.

    answers  the columns; the first one is `t`
    places   what a kind becomes, by its code
    """
    index = _ranges(pieces.place, pieces.size) if pieces.events > pieces.size.sum() else None
    columns: dict[str, Column] = {}
    t = None
    for answer in answers:
        marks = np.frombuffer(answer.marks or b"", ">i4")
        for bit, (name, raw) in enumerate(answer.columns.items()):
            column = _column(pieces, name, raw or b"", (marks & (1 << bit)) != 0, t, declared)
            t = column if t is None else t
            if name == "kind":
                column = np.take(places, column, mode="clip")
            columns[name] = column if index is None else column[index]
    user, size, complete = pieces.user_id, pieces.size, pieces.complete
    new = np.concatenate((np.ones(min(1, len(user)), np.bool_), user[1:] != user[:-1]))
    if not new.all():
        low = np.flatnonzero(new)
        user, size, complete = user[new], np.add.reduceat(size, low), np.logical_or.reduceat(complete, low)
    return Block(user, starts(size), complete, columns)


def _column(
    pieces: Pieces,
    name: str,
    raw: bytes,
    there: Bools,
    t: Column | None,
    declared: Sequence[Declared],
) -> Column:
    """One column of all slices' events."""
    kept = np.dtype(dtype_of(name, declared)).newbyteorder("=")
    wide = np.dtype(np.int64) if kept == np.int32 else kept
    each = {"kind": pieces.kind, "offset_s": pieces.offset}.get(name)
    out: Column
    if there.all():
        out = np.empty(pieces.events, wide)
    elif each is not None:
        out = np.repeat(each.astype(wide), pieces.n)
    elif t is not None and name in ("ingested", "order"):
        out = t.copy()
    else:
        out = np.full(pieces.events, missing_of(name, declared), wide)
    place = [*BASE, *(column.name for column in declared)].index(name)
    parts = np.column_stack((pieces.n, np.where(there[:, None], pieces.forms[:, place], 0)))
    Widener(out).parts(raw, parts.ravel().tolist())
    return out.astype(kept, copy=False)


def _ranges(low: I64, size: I64) -> I64:
    """low[0], low[0]+1, ... size[0] of them, then those from low[1] on, and so forth."""
    before = np.cumsum(size) - size
    return np.repeat(low - before, size) + np.arange(int(size.sum()))
