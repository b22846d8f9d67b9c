"""Exact reasons for a forest's raw score: path-dependent TreeSHAP from a flat value beside the compiled forest.

What an explainer holds, little-endian; node i, leaf and tree are those of the compiled forest (models/blob.py).

    offset  type      content
    0       8 bytes   magic "UBPEXPLA"
    8       u16       version of this layout, 1
    10      u16       length of this header, 48
    12      u32       CRC-32 of the compiled forest that it belongs to, which is that one's last four bytes
    16      u32       t, trees
    20      u32       n, inner nodes of all trees
    24      u32       p, passes of all rules of integration
    28      u32       0
    32      f64       base: the mean raw score of the training data
    40      u64       length of the whole value
    48      [p] of    two points of a rule on 0..1
              f64 [2] t
              f64 [2] weight
            f64 [n,2] share of the training data at a node that went left, and right
            i32 [n]   above: the nearest node on the path to node i, numbered within its tree, that a split on node
                      i's feature led to; node i itself at the nearest, 0 where there is none
            i32 [t,2] first pass and number of passes of tree i
            u32       CRC-32 of all before

The native library checks no bounds; `open_explainer` checks everything again. Plain Python (explain_plain.py) gives the
same bits where there is no library. Neither NumPy nor Numba is imported.
"""

from __future__ import annotations

import math
from array import array
from itertools import chain, repeat
from operator import add, le, sub
from struct import Struct
from zlib import crc32

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.kernels import native
from ubp_sql.models.blob import column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ubp_sql.models.blob import Blob
    from ubp_sql.models.loaded import TreeModel

MAGIC, LAYOUT = b"UBPEXPLA", 1
HEADER = Struct("<8sHHIIIIIdQ")
PASS = 4  # numbers of a pass
EDGE = 8  # numbers that are kept of an edge of a tree while it is walked
MOST_PASSES = 64  # of a tree: 256 features on one path
LOOSE = 1e-9  # what shares may miss of 1
KEPT_EDGES = 10_000


class Explainer:
    """Reasons for the raw scores of one forest.

    base    what is said of nobody in particular
    nbytes  what a process holds of it, about
    """

    __slots__ = ("_scratch", "above", "base", "data", "model", "native", "nbytes", "passes", "points", "shares")

    _scratch: array[float] | None
    data: bytes
    model: TreeModel
    native: Callable[..., float] | None
    nbytes: int
    base: float
    points: array[float]
    shares: array[float]
    above: array[int]
    passes: array[int]

    def contributions(self, packed: bytes, between: Callable[[], object] | None = None) -> tuple[float, list[float]]:
        """The raw score of a packed row, and what each feature adds to it: with the base they sum to it.

        between  called every 50 ms or so where there is no native library; what it raises ends the work
        """
        blob = self.model.blob
        if self.native is None:
            from ubp_sql.models.explain_plain import contributions

            return contributions(self, array("f", packed), between)
        sums = array("d", bytes(16 * blob.n_features))
        scratch = self._scratch or array("d", bytes(8 * EDGE * edges_of(blob)))
        if len(scratch) <= EDGE * KEPT_EDGES:
            self._scratch = scratch
        raw = self.native(
            *(self.model.compiled, self.data, packed),
            *(scratch.buffer_info()[0], sums.buffer_info()[0]),
        )
        return raw, sums[: blob.n_features].tolist()


def edges_of(blob: Blob) -> int:
    """Edges of the largest tree, its root's own with them."""
    nodes: int = max(map(sub, blob.node_first[1:], blob.node_first))
    return 2 * nodes + 1


def open_explainer(data: bytes, model: TreeModel) -> Explainer:
    """The explainer in these bytes, all of it checked, for a model that is open (0.9 ms for 200 trees of 31 leaves).

    Raises InvalidModel (UB006) for bytes that `compile_explainer` cannot have made for this model, UnsupportedModel
    (UB007) for another layout.
    """
    if not data.startswith(MAGIC) or len(data) < HEADER.size + 4:
        raise _invalid("the explainer is something else, or cut short")
    _, layout, header, belongs, t, n, p, zero, base, length = HEADER.unpack_from(data)
    if layout != LAYOUT:
        raise UnsupportedModel(f"the explainer has layout {layout}, known is {LAYOUT}", "register the model again")
    blob = model.blob
    if blob.n_outputs > 1 or (t, n) != (blob.n_trees, len(blob.left)):
        raise _invalid("the explainer is of another model: it counts other trees or nodes")
    if not length == len(data) == HEADER.size + 8 * PASS * p + 20 * n + 8 * t + 4:
        raise _invalid(f"the explainer has {len(data)} bytes, its header tells of another number")
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise _invalid("the explainer is damaged: its checksum differs")
    if belongs != int.from_bytes(model.compiled[-4:], "little"):
        raise _invalid("the explainer is of another model")
    if header != HEADER.size or zero or not math.isfinite(base):
        raise _invalid("the explainer's header has a field that cannot be")
    made = Explainer()
    made.model, made.data, made.base, made._scratch = model, data, base, None
    made.points, at = column("d", data, HEADER.size, PASS * p)
    made.shares, at = column("d", data, at, 2 * n)
    made.above, at = column("i", data, at, n)
    made.passes, _ = column("i", data, at, 2 * t)
    _check(made, blob, p)
    made.native = native.entry("ubp_explain_row")
    made.nbytes = 2 * len(data)
    return made


def _invalid(what: str) -> InvalidModel:
    return InvalidModel(what, "register the model again")


def _check(made: Explainer, blob: Blob, p: int) -> None:
    """Every number is usable, and every index leads to what was written before it is read."""
    for numbers in (made.points, made.shares):
        # 0 < x < 1 of a point, 0 <= x <= 1 of a share; NaN is neither.
        if numbers and not (all(map(le, repeat(0.0), numbers)) and all(map(le, numbers, repeat(1.0)))):
            raise _invalid("the explainer has a share or a point that is not within 0 and 1")
    inside = made.points[0::PASS], made.points[1::PASS]
    if any(not 0.0 < t < 1.0 for t in chain(*inside)):
        raise _invalid("the explainer has a point at 0 or 1")
    whole = list(map(add, made.shares[0::2], made.shares[1::2]))
    if whole and not 1.0 - LOOSE <= min(whole) <= max(whole) <= 1.0 + LOOSE:
        raise _invalid(f"the explainer's shares of node {whole.index(min(whole))} are not those of a whole")
    for k in range(blob.n_trees):
        a, b = blob.node_first[k], blob.node_first[k + 1]
        if not all(map(le, made.above[a:b], range(b - a))) or (b > a and min(made.above[a:b]) < 0):
            raise _invalid(f"the explainer's tree {k} has a node that is above one before it")
        first, count = made.passes[2 * k : 2 * k + 2]
        if not (0 <= count <= MOST_PASSES and 0 <= first <= first + count <= p and (count > 0) == (b > a)):
            raise _invalid(f"the explainer's tree {k} has passes that do not exist")
