"""Scores of many rows by the batch kernel, in chunks between which a caller can be cancelled."""

from collections.abc import Callable

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.kernels.dispatch import F32, F64, backend
from ubp_sql.models.blob import SIGMOID, Blob

# Visits of a tree by a row between two calls of `between_chunks`: some 50 ms, a third of what a cancel may take.
CHUNK_VISITS = 1_000_000


def raw_batch(blob: Blob, x: F32, between_chunks: Callable[[], object] | None = None) -> F64:
    """Sum of leaves of each row, the same bits as `Walker.raw` and LightGBM's raw_score.

    x       (r, n_features) float32, NaN is missing; any strides
    returns (r,) float64

    between_chunks is called about every 50 ms; what it raises ends the work. Raises BadInput (UB003) where x has
    another type or width.
    """
    if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != blob.n_features:
        raise BadInput(f"the model takes rows of {blob.n_features} float32 values, given: {x.dtype} of shape {x.shape}")
    nodes = (np.asarray(blob.feature), np.asarray(blob.threshold), np.asarray(blob.left), np.asarray(blob.right))
    nan_left = np.array(bytearray(blob.nan_left), dtype=np.uint8)
    leaf_value, root = np.asarray(blob.leaf_value), np.array(blob.roots(), dtype=np.int32)
    chunk = max(1, CHUNK_VISITS // blob.n_trees)
    total, kernels = np.empty(x.shape[0]), backend()
    for start in range(0, x.shape[0], chunk):
        if start and between_chunks is not None:
            between_chunks()
        rows = np.ascontiguousarray(x[start : start + chunk])
        total[start : start + chunk] = kernels.forest_raw(rows, *nodes, nan_left, leaf_value, root)
    return total


def score_batch(blob: Blob, x: F32, between_chunks: Callable[[], object] | None = None) -> F64:
    """The model's output for each row; arguments and errors as in `raw_batch`."""
    divisor = float(blob.n_trees) if blob.average else 1.0
    sigmoid = blob.link_parameter if blob.link == SIGMOID else 0.0
    return backend().forest_score(raw_batch(blob, x, between_chunks), divisor, sigmoid)
