"""What the figures and tables of a report show, computed from held-out scores and what happened."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.calibration_error import BINS

F64 = NDArray[np.float64]
Z95 = 1.959963984540054


class Curve(NamedTuple):
    """Points to be joined by lines."""

    x: F64
    y: F64


class Bin(NamedTuple):
    """Users of neighbouring scores: mean score, mean label, and the 95 % interval of the latter."""

    n: int
    score: float
    label: float
    low: float
    high: float


def thinned(curve: Curve, points: int = 200) -> Curve:
    """At most about `points` points at even steps along the curve; both ends stay."""
    if len(curve.x) <= points:
        return curve
    spread = [np.ptp(axis) or 1.0 for axis in curve]
    steps = np.hypot(np.diff(curve.x) / spread[0], np.diff(curve.y) / spread[1])
    way = np.append(0, np.cumsum(steps))
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(0, len(way) - 1))
    return Curve(curve.x[kept], curve.y[kept])


def by_threshold(labels: F64, scores: F64) -> tuple[F64, F64]:
    """(chosen, of them with the label) at each distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return last + 1.0, np.cumsum(labels[order])[last]


def roc(labels: F64, scores: F64) -> Curve:
    """Share of those without the label, and of those with it, above each threshold."""
    chosen, hits = by_threshold(labels, scores)
    false = (chosen - hits) / (len(labels) - labels.sum())
    return Curve(np.append(0, false), np.append(0, hits / labels.sum()))


def precision_recall(labels: F64, scores: F64) -> Curve:
    """Recall and precision at each threshold, from the highest."""
    chosen, hits = by_threshold(labels, scores)
    return Curve(np.append(0, hits / labels.sum()), np.append(hits[0] / chosen[0], hits / chosen))


def gain(labels: F64, scores: F64) -> Curve:
    """Share of the users chosen, highest scores first, and the share of the labels among them."""
    chosen, hits = by_threshold(labels, scores)
    return Curve(np.append(0, chosen / len(labels)), np.append(0, hits / labels.sum()))


def lift(curve: Curve) -> Curve:
    """Lift over the share chosen, of a gain curve; from 1 % on, before which a user or two decide it."""
    far = curve.x >= max(0.01, float(curve.x[1]))
    return Curve(curve.x[far], curve.y[far] / curve.x[far])


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def bins(labels: F64, scores: F64) -> list[Bin]:
    """Ten bins of equally many users, lowest scores first."""
    return _bins(labels, scores, lambda part: wilson(float(part.sum()), len(part)))


def amount_bins(labels: F64, scores: F64) -> list[Bin]:
    """As `bins`, of amounts: the interval is that of the mean by its standard error."""
    return _bins(labels, scores, _of_mean)


def _of_mean(amounts: F64) -> tuple[float, float]:
    mean = float(amounts.mean())
    error = Z95 * float(amounts.std(ddof=1)) / np.sqrt(len(amounts)) if len(amounts) > 1 else 0.0
    return mean - error, mean + error


def _bins(labels: F64, scores: F64, interval: Callable[[F64], tuple[float, float]]) -> list[Bin]:
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    return [Bin(len(p), float(scores[p].mean()), float(labels[p].mean()), *interval(labels[p])) for p in parts]
