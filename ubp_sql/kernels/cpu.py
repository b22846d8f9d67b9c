"""The kernels on the CPU, compiled by Numba in this process; aot.py and gpu.py have the same names and signatures."""

import numpy as np

from ubp_sql.kernels._cpu_engine import run_pairs
from ubp_sql.kernels._cpu_forest import add_leaves, link_rows
from ubp_sql.kernels._cpu_formulas import age_rows
from ubp_sql.kernels._cpu_valid import valid_until
from ubp_sql.kernels.dispatch import F32, F64, I32, U8
from ubp_sql.kernels.scratch import new_scan

__all__ = ["age_rows", "forest_raw", "forest_score", "new_scan", "run_pairs", "valid_until"]


def forest_raw(
    x: F32, feature: I32, threshold: F32, left: I32, right: I32, nan_left: U8, leaf_value: F64, root: I32
) -> F64:
    """As `Backend.forest_raw`."""
    total = np.zeros(len(x))
    add_leaves(x, feature, threshold, left, right, nan_left, leaf_value, root, total)
    return total


def forest_score(raw: F64, divisor: float, sigmoid: float) -> F64:
    """As `Backend.forest_score`."""
    out = np.empty(len(raw))
    link_rows(raw, divisor, sigmoid, out)
    return out
