"""Shapley values of the features of one row by sampling permutations, for any model that can score rows.

The game is the interventional one: a coalition of features is worth the mean raw score of rows that have the user's
values there and those of users of a background elsewhere. Features join in a random order and in its reverse
(antithetic), one such pair a background row; what a feature changes when it joins is averaged over all of them.

Castro, Gómez, Tejada 2009 (Computers & Operations Research 36), "Polynomial calculation of the Shapley value based on
sampling"; Mitchell, Cooper, Frank, Holmes 2022 (JMLR 23), "Sampling permutations for Shapley value estimation", whose
antithetic pairs are these. Within a permutation the changes telescope, so the values of a row always add up to its raw
score, whatever was drawn.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import UnsupportedModel
from ubp_sql.models.linear import Linear

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Raw = Callable[[F32], F64]

PAIRS = 100  # for one user: a standard error of some 1 % of the spread that a feature's changes have
MOST_VALUES = 250_000  # of the rows that are scored at once: 1 MB stays in the cache
NO_NUMBER = "the model gives no number where some of the user's features are replaced by those of others"
FILL = "fill in missing features in the model, or in a preparation before it"


class Shapley(NamedTuple):
    """What a row's raw score is made of: base and contributions add up to it, to the last bit of the largest of them.

    base             mean raw score of the background rows that were used
    contributions    of each feature; 0 where the row has what all these rows have
    standard_errors  of each contribution, from how much the pairs differ; NaN of a single pair
    """

    base: float
    contributions: list[float]
    standard_errors: list[float]


def sampled(raw: Raw, row: F32, background: F32, pairs: int, seed: int) -> Shapley:
    """Sampled Shapley values of a row (features,) over the first `pairs` rows of a background (n, features).

    raw   (n,) raw scores of rows (n, features); called with at most MOST_VALUES values at once, or one row
    seed  of the permutations: the same seed gives the same values

    Exact where the raw score is a sum over features, whatever is drawn. Raises UnsupportedModel (UB007) where a score
    that is needed is not a number.
    """
    others = np.ascontiguousarray(background[:pairs])
    k, f = others.shape
    players = np.flatnonzero(~((others == row) | (np.isnan(others) & np.isnan(row))).all(axis=0))
    g = len(players)
    rank = np.argsort(np.random.default_rng(abs(seed)).random((k, g)), axis=1)
    joined = np.concatenate([rank, g - 1 - rank])  # (2k, g) how many features join before each
    before = np.full((2 * k, f), -1, np.int32)  # who has what all others have may as well be there from the start
    before[:, players] = joined
    steps = g + 1
    worth = np.empty(2 * k * steps)
    chunk = max(1, MOST_VALUES // f)
    for start in range(0, len(worth), chunk):
        worth[start : start + chunk] = raw(_rows(row, others, before, range(start, min(start + chunk, len(worth)))))
    if not np.isfinite(worth).all():
        raise UnsupportedModel(NO_NUMBER, FILL)
    changes = np.take_along_axis(np.diff(worth.reshape(2 * k, steps), axis=1), joined, axis=1)
    paired = (changes[:k] + changes[k:]) / 2
    values, errors = np.zeros(f), np.zeros(f)
    values[players] = paired.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors[players] = paired.std(axis=0, ddof=1) / math.sqrt(k) if k > 1 else math.nan
    base = float(worth.reshape(2 * k, steps)[:, 0].mean())
    # Alone, as predict scores it: ONNX Runtime may differ in a float32's last digits.
    return _summing(base, values.tolist(), errors.tolist(), float(raw(row[None])[0]))


def _rows(row: F32, others: F32, before: NDArray[np.int32], numbers: range) -> F32:
    """Rows of those numbers: s features of order o have joined in number o * (players + 1) + s."""
    k, f = others.shape
    steps = int(before.max(initial=-1)) + 2
    rows = np.empty((len(numbers), f), np.float32)
    for order in range(numbers[0] // steps, numbers[-1] // steps + 1):
        first = max(order * steps, numbers[0])
        there = np.arange(first, min((order + 1) * steps, numbers[-1] + 1)) - order * steps
        some = rows[first - numbers[0] :][: len(there)]
        some[:] = others[order % k]
        np.copyto(some, row, where=before[order] < there[:, None])
    return rows


def _summing(base: float, values: list[float], errors: list[float], total: float) -> Shapley:
    """The values with what rounding left of the total: a few of its last bits, in the smallest that is not 0."""
    for _ in range(3):
        rest = math.fsum((total, -base, *(-value for value in values)))
        if rest == 0.0:
            break
        some = [i for i, value in enumerate(values) if value]
        if not some:
            base += rest
            continue
        values[min(some, key=lambda i: abs(values[i]))] += rest
    return Shapley(base, values, errors)


def linear_values(linear: Linear, row: F32, background: F32) -> Shapley:
    """Shapley values of a row under a linear model of one output, exact: each term less its mean over a background."""
    means = linear_terms(linear, background).mean(axis=0)
    terms = linear_terms(linear, row[None])[0]
    base = linear.bias[0] + math.fsum(means)
    if not (np.isfinite(terms).all() and math.isfinite(base)):
        raise UnsupportedModel(NO_NUMBER, FILL)
    total = linear.bias[0]
    for term in terms.tolist():  # in the order in which the model adds them
        total += term
    return _summing(base, (terms - means).tolist(), [0.0] * len(terms), total)


def linear_terms(linear: Linear, rows: F32) -> F64:
    """(n, features) what each feature adds to the sum of a linear model of one output."""
    x = rows.astype(np.float64)
    weight, missing = np.asarray(linear.weight), np.asarray(linear.missing)
    unused = (weight == 0.0) & (missing == 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isnan(x), missing, np.where(unused, 0.0, weight * x))
