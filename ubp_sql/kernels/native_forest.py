"""The row scorer as Numba source, entries of the native library (ubp_sql/kernels/native.py).

It reads a compiled forest (ubp_sql/models/blob.py) in place. Only what `open_blob` has checked may reach it: there is
no bound check here. The leaves are added in tree order in float64, as LightGBM does, so that the bits are the same.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from ubp_sql.kernels._cpu_forest import link_outputs, linked, special_left
from ubp_sql.kernels._cpu_jit import op
from ubp_sql.kernels._cpu_matrix import view
from ubp_sql.kernels.forest_codes import ZERO

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)

HEADER = 64
AVERAGE, SPECIAL = 1, 2


class Compiled(NamedTuple):
    """A compiled forest in place: the whole value as numbers of each kind, and the words where its parts begin."""

    words: Any
    numbers: Any
    floats: Any
    leaf_value: Any
    trees: int
    nodes: int
    node_first: int
    leaf_first: int
    set_first: int
    set_words: int
    link: int
    outputs: int
    divisor: float
    parameter: float


@view
def opened(blob: Any) -> Compiled:
    head = carray(blob, (HEADER // 4,), types.uint32)
    doubles = carray(blob, (HEADER // 8 + head[7],), types.float64)
    trees, outputs = int(head[5]), int(head[8] & 0xFFFF)
    nodes = HEADER // 4 + 2 * int(head[7])
    node_first = nodes + 4 * int(head[6])
    leaf_first = node_first + trees + 1
    set_first = leaf_first + trees + 1
    set_words = set_first + int(head[9]) + 1
    size = set_words + int(head[14])
    return Compiled(
        carray(blob, (size,), types.uint32),
        carray(blob, (size,), types.int32),
        carray(blob, (size,), types.float32),
        doubles,
        trees,
        nodes,
        node_first,
        leaf_first,
        set_first,
        set_words,
        int(head[8] >> 16),
        outputs,
        float(trees // outputs) if head[3] & AVERAGE else 1.0,
        doubles[5],
    )


@op
def _root(forest: Compiled, tree: int) -> int:
    """Where a tree's walk starts: a node, or ~leaf."""
    node = forest.numbers[np.uintp(forest.node_first + tree)]
    if node == forest.numbers[np.uintp(forest.node_first + tree + 1)]:
        return ~int(forest.numbers[np.uintp(forest.leaf_first + tree)])
    return int(node)


@op
def leaf(forest: Compiled, end: int) -> float:
    """The value of leaf ~end."""
    return float(forest.leaf_value[np.uintp(HEADER // 8 + ~end)])


@op
def _down(forest: Compiled, row: Any, node: int) -> int:
    """One level down from a node without ZERO and CATEGORY; a leaf stays."""
    if node < 0:
        return node
    at = np.uintp(forest.nodes + 4 * node)
    word = forest.words[at]
    x = row[np.uintp(word & 0xFFFF)]
    # Not `or`, `and`: either way costs the same, and no branch is there to be guessed wrong.
    left = (x <= forest.floats[at + np.uintp(1)]) | ((x != x) & (word >= 0x10000))
    return int(forest.numbers[at + np.uintp(3) - np.uintp(left)])


@op
def down_special(forest: Compiled, row: Any, node: int) -> int:
    """One level down from a node of any kind."""
    at = np.uintp(forest.nodes + 4 * node)
    word = forest.words[at]
    if word < ZERO << 16:
        return _down(forest, row, node)
    x, threshold = row[np.uintp(word & 0xFFFF)], forest.floats[at + np.uintp(1)]
    sets = forest.numbers, forest.set_first, forest.words, forest.set_words
    left = special_left(x, int(word >> 16), threshold, *sets)
    return int(forest.numbers[at + np.uintp(3) - np.uintp(left)])


@op
def _sum_plain(forest: Compiled, row: Any) -> float:
    """The sum of the leaves of all trees.

    Six trees at a time: a walk waits for memory and for guesses at branches, and six waits overlap. 200 trees of 31
    leaves: 4.0 µs, one by one 7.5, four at a time 4.5, eight 3.9, a bit vector for the row 4.7.
    """
    total = 0.0
    tree = 0
    while tree + 6 <= forest.trees:
        a, b, c = _root(forest, tree), _root(forest, tree + 1), _root(forest, tree + 2)
        d, e, f = _root(forest, tree + 3), _root(forest, tree + 4), _root(forest, tree + 5)
        while (a & b & c & d & e & f) >= 0:  # until all are leaves
            a = _down(forest, row, a)
            b = _down(forest, row, b)
            c = _down(forest, row, c)
            d = _down(forest, row, d)
            e = _down(forest, row, e)
            f = _down(forest, row, f)
        total += leaf(forest, a)
        total += leaf(forest, b)
        total += leaf(forest, c)
        total += leaf(forest, d)
        total += leaf(forest, e)
        total += leaf(forest, f)
        tree += 6
    while tree < forest.trees:
        node = _root(forest, tree)
        while node >= 0:
            node = _down(forest, row, node)
        total += leaf(forest, node)
        tree += 1
    return total


@op
def sum_leaves(forest: Compiled, special: bool, row: Any) -> float:
    """The sum of the leaves of all trees, in their order. special: some node has ZERO or CATEGORY."""
    if not special:
        return _sum_plain(forest, row)
    total = 0.0
    for tree in range(forest.trees):
        node = _root(forest, tree)
        while node >= 0:
            node = down_special(forest, row, node)
        total += leaf(forest, node)
    return total


def score_row(blob: Any, packed: Any, population: int) -> float:
    """Score of one row of float32 by a model of one output; NaN when `row[population]` is below 1: too little history.

    population -1: everybody is scored.
    """
    head = carray(blob, (HEADER // 4,), types.uint32)
    row = carray(packed, (head[4],), types.float32)
    if population >= 0 and not row[population] >= 1.0:
        return math.nan
    forest = opened(blob)
    total = sum_leaves(forest, head[3] & SPECIAL != 0, row)
    return linked(total / forest.divisor, forest.link, forest.parameter)


def score_outputs(blob: Any, packed: Any, scores: Any) -> int:
    """All outputs of a model for one row of float32, into `scores`; their number."""
    head = carray(blob, (HEADER // 4,), types.uint32)
    row = carray(packed, (head[4],), types.float32)
    forest = opened(blob)
    out = carray(scores, (forest.outputs,), types.float64)
    for output in range(forest.outputs):
        out[output] = 0.0
    for tree in range(forest.trees):
        node = _root(forest, tree)
        while node >= 0:
            node = down_special(forest, row, node)
        out[tree % forest.outputs] += leaf(forest, node)
    link_outputs(out, forest.divisor, forest.link, forest.parameter, out)
    return forest.outputs
