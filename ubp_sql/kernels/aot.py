"""The kernels on the CPU from the native library: those of cpu.py, to the bit, without Numba and without compiling.

An array is handed over by its address, so that its type and order are checked here; what its numbers refer to is not,
as in cpu.py.
"""

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels import native
from ubp_sql.kernels.dispatch import F32, F64, I64, TOGETHER, BitVectors, EventColumns, Pairs, Plan, Scan, Trees
from ubp_sql.kernels.scratch import new_rows, new_scan

__all__ = ["age_rows", "forest_bits", "forest_raw", "forest_score", "new_scan", "run_pairs", "valid_until"]

# Types and dimensions of tuples and of arguments: a field two letters, as native_batch.py makes arrays of them.
_TYPES: dict[str, np.dtype[Any]] = {
    "l": np.dtype(np.int64),
    "i": np.dtype(np.int32),
    "b": np.dtype(np.uint8),
    "u": np.dtype(np.uint32),
    "d": np.dtype(np.float64),
    "f": np.dtype(np.float32),
}
_PLAN = "l1 l2 d2 l2 l2 l2 d2 l2 d2 l1 d1 l1"
_EVENTS = "l1 l1 l1 i1 i1 d2 l2 l1"
_PAIRS = "l1 l1 l1 l1"
_SCAN = "l1 i2 l2 l2 i2 i2 i1 l1 l1 d1 l1 i2 d1"


def _forms(*parts: str) -> list[tuple[np.dtype[Any], int]]:
    return [(_TYPES[form[0]], int(form[1])) for form in " ".join(parts).split()]


_RUN = _forms(_PLAN, _EVENTS, _PAIRS, _SCAN, "f2 d2")
_UNTIL = _forms(_PLAN, _EVENTS, _PAIRS, "l1 l1 l1 l1")
_AGED = _forms(_PLAN, "l1 l1 d1 d2 l1 f2")
_LEAVES = _forms("f2 i1 f1 i1 b1 d1 i1 i1 u1 i1 d2")
_BITS = _forms("f2 i1 i1 f1 u1 i1 i1 i1 d1 i1 u1 f1 u1 i1 d1 d2")
_LINKS = _forms("d2 d2")


def run_pairs(plan: Plan, events: EventColumns, pairs: Pairs, scan: Scan, budget: int, out: F32, anchors: F64) -> bool:
    """As `Backend.run_pairs`."""
    _written("out", out, len(pairs.user), len(plan.formulas))
    _written("anchors", anchors, len(pairs.user), len(plan.anchors))
    table = _table(_RUN, (*plan, *events, *pairs, *scan, out, anchors))
    return _call("ubp_batch_pairs", table, budget) != 0


def valid_until(
    plan: Plan,
    widths_us: I64,
    first_width: I64,
    events: EventColumns,
    pairs: Pairs,
    cursor: I64,
    budget: int,
    until_us: I64,
) -> bool:
    """As `Backend.valid_until`."""
    _written("until_us", until_us, len(pairs.user))
    table = _table(_UNTIL, (*plan, *events, *pairs, widths_us, first_width, cursor, until_us))
    return _call("ubp_batch_until", table, budget) != 0


def age_rows(
    plan: Plan, as_of_us: I64, weekday: I64, cells: F64, anchors: F64, cursor: I64, budget: int, out: F32
) -> bool:
    """As `Backend.age_rows`."""
    _written("out", out, len(as_of_us), len(plan.formulas))
    if anchors.shape != (len(as_of_us), len(plan.anchors)):
        raise ValueError(f"anchors has shape {anchors.shape}, not {(len(as_of_us), len(plan.anchors))}")
    table = _table(_AGED, (*plan, as_of_us, weekday, cells, anchors, cursor, out))
    return _call("ubp_batch_aged", table, budget) != 0


def forest_raw(x: F32, trees: Trees, outputs: int) -> F64:
    """As `Backend.forest_raw`."""
    total = np.zeros((len(x), outputs))
    scratch = np.empty(TOGETHER, np.int32)
    _call("ubp_batch_leaves", _table(_LEAVES, (x, *trees, scratch, total)))
    return total


def forest_bits(x: F32, form: BitVectors, outputs: int) -> F64:
    """As `Backend.forest_bits`."""
    out = np.empty((len(x), outputs))
    scratch = new_rows(len(form.columns), outputs)
    _call("ubp_batch_bits", _table(_BITS, (x, *form, *scratch, out)))
    return out


def forest_score(raw: F64, divisor: float, link: int, parameter: float) -> F64:
    """As `Backend.forest_score`."""
    out = np.empty_like(raw)
    _call("ubp_batch_links", _table(_LINKS, (raw, out)), divisor, link, parameter)
    return out


def _written(name: str, given: NDArray[Any], *wanted: int) -> None:
    """What a kernel writes all of must be as long as it takes it to be, and not shared with who may only read it."""
    if given.shape != wanted:
        raise ValueError(f"{name} has shape {given.shape}, not {wanted}")
    if not given.flags.writeable:
        raise ValueError(f"{name} is read-only")


def _table(forms: list[tuple[np.dtype[Any], int]], arrays: Iterable[NDArray[Any]]) -> "array[int]":
    """(address, rows, columns) of each array; the caller keeps the arrays."""
    table: list[int] = []
    for place, ((dtype, dimensions), given) in enumerate(zip(forms, arrays, strict=True)):
        flags = given.flags
        if given.dtype != dtype or given.ndim != dimensions or not (flags.c_contiguous and flags.aligned):
            raise TypeError(f"array {place} is {given.dtype} of shape {given.shape}, not contiguous {dtype}")
        address, _ = given.__array_interface__["data"]
        table += (address, len(given), given.shape[1] if dimensions == 2 else 1)
    return array("q", table)


def _call(name: str, table: "array[int]", *numbers: float) -> int:
    function = native.entry(name)
    if function is None:
        raise RuntimeError(f"the native library has no {name}")
    address, _ = table.buffer_info()
    return int(function(address, *numbers))
