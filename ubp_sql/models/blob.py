"""The compiled form of a forest: one flat little-endian value that any walker can read in place.

    offset  type      content
    0       8 bytes   magic "UBPTREES"
    8       u16       version of this layout, 1
    10      u16       length of this header, 64
    12      u32       flags: bit 0 divides the sum by the number of trees; others 0
    16      u32       f, features a row has
    20      u32       t, trees
    24      u32       n, inner nodes of all trees
    28      u32       m, leaves of all trees, m = n + t
    32      u16       outputs, 1
    34      u16       link: 0 identity, 1 sigmoid
    36      u32       0
    40      f64       parameter of the link
    48      u64       length of the whole value
    56      u64       0
    64      f64 [m]   leaf_value
            i32 [t+1] node_first: tree k has the nodes node_first[k] <= i < node_first[k+1], its root comes first
            i32 [t+1] leaf_first: likewise for leaves
            i32 [n]   feature
            f32 [n]   threshold: x <= threshold goes left
            i32 [n]   left, right: a node of the same tree, larger than its parent, or ~leaf
            i32 [n]
            u8  [n]   nan_left: 1 where NaN goes left
            u8        zeros up to a multiple of 4
            u32       CRC-32 of all before

Nodes and leaves are numbered through all trees, so that a walk is `i = left[i]` or `right[i]` until i < 0 and then
leaf_value[~i]; a tree without nodes starts at ~leaf_first[k]. Any SQL user can hand any bytes to `ubp.score_blob`:
`open_blob` checks everything again. Neither NumPy nor Numba nor dataclasses (5 ms of imports) are used here.
"""

from __future__ import annotations

import math
import sys
from array import array
from itertools import chain
from struct import Struct
from zlib import crc32

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.limits import MAX_FEATURES, MAX_LEAVES, MAX_TREES, other_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ubp_sql.models.forest import Forest

MAGIC = b"UBPTREES"
IDENTITY, SIGMOID = 0, 1  # forest.Link; an enum's import costs 2 ms
_HEADER = Struct("<8sHHIIIIIHHIdQQ")
_AVERAGE = 1


class Blob:
    """A checked compiled forest; the arrays are those of the module's docstring, in the machine's byte order."""

    __slots__ = (
        *("average", "feature", "leaf_first", "leaf_value", "left", "link", "link_parameter"),
        *("n_features", "n_trees", "nan_left", "node_first", "right", "threshold"),
    )

    n_features: int
    n_trees: int
    link: int
    link_parameter: float
    average: bool
    leaf_value: array[float]
    node_first: array[int]
    leaf_first: array[int]
    feature: array[int]
    threshold: array[float]
    left: array[int]
    right: array[int]
    nan_left: bytes

    def roots(self) -> list[int]:
        """(t,) where each tree's walk starts: a node, or ~leaf for a tree of one leaf."""
        nodes, leaves = self.node_first, self.leaf_first
        return [nodes[k] if nodes[k] < nodes[k + 1] else ~leaves[k] for k in range(self.n_trees)]


def blob_hash(data: bytes) -> str:
    """The SHA-256 of a model's bytes in hexadecimal: the model's identity in tables and caches."""
    from hashlib import sha256  # loads OpenSSL: 4 ms that the first score of a connection does not need

    return sha256(data).hexdigest()


def compile_forest(forest: Forest) -> bytes:
    """The compiled form of a forest; raises InvalidModel (UB006) where the forest is not sound."""
    node_first, leaf_first = array("i", [0]), array("i", [0])
    feature, threshold = array("i"), array("f")
    left, right = array("i"), array("i")
    nan_left = bytearray()
    leaf_value = array("d")
    for tree, order in zip(forest.trees, forest.validate(), strict=True):
        nodes, leaves = node_first[-1], leaf_first[-1]
        place = [0] * len(order)
        for new, old in enumerate(order):
            place[old] = nodes + new
        feature.extend(tree.feature[i] for i in order)
        threshold.extend(tree.threshold[i] for i in order)
        for children, out in ((tree.left, left), (tree.right, right)):
            out.extend(place[c] if c >= 0 else ~(leaves + ~c) for c in (children[i] for i in order))
        nan_left.extend(tree.nan_left[i] for i in order)
        leaf_value.extend(tree.leaf_value)
        node_first.append(nodes + len(order))
        leaf_first.append(leaves + len(tree.leaf_value))
    columns = [_little(c) for c in (leaf_value, node_first, leaf_first, feature, threshold, left, right)]
    body = b"".join([*columns, nan_left, bytes(-len(nan_left) % 4)])
    header = _HEADER.pack(
        *(MAGIC, 1, _HEADER.size, _AVERAGE if forest.average else 0),
        *(forest.n_features, len(forest.trees), len(feature), len(leaf_value)),
        *(1, forest.link, 0, forest.link_parameter, _HEADER.size + len(body) + 4, 0),
    )
    return header + body + crc32(body, crc32(header)).to_bytes(4, "little")


