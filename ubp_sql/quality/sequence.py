"""Whether a feed's numbers follow its times, and which blocks of numbers hold times that do not belong there."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

AROUND = 5
DAY = 86_400_000_000
WIDEST = 12 * DAY
"""Dates with day and month swapped lie 27 days and more apart; of a neighbourhood wider than this none is told."""


class Surroundings(NamedTuple):
    """For each block of numbers: the times of the blocks around it, and whether some of its own lie far outside."""

    low: I64
    high: I64
    suspect: Bools


def block_bits(n: int, span_us: int) -> int:
    """Bits of a number below its block's, so that a block holds about a quarter of a day's events."""
    quarters = max(4 * span_us / DAY, 1.0)
    return int(np.clip(round(np.log2(max(n / quarters, 1.0))), 3, 12))


def surroundings(low: I64, high: I64, off_us: int) -> Surroundings:
    """Running medians of the earliest and latest times of 2 * AROUND + 1 blocks in the order of their numbers.

    low, high  (b,) earliest and latest time of each block
    off_us     how far outside a time must lie to be looked at

    One time that does not belong into a block spoils its lowest or its highest time, and neither median.
    """
    around_low, around_high = _running_median(low), _running_median(high)
    ordered = around_high - around_low <= WIDEST
    outside = (low < around_low - off_us) | (high > around_high + off_us)
    return Surroundings(around_low, around_high, ordered & outside)


def _running_median(values: I64) -> I64:
    padded = np.pad(values, AROUND, mode="reflect" if len(values) > AROUND else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    middle: I64 = np.partition(windows, AROUND, axis=1)[:, AROUND]
    return middle
