"""Metrics of resampled users, and what their spread says of the metric: the bootstrap (Efron 1979).

A resample is how often each user was drawn, so all resamples of a metric are a few operations on one matrix.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.calibration_error import BINS

F64 = NDArray[np.float64]
Measure = Callable[[F64, F64, F64], dict[str, F64]]

ROUNDS, SEED = 500, 0
# Cells of the matrix of one portion of resamples: 32 MB of float64.
CELLS = 4_000_000
# Cells of all of them: with a million users there are fewer rounds, else a report would take minutes.
MOST_CELLS = 200_000_000
LEAST_ROUNDS = 100


def rounds_for(n: int) -> int:
    """How many resamples `intervals` draws of n users."""
    return max(LEAST_ROUNDS, min(ROUNDS, MOST_CELLS // max(1, n)))


def intervals(measure: Measure, labels: F64, scores: F64) -> dict[str, tuple[float, float]]:
    """95 % intervals of each metric by resampling users; (NaN, NaN) where no resample has the metric.

    labels, scores  (n,) in any order
    """
    order = np.argsort(scores, kind="stable")
    labels, scores = labels[order], scores[order]
    n, rng = len(labels), np.random.default_rng(SEED)
    portion, left = max(1, CELLS // max(1, n)), rounds_for(n)
    found: dict[str, list[F64]] = {}
    while left:
        rows = min(portion, left)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        for name, values in measure(labels, scores, weights).items():
            found.setdefault(name, []).append(values)
        left -= rows
    return {name: _middle(np.concatenate(values)) for name, values in found.items()}


def _middle(values: F64) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def of_chances(labels: F64, scores: F64, weights: F64) -> dict[str, F64]:
    """evaluate.metrics for each row of weights; labels and scores ascending by score.

    labels   (n,) 0 or 1
    scores   (n,) probabilities
    weights  (r, n) how often each user counts, whole numbers
    returns  (r,) values by name; NaN in rows where the metric does not exist
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total, happened = weights.sum(1), weights @ labels
        ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
        starts = np.append(0, ends[:-1] + 1)
        yes = np.add.reduceat(weights * labels, starts, axis=1)
        no = np.add.reduceat(weights, starts, axis=1) - yes
        below = np.cumsum(no, axis=1) - no / 2
        above = np.cumsum(yes[:, ::-1], axis=1)
        everybody = above + np.cumsum(no[:, ::-1], axis=1)
        clipped = np.clip(scores, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
        loss = -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
        return {
            "auc": (yes * below).sum(1) / (happened * (total - happened)),
            "pr_auc": np.nansum(yes[:, ::-1] * above / everybody, axis=1) / happened,
            "log_loss": weights @ loss / total,
            "brier": weights @ (scores - labels) ** 2 / total,
            "calibration_error": _calibration_error(labels, scores, weights),
            "lift_10": _among_top(labels, weights, 0.1) / (happened / total),
        }


def _among_top(labels: F64, weights: F64, share: float) -> F64:
    """Mean label of the highest `share` of the users, who ascend by score."""
    size = np.maximum(1, np.round(share * weights.sum(1)))[:, None]
    above = np.cumsum(weights[:, ::-1], axis=1) - weights[:, ::-1]
    taken = np.clip(size - above, 0, weights[:, ::-1])
    return np.asarray(taken @ labels[::-1] / size[:, 0])


def _calibration_error(labels: F64, scores: F64, weights: F64) -> F64:
    after = np.cumsum(weights, axis=1)
    before, total = after - weights, after[:, -1:]
    small, larger = total // BINS, total % BINS
    gaps = np.zeros(len(weights))
    for place in range(BINS):
        low, high = (edge * small + np.minimum(edge, larger) for edge in (place, place + 1))
        inside = np.clip(np.minimum(after, high) - np.maximum(before, low), 0, None)
        gaps += np.abs(inside @ (scores - labels))
    return np.asarray(gaps / total[:, 0])


def of_amounts(labels: F64, scores: F64, weights: F64) -> dict[str, F64]:
    """Errors of predicted amounts for each row of weights: as of_chances."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weights.sum(1)
        mean = weights @ labels / total
        squares = weights @ (scores - labels) ** 2 / total
        spread = weights @ labels**2 / total - mean**2
        return {
            "rmse": np.sqrt(squares),
            "mae": weights @ np.abs(scores - labels) / total,
            "r2": 1 - squares / np.where(spread > 0, spread, np.nan),
            "spearman": _correlation(_ranks(labels, weights), _ranks(scores, weights), weights),
            "bias": weights @ (scores - labels) / total,
        }


def _ranks(values: F64, weights: F64) -> F64:
    """(r, n) midranks among the drawn users."""
    order = np.argsort(values, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(values[order])) + 1)
    group = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(group, axis=1) - group / 2
    ranks = np.empty_like(weights)
    ranks[:, order] = np.repeat(middle, np.diff(np.append(starts, len(values))), axis=1)
    return ranks


def _correlation(one: F64, other: F64, weights: F64) -> F64:
    total = weights.sum(1, keepdims=True)
    one = one - (weights * one).sum(1, keepdims=True) / total
    other = other - (weights * other).sum(1, keepdims=True) / total
    both = (weights * one * other).sum(1)
    return np.asarray(both / np.sqrt((weights * one**2).sum(1) * (weights * other**2).sum(1)))
