"""The compiled form of a forest: one flat little-endian value that any walker can read in place.

    offset  type      content
    0       8 bytes   magic "UBPTREES"
    8       u16       version of this layout, 2
    10      u16       length of this header, 64
    12      u32       flags: bit 0 divides each sum by the number of its trees; bit 1: some node has ZERO or CATEGORY
    16      u32       f, features a row has
    20      u32       t, trees
    24      u32       n, inner nodes of all trees
    28      u32       m, leaves of all trees, m = n + t
    32      u16       k, outputs; tree i adds to output i % k, and t is a multiple of k
    34      u16       link: 0 identity, 1 sigmoid, 2 softmax, 3 exp, 4 log1p(exp), 5 signed square
    36      u32       s, sets of categories
    40      f64       parameter of the link
    48      u64       length of the whole value
    56      u32       w, words of all sets
    60      u32       0
    64      f64 [m]   leaf_value
            [n] of    a node
              u16       feature
              u16       node_flags, see below
              f32       threshold: x <= threshold goes left; of a CATEGORY node the number of its set
              i32       left: a node of the same tree, larger than its parent, or ~leaf
              i32       right: likewise
            i32 [t+1] node_first: tree i has the nodes node_first[i] <= j < node_first[i+1], its root comes first
            i32 [t+1] leaf_first: likewise for leaves
            i32 [s+1] set_first: set j has the words set_first[j] <= i < set_first[j+1], at least one
            u32 [w]   set_words: bit c % 32 of a set's word c // 32 says whether it has category c
            u32       CRC-32 of all before

    node_flags
    1 MISSING_LEFT   a missing value goes left, else right; NaN is missing
    2 ZERO           |x| <= 1e-35 is missing too (set only where the comparison would send it the other way)
    4 CATEGORY       x > -1 whose whole part is in the set goes left, NaN where MISSING_LEFT is set too, all
                     else right; never with ZERO

Nodes and leaves are numbered through all trees, so that a walk is `i = left[i]` or `right[i]` until i < 0 and then
leaf_value[~i]; a tree without nodes starts at ~leaf_first[i]. Leaves are summed in tree order in float64, per output
from 0.0. What a walk reads of a node lies together: half the time of columns. Any SQL user can hand any bytes to
`ubp.score_blob`: `open_blob` checks everything again. Neither NumPy nor Numba nor dataclasses (5 ms of imports) are
used here.
"""

from __future__ import annotations

