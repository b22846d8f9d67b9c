"""Quantiles of how far outcomes were from scores, for conformal prediction.

Sources: Vovk, Gammerman & Shafer 2005 (split conformal; by group of scores, and by outcome: Mondrian, section 4.5);
Lei et al. 2018 (section 5.2: residuals over a local scale); Barber et al. 2023 (recent cases count more where behaviour
drifts: here those of the newest moments count alone). Measured against other ways: docs/adr/0021-decisions.md.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.conformal import INTERVAL, LEVELS, SET, Conformal

F64 = NDArray[np.float64]
ENOUGH = 1_000  # users of the newest moments; older ones are left out
ENOUGH_OF_EACH = 100  # users of each outcome
KNOTS, LEAST_AT_KNOT = 10, 50
GROUPS, LEAST_IN_GROUP = 5, 200
PILE = 0.01  # share of amounts at one end from which on none is taken to lie beyond it
LEAST_SCALE = 1e-3  # of the largest


def newest(moments: Sequence[tuple[F64, F64]], form: str) -> int:
    """How many of the moments (scores, labels), the newest first, are used."""
    users, rarer = 0, {0.0: 0, 1.0: 0}
    for number, (_, labels) in enumerate(moments, 1):
        users += len(labels)
        for label in rarer:
            rarer[label] += int((labels == label).sum())
        if users >= ENOUGH and (form == INTERVAL or min(rarer.values()) >= ENOUGH_OF_EACH):
            return number
    return len(moments)


def fit_interval(scores: F64, labels: F64) -> Conformal:
    """Of |label - score| over its mean among users of like scores, for each group of scores by itself. At least one
    user.
    """
    errors = np.abs(labels - scores)
    place = np.searchsorted(_edges(scores, KNOTS, LEAST_AT_KNOT), scores, side="left")
    sizes = np.bincount(place)
    knots, scales = np.bincount(place, scores) / sizes, np.bincount(place, errors) / sizes
    scales = np.maximum(scales, LEAST_SCALE * scales.max()) if scales.any() else np.ones(len(scales))
    edges = _edges(scores, GROUPS, LEAST_IN_GROUP)
    group = np.searchsorted(edges, scores, side="left")
    scaled = errors / scales_at(knots, scales, scores)
    found = np.concatenate([levels(scaled[group == k]) for k in range(len(edges) + 1)])
    least, most = _pile(labels, labels.min()), _pile(labels, labels.max())
    if least is None and labels.min() >= 0.0:
        least = 0.0
    arrays = _tuple(knots), _tuple(scales), _tuple(edges), _tuple(found)
    return Conformal(INTERVAL, *arrays, least, most, len(labels))


def fit_set(scores: F64, labels: F64) -> Conformal:
    """Of the distance of the score from the outcome that came, for each outcome by itself."""
    errors = np.abs(labels - scores)
    found = np.concatenate([levels(errors[labels == label]) for label in (0.0, 1.0)])
    return Conformal(SET, (), (), (), _tuple(found), None, None, len(labels))


def levels(errors: F64) -> F64:
    """(LEVELS - 1,) the error that a new one does not exceed with each chance; infinite beyond n / (n + 1)."""
    n = len(errors)
    # In whole numbers: the ceiling of a product of doubles would be one too high at some levels.
    place = -(-np.arange(1, LEVELS) * (n + 1) // LEVELS) - 1
    return np.append(np.sort(errors), np.inf)[np.minimum(place, n)]


def scales_at(knots: F64, scales: F64, scores: F64) -> F64:
    """As conformal.scale_at, of many scores."""
    found = np.interp(scores, knots, scales)
    if len(knots) > 1:
        rise = max(0.0, (scales[-1] - scales[-2]) / (knots[-1] - knots[-2]))
        found += rise * np.maximum(scores - knots[-1], 0.0)
    return np.asarray(found, np.float64)


def _edges(scores: F64, most: int, least: int) -> F64:
    """Ends of groups of neighbours, as many in each as in any other but for ties; the last group has none."""
    groups = int(np.clip(len(scores) // least, 1, most))
    ends = np.unique(np.sort(scores)[[len(scores) * k // groups - 1 for k in range(1, groups + 1)]])
    return ends[:-1]


def _pile(labels: F64, end: float) -> float | None:
    share = float((labels == end).mean())
    return float(end) if PILE <= share < 1.0 else None


def _tuple(values: F64) -> tuple[float, ...]:
    return tuple(values.tolist())
