"""Scores of many packed feature rows at once, and their percentiles."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.loaded import Loaded

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def decode_rows(user_ids: bytes, packed: bytes, features: int) -> tuple[I64, F32]:
    """Ids (n,) and feature rows (n, features) from concatenated int8send values and packed rows."""
    ids = np.frombuffer(user_ids, ">i8").astype(np.int64)
    return ids, np.frombuffer(packed, "<f4").astype(np.float32).reshape(len(ids), features)


def score_rows(loaded: Loaded, rows: F32, population: int, between_chunks: Callable[[], object]) -> F64:
    """(n,) scores by a model of one output; NaN where column `population` is below 1: too little history."""
    scores = loaded.score_batch(rows, between_chunks)[:, 0]
    scores[~(rows[:, population] >= 1)] = np.nan
    return scores


def percentiles(scores: F64, everyone: F64) -> F64:
    """(n,) share of `everyone`, sorted scores without NaN, with a lower score, 0-100; NaN stays NaN."""
    below = np.searchsorted(everyone, scores, side="left").astype(np.float64) * (100.0 / max(1, len(everyone)))
    below[np.isnan(scores)] = np.nan
    return below
