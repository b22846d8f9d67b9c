"""Packed columns of the mirror's chunks (forms.py) back to full width."""

import numpy as np

from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels.codes import NO_KEY
from ubp_sql.kernels.dispatch import F64, I64, U8
from ubp_sql.kernels.forms import FLOAT, FULL, MOST_EXPONENT, SHIFT, SINGLE, WIDTH_MASK

# A part of a column: how many values, and their form.
N, FORM, BASE, PART = 0, 1, 2, 3


@op
def width_of(form: int) -> int:
    """Bytes of a value."""
    return int(form & WIDTH_MASK)


@jit
def sound(form: int, number: bool) -> bool:
    """Whether `widen` knows the form."""
    width, exponent = form & WIDTH_MASK, form >> SHIFT
    if number and exponent == FLOAT:
        return width in (SINGLE, FULL)
    if width == FULL:
        return not number and exponent == 0
    return (1 <= width <= 4 or width == 6) and 0 <= exponent <= MOST_EXPONENT


@op
def _code(raw: U8, at: int, width: int) -> int:
    """An unsigned integer; LLVM makes it one load where the width is known, and 1, 2, 4 or 8."""
    code = np.uint64(0)
    for k in range(width):
        code |= np.uint64(raw[np.uintp(at + k)]) << np.uint64(8 * k)
    return np.int64(code)  # type: ignore[return-value]


# A value of 3 or 6 bytes is read with those behind it: LLVM knows loads of 4 and 8 bytes, and makes 6 of single ones.
@op
def _integers(raw: U8, at: int, width: int, load: int, n: int, unit: int, base: int, out: I64, to: int) -> None:
    missing = (1 << 8 * width) - 1
    for i in range(n - 1):
        code = _code(raw, at + i * width, load) & missing
        value = base + unit * code
        out[np.uintp(to + i)] = NO_KEY if code == missing else value
    for i in range(max(0, n - 1), n):
        code = _code(raw, at + i * width, width)
        value = base + unit * code
        out[np.uintp(to + i)] = NO_KEY if code == missing else value


@op
def _numbers(raw: U8, at: int, width: int, load: int, n: int, unit: int, base: int, out: F64, to: int) -> None:
    missing, divisor = (1 << 8 * width) - 1, float(unit)
    for i in range(n - 1):
        code = _code(raw, at + i * width, load) & missing
        value = float(base + code) / divisor
        out[np.uintp(to + i)] = np.nan if code == missing else value
    for i in range(max(0, n - 1), n):
        code = _code(raw, at + i * width, width)
        value = float(base + code) / divisor
        out[np.uintp(to + i)] = np.nan if code == missing else value


@op
def _bits(raw: U8, at: int, n: int, out: I64, to: int) -> None:
    for i in range(n):
        out[np.uintp(to + i)] = _code(raw, at + 8 * i, 8)


@op
def _singles(raw: U8, at: int, n: int, out: F64, to: int) -> None:
    for i in range(n):
        out[np.uintp(to + i)] = np.uint32(_code(raw, at + 4 * i, 4)).view(np.float32)


@jit
def widen(raw: U8, at: int, n: int, form: int, base: int, number: bool, out: I64, numbers: F64, to: int) -> None:
    """The values of n codes from raw[at] on, of a sound form, into `out` from `to` on.

    out, numbers  the same memory: integers are written to `out`, numbers to `numbers`
    """
    width, exponent, unit = form & WIDTH_MASK, form >> SHIFT, 1
    if width == FULL:
        _bits(raw, at, n, out, to)
    elif exponent == FLOAT:
        _singles(raw, at, n, numbers, to)
    else:
        for _ in range(exponent):
            unit *= 10
        # A loop for each width: with one that is known the codes are loads, 0.4-1.4 ns a value in place of up to 2.5.
        if number:
            if width == 1:
                _numbers(raw, at, 1, 1, n, unit, base, numbers, to)
            elif width == 2:
                _numbers(raw, at, 2, 2, n, unit, base, numbers, to)
            elif width == 3:
                _numbers(raw, at, 3, 4, n, unit, base, numbers, to)
            elif width == 4:
                _numbers(raw, at, 4, 4, n, unit, base, numbers, to)
            else:
                _numbers(raw, at, 6, 8, n, unit, base, numbers, to)
        elif width == 1:
            _integers(raw, at, 1, 1, n, unit, base, out, to)
        elif width == 2:
            _integers(raw, at, 2, 2, n, unit, base, out, to)
        elif width == 3:
            _integers(raw, at, 3, 4, n, unit, base, out, to)
        elif width == 4:
            _integers(raw, at, 4, 4, n, unit, base, out, to)
        else:
            _integers(raw, at, 6, 8, n, unit, base, out, to)


@jit
def widen_parts(raw: U8, bytes_: int, parts: I64, n_parts: int, number: bool, out: I64, numbers: F64) -> bool:
    """Parts of a column that follow each other; false if they are not what `raw` holds or a form is none.

    parts  (n_parts * PART,)  form 0: the part is not in `raw`, and its values are not written
    """
    at, to = 0, 0
    for k in range(n_parts):
        n, form, base = parts[PART * k + N], parts[PART * k + FORM], parts[PART * k + BASE]
        if n < 0 or (form != 0 and not (sound(form, number) and n <= bytes_ - at)):
            return False
        if form != 0:
            if at + n * width_of(form) > bytes_:
                return False
            widen(raw, at, n, form, base, number, out, numbers, to)
            at += n * width_of(form)
        to += n
    return at == bytes_
