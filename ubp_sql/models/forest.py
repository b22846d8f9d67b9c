"""A forest of decision trees over float32 features, as every importer leaves it and the compiler takes it.

A numeric node sends a row left where `x <= threshold`, or where x is missing and MISSING_LEFT is set; all thresholds
are float32 (see `round_down`), so that a float32 row needs no widening to be compared. Flags are those of the compiled
form (kernels/forest_codes.py).
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from enum import IntEnum
from operator import itemgetter

from ubp_sql.errors import InvalidModel
from ubp_sql.kernels import forest_codes
from ubp_sql.kernels.forest_codes import CATEGORY, NODE_FLAGS
from ubp_sql.models.limits import MAX_CATEGORY_WORDS, MAX_FEATURES, MAX_LEAVES, MAX_OUTPUTS, MAX_TREES


class Link(IntEnum):
    """What turns the sums of leaves into the scores."""

    IDENTITY = forest_codes.IDENTITY
    SIGMOID = forest_codes.SIGMOID
    SOFTMAX = forest_codes.SOFTMAX
    EXP = forest_codes.EXP
    LOG1P_EXP = forest_codes.LOG1P_EXP
    SIGNED_SQUARE = forest_codes.SIGNED_SQUARE


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of n inner nodes and n + 1 leaves; node 0 is the root, a tree of one leaf has no nodes.

    feature    (n,) int32     index into the row
    threshold  (n,) float32   never NaN; +inf sends all but NaN left; of a CATEGORY node, an index into `sets`
    left/right (n,) int32     child: a node where >= 0, else leaf number ~child
    flags      (n,) uint8     MISSING_LEFT, ZERO, CATEGORY
    leaf_value (n+1,) float64 finite
    sets       bit c % 32 of word c // 32 of a set says whether it has category c; a set has a word at least
    cover      (n+1,) float64 how much of the training data ended in each leaf; None where the file does not say
    """

    feature: array[int]
    threshold: array[float]
    left: array[int]
    right: array[int]
    flags: bytes
    leaf_value: array[float]
    sets: tuple[array[int], ...] = ()
    cover: array[float] | None = None

    def visit(self, where: str) -> list[int]:
        """The inner nodes, each before its children; raises InvalidModel unless every node and leaf is met once."""
        n = len(self.feature)
        order = [0] if n else []
        node_met, leaf_met = bytearray(n), bytearray(n + 1)
        for node in order:  # grows while it is read: nodes are appended as their parents are met
            for child in (self.left[node], self.right[node]):
                met, index = (node_met, child) if child >= 0 else (leaf_met, ~child)
                if index >= len(met) or met[index] or child == 0:
                    raise InvalidModel(f"{where}: child {child} of node {node} does not exist or has another parent")
                met[index] = 1
                if child >= 0:
                    order.append(child)
        if len(order) != n:
            raise InvalidModel(f"{where}: {n - len(order)} of {n} nodes cannot be reached from the root")
        return order

    def validate(self, n_features: int, where: str) -> list[int]:
        """Check sizes, indices, numbers and shape; returns `visit`'s order, raises InvalidModel (UB006)."""
        n = len(self.feature)
        if not len(self.threshold) == len(self.left) == len(self.right) == len(self.flags) == n:
            raise InvalidModel(f"{where}: arrays of nodes differ in length")
        if len(self.leaf_value) != n + 1:
            raise InvalidModel(f"{where}: {len(self.leaf_value)} leaves for {n} nodes")
        if n and not 0 <= min(self.feature) <= max(self.feature) < n_features:
            raise InvalidModel(f"{where}: a feature index is outside 0..{n_features - 1}")
        if any(t != t for t in self.threshold):
            raise InvalidModel(f"{where}: a threshold is NaN")
        if not all(map(math.isfinite, self.leaf_value)):
            raise InvalidModel(f"{where}: a leaf value is not finite")
        if not set(self.flags) <= NODE_FLAGS:
            raise InvalidModel(f"{where}: a node's flags are none that exist together")
        named = [t for flag, t in zip(self.flags, self.threshold, strict=True) if flag & CATEGORY]
        if not (all(self.sets) and all(0 <= t < len(self.sets) and t.is_integer() for t in named)):
            raise InvalidModel(f"{where}: a node's set of categories does not exist or has no word")
        return self.visit(where)


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees whose leaves are summed in order, those of tree i into output i % outputs.

    The sums are divided by the number of their trees where `average`, then put through `link`. feature_infos keeps the
    importer's note on each feature's range ('[min:max]', 'none'); objective is the trainer's name for what the score
    means.
    """

    trees: tuple[Tree, ...]
    feature_names: tuple[str, ...]
    feature_infos: tuple[str, ...]
    objective: str
    link: Link
    link_parameter: float = 1.0
    average: bool = False
    outputs: int = 1

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def n_outputs(self) -> int:
        return self.outputs

    def validate(self) -> list[list[int]]:
        """Check the whole forest; returns each tree's `visit` order, raises InvalidModel (UB006)."""
        if not 0 < self.n_features <= MAX_FEATURES:
            raise InvalidModel(f"{self.n_features} features, allowed are 1 to {MAX_FEATURES}")
        if not 0 < len(self.trees) <= MAX_TREES:
            raise InvalidModel(f"{len(self.trees)} trees, allowed are 1 to {MAX_TREES}")
        if not (0 < self.outputs <= MAX_OUTPUTS and len(self.trees) % self.outputs == 0):
            raise InvalidModel(f"{self.outputs} outputs for {len(self.trees)} trees")
        if self.link == Link.SOFTMAX and self.outputs == 1:
            raise InvalidModel("1 output: a softmax needs several")
        if sum(len(t.leaf_value) for t in self.trees) > MAX_LEAVES:
            raise InvalidModel(f"more than {MAX_LEAVES} leaves")
        if sum(len(words) for t in self.trees for words in t.sets) > MAX_CATEGORY_WORDS:
            raise InvalidModel(f"more than {MAX_CATEGORY_WORDS} words of categories")
        if not (math.isfinite(self.link_parameter) and self.link_parameter > 0):
            raise InvalidModel(f"the link's parameter is {self.link_parameter!r}, it must be finite and above 0")
        orders = [t.validate(self.n_features, f"tree {k}") for k, t in enumerate(self.trees)]
        # A sum that can become infinite would give NaN through a softmax or as a difference.
        if not math.isfinite(sum(sum(map(abs, t.leaf_value)) for t in self.trees)):
            raise InvalidModel("the leaves can add up to more than a float64 holds")
        return orders

    def ordered_as(self, names: tuple[str, ...]) -> Forest:
        """The same forest for rows whose features have these names in this order.

        Raises ValueError, with a line that names one, where the two differ in more than their order.
        """
        if self.feature_names == names:
            return self
        moved = places_of(self.feature_names, names)
        infos = sorted(zip(moved, self.feature_infos, strict=True), key=itemgetter(0))
        trees = tuple(replace(t, feature=array("i", (moved[j] for j in t.feature))) for t in self.trees)
        return replace(self, trees=trees, feature_names=names, feature_infos=tuple(info for _, info in infos))


