"""Types that features and every backend agree on, and which backend runs.

Imports NumPy only: a feature set can be listed without paying for Numba. A backend is a module (`aot`, `cpu`,
`gpu`) that exports the functions of `Backend` with equal signatures and defaults.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels import native
from ubp_sql.kernels.codes import (
    AGEING,
    ANCHOR_EPOCH_US,
    DAY_US,
    HOUR_US,
    LIFETIME_US,
    MAX_KINDS,
    MAX_RINGS,
    NO_KEY,
    OTHER_KIND,
    At,
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

__all__ = [
    "AGEING",
    "ANCHOR_EPOCH_US",
    "CATEGORIES",
    "DAY_US",
    "F32",
    "F64",
    "HOUR_US",
    "I8",
    "I32",
    "I64",
    "LANES",
    "LIFETIME_US",
    "MAX_KINDS",
    "MAX_RINGS",
    "NO_KEY",
    "OTHER_KIND",
    "PLAIN",
    "TOGETHER",
    "U8",
    "U32",
    "ZERO_MISSING",
    "At",
    "Backend",
    "BitVectors",
    "EventColumns",
    "Formula",
    "FormulaColumn",
    "Key",
    "LinkColumn",
    "NoCard",
    "Op",
    "OpColumn",
    "Pairs",
    "Param",
    "Plan",
    "Scan",
    "Size",
    "SpanColumn",
    "StreamColumn",
    "Trees",
    "backend",
    "use",
]

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class EventColumns(NamedTuple):
    """Events of u users sorted by (user, time, ingested, id); user i owns first[i]:first[i+1]."""

    first: I64  # (u+1,)
    t_us: I64  # (n,) microseconds since 1970 UTC
    ingested_us: I64  # (n,)
    offset_s: I32  # (n,) local time minus UTC, seconds
    kind: I32  # (n,) 0..k-1 or OTHER_KIND
    numbers: F64  # (q, n) NaN = missing
    keys: I64  # (r, n) NO_KEY = missing
    holidays: I64  # (h,) ascending days since 1970


class Plan(NamedTuple):
    """A feature set as the kernels read it; columns and codes in codes.py. Made by plan_build.py."""

    edges_us: I64  # (E,) widths of the groups of windows, one group after the other, ascending within it
    streams: I64  # (s, StreamColumn)
    stream_params: F64  # (s, 2) low, high
    spans: I64  # (S, SpanColumn)
    links: I64  # (l, LinkColumn)
    ops: I64  # (m, OpColumn)
    params: F64  # (m, Param)
    formulas: I64  # (f, FormulaColumn)
    factors: F64  # (f, 2)
    anchors: I64  # (a,) cells that ageing formulas read, ascending
    waves: F64  # sin(2 pi j / SIZE) for each SIZE in use
    sizes: I64  # (Size,)


class Pairs(NamedTuple):
    """The (user, moment) pairs to compute; an event counts iff t < as_of and ingested <= known_at."""

    user: I64  # (p,) index of the user, not falling
    as_of_us: I64  # (p,)
    known_at_us: I64  # (p,)
    weekday: I64  # (p,) local weekday of as_of, Monday 0


class Scan(NamedTuple):
    """Scratch of the pair under way and where the work stands, for users of at most `longest` events.

    An entry of a stream is an event's place counted from its user's first event; entries ascend. The pair under way
    sees the entries bounds[BOUND] (exclusive) down to bounds[BOUND + RINGS] of a span's stream; ring v is
    bounds[BOUND + v + 1] up to, without, bounds[BOUND + v]. Every event in there is known and before as_of.
    """

    at: I64  # (At,)
    stream: I32  # (2 s, longest) entries; the pair's stream q is row at[BANK] + q
    filled: I64  # (2 s, 1) number of entries of each row
    latest: I64  # (s, longest) greatest ingestion time up to the entry
    after: I32  # (2 l, longest) the next entry of the same key, NONE_AFTER without, NO_LINK for a missing key
    before: I32  # (2 l, longest) the previous entry of the same key, -1 without, NO_LINK
    table: I32  # (slots,) hash table, slots a power of two >= 4 longest
    tops: I64  # (s,) one past the pair's newest entry of each stream
    bounds: I64  # (BOUNDS,)
    acc: F64  # (ACC,) 0 at the start of each operation
    tim: I64  # (TIM,) 0 at the start of each operation
    marks: I32  # (MARKS, longest) anything, by entry
    cells: F64  # (CELLS,)


TOGETHER = 16
"""Rows that go through a tree together: with 8 a tenth slower, with 32 no faster."""
LANES = 64
"""Rows that a forest of bit vectors takes at a time; with 32 a fifth slower."""


PLAIN, ZERO_MISSING, CATEGORIES = 0, 1, 2  # of a column of such rows: as it is, zeros as NaN, impossible ones as 2**24


class BitVectors(NamedTuple):
    """A forest as conditions on words of up to 32 leaves, see _cpu_bitvector.py; made by models/bit_vectors.py.

    A tree's leaves are numbered from left to right; bit b of its word v is leaf 32 v + b. A word has its conditions
    once for each class, NUMERIC_LEFT, NUMERIC_RIGHT (where NaN goes), CATEGORY.
    """

    columns: I32  # (c,) what a column of a block of rows holds: 4 times the feature + PLAIN, ZERO_MISSING or CATEGORIES
    column: I32  # (q,) LANES times the column that a condition compares
    threshold: F32  # (q,) of a category condition the number of its set
    keep: U32  # (q,) the leaves of the word that a row keeps that goes right
    bounds: I32  # (3 w + 1,) word i has the conditions bounds[3 i + class] <= j < bounds[3 i + class + 1]
    word_first: I32  # (t+1,) tree k has the words word_first[k] <= i < word_first[k+1]
    leaf_first: I32  # (t+1,) likewise leaves
    leaf: F64  # (m,) values, in the order of the bits
    set_first: I32  # (s+1,) set j has the words set_first[j] <= i < set_first[j+1], the last of them 0
    set_words: U32  # (z,) bit c % 32 of a set's word c // 32 says whether it has category c


class Trees(NamedTuple):
    """A forest's nodes and leaves, numbered through all trees; made of a `Blob`, which has checked every index.

    Leaf i is node n + i, which leads to itself: rows that are there already need no test.
    """

    feature: I32  # (n+m,) column that a node compares; of a leaf 0
    threshold: F32  # (n+m,) x <= threshold goes left; of a CATEGORY node the number of its set
    child: I32  # (2 (n+m),) next node, left and right
    flags: U8  # (n+m,) forest_codes.NODE_FLAGS
    leaf_value: F64  # (m,)
    root: I32  # (t,) where each tree's walk starts
    set_first: I32  # (s+1,) set j has the words set_first[j]:set_first[j+1]
    set_words: U32  # (w,)


class NoCard(RuntimeError):
    """No GPU can be used; the message says why."""


class Backend(Protocol):
    """The operations that each backend module exports."""

    def new_scan(self, plan: Plan, longest: int, low_us: int, high_us: int, seed: int = 0) -> Scan:
        """Scratch for users of at most `longest` events and moments from low_us to high_us."""

    def run_pairs(
        self, plan: Plan, events: EventColumns, pairs: Pairs, scan: Scan, budget: int, out: F32, anchors: F64
    ) -> bool:
        """Compute about `budget` events' worth of further pairs into `out` (p, f), `anchors` (p, a); true when done."""

    def valid_until(
        self,
        plan: Plan,
        widths_us: I64,
        first_width: I64,
        events: EventColumns,
        pairs: Pairs,
        cursor: I64,
        budget: int,
        until_us: I64,
    ) -> bool:
        """Until when nothing enters or leaves a window of each pair, into `until_us` (p,); true when done."""

    def age_rows(
        self, plan: Plan, as_of_us: I64, weekday: I64, cells: F64, anchors: F64, cursor: I64, budget: int, out: F32
    ) -> bool:
        """Rewrite the ageing features of `out` (p, f) from `anchors` (p, a); true when done."""

    def forest_raw(self, x: F32, trees: Trees, outputs: int) -> F64:
        """Sums of leaves per row and output, in tree order; tree i adds to output i % outputs.

        x           (r, f) float32    rows, C order; NaN is missing, infinities are allowed
        returns     (r, k) float64    0.0 for no trees

        Indices are not checked here: they come from a `Blob`, which is. The sums have LightGBM's bits.
        """

    def forest_bits(self, x: F32, form: BitVectors, outputs: int) -> F64:
        """As `forest_raw`, the same bits, of a forest laid out as bit vectors."""

    def forest_score(self, raw: F64, divisor: float, link: int, parameter: float) -> F64:
        """The link of a forest, per row: raw / divisor, then the link of forest_codes.

        raw (r, k) float64; returns (r, k) float64. exp and log1p are the C library's, one value at a time: NumPy's
        vector forms differ from them, and so from LightGBM, in the last bit.
        """


def backend(device: str | None = None) -> Backend:
    """The module that runs the kernels.

    device  None: what `use` said, else the native library (aot), which needs no compiler, or where it is not there
            `cpu`, whose import costs what Numba's does (0.6-0.9 s, 63 MB) and whose first use compiles

    Raises NoCard for `gpu` where there is none.
    """
    if device is None:
        device = _used[-1] if _used else "cpu" if native.entry("ubp_batch_pairs") is None else "aot"
    module = import_module(f"ubp_sql.kernels.{device}")
    if device == "gpu" and (said := module.fault()):
        raise NoCard(said)
    return cast(Backend, module)


_used: list[str] = []


@contextmanager
def use(device: str | None) -> Iterator[None]:
    """What `backend()` gives within the block, of this process; None: as without."""
    kept = _used[:]
    _used[:] = [device] if device else []
    try:
        yield
    finally:
        _used[:] = kept
