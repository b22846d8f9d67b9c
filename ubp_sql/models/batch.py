"""Scores of many rows by the batch kernels, in chunks between which a caller can be cancelled."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.kernels import native
from ubp_sql.kernels.dispatch import F32, F64, BitVectors, Trees, backend
from ubp_sql.models.bit_vectors import bit_vectors
from ubp_sql.models.blob import Blob

# Steps of a row through nodes, or conditions that it is held against, between two calls of `between_chunks`. A step is
# 0.06 to 2 ns: at most 80 ms, half of what a cancel may take.
CHUNK_STEPS = 40_000_000
# Conditions a tree up to which bit vectors are faster than traversal, with vectors of 8 numbers and of 4. Measured:
# docs/adr/0012-batch-scoring.md.
MOST_CONDITIONS = (340, 90)


def raw_batch(blob: Blob, x: F32, between_chunks: Callable[[], object] | None = None) -> F64:
    """Sums of leaves of each row, the same bits as `Walker.sums` and LightGBM's raw_score.

    x       (r, n_features) float32, NaN is missing; any strides
    returns (r, k) float64

    between_chunks is called at least every 80 ms; what it raises ends the work. Raises BadInput (UB003) where x has
    another type or width.
    """
    if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != blob.n_features:
        raise BadInput(f"the model takes rows of {blob.n_features} float32 values, given: {x.dtype} of shape {x.shape}")
    form = batch_form(blob)
    steps = len(form.threshold) + 2 * blob.n_trees
    total, kernels = np.empty((x.shape[0], blob.n_outputs)), backend()
    chunk = max(1, getattr(kernels, "CHUNK_STEPS", CHUNK_STEPS) // steps)
    for start in range(0, x.shape[0], chunk):
        if start and between_chunks is not None:
            between_chunks()
        rows = np.ascontiguousarray(x[start : start + chunk])
        if isinstance(form, BitVectors):
            total[start : start + chunk] = kernels.forest_bits(rows, form, blob.n_outputs)
        else:
            total[start : start + chunk] = kernels.forest_raw(rows, form, blob.n_outputs)
    return total


@lru_cache(maxsize=1)  # a population comes in many pieces, each scored by the same model
def batch_form(blob: Blob) -> BitVectors | Trees:
    """The forest as the kernel takes it that is faster for its shape."""
    return bit_vectors(blob, MOST_CONDITIONS[0 if native.is_wide() else 1]) or trees_of(blob)


def trees_of(blob: Blob) -> Trees:
    """The forest for traversal."""
    n, m = len(blob.feature), len(blob.leaf_value)
    leaves = np.arange(n, n + m)
    child = np.empty((n + m, 2), np.int32)
    for side, given in enumerate((np.asarray(blob.left), np.asarray(blob.right))):
        child[:n, side], child[n:, side] = np.where(given < 0, n + ~given, given), leaves
    root = np.array(blob.roots(), np.int32)
    return Trees(
        feature=np.append(np.asarray(blob.feature), np.zeros(m, np.int32)),
        threshold=np.append(np.asarray(blob.threshold), np.zeros(m, np.float32)),
        child=child.ravel(),
        flags=np.append(np.asarray(blob.node_flags).astype(np.uint8), np.zeros(m, np.uint8)),
        leaf_value=np.asarray(blob.leaf_value),
        root=np.where(root < 0, n + ~root, root).astype(np.int32),
        set_first=np.asarray(blob.set_first),
        set_words=np.asarray(blob.set_words),
    )


def score_batch(blob: Blob, x: F32, between_chunks: Callable[[], object] | None = None) -> F64:
    """(r, k) the model's outputs for each row; arguments and errors as in `raw_batch`."""
    raw = raw_batch(blob, x, between_chunks)
    return backend().forest_score(raw, blob.divisor, blob.link, blob.link_parameter)
