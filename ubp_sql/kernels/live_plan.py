"""A stored plan with the names of what it reads: what a session needs to compute a row without the definition.

Behind the bytes of plan_blob.py: the names of kinds, columns of numbers and columns of keys, each ended by a zero byte,
padded to a multiple of 8; then eight little-endian words: how many of each, 1 if the source's clock is read, 1 if the
calendar is, bytes of the names, "UBPNAMES", CRC-32 of all before.

The engine checks no index, so `open_plan` checks all of them, once a session. Imports neither NumPy nor Numba.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from zlib import crc32

from ubp_sql.errors import BadInput
from ubp_sql.kernels.codes import (
    MAX_KINDS,
    MAX_RINGS,
    Formula,
    FormulaColumn,
    Key,
    LinkColumn,
    Op,
    OpColumn,
    Param,
    Size,
    SpanColumn,
    StreamColumn,
)
from ubp_sql.kernels.op_state import NEEDS_KEY, NEEDS_NUMBER, STATE

MAGIC, NAMED = b"UBPPLAN1", b"UBPNAMES"
ARRAYS = (
    *("edges_us", "streams", "stream_params", "spans", "links", "ops", "params", "formulas", "factors"),
    *("anchors", "waves", "sizes"),
)
TABLE = 2
"""Word of a plan where its table begins: offset in bytes, rows and columns of each array."""
HEAD = TABLE + 3 * len(ARRAYS)
_TRAILER = struct.Struct("<6q8sq")
_WIDTHS = {
    "streams": StreamColumn.WIDTH,
    "stream_params": 2,
    "spans": SpanColumn.WIDTH,
    "links": LinkColumn.WIDTH,
    "ops": OpColumn.WIDTH,
    "params": Param.WIDTH,
    "formulas": FormulaColumn.WIDTH,
    "factors": 2,
}
MOST = 1 << 24
"""Words of one kind of state, far above what any set needs."""


class LivePlan:
    """A checked plan.

    blob       what the native library reads
    kinds      event kinds by their index
    numbers    names of the columns of numbers, in the plan's order; keys likewise
    local      whether the source's clock is read; holidays: whether the calendar is
    features   columns of a row; anchors: cells that it ages from
    """

    __slots__ = ("anchors", "blob", "features", "holidays", "keys", "kinds", "local", "numbers")

    def __init__(self, blob: bytes, names: Sequence[str], counts: Sequence[int], features: int, anchors: int) -> None:
        kinds, numbers, _, local, holidays, _ = counts
        self.blob, self.features, self.anchors = blob, features, anchors
        self.kinds, self.numbers = tuple(names[:kinds]), tuple(names[kinds : kinds + numbers])
        self.keys = tuple(names[kinds + numbers :])
        self.local, self.holidays = local == 1, holidays == 1


def with_names(
    plan: bytes, kinds: Iterable[str], numbers: Iterable[str], keys: Iterable[str], *, local: bool, holidays: bool
) -> bytes:
    """The bytes of plan_blob.pack_plan with the names of what its indices mean."""
    columns = [list(kinds), list(numbers), list(keys)]
    names = b"".join(name.encode() + b"\0" for part in columns for name in part)
    body = plan + names + bytes(-len(names) % 8)
    trailer = _TRAILER.pack(*map(len, columns), int(local), int(holidays), len(names), NAMED, 0)
    return body + trailer[:-8] + struct.pack("<q", crc32(body + trailer[:-8]))


def open_plan(data: bytes) -> LivePlan:
    """The plan in a blob, all that native code relies on checked (0.2 ms for 140 features).

    Raises BadInput (UB003) for bytes that `with_names` did not make.
    """
    try:
        return _opened(data)
    except (ValueError, IndexError, struct.error) as error:
        raise BadInput(f"the stored plan is damaged: {error}") from None


def _opened(data: bytes) -> LivePlan:
    _need(len(data) % 8 == 0 and len(data) > 8 * HEAD + _TRAILER.size and data.startswith(MAGIC), "it begins as none")
    *counts, named, checksum = _TRAILER.unpack(data[-_TRAILER.size :])
    _need(named == NAMED and checksum == crc32(data[:-8]), "its checksum differs")
    words = array("q", data[: len(data) - _TRAILER.size])
    if sys.byteorder == "big":
        words.byteswap()
    _need(min(counts) >= 0 and max(counts[3:5]) <= 1, "its counts are odd")
    _need(8 * HEAD <= words[1] <= 8 * len(words) - counts[5], "its names are cut short")
    parts, at = {}, 8 * HEAD
    for number, name in enumerate(ARRAYS):
        offset, rows, columns = words[TABLE + 3 * number : TABLE + 3 * number + 3]
        _need(offset == at and rows >= 0 and columns == _WIDTHS.get(name, 0), f"{name} is out of place")
        at += 8 * rows * max(columns, 1)
        _need(at <= words[1], f"{name} is cut short")
        parts[name] = words[offset // 8 : at // 8]
    _need(at == words[1], "there is more than its arrays")
    names = data[at : at + counts[5]].decode().split("\0")[:-1]
    _need(len(names) == sum(counts[:3]) and 1 <= counts[0] <= MAX_KINDS, "its names are not as many as it says")
    _check(parts, counts)
    # The native library reads the machine's own order.
    blob = data if sys.byteorder == "little" else MAGIC + words[1:].tobytes()
    return LivePlan(blob, names, counts, len(parts["formulas"]) // FormulaColumn.WIDTH, len(parts["anchors"]))


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


class _Rows:
    """A matrix of the plan by columns."""

    def __init__(self, name: str, words: "array[int]") -> None:
        self._name, self._words, self._width = name, words, _WIDTHS[name]
        self.n = len(words) // self._width

    def column(self, column: int) -> "array[int]":
        return self._words[column :: self._width]

    def within(self, column: int, low: int, high: int) -> None:
        """low <= value < high in every row."""
        values = self.column(column)
        _need(not values or (low <= min(values) and max(values) < high), f"{self._name}[{column}] leaves its range")

    def fits(self, column: int, sizes: Iterable[int], room: int) -> None:
        """0 <= value, and value + size <= room, in every row."""
        self.within(column, 0, room + 1)
        ends = [begin + size for begin, size in zip(self.column(column), sizes, strict=True)]
        _need(not ends or max(ends) <= room, f"{self._name}[{column}] ends beyond its room")


def _check(parts: "dict[str, array[int]]", counts: Sequence[int]) -> None:
    sizes = parts["sizes"]
    _need(len(sizes) == Size.WIDTH and min(sizes) >= 0 and max(sizes[: Size.REACH_US]) <= MOST, "its sizes are odd")
    numbers, keys = counts[1], counts[2]
    _need(sizes[Size.NUMBERS] <= numbers and sizes[Size.KEYS] <= keys, "it reads more columns than it names")
    low_key = min(Key)
    streams, spans, links = (_Rows(name, parts[name]) for name in ("streams", "spans", "links"))
    ops, formulas = _Rows("ops", parts["ops"]), _Rows("formulas", parts["formulas"])
    _need(len(parts["stream_params"]) == 2 * streams.n, "stream_params does not go with streams")
    _need(len(parts["params"]) == Param.WIDTH * ops.n, "params does not go with ops")
    _need(len(parts["factors"]) == 2 * formulas.n and formulas.n > 0, "factors does not go with formulas")
    streams.within(StreamColumn.COND_NUMBER, -1, numbers)
    streams.within(StreamColumn.COND_KEY, low_key, keys)
    spans.within(SpanColumn.STREAM, 0, streams.n)
    spans.within(SpanColumn.RINGS, 1, MAX_RINGS + 1)
    spans.fits(SpanColumn.EDGE, spans.column(SpanColumn.RINGS), len(parts["edges_us"]))
    spans.fits(SpanColumn.BOUND, [rings + 1 for rings in spans.column(SpanColumn.RINGS)], sizes[Size.BOUNDS])
    links.within(LinkColumn.STREAM, 0, streams.n)
    links.within(LinkColumn.KEY, low_key, keys)
    _apart(zip(spans.column(SpanColumn.BOUND), spans.column(SpanColumn.RINGS), strict=True))
    _check_ops(ops, spans, links, sizes, streams.n, numbers, keys)
    _check_needs(ops, links, parts, sizes[Size.MARKS])
    _check_formulas(formulas, sizes[Size.CELLS], len(parts["waves"]))
    anchors = parts["anchors"]
    _need(not anchors or (min(anchors) >= 0 and max(anchors) < sizes[Size.CELLS]), "an anchor is no cell")


def _check_ops(
    ops: _Rows, spans: _Rows, links: _Rows, sizes: "array[int]", streams: int, numbers: int, keys: int
) -> None:
    ops.within(OpColumn.CODE, 0, max(Op) + 1)
    ops.within(OpColumn.SPAN, 0, spans.n)
    ops.within(OpColumn.STREAM, 0, streams)
    ops.within(OpColumn.NUMBER, -1, numbers)
    ops.within(OpColumn.KEY, min(Key), keys)
    ops.within(OpColumn.LINK, -1, links.n)
    ops.within(OpColumn.SIZE, 1, MOST)
    for column, its in (
        (OpColumn.STREAM, SpanColumn.STREAM),
        (OpColumn.RINGS, SpanColumn.RINGS),
        (OpColumn.BOUND, SpanColumn.BOUND),
    ):
        of_span = spans.column(its)
        own = ops.column(column).tolist()
        _need([of_span[span] for span in ops.column(OpColumn.SPAN)] == own, f"ops[{column}] is not its span's")
    rings, strides = ops.column(OpColumn.RINGS), ops.column(OpColumn.STRIDE)
    ops.within(OpColumn.STRIDE, 1, MOST)
    ops.fits(OpColumn.CELL, [w * stride for w, stride in zip(rings, strides, strict=True)], sizes[Size.CELLS])
    ops.within(OpColumn.N_ACC, 0, MOST)
    ops.within(OpColumn.N_TIM, 0, MOST)
    ops.fits(OpColumn.ACC, ops.column(OpColumn.N_ACC), sizes[Size.ACC])
    ops.fits(OpColumn.TIM, ops.column(OpColumn.N_TIM), sizes[Size.TIM])
    ops.within(OpColumn.MARK, -1, sizes[Size.MARKS])


def _apart(bounds: Iterable[tuple[int, int]]) -> None:
    """No span's bounds, (first, rings), are another's: they say how far a stream may be read."""
    end = 0
    for first, rings in sorted(bounds):
        _need(first >= end, "two spans have the same bounds")
        end = first + rings + 1


def _check_needs(ops: _Rows, links: _Rows, parts: "dict[str, array[int]]", marks: int) -> None:
    """Each operation has the cells, slots and columns that its code, rings and size make it touch."""
    names = ("SPAN", "STREAM", "RINGS", "NUMBER", "KEY", "LINK", "SIZE", "STRIDE", "N_ACC", "N_TIM", "MARK")
    columns = [ops.column(OpColumn[name]) for name in ("CODE", *names)]
    spans, params = _Rows("spans", parts["spans"]), parts["params"][Param.P0 :: Param.WIDTH]
    edges, rings_of = spans.column(SpanColumn.EDGE), spans.column(SpanColumn.RINGS)
    streams, reaches = links.column(LinkColumn.STREAM), links.column(LinkColumn.REACH_US)
    for p0, row in zip(params, zip(*columns, strict=True), strict=True):
        code, span, stream, rings, number, key, link, size, stride, acc, tim, mark = row
        op = Op(code)
        needs = STATE[op](rings, size)
        _need(stride >= needs.stride and acc >= needs.acc and tim >= needs.tim, f"{op.name} has too little room")
        _need(number >= 0 or op not in NEEDS_NUMBER, f"{op.name} has no number")
        _need(key != Key.NONE or op not in NEEDS_KEY, f"{op.name} has no key")
        _need(key >= 0 or op != Op.WORDS, "WORDS reads no column")
        _need(not needs.marks or 0 <= mark <= marks - needs.marks, f"{op.name} has no marks")
        # A table of powers has no place for ages that grow negative, nor for none.
        _need(p0 > 0 or op != Op.DECAY, "DECAY has no half-life")
        _need(link >= 0 or not needs.link, f"{op.name} has no link")
        if link >= 0:
            # Behind a link's reach nobody wrote what comes next.
            widest = max(parts["edges_us"][edges[span] : edges[span] + rings_of[span]])
            _need(streams[link] == stream and reaches[link] >= widest, f"{op.name} has another stream's link")


def _check_formulas(formulas: _Rows, cells: int, waves: int) -> None:
    formulas.within(FormulaColumn.CODE, 0, max(Formula) + 1)
    formulas.within(FormulaColumn.SIZE, 1, MOST)
    formulas.within(FormulaColumn.A, 0, cells)
    formulas.within(FormulaColumn.B, -1, cells)
    formulas.within(FormulaColumn.C, -1, cells)
    columns = (FormulaColumn.CODE, FormulaColumn.A, FormulaColumn.SIZE, FormulaColumn.MASK)
    for code, a, size, mask in zip(*map(formulas.column, columns), strict=True):
        _need(a + (7 if code == Formula.WEEKDAY else size) <= cells, "a formula reads beyond the cells")
        if code in (Formula.WAVE_SIN, Formula.WAVE_COS):
            _need(0 <= mask <= waves - size, "a formula reads beyond the waves")
