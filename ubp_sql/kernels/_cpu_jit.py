"""How kernels are compiled by Numba, and reads for their inner loops."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from ubp_sql.kernels.dispatch import F64, I32, I64

F = TypeVar("F", bound=Callable[..., object])

# No fastmath: the order of additions is part of the result. No reference counts: arrays are the caller's, and with
# counts a pass over 100,000 users of 50 events took 12 times as long.
_COMMON: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
# Not to be called from Python: the ways in from there took a third of the time to compile.
_INNER: dict[str, Any] = {
    "forceinline": True,
    "no_rewrites": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def jit(function: F) -> F:
    """Compile lazily, with an on-disk cache."""
    return cast(F, numba.njit(cache=True, nogil=True, **_COMMON)(function))


def op(function: F) -> F:
    """As `jit`, inlined where it is called: a call would pass some 150 words of array descriptions."""
    return cast(F, numba.njit(**_COMMON, **_INNER)(function))


# Their indices are unsigned: Numba then leaves out the test for one that counts from the end, a tenth of all time.


@op
def entry(table: I32, row: int, j: int) -> int:
    """table[row, j]."""
    return int(table[np.uintp(row), np.uintp(j)])


@op
def time_at(t_us: I64, i: int) -> int:
    """t_us[i]."""
    return int(t_us[np.uintp(i)])


@op
def number_at(numbers: F64, row: int, i: int) -> float:
    """numbers[row, i]."""
    return float(numbers[np.uintp(row), np.uintp(i)])
