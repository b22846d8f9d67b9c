"""Metrics of resampled users against the trainer's own, and curves against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.made import held_out
from ubp_sql.training.evaluate import amount_metrics, metrics
from ubp_sql.training.report import curves, resample

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 4)), min_size=2, max_size=40)


@given(rows=ROWS)
@settings(max_examples=150, deadline=None)
def test_a_resample_is_measured_as_its_users_would_be(rows: list[tuple[int, int, int]]) -> None:
    """A user drawn k times counts as k users. (Equal scores: their order decides the last two.)"""
    rows = sorted(rows, key=lambda row: row[1])
    labels, scores, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    scores = 0.05 + scores / 10
    drawn = np.repeat(np.arange(len(labels)), counts.astype(int))
    if not 0 < labels[drawn].sum() < len(drawn):
        return
    found = resample.of_chances(labels, scores, counts[None])
    expected = metrics(labels[drawn].astype(np.uint8), scores[drawn])
    tied = len(np.unique(scores[drawn])) < len(drawn)
    for name, value in expected.items():
        if not (tied and name in ("lift_10", "calibration_error")):
            assert found[name][0] == pytest.approx(value, abs=1e-12), name


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_lift_and_calibration_error_of_a_resample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.random(rng.integers(11, 60)))
    labels = rng.integers(0, 2, len(scores)).astype(float)
    counts = rng.integers(0, 4, len(scores)).astype(float)
    drawn = np.repeat(np.arange(len(labels)), counts.astype(int))
    if not 0 < labels[drawn].sum() < len(drawn):
        return
    # The same user drawn twice has the same outcome, so which of the two comes first does not matter.
    expected = metrics(labels[drawn].astype(np.uint8), scores[drawn])
    found = resample.of_chances(labels, scores, counts[None])
    for name in ("lift_10", "calibration_error"):
        assert found[name][0] == pytest.approx(expected[name], abs=1e-12), name


@given(
    rows=st.lists(st.tuples(st.integers(-3, 9), st.integers(-3, 9), st.integers(0, 3)), min_size=2, max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_amounts_of_a_resample(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    drawn = np.repeat(np.arange(len(labels)), counts.astype(int))
    if len(drawn) == 0 or any(len(np.unique(values[drawn])) < 2 for values in (labels, scores)):
        return
    found = resample.of_amounts(labels, scores, counts[None])
    expected = amount_metrics(labels[drawn], scores[drawn])
    assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("amount", [False, True])
def test_intervals_hold_the_value_and_are_the_same_again(amount: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = held_out(800, amount=amount)
    measure = resample.of_amounts if amount else resample.of_chances
    order = np.argsort(scores, kind="stable")
    value = measure(labels[order], scores[order], np.ones((1, len(labels))))
    found = resample.intervals(measure, labels, scores)
    for name, (low, high) in found.items():
        # A resample adds to the calibration error what chance adds: its interval comes from elsewhere.
        assert name == "calibration_error" or low < value[name][0] < high, name
    monkeypatch.setattr(resample, "CELLS", 7_000)
    portions = resample.intervals(measure, labels, scores)
    assert all(portions[name] == pytest.approx(ends) for name, ends in found.items())


def test_intervals_of_a_mean_are_those_of_its_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "ROUNDS", 6_000)
    rng = np.random.default_rng(0)
    labels, scores = (rng.random(400) < 0.3).astype(float), rng.random(400)
    low, high = resample.intervals(resample.of_chances, labels, scores)["brier"]
    losses = (scores - labels) ** 2
    assert (high - low) / 2 == pytest.approx(1.96 * losses.std() / np.sqrt(400), rel=0.05)


def test_fewer_rounds_for_more_users() -> None:
    assert [resample.rounds_for(n) for n in (10, 400_000, 1_000_000, 10**9)] == [500, 500, 200, 100]


@pytest.mark.parametrize("decimals", [1, 6])
def test_curves(decimals: int) -> None:
    labels, scores = held_out(500)
    scores = scores.round(decimals)
    expected = metrics(labels.astype(np.uint8), scores)
    roc = curves.roc(labels, scores)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(expected["auc"])
    curve = curves.precision_recall(labels, scores)
    assert (np.diff(curve.x) * curve.y[1:]).sum() == pytest.approx(expected["pr_auc"])
    gain = curves.gain(labels, scores)
    assert (gain.x[0], gain.y[0], gain.x[-1], gain.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(gain.y, gain.x) == pytest.approx(labels.mean() / 2 + (1 - labels.mean()) * expected["auc"])
    lift = curves.lift(gain)
    assert lift.y[-1] == 1
    thin = curves.thinned(curve, 20)
    assert len(thin.x) <= 20
    assert (thin.x[0], thin.x[-1]) == (curve.x[0], curve.x[-1])
    assert set(thin.x) <= set(curve.x)


def test_lift_at_a_tenth_is_the_curve_s() -> None:
    labels, scores = held_out(1_000)
    scores = scores + np.arange(1_000) * 1e-9
    lift = curves.lift(curves.gain(labels, scores))
    assert np.interp(0.1, lift.x, lift.y) == pytest.approx(metrics(labels.astype(np.uint8), scores)["lift_10"])


def test_bins_and_their_intervals() -> None:
    labels, scores = held_out(1_003)
    found = curves.bins(labels, scores)
    assert [b.n for b in found] == [101, 101, 101, 100, 100, 100, 100, 100, 100, 100]
    assert sum(b.n * b.label for b in found) == pytest.approx(labels.sum())
    assert all(b.low <= b.label <= b.high for b in found)
    assert curves.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert curves.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    amounts = curves.amount_bins(*held_out(50, amount=True))
    assert all(b.low <= b.label <= b.high for b in amounts)
    assert len(curves.bins(np.array([1.0, 0.0]), np.array([0.3, 0.2]))) == 2
