"""Scores of single rows in plain Python: the path of `SELECT ubp.predict_purchase(user_id)`.

Trees are turned into Python expressions, `(a if x3<=0.5 else b)`, compiled once per model: the fastest per row of ten
designs, 2.4 times a loop over lists. Only numbers of a checked `Blob` enter that source, written by repr(); no text of
a model does, and the code runs without builtins. A forest too large or too deep for that is walked in lists.
Neither NumPy nor Numba is imported.
"""

from __future__ import annotations

import math

from ubp_sql.errors import BadInput
from ubp_sql.models.blob import SIGMOID, Blob

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

    __slots__ = ("_average", "_parts", "_sigmoid", "_width", "blob")

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self._width = blob.n_features
        self._average = blob.n_trees if blob.average else 0
        self._sigmoid = -blob.link_parameter if blob.link == SIGMOID else 0.0
        self._parts = _compiled(blob) if _can_compile(blob) else [_listed(blob)]

    def raw(self, features: Sequence[float]) -> float:
        """The sum of leaves in tree order, in float64; LightGBM's raw_score. Raises BadInput (UB003) on length."""
        if len(features) != self._width:
            raise BadInput(f"the model takes {self._width} features, {len(features)} were given")
        total = 0.0
        for part in self._parts:
            total = part(features, total)
        return total

    def score(self, features: Sequence[float]) -> float:
        """The model's output: the sum, averaged where the model says so, through its link."""
        total = self.raw(features)
        if self._average:
            total /= self._average
        if self._sigmoid:
            try:
                return 1.0 / (1.0 + math.exp(self._sigmoid * total))
            except OverflowError:  # C's exp is infinite there
                return 0.0
        return total


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


def _listed(blob: Blob) -> Part:
    """A loop over flat lists."""
    feature, threshold, nan_left = blob.feature.tolist(), blob.threshold.tolist(), blob.nan_left
    left, right, leaf_value, roots = blob.left.tolist(), blob.right.tolist(), blob.leaf_value.tolist(), blob.roots()

    def part(x: Sequence[float], total: float) -> float:
        for i in roots:
            while i >= 0:
                v = x[feature[i]]
                i = left[i] if v <= threshold[i] or (v != v and nan_left[i]) else right[i]
            total += leaf_value[~i]
        return total

    return part


def _compiled(blob: Blob) -> list[Part]:
    """Functions over consecutive trees, at most PART_LEAVES leaves each."""
    parts, start = [], 0
    for k in range(1, blob.n_trees + 1):
        if k == blob.n_trees or blob.leaf_first[k + 1] - blob.leaf_first[start] > PART_LEAVES:
            parts.append(_part(blob, start, k))
            start = k
    return parts


def _part(blob: Blob, start: int, stop: int) -> Part:
    """The function that adds the trees start <= k < stop to a total."""
    first, last = blob.node_first[start], blob.node_first[stop]
    roots = blob.roots()[start:stop]
    leaf = [repr(v) for v in blob.leaf_value[blob.leaf_first[start] : blob.leaf_first[stop]]]
    origin = blob.leaf_first[start]
    node = [""] * (last - first)
    # Children come after their parents: backwards, both texts are there when the parent needs them.
    for i in range(last - 1, first - 1, -1):
        a, b, t = blob.left[i], blob.right[i], blob.threshold[i]
        limit = repr(t) if math.isfinite(t) else ("1e999" if t > 0 else "-1e999")
        # NaN makes both comparisons false, so `not x > t` is `x <= t or x is NaN` for free.
        goes_left = f"not x{blob.feature[i]}>{limit}" if blob.nan_left[i] else f"x{blob.feature[i]}<={limit}"
        yes = f"({node[a - first]})" if a >= 0 else leaf[~a - origin]
        no = f"({node[b - first]})" if b >= 0 else leaf[~b - origin]
        node[i - first] = f"{yes} if {goes_left} else {no}"
    used = sorted(set(blob.feature[first:last]))
    source = [
        "def part(x, total):",
        *(f" x{j}=x[{j}]" for j in used),
        *(f" total+={node[r - first] if r >= 0 else leaf[~r - origin]}" for r in roots),
        " return total",
    ]
    names: dict[str, object] = {"__builtins__": {}}
    exec(compile("\n".join(source), "<forest>", "exec", dont_inherit=True), names)  # noqa: S102  numbers only, see above
    part: Part = names["part"]  # type: ignore[assignment]
    return part
