"""LightGBM's scoring in plain loops over the text of a model, in float64 and as its source says: the naive oracle.

Reads only well-formed text of numeric trees with one output and checks nothing.
"""

import math


def read(text: str) -> tuple[dict[str, str], list[dict[str, list[str]]]]:
    """Header fields, and for each tree its fields as lists of tokens."""
    head, *blocks = text.split("\nend of trees")[0].split("\nTree=")
    header = dict(line.partition("=")[::2] for line in head.split("\n"))
    return header, [
        {key: value.split() for key, _, value in (line.partition("=") for line in block.split("\n"))}
        for block in blocks
    ]


def leaf_of(tree: dict[str, list[str]], row: list[float]) -> int:
    """Number of the leaf that a row falls into."""
    node = 0 if tree["threshold"] else -1
    while node >= 0:
        x, kind = row[int(tree["split_feature"][node])], int(tree["decision_type"][node])
        x = 0.0 if abs(x) <= 1.0000000180025095e-35 or (math.isnan(x) and kind >> 2 != 2) else x
        left = bool(kind & 2) if math.isnan(x) else x <= float(tree["threshold"][node])
        node = int(tree["left_child" if left else "right_child"][node])
    return ~node


def raw(trees: list[dict[str, list[str]]], row: list[float]) -> float:
    """Sum of leaves in tree order."""
    total = 0.0
    for tree in trees:
        total += float(tree["leaf_value"][leaf_of(tree, row)])
    return total


def score(text: str, row: list[float]) -> float:
    """The model's output for one row."""
    header, trees = read(text)
    total = raw(trees, row) / (len(trees) if "average_output" in header else 1)
    if header["objective"].startswith(("binary", "cross_entropy")):
        sigmoid = float(header["objective"].partition("sigmoid:")[2] or 1)
        return 1.0 / (1.0 + math.exp(-sigmoid * total)) if -sigmoid * total < 700 else 0.0
    return total
