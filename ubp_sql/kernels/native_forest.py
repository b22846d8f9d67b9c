"""The row scorer as Numba source, an entry of the native library (ubp_sql/kernels/native.py).

It reads a compiled forest (ubp_sql/models/blob.py) in place. Only what `open_blob` has checked may reach it: there is
no bound check here.
"""

import math
from typing import Any

import numba

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)

HEADER = 64


def score_row(blob: Any, packed: Any, population: int) -> float:
    """Score of one row of float32; NaN when `row[population]` is below 1, that is too little history.

    The leaves are added in tree order in float64, as LightGBM does, so that the bits are the same.
    """
    words = carray(blob, (HEADER // 4,), types.uint32)
    row = carray(packed, (words[4],), types.float32)
    if population >= 0 and not row[population] >= 1.0:
        return math.nan
    trees, nodes, leaves = words[5], words[6], words[7]
    end = HEADER + 8 * leaves + 8 * (trees + 1) + 17 * nodes
    leaf_value = carray(blob, (HEADER // 8 + leaves,), types.float64)
    numbers = carray(blob, (end // 4,), types.int32)
    thresholds = carray(blob, (end // 4,), types.float32)
    flags = carray(blob, (end,), types.uint8)
    node_first = (HEADER + 8 * leaves) // 4
    leaf_first = node_first + trees + 1
    feature = leaf_first + trees + 1
    threshold = feature + nodes
    left = threshold + nodes
    right = left + nodes
    nan_left = 4 * (right + nodes)
    total = 0.0
    for tree in range(trees):
        node = numbers[node_first + tree]
        if node == numbers[node_first + tree + 1]:
            node = ~numbers[leaf_first + tree]
        while node >= 0:
            x = row[numbers[feature + node]]
            if x <= thresholds[threshold + node] or (x != x and flags[nan_left + node] != 0):
                node = numbers[left + node]
            else:
                node = numbers[right + node]
        total += leaf_value[HEADER // 8 + ~node]
    if words[3] & 1:
        total /= trees
    if words[8] >> 16:
        total = 1.0 / (1.0 + math.exp(-leaf_value[5] * total))
    return total
