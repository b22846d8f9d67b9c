"""LightGBM's scoring in plain loops over the text of a model, in float64 and as its source says: the naive oracle.

Reads only well-formed text without linear trees and checks nothing.
"""

import math

TINY = 1.0000000180025095e-35


def read(text: str) -> tuple[dict[str, str], list[dict[str, list[str]]]]:
    """Header fields, and for each tree its fields as lists of tokens."""
    head, *blocks = text.split("\nend of trees")[0].split("\nTree=")
    header = dict(line.partition("=")[::2] for line in head.split("\n"))
    return header, [
        {key: value.split() for key, _, value in (line.partition("=") for line in block.split("\n"))}
        for block in blocks
    ]


def goes_left(tree: dict[str, list[str]], node: int, x: float) -> bool:
    """Tree::CategoricalDecision and Tree::NumericalDecision."""
    kind, threshold = int(tree["decision_type"][node]), tree["threshold"][node]
    if kind & 1:
        if math.isnan(x) or math.isinf(x) or int(x) < 0:
            return False
        begin, end = (int(tree["cat_boundaries"][int(float(threshold)) + k]) for k in (0, 1))
        words = [int(word) for word in tree["cat_threshold"][begin:end]]
        return int(x) // 32 < len(words) and words[int(x) // 32] >> (int(x) % 32) & 1 == 1
    missing = kind >> 2
    if math.isnan(x) and missing != 2:
        x = 0.0
    if (missing == 1 and abs(x) <= TINY) or (missing == 2 and math.isnan(x)):
        return kind & 2 == 2
    return x <= float(threshold)


def leaf_of(tree: dict[str, list[str]], row: list[float]) -> int:
    """Number of the leaf that a row falls into."""
    node = 0 if tree["threshold"] else -1
    while node >= 0:
        x = row[int(tree["split_feature"][node])]
        left = goes_left(tree, node, 0.0 if abs(x) <= TINY else x)
        node = int(tree["left_child" if left else "right_child"][node])
    return ~node


def power(x: float) -> float:
    """C's exp."""
    return math.exp(x) if x < 709 else math.inf


def scores(text: str, row: list[float]) -> list[float]:
    """The model's outputs for one row."""
    header, trees = read(text)
    outputs = int(header["num_class"])
    sums = [0.0] * outputs
    for k, tree in enumerate(trees):
        sums[k % outputs] += float(tree["leaf_value"][leaf_of(tree, row)])
    if "average_output" in header:
        sums = [total / (len(trees) // outputs) for total in sums]
    objective, *options = header["objective"].split()
    settings = dict(option.split(":") for option in options if ":" in option)
    if objective in ("binary", "cross_entropy", "multiclassova"):
        return [1.0 / (1.0 + power(-float(settings.get("sigmoid", 1)) * total)) for total in sums]
    if objective in ("poisson", "gamma", "tweedie"):
        return [power(total) for total in sums]
    if objective == "cross_entropy_lambda":
        return [math.log1p(power(total)) for total in sums]
    if objective == "multiclass":
        shares = [math.exp(total - max(sums)) for total in sums]
        whole = 0.0
        for share in shares:
            whole += share
        return [share / whole for share in shares]
    return [math.copysign(total * total, total) for total in sums] if "sqrt" in options else sums