def open_blob(data: bytes) -> Blob:
    """The forest in compiled bytes, all of it checked (1.6 ms for 200 trees of 31 leaves).

    Raises InvalidModel (UB006) for bytes that `compile_forest` cannot have made or that are over a limit, and
    UnsupportedModel (UB007) for a later layout.
    """
    if not data.startswith(MAGIC):
        found = other_format(data)
        what, hint = found if found else ("something else", None)
        raise InvalidModel(f"this is {what}, not a compiled model", hint)
    if len(data) < _HEADER.size + 4:
        raise InvalidModel(f"the compiled model is cut short at {len(data)} bytes")
    _, version, header, flags, f, t, n, m, outputs, link, zero, parameter, length, none = _HEADER.unpack_from(data)
    if version != 1:
        raise UnsupportedModel(f"the compiled model has layout {version}, known is 1", "compile the model again")
    if not (0 < f <= MAX_FEATURES and 0 < t <= MAX_TREES and m <= MAX_LEAVES and m == n + t):
        raise InvalidModel(f"the compiled model counts {f} features, {t} trees, {n} nodes, {m} leaves")
    if not length == len(data) == _HEADER.size + 8 * m + 8 * (t + 1) + 16 * n + n + -n % 4 + 4:
        raise InvalidModel(f"the compiled model has {len(data)} bytes, its header tells of another number")
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise InvalidModel("the compiled model is damaged: its checksum differs")
    if header != _HEADER.size or flags not in (0, _AVERAGE) or outputs != 1 or zero or none:
        raise InvalidModel("the compiled model's header has a field of an unknown meaning")
    if link not in (IDENTITY, SIGMOID) or not 0.0 < parameter < math.inf:
        raise InvalidModel(f"the compiled model's link {link} with parameter {parameter!r} does not exist")
    blob = Blob()
    blob.n_features, blob.n_trees, blob.link, blob.link_parameter = f, t, link, parameter
    blob.average = flags == _AVERAGE
    at = _HEADER.size
    blob.leaf_value, at = _column("d", data, at, m), at + 8 * m
    blob.node_first, at = _column("i", data, at, t + 1), at + 4 * (t + 1)
    blob.leaf_first, at = _column("i", data, at, t + 1), at + 4 * (t + 1)
    blob.feature, at = _column("i", data, at, n), at + 4 * n
    blob.threshold, at = _column("f", data, at, n), at + 4 * n
    blob.left, at = _column("i", data, at, n), at + 4 * n
    blob.right, at = _column("i", data, at, n), at + 4 * n
    blob.nan_left = data[at : at + n]
    _check(blob, data[at + n : -4])
    return blob


def _check(blob: Blob, padding: bytes) -> None:
    """Every tree has its own nodes and leaves, each met once and after its parent; every number is usable."""
    nodes, leaves, left, right = blob.node_first, blob.leaf_first, blob.left, blob.right
    if nodes[0] != 0 or leaves[0] != 0 or nodes[-1] != len(left) or leaves[-1] != len(blob.leaf_value):
        raise InvalidModel("the compiled model's trees do not cover its nodes and leaves")
    for k in range(blob.n_trees):
        a, b, c, d = nodes[k], nodes[k + 1], leaves[k], leaves[k + 1]
        if not (0 <= a <= b <= len(left) and d - c == b - a + 1):
            raise InvalidModel(f"the compiled model's tree {k} has an impossible number of nodes or leaves")
        # All leaves and all nodes but the root, each exactly once: sorted at C speed instead of visited.
        if sorted(chain(left[a:b], right[a:b])) != [*(range(-d, -c) if b > a else ()), *range(a + 1, b)]:
            raise InvalidModel(f"the compiled model's tree {k} meets a node or leaf twice, never, or not its own")
    # Together with a child always after its parent, that makes each a tree: no cycle can return to a smaller number.
    for i, (lower, upper) in enumerate(zip(left, right, strict=True)):
        if 0 <= lower <= i or 0 <= upper <= i:
            raise InvalidModel(f"the compiled model's node {i} has a child before itself")
    if left and not 0 <= min(blob.feature) <= max(blob.feature) < blob.n_features:
        raise InvalidModel("the compiled model uses a feature that it does not have")
    if any(map(math.isnan, blob.threshold)) or not all(map(math.isfinite, blob.leaf_value)):
        raise InvalidModel("the compiled model has a number that is not one")
    if not set(blob.nan_left) <= {0, 1} or any(padding):
        raise InvalidModel("the compiled model has a flag of an unknown meaning")


def _little(values: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _column(code: str, data: bytes, at: int, n: int) -> array[Any]:
    values: array[Any] = array(code)
    values.frombytes(data[at : at + n * values.itemsize])
    if sys.byteorder == "big":
        values.byteswap()
    return values
