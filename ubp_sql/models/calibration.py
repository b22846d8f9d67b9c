"""Calibration maps: from a model's score to a chance that comes true, one score at a time or many, to the same bit.

Two shapes. isotonic: linear between knots, constant beyond the outer ones. platt: 1 / (1 + exp(-(a * logit(s) + b))).
Neither ever puts two users in another order than the model does.

Sources: Platt 1999 (on log odds: Niculescu-Mizil & Caruana 2005); Zadrozny & Elkan 2002, between the centres of pooled
blocks as in Oron & Flournoy 2017.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import exp, isfinite, log

from ubp_sql.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

ISOTONIC, PLATT = "isotonic", "platt"
METHODS = ISOTONIC, PLATT
AUTO = "auto"
MOST_KNOTS = 10_000
# Scores so near to 0 or 1 are taken as this near: their log odds stay below 35, and within these bounds exp() below
# its largest argument.
NEAREST = 1e-15
FARTHEST_FROM_0 = 1.0 - NEAREST
STEEPEST, FARTHEST = 10.0, 100.0
CHUNK = 20_000  # values of a platt map computed between two looks at a cancel: 10 ms


class Map:
    """A map ready for use.

    value  of one score; no NumPy
    """

    __slots__ = ("_rises", "map_id", "method", "value", "x", "y")

    value: Callable[[float], float]

    def __init__(self, method: str, x: Sequence[float], y: Sequence[float], map_id: int | None = None) -> None:
        """Raises BadInput (UB003) for what is no map: `checked` says why."""
        self.x, self.y = checked(method, x, y)
        self.method, self.map_id = method, map_id
        self._rises: tuple[float, ...] = ()
        if method == PLATT:
            self.value = _platt(*self.x)
        else:
            self._rises = _rises(self.x, self.y)
            self.value = self._isotonic

    def _isotonic(self, score: float) -> float:
        x, y = self.x, self.y
        k = bisect_right(x, score)
        if k == 0:
            return y[0]
        if k == len(x):
            return y[-1]
        value = y[k - 1] + (score - x[k - 1]) * self._rises[k - 1]
        return value if value < y[k] else y[k]  # rounded up, the last value before a knot could lie above it


def _platt(a: float, b: float) -> Callable[[float], float]:
    def value(score: float) -> float:
        if not NEAREST <= score <= FARTHEST_FROM_0:
            score = NEAREST if score < NEAREST else FARTHEST_FROM_0
        return 1.0 / (1.0 + exp(-(a * log(score / (1.0 - score)) + b)))

    return value


def checked(method: str, x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """x and y as they are kept. Raises BadInput (UB003)."""
    try:
        x, y = tuple(map(float, x)), tuple(map(float, y))
    except (TypeError, ValueError, OverflowError):
        raise BadInput("x or y of a calibration map is no list of numbers", "two flat arrays without NULL") from None
    if not all(map(isfinite, x + y)):
        raise BadInput("a calibration map has a value that is NaN or infinite", "leave that knot out")
    if method == PLATT:
        if len(x) != 2 or y:
            raise BadInput(f"a platt map has {len(x)} and {len(y)} values", "x: slope and intercept; y: empty")
        if not 0.0 < x[0] <= STEEPEST or abs(x[1]) > FARTHEST:
            raise BadInput(
                f"slope and intercept of a platt map are {x[0]} and {x[1]}",
                f"a slope above 0 and up to {STEEPEST:g}, an intercept between -{FARTHEST:g} and {FARTHEST:g}",
            )
        return x, y
    if method != ISOTONIC:
        raise BadInput(f"unknown method {method!r}", f"one of {', '.join(METHODS)}")
    if not 1 <= len(x) == len(y) <= MOST_KNOTS:
        raise BadInput(f"an isotonic map has {len(x)} and {len(y)} values", f"as many y as x, up to {MOST_KNOTS:,}")
    if not all(one < other for one, other in pairwise(x)):
        raise BadInput("the scores of a calibration map do not ascend", "sort its knots by x; no x twice")
    if not all(one <= other for one, other in pairwise(y)):
        raise BadInput("a calibration map falls", "a higher score must not mean a lower chance: sort y as x")
    if y[0] < 0.0 or y[-1] > 1.0:
        raise BadInput(f"a calibration map goes from {y[0]} to {y[-1]}", "chances from 0 to 1")
    if not all(map(isfinite, (x[-1] - x[0], *_rises(x, y)))):
        raise BadInput("two knots of a calibration map lie too near each other, or too far apart", "leave one out")
    return x, y


def _rises(x: Sequence[float], y: Sequence[float]) -> tuple[float, ...]:
    """From each knot to the next."""
    return tuple((y1 - y0) / (x1 - x0) for (x0, x1), (y0, y1) in zip(pairwise(x), pairwise(y), strict=True))


def batch(map_: Map, scores: F64, between_chunks: Callable[[], object] = lambda: None) -> F64:
    """(n,) values of scores, as `value` says one by one; NaN stays NaN."""
    import numpy as np

    if map_.method == PLATT:  # NumPy's exp and log differ from libm's in their last bit
        found = np.empty(len(scores))
        for low in range(0, len(scores), CHUNK):
            value = map_.value
            found[low : low + CHUNK] = [s if s != s else value(s) for s in scores[low : low + CHUNK].tolist()]
            between_chunks()
        return found
    x, y, rises = np.array(map_.x), np.array(map_.y), np.array([*map_._rises, 0.0])
    place = np.searchsorted(x, scores, side="right")
    left = np.clip(place - 1, 0, len(x) - 1)
    values = y[left] + (np.clip(scores, x[0], x[-1]) - x[left]) * rises[left]
    values = np.minimum(values, y[np.minimum(left + 1, len(x) - 1)])
    return np.asarray(np.where(place == 0, y[0], values), np.float64)
