"""Scores of single rows in plain Python: the path of `SELECT ubp.predict_purchase(user_id)` without a native library.

Trees are turned into Python expressions, `(a if x3<=0.5 else b)`, compiled once per model: the fastest per row of ten
designs, 2.4 times a loop over lists. Only numbers of a checked `Blob` enter that source, written by repr(); no text of
a model does, and the code runs without builtins. A forest too large or too deep for that is walked in lists.
Neither NumPy nor Numba is imported.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

from ubp_sql.errors import BadInput
from ubp_sql.kernels.forest_codes import (
    CATEGORY,
    EXP,
    LOG1P_EXP,
    MISSING_LEFT,
    SIGMOID,
    SIGNED_SQUARE,
    SOFTMAX,
    TINY,
    ZERO,
)
from ubp_sql.models.blob import Blob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Part = Callable[[Sequence[float], float], float]

# 6.5 us of compiling a leaf: 8,000 leaves are some 50 ms in the first call. Python's tokenizer takes 200 nested
# brackets in one expression; one is spent on each level of a tree.
MAX_COMPILED_LEAVES = 8_000
MAX_COMPILED_DEPTH = 90
PART_LEAVES = 1_000  # in one function: the compiler's memory peaks at 5 MB instead of 28; 3 % slower


class Walker:
    """Evaluates one compiled forest, the same bits as LightGBM's predict on the same float32 row.

    Rows are sequences of blob.n_features floats that are exact float32 values, infinities or NaN (missing), as
    struct.unpack gives them for a real[]; a tuple is fastest. Values that are not float32 may fall on the wrong side of
    a threshold: round them first.
    """

    __slots__ = ("_parts", "blob")

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        trees = [range(k, blob.n_trees, blob.n_outputs) for k in range(blob.n_outputs)]
        self._parts = (_compiled if _can_compile(blob) else _listed)(blob, trees)

    def sums(self, features: Sequence[float]) -> list[float]:
        """(k,) sums of leaves in tree order, in float64: LightGBM's raw_score. Raises BadInput (UB003) on length."""
        if len(features) != self.blob.n_features:
            raise BadInput(f"the model takes {self.blob.n_features} features, {len(features)} were given")
        sums = []
        for parts in self._parts:
            total = 0.0
            for part in parts:
                total = part(features, total)
            sums.append(total)
        return sums

    def scores(self, features: Sequence[float]) -> list[float]:
        """(k,) the model's outputs: the sums, averaged where the model says so, through its link."""
        blob = self.blob
        totals = [total / blob.divisor for total in self.sums(features)]
        return link_totals(totals, blob.link, blob.link_parameter)

    def raw(self, features: Sequence[float]) -> float:
        """`sums` of a model of one output."""
        return self.sums(features)[0]

    def score(self, features: Sequence[float]) -> float:
        """`scores` of a model of one output."""
        return self.scores(features)[0]


def link_totals(totals: list[float], link: int, parameter: float) -> list[float]:
    """A model's outputs from its sums."""
    if link != SOFTMAX:
        return [_linked(total, link, parameter) for total in totals]
    largest = max(totals)
    shares = [math.exp(total - largest) for total in totals]
    whole = 0.0
    for share in shares:  # not sum(), which newer versions of Python compensate
        whole += share
    return [share / whole for share in shares]


def _linked(total: float, link: int, parameter: float) -> float:
    """The link of one output for itself; exp beyond its range is infinite, as C's."""
    if link == SIGNED_SQUARE:
        return ((total > 0.0) - (total < 0.0)) * total * total
    if link not in (SIGMOID, EXP, LOG1P_EXP):
        return total
    try:
        power = math.exp(-parameter * total if link == SIGMOID else total)
    except OverflowError:
        power = math.inf
    if link == SIGMOID:
        return 1.0 / (1.0 + power)
    return power if link == EXP else math.log1p(power)


def _can_compile(blob: Blob) -> bool:
    """Whether the forest, each of its trees and their depth are within the bounds above."""
    if len(blob.leaf_value) > MAX_COMPILED_LEAVES:
        return False
    depth = [1] * len(blob.left)
    for i, children in enumerate(zip(blob.left, blob.right, strict=True)):
        for child in children:
            if child >= 0:
                depth[child] = depth[i] + 1
    largest = max(blob.leaf_first[k + 1] - blob.leaf_first[k] for k in range(blob.n_trees))
    return max(depth, default=0) <= MAX_COMPILED_DEPTH and largest <= PART_LEAVES


def _sets(blob: Blob) -> list[bytes]:
    """The sets of categories: bit c % 8 of byte c // 8 says whether category c is in."""
    first = blob.set_first
    return [b"".join(word.to_bytes(4, "little") for word in blob.set_words[a:b]) for a, b in pairwise(first)]


