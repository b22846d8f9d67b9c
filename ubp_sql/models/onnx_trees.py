"""Forests of ONNX graphs: TreeEnsembleClassifier and TreeEnsembleRegressor of ai.onnx.ml 1 to 4.

A tree whose leaves have numbers for several outputs becomes a tree for each of these. Every mode becomes x <= t on
float32: < and >= by the float32 below t, > and >= with the children the other way round, == and != as two nodes, with
a copy of what hangs on the side that is taken on both ends. (TreeEnsembleCommon and TreeAggregator of ONNX Runtime.)
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

from ubp_sql.errors import InvalidModel
from ubp_sql.kernels import forest_codes
from ubp_sql.kernels.forest_codes import MISSING_LEFT
from ubp_sql.models.forest import Forest, Link, Tree, next_below, round_down
from ubp_sql.models.limits import MAX_LEAVES, MAX_OUTPUTS, MAX_TREES, MAX_WEIGHTS
from ubp_sql.models.onnx_columns import NotFolded, Sources, largest_below
from ubp_sql.models.onnx_graph import Node, Tensor
from ubp_sql.models.onnx_linear import LINKS, labels_of, post_transform

_MODES = {b"BRANCH_LEQ": "<=", b"BRANCH_LT": "<", b"BRANCH_GTE": ">=", b"BRANCH_GT": ">", b"BRANCH_EQ": "=="}
_MODES |= {b"BRANCH_NEQ": "!=", b"LEAF": ""}


class Trees:
    """Sums of leaves: of each output its trees, in order."""

    def __init__(self, trees: list[list[Tree]], count: int) -> None:
        """count: trees of the file."""
        self.trees, self.count = trees, count

    @property
    def outputs(self) -> int:
        return len(self.trees)

    def take(self, chosen: list[int]) -> None:
        self.trees = [self.trees[j] for j in chosen]

    def subtract(self) -> None:
        """The second output less the first."""
        first, second = self.trees
        self.trees = [second + [_scaled(tree, -1.0) for tree in first]]

    def opposite(self) -> bool:
        """Whether the first of two outputs is known to be the second with the other sign."""
        return False

    def add(self, values: list[float]) -> None:
        for group, value in zip(self.trees, values, strict=True):
            group.append(_constant(value))

    def body(self, features: int, names: tuple[str, ...], objective: str, link: int) -> Forest:
        longest = max(1, *map(len, self.trees))
        if longest * len(self.trees) > MAX_TREES:
            raise NotFolded
        padded = [group + [_constant(0.0)] * (longest - len(group)) for group in self.trees]
        if sum(len(tree.leaf_value) for group in padded for tree in group) > MAX_LEAVES:
            raise NotFolded
        trees = tuple(tree for together in zip(*padded, strict=True) for tree in together)
        given = names or tuple(f"f{i}" for i in range(features))
        forest = Forest(trees, given, ("none",) * features, objective, Link(link), outputs=len(self.trees))
        forest.validate()
        return forest


def regressor(sources: Sources, node: Node) -> tuple[Trees, int]:
    """TreeEnsembleRegressor: its sums."""
    targets = node.attributes.get("n_targets", 1)
    # What other transforms do to one target, ONNX and its runtime do not agree on.
    if node.attributes.get("post_transform", b"NONE") != b"NONE":
        raise NotFolded
    if not isinstance(targets, int) or not 0 < targets <= MAX_OUTPUTS:
        raise InvalidModel(f"{node.where}: n_targets is {targets!r}")
    reader = _Reader(sources, node, "target", targets)
    how = node.attributes.get("aggregate_function", b"SUM")
    if how not in (b"SUM", b"AVERAGE"):
        raise NotFolded
    trees = reader.trees(1.0 / len(reader.roots) if how == b"AVERAGE" else 1.0)
    base = reader.numbers("base_values", None)
    if len(base) not in (0, targets):
        raise NotFolded
    if base:
        trees.add(base)
    return trees, forest_codes.IDENTITY


def classifier(sources: Sources, node: Node) -> tuple[Trees, int]:
    """TreeEnsembleClassifier: its sums and their link; of two classes that share one sum, the sum.

    What the runtime does with two classes depends on which of them have weights: what is not plain is left to it.
    """
    labels = labels_of(node)
    if not 2 <= len(labels) <= MAX_OUTPUTS:
        raise NotFolded
    link = LINKS.get(post_transform(node))
    if link is None:
        raise NotFolded
    reader = _Reader(sources, node, "class", len(labels))
    base = reader.numbers("base_values", None)
    if len(labels) > 2:
        if len(base) not in (0, len(labels)):
            raise NotFolded
        trees = reader.trees(1.0)
    elif len(reader.used) == 1:
        # Without a transform, the runtime takes the sum for a probability only where no weight is negative; and it
        # forgets a base where the weights are those of the second class.
        (own,) = reader.used
        plain = link == forest_codes.SIGMOID or (link == forest_codes.IDENTITY and min(reader.weights) >= 0.0)
        if own > 1 or len(base) > 1 - own or not plain:
            raise NotFolded
        trees = reader.trees(1.0)
        trees.take([own])
    else:
        if base or not reader.complete():
            raise NotFolded
        trees = reader.trees(1.0)
    if base:
        trees.add(base)
    return trees, link


class _Reader:
    """The attributes of a tree ensemble, counted and checked."""

    def __init__(self, sources: Sources, node: Node, kind: str, outputs: int) -> None:
        self.node, self.outputs = node, outputs
        self.columns = sources.numbers(node.need(0))
        if any(column.feature < 0 for column in self.columns):
            raise NotFolded  # sums, which are float32 there: a row near a threshold would end elsewhere
        tree_ids = self.integers("nodes_treeids", None)
        n = len(tree_ids)
        node_ids = self.integers("nodes_nodeids", n)
        modes = node.attributes.get("nodes_modes", ())
        sized = isinstance(modes, tuple) and len(modes) == n
        if not (0 < n <= 2 * MAX_LEAVES and sized and set(modes) <= _MODES.keys()):
            raise InvalidModel(f"{node.where}: nodes_modes: expected {n} modes of ONNX")
        self.modes = [_MODES[mode] for mode in modes]
        number = {pair: i for i, pair in enumerate(zip(tree_ids, node_ids, strict=True))}
        if len(number) != n:
            raise InvalidModel(f"{node.where}: a tree has two nodes of one number")
        self.feature = self.integers("nodes_featureids", n)
        self.value = self.numbers("nodes_values", n, endless=True)
        self.tracks = self.integers("nodes_missing_value_tracks_true", None) or [0] * n
        if len(self.tracks) != n or not {0, 1}.issuperset(self.tracks):
            raise InvalidModel(f"{node.where}: nodes_missing_value_tracks_true: expected {n} flags, 0 or 1")
        children = [self.integers(key, n) for key in ("nodes_truenodeids", "nodes_falsenodeids")]
        self.true, self.false = ([number.get(pair, -1) for pair in zip(tree_ids, ids, strict=True)] for ids in children)
        self.roots = [i for i in range(n) if i == 0 or tree_ids[i] != tree_ids[i - 1]]
        if len({tree_ids[i] for i in self.roots}) != len(self.roots):
            raise InvalidModel(f"{node.where}: the nodes of a tree do not lie together")
        self.tree_ids = tree_ids
        self._read_weights(kind, number)
        self.leaves_left = MAX_LEAVES
        self.made_left = 4 * MAX_LEAVES  # leaves of the trees of all outputs, some of which may be left out

    def _read_weights(self, kind: str, number: dict[tuple[int, int], int]) -> None:
        owner = self.integers(f"{kind}_treeids", None)
        of_node, of_output = (self.integers(f"{kind}_{key}", len(owner)) for key in ("nodeids", "ids"))
        self.weights = self.numbers(f"{kind}_weights", len(owner))
        self.weight: dict[int, dict[int, float]] = {}
        for pair, output, w in zip(zip(owner, of_node, strict=True), of_output, self.weights, strict=True):
            i = number.get(pair, -1)
            if i < 0 or self.modes[i] or not 0 <= output < self.outputs:
                raise InvalidModel(f"{self.node.where}: {kind}_nodeids: {pair!r} for output {output} is no leaf")
            held = self.weight.setdefault(i, {})
            if output in held:
                raise NotFolded  # the runtime takes the first in one case, the sum in others
            held[output] = w
        self.used = {output for held in self.weight.values() for output in held}
        if not self.used:
            raise InvalidModel(f"{self.node.where}: no leaf has a weight")

    def integers(self, key: str, count: int | None) -> list[int]:
        found = self.node.attributes.get(key, array("q"))
        if not isinstance(found, array) or found.typecode != "q" or (count is not None and len(found) != count):
            raise InvalidModel(f"{self.node.where}: {key}: expected {count if count is not None else ''} whole numbers")
        if len(found) > MAX_WEIGHTS:
            raise NotFolded
        whole: list[int] = found.tolist()
        return whole

    def numbers(self, key: str, count: int | None, endless: bool = False) -> list[float]:
        """Numbers of an attribute, or in its place of the tensor of float64 that newer versions have; count None: one
        an output at most.

        endless: infinite ones may be among them: a split of what is missing from all the rest.
        """
        found: Any = self.node.attributes.get(key, array("f"))
        if isinstance(tensor := self.node.attributes.get(f"{key}_as_tensor"), Tensor) and not found:
            found = tensor.values()
        if not isinstance(found, array) or found.typecode not in "fd":
            raise InvalidModel(f"{self.node.where}: {key}: numbers are expected")
        if len(found) > MAX_OUTPUTS if count is None else len(found) != count:
            raise InvalidModel(f"{self.node.where}: {key}: expected {count or ''} numbers, found {len(found)}")
        values: list[float] = found.tolist()
        if any(v != v or (math.isinf(v) and not endless) for v in values):
            raise InvalidModel(f"{self.node.where}: {key}: a number is not finite")
        return values

    def complete(self) -> bool:
        """Whether each leaf has a weight for each output."""
        ends = [i for i, mode in enumerate(self.modes) if not mode]
        return all(len(self.weight.get(i, ())) == self.outputs for i in ends)

    def trees(self, factor: float) -> Trees:
        """Every output's trees, the leaves times a factor."""
        groups: list[list[Tree]] = [[] for _ in range(self.outputs)]
        met = 0
        for k, root in enumerate(self.roots):
            shape = _Shape(self, root, f"{self.node.where}: tree {self.tree_ids[root]}")
            met += len(shape.met)
            for output in sorted({output for i in shape.ends for output in self.weight.get(i, ())}):
                self.made_left -= len(shape.ends)
                if self.made_left < 0:
                    raise NotFolded
                leaves = [factor * self.weight.get(i, {}).get(output, 0.0) for i in shape.ends]
                groups[output].append(shape.tree(leaves))
            if k >= MAX_TREES:
                raise NotFolded
        if met != len(self.modes):
            raise InvalidModel(f"{self.node.where}: {len(self.modes) - met} nodes belong to no tree")
        return Trees(groups, len(self.roots))

    def threshold(self, i: int, strict: bool) -> tuple[float, bool | None]:
        """The float32 up to which node i's column is <= its value, or < it; and where a missing feature ends up whose
        value is imputed: None where it stays missing.
        """
        column = self.columns[self.feature[i]]
        t = self.value[i]
        m = column.apply(math.nan)
        imputed = None if m != m else (m < t if strict else m <= t)
        if all(what == "?" for what, _, _ in column.steps):
            limit = round_down([t])[0]
            if strict and t == -math.inf:
                raise NotFolded
            return (next_below(limit) if strict and limit == t else limit), imputed
        limit_or_none = largest_below(column, t, strict)
        if limit_or_none is None:
            raise NotFolded
        return limit_or_none, imputed


