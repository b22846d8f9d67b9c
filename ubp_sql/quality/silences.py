"""Silences of a feed that its own rhythm by hour of the week does not explain."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

WEEK = 168
AROUND = 6
"""Weeks before and after a silence that say what its hours are like."""


class Silence(NamedTuple):
    """Hours `begin` to, without, `end`, in which `expected` events were to be expected.

    surprise  expected, in arrivals that are independent of each other
    others    other silences of the feed in which at least half a mean day's events were to be expected
    quiet     share of `expected` that lies in quiet hours
    daily     events of a mean day
    """

    begin: int
    end: int
    expected: float
    surprise: float
    others: int
    quiet: float
    daily: float


def main_span(hours: I64, counts: I64, apart: int, share: float = 0.001, few: int = 3) -> tuple[int, int]:
    """(first, last) hour of the feed, without a few events that lie `apart` hours and more from all others.

    hours   (h,) ascending, those with events
    counts  (h,) events of each
    """
    n = int(counts.sum())
    least = max(share * n, min(few, n // 50))
    ends = np.flatnonzero(np.diff(hours) >= apart)
    low, high = 0, len(hours) - 1
    for end in ends:
        if counts[: end + 1].sum() > least:
            break
        low = int(end) + 1
    for end in ends[::-1]:
        if end < low or counts[end + 1 :].sum() > least:
            break
        high = int(end)
    return int(hours[low]), int(hours[high])


def silences(
    hours: I64, counts: I64, until: int, least: int, weeks: int, margin: float, excused: Bools, quiet: Bools
) -> list[Silence]:
    """Runs of hours without an event that the feed's rhythm makes as good as impossible.

    hours    (h,) ascending, those with events
    counts   (h,) events of each
    until    the feed is listened to up to, without, this hour
    least    hours that a silence has at least
    weeks    other weeks that must be there to say what a week is like
    margin   the chance of such a silence anywhere in the feed is below exp(-margin)
    excused  (until - hours[0],) whether nothing is to be expected of the hour
    quiet    (until - hours[0],) whether a silence would be no surprise

    What an hour is like is the mean of the same hour of the week in up to AROUND weeks before and after, without the
    largest. Events come in clusters (a session, an order): their number's variance is a multiple of its mean, and by
    that multiple what is expected is divided before exp(-x) is taken as the chance of none.
    """
    start = int(hours[0])
    span = until - start
    rows = -(-span // WEEK)
    if rows <= weeks:
        return []
    flat = np.zeros(rows * WEEK)
    flat[hours - start] = counts
    flat[span:] = np.nan
    barred = np.zeros(rows * WEEK, np.bool_)
    barred[:span] = excused
    grid = flat.reshape(rows, WEEK)
    silent = np.flatnonzero(np.diff(np.concatenate(([False], flat[:span] == 0, [False]))))
    runs = [(int(a), int(b)) for a, b in silent.reshape(-1, 2) if b - a >= least]
    rough = _around(grid)
    rough[barred.reshape(rows, WEEK)] = 0
    expected = np.concatenate(([0.0], np.cumsum(np.nan_to_num(rough.ravel()))))
    clustering = _clustering(grid, rough, [run for run in runs if run[1] - run[0] >= 24])
    daily = float(np.nansum(flat)) / max(span / 24, 1)
    needed = (math.log(span) + margin) * clustering
    found = []
    for begin, end in runs:
        if expected[end] - expected[begin] < needed / 2:
            continue
        by_hour = _expected(grid, begin, end, weeks)
        if by_hour is None:
            continue
        by_hour[barred[begin:end]] = 0
        total = float(by_hour.sum())
        if total >= needed:
            still = float(by_hour[quiet[begin:end]].sum())
            found.append(Silence(start + begin, start + end, total, total / clustering, 0, still / total, daily))
    pauses = sum(expected[end] - expected[begin] >= daily / 2 for begin, end in runs)
    return [one._replace(others=max(pauses - 1, 0)) for one in found]


def _around(grid: F64) -> F64:
    """Mean of the same hour in up to AROUND weeks before and after each week."""
    known = ~np.isnan(grid)
    total = np.concatenate((np.zeros((1, WEEK)), np.cumsum(np.nan_to_num(grid), 0)))
    number = np.concatenate((np.zeros((1, WEEK)), np.cumsum(known, 0)))
    week = np.arange(len(grid))
    low, high = np.maximum(week - AROUND, 0), np.minimum(week + AROUND + 1, len(grid))
    sums = total[high] - total[low] - np.nan_to_num(grid)
    numbers = number[high] - number[low] - known
    mean: F64 = np.divide(sums, numbers, out=np.zeros_like(sums), where=numbers > 0)
    return mean


def _clustering(grid: F64, mean: F64, closed: list[tuple[int, int]]) -> float:
    """Variance of an hour's number of events as a multiple of its mean, at least 1; days of silence do not count."""
    counted = ~np.isnan(grid) & (mean > 0)
    flat = counted.ravel()
    for begin, end in closed:
        flat[begin:end] = False
    counted = flat.reshape(grid.shape)
    total = float(mean[counted].sum())
    if total == 0:
        return 1.0
    # The mean of 2 * AROUND weeks scatters too.
    return max(1.0, float(((grid[counted] - mean[counted]) ** 2).sum()) / total / (1 + 1 / (2 * AROUND)))


def _expected(grid: F64, begin: int, end: int, weeks: int) -> F64 | None:
    """(end - begin,) what each hour of a run is like in other weeks; None where these are too few."""
    first, last = begin // WEEK, (end - 1) // WEEK
    others = np.concatenate((grid[max(first - AROUND, 0) : first], grid[last + 1 : last + 1 + AROUND]))
    if len(others) < weeks:
        return None
    known = ~np.isnan(others)
    number = known.sum(0)
    values = np.where(known, others, 0.0)
    trimmed = np.where(number > 2, values.sum(0) - values.max(0), values.sum(0))
    mean = trimmed / np.maximum(np.where(number > 2, number - 1, number), 1)
    by_hour: F64 = mean[np.arange(begin, end) % WEEK]
    return by_hour
