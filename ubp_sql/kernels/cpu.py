"""The kernels on the CPU, compiled by Numba in this process; aot.py and gpu.py have the same names and signatures."""

import numpy as np

from ubp_sql.kernels._cpu_bitvector import add_bits
from ubp_sql.kernels._cpu_engine import run_pairs
from ubp_sql.kernels._cpu_forest import add_leaves, link_rows
from ubp_sql.kernels._cpu_formulas import age_rows
from ubp_sql.kernels._cpu_valid import valid_until
from ubp_sql.kernels.dispatch import F32, F64, TOGETHER, BitVectors, Trees
from ubp_sql.kernels.scratch import new_rows, new_scan

__all__ = ["age_rows", "forest_bits", "forest_raw", "forest_score", "new_scan", "run_pairs", "valid_until"]


def forest_raw(x: F32, trees: Trees, outputs: int) -> F64:
    """As `Backend.forest_raw`."""
    total = np.zeros((len(x), outputs))
    add_leaves(x, trees, np.empty(TOGETHER, np.int32), total)
    return total


def forest_bits(x: F32, form: BitVectors, outputs: int) -> F64:
    """As `Backend.forest_bits`."""
    out = np.empty((len(x), outputs))
    add_bits(x, form, *new_rows(len(form.columns), outputs), out)
    return out


def forest_score(raw: F64, divisor: float, link: int, parameter: float) -> F64:
    """As `Backend.forest_score`."""
    out = np.empty_like(raw)
    link_rows(raw, divisor, link, parameter, out)
    return out
