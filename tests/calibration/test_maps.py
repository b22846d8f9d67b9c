"""Calibration maps by themselves: one score and many to the same bit, never in another order, fitted as others fit."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ubp_sql.errors import BadInput
from ubp_sql.models import calibration_fit
from ubp_sql.models.calibration import Map, batch
from ubp_sql.models.calibration_fit import LATEST, Outcomes, fitted, grouped, isotonic, platt, pooled

CHANCES = st.floats(0, 1)
SCORES = st.one_of(CHANCES, st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, 5e-324, math.inf, -math.inf]))


@st.composite
def maps(draw: st.DrawFn) -> Map:
    if draw(st.booleans()):
        return Map("platt", [draw(st.floats(0.01, 10)), draw(st.floats(-100, 100))], [])
    x = sorted(draw(st.sets(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-200), min_size=1, max_size=9)))
    return Map("isotonic", x, sorted(draw(st.lists(CHANCES, min_size=len(x), max_size=len(x)))))


def plainly(found: Map, score: float) -> float:
    """What a map says, by its definition."""
    if found.method == "platt":
        s = min(max(score, 1e-15), 1 - 1e-15)
        return 1 / (1 + math.exp(-(found.x[0] * math.log(s / (1 - s)) + found.x[1])))
    if score <= found.x[0] or len(found.x) == 1:
        return found.y[0]
    for x0, x1, y0, y1 in zip(found.x, found.x[1:], found.y, found.y[1:], strict=False):
        if score < x1:
            return y0 + (score - x0) / (x1 - x0) * (y1 - y0)
    return found.y[-1]


@given(maps(), st.lists(SCORES, min_size=1, max_size=20))
# Rounded up, the last value before the second knot would lie above it.
@example(
    Map("isotonic", [-0.16690630115559602, 0.10173543229327164], [0.0, 0.3444228640964949]),
    [math.nextafter(0.10173543229327164, -1)],
)
def test_one_score_and_many(found: Map, scores: list[float]) -> None:
    scores = sorted({score + 0.0 for score in scores} | set(found.x))
    values = [found.value(score) for score in scores]
    assert np.array(values).tobytes() == batch(found, np.array(scores)).tobytes()
    assert values == pytest.approx([plainly(found, score) for score in scores], abs=1e-12)
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)


@given(maps())
def test_no_score_stays_none(found: Map) -> None:
    given = np.array([math.nan, 0.5])
    assert np.isnan(batch(found, given)).tolist() == [True, False]
    assert len(batch(found, np.empty(0))) == 0


@given(
    st.sampled_from(["isotonic", "platt", "other", "", None]),
    st.lists(st.one_of(st.floats(), st.none(), st.just("a")), max_size=4),
    st.lists(st.one_of(st.floats(), st.none()), max_size=4),
)
def test_any_map_is_one_or_is_refused(method: str, x: list[float], y: list[float]) -> None:
    try:
        found = Map(method, x, y)
    except BadInput:  # anything else is our mistake
        return
    for score in (-math.inf, 0.0, 0.5, 1.0, math.inf):
        assert 0 <= found.value(score) <= 1


@pytest.mark.parametrize(
    ("method", "x", "y"),
    [
        ("isotonic", [], []),
        ("isotonic", [0.5, 0.5], [0.1, 0.2]),
        ("isotonic", [0.6, 0.5], [0.1, 0.2]),
        ("isotonic", [0.4, 0.5], [0.2, 0.1]),
        ("isotonic", [0.4, 0.5], [0.2, 1.1]),
        ("isotonic", [0.4, 0.5], [-0.1, 0.5]),
        ("isotonic", [0.4], [0.2, 0.5]),
        ("isotonic", [0.0, 5e-324], [0.0, 1.0]),
        ("isotonic", [-1e308, 1e308], [0.0, 1.0]),
        ("isotonic", [math.nan], [0.5]),
        ("isotonic", list(range(10_001)), [0.5] * 10_001),
        ("platt", [1.0], []),
        ("platt", [1.0, 0.0], [0.5]),
        ("platt", [0.0, 0.0], []),
        ("platt", [-1.0, 0.0], []),
        ("platt", [1.0, 101.0], []),
        ("platt", [math.inf, 0.0], []),
        ("beta", [1.0, 0.0], []),
    ],
)
def test_what_is_no_map(method: str, x: Sequence[float], y: Sequence[float]) -> None:
    with pytest.raises(BadInput):
        Map(method, x, y)


def drawn(n: int, seed: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels whose log odds are `slope` times those of the scores."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 4, n)
    chance = 1 / (1 + np.exp(-slope * np.log(scores / (1 - scores))))
    return scores, (rng.random(n) < chance).astype(float)


@given(st.lists(st.tuples(CHANCES, st.floats(0.1, 5)), min_size=1, max_size=40))
def test_pooling_is_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    level, begin = pooled(values, weights)
    theirs = IsotonicRegression().fit(np.arange(len(values)), values, sample_weight=weights)
    assert np.repeat(level, np.diff(begin)) == pytest.approx(theirs.predict(np.arange(len(values))), abs=1e-9)


def test_isotonic_lies_on_scikit_learns_steps() -> None:
    scores, labels = drawn(20_000, 1, 0.5)
    mean, share, mass = grouped(scores, labels, np.ones(len(scores)))
    theirs = IsotonicRegression().fit(mean, share, sample_weight=mass + 1)
    found = isotonic(scores, labels, np.ones(len(scores)))
    assert 10 < len(found.x) <= calibration_fit.MOST_GROUPS
    assert set(np.round(found.y, 9)) == set(np.round(theirs.predict(mean), 9))
    assert batch(found, mean) == pytest.approx(theirs.predict(mean), abs=0.03)


def test_isotonic_has_no_ties_within() -> None:
    scores, labels = drawn(5_000, 3, 0.5)
    found = isotonic(scores, labels, np.ones(len(scores)))
    within = np.unique(scores[(scores > found.x[0]) & (scores < found.x[-1])])
    assert len(np.unique(batch(found, within))) == len(within)


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.5])
def test_platt_is_a_logistic_regression(slope: float) -> None:
    scores, labels = drawn(5_000, 2, slope)
    odds = np.log(scores / (1 - scores))[:, None]
    theirs = LogisticRegression(C=1e6, max_iter=1_000, tol=1e-8).fit(odds, labels)
    found = platt(scores, labels, np.ones(len(scores)))
    assert found is not None
    assert found.x == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=0.01)
    assert found.x[0] == pytest.approx(slope, abs=0.15)


@given(
    st.lists(st.tuples(st.one_of(CHANCES, st.sampled_from([0.0, 0.5, 1.0])), st.booleans()), min_size=1, max_size=300)
)
def test_any_outcomes_make_a_map(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = (np.array(column, float) for column in zip(*pairs, strict=True))
    ones = np.ones(len(scores))
    found = isotonic(scores, labels, ones)
    assert 0 < found.y[0] <= found.y[-1] < 1  # never says never
    curve = platt(scores, labels, ones)
    assert curve is None or curve.x[0] > 0


def moments(n: int, slope: float, count: int = 5) -> list[Outcomes]:
    return [Outcomes(cut, *drawn(n, cut, slope)) for cut in range(count)]


def test_auto_takes_a_map_only_where_it_is_surely_better() -> None:
    assert fitted(moments(3_000, 1.0)).map is None
    bent = fitted(moments(3_000, 0.4))
    assert bent.map is not None
    assert bent.losses[bent.map.method] < bent.losses["none"]
    assert fitted(moments(3_000, 1.0), "platt").map is not None
    with pytest.raises(BadInput):
        fitted(moments(3_000, -1.0), "platt")


@pytest.mark.parametrize("method", ["auto", "isotonic", "platt"])
def test_fitting_pauses(method: str) -> None:
    """Between the steps of each fit: one more of them, one more look at a cancel."""
    calls: list[int] = []
    given = moments(300, 0.4)
    assert fitted(given, method, lambda: calls.append(1)).losses == fitted(given, method).losses
    assert len(calls) > 5


def test_only_the_latest_moments_count() -> None:
    both = [*moments(3_000, -1.0), *moments(3_000, 0.4, LATEST)]
    latest = fitted(moments(3_000, 0.4, LATEST), "isotonic").map
    all_of_them = fitted(both, "isotonic").map
    assert latest is not None
    assert all_of_them is not None
    assert latest.y == all_of_them.y
    assert fitted(both[:1], "auto").map is None  # nothing to leave out
