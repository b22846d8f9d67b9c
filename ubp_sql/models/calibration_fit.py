"""Calibration maps out of held-out scores. NumPy alone.

Sources: pool adjacent violators: Ayer et al. 1955; Newton steps for Platt's curve: Lin, Lin & Weng 2007; the simplest
within a standard error: Breiman et al. 1984.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.models.calibration import AUTO, FARTHEST, ISOTONIC, METHODS, NEAREST, PLATT, STEEPEST, Map, batch

F64 = NDArray[np.float64]
Pause = Callable[[], object]
LATEST = 4  # moments a map is fitted on: older ones say less of the season. docs/adr/0020-calibration.md
STANDARD_ERRORS = 1.0
LEAST_IN_GROUP, MOST_GROUPS = 50, 40


def pooled(values: F64, weights: F64) -> tuple[F64, NDArray[np.intp]]:
    """Pool adjacent violators: the nearest values, by weighted squares, that never fall.

    returns (b,) the values of the blocks, (b + 1,) where each begins
    """
    level: list[float] = []
    weight: list[float] = []
    first: list[int] = []
    for place, (value, mass) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        start = place
        while level and level[-1] >= value:
            value = (level[-1] * weight[-1] + value * mass) / (weight[-1] + mass)
            mass += weight.pop()
            level.pop()
            start = first.pop()
        level.append(value)
        weight.append(mass)
        first.append(start)
    return np.array(level), np.array([*first, len(values)])


def grouped(scores: F64, labels: F64, weights: F64) -> tuple[F64, F64, F64]:
    """Neighbours in the order of their scores put together, those with the same score always.

    returns mean score, share with the label and weight of each group. The share is that of half a user with and half a
    user without the label more, so that no group says never or always.
    """
    order = np.argsort(scores, kind="stable")
    s, y, w = scores[order], labels[order], weights[order]
    groups = max(1, min(MOST_GROUPS, len(s) // LEAST_IN_GROUP))
    begin = np.unique(np.searchsorted(s, s[np.arange(groups) * len(s) // groups], side="left"))
    mass = np.add.reduceat(w, begin)
    mean = np.add.reduceat(w * s, begin) / mass
    share = (np.add.reduceat(w * y, begin) + 0.5) / (mass + 1.0)
    return np.clip(mean, s[begin], s[[*(begin[1:] - 1), -1]]), share, mass


def isotonic(scores: F64, labels: F64, weights: F64, pause: Pause = lambda: None) -> Map:
    """Linear between the centres of the blocks that pooling finds."""
    mean, share, mass = grouped(scores, labels, weights)
    pause()
    level, begin = pooled(share, mass + 1.0)
    centre = np.add.reduceat(mean * mass, begin[:-1]) / np.add.reduceat(mass, begin[:-1])
    apart = np.concatenate([[True], np.diff(centre) > 0])
    return Map(ISOTONIC, centre[apart].tolist(), np.maximum.accumulate(np.clip(level[apart], 0.0, 1.0)).tolist())


def platt(scores: F64, labels: F64, weights: F64, pause: Pause = lambda: None) -> Map | None:
    """Logistic regression of the label on the score's log odds, by Newton steps; None where it does not rise.

    A weak prior draws towards the map that changes nothing, so that there is a maximum where all have the same label.
    """
    x = np.column_stack([log_odds(scores), np.ones(len(scores))])
    beta = np.array([1.0, 0.0])
    prior = np.array([1.0, 0.0])
    for _ in range(50):
        pause()
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -700, 700)))
        gradient = x.T @ (weights * (labels - p)) - (beta - prior)
        curvature = (x * (weights * p * (1.0 - p))[:, None]).T @ x + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / max(1e-300, float(np.abs(step).max())))
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    a, b = float(beta[0]), float(beta[1])
    return Map(PLATT, [a, b], []) if 1e-6 < a <= STEEPEST and abs(b) <= FARTHEST else None


FITTERS: dict[str, Callable[[F64, F64, F64, Pause], Map | None]] = {ISOTONIC: isotonic, PLATT: platt}


class Outcomes(NamedTuple):
    """A moment at which users were scored by a model that had not seen what came."""

    cut_us: int
    scores: F64  # (n,)
    labels: F64  # (n,) 0 or 1


class Fitted(NamedTuple):
    """What came of fitting: the map, None where scores are best as they are.

    losses  log loss of each method on the newest moment, fitted on the others; 'none' for the scores as they are. Empty
            where only one moment is there.
    """

    map: Map | None
    losses: dict[str, float]


def fitted(moments: Sequence[Outcomes], method: str = AUTO, pause: Pause = lambda: None) -> Fitted:
    """A map by that method on the latest of the moments, which ascend.

    auto takes the method with the lowest log loss on the newest moment, fitted on the others, if that is better than
    the scores as they are by more than a standard error. `pause` is called between pieces of work: a million users take
    50 ms of it. Raises BadInput (UB003) on an unknown method, or where a
    curve does not rise.
    """
    latest = list(moments)[-LATEST:]
    losses, best = _tried(latest, pause)
    if method == AUTO:
        return Fitted(None if best is None else _one(latest, best, pause), losses)
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}", f"{AUTO}, {' or '.join(METHODS)}")
    found = _one(latest, method, pause)
    if found is None:
        raise BadInput(
            "higher scores did not mean higher chances: no platt map rises", "look at the model, or isotonic"
        )
    return Fitted(found, losses)


def _one(moments: Sequence[Outcomes], method: str, pause: Pause) -> Map | None:
    scores = np.concatenate([moment.scores for moment in moments])
    return FITTERS[method](scores, np.concatenate([moment.labels for moment in moments]), np.ones(len(scores)), pause)


def _tried(moments: Sequence[Outcomes], pause: Pause) -> tuple[dict[str, float], str | None]:
    """Losses on the newest moment, and which method is better there than the scores as they are."""
    if len(moments) < 2:
        return {}, None
    *earlier, newest = moments
    plain = losses(newest.labels, newest.scores)
    found, best, most = {"none": float(plain.mean())}, None, 0.0
    for method in METHODS:
        made = _one(earlier, method, pause)
        if made is None:
            continue
        loss = losses(newest.labels, batch(made, newest.scores, pause))
        found[method] = float(loss.mean())
        gain = plain - loss
        surely = float(gain.mean() - STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)))
        if surely > most:
            best, most = method, surely
    return found, best


def log_odds(chances: F64) -> F64:
    """(n,) of chances, none of them farther than those of NEAREST."""
    near = np.clip(chances, NEAREST, 1.0 - NEAREST)
    return np.asarray(np.log(near / (1.0 - near)), np.float64)


def losses(labels: F64, chances: F64) -> F64:
    """(n,) -log of the chance given to what came."""
    p = np.clip(chances, NEAREST, 1.0 - NEAREST)
    return np.asarray(-(labels * np.log(p) + (1.0 - labels) * np.log1p(-p)), np.float64)
