"""The words of a reason, without a database."""

import math
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ubp_sql.models.reasons import Told, tell

FEATURES = ("visits", "spent")
MEANINGS = ("Visits in 30 days.", "Spent so far")


def logistic(raw: float) -> float:
    return 1 / (1 + math.exp(-raw)) if raw > 0 else math.exp(raw) / (1 + math.exp(raw))  # beyond exp's range too


CHANCE = Told(FEATURES, MEANINGS, True, logistic, None)
AMOUNT = Told(FEATURES, MEANINGS, False, lambda raw: raw, None)


@pytest.mark.parametrize(
    ("told", "raw", "contribution", "said"),
    [
        (CHANCE, 0.0, 1.0, "raises the chance by 23.1 points"),
        (CHANCE, 0.0, -1.0, "lowers the chance by 23.1 points"),
        (CHANCE, -8.0, 1.0, "raises the chance by 0.021 points"),
        (CHANCE, -30.0, 1.0, "raises the chance by less than 0.001 points"),
        (CHANCE, 800.0, 1.0, "leaves the chance as it is"),
        (AMOUNT, 50.0, 12.34, "raises the amount by 12.3"),
        (AMOUNT, 50.0, -12_345.6, "lowers the amount by 12,346"),
        (AMOUNT, 0.5, 0.25, "raises the amount by 0.25"),
        (Told(FEATURES, MEANINGS, True, lambda raw: raw, None), 3.0, 1.0, "raises the score by 1.0"),
        (
            Told(FEATURES, MEANINGS, True, logistic, lambda score: score / 2),
            0.0,
            1.0,
            "raises the chance by 11.6 points",
        ),
    ],
)
def test_a_change(told: Told, raw: float, contribution: float, said: str) -> None:
    assert told.change(raw, contribution) == said


def test_rows() -> None:
    rows = tell(AMOUNT, array("f", [3, math.nan]), (2.0, 0.1), 7.0, 4.0, [1.0, 2.0], 5)
    assert rows == [
        (0, "(base)", None, None, 4.0, "of nobody in particular: 4.0"),
        (1, "spent", None, 0.1, 2.0, "Spent so far (missing): raises the amount by 2.0"),
        (2, "visits", 3.0, 2.0, 1.0, "Visits in 30 days: raises the amount by 1.0"),
    ]
    assert tell(AMOUNT, array("f", [3, 1]), None, 4.0, 4.0, [0.0, 0.0], 5) == rows[:1], "what adds nothing is left out"
    _, first, rest = tell(AMOUNT, array("f", [3, 1]), None, 2.0, 4.0, [-1.0, -1.0], 1)
    assert first[1] == "visits", "the first of equals"
    assert rest == (2, "(others)", None, None, -1.0, "1 other feature: lowers the amount by 1.0")


@given(
    base=st.floats(-100, 100),
    contributions=st.lists(st.floats(-100, 100), min_size=1, max_size=30),
    top=st.integers(1, 2**31 - 1),
)
def test_the_rows_sum_to_the_raw_score(base: float, contributions: list[float], top: int) -> None:
    names = [f"f{j}" for j in range(len(contributions))]
    raw = math.fsum((base, *contributions))
    rows = tell(Told(names, names, True, logistic, None), contributions, contributions, raw, base, contributions, top)
    assert len(rows) <= min(top, len(contributions)) + 2
    assert [row[0] for row in rows] == list(range(len(rows)))
    total = 0.0
    for row in rows:
        total += row[4]
    assert abs(total - raw) <= 1e-12


@given(st.floats(width=32))
@example(1000000064.0)
@example(6.025583396596713e-44)
def test_values_are_theirs_in_nine_digits(x: float) -> None:
    """As real prints them."""
    (row, *_) = tell(AMOUNT, array("f", [x, 0]), None, 1.0, 0.0, [1.0, 0.0], 1)[1:]
    if math.isnan(x):
        assert row[2] is None
    else:
        assert row[2] is not None
        assert array("f", [row[2]])[0] == x
        assert math.isinf(x) or float(f"{row[2]:.9g}") == row[2]
