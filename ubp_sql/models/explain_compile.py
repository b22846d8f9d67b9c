"""Compiles what reasons need of a forest: where its training data went, and how Shapley values are integrated.

The game is the path-dependent one of TreeSHAP: a coalition of features is worth what the tree gives where a split on
another feature sends a row both ways, in the shares in which the training data went (Lundberg et al. 2020, "From local
explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2, algorithm 1). Covers
are those of the leaves; a node's is the sum of those below it. A node that no training data came to goes half either
way: nothing that is said of a user who could have been seen depends on it.

The Shapley value of feature i among the features of a leaf's path is the integral over t from 0 to 1 of
(o_i - z_i) prod_{j != i} (o_j t + z_j (1 - t)): z_j is the share of the training data that j's splits on the path let
through, o_j whether they let the user through. It is a polynomial of a degree below the number of features on the path,
so Gauss and Legendre's rule of half as many points gives it exactly, and every term is positive: nothing cancels, where
the recursions of TreeSHAP subtract (docs/adr/0019-explanations.md).
"""

from __future__ import annotations

import math
from array import array
from functools import cache
from zlib import crc32

from ubp_sql.models.blob import little
from ubp_sql.models.explain import HEADER, LAYOUT, MAGIC, MOST_PASSES, PASS
from ubp_sql.models.forest import Forest, Tree

MOST_STEPS = 8_000_000  # nodes times passes: 80 ms of the native library, half of what a cancel may take


def compile_explainer(forest: Forest, compiled: bytes) -> bytes | None:
    """The explainer of a forest that was compiled to these bytes.

    None where there cannot be one: a tree does not say its covers, the model has several outputs, or its paths have so
    many features that an explanation would take longer than a cancel may.
    """
    if forest.outputs > 1:
        return None
    shares, above, passes = array("d"), array("i"), array("i")
    counts: list[int] = []
    means, steps = [], 0
    for k, tree in enumerate(forest.trees):
        order = tree.visit(f"tree {k}")
        if not order:
            counts.append(0)
            means.append(tree.leaf_value[0])
            continue
        cover = _covers(tree, order)
        if cover is None:
            return None
        found, most = _above(tree, order)
        counts.append(-(-most // 4))
        steps += len(order) * counts[-1]
        if counts[-1] > MOST_PASSES or steps > MOST_STEPS:
            return None
        above.extend(found)
        for i in order:
            shares.extend(_share(cover, i, child) for child in (tree.left[i], tree.right[i]))
        total = cover[0]
        means.append(math.fsum(v * (cover[~leaf] / total) for leaf, v in enumerate(tree.leaf_value)))
    first: dict[int, int] = {}
    points = array("d")
    for count in sorted({count for count in counts if count}):
        first[count] = len(points) // PASS
        points.extend(_points(2 * count))
    for count in counts:
        passes.extend((first.get(count, 0), count))
    base = math.fsum(means) / (len(forest.trees) if forest.average else 1)
    body = b"".join((little(points), little(shares), little(above), little(passes)))
    header = HEADER.pack(
        *(MAGIC, LAYOUT, HEADER.size, int.from_bytes(compiled[-4:], "little")),
        *(len(counts), len(above), len(points) // PASS, 0),
        *(base, HEADER.size + len(body) + 4),
    )
    return header + body + crc32(body, crc32(header)).to_bytes(4, "little")


def _covers(tree: Tree, order: list[int]) -> dict[int, float] | None:
    """The cover of each node and, under ~leaf, of each leaf; None where the tree does not say."""
    given = tree.cover
    if given is None or len(given) != len(tree.leaf_value) or not all(0.0 <= c < math.inf for c in given):
        return None
    cover = {~leaf: c for leaf, c in enumerate(given)}
    for i in reversed(order):
        cover[i] = cover[tree.left[i]] + cover[tree.right[i]]
    return cover if 0.0 < cover[0] < math.inf else None


def _share(cover: dict[int, float], node: int, child: int) -> float:
    return cover[child] / cover[node] if cover[node] else 0.5


def _above(tree: Tree, order: list[int]) -> tuple[list[int], int]:
    """For each node in order: by its place there, the nearest node on its path that a split on its feature led to,
    itself at the nearest, 0 for none. And how many features the path has that has most.
    """
    place = {node: k for k, node in enumerate(order)}
    above = [0] * len(order)
    last: dict[int, int] = {}
    most = 0
    # A child, or how the path was before a child that is left again: (feature, what had led there).
    waiting: list[tuple[int, int, int]] = [(0, -1, 0)]
    while waiting:
        node, feature, before = waiting.pop()
        if node < 0:
            if before:
                last[feature] = before
            else:
                del last[feature]
            continue
        if feature >= 0:
            waiting.append((-1, feature, last.get(feature, 0)))
            last[feature] = place[node]
        own = tree.feature[node]
        above[place[node]] = last.get(own, 0)
        most = max(most, len(last) + (own not in last))
        waiting += [(child, own, 0) for child in (tree.left[node], tree.right[node]) if child >= 0]
    return above, most


@cache
def _points(m: int) -> list[float]:
    """Gauss and Legendre's rule of m points for the integral from 0 to 1, by two: (t, t', weight, weight').

    Its points are the roots of Legendre's polynomial, found by Newton's method on the three-term recursion.
    """
    rule = []
    for k in range(m):
        x = math.cos(math.pi * (k + 0.75) / (m + 0.5))
        slope = 1.0
        for _ in range(100):
            before, value = 1.0, x
            for j in range(2, m + 1):
                before, value = value, ((2 * j - 1) * x * value - (j - 1) * before) / j
            slope = m * (x * value - before) / (x * x - 1.0)
            step = value / slope
            x -= step
            if abs(step) <= 1e-15:
                break
        rule.append(((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope)))
    return [number for (t, w), (u, v) in zip(rule[::2], rule[1::2], strict=True) for number in (t, u, w, v)]
