"""What acting is worth, and from which chance on, against the four costs written out by hand."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ubp_sql.errors import BadInput
from ubp_sql.models.decisions import MOST, OUTCOMES, CostMatrix, Stakes, affordable, cost_matrix, money, shown

CHANCES = st.floats(0, 1)
SUMS = st.floats(0, 1e6)
COSTS = st.floats(-1e6, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*OUTCOMES, "x"]), inner, max_size=5),
    max_leaves=8,
)


def matrix(*costs: float) -> CostMatrix:
    return CostMatrix(dict(zip(OUTCOMES, costs, strict=True)))


@given(CHANCES, SUMS, SUMS)
@example(0.5, 10, 5)
@example(0, 0, 0)
def test_acts_where_gain_exceeds_cost(p: float, gain: float, cost: float) -> None:
    act, profit, reason = Stakes(gain, cost).verdict(p)
    assert profit == p * gain - cost
    assert act is (p * gain > cost)
    assert reason.startswith("acting pays" if act else "acting does not pay")
    assert "\n" not in reason


@given(CHANCES, SUMS, SUMS)
def test_gain_and_cost_are_a_cost_matrix(p: float, gain: float, cost: float) -> None:
    """cost is spent on everybody, gain comes where the outcome does, skipping is free."""
    _, profit, _ = Stakes(gain, cost).verdict(p)
    _, saved, _ = matrix(cost - gain, cost, 0, 0).verdict(p)
    assert saved == pytest.approx(profit, rel=1e-9, abs=1e-9 * (gain + cost))


@given(CHANCES, COSTS, COSTS, COSTS, COSTS)
def test_matrix_takes_what_costs_less_on_average(p: float, ay: float, an: float, sy: float, sn: float) -> None:
    act, profit, _ = matrix(ay, an, sy, sn).verdict(p)
    expected = (p * sy + (1 - p) * sn) - (p * ay + (1 - p) * an)
    assert profit == expected
    assert act is (expected > 0)


@given(CHANCES, COSTS, COSTS, COSTS, COSTS)
@example(0.5, 0, 1, 1, 0)
@example(0.2, -35, 5, 0, 0)
def test_threshold_is_where_acting_begins_to_pay(p: float, ay: float, an: float, sy: float, sn: float) -> None:
    costs = matrix(ay, an, sy, sn)
    if an < sn or sy < ay or (an == sn and sy == ay):
        with pytest.raises(BadInput, match="no threshold"):
            costs.threshold()
        return
    threshold = costs.threshold()
    assert 0 <= threshold <= 1
    act, profit, _ = costs.verdict(p)
    assert profit is not None
    scale = max(map(abs, (ay, an, sy, sn, 1.0)))
    if abs(profit) > 1e-9 * scale:  # beside it, rounding decides
        assert act is (p > threshold)


def test_a_matrix_weighs_only_chances() -> None:
    assert matrix(-35, 5, 0, 0).verdict(1.01)[:2] == (None, None)
    assert "chance" in matrix(-35, 5, 0, 0).verdict(-0.1)[2]


@pytest.mark.parametrize("wrong", [None, -0.01, math.nan, math.inf, -math.inf, 2 * MOST])
def test_sums_that_are_none(wrong: float | None) -> None:
    with pytest.raises(BadInput, match="gain is"):
        Stakes(wrong, 1.0)
    with pytest.raises(BadInput, match="cost is"):
        Stakes(1.0, wrong)


@given(st.floats(allow_nan=False))
def test_any_score_gets_a_verdict(score: float) -> None:
    """Of amounts that no sum of money can weigh, none: never NaN, never infinite."""
    act, profit, _ = Stakes(MOST, 0.0).verdict(score)
    assert (act is None) == (profit is None)
    assert profit is None or math.isfinite(profit)


@given(JSON)
@example(dict.fromkeys(OUTCOMES, 10**400))
@example(dict.fromkeys(OUTCOMES, True))
@example(dict.fromkeys(OUTCOMES, math.inf))
@example({**dict.fromkeys(OUTCOMES, 0), "x": 1})
def test_costs_are_four_numbers_or_refused(costs: object) -> None:
    good = (
        isinstance(costs, dict)
        and set(costs) == set(OUTCOMES)
        and all(type(v) in (int, float) and abs(v) <= MOST for v in costs.values())
    )
    if good:
        cost_matrix(costs).verdict(0.5)
        return
    with pytest.raises(BadInput) as caught:
        cost_matrix(costs)
    assert "\n" not in caught.value.message
    assert json.loads(str(caught.value.hint).split("'")[1]).keys() == set(OUTCOMES)


@given(st.none() | st.integers(0, 10**9), st.none() | SUMS, st.none() | st.floats(1e-3, 1e6))
def test_funds_divide_by_the_cost(budget: int | None, funds: float | None, cost: float | None) -> None:
    if funds is not None and cost is None:
        with pytest.raises(BadInput, match="without a cost"):
            affordable(budget, funds, cost)
        return
    users = affordable(budget, funds, cost)
    limits = [] if budget is None else [budget]
    if funds is not None and cost is not None:
        limits.append(int(funds / cost))
    assert users == (min(limits) if limits else None)


def test_limits_that_are_none() -> None:
    for arguments in ((-1, None, None), (None, -1.0, 1.0), (None, 5.0, 0.0), (None, math.nan, 1.0), (1, 1.0, math.nan)):
        with pytest.raises(BadInput):
            affordable(*arguments)
    assert affordable(None, MOST, 5e-324) == 2**62


@pytest.mark.parametrize(
    ("value", "text"), [(0.31234567, "0.3123"), (12.5, "12.5"), (12345.6, "12,346"), (-0.5, "-0.5"), (1e20, "1e+20")]
)
def test_numbers_in_sentences(value: float, text: str) -> None:
    assert shown(value) == text


def test_money_is_a_float() -> None:
    assert isinstance(money("gain", 3), float)
