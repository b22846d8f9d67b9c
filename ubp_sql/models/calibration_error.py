"""How far chances are from what came true, and whether that can be told from none. NumPy alone.

Sources: expected calibration error: Naeini et al. 2015, with equally filled bins (Nixon et al. 2019); its bias: Bröcker
2012, Kumar et al. 2019; error by chance: Vaicenavicius et al. 2019; Poisson bootstrap: Chamandy et al. 2012.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.calibration_fit import Pause, log_odds, losses

F64 = NDArray[np.float64]
BINS = 10
ROUNDS, MOST_DRAWS = 500, 4_000_000  # rounds, and users of all rounds together, but LEAST_ROUNDS
LEAST_ROUNDS = 50
LEAST_SHIFTS = 3


class Bins(NamedTuple):
    """Users in the order of their chances, in bins of equal size."""

    n: NDArray[np.int64]  # (b,)
    score: F64  # (b,) mean chance
    share: F64  # (b,) share with the label

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by size."""
        return float((np.abs(self.score - self.share) * self.n).sum() / self.n.sum())


def bins(labels: F64, chances: F64) -> Bins:
    """At most BINS."""
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    return Bins(
        np.array([len(part) for part in parts]),
        np.array([chances[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
    )


class Measured(NamedTuple):
    """How well calibrated chances are.

    error       expected calibration error
    low, high   its 95 % interval by resampling users, less the bias that resampling shows; from 0 on where the error
                may be chance, for there the bias is larger than resampling shows
    by_chance   error below which 95 of 100 tests of the same size stay where the chances are exactly right
    with_drift  the same where they are right on the average of moments, and moments drift apart; None: not known
    """

    bins: Bins
    error: float
    low: float
    high: float
    by_chance: float
    with_drift: float | None
    log_loss: float
    brier: float


def measured(
    labels: F64,
    chances: F64,
    drift: float | None = None,
    between: Pause = lambda: None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Measured:
    """labels (n,) 0 or 1; chances (n,); drift: as `drift_of`; `between` is called after each of the rounds."""
    rng = np.random.default_rng(seed)
    found = bins(labels, chances)
    order = np.argsort(chances, kind="stable")
    y, p = labels[order], chances[order]
    odds = log_odds(p)
    begin = np.concatenate([[0], np.cumsum(found.n)[:-1]])
    rounds = min(rounds, max(LEAST_ROUNDS, MOST_DRAWS // len(p)))
    again, perfect, drifted = np.empty(rounds), np.empty(rounds), np.empty(rounds)
    for k in range(rounds):
        weight = rng.poisson(1.0, len(p))
        again[k] = np.abs(np.add.reduceat(weight * (p - y), begin)).sum() / max(1, weight.sum())
        luck = rng.random(len(p))
        perfect[k] = np.abs(np.add.reduceat(p - (luck < p), begin)).sum() / len(p)
        if drift is not None:
            came = luck < 1.0 / (1.0 + np.exp(-(odds + rng.normal(0.0, drift))))
            drifted[k] = np.abs(np.add.reduceat(p - came, begin)).sum() / len(p)
        between()
    bias = max(0.0, float(again.mean()) - found.error)
    low, high = (max(0.0, float(q) - 2 * bias) for q in np.percentile(again, [2.5, 97.5]))
    by_chance = float(np.percentile(perfect, 95))
    return Measured(
        found,
        found.error,
        0.0 if found.error <= by_chance else low,
        high,
        by_chance,
        None if drift is None else float(np.percentile(drifted, 95)),
        float(losses(labels, chances).mean()),
        float(np.mean((chances - labels) ** 2)),
    )


def shift(labels: F64, chances: F64, pause: Pause = lambda: None) -> float:
    """What has to be added to all log odds for the mean chance to be the share, within 10, by bisection."""
    odds, share = log_odds(chances), float(labels.mean())
    low, high = -10.0, 10.0
    for _ in range(50):
        pause()
        middle = (low + high) / 2
        if float((1.0 / (1.0 + np.exp(-(odds + middle)))).mean()) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def drift_of(tests: Sequence[tuple[F64, F64]], pause: Pause = lambda: None) -> float | None:
    """How far moments are apart: the standard deviation of their shifts, less what chance adds; None for too few.

    tests  (labels, chances) of a moment each
    pause  is called between pieces of work
    """
    if len(tests) < LEAST_SHIFTS:
        return None
    shifts = np.array([shift(labels, chances, pause) for labels, chances in tests])
    noise = float(np.mean([1.0 / max(1e-9, float((p * (1.0 - p)).sum())) for _, p in tests]))
    return float(np.sqrt(max(0.0, float(shifts.var(ddof=1)) - noise)))