def _listed(blob: Blob, outputs: list[range]) -> list[list[Part]]:
    """For each output a loop over flat lists."""
    feature, threshold, flags = blob.feature.tolist(), blob.threshold.tolist(), blob.node_flags.tolist()
    left, right, leaf_value, roots = blob.left.tolist(), blob.right.tolist(), blob.leaf_value.tolist(), blob.roots()
    sets = _sets(blob)

    def special_left(v: float, i: int) -> bool:
        if flags[i] & CATEGORY:
            if v != v:
                return bool(flags[i] & MISSING_LEFT)
            found = sets[int(threshold[i])]
            return -1 < v < 8 * len(found) and bool(found[int(v) >> 3] >> (int(v) & 7) & 1)
        if v != v or -TINY <= v <= TINY:
            return bool(flags[i] & MISSING_LEFT)
        return bool(v <= threshold[i])

    def part(trees: range, x: Sequence[float], total: float) -> float:
        for k in trees:
            i = roots[k]
            while i >= 0:
                v = x[feature[i]]
                left_way = v <= threshold[i] or (v != v and flags[i]) if flags[i] < ZERO else special_left(v, i)
                i = left[i] if left_way else right[i]
            total += leaf_value[~i]
        return total

    return [[partial(part, trees)] for trees in outputs]


def _compiled(blob: Blob, outputs: list[range]) -> list[list[Part]]:
    """For each output functions over some of its trees, at most PART_LEAVES leaves each."""
    sets = _sets(blob)
    return [_parts(blob, trees, sets) for trees in outputs]


def _parts(blob: Blob, trees: range, sets: list[bytes]) -> list[Part]:
    parts: list[Part] = []
    some: list[int] = []
    leaves = 0
    for k in trees:
        size = blob.leaf_first[k + 1] - blob.leaf_first[k]
        if some and leaves + size > PART_LEAVES:
            parts.append(_part(blob, some, sets))
            some, leaves = [], 0
        some.append(k)
        leaves += size
    parts.append(_part(blob, some, sets))
    return parts


def _part(blob: Blob, trees: list[int], sets: list[bytes]) -> Part:
    """The function that adds these trees to a total."""
    used: set[int] = set()
    lines = []
    for k in trees:
        first, last, origin = blob.node_first[k], blob.node_first[k + 1], blob.leaf_first[k]
        leaf = [repr(v) for v in blob.leaf_value[origin : blob.leaf_first[k + 1]]]
        node = [leaf[0]]
        if last > first:
            node = [""] * (last - first)
        # Children come after their parents: backwards, both texts are there when the parent needs them.
        for i in range(last - 1, first - 1, -1):
            a, b = blob.left[i], blob.right[i]
            yes = f"({node[a - first]})" if a >= 0 else leaf[~a - origin]
            no = f"({node[b - first]})" if b >= 0 else leaf[~b - origin]
            node[i - first] = f"{yes} if {_goes_left(blob, i, sets)} else {no}"
        used.update(blob.feature[first:last])
        lines.append(f" total+={node[0]}")
    source = ["def part(x, total):", *(f" x{j}=x[{j}]" for j in sorted(used)), *lines, " return total"]
    names: dict[str, object] = {"__builtins__": {}, "whole": int, "sets": sets}
    exec(compile("\n".join(source), "<forest>", "exec", dont_inherit=True), names)  # noqa: S102  numbers only, see above
    part: Part = names["part"]  # type: ignore[assignment]
    return part


def _goes_left(blob: Blob, i: int, sets: list[bytes]) -> str:
    """The condition of node i as Python."""
    x, t, flags = f"x{blob.feature[i]}", blob.threshold[i], blob.node_flags[i]
    if flags & CATEGORY:
        number = int(t)
        bit = f"sets[{number}][whole({x})>>3]>>(whole({x})&7)&1"
        inside = f"-1<{x}<{8 * len(sets[number])} and {bit}"
        return f"{x}!={x} or {inside}" if flags & MISSING_LEFT else inside
    limit = repr(t) if math.isfinite(t) else ("1e999" if t > 0 else "-1e999")
    zero = f"{-TINY!r}<={x}<={TINY!r}"
    # NaN makes every comparison false, so `not x > t` is `x <= t or x is NaN` for free.
    if flags & MISSING_LEFT:
        return f"not {x}>{limit} or {zero}" if flags & ZERO else f"not {x}>{limit}"
    return f"{x}<={limit} and not {zero}" if flags & ZERO else f"{x}<={limit}"
