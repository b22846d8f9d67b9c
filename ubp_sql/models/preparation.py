"""What is done to a row of features before a model scores it: a program of steps over float64 columns.

A program begins with a row's features; a step changes some columns or adds new ones behind the last; what is left of
them in the end, in the order of `outputs`, is rounded to float32: the row that the model takes.

    code            columns, numbers                   what it does to each x of its columns
    0 COPY          n, -                               adds a column x
    1 FILL          n, n values                        NaN becomes the value
    2 MISSING       n, -                               adds a column: 1 where x is NaN, else 0
    3 INTERPOLATE   n, n widths ascending              see below
    4 CLIP          n, n lows and n highs              low where x < low, high where x > high; NaN stays
    5 LOG1P         n, -                               log(1 + |x|) with the sign of x
    6 SCALE         n, n means and n scales            (x - mean) / scale
    7 TRUNCATE      n, -                               the whole part
    8 ONE_HOT       1, m values ascending              adds m + 2 columns, one of them 1, the others 0: that of x's
                                                       value, the last but one where x is none, the last where it is NaN
    9 DOT           n, n means and k times n weights   adds k columns: the sums of (x - mean) * weight, from 0.0 in the
                                                       order of the columns

INTERPOLATE is for one number in windows of several widths. A missing one lies on the line between its neighbours: a +
(b - a) * ((w - wa) / (wb - wa)), where a is the known one of the next smaller width wa and b that of the next larger
wb; where only one of the two is known, it is that one, and where none is, it stays missing. Known is what was known
before the step.

Arithmetic is float64, operation by operation as written above, `log1p` is libm's: one row in plain Python and many in
NumPy (preparation_batch.py) are the same bits. Neither NumPy nor dataclasses are imported here.

    A program in bytes, little-endian; its counts stand in the header of what holds it (preparation_blob.py):
    for each step   u16 code, u16 0, u32 n columns, u32 v numbers, u32 0; u32 [n] columns; f64 [v] numbers
    then            u32 [m] outputs
"""

from __future__ import annotations

import math
import sys
from array import array
from operator import gt, lt
from struct import Struct
from typing import NamedTuple

from ubp_sql.errors import InvalidModel
from ubp_sql.models.limits import MAX_FEATURES, MAX_WEIGHTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Apply = Callable[[list[float]], object]

COPY, FILL, MISSING, INTERPOLATE, CLIP, LOG1P, SCALE, TRUNCATE, ONE_HOT, DOT = range(10)
NAMES = ("copy", "impute", "indicator", "interpolate", "clip", "log1p", "standardise", "truncate", "one_hot", "pca")
MAX_STEPS = 1_000
MAX_COLUMNS = 2 * MAX_FEATURES  # with those on the way
MAX_NAMED = 20 * MAX_FEATURES  # columns of all steps together: 10 ms a row in plain Python
_STEP = Struct("<HHIII")


class Step(NamedTuple):
    """One step: what its code does with its numbers to its columns."""

    code: int
    columns: array[int]
    numbers: array[float]

    @property
    def added(self) -> int:
        """How many columns it adds."""
        n = len(self.columns)
        if self.code in (COPY, MISSING):
            return n
        if self.code == ONE_HOT:
            return len(self.numbers) + 2
        return len(self.numbers) // n - 1 if self.code == DOT else 0

    @property
    def work(self) -> int:
        """What it costs for a row, about, in multiplications."""
        factor = {LOG1P: 30, INTERPOLATE: 8}.get(self.code, 1)
        return factor * (len(self.columns) + len(self.numbers)) + self.added


def step(code: int, columns: Sequence[int], *numbers: Sequence[float]) -> Step:
    """A step of those columns and those lists of numbers, one after the other."""
    return Step(code, array("I", columns), array("d", [x for some in numbers for x in some]))


