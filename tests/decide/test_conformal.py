"""Quantiles, intervals and sets against their definitions; coverage where cases are exchangeable."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.models.conformal import INTERVAL, LEVELS, SET, Conformal, interval, outcomes, place_of, scale_at
from ubp_sql.models.conformal_fit import fit_interval, fit_set, levels, newest, scales_at

F64 = NDArray[np.float64]
NUMBERS = st.floats(-1e9, 1e9)
MANY = st.lists(NUMBERS, min_size=1, max_size=300).map(np.array)


@given(st.lists(st.floats(0, 1e9), max_size=60), st.integers(1, LEVELS - 1))
@example([], 1)
@example([1.0], 500)
@example([1.0], 501)
@example([1.0] * 9, 900)
@example([1.0] * 9, 901)
def test_level_is_the_conformal_quantile(errors: list[float], level: int) -> None:
    """The ceil(level * (n + 1))th smallest error, none being as large as that where there are too few."""
    wanted = -(-level * (len(errors) + 1) // LEVELS)
    expected = sorted(errors)[wanted - 1] if wanted <= len(errors) else math.inf
    assert levels(np.array(errors))[level - 1] == expected


def test_coverage_is_rounded_up_to_a_level() -> None:
    for level in range(1, LEVELS):
        assert place_of(level / LEVELS) == level - 1
    assert place_of(0.9001) == 900
    for wrong in (None, 0, 1, 0.9995, -1, math.nan, math.inf):
        with pytest.raises(BadInput, match="coverage is"):
            place_of(wrong)


@given(MANY, st.lists(NUMBERS, min_size=1, max_size=20))
def test_scale_of_one_is_that_of_many(scores: F64, asked: list[float]) -> None:
    labels = np.abs(scores) ** 0.5
    fitted = fit_interval(scores, labels)
    many = scales_at(np.array(fitted.knots), np.array(fitted.scales), np.array(asked))
    one = [scale_at(fitted.knots, fitted.scales, score) for score in asked]
    assert one == pytest.approx(many.tolist(), rel=1e-9)
    assert min(one) > 0


@given(MANY, st.randoms(use_true_random=False), st.integers(1, LEVELS - 1))
@example(np.zeros(60), None, 900)
@example(np.array([5.0]), None, 500)
def test_interval_holds_its_share_of_what_it_was_fitted_on(scores: F64, random: object, level: int) -> None:
    """At least `level` of n + 1 cases, one being still to come, and ends that are no NaN."""
    rng = np.random.default_rng(0 if random is None else random.randrange(2**32))  # type: ignore[attr-defined]
    labels = np.round(np.abs(scores) * rng.exponential(size=len(scores)), 3)
    fitted = fit_interval(scores, labels)
    ends = [interval(fitted, score, level - 1) for score in scores.tolist()]
    if ends[0] is None:
        assert level * (len(scores) + 1) > LEVELS * len(scores)
        return
    inside = 0
    for found, label in zip(ends, labels.tolist(), strict=True):
        assert found is not None
        low, high = found
        inside += low - 1e-6 * (1 + abs(low)) <= label <= high + 1e-6 * (1 + abs(high))
    assert inside * LEVELS >= level * len(scores)


def test_intervals_stay_within_ends_where_amounts_pile_up() -> None:
    rng = np.random.default_rng(1)
    scores = rng.gamma(2.0, 20.0, 3_000)
    bought = rng.random(3_000) < 0.3
    fitted = fit_interval(scores, np.where(bought, scores * rng.gamma(2.0, 1.6, 3_000), 0.0))
    assert (fitted.least, fitted.most) == (0.0, None)
    low, high = interval(fitted, 30.0, 899) or (None, None)
    assert low == 0.0
    assert high is not None
    assert high > 30.0
    days = np.where(bought, np.minimum(30.0, scores), 30.0)
    censored = fit_interval(scores, days)
    assert (censored.least, censored.most) == (0.0, 30.0)
    assert (interval(censored, 29.0, 899) or (0, 0))[1] == 30.0


def test_larger_amounts_get_wider_intervals_beyond_the_largest_group() -> None:
    rng = np.random.default_rng(2)
    scores = rng.gamma(0.5, 200.0, 5_000)
    fitted = fit_interval(scores, scores * rng.exponential(1.0, 5_000))
    widths = [high - low for low, high in (interval(fitted, s, 899) or (0, 0) for s in (50.0, 500.0, 5_000.0))]
    assert widths[0] < widths[1] < widths[2]
    assert widths[2] / widths[1] > 5


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_coverage_of_new_cases_is_the_stated_one(coverage: float) -> None:
    """Exchangeable: mean over fits within four standard errors, of intervals, and of each outcome of sets."""
    rng, place = np.random.default_rng(3), place_of(coverage)
    held: list[float] = []
    sets: dict[float, list[float]] = {0.0: [], 1.0: []}
    for _ in range(40):
        scores = rng.gamma(1.0, 50.0, 800)
        amounts = scores * rng.gamma(1.0, 1.0, 800)
        fitted = fit_interval(scores[:400], amounts[:400])
        ends = [interval(fitted, s, place) or (0.0, 0.0) for s in scores[400:].tolist()]
        held.append(float(np.mean([low <= y <= high for (low, high), y in zip(ends, amounts[400:], strict=True)])))
        chances = rng.random(800)
        came = (rng.random(800) < chances**2).astype(float)
        classes = fit_set(chances[:400], came[:400])
        for outcome, name in ((0.0, "no"), (1.0, "yes")):
            mine = chances[400:][came[400:] == outcome].tolist()
            sets[outcome].append(float(np.mean([name in outcomes(classes, s, place) for s in mine])))
    for shares in (held, *sets.values()):
        assert abs(np.mean(shares) - coverage) < 4 * np.std(shares) / math.sqrt(len(shares)) + 2 / LEVELS


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_coverage_holds_in_each_group_of_scores(coverage: float) -> None:
    """Most of the low scores spend nothing, most of the high ones something: one quantile for all would not do."""
    rng, place = np.random.default_rng(5), place_of(coverage)
    held: list[list[float]] = []
    for _ in range(20):
        scores = rng.gamma(0.6, 50.0, 2_000)
        spends = rng.random(2_000) < scores / (scores + 40.0)
        amounts = np.where(spends, (scores + 40.0) * rng.gamma(2.0, 0.5, 2_000), 0.0)
        fitted = fit_interval(scores[:1_000], amounts[:1_000])
        assert len(fitted.edges) == 4
        ends = np.array([interval(fitted, s, place) for s in scores[1_000:].tolist()])
        inside = (ends[:, 0] <= amounts[1_000:]) & (amounts[1_000:] <= ends[:, 1])
        group = np.searchsorted(fitted.edges, scores[1_000:], side="left")
        held.append([float(inside[group == k].mean()) for k in range(5)])
    means, spread = np.mean(held, axis=0), np.std(held, axis=0) / math.sqrt(len(held))
    assert (means > coverage - 4 * spread).all()
    assert (means < coverage + 4 * spread + 0.03).all()  # clipped ends and zeros tie


def test_intervals_of_what_is_never_below_0_begin_there() -> None:
    """Though no amounts pile up at their lower end."""
    rng = np.random.default_rng(6)
    scores = rng.gamma(2.0, 20.0, 3_000)
    amounts = scores * rng.gamma(0.8, 1.2, 3_000)
    fitted = fit_interval(scores, amounts)
    assert fitted.least == 0.0
    for score in (-50.0, 0.1, 30.0):
        low, high = interval(fitted, score, 949) or (-1.0, -1.0)
        assert (low, high >= low) == (0.0, True)
    assert fit_interval(scores, amounts - 1.0).least is None
    assert fit_interval(scores, np.maximum(amounts, 5.0)).least == 5.0


def test_a_set_holds_both_where_an_outcome_was_hardly_seen() -> None:
    fitted = fit_set(np.array([0.1, 0.2, 0.3] * 40), np.zeros(120))
    assert outcomes(fitted, 0.0, 899) == ["no", "yes"]
    assert outcomes(fitted, 0.9, 899) == ["no", "yes"]
    one_buyer = fit_set(np.append(np.linspace(0.0, 0.4, 200), 0.9), np.append(np.zeros(200), 1.0))
    assert outcomes(one_buyer, 0.9, 899) == ["no", "yes"]
    assert outcomes(one_buyer, 0.9, 499) == ["yes"]  # one case is enough for a half


def test_sets_of_one_both_and_none() -> None:
    rng = np.random.default_rng(4)
    scores = np.concatenate([rng.beta(2, 8, 500), rng.beta(8, 2, 500)])
    fitted = fit_set(scores, np.repeat([0.0, 1.0], 500))
    assert outcomes(fitted, 0.05, 899) == ["no"]
    assert outcomes(fitted, 0.95, 899) == ["yes"]
    assert outcomes(fitted, 0.5, 599) == []
    assert outcomes(fitted, 0.5, 989) == ["no", "yes"]


def moments(*sizes: int, positives: int = 100) -> list[tuple[F64, F64]]:
    return [(np.zeros(size), (np.arange(size) < positives).astype(float)) for size in sizes]


def test_the_newest_moments_count_alone_when_they_are_enough() -> None:
    assert newest(moments(1_000, 5_000), INTERVAL) == 1
    assert newest(moments(600, 399, 1, 5_000), INTERVAL) == 3
    assert newest(moments(600, 100), INTERVAL) == 2
    few = moments(2_000, 2_000, 2_000, positives=50)
    assert newest(few, INTERVAL) == 1
    assert newest(few, SET) == 2


@settings(max_examples=30)
@given(st.floats(-10, 10), st.floats(-10, 10), NUMBERS, st.integers(0, LEVELS - 2))
def test_ends_are_in_order(least: float, most: float, score: float, place: int) -> None:
    least, most = min(least, most), max(least, most)
    fitted = Conformal(INTERVAL, (0.0, 1.0), (1.0, 2.0), (0.3,), (0.5, 0.7) * (LEVELS - 1), least, most, 10)
    low, high = interval(fitted, score, place) or (1.0, 0.0)
    assert least <= low <= high <= most
