"""Packed columns back to full width, an entry of the native library (native.py)."""

from typing import Any

import numba

from ubp_sql.kernels._cpu_forms import PART, widen_parts

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)


def widen_column(raw: Any, raw_bytes: int, parts_at: Any, n_parts: int, number: int, out_at: Any, n: int) -> int:
    """1, or 0 where the parts are not what `raw` holds; `out_at` has room for the n values of all parts."""
    return widen_parts(
        carray(raw, (raw_bytes,), types.uint8),
        raw_bytes,
        carray(parts_at, (PART * n_parts,), types.int64),
        n_parts,
        number != 0,
        carray(out_at, (n,), types.int64),
        carray(out_at, (n,), types.float64),
    )