class Program:
    """Steps over `features` columns, and which columns are left in the end."""

    __slots__ = ("_apply", "features", "outputs", "steps")

    def __init__(self, features: int, steps: Sequence[Step], outputs: Sequence[int]) -> None:
        """Raises InvalidModel (UB006) where a step cannot be done."""
        self.features, self.steps, self.outputs = features, tuple(steps), array("I", outputs)
        self._check()
        self._apply = [_MAKERS[s.code](s) for s in self.steps]

    def _check(self) -> None:
        columns, numbers, named = self.features, 0, 0
        if not 0 < columns <= MAX_FEATURES or len(self.steps) > MAX_STEPS:
            raise InvalidModel(f"the preparation has {len(self.steps)} steps over {columns} features")
        for k, s in enumerate(self.steps):
            where = f"preparation step {k}"
            _check_step(s, where)
            if max(s.columns) >= columns:
                raise InvalidModel(f"{where}: a column that does not exist")
            columns += s.added
            numbers, named = numbers + len(s.numbers), named + len(s.columns)
            if columns > MAX_COLUMNS or numbers > MAX_WEIGHTS or named > MAX_NAMED:
                raise InvalidModel(
                    f"{where}: more than {MAX_COLUMNS} columns, {MAX_NAMED} named or {MAX_WEIGHTS} numbers"
                )
        if not 0 < len(self.outputs) <= MAX_FEATURES or max(self.outputs) >= columns:
            raise InvalidModel(
                f"preparation outputs: {len(self.outputs)} of {columns} columns, or one that is not there"
            )

    @property
    def work(self) -> int:
        """What a row costs, about, in multiplications."""
        return self.features + sum(s.work for s in self.steps)

    @property
    def nbytes(self) -> int:
        """What a process holds of it, about: Python's numbers."""
        return 80 * (len(self.outputs) + sum(len(s.columns) + len(s.numbers) for s in self.steps))

    def prepare(self, row: Sequence[float]) -> array[float]:
        """The model's row, float32, of a row of features."""
        columns = list(row)
        for apply in self._apply:
            apply(columns)
        return array("f", [columns[i] for i in self.outputs])

    def missing(self) -> list[bool]:
        """Of each output, whether it is missing where a feature is."""
        found = [True] * self.features
        for s in self.steps:
            own = [found[i] for i in s.columns]
            if s.code == FILL:
                for i in s.columns:
                    found[i] = False
            elif s.code == COPY:
                found += own
            else:
                found += [s.code == DOT and any(own)] * s.added
        return [found[i] for i in self.outputs]

    def placed(self, places: Sequence[int]) -> Program:
        """The same program for rows where its feature i is column places[i]."""
        moved = [*places, *range(self.features, MAX_COLUMNS)]
        steps = [s._replace(columns=array("I", [moved[i] for i in s.columns])) for s in self.steps]
        return Program(self.features, steps, [moved[i] for i in self.outputs])

    def to_bytes(self) -> bytes:
        parts = []
        for s in self.steps:
            head = _STEP.pack(s.code, 0, len(s.columns), len(s.numbers), 0)
            parts += [head, _little(s.columns), _little(s.numbers)]
        return b"".join((*parts, _little(self.outputs)))


def read_program(data: bytes, features: int, steps: int, outputs: int) -> Program:
    """The program in those bytes, all of it checked. Raises InvalidModel (UB006)."""
    found = []
    at = 0
    for k in range(min(steps, MAX_STEPS + 1)):
        if len(data) - at < _STEP.size:
            raise InvalidModel(f"preparation step {k}: its bytes are cut short")
        code, zero, n, v, none = _STEP.unpack_from(data, at)
        at += _STEP.size
        if len(data) - at < 4 * n + 8 * v:
            raise InvalidModel(f"preparation step {k}: its bytes are cut short")
        if zero or none:
            raise InvalidModel(f"preparation step {k}: a field of an unknown meaning")
        found.append(Step(code, _array("I", data[at : at + 4 * n]), _array("d", data[at + 4 * n : at + 4 * n + 8 * v])))
        at += 4 * n + 8 * v
    if len(data) - at != 4 * outputs:
        raise InvalidModel("preparation outputs: they do not end where the program does")
    return Program(features, found, _array("I", data[at:]))


