"""Packed columns of the mirror's chunks (forms.py) back to full width: by the native library, else by NumPy."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import NotReady
from ubp_sql.kernels import native
from ubp_sql.kernels.codes import NO_KEY
from ubp_sql.kernels.forms import FLOAT, FULL, MOST_EXPONENT, SHIFT, SINGLE, WIDTH_MASK, WIDTHS

_TYPES = (np.dtype(np.int64), np.dtype(np.float64))


class Widener:
    """Writes packed columns into an array.

    out  (n,) int64 for integers or float64 for numbers, contiguous

    What is not as long as its parts say, or of no form, raises NotReady (UB005).
    """

    __slots__ = ("_at_out", "_at_table", "_function", "_number", "_out", "_table")

    def __init__(self, out: NDArray[Any]) -> None:
        if out.dtype not in _TYPES or out.ndim != 1 or not out.flags.c_contiguous:
            raise TypeError(f"packed columns into {out.dtype} of shape {out.shape}")
        self._out, self._number = out, out.dtype == _TYPES[1]
        self._function = native.entry("ubp_widen")
        self._at_out, _ = out.__array_interface__["data"]
        self._table = array("q", (0, 0, 0))
        self._at_table, _ = self._table.buffer_info()

    def column(self, raw: bytes, low: int, n: int, form: int, base: int) -> None:
        """A whole column as the values low..low+n-1."""
        if low < 0 or n < 0 or low + n > len(self._out):
            raise IndexError(f"values {low}..{low + n - 1} of {len(self._out)}")
        if self._function is None:
            fits = _by_numpy(raw, (n, form, base), self._number, self._out[low : low + n])
        else:
            table = self._table
            table[0], table[1], table[2] = n, form, base
            fits = self._function(raw, len(raw), self._at_table, 1, self._number, self._at_out + 8 * low, n)
        if not form or not fits:
            raise _damaged()

    def parts(self, raw: bytes, parts: Sequence[int]) -> None:
        """Parts of a column one after the other as all values.

        parts  n, form, base of each; with form 0 it is not in `raw`, and its values stay as they are
        """
        if sum(parts[::3]) != len(self._out):
            raise IndexError(f"{sum(parts[::3])} values of {len(self._out)}")
        if self._function is None:
            fits = _by_numpy(raw, parts, self._number, self._out)
        else:
            table = array("q", parts)
            address, words = table.buffer_info()
            fits = self._function(raw, len(raw), address, words // 3, self._number, self._at_out, len(self._out))
        if not fits:
            raise _damaged()


def _damaged() -> NotReady:
    return NotReady("a chunk of the mirror is damaged", "select * from ubp.rebuild_mirror()")


def _by_numpy(raw: bytes, parts: Sequence[int], number: bool, out: NDArray[Any]) -> bool:
    at, to, k = 0, 0, 0
    while k < len(parts):
        n, form, base = parts[k : k + 3]
        k += 3
        while k < len(parts) and (form, base) == tuple(parts[k + 1 : k + 3]):
            n += parts[k]
            k += 3
        if form:
            size = n * (form & WIDTH_MASK)
            if not sound(form, number) or at + size > len(raw):
                return False
            _part(raw[at : at + size], n, form, base, out[to : to + n])
            at += size
        to += n
    return at == len(raw)


def sound(form: int, number: bool) -> bool:
    """Whether a form is one."""
    width, exponent = form & WIDTH_MASK, form >> SHIFT
    if number and exponent == FLOAT:
        return width in (SINGLE, FULL)
    most = 0 if width == FULL else MOST_EXPONENT
    return width in WIDTHS and not (number and width == FULL) and 0 <= exponent <= most


def _part(raw: bytes, n: int, form: int, base: int, out: NDArray[Any]) -> None:
    width, exponent = form & WIDTH_MASK, form >> SHIFT
    if exponent == FLOAT:
        out[:] = np.frombuffer(raw, f"<f{width}")
        return
    if width == FULL:
        out[:] = np.frombuffer(raw, "<i8")
        return
    wide = np.zeros((n, 8), np.uint8)
    wide[:, :width] = np.frombuffer(raw, np.uint8).reshape(n, width)
    codes = wide.view("<i8").ravel()
    missing = codes == (1 << 8 * width) - 1
    if out.dtype == np.float64:
        np.divide(codes + base, 10.0**exponent, out=out)
        out[missing] = np.nan
    else:
        np.add(codes * 10**exponent, base, out=out)
        out[missing] = NO_KEY
