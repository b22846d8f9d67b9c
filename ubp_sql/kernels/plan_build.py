"""From operations and formulas, asked for by name of what they read, to the arrays of a `Plan`.

A caller asks for cells: "the sum of number 0 over purchase events in 30 days". The builder makes one operation of all
requests that differ in the window only, one stream of all operations over the same events, one link of all that
compare the same keys, and deals out the state. The same requests in the same order give the same plan.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.kernels.codes import STEP_BITS, WAVE_DIGITS
from ubp_sql.kernels.dispatch import (
    AGEING,
    LIFETIME_US,
    MAX_KINDS,
    MAX_RINGS,
    Formula,
    FormulaColumn,
    Key,
    LinkColumn,
    Op,
    OpColumn,
    Param,
    Plan,
    Size,
    SpanColumn,
    StreamColumn,
)
from ubp_sql.kernels.op_state import NEEDS_KEY, NEEDS_NUMBER, ONE_RING, STATE

MAX_OPS = 4000
MAX_SIZE = 1024
MAX_STEPS = 12


class Where(NamedTuple):
    """A condition on events: low <= number < high, or key == equals; a missing one does not pass."""

    number: int = -1
    low: float = -math.inf
    high: float = math.inf
    key: int = Key.NONE
    equals: int = 0


ANY = Where()


@dataclass(frozen=True, slots=True)
class OpSpec:
    """An operation but for its windows.

    kinds        indices of the kinds whose events it takes
    number, key  columns, or a Key; what the operation reads (see Op)
    where        condition
    size         SIZE: bins, newest values, most frequent keys, bits
    steps        FUNNEL: a kind for each step
    p0           DECAY: half-life; FUNNEL: bound; SESSIONS, LAST_SESSION, DWELL: timeout; in us
    last_n       above 0: over the newest last_n events instead of windows
    buckets      above 0: over that many buckets of bucket_us instead of windows that share their end
    until        DWELL: kinds whose next event ends the stay; empty: those of `kinds`
    """

    code: Op
    kinds: tuple[int, ...]
    number: int = -1
    key: int = Key.NONE
    where: Where = ANY
    size: int = 1
    steps: tuple[int, ...] = ()
    p0: float = 0.0
    p1: float = 0.0
    last_n: int = 0
    buckets: int = 0
    bucket_us: int = 0
    until: tuple[int, ...] = ()


class Cell(NamedTuple):
    """Cell j of an operation's window: its width, or the number of the bucket (0 the newest)."""

    spec: OpSpec
    window: int
    j: int

    def beside(self, steps: int) -> "Cell":
        """The cell so many places on, of the same window."""
        return self._replace(j=self.j + steps)


class _Formula(NamedTuple):
    code: Formula
    a: Cell
    b: Cell | None
    c: Cell | None
    size: int
    mask: int
    f0: float
    f1: float


class PlanBuilder:
    """Collects cells and formulas; the order of `formula` calls is the order of features.

    Raises BadInput (UB003) on what no kernel could compute: kinds out of range, too many rings, sizes or operations,
    an operation without the number or key that it reads.
    """

    def __init__(self, kinds: int) -> None:
        if not 1 <= kinds <= MAX_KINDS:
            raise BadInput(f"plan: {kinds} kinds, not 1 to {MAX_KINDS}")
        self._kinds = kinds
        self._windows: dict[OpSpec, set[int]] = {}
        self._formulas: list[_Formula] = []

    def cell(self, spec: OpSpec, window: int = LIFETIME_US, j: int = 0) -> Cell:
        """Cell j of `spec` in the window of that width in us (or bucket of that number; 0 for last_n)."""
        _check(spec, self._kinds)
        if spec.last_n:
            window = 0
        elif spec.buckets:
            if not 0 <= window < spec.buckets:
                raise BadInput(f"plan: bucket {window} of {spec.buckets}")
        elif not 1 <= window <= LIFETIME_US:
            raise BadInput(f"plan: a window of {window} us")
        self._windows.setdefault(spec, set()).add(window)
        return Cell(spec, window, j)

    def formula(
        self,
        code: Formula,
        a: Cell,
        b: Cell | None = None,
        c: Cell | None = None,
        *,
        f0: float = 1.0,
        f1: float = 1.0,
        size: int = 1,
        mask: int = 0,
    ) -> int:
        """Add a feature; its position in the row."""
        self._formulas.append(_Formula(code, a, b, c, size, mask, f0, f1))
        return len(self._formulas) - 1

    def again(self, position: int) -> int:
        """Add the feature of that position once more; its position in the row."""
        self._formulas.append(self._formulas[position])
        return len(self._formulas) - 1

    def plan(self) -> Plan:
        """The plan of everything asked for so far."""
        if len(self._windows) > MAX_OPS:
            raise BadInput(f"plan: {len(self._windows)} operations, more than {MAX_OPS}")
        return _Assembly(self._kinds, self._windows, self._formulas).plan()


