"""Kernels of the GPU for forests: a thread takes a row, the trees go through a block's shared memory many at a time.

Leaves are added in tree order in float64, so that the sums have the CPU's bits.
"""

import numpy as np
from numba import cuda, float32, int32, uint32

from ubp_sql.kernels import _cpu_forest
from ubp_sql.kernels._gpu_source import on_device
from ubp_sql.kernels.dispatch import CATEGORIES, F32, F64, I32, U32, ZERO_MISSING, BitVectors, Trees
from ubp_sql.kernels.forest_codes import TINY, ZERO

ROWS = 128
"""Rows, and threads, of a block."""
HELD = 1024
"""Nodes or conditions that a block holds at a time: 16 kB or 12 kB of the 227 kB that a multiprocessor shares out."""

ALL = np.uint32(0xFFFFFFFF)
TINY_F32 = np.float32(TINY)
NO_CATEGORY = np.float32(1 << 24)
_special_left = on_device(_cpu_forest.special_left)


@cuda.jit
def add_leaves(x: F32, trees: Trees, batch: I32, lowest: I32, total: F64) -> None:
    """Traversal. x (f, r) float32 by columns; total (k, r) float64.

    batch   (b+1,)  trees batch[i]:batch[i+1] lie in a block's memory together
    lowest  (t,)    first inner node of each tree
    """
    # One a line: the simulator tells them apart by it.
    feature = cuda.shared.array(HELD, int32)
    threshold = cuda.shared.array(HELD, float32)
    left = cuda.shared.array(HELD, int32)
    right = cuda.shared.array(HELD, int32)
    row, rows = cuda.grid(1), x.shape[1]
    nodes, outputs = trees.flags.size - trees.leaf_value.size, total.shape[0]
    for b in range(batch.size - 1):
        begin = lowest[batch[b]]
        end = lowest[batch[b + 1]] if batch[b + 1] < lowest.size else nodes
        held = min(end - begin, HELD)
        cuda.syncthreads()
        for i in range(cuda.threadIdx.x, held, cuda.blockDim.x):
            # The flags beside the feature: a node is four words.
            feature[i] = trees.feature[begin + i] << 3 | trees.flags[begin + i]
            threshold[i] = trees.threshold[begin + i]
            left[i], right[i] = trees.child[2 * (begin + i)], trees.child[2 * (begin + i) + 1]
        cuda.syncthreads()
        if row < rows:
            for tree in range(batch[b], batch[b + 1]):
                node = trees.root[tree]
                while node < nodes:
                    i = node - begin
                    near = i < held  # of a tree larger than what is held, the nodes beyond are read where they lie
                    word = feature[i] if near else trees.feature[node] << 3 | trees.flags[node]
                    t = threshold[i] if near else trees.threshold[node]
                    flags = word & 7
                    v = x[word >> 3, row]
                    if flags >= ZERO:
                        goes_left = _special_left(v, flags, t, trees.set_first, 0, trees.set_words, 0)
                    else:
                        goes_left = v <= t or (v != v and flags != 0)
                    if near:
                        node = left[i] if goes_left else right[i]
                    else:
                        node = trees.child[2 * node] if goes_left else trees.child[2 * node + 1]
                total[tree % outputs, row] += trees.leaf_value[node - nodes]


@cuda.jit
def by_columns(x: F32, columns: I32, block: F32) -> None:
    """Rows x (r, f) as columns (c, r) of what conditions compare; see `BitVectors.columns`."""
    row = cuda.grid(1)
    if row < x.shape[0]:
        for j in range(columns.size):
            value, kind = x[row, columns[j] >> 2], columns[j] & 3
            if kind == ZERO_MISSING:
                value = np.float32(np.nan) if abs(value) <= TINY_F32 else value
            elif kind == CATEGORIES:
                value = value if np.float32(-1.0) < value < NO_CATEGORY else NO_CATEGORY
            block[j, row] = value


@cuda.jit
def add_bits(block: F32, form: BitVectors, batch: I32, total: F64) -> None:
    """Bit vectors. block (c, r) as `by_columns` makes it; total (k, r) float64; form.column in units of one.

    batch   (b+1,)  trees batch[i]:batch[i+1] lie in a block's memory together

    All threads of a block go through the same conditions in the same order: nothing depends on a row but its bits.
    """
    column = cuda.shared.array(HELD, int32)
    threshold = cuda.shared.array(HELD, float32)
    keep = cuda.shared.array(HELD, uint32)
    row, rows, outputs = cuda.grid(1), block.shape[1], total.shape[0]
    for b in range(batch.size - 1):
        begin = form.bounds[3 * form.word_first[batch[b]]]
        held = form.bounds[3 * form.word_first[batch[b + 1]]] - begin
        near = held <= HELD  # a tree with more conditions is read where it lies
        cuda.syncthreads()
        if near:
            for i in range(cuda.threadIdx.x, held, cuda.blockDim.x):
                column[i], threshold[i] = form.column[begin + i], form.threshold[begin + i]
                keep[i] = form.keep[begin + i]
        cuda.syncthreads()
        if row < rows:
            for tree in range(batch[b], batch[b + 1]):
                if near:
                    leaf = _leaf_of(block, row, form, tree, column, threshold, keep, begin)
                else:
                    leaf = _leaf_of(block, row, form, tree, form.column, form.threshold, form.keep, 0)
                total[tree % outputs, row] += form.leaf[leaf]


@cuda.jit(device=True)
def _leaf_of(
    block: F32, row: int, form: BitVectors, tree: int, column: I32, threshold: F32, keep: U32, begin: int
) -> int:
    """The leaf of a row; condition i is entry i - begin of `column`, `threshold` and `keep`."""
    leaf = 0
    for word in range(form.word_first[tree + 1] - 1, form.word_first[tree] - 1, -1):
        bits = ALL
        first, middle = form.bounds[3 * word] - begin, form.bounds[3 * word + 1] - begin
        last, end = form.bounds[3 * word + 2] - begin, form.bounds[3 * word + 3] - begin
        for i in range(first, middle):
            if block[column[i], row] > threshold[i]:
                bits &= keep[i]
        for i in range(middle, last):
            if not block[column[i], row] <= threshold[i]:
                bits &= keep[i]
        for i in range(last, end):
            if not _in_set(block[column[i], row], int(threshold[i]), form):
                bits &= keep[i]
        if bits != np.uint32(0):
            leaf = form.leaf_first[tree] + 32 * (word - form.word_first[tree]) + cuda.ffs(bits) - 1
    return leaf


@cuda.jit(device=True)
def _in_set(value: float, number: int, form: BitVectors) -> bool:
    """Whether a set has a value's category; the last word of a set is 0: no larger category is in it."""
    first = form.set_first[number]
    last = form.set_first[number + 1] - 1 - first
    category = int(value)
    return bool((form.set_words[first + min(category >> 5, last)] >> np.uint32(category & 31)) & np.uint32(1))
