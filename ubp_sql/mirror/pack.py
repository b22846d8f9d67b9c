"""Columns packed into the narrowest form that gives back every bit (kernels/forms.py)."""

from typing import NamedTuple

import numpy as np

from ubp_sql.kernels.dispatch import F64, I64, NO_KEY
from ubp_sql.kernels.forms import FLOAT, FULL, SINGLE, WIDTHS, form
from ubp_sql.kernels.widen import Widener
from ubp_sql.mirror.layout import Bools, Column

TIME = (6, 3, 0)
"""Exponents that are tried for times, in microseconds: whole seconds, milliseconds."""
DECIMALS = (0, 2, 4)
"""Exponents that are tried for numbers: counts, cents, rates."""
EXACT = 1 << 52
"""Whole numbers up to here, and differences of two, are exact as float64."""


class Packed(NamedTuple):
    """A column's bytes and the two words of its form."""

    raw: bytes
    form: int
    base: int


def pack(column: Column, *, time: bool = False) -> Packed:
    """A column of any length; `time`: whole seconds and milliseconds are looked for."""
    if column.dtype.kind == "f":
        return _numbers(column)
    values: I64 = column.astype(np.int64, copy=False)
    there = values != NO_KEY
    seen = values[there]
    low, high = (int(seen.min()), int(seen.max())) if len(seen) else (0, 0)
    if high - low < 1 << 63:
        offsets = seen - low
        exponent = next(e for e in (TIME if time else (0,)) if not (e and (offsets % 10**e).any()))
        width = _width((high - low) // 10**exponent)
        if width < FULL:
            return Packed(_codes(offsets // 10**exponent, there, width), form(width, exponent), low)
    return Packed(values.astype("<i8", copy=False).tobytes(), form(FULL), 0)


def _numbers(values: F64) -> Packed:
    """Decimals where they are narrower than what float32 or float64 takes."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = Packed(values.astype("<f4").tobytes(), form(SINGLE, FLOAT), 0)
    fits = _gives_back(single, values)
    there = ~np.isnan(values)
    for exponent in DECIMALS:
        packed = _decimals(values[there], there, exponent, SINGLE if fits else FULL)
        if packed is not None and _gives_back(packed, values):
            return packed
    return single if fits else Packed(values.astype("<f8", copy=False).tobytes(), form(FULL, FLOAT), 0)


def _decimals(seen: F64, there: Bools, exponent: int, limit: int) -> Packed | None:
    """Numbers as so many digits behind the point, in less than `limit` bytes; whether they are is for others to say."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(seen * 10.0**exponent)
    if not (np.abs(scaled) <= EXACT).all():
        return None
    whole = scaled.astype(np.int64)
    low, high = (int(whole.min()), int(whole.max())) if len(whole) else (0, 0)
    width = _width(high - low)
    return Packed(_codes(whole - low, there, width), form(width, exponent), low) if width < limit else None


def _width(highest: int) -> int:
    """Bytes for codes up to `highest`; all ones stand for a missing value."""
    return next((width for width in WIDTHS if highest < (1 << 8 * width) - 1), FULL)


def _codes(offsets: I64, there: Bools, width: int) -> bytes:
    codes = np.full(len(there), (1 << 8 * width) - 1, "<i8")
    codes[there] = offsets
    return codes.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def _gives_back(packed: Packed, values: F64) -> bool:
    found = np.empty(len(values))
    Widener(found).column(packed.raw, 0, len(values), packed.form, packed.base)
    return found.tobytes() == values.tobytes()
