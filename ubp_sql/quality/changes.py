"""What changed in a feed from week to week: shares of missing values, kinds that come and go, the scale of values."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

SPREADS = 5
"""A change is beyond so many robust standard deviations of the weeks before."""
NORMAL = 1.4826
NEAR = 8
"""Weeks that say how frequent a kind is where it comes or goes."""


class Change(NamedTuple):
    """Weeks `begin` to `end` (places, both in) have `after`, where the weeks before had `before`."""

    begin: int
    end: int
    before: float
    after: float
    events: int


def shifts(values: F64, events: I64, least: float, weeks: int, needed: int) -> list[Change]:
    """Runs of weeks whose value lies `least` and more away from that of the weeks before.

    values  (w,) a week's figure; NaN = none
    events  (w,) events behind it; weeks with fewer than `needed` say nothing
    weeks   that must have gone before
    """
    found: list[Change] = []
    past: list[float] = []
    run: list[int] = []
    for week, (value, n) in enumerate(zip(values.tolist(), events.tolist(), strict=True)):
        if n < needed or math.isnan(value):
            continue
        usual = float(np.median(past)) if len(past) >= weeks else math.nan
        spread = NORMAL * float(np.median(np.abs(np.array(past) - usual))) if len(past) >= weeks else 0.0
        if abs(value - usual) >= max(least, SPREADS * spread):
            run.append(week)
            continue
        if run:
            found.append(_change(run, usual, values, events))
            run = []
        past.append(value)
    if run:
        found.append(_change(run, float(np.median(past)), values, events))
    return found


def _change(run: list[int], before: float, values: F64, events: I64) -> Change:
    return Change(run[0], run[-1], before, float(np.median(values[run])), int(events[run].sum()))


def arrival(own: I64, every: I64, weeks: int, needed: int) -> Change | None:
    """When a kind came that would have been there before, had it been as frequent.

    own    (w,) events of the kind a week
    every  (w,) events of the source a week
    """
    first = int(np.flatnonzero(own)[0])
    near = slice(first, first + NEAR)
    share = own[near].sum() / every[near].sum()
    earlier = slice(max(0, first - NEAR), first)
    if np.count_nonzero(every[:first]) < weeks or share * every[earlier].sum() < needed:
        return None
    return Change(first, len(own) - 1, 0.0, float(share), int(own.sum()))


def departure(own: I64, every: I64, weeks: int, needed: int) -> Change | None:
    """When a kind went that would still be there, were it as frequent."""
    last = int(np.flatnonzero(own)[-1])
    near = slice(max(0, last + 1 - NEAR), last + 1)
    share = own[near].sum() / every[near].sum()
    if np.count_nonzero(own) < weeks or share * every[last + 1 :].sum() < needed:
        return None
    return Change(last + 1, len(own) - 1, float(share), 0.0, int(own.sum()))
