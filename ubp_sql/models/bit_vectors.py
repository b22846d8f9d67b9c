"""A compiled forest as bit vectors: laid out for the kernel of many rows, kernels/_cpu_bitvector.py."""

import numpy as np

from ubp_sql.kernels.dispatch import CATEGORIES, I32, I64, LANES, PLAIN, U32, ZERO_MISSING, BitVectors
from ubp_sql.kernels.forest_codes import CATEGORY, MISSING_LEFT, ZERO
from ubp_sql.models.blob import Blob

WORD = 32  # leaves of a word
DEEPEST = 256  # levels: what follows runs once for each
CATEGORY_COST = 8  # a condition that asks for a category takes as long as so many others, or more
MOST_SET_WORDS = 1 << 19  # of one set: larger categories do not fit a block of rows


def bit_vectors(blob: Blob, most: float) -> BitVectors | None:
    """The forest's bit vectors; None where it has more than `most` conditions a tree, sets of categories that NaN
    belongs to, or is beyond the bounds above.

    A condition is a node and a word that holds leaves of its left subtree: a node of a tree of up to 32 leaves is one.
    """
    flags, set_first = np.asarray(blob.node_flags), np.asarray(blob.set_first)
    if np.any(flags == CATEGORY | MISSING_LEFT):
        return None
    tree_size = np.diff(np.asarray(blob.node_first))
    feature, left, right = (np.asarray(column) for column in (blob.feature, blob.left, blob.right))
    node_first, leaf_first = np.asarray(blob.node_first), np.asarray(blob.leaf_first)
    ordered = _ordered(left, right, node_first[:-1][tree_size > 0])
    if ordered is None:
        return None
    low, high = ordered
    tree = np.repeat(np.arange(blob.n_trees), tree_size)
    # Leaf `l` in the order of the bits: what a node's left child begins with, and its right one.
    leaf = np.array(blob.leaf_value)
    for child, place in ((left, low), (right, high)):
        ends = child < 0
        leaf[leaf_first[tree[ends]] + place[ends]] = np.asarray(blob.leaf_value)[~child[ends]]
    words = (np.diff(leaf_first) + WORD - 1) // WORD
    word_first = np.concatenate(([0], np.cumsum(words))).astype(np.int32)
    first, last = low // WORD, (high - 1) // WORD
    cost = (last - first + 1) * np.where(flags & CATEGORY, CATEGORY_COST, 1)
    if np.sum(cost) > most * blob.n_trees or np.max(np.diff(set_first), initial=0) > MOST_SET_WORDS:
        return None
    node, word = _spread(first, last)
    kind = np.where(flags & CATEGORY, 2, np.where(flags & MISSING_LEFT, 0, 1))
    segment = 3 * (word_first[tree[node]] + word) + kind[node]
    order = np.argsort(segment, kind="stable")
    node, word, segment = node[order], word[order], segment[order]
    held = np.where(flags & CATEGORY, CATEGORIES, np.where(flags & ZERO, ZERO_MISSING, PLAIN))
    columns, column = np.unique(4 * feature + held, return_inverse=True)
    return BitVectors(
        columns=columns.astype(np.int32),
        column=(LANES * column[node]).astype(np.int32),
        threshold=np.asarray(blob.threshold, np.float32)[node],
        keep=~_bits_between(low[node] - WORD * word, high[node] - WORD * word),
        bounds=np.searchsorted(segment, np.arange(3 * word_first[-1] + 1)).astype(np.int32),
        word_first=word_first,
        leaf_first=leaf_first.astype(np.int32),
        leaf=leaf,
        set_first=set_first + np.arange(len(set_first), dtype=np.int32),
        set_words=np.insert(np.asarray(blob.set_words), set_first[1:], 0),
    )


def _ordered(left: I32, right: I32, roots: I32) -> tuple[I64, I64] | None:
    """Of each node, the first leaf of its left subtree and of its right one, counted from left to right in its tree."""
    levels, nodes = [], roots
    while len(nodes):
        levels.append(nodes)
        if len(levels) > DEEPEST:
            return None
        children = np.concatenate((left[nodes], right[nodes]))
        nodes = children[children >= 0]
    below = np.ones(len(left) + 1, np.int64)  # leaves; the last of it is what a leaf has
    for nodes in reversed(levels):
        below[nodes] = below[np.maximum(left[nodes], -1)] + below[np.maximum(right[nodes], -1)]
    low, high = np.zeros((2, len(left)), np.int64)
    for nodes in levels:
        high[nodes] = low[nodes] + below[np.maximum(left[nodes], -1)]
        for child, place in ((left[nodes], low[nodes]), (right[nodes], high[nodes])):
            low[child[child >= 0]] = place[child >= 0]
    return low, high


def _spread(first: I64, last: I64) -> tuple[I64, I64]:
    """Each node with each word from its first to its last one."""
    count = last - first + 1
    node = np.repeat(np.arange(len(count)), count)
    return node, np.arange(len(node)) - np.repeat(np.cumsum(count) - count, count) + first[node]


def _bits_between(low: I64, high: I64) -> U32:
    """Words with the bits low <= b < high, as far as a word has them."""
    one = np.uint64(1)
    ends = [(one << np.clip(end, 0, WORD).astype(np.uint64)) - one for end in (low, high)]
    return (ends[1] & ~ends[0]).astype(np.uint32)
