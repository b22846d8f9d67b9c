"""What the figures and tables of a report show, computed from held-out scores and what happened."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


def _by_threshold(labels: F64, scores: F64) -> tuple[F64, F64]:
    """(chosen, of them with the label) at each distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return last + 1.0, np.cumsum(labels[order])[last]


def roc(labels: F64, scores: F64) -> Curve:
    """Share of those without the label, and of those with it, above each threshold."""
    chosen, hits = _by_threshold(labels, scores)
    false = (chosen - hits) / (len(labels) - labels.sum())
    return Curve(np.append(0, false), np.append(0, hits / labels.sum()))


def precision_recall(labels: F64, scores: F64) -> Curve:
    """Recall and precision at each threshold, from the highest."""
    chosen, hits = _by_threshold(labels, scores)
    return Curve(np.append(0, hits / labels.sum()), np.append(hits[0] / chosen[0], hits / chosen))


def gain(labels: F64, scores: F64) -> Curve:
    """Share of the users chosen, highest scores first, and the share of the labels among them."""
    chosen, hits = _by_threshold(labels, scores)
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


def bins(labels: F64, scores: F64, count: int = 10) -> list[Bin]:
    """Bins of equally many users, lowest scores first."""
    order = np.argsort(scores, kind="stable")
    found = []
    for part in np.array_split(order, min(count, len(order))):
        mean = float(labels[part].mean())
        low, high = wilson(float(labels[part].sum()), len(part))
        found.append(Bin(len(part), float(scores[part].mean()), mean, low, high))
    return found


def amount_bins(labels: F64, scores: F64, count: int = 10) -> list[Bin]:
    """As `bins`, of amounts: the interval is that of the mean by its standard error."""
    order = np.argsort(scores, kind="stable")
    found = []
    for part in np.array_split(order, min(count, len(order))):
        mean = float(labels[part].mean())
        error = Z95 * float(labels[part].std(ddof=1)) / np.sqrt(len(part)) if len(part) > 1 else 0.0
        found.append(Bin(len(part), float(scores[part].mean()), mean, mean - error, mean + error))
    return found
