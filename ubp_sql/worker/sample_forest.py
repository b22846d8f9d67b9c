"""A forest to measure with: balanced trees of random conditions on standard normal features."""

from array import array
from random import Random

from ubp_sql.models.blob import compile_forest
from ubp_sql.models.forest import Forest, Link, Tree


def sample_forest(trees: int, leaves: int, features: int) -> bytes:
    """The compiled form of so many trees of so many leaves each."""
    random = Random(0)  # noqa: S311 - to measure with
    made = tuple(_tree(leaves, features, random) for _ in range(trees))
    names = tuple(f"x{i}" for i in range(features))
    return compile_forest(Forest(made, names, ("none",) * features, "binary", Link.SIGMOID))


def _tree(leaves: int, features: int, random: Random) -> Tree:
    """Node i's children are the nodes 2 i + 1 and 2 i + 2, or leaves where there are no more nodes."""
    n = leaves - 1
    child = [2 * i + side for side in (1, 2) for i in range(n)]
    child = [c if c < n else ~(c - n) for c in child]
    return Tree(
        feature=array("i", [random.randrange(features) for _ in range(n)]),
        threshold=array("f", [random.gauss(0, 1) for _ in range(n)]),
        left=array("i", child[:n]),
        right=array("i", child[n:]),
        flags=bytes(n),
        leaf_value=array("d", [random.gauss(0, 0.1) for _ in range(leaves)]),
    )