def _little(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _array(code: str, data: bytes) -> array[Any]:
    values: array[Any] = array(code, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _check_step(s: Step, where: str) -> None:
    """Raises InvalidModel (UB006) unless its columns are different and its numbers those of its code."""
    n, v = len(s.columns), len(s.numbers)
    if not 0 <= s.code <= DOT:
        raise InvalidModel(f"{where}: a code of an unknown meaning")
    counts = {FILL: v == n, INTERPOLATE: v == n > 1, CLIP: v == 2 * n, SCALE: v == 2 * n}
    counts |= {ONE_HOT: n == 1 <= v, DOT: n > 0 and v >= 2 * n and v % n == 0}
    if n == 0 or not counts.get(s.code, v == 0):
        raise InvalidModel(f"{where}: {v} numbers for {n} columns do not make a step {NAMES[s.code]}")
    if len(set(s.columns)) < n:
        raise InvalidModel(f"{where}: a column comes twice")
    if any(map(math.isnan, s.numbers)) or (s.code != CLIP and any(map(math.isinf, s.numbers))):
        raise InvalidModel(f"{where}: a number that is not finite")
    numbers = s.numbers
    if s.code == CLIP and any(map(gt, numbers[:n], numbers[n:])):
        raise InvalidModel(f"{where}: a lower bound is above its upper one")
    if s.code == SCALE and min(numbers[n:]) <= 0.0:
        raise InvalidModel(f"{where}: a scale is not above 0")
    if s.code in (INTERPOLATE, ONE_HOT) and not all(map(lt, numbers, numbers[1:])):
        raise InvalidModel(f"{where}: its numbers do not ascend")
    if s.code == INTERPOLATE and numbers[0] <= 0.0:
        raise InvalidModel(f"{where}: a width is not above 0")


def _copy(s: Step) -> Apply:
    return lambda row: row.extend([row[i] for i in s.columns])


def _fill(s: Step) -> Apply:
    pairs = list(zip(s.columns, s.numbers, strict=True))

    def apply(row: list[float]) -> None:
        for i, value in pairs:
            x = row[i]
            if x != x:
                row[i] = value

    return apply


def _missing(s: Step) -> Apply:
    return lambda row: row.extend([1.0 if row[i] != row[i] else 0.0 for i in s.columns])


def _interpolate(s: Step) -> Apply:
    columns, widths = s.columns.tolist(), s.numbers.tolist()

    def apply(row: list[float]) -> None:
        known = [j for j, i in enumerate(columns) if row[i] == row[i]]
        if not known or len(known) == len(columns):
            return
        values = [row[i] for i in columns]
        for j, i in enumerate(columns):
            if values[j] == values[j]:
                continue
            low = max((k for k in known if k < j), default=-1)
            high = min((k for k in known if k > j), default=-1)
            if low < 0 or high < 0:
                row[i] = values[max(low, high)]
                continue
            a, b, wa, wb = values[low], values[high], widths[low], widths[high]
            row[i] = a + (b - a) * ((widths[j] - wa) / (wb - wa))

    return apply


def _clip(s: Step) -> Apply:
    n = len(s.columns)
    bounds = list(zip(s.columns, s.numbers[:n], s.numbers[n:], strict=True))

    def apply(row: list[float]) -> None:
        for i, low, high in bounds:
            x = row[i]
            if x < low:
                row[i] = low
            elif x > high:
                row[i] = high

    return apply


def _log1p(s: Step) -> Apply:
    columns, log1p, copysign = s.columns.tolist(), math.log1p, math.copysign

    def apply(row: list[float]) -> None:
        for i in columns:
            x = row[i]
            row[i] = copysign(log1p(abs(x)), x)

    return apply


def _scale(s: Step) -> Apply:
    n = len(s.columns)
    numbers = list(zip(s.columns, s.numbers[:n], s.numbers[n:], strict=True))

    def apply(row: list[float]) -> None:
        for i, mean, scale in numbers:
            row[i] = (row[i] - mean) / scale

    return apply


def _truncate(s: Step) -> Apply:
    columns, isfinite, trunc = s.columns.tolist(), math.isfinite, math.trunc

    def apply(row: list[float]) -> None:
        for i in columns:
            x = row[i]
            if isfinite(x):
                row[i] = math.copysign(float(trunc(x)), x)

    return apply


def _one_hot(s: Step) -> Apply:
    (column,) = s.columns
    places, other = {value: k for k, value in enumerate(s.numbers)}, len(s.numbers)

    def apply(row: list[float]) -> None:
        x = row[column]
        hot = [0.0] * (other + 2)
        hot[places.get(x, other) if x == x else other + 1] = 1.0
        row += hot

    return apply


def _dot(s: Step) -> Apply:
    n = len(s.columns)
    centres = list(zip(s.columns, s.numbers[:n], strict=True))
    weights = [s.numbers[at : at + n].tolist() for at in range(n, len(s.numbers), n)]

    def apply(row: list[float]) -> None:
        centred = [row[i] - mean for i, mean in centres]
        for some in weights:
            total = 0.0
            for x, weight in zip(centred, some, strict=True):  # not sum(), which newer versions of Python compensate
                total += x * weight
            row.append(total)

    return apply


_MAKERS = (_copy, _fill, _missing, _interpolate, _clip, _log1p, _scale, _truncate, _one_hot, _dot)