import math
import sys
from array import array
from itertools import chain
from operator import gt
from struct import Struct
from zlib import crc32

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.kernels.forest_codes import CATEGORY, LINKS, NODE_FLAGS, SOFTMAX, ZERO
from ubp_sql.models.limits import (
    MAX_CATEGORY_WORDS,
    MAX_FEATURES,
    MAX_LEAVES,
    MAX_OUTPUTS,
    MAX_TREES,
    other_format,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ubp_sql.models.forest import Forest

MAGIC, LAYOUT = b"UBPTREES", 2
_HEADER = Struct("<8sHHIIIIIHHIdQII")
_NODE = Struct("<HHfii")
_AVERAGE, _SPECIAL = 1, 2


class Blob:
    """A checked compiled forest; the arrays are those of the module's docstring, in the machine's byte order.

    special is the header's bit 1: only then a node has ZERO or CATEGORY.
    """

    __slots__ = (
        *("average", "feature", "leaf_first", "leaf_value", "left", "link", "link_parameter", "n_features"),
        *("n_outputs", "n_trees", "node_first", "node_flags", "right", "set_first", "set_words", "special"),
        "threshold",
    )

    n_features: int
    n_trees: int
    n_outputs: int
    link: int
    link_parameter: float
    average: bool
    special: bool
    leaf_value: array[float]
    node_first: array[int]
    leaf_first: array[int]
    feature: array[int]
    threshold: array[float]
    left: array[int]
    right: array[int]
    set_first: array[int]
    set_words: array[int]
    node_flags: array[int]

    def roots(self) -> list[int]:
        """(t,) where each tree's walk starts: a node, or ~leaf for a tree of one leaf."""
        nodes, leaves = self.node_first, self.leaf_first
        return [nodes[k] if nodes[k] < nodes[k + 1] else ~leaves[k] for k in range(self.n_trees)]

    @property
    def divisor(self) -> float:
        """What each sum is divided by before the link."""
        return float(self.n_trees // self.n_outputs) if self.average else 1.0


def blob_hash(data: bytes) -> str:
    """The SHA-256 of a model's bytes in hexadecimal: the model's identity in tables and caches."""
    from hashlib import sha256  # loads OpenSSL: 4 ms that the first score of a connection does not need

    return sha256(data).hexdigest()


def outputs_of(data: bytes) -> int:
    """How many outputs the model has, from the header of a compiled value that was checked before: of a forest or of
    another form, whose headers have them at the same place.
    """
    k: int = _HEADER.unpack_from(data)[8]
    return k


def compile_forest(forest: Forest) -> bytes:
    """The compiled form of a forest; raises InvalidModel (UB006) where the forest is not sound."""
    node_first, leaf_first, set_first = array("i", [0]), array("i", [0]), array("i", [0])
    feature, threshold = array("i"), array("f")
    left, right = array("i"), array("i")
    set_words = array("I")
    node_flags = bytearray()
    leaf_value = array("d")
    for tree, order in zip(forest.trees, forest.validate(), strict=True):
        nodes, leaves, sets = node_first[-1], leaf_first[-1], len(set_first) - 1
        place = [0] * len(order)
        for new, old in enumerate(order):
            place[old] = nodes + new
        feature.extend(tree.feature[i] for i in order)
        threshold.extend(tree.threshold[i] + (sets if tree.flags[i] & CATEGORY else 0) for i in order)
        for children, out in ((tree.left, left), (tree.right, right)):
            out.extend(place[c] if c >= 0 else ~(leaves + ~c) for c in (children[i] for i in order))
        node_flags.extend(tree.flags[i] for i in order)
        leaf_value.extend(tree.leaf_value)
        node_first.append(nodes + len(order))
        leaf_first.append(leaves + len(tree.leaf_value))
        for words in tree.sets:
            set_words.extend(words)
            set_first.append(len(set_words))
    nodes_ = b"".join(map(_NODE.pack, feature, node_flags, threshold, left, right))
    columns = (node_first, leaf_first, set_first, set_words)
    body = b"".join((little(leaf_value), nodes_, *map(little, columns)))
    flags = (_AVERAGE if forest.average else 0) | (_SPECIAL if max(node_flags, default=0) >= ZERO else 0)
    header = _HEADER.pack(
        *(MAGIC, LAYOUT, _HEADER.size, flags),
        *(forest.n_features, len(forest.trees), len(feature), len(leaf_value)),
        *(forest.outputs, forest.link, len(set_first) - 1, forest.link_parameter),
        *(_HEADER.size + len(body) + 4, len(set_words), 0),
    )
    return header + body + crc32(body, crc32(header)).to_bytes(4, "little")


def open_blob(data: bytes) -> Blob:
    """The forest in compiled bytes, all of it checked (1.9 ms for 200 trees of 31 leaves).

    Raises InvalidModel (UB006) for bytes that `compile_forest` cannot have made or that are over a limit, and
    UnsupportedModel (UB007) for another layout.
    """
    if not data.startswith(MAGIC):
        found = other_format(data)
        what, hint = found if found else ("something else", None)
        raise InvalidModel(f"this is {what}, not a compiled model", hint)
    if len(data) < _HEADER.size + 4:
        raise InvalidModel(f"the compiled model is cut short at {len(data)} bytes")
    _, layout, header, flags, f, t, n, m, k, link, s, parameter, length, w, zero = _HEADER.unpack_from(data)
    if layout != LAYOUT:
        raise UnsupportedModel(
            f"the compiled model has layout {layout}, known is {LAYOUT}", "register the model again: its text compiles"
        )
    if not (0 < f <= MAX_FEATURES and 0 < t <= MAX_TREES and m <= MAX_LEAVES and m == n + t):
        raise InvalidModel(f"the compiled model counts {f} features, {t} trees, {n} nodes, {m} leaves")
    if not (0 < k <= MAX_OUTPUTS and t % k == 0 and s <= n and w <= MAX_CATEGORY_WORDS):
        raise InvalidModel(f"the compiled model counts {k} outputs of {t} trees, {s} sets of {w} words")
    words = 2 * m + 4 * n + 2 * (t + 1) + s + 1 + w
    if not length == len(data) == _HEADER.size + 4 * words + 4:
        raise InvalidModel(f"the compiled model has {len(data)} bytes, its header tells of another number")
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise InvalidModel("the compiled model is damaged: its checksum differs")
    if header != _HEADER.size or flags > _AVERAGE | _SPECIAL or zero:
        raise InvalidModel("the compiled model's header has a field of an unknown meaning")
    if link >= LINKS or not 0.0 < parameter < math.inf:
        raise InvalidModel(f"the compiled model's link {link} with parameter {parameter!r} does not exist")
    if link == SOFTMAX and k == 1:
        raise InvalidModel("the compiled model's link 2 is of several outputs, it counts 1")
    blob = Blob()
    blob.n_features, blob.n_trees, blob.n_outputs, blob.link, blob.link_parameter = f, t, k, link, parameter
    blob.average, blob.special = bool(flags & _AVERAGE), bool(flags & _SPECIAL)
    blob.leaf_value, at = column("d", data, _HEADER.size, m)
    halves, _ = column("H", data, at, 8 * n)
    blob.feature, blob.node_flags = array("i", halves[0::8]), halves[1::8]
    blob.threshold = column("f", data, at, 4 * n)[0][1::4]
    numbers, at = column("i", data, at, 4 * n)
    blob.left, blob.right = numbers[2::4], numbers[3::4]
    blob.node_first, at = column("i", data, at, t + 1)
    blob.leaf_first, at = column("i", data, at, t + 1)
    blob.set_first, at = column("i", data, at, s + 1)
    blob.set_words, at = column("I", data, at, w)
    _check(blob)
    return blob


def _check(blob: Blob) -> None:
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
    for children in (left, right):
        unsigned = array("I", children.tobytes())  # a leaf, negative, is larger than every node
        if not all(map(gt, unsigned, range(len(unsigned)))):
            i = _first(unsigned[i] <= i for i in range(len(unsigned)))
            raise InvalidModel(f"the compiled model's node {i} has a child before itself")
    if left and max(blob.feature) >= blob.n_features:
        i = blob.feature.index(max(blob.feature))
        raise InvalidModel(f"the compiled model's node {i} uses a feature that it does not have")
    if any(map(math.isnan, blob.threshold)):
        raise InvalidModel(f"the compiled model's node {_first(map(math.isnan, blob.threshold))} has no threshold: NaN")
    if not math.isfinite(sum(map(abs, blob.leaf_value))):
        if not all(map(math.isfinite, blob.leaf_value)):
            i = _first(not math.isfinite(value) for value in blob.leaf_value)
            raise InvalidModel(f"the compiled model's leaf {i} is not a finite number")
        raise InvalidModel("the compiled model's leaves can add up to more than a float64 holds")
    if not set(blob.node_flags) <= NODE_FLAGS:
        i = _first(flag not in NODE_FLAGS for flag in blob.node_flags)
        raise InvalidModel(f"the compiled model's node {i} has a flag of an unknown meaning")
    _check_sets(blob)


def _first(wrong: Iterable[bool]) -> int:
    """Number of the first that is."""
    return next(i for i, is_wrong in enumerate(wrong) if is_wrong)


def _check_sets(blob: Blob) -> None:
    """The sets cover their words in order, and only a node of categories names one, which exists."""
    first = blob.set_first
    if first[0] != 0 or first[-1] != len(blob.set_words) or not all(map(gt, first[1:], first)):
        raise InvalidModel("the compiled model's sets of categories do not cover their words")
    if blob.special != (max(blob.node_flags, default=0) >= ZERO):
        raise InvalidModel("the compiled model's header tells of other nodes than it has")
    if not blob.special:
        return
    for i, (flag, t) in enumerate(zip(blob.node_flags, blob.threshold, strict=True)):
        if flag & CATEGORY and not (0 <= t < len(first) - 1 and t.is_integer()):
            raise InvalidModel(f"the compiled model's sets of categories do not include the one that node {i} names")


def little(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def column(code: str, data: bytes, at: int, n: int) -> tuple[array[Any], int]:
    """n values at an offset, and where they end."""
    values: array[Any] = array(code)
    end = at + n * values.itemsize
    values.frombytes(data[at:end])
    if sys.byteorder == "big":
        values.byteswap()
    return values, end