# Nodes of the file, each with what takes down its new number.
Waiting = list[tuple[int, Callable[[int], None]]]


class _Shape:
    """A tree's nodes as they are written, and which of the file's leaves its leaves are."""

    def __init__(self, reader: _Reader, root: int, where: str) -> None:
        self.reader, self.where = reader, where
        self.feature, self.threshold, self.flags = array("i"), array("f"), bytearray()
        self.left, self.right = array("i"), array("i")
        self.ends: list[int] = []
        self.met: set[int] = set()
        waiting: Waiting = [(root, lambda number: None)]
        self._check(root)
        while waiting:
            i, write = waiting.pop()
            if not reader.modes[i]:
                write(~len(self.ends))
                self.ends.append(i)
                reader.leaves_left -= 1
                if reader.leaves_left < 0:
                    raise NotFolded
                continue
            write(len(self.feature))
            waiting += self._branch(i)

    def _check(self, root: int) -> None:
        """Every node is met once."""
        waiting = [root]
        while waiting:
            i = waiting.pop()
            if i < 0 or i in self.met:
                raise InvalidModel(f"{self.where}: a child does not exist or has another parent")
            self.met.add(i)
            if self.reader.modes[i]:
                waiting += (self.reader.true[i], self.reader.false[i])
                if not 0 <= self.reader.feature[i] < len(self.reader.columns):
                    raise InvalidModel(f"{self.where}: feature {self.reader.feature[i]} of {len(self.reader.columns)}")

    def _branch(self, i: int) -> Waiting:
        """Writes node i; returns its children, and where their numbers go."""
        reader = self.reader
        mode, true, false, tracks = reader.modes[i], reader.true[i], reader.false[i], bool(reader.tracks[i])
        if mode in ("<=", "<"):
            return self._node(i, mode == "<", true, false, tracks)
        if mode in (">", ">="):
            return self._node(i, mode == ">=", false, true, not tracks)
        # x == t: not above t, and not below. What is missing is equal where it tracks true, and always unequal.
        equal, other = (true, false) if mode == "==" else (false, true)
        missing_equal = tracks if mode == "==" else False
        at = len(self.feature) + 1
        upper = self._node(i, False, at, other, missing_equal)[1]
        self.left[at - 1] = at
        lower = self._node(i, True, other, equal, False)
        return [upper, *lower]

    def _node(self, i: int, strict: bool, left: int, right: int, missing_left: bool) -> Waiting:
        number = len(self.feature)
        limit, imputed = self.reader.threshold(i, strict)
        self.feature.append(self.reader.columns[self.reader.feature[i]].feature)
        self.threshold.append(limit)
        self.flags.append(MISSING_LEFT * (missing_left if imputed is None else imputed))
        self.left.append(0)
        self.right.append(0)
        return [(left, _writer(self.left, number)), (right, _writer(self.right, number))]

    def tree(self, leaves: list[float]) -> Tree:
        return Tree(self.feature, self.threshold, self.left, self.right, bytes(self.flags), array("d", leaves))


def _writer(place: array[int], at: int) -> Callable[[int], None]:
    def write(number: int) -> None:
        place[at] = number

    return write


def _scaled(tree: Tree, factor: float) -> Tree:
    leaves = array("d", [factor * v for v in tree.leaf_value])
    return Tree(tree.feature, tree.threshold, tree.left, tree.right, tree.flags, leaves)


def _constant(value: float) -> Tree:
    """A tree of one leaf."""
    return Tree(array("i"), array("f"), array("i"), array("i"), b"", array("d", [value]))
