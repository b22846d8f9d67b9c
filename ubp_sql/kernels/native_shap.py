"""Reasons for one row by TreeSHAP as Numba source, an entry of the native library (ubp_sql/kernels/native.py).

It reads a compiled forest and its explainer (ubp_sql/models/explain.py) in place: only what `open_explainer` has
checked may reach it. What is integrated, and why by these points: ubp_sql/models/explain_compile.py.

Of each edge of a tree it keeps, at the two points of a pass, (product, 1 / factor, slope), then (share, whether the
user goes there). `product` is that of the factors o t + z (1 - t) of all features that the path to the edge decides,
`slope` (o - z) / factor of the one that the edge decides, share and whether he goes there that feature's z and o. An
edge has the number of the node or leaf that it leads to. Down the tree products grow by an edge's factor; up they are
summed times the leaves' values. Where an edge decides what one above has decided before, its factor replaces that
one's, and so does its slope.
"""

from typing import Any

import numba
import numpy as np

from ubp_sql.kernels._cpu_jit import op
from ubp_sql.kernels.forest_codes import LEAST_SHARE
from ubp_sql.kernels.native_forest import HEADER, SPECIAL, Compiled, down_special, leaf, opened, sum_leaves

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)

EXPLAINER, PASS = 48, 4
EDGE, SLOPE, SHARE, GOES = 8, 4, 6, 7


@op
def _numbered(end: int, first: int, nodes: int, first_leaf: int) -> int:
    """A child as an edge of its tree: nodes first, then leaves."""
    return end - first if end >= 0 else nodes + ~end - first_leaf


@op
def _enter(edges: Any, edge: int, parent: int, above: int, goes: float, share: float, points: Any, at: int) -> None:
    """What is kept of an edge, from its parent's and from that of the edge above that decided the same feature."""
    o = edges[np.uintp(above), np.uintp(GOES)] * goes
    z = max(edges[np.uintp(above), np.uintp(SHARE)] * share, LEAST_SHARE)
    for q in range(2):
        t = points[np.uintp(at + q)]
        factor = o * t + z * (1.0 - t)
        inverse = 1.0 / factor
        product = edges[np.uintp(parent), np.uintp(q)] * edges[np.uintp(above), np.uintp(2 + q)]
        edges[np.uintp(edge), np.uintp(q)] = product * factor
        edges[np.uintp(edge), np.uintp(2 + q)] = inverse
        edges[np.uintp(edge), np.uintp(SLOPE + q)] = (o - z) * inverse
    edges[np.uintp(edge), np.uintp(SHARE)] = z
    edges[np.uintp(edge), np.uintp(GOES)] = o


@op
def _pass(forest: Compiled, tree: int, row: Any, shares: Any, above: Any, points: Any, at: int, edges: Any,
          sums: Any) -> None:  # fmt: skip
    """Adds what one tree has at two points to sums (features, 2)."""
    first, first_leaf = int(forest.numbers[forest.node_first + tree]), int(forest.numbers[forest.leaf_first + tree])
    nodes = int(forest.numbers[forest.node_first + tree + 1]) - first
    for q in range(2):
        # The root's own edge decides nothing: what replaces its factor finds 1, and its slope 0.
        edges[0, q] = points[np.uintp(at + 2 + q)]
        edges[0, 2 + q] = 1.0
        edges[0, SLOPE + q] = 0.0
    edges[0, SHARE] = edges[0, GOES] = 1.0
    for i in range(nodes):
        node = np.uintp(forest.nodes + 4 * (first + i))
        left, right = int(forest.numbers[node + np.uintp(2)]), int(forest.numbers[node + np.uintp(3)])
        goes = np.float64(down_special(forest, row, first + i) == left)
        decided = above[np.uintp(first + i)]
        edge = _numbered(left, first, nodes, first_leaf)
        _enter(edges, edge, i, decided, goes, shares[np.uintp(2 * (first + i))], points, at)
        edge = _numbered(right, first, nodes, first_leaf)
        _enter(edges, edge, i, decided, 1.0 - goes, shares[np.uintp(2 * (first + i) + 1)], points, at)
    for i in range(nodes + 1):
        for q in range(2):
            edges[np.uintp(nodes + i), np.uintp(q)] *= leaf(forest, ~(first_leaf + i))
    for i in range(nodes - 1, -1, -1):
        node = np.uintp(forest.nodes + 4 * (first + i))
        decided = above[np.uintp(first + i)]
        a = _numbered(int(forest.numbers[node + np.uintp(2)]), first, nodes, first_leaf)
        b = _numbered(int(forest.numbers[node + np.uintp(3)]), first, nodes, first_leaf)
        feature = forest.words[node] & 0xFFFF
        for q in range(2):
            u, v = edges[np.uintp(a), np.uintp(q)], edges[np.uintp(b), np.uintp(q)]
            before = edges[np.uintp(decided), np.uintp(SLOPE + q)]
            rise = u * (edges[np.uintp(a), np.uintp(SLOPE + q)] - before)
            rise += v * (edges[np.uintp(b), np.uintp(SLOPE + q)] - before)
            sums[np.uintp(feature), np.uintp(q)] += rise
            edges[np.uintp(i), np.uintp(q)] = u + v


def explain_row(blob: Any, explainer: Any, packed: Any, scratch: Any, out: Any) -> float:
    """The raw score of a row of float32, and of each feature what it adds to it, in out[:features].

    scratch  8 float64 an edge of the largest tree
    out      two float64 a feature, 0
    """
    head = carray(blob, (HEADER // 4,), types.uint32)
    features = int(head[4])
    row = carray(packed, (features,), types.float32)
    forest = opened(blob)
    own = carray(explainer, (EXPLAINER // 4,), types.uint32)
    nodes, passes = int(own[5]), int(own[6])
    shares_at = EXPLAINER // 8 + PASS * passes
    numbers = carray(explainer, (shares_at + 2 * nodes,), types.float64)
    points, shares = numbers[EXPLAINER // 8 :], numbers[shares_at:]
    words = carray(explainer, (2 * (shares_at + 2 * nodes) + nodes + 2 * forest.trees,), types.int32)
    above = words[2 * (shares_at + 2 * nodes) :]
    edges = carray(scratch, (2 * nodes + 1, EDGE), types.float64)
    sums = carray(out, (features, 2), types.float64)
    for tree in range(forest.trees):
        first, count = int(above[nodes + 2 * tree]), int(above[nodes + 2 * tree + 1])
        for k in range(first, first + count):
            _pass(forest, tree, row, shares, above, points, PASS * k, edges, sums)
    done = carray(out, (2 * features,), types.float64)
    for j in range(features):
        done[j] = (done[2 * j] + done[2 * j + 1]) / forest.divisor
    return sum_leaves(forest, head[3] & SPECIAL != 0, row) / forest.divisor
