"""Calibration maps out of held-out scores, and how far scores are from what came true. NumPy alone.

Sources: pool adjacent violators: Ayer et al. 1955; expected calibration error: Naeini et al. 2015, with equally filled
bins (Nixon et al. 2019); its bias: Bröcker 2012, Kumar et al. 2019; error by chance: Vaicenavicius et al. 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.calibration import FARTHEST, ISOTONIC, NEAREST, PLATT, STEEPEST, Map

F64 = NDArray[np.float64]
BINS = 10
ROUNDS = 500
LEAST_IN_GROUP, MOST_GROUPS = 50, 40


def pooled(values: F64, weights: F64) -> tuple[F64, NDArray[np.intp]]:
    """Pool adjacent violators: the nearest values, by weighted squares, that never fall.

    returns (b,) the values of the blocks, (b + 1,) where each begins
    """
    level: list[float] = []
    weight: list[float] = []
    first: list[int] = []
    for place, (value, mass) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        start = place
        while level and level[-1] >= value:
            value = (level[-1] * weight[-1] + value * mass) / (weight[-1] + mass)
            mass += weight.pop()
            level.pop()
            start = first.pop()
        level.append(value)
        weight.append(mass)
        first.append(start)
    return np.array(level), np.array([*first, len(values)])


def grouped(scores: F64, labels: F64, weights: F64) -> tuple[F64, F64, F64]:
    """Neighbours in the order of their scores put together, those with the same score always.

    returns mean score, share with the label and weight of each group. The share is that of half a user with and half a
    user without the label more, so that no group says never or always.
    """
    order = np.argsort(scores, kind="stable")
    s, y, w = scores[order], labels[order], weights[order]
    groups = max(1, min(MOST_GROUPS, len(s) // LEAST_IN_GROUP))
    begin = np.unique(np.searchsorted(s, s[np.arange(groups) * len(s) // groups], side="left"))
    mass = np.add.reduceat(w, begin)
    mean = np.add.reduceat(w * s, begin) / mass
    share = (np.add.reduceat(w * y, begin) + 0.5) / (mass + 1.0)
    return np.clip(mean, s[begin], s[[*(begin[1:] - 1), -1]]), share, mass


def isotonic(scores: F64, labels: F64, weights: F64) -> Map:
    """Linear between the centres of the blocks that pooling finds."""
    mean, share, mass = grouped(scores, labels, weights)
    level, begin = pooled(share, mass + 1.0)
    centre = np.add.reduceat(mean * mass, begin[:-1]) / np.add.reduceat(mass, begin[:-1])
    apart = np.concatenate([[True], np.diff(centre) > 0])
    return Map(ISOTONIC, centre[apart].tolist(), np.maximum.accumulate(np.clip(level[apart], 0.0, 1.0)).tolist())


def platt(scores: F64, labels: F64, weights: F64) -> Map | None:
    """Logistic regression of the label on the score's log odds, by Newton steps; None where it does not rise.

    Half a user with and one without the label are added, weakly, at the mean: all the same label still has a maximum.
    """
    near = np.clip(scores, NEAREST, 1.0 - NEAREST)
    z = np.log(near / (1.0 - near))
    x = np.column_stack([z, np.ones(len(z))])
    beta = np.array([1.0, 0.0])
    prior = np.array([1.0, 0.0])
    ridge = np.diag([1.0, 1.0])  # a user's worth: towards the map that changes nothing
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -700, 700)))
        gradient = x.T @ (weights * (labels - p)) - ridge @ (beta - prior)
        curvature = (x * (weights * p * (1.0 - p))[:, None]).T @ x + ridge
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / max(1e-300, float(np.abs(step).max())))
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    a, b = float(beta[0]), float(beta[1])
    return Map(PLATT, [a, b], []) if 1e-6 < a <= STEEPEST and abs(b) <= FARTHEST else None


FITTERS: dict[str, Callable[[F64, F64, F64], Map | None]] = {ISOTONIC: isotonic, PLATT: platt}


def log_loss(labels: F64, chances: F64) -> float:
    """Mean of -log of the chance given to what came."""
    p = np.clip(chances, NEAREST, 1.0 - NEAREST)
    return float(-np.mean(labels * np.log(p) + (1.0 - labels) * np.log1p(-p)))


class Bins(NamedTuple):
    """Users in the order of their chances, in bins of equal size."""

    n: NDArray[np.int64]  # (b,)
    score: F64  # (b,) mean chance
    share: F64  # (b,) share with the label

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by size."""
        return float((np.abs(self.score - self.share) * self.n).sum() / self.n.sum())


def bins(labels: F64, chances: F64, most: int = BINS) -> Bins:
    """The bins of at most that many."""
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, min(most, len(order))) if len(part)]
    return Bins(
        np.array([len(part) for part in parts]),
        np.array([chances[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
    )


class Measured(NamedTuple):
    """How well calibrated chances are.

    error      expected calibration error
    low, high  its 95 % interval by resampling users, less the bias that resampling shows, not below 0
    by_chance  the error below which 95 of 100 tests of the same size stay where the chances are exactly right
    """

    bins: Bins
    error: float
    low: float
    high: float
    by_chance: float
    log_loss: float
    brier: float


def measured(
    labels: F64, chances: F64, between: Callable[[], object] = lambda: None, rounds: int = ROUNDS, seed: int = 0
) -> Measured:
    """labels (n,) 0 or 1; chances (n,); `between` is called after each of the rounds."""
    rng = np.random.default_rng(seed)
    order = np.argsort(chances, kind="stable")
    y, p = labels[order], chances[order]
    found = bins(labels, chances)
    again, perfect = np.empty(rounds), np.empty(rounds)
    for k in range(rounds):
        drawn = np.sort(rng.integers(0, len(p), len(p)))  # sorted as the chances are
        again[k] = _error(y[drawn], p[drawn])
        perfect[k] = _error((rng.random(len(p)) < p).astype(np.float64), p)
        between()
    bias = max(0.0, float(again.mean()) - found.error)
    low, high = (max(0.0, float(q) - 2 * bias) for q in np.percentile(again, [2.5, 97.5]))
    by_chance = float(np.percentile(perfect, 95))
    loss, brier = log_loss(labels, chances), float(np.mean((chances - labels) ** 2))
    return Measured(found, found.error, low, high, by_chance, loss, brier)


def _error(labels: F64, chances: F64) -> float:
    """As Bins.error, of chances that ascend."""
    n = len(chances)
    most = min(BINS, n)
    size = np.full(most, n // most)
    size[: n % most] += 1
    begin = np.concatenate([[0], np.cumsum(size)[:-1]])
    return float(np.abs(np.add.reduceat(chances - labels, begin)).sum() / n)
