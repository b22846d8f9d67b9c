"""Random trees with covers, as ours and as the plain reference has them, and rows for them."""

from array import array
from fractions import Fraction
from random import Random
from typing import Any

from tests.models.forest_makers import random_tree, with_categories, written
from tests.reference import Split
from ubp_sql.kernels.forest_codes import MISSING_LEFT
from ubp_sql.models.blob import compile_forest
from ubp_sql.models.explain import Explainer, open_explainer
from ubp_sql.models.explain_compile import compile_explainer
from ubp_sql.models.forest import Forest, Link, Tree
from ubp_sql.models.loaded import TreeModel


def explainer(forest: Forest) -> Explainer:
    compiled = compile_forest(forest)
    made = compile_explainer(forest, compiled)
    assert made is not None
    return open_explainer(made, TreeModel(compiled))


def forest_of(trees: list[Tree], features: int, average: bool = False) -> Forest:
    names = tuple(f"f{j}" for j in range(features))
    return Forest(tuple(trees), names, ("none",) * features, "regression", Link.IDENTITY, 1.0, average)


def tree_and_reference(random: Random, features: int, leaves: int) -> tuple[Tree, Any]:
    """A tree of few thresholds, so that a path meets them twice; some leaves saw no training data."""
    feature, threshold, flags = array("i"), array("f"), bytearray()
    left, right, value, cover = array("i"), array("i"), array("d"), array("d")

    def grow(n: int) -> tuple[int, Any, int]:
        """(number as a child, the same for the reference, its cover) of a subtree of n leaves."""
        if n == 1:
            value.append(random.choice([0.0, random.gauss(0, 1)]))
            cover.append(random.choice([0, 1, 1, 2, 5]))
            return ~(len(value) - 1), value[-1], int(cover[-1])
        node, own, t = len(feature), random.randrange(features), random.choice([-1.0, 0.0, 0.5])
        missing_left = random.random() < 0.5
        feature.append(own)
        threshold.append(t)
        flags.append(MISSING_LEFT * missing_left)
        left.append(0)
        right.append(0)
        first = random.randint(1, n - 1)
        left[node], a, seen_left = grow(first)
        right[node], b, seen_right = grow(n - first)
        seen = seen_left + seen_right
        share = Fraction(seen_left, seen) if seen else Fraction(1, 2)
        return node, Split(own, lambda x: x <= t or (x != x and missing_left), share, a, b), seen

    _, reference, seen = grow(leaves)
    if not seen:
        cover[0] = 1
        return tree_and_reference(random, features, leaves)
    return Tree(feature, threshold, left, right, bytes(flags), value, cover=cover), reference


def random_text(random: Random, features: int, trees: int, leaves: int) -> bytes:
    """A LightGBM file with trees of any shape, splits of every kind, and the covers of some training data."""
    made: list[dict[str, list[object]]] = []
    for _ in range(trees):
        tree = with_categories(random, random_tree(random, features, random.randint(1, leaves), random.random() < 0.2))
        counts = [random.choice([1, 2, 3, 50]) for _ in tree["leaf_value"]]
        inner = [0] * len(tree["left_child"])
        for i in reversed(range(len(inner))):  # a child comes after its parent
            children = tree["left_child"][i], tree["right_child"][i]
            inner[i] = sum(counts[~c] if c < 0 else inner[c] for c in children if isinstance(c, int))
        made.append({**tree, "internal_count": list(inner), "leaf_count": list(counts)})
    return written(made, features, "regression")