def _check(spec: OpSpec, kinds: int) -> None:
    named = (*spec.kinds, *spec.steps, *spec.until)
    if not spec.kinds or not all(0 <= kind < kinds for kind in named):
        raise BadInput(f"plan: {spec.code.name} over kinds {named}, of which there are {kinds}")
    if spec.code in NEEDS_NUMBER and spec.number < 0:
        raise BadInput(f"plan: {spec.code.name} wants a number")
    if spec.code in NEEDS_KEY and spec.key == Key.NONE:
        raise BadInput(f"plan: {spec.code.name} wants a key")
    if not 1 <= spec.size <= MAX_SIZE or len(spec.steps) > MAX_STEPS:
        raise BadInput(f"plan: {spec.code.name} of size {spec.size} and {len(spec.steps)} steps")
    if spec.buckets and not (1 <= spec.buckets <= MAX_RINGS and 1 <= spec.bucket_us * spec.buckets < LIFETIME_US):
        raise BadInput(f"plan: {spec.buckets} buckets of {spec.bucket_us} us")
    if spec.last_n < 0 or spec.last_n >= 1 << 31 or (spec.last_n and spec.buckets):
        raise BadInput(f"plan: the newest {spec.last_n} events in {spec.buckets} buckets")


def _mask(kinds: Iterable[int]) -> int:
    return sum(1 << kind for kind in set(kinds))


