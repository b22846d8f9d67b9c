"""How far chances are from what came: the same figure as elsewhere, and intervals that mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ubp_sql.models.calibration_error import bins, drift_of, measured, shift
from ubp_sql.training.evaluate import calibration_error

RNG = np.random.default_rng


def perfect(n: int, seed: int, moved: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and chances whose log odds lie `moved` below the truth."""
    rng = RNG(seed)
    chance = rng.beta(2, 4, n)
    truth = 1 / (1 + (1 / chance - 1) * np.exp(-moved))
    return (rng.random(n) < truth).astype(float), chance


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_error_is_that_of_the_training_side(pairs: list[tuple[bool, float]]) -> None:
    labels, chances = (np.array(column, float) for column in zip(*pairs, strict=True))
    assert bins(labels, chances).error == pytest.approx(calibration_error(labels.astype(np.uint8), chances))
    found = measured(labels, chances, 0.1, rounds=5)
    assert 0 <= found.low <= found.high
    assert found.log_loss >= 0


def test_what_is_right_cannot_be_told_from_right() -> None:
    found = [measured(*perfect(2_000, seed), rounds=200) for seed in range(40)]
    assert sum(one.error <= one.by_chance for one in found) >= 35
    assert sum(one.low == 0 for one in found) >= 35
    assert sum(one.error > one.high for one in found) <= 8


def test_what_is_wrong_can() -> None:
    found = measured(*perfect(4_000, 1, moved=0.4))
    assert found.error > found.by_chance > 0
    assert 0.05 < found.low < found.error
    assert found.with_drift is None


@pytest.mark.parametrize("moved", [-2.0, -0.3, 0.0, 0.5])
def test_a_shift_is_found(moved: float) -> None:
    assert shift(*perfect(20_000, 2, moved)) == pytest.approx(moved, abs=0.06)


def test_drift_between_moments() -> None:
    rng = RNG(5)
    moves = rng.normal(0, 0.3, 30)
    assert drift_of([perfect(3_000, seed, move) for seed, move in enumerate(moves)]) == pytest.approx(0.3, abs=0.08)
    assert drift_of([perfect(3_000, seed) for seed in range(30)]) == pytest.approx(0.0, abs=0.03)
    assert drift_of([perfect(3_000, seed) for seed in range(2)]) is None
    drifting = measured(*perfect(3_000, 1, 0.25), drift=0.3)
    assert drifting.by_chance < drifting.error < (drifting.with_drift or 0)


def test_pauses_between_rounds() -> None:
    calls: list[int] = []
    measured(*perfect(100, 1), between=lambda: calls.append(1), rounds=7)
    assert len(calls) == 7
    drift_of([perfect(50, seed) for seed in range(3)], lambda: calls.append(1))
    assert len(calls) == 7 + 3 * 50
