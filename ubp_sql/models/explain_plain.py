"""Reasons in plain Python, where there is no native library: the bits of kernels/native_shap.py, much slower.

Every operation is that one's, in its order.
"""

from __future__ import annotations

from ubp_sql.kernels.forest_codes import CATEGORY, LEAST_SHARE, MISSING_LEFT, TINY, ZERO
from ubp_sql.models.walker import Walker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ubp_sql.models.blob import Blob
    from ubp_sql.models.explain import Explainer

NODES = 2_000  # between two calls of `between`: 50 ms
# What is kept of an edge: its product at two points, 1 / factor, slope, share, whether the user goes there.
Edge = list[float]


def contributions(
    explainer: Explainer, row: Sequence[float], between: Callable[[], object] | None = None
) -> tuple[float, list[float]]:
    """As `Explainer.contributions`."""
    blob = explainer.model.blob
    sums = [[0.0, 0.0] for _ in range(blob.n_features)]
    visit = _paced(between)
    for tree in range(blob.n_trees):
        first, count = explainer.passes[2 * tree : 2 * tree + 2]
        nodes = range(blob.node_first[tree], blob.node_first[tree + 1])
        goes = [_goes_left(blob, row[blob.feature[i]], i) for i in nodes]
        for k in range(first, first + count):
            _pass(explainer, blob, tree, goes, explainer.points[4 * k : 4 * k + 4], sums, visit)
    values = [(a + b) / blob.divisor for a, b in sums]
    walker = explainer.model.walker or Walker(blob)
    return walker.raw(row) / blob.divisor, values


def _paced(between: Callable[[], object] | None) -> Callable[[], None]:
    """What is called at each node."""
    left = NODES

    def visit() -> None:
        nonlocal left
        left -= 1
        if not left:
            left = NODES
            if between is not None:
                between()

    return visit


def _goes_left(blob: Blob, x: float, node: int) -> bool:
    flags, threshold = blob.node_flags[node], blob.threshold[node]
    if x != x or (flags & ZERO and -TINY <= x <= TINY):
        return bool(flags & MISSING_LEFT)
    if not flags & CATEGORY:
        return x <= threshold
    first, end = blob.set_first[int(threshold) : int(threshold) + 2]
    return -1.0 < x < 32.0 * (end - first) and bool(blob.set_words[first + (int(x) >> 5)] >> (int(x) & 31) & 1)


def _pass(
    explainer: Explainer,
    blob: Blob,
    tree: int,
    goes: list[bool],
    points: Sequence[float],
    sums: list[list[float]],
    visit: Callable[[], None],
) -> None:
    """Adds what one tree has at two points to the features' sums."""
    first, first_leaf, n = blob.node_first[tree], blob.leaf_first[tree], len(goes)
    edges: list[Edge] = [[]] * (2 * n + 1)
    edges[0] = [points[2], points[3], 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    children = []
    for i in range(n):
        visit()
        above = edges[explainer.above[first + i]]
        ends = [c - first if c >= 0 else n + ~c - first_leaf for c in (blob.left[first + i], blob.right[first + i])]
        children.append(ends)
        for side, end in enumerate(ends):
            there = float(goes[i] != bool(side))
            edges[end] = _edge(edges[i], above, there, explainer.shares[2 * (first + i) + side], points)
    for leaf in range(n + 1):
        value = blob.leaf_value[first_leaf + leaf]
        edges[n + leaf][0] *= value
        edges[n + leaf][1] *= value
    for i in range(n - 1, -1, -1):
        above = edges[explainer.above[first + i]]
        a, b = (edges[end] for end in children[i])
        total = sums[blob.feature[first + i]]
        for q in range(2):
            rise = a[q] * (a[4 + q] - above[4 + q])
            rise += b[q] * (b[4 + q] - above[4 + q])
            total[q] += rise
            edges[i][q] = a[q] + b[q]


def _edge(parent: Edge, above: Edge, goes: float, share: float, points: Sequence[float]) -> Edge:
    o, z = above[7] * goes, max(above[6] * share, LEAST_SHARE)
    products, inverses, slopes = [], [], []
    for q in range(2):
        t = points[q]
        factor = o * t + z * (1.0 - t)
        inverse = 1.0 / factor
        products.append(parent[q] * above[2 + q] * factor)
        inverses.append(inverse)
        slopes.append((o - z) * inverse)
    return [*products, *inverses, *slopes, z, o]
