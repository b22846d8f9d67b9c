"""A linear model that says near one row what another model says: LIME for tables.

Ribeiro, Singh, Guestrin 2016 (KDD), "Why should I trust you?": rows around the one in question are scored, weighted
by how near they are, and fitted by a weighted ridge regression on standardised features. Here a row around it is the
row with some of its features replaced by those of one other user, so that what is scored is like what users have. The
kernel is exp(-d^2 / (0.75^2 f)), d the distance in standard deviations, as in the authors' package; a feature counts
as at most FARTHEST of them, else rows of a user with an extreme value would all be far away.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import UnsupportedModel
from ubp_sql.models.shapley import FILL, NO_NUMBER

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FITTED, HELD_OUT = 1_000, 500
WIDTH = 0.75  # times the root of the number of features
RIDGE = 1.0
FARTHEST = 3.0
CHUNK = 250  # rows of a product between two calls of `pause`


class Surrogate(NamedTuple):
    """A linear model near a row.

    weights   (features,) change of the score with one unit of each feature; 0 where others do not differ in it
    fidelity  weighted R^2 on rows that it was not fitted on: 1 = it says what the model says, 0 = no better than a
              constant, below 0 = worse; 1 where the model says the same of all of them
    """

    weights: F64
    fidelity: float


def surrogate(
    scores: Callable[[F32], F64], row: F32, background: F32, seed: int, pause: Callable[[], object]
) -> Surrogate:
    """The linear model near a row (features,) whose features are replaced by those of rows (n, features).

    scores  (n,) scores of rows
    pause   is called between pieces of work of some 20 ms

    A missing feature counts as the background's mean. Raises UnsupportedModel (UB007) where a score is not a number.
    """
    random = np.random.default_rng(seed)
    around, spread = _around(row, background, random), _spread(background)
    x, distance = _standardised(around, row, _mean(background), spread)
    y = np.concatenate([scores(around[k : k + CHUNK]) for k in range(0, len(around), CHUNK)])
    if not np.isfinite(y).all():
        raise UnsupportedModel(NO_NUMBER, FILL)
    nearness = np.exp(-(distance**2) / (WIDTH**2 * len(row)))
    w, held = nearness[:FITTED], nearness[FITTED:]
    centre, level = np.average(x[:FITTED], axis=0, weights=w), np.average(y[:FITTED], weights=w)
    root = np.sqrt(w)
    slopes = _ridge(root[:, None] * (x[:FITTED] - centre), root * (y[:FITTED] - level), pause)
    said = level + (x[FITTED:] - centre) @ slopes
    off = np.sum(held * (y[FITTED:] - said) ** 2)
    varied = np.sum(held * (y[FITTED:] - np.average(y[FITTED:], weights=held)) ** 2)
    weights = np.divide(slopes, spread, out=np.zeros_like(slopes), where=spread > 0)
    return Surrogate(weights, 1.0 - float(off / varied) if varied > 0 else 1.0)


def _around(row: F32, background: F32, random: np.random.Generator) -> F32:
    """(FITTED + HELD_OUT, features) the row with a share of its features, drawn for each, replaced."""
    n = FITTED + HELD_OUT
    others = background[random.integers(len(background), size=n)]
    replaced = random.random(others.shape) < random.random((n, 1))
    return np.where(replaced, others, row)


def _standardised(around: F32, row: F32, mean: F64, spread: F64) -> tuple[F64, F64]:
    """Features in standard deviations of the background from its mean, and how far each row is from `row`."""

    def scaled(rows: F32) -> F64:
        with np.errstate(invalid="ignore"):
            z = np.where(np.isnan(rows), 0.0, rows - mean)
        return np.divide(z, spread, out=np.zeros(z.shape), where=spread > 0)

    x, own = scaled(around), scaled(row[None])
    apart = np.minimum(np.abs(x - own), FARTHEST)
    apart[np.isnan(around) != np.isnan(row)] = 1.0
    return x, np.sqrt((apart**2).sum(axis=1))


def _mean(rows: F32) -> F64:
    known = ~np.isnan(rows)
    mean: F64 = np.where(known, rows, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(1, known.sum(axis=0))
    return mean


def _spread(rows: F32) -> F64:
    """(features,) standard deviation; 0 where it is that of rounding, or of numbers that are not finite."""
    known = ~np.isnan(rows)
    mean = _mean(rows)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.where(known, (rows - mean) ** 2, 0.0).sum(axis=0)
        spread = np.sqrt(squares / np.maximum(1, known.sum(axis=0)))
    return np.where(np.isfinite(spread) & (spread > 1e-9 * np.abs(mean)), spread, 0.0)


def _ridge(x: F64, y: F64, pause: Callable[[], object]) -> F64:
    """(features,) weights that make |y - x w|^2 + RIDGE |w|^2 least, by the smaller of the two square systems."""
    n, f = x.shape
    rows, few = (x.T, f) if f <= n else (x, n)
    square = np.empty((few, few))
    for start in range(0, few, CHUNK):
        square[start : start + CHUNK] = rows[start : start + CHUNK] @ rows.T
        pause()
    square[np.diag_indices(few)] += RIDGE
    return np.asarray(np.linalg.solve(square, x.T @ y) if f <= n else x.T @ np.linalg.solve(square, y), np.float64)
