"""Trees of XGBoost's model document as ours.

XGBoost sends x left where x < t, both float32, and NaN by the node's default direction; our x <= t' with the float32
just below t has the same answer for every float32 x. A category in the node's set goes right, any other left, which is
the other way round here. (PredictorImpl, GetNextNode and common::Decision of XGBoost 2 and 3.)
"""

from __future__ import annotations

import math
from array import array

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.kernels.forest_codes import CATEGORY, MISSING_LEFT
from ubp_sql.models.document import Table
from ubp_sql.models.forest import Tree, next_below
from ubp_sql.models.limits import MAX_FEATURES, MAX_LEAVES

MAX_CATEGORY = 1 << 24  # XGBoost's own limit, and what float32 counts to
_COLUMNS = ("base_weights", "loss_changes", "sum_hessian", "parents")


class Room:
    """What the trees still to come may hold."""

    def __init__(self, leaves: int, words: int) -> None:
        self.leaves, self.words = leaves, words


def read_tree(table: Table, n_features: int, weight: float, room: Room) -> Tree:
    """One tree, each leaf times `weight`; only what the root leads to counts, as in XGBoost."""
    settings = table.table("tree_param")
    if settings.integer("size_leaf_vector", 0, 2**31, 1) > 1:
        raise UnsupportedModel(
            f"{table.where}: a leaf holds a vector: trees of several outputs are not supported",
            "train with multi_strategy='one_output_per_tree'",
        )
    n = settings.integer("num_nodes", 1, 2 * MAX_LEAVES)
    deleted = settings.integer("num_deleted", 0, n - 1, 0)
    for key in _COLUMNS:
        if key in table.found:  # not needed for a score, but a file that breaks here is damaged
            table.numbers(key, n)
    cover = table.numbers("sum_hessian", n) if "sum_hessian" in table.found else None
    left = table.integers("left_children", n, -1, n - 1)
    right = table.integers("right_children", n, -1, n - 1)
    # A node that was taken out has the largest number as its feature.
    feature = table.integers("split_indices", n, 0, 2**32 - 1)
    condition = array("f", table.numbers("split_conditions", n))
    default_left = table.integers("default_left", n, 0, 1)
    kind = table.integers("split_type", n, 0, 1) if table.get("split_type") else [0] * n
    sets = _sets(table, n, room)
    order = _reached(left, right, table.where)
    if len(order) != n - deleted:
        raise InvalidModel(
            f"{table.where}: the root leads to {len(order)} of {n} nodes, {deleted} of them are called deleted"
        )
    inner = [i for i in order if left[i] >= 0]
    ends = [i for i in order if left[i] < 0]
    room.leaves -= len(ends)
    if room.leaves < 0:
        raise InvalidModel(f"{table.where}: the model has more than {MAX_LEAVES} leaves")
    number = {node: new for new, node in enumerate(inner)} | {node: ~new for new, node in enumerate(ends)}
    flags, threshold, lower, upper = bytearray(), array("f"), array("i"), array("i")
    chosen: list[array[int]] = []
    for i in inner:
        where = f"{table.where}: node {i}"
        if feature[i] >= min(n_features, MAX_FEATURES):
            raise InvalidModel(f"{where}: split_indices: feature {feature[i]} of {n_features}")
        go = left[i], right[i]
        missing_left = bool(default_left[i])
        if kind[i]:
            if i not in sets:
                raise InvalidModel(f"{where}: it splits by category and has no categories")
            threshold.append(len(chosen))
            chosen.append(sets[i])
            go, missing_left = go[::-1], not missing_left
        else:
            threshold.append(_below(condition[i], where))
        flags.append(CATEGORY * kind[i] | MISSING_LEFT * missing_left)
        lower.append(number[go[0]])
        upper.append(number[go[1]])
    return Tree(
        feature=array("i", [feature[i] for i in inner]),
        threshold=threshold,
        left=lower,
        right=upper,
        flags=bytes(flags),
        leaf_value=array("d", [condition[i] * weight for i in ends]),
        sets=tuple(chosen),
        cover=array("d", [cover[i] for i in ends]) if cover else None,
    )


def _below(t: float, where: str) -> float:
    if t != t or t == -math.inf:
        raise InvalidModel(f"{where}: split_conditions: {t!r} splits nothing")
    return next_below(t)


def _reached(left: list[int], right: list[int], where: str) -> list[int]:
    """The nodes that the root leads to, each before its children."""
    order, met = [0], bytearray(len(left))
    met[0] = 1
    for node in order:  # grows while it is read
        if (left[node] < 0) != (right[node] < 0):
            raise InvalidModel(f"{where}: node {node} has one child")
        if left[node] < 0:
            continue
        for child in (left[node], right[node]):
            if met[child]:
                raise InvalidModel(f"{where}: child {child} of node {node} has another parent")
            met[child] = 1
            order.append(child)
    return order


def _sets(table: Table, n: int, room: Room) -> dict[int, array[int]]:
    """The sets of categories by their nodes."""
    if not table.get("categories_nodes"):
        return {}
    nodes = table.integers("categories_nodes", None, 0, n - 1)
    categories = table.integers("categories", None, 0, MAX_CATEGORY - 1)
    begin = table.integers("categories_segments", len(nodes), 0, len(categories))
    count = table.integers("categories_sizes", len(nodes), 0, len(categories))
    sets = {}
    for node, first, size in zip(nodes, begin, count, strict=True):
        members = categories[first : first + size]
        if node in sets or len(members) != size:
            raise InvalidModel(f"{table.where}: node {node}: its categories are named twice or not there")
        words = array("I", bytes(4 * (max(members, default=0) // 32 + 1)))
        room.words -= len(words)
        if room.words < 0:
            raise InvalidModel(f"{table.where}: node {node}: the model's sets of categories are too large")
        for c in members:
            words[c >> 5] |= 1 << (c & 31)
        sets[node] = words
    return sets
