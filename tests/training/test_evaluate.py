"""Metrics on examples small enough to work out by hand."""

import math

import numpy as np
import pytest

from ubp_sql.training.evaluate import as_rows, bootstrap, calibration_error, lift, metrics
from ubp_sql.training.fit import shift_to

LABELS = np.array([0, 0, 1, 0, 1, 0, 0, 1, 1, 1], np.uint8)
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]) - 0.05


def test_all_metrics_by_hand() -> None:
    found = metrics(LABELS, SCORES)
    pairs = [(p, n) for p in SCORES[LABELS == 1] for n in SCORES[LABELS == 0]]
    assert found["auc"] == pytest.approx(sum(p > n for p, n in pairs) / len(pairs))
    ranked = LABELS[::-1]
    precisions = [ranked[: k + 1].mean() for k in range(10) if ranked[k]]
    assert found["pr_auc"] == pytest.approx(sum(precisions) / len(precisions))
    said = [s if y else 1 - s for s, y in zip(SCORES, LABELS, strict=True)]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, said)) / 10)
    assert found["brier"] == pytest.approx(sum((1 - s) ** 2 for s in said) / 10)
    assert set(found) == {"auc", "pr_auc", "log_loss", "brier", "calibration_error", "lift_10"}


def test_calibration_error() -> None:
    labels = np.array([0, 0, 0, 1], np.uint8)
    assert calibration_error(labels, np.full(4, 0.25), bins=1) == 0
    assert calibration_error(labels, np.full(4, 0.5), bins=1) == 0.25
    # two bins of two: |0.1 - 0| and |0.5 - 0.5|
    assert calibration_error(labels, np.array([0.1, 0.1, 0.5, 0.5]), bins=2) == pytest.approx(0.05)
    # bins of 2 and 1: weighted by their size; the order of the rows does not matter
    three = (np.array([1, 0, 0], np.uint8), np.array([0.9, 0.2, 0.4]))
    assert calibration_error(*three, bins=2) == pytest.approx((2 * 0.3 + 1 * 0.1) / 3)
    assert calibration_error(np.array([1], np.uint8), np.array([0.75])) == 0.25


def test_lift() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0] * 2, np.uint8)
    scores = -np.arange(20.0)
    assert lift(labels, scores) == pytest.approx(1.0 / 0.2)  # both of the best two
    assert lift(labels, -scores) == 0
    assert lift(labels, scores, share=1.0) == 1
    assert lift(np.array([1, 0], np.uint8), np.array([0.9, 0.1])) == 2  # never fewer than one


def test_bootstrap_interval_holds_the_value_and_is_repeatable() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(400)
    labels = (rng.random(400) < scores).astype(np.uint8)
    found = bootstrap(labels, scores, rounds=60)
    low, high = found["auc"]
    assert low < metrics(labels, scores)["auc"] < high
    assert high - low < 0.15
    assert bootstrap(labels, scores, rounds=60) == found


def test_rows_of_the_registry() -> None:
    (row,) = as_rows("2024-01-01", LABELS, {"auc": 0.5}, "how")
    assert row == {"cut": "2024-01-01", "metric": "auc", "value": 0.5, "n": 10, "positives": 5, "protocol": "how"}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_shift_meets_the_share(share: float) -> None:
    raw = np.random.default_rng(0).normal(-1, 2, 500)
    shifted = raw + shift_to(raw, share)
    assert (1 / (1 + np.exp(-shifted))).mean() == pytest.approx(share, abs=1e-9)
