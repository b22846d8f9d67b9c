"""What a model's features do on the whole, over a sample of rows: typical values, importance, partial dependence."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels.forest_codes import CATEGORY
from ubp_sql.models.linear import LinearModel
from ubp_sql.models.loaded import Loaded, TreeModel
from ubp_sql.models.preparation import ONE_HOT
from ubp_sql.models.preparation_blob import PreparedModel

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Scores = Callable[[F32], F64]

GRID = 20
BAND = 0.1  # of the sample below `low`, and above `high`


class Effect(NamedTuple):
    """The sample's scores with one feature set to x for everybody; NaN among them where the model gives no number.

    x      ascending; NaN, the last one, is missing
    mean   mean score
    low, high  10 % and 90 % of the scores are below
    share  of the sample whose own value is nearest to x
    """

    x: F64
    mean: F64
    low: F64
    high: F64
    share: F64


def typical_values(rows: F32, categories: frozenset[int]) -> F32:
    """(features,) lower median of each column, of a category the most frequent value; NaN where most are missing."""
    made = np.full(rows.shape[1], np.nan, np.float32)
    for i, column in enumerate(rows.T):
        known = np.sort(column[~np.isnan(column)])
        if 2 * len(known) <= len(column):
            continue
        values, counts = np.unique(known, return_counts=True)
        made[i] = values[counts.argmax()] if i in categories else known[(len(known) - 1) // 2]
    return made


def categories_of(loaded: Loaded) -> frozenset[int]:
    """Features that are categories, as far as the model's form tells: their order means nothing."""
    if isinstance(loaded, PreparedModel):
        steps = (step for step in loaded.program.steps if step.code == ONE_HOT)
        return frozenset(i for step in steps for i in step.columns if i < loaded.features)
    if not isinstance(loaded, TreeModel):
        return frozenset()
    nodes = zip(loaded.blob.feature, loaded.blob.node_flags, strict=True)
    return frozenset(feature for feature, flags in nodes if flags & CATEGORY)


def used_features(loaded: Loaded) -> list[int]:
    """Features that the model's score may depend on."""
    if isinstance(loaded, TreeModel):
        return sorted(set(loaded.blob.feature))
    if isinstance(loaded, LinearModel):
        weights = zip(loaded.linear.weight, loaded.linear.missing, strict=True)
        return [i for i, pair in enumerate(weights) if pair != (0.0, 0.0)]
    return list(range(loaded.features))


def permutation_importance(raw: Scores, rows: F32, features: list[int], seed: int) -> F64:
    """(len(features),) mean absolute change of the raw score when the rows swap a feature among each other.

    Fisher, Rudin, Dominici 2019 (JMLR 20), with the model's own score in place of a loss: no labels are needed.
    """
    before = raw(rows)
    order = np.random.default_rng(seed).permutation(len(rows))
    found = np.empty(len(features))
    for k, i in enumerate(features):
        swapped = rows.copy()
        swapped[:, i] = rows[order, i]
        found[k] = np.abs(raw(swapped) - before).mean()
    return found


def partial_dependence(scores: Scores, rows: F32, features: list[int], categories: frozenset[int]) -> Iterator[Effect]:
    """The effect of each of those features in turn, over rows (n, features): Friedman 2001 (Annals of Statistics 29);
    the band holds the middle 80 % of the individual curves of Goldstein et al. 2015.
    """
    for i in features:
        column = rows[:, i].astype(np.float64)
        x = grid(column, whole=i in categories)
        share = _shares(column, x)
        mean, low, high = np.empty((3, len(x)))
        changed = rows.copy()
        for k, value in enumerate(x):
            changed[:, i] = value
            found = scores(changed)
            with np.errstate(invalid="ignore"):
                mean[k] = found.mean()
            low[k], high[k] = np.quantile(found, (BAND, 1 - BAND), method="inverted_cdf")
        yield Effect(x, mean, low, high, share)


def grid(column: F64, *, whole: bool = False) -> F64:
    """Values that a feature is set to: all where it has at most GRID, else quantiles that it has; NaN last, if any is.

    whole  all values, those of a category
    """
    known = np.sort(column[~np.isnan(column)])
    x, counts = np.unique(known, return_counts=True)
    if len(x) > GRID:
        if whole:
            x = np.sort(x[np.argsort(-counts, kind="stable")[:GRID]])
        else:
            x = np.unique(np.quantile(known, np.linspace(0.01, 0.99, GRID), method="inverted_cdf"))
    return np.append(x, np.nan) if len(known) < len(column) else x


def _shares(column: F64, x: F64) -> F64:
    """(len(x),) share of the column nearest to each x; the lower one of two that are as near."""
    missing = np.isnan(column)
    points = x[~np.isnan(x)]
    share = np.zeros(len(x))
    if len(points):
        with np.errstate(invalid="ignore"):
            nearest = np.searchsorted((points[1:] + points[:-1]) / 2, column[~missing])
        share[: len(points)] = np.bincount(nearest, minlength=len(points))
    if len(points) < len(x):
        share[-1] = missing.sum()
    return share / len(column)
