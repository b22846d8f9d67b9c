"""Conformal prediction: intervals of amounts and sets of outcomes that hold the truth in a stated share of cases.

Evaluation, in plain Python; conformal_fit.py makes what is evaluated.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import ceil, inf, isinf
from typing import NamedTuple

from ubp_sql.errors import BadInput

INTERVAL, SET = "interval", "set"
LEVELS = 1_000
OUTCOMES = ("no", "yes")
DIGITS_LOST = 1e-9  # 0.9 is not 900/1000 in binary


class Conformal(NamedTuple):
    """A row of ubp.conformal_quantiles.

    knots      (k,) scores, ascending; scales (k,) mean |amount - score| around each; empty for a set
    edges      (g - 1,) scores above which the next group begins, ascending; a set's groups are OUTCOMES
    quantiles  (g * (LEVELS - 1),) at the levels 1/LEVELS, 2/LEVELS, ... of each group
    least, most  ends that no amount passes: where amounts pile up, and 0 if none was below; None: no such end
    """

    form: str
    knots: tuple[float, ...]
    scales: tuple[float, ...]
    edges: tuple[float, ...]
    quantiles: tuple[float, ...]
    least: float | None
    most: float | None
    users: int


def place_of(coverage: float | None) -> int:
    """Place of the quantile for a coverage: that of the next level. Raises BadInput (UB003)."""
    if coverage is None or not 1.0 / LEVELS <= coverage <= 1.0 - 1.0 / LEVELS:
        shown = "NULL" if coverage is None else coverage
        raise BadInput(f"coverage is {shown}", f"a share from {1 / LEVELS} to {1 - 1 / LEVELS}, for example 0.9")
    return ceil(coverage * LEVELS - DIGITS_LOST) - 1


def scale_at(knots: tuple[float, ...], scales: tuple[float, ...], score: float) -> float:
    """Straight lines between the knots, the last one going on where it rises: larger amounts vary more."""
    at = bisect_right(knots, score)
    if at == 0 or len(knots) == 1:
        return scales[0]
    left = min(at, len(knots) - 1) - 1
    rise = (scales[left + 1] - scales[left]) / (knots[left + 1] - knots[left])
    if at == len(knots):
        return scales[-1] + max(0.0, rise) * (score - knots[-1])
    return scales[left] + rise * (score - knots[left])


def interval(found: Conformal, score: float, place: int) -> tuple[float, float] | None:
    """(low, high) of an amount; None where there were too few held-out users for the coverage."""
    quantile = found.quantiles[bisect_left(found.edges, score) * (LEVELS - 1) + place]
    if isinf(quantile):
        return None
    width = quantile * scale_at(found.knots, found.scales, score)
    low, high = score - width, score + width
    if found.least is not None:
        low, high = max(low, found.least), max(high, found.least)
    if found.most is not None:
        low, high = min(low, found.most), min(high, found.most)
    return low, high


def outcomes(found: Conformal, score: float, place: int) -> list[str]:
    """The outcomes that cannot be ruled out: both where one has too few held-out users for the coverage."""
    limits = (found.quantiles[place], found.quantiles[LEVELS - 1 + place])
    if inf in limits:
        return list(OUTCOMES)
    errors = (score, 1.0 - score)
    return [name for name, error, limit in zip(OUTCOMES, errors, limits, strict=True) if error <= limit]
