"""Scores of many feature rows at once, and their percentiles."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.loaded import Loaded

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


# Why there is no value.
HAS_VALUE, TOO_LITTLE, NO_NUMBER, TOO_FEW, TOO_OLD = range(5)


class Scored(NamedTuple):
    """What a model said of users."""

    users: I64  # (n,) ascending
    scores: F64  # (n,) the model's own, NaN where there is no value
    values: F64  # (n,) what is said: through the calibration map
    why: NDArray[np.int8]  # (n,) why there is none: TOO_LITTLE history, ...

    def part(self, low: int, high: int) -> "Scored":
        return Scored._make(column[low:high] for column in self)

    def only(self, which: NDArray[np.bool_]) -> "Scored":
        return Scored._make(column[which] for column in self)


def joined(parts: list[Scored]) -> Scored:
    """One after the other."""
    none = Scored(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int8))
    return Scored._make(np.concatenate(columns) for columns in zip(none, *parts, strict=True))


def too_little(rows: F32, population: int, least: int = 1) -> NDArray[np.bool_]:
    """(n,) whether the history is too little for a score: column `population` is below `least`."""
    return ~(rows[:, population] >= np.float32(least))


def reasons(scores: F64, rows: F32, population: int) -> NDArray[np.int8]:
    """(n,) why a model gave no score; HAS_VALUE where it gave one."""
    why = np.where(np.isnan(scores), NO_NUMBER, HAS_VALUE).astype(np.int8)
    why[too_little(rows, population)] = TOO_LITTLE
    return why


def score_rows(loaded: Loaded, rows: F32, population: int, between_chunks: Callable[[], object]) -> F64:
    """(n,) scores by a model of one output; NaN where there is too little history."""
    scores = loaded.score_batch(rows, between_chunks)[:, 0]
    scores[too_little(rows, population)] = np.nan
    return scores


def percentiles(scores: F64, everyone: F64) -> F64:
    """(n,) share of `everyone`, sorted scores without NaN, with a lower score, 0-100; NaN stays NaN."""
    order = np.argsort(scores)  # what is looked up in turn is found near: half the time, at a million users a third
    below = np.empty(len(scores))
    below[order] = np.searchsorted(everyone, scores[order], side="left")
    below *= 100.0 / max(1, len(everyone))
    below[np.isnan(scores)] = np.nan
    return below