def places_of(own: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Where each of a model's own feature names stands in `names`.

    Raises ValueError, with a line that names one, where the two differ in more than their order.
    """
    place = {name: position for position, name in enumerate(names)}
    if unknown := [name for name in own if name not in place]:
        raise ValueError(f"it has no feature {unknown[0][:80]!r}, which the model reads")
    if missing := set(names).difference(own):
        raise ValueError(f"the model does not know its feature {min(missing, key=names.index)[:80]!r}")
    return [place[name] for name in own]


def round_down(values: list[float]) -> array[float]:
    """The largest float32 not above each value, so that `x <= t` keeps its answer for every float32 x.

    Above the largest finite float32 it is that one (x = +inf still goes right), below the lowest it is -inf;
    +inf and -inf stay, NaN stays NaN.
    """
    rounded = array("f", values)  # to nearest, overflow to infinity
    for k, t in enumerate(values):
        if rounded[k] > t:
            rounded[k] = next_below(rounded[k])
    return rounded


def next_below(x: float) -> float:
    """The float32 just below the float32 x (not NaN, not -inf)."""
    if x == 0.0:
        return -(2.0**-149)
    bits = array("f", [x])
    word = array("i", bits.tobytes())  # sign and magnitude: one less is nearer to zero
    word[0] += -1 if x > 0 else 1
    bits = array("f", word.tobytes())
    return bits[0]