class _Assembly:
    """Numbers what was asked for: rows of streams, spans, links and ops, and their slots."""

    def __init__(self, kinds: int, windows: dict[OpSpec, set[int]], formulas: list[_Formula]) -> None:
        self.kinds, self.formulas = kinds, formulas
        self.edges: list[int] = []
        self.edge_of: dict[tuple[int, ...], int] = {}
        self.streams: dict[tuple[int, Where], list[int]] = {}
        self.spans: dict[tuple[object, ...], tuple[int, list[int]]] = {}
        self.links: dict[tuple[int, int], tuple[int, list[int]]] = {}
        self.ops: list[list[int]] = []
        self.params: list[tuple[float, float]] = []
        self.waves: list[float] = []
        self.used = dict.fromkeys((Size.ACC, Size.TIM, Size.CELLS, Size.BOUNDS, Size.MARKS), 0)
        self.rings: dict[OpSpec, tuple[int, ...]] = {}
        self.row_of: dict[OpSpec, list[int]] = {}
        # Operations of one stream follow each other: its events are then still in the nearest cache.
        for spec in windows:
            self._stream(spec)
        for spec in sorted(windows, key=lambda spec: self._stream(spec)):
            self._op(spec, windows[spec])

    def _stream(self, spec: OpSpec) -> int:
        mask = _mask((*spec.kinds, *spec.steps, *spec.until))
        row = [mask, spec.where.number, int(spec.where.key), spec.where.equals, 0]
        self.streams.setdefault((mask, spec.where), row)
        return list(self.streams).index((mask, spec.where))

    def _span(self, spec: OpSpec, stream: int, widths: tuple[int, ...]) -> int:
        key = (stream, widths, bool(spec.buckets), spec.last_n)
        if key not in self.spans:
            if widths not in self.edge_of:
                self.edge_of[widths] = len(self.edges)
                self.edges.extend(widths)
            row = [stream, self.edge_of[widths], len(widths), int(not spec.buckets), spec.last_n]
            self.spans[key] = (len(self.spans), [*row, self._take(Size.BOUNDS, len(widths) + 1)])
        return self.spans[key][0]

    def _take(self, what: Size, n: int) -> int:
        first = self.used[what]
        self.used[what] += n
        return first

    def _op(self, spec: OpSpec, windows: set[int]) -> None:
        if spec.last_n:
            widths: tuple[int, ...] = (LIFETIME_US,)
            self.rings[spec] = (0,)
        elif spec.buckets:
            widths = tuple(spec.bucket_us * (v + 1) for v in range(spec.buckets))
            self.rings[spec] = tuple(range(spec.buckets))
        else:
            widths = self.rings[spec] = tuple(sorted(windows))
        w = len(widths)
        if w > MAX_RINGS or (w > 1 and spec.code in ONE_RING):
            raise BadInput(f"plan: {spec.code.name} over {w} windows")
        stream = self._stream(spec)
        span = self._span(spec, stream, widths)
        size = len(spec.steps) or spec.size
        state = STATE[spec.code](w, size)
        link = -1
        row = self.streams[list(self.streams)[stream]]
        row[StreamColumn.REACH_US] = max(row[StreamColumn.REACH_US], widths[-1])
        if state.link or (spec.code == Op.GAPS and spec.key != Key.NONE):
            number, entry = self.links.setdefault((stream, spec.key), (len(self.links), [stream, spec.key, 0]))
            entry[LinkColumn.REACH_US] = max(entry[LinkColumn.REACH_US], widths[-1])
            link = number
        op = [0] * OpColumn.WIDTH
        op[OpColumn.CODE] = spec.code
        op[OpColumn.SPAN] = span
        op[OpColumn.STREAM] = stream
        op[OpColumn.RINGS] = w
        op[OpColumn.CUMULATIVE] = int(not spec.buckets)
        op[OpColumn.BOUND] = list(self.spans.values())[span][1][SpanColumn.BOUND]
        op[OpColumn.NUMBER] = spec.number
        op[OpColumn.KEY] = spec.key
        op[OpColumn.LINK] = link
        op[OpColumn.KINDS] = _mask(spec.kinds)
        op[OpColumn.SIZE] = size
        if spec.code == Op.DWELL:
            op[OpColumn.STEPS] = _mask(spec.until or spec.kinds)
        else:
            op[OpColumn.STEPS] = sum((kind + 1) << (STEP_BITS * i) for i, kind in enumerate(spec.steps))
        op[OpColumn.STRIDE] = state.stride
        op[OpColumn.CELL] = self._take(Size.CELLS, w * state.stride)
        op[OpColumn.N_ACC], op[OpColumn.N_TIM] = state.acc, state.tim
        op[OpColumn.ACC] = self._take(Size.ACC, state.acc)
        op[OpColumn.TIM] = self._take(Size.TIM, state.tim)
        op[OpColumn.MARK] = self._take(Size.MARKS, state.marks) if state.marks else -1
        op[OpColumn.SCANS] = int(state.scans)
        self.row_of[spec] = op
        self.ops.append(op)
        self.params.append((spec.p0, spec.p1))

    def place(self, cell: Cell | None) -> int:
        """Number of a cell; -1 for none."""
        if cell is None:
            return -1
        op = self.row_of[cell.spec]
        if not 0 <= cell.j < op[OpColumn.STRIDE]:
            raise BadInput(f"plan: cell {cell.j} of {cell.spec.code.name}, which has {op[OpColumn.STRIDE]}")
        return op[OpColumn.CELL] + op[OpColumn.STRIDE] * self.rings[cell.spec].index(cell.window) + cell.j

    def _wave(self, code: Formula, size: int) -> int:
        """Where the sines or cosines of 2 pi j / size begin in `waves`.

        Rounded: one libm's last bit would make one machine's features differ from another's.
        """
        shift = 0.0 if code == Formula.WAVE_SIN else 0.25
        values = [round(math.sin(2 * math.pi * ((j / size + shift) % 1.0)), WAVE_DIGITS) for j in range(size)]
        for first in range(len(self.waves) - size + 1):
            if self.waves[first : first + size] == values:
                return first
        self.waves.extend(values)
        return len(self.waves) - size

    def _formula(self, formula: _Formula) -> list[int]:
        waving = formula.code in (Formula.WAVE_SIN, Formula.WAVE_COS)
        mask = self._wave(formula.code, formula.size) if waving else formula.mask
        row = [0] * FormulaColumn.WIDTH
        row[FormulaColumn.CODE] = formula.code
        row[FormulaColumn.A], row[FormulaColumn.B] = self.place(formula.a), self.place(formula.b)
        row[FormulaColumn.C] = self.place(formula.c)
        row[FormulaColumn.SIZE], row[FormulaColumn.MASK] = formula.size, mask
        return row

    def _anchors(self, rows: list[list[int]]) -> list[int]:
        read: set[int] = set()
        for row in rows:
            if row[FormulaColumn.CODE] in AGEING:
                n = 7 if row[FormulaColumn.CODE] == Formula.WEEKDAY else 1
                read.update(range(row[FormulaColumn.A], row[FormulaColumn.A] + n))
                read.add(row[FormulaColumn.B])
        # What a population is looked up by: float32 would not hold it.
        read.update(op[OpColumn.CELL] for op in self.ops if op[OpColumn.CODE] == Op.LAST_KEY)
        return sorted(read - {-1})

    def _sizes(self) -> list[int]:
        """In the order of `Size`."""
        specs = list(self.row_of)
        numbers = [n for spec in specs for n in (spec.number, spec.where.number)]
        keys = [k for spec in specs for k in (spec.key, spec.where.key)]
        reach = max((row[StreamColumn.REACH_US] for row in self.streams.values()), default=0)
        counted = [self.used[name] for name in (Size.ACC, Size.TIM, Size.CELLS, Size.BOUNDS, Size.MARKS)]
        return [self.kinds, max(numbers, default=-1) + 1, max([*keys, -1]) + 1, *counted, reach]

    def plan(self) -> Plan:
        """The arrays."""
        rows = [self._formula(formula) for formula in self.formulas]
        return Plan(
            _ints(self.edges),
            _ints([*self.streams.values()], StreamColumn.WIDTH),
            _floats([(where.low, where.high) for _, where in self.streams], 2),
            _ints([row for _, row in self.spans.values()], SpanColumn.WIDTH),
            _ints([row for _, row in self.links.values()], LinkColumn.WIDTH),
            _ints(self.ops, OpColumn.WIDTH),
            _floats(self.params, Param.WIDTH),
            _ints(rows, FormulaColumn.WIDTH),
            _floats([(formula.f0, formula.f1) for formula in self.formulas], 2),
            _ints(self._anchors(rows)),
            np.array(self.waves, np.float64),
            _ints(self._sizes()),
        )


def _ints(rows: object, width: int = 0) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    array = np.array(rows, np.int64)
    return array.reshape(-1, width) if width else array.reshape(-1)


def _floats(rows: object, width: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.array(rows, np.float64).reshape(-1, width)
