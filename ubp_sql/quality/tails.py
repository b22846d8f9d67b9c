"""Where the tail of a kind's values ends: cuts beyond which a value is an outlier.

On a log scale an exponential tail is the heaviest that trade brings (Pareto). Its slope is estimated as Hill does
(Annals of Statistics 3, 1975), from the values behind the MOST largest ones, which count as if they were no larger than
the largest of those (the maximum likelihood of a censored sample). Of such a tail k times the distance on that scale
between the k-th largest value and the next, divided by the slope, is an exponential variable of mean 1, independent for
each k (Rényi, 1953). The k largest are outliers where

- that variable is above margin + ln k(k + 1): the chance that one is anywhere is exp(-margin);
- they are `times` the next smaller value and more;
- their modified z-score, 0.6745 |x - median| / MAD, is above `score` (Iglewicz and Hoaglin, How to Detect and Handle
  Outliers, 1993), which on its own calls some of every heavy tail outliers.

Then k is counted anew, from behind the outliers.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

BINS = 64
"""Bins a unit of the natural logarithm: 1.6 % wide."""
NORMAL = 0.6745
MOST = (10, 100)
"""Outliers at each end, at least and at most: one of 10,000 values between these."""
REFERENCE = (50, 200)
"""Values that the slope is estimated from, likewise: one of 300."""
LEAST_SLOPE = 0.1
"""Prices are made by people: where the tail is one value, four times that is apart, a tenth more is not."""


class Cuts(NamedTuple):
    """Magnitudes below `low` or above `high` are outliers; `median` is the middle one."""

    low: float
    high: float
    median: float


def cuts(bins: I64, counts: I64, score: float, times: float, margin: float) -> Cuts:
    """Cuts of a histogram of magnitudes.

    bins    (b,) ascending, floor(BINS * ln|x|)
    counts  (b,) how many, at least one in all
    """
    middle = _middle(bins, counts)
    away = np.abs(bins - middle)
    order = np.argsort(away, kind="stable")
    least = score * _middle(away[order], counts[order]) / NORMAL
    high = _end(bins, counts, times, margin, middle + least)
    low = _end(-bins[::-1], counts[::-1], times, margin, least - middle)
    return Cuts(
        low=0.0 if low is None else _magnitude(1 - low),
        high=math.inf if high is None else _magnitude(high),
        median=_magnitude(middle + 0.5),
    )


def median_bin(bins: I64, counts: I64) -> float:
    """The middle of a histogram, on the natural log scale."""
    return (_middle(bins, counts) + 0.5) / BINS


def _middle(bins: I64, counts: I64) -> int:
    total = np.cumsum(counts)
    return int(bins[np.searchsorted(total, (total[-1] + 1) // 2)])


def _end(bins: I64, counts: I64, times: float, margin: float, least: float) -> float | None:
    """Where the upper tail ends, in bins; None: nothing lies beyond.

    least  outliers lie beyond it
    """
    beyond = np.cumsum(counts[::-1])[::-1]  # from this bin on
    n = int(beyond[0])
    most = min(max(n // 10_000, MOST[0]), MOST[1], max(n // 20, 1))
    behind = min(max(n // 300, REFERENCE[0]), REFERENCE[1], n // 4)
    m = most + behind
    threshold = int(bins[np.flatnonzero(beyond > m)[-1]])
    within = np.diff(np.clip(beyond[::-1], most, m), prepend=most)[::-1]  # of the `behind` values, those in each bin
    nearest = int(bins[np.flatnonzero(beyond > most)[-1]])
    excess = float((within * np.maximum(bins - threshold, 0)).sum()) + most * (nearest - threshold)
    slope = max(excess / behind / BINS, LEAST_SLOPE)
    end, before = None, 0
    for place in range(len(bins) - 1, 0, -1):
        k = int(beyond[place])
        if k > most or bins[place] <= least:
            break
        apart, own = int(bins[place] - bins[place - 1]) / BINS, k - before
        if apart >= math.log(times) and own * apart / slope > margin + math.log(own * (own + 1)):
            end, before = (float(bins[place]) + float(bins[place - 1]) + 1) / 2, k
    return end


def _magnitude(bin_: float) -> float:
    return math.exp(min(max(bin_ / BINS, -745.0), 709.0))
