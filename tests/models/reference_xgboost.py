"""XGBoost's scoring in plain loops over its JSON document, leaves added in float64: the naive oracle.

Reads only well-formed documents and checks nothing.
"""

import math
import struct
from typing import Any

Document = dict[str, Any]


def single(x: float) -> float:
    """The float32 nearest to x."""
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def goes_left(tree: Document, node: int, x: float) -> bool:
    """GetNextNode and common::Decision."""
    if math.isnan(x):
        return bool(tree["default_left"][node])
    if not tree["split_type"][node]:
        return x < single(tree["split_conditions"][node])
    at = tree["categories_nodes"].index(node)
    first = tree["categories_segments"][at]
    chosen = tree["categories"][first : first + tree["categories_sizes"][at]]
    return x < 0 or x >= 2**24 or int(x) not in chosen


def leaf_of(tree: Document, row: list[float]) -> float:
    node = 0
    while tree["left_children"][node] != -1:
        left = goes_left(tree, node, row[tree["split_indices"][node]])
        node = tree["left_children" if left else "right_children"][node]
    return single(tree["split_conditions"][node])


def margins(document: Document, row: list[float]) -> list[float]:
    """The sums before the link."""
    learner = document["learner"]
    objective, settings = learner["objective"]["name"], learner["learner_model_param"]
    outputs = max(1, int(settings["num_class"])) * max(1, int(settings["num_target"]))
    base = [single(float(part)) for part in settings["base_score"].strip("[]").split(",")]
    sums = [link_back(objective, b) for b in base] * (outputs // len(base))
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        weight = [single(w) for w in booster["model"]["weights"]]
        for j in range(outputs):
            sums[j] += weight[len(row) * outputs + j]
            for i, x in enumerate(row):
                sums[j] += 0.0 if math.isnan(x) else weight[i * outputs + j] * x
        return sums
    model = booster.get("gbtree", booster)["model"]
    end = int(learner["attributes"].get("best_iteration", len(model["iteration_indptr"]) - 2)) + 1
    for k, tree in enumerate(model["trees"][: model["iteration_indptr"][end]]):
        factor = single(booster["weight_drop"][k]) if "weight_drop" in booster else 1.0
        sums[model["tree_info"][k]] += factor * leaf_of(tree, row)
    return sums


def link_back(objective: str, base: float) -> float:
    if objective in ("binary:logistic", "reg:logistic"):
        return -math.log(1.0 / base - 1.0)
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"):
        return math.log(base)
    return base


def scores(document: Document, row: list[float]) -> list[float]:
    sums = margins(document, row)
    objective = document["learner"]["objective"]["name"]
    if objective in ("binary:logistic", "reg:logistic"):
        return [1.0 / (1.0 + math.exp(-total)) for total in sums]
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"):
        return [math.exp(total) for total in sums]
    if objective.startswith("multi:"):
        shares = [math.exp(total - max(sums)) for total in sums]
        whole = 0.0
        for share in shares:
            whole += share
        return [share / whole for share in shares]
    return sums
