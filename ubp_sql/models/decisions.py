"""What acting on a prediction is worth, and from which chance on it pays.

Source: Elkan 2001, The foundations of cost-sensitive learning (section 2: the optimal decision, the threshold, and
what makes a cost matrix reasonable).
"""

from __future__ import annotations

from ubp_sql.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Verdict = tuple[bool | None, float | None, str]

MOST = 1e15  # of any money: sums and products of it stay far from where doubles end
MOST_WORTH = 1e290  # of acting on one user: the sum over everybody is a double too
OUTCOMES = ("act_yes", "act_no", "skip_yes", "skip_no")
EXAMPLE = '\'{"act_yes": -35, "act_no": 5, "skip_yes": 0, "skip_no": 0}\': four costs, a gain being a negative one'


class Stakes:
    """A gain where the outcome comes, or a share of an amount, against a cost of acting.

    most_score  size up to which a score is weighed

    Raises BadInput (UB003) unless both are numbers from 0 to MOST.
    """

    def __init__(self, gain: float | None, cost: float | None) -> None:
        self.gain, self.cost = money("gain", gain), money("cost", cost)
        self.most_score = MOST_WORTH / max(self.gain, 1.0)

    def verdict(self, value: float) -> Verdict:
        """(act, expected profit of acting, why)."""
        if not abs(value) <= self.most_score:
            return None, None, f"the score {shown(value)} is beyond what can be weighed"
        profit = value * self.gain - self.cost
        sides = f"{shown(value)} x {shown(self.gain)} is"
        if profit > 0.0:
            return True, profit, f"acting pays: {sides} more than the cost of {shown(self.cost)}"
        how = f"less than the cost of {shown(self.cost)}" if profit < 0.0 else "the cost, acting gains nothing"
        return False, profit, f"acting does not pay: {sides} {how}"


class CostMatrix:
    """What acting and skipping cost, for each of the two outcomes."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.act_yes, self.act_no, self.skip_yes, self.skip_no = (costs[name] for name in OUTCOMES)

    def verdict(self, value: float) -> Verdict:
        """(act, what acting saves on average over skipping, why)."""
        if not 0.0 <= value <= 1.0:
            return None, None, f"a cost matrix weighs a chance, and the score is {shown(value)}"
        act = value * self.act_yes + (1.0 - value) * self.act_no
        skip = value * self.skip_yes + (1.0 - value) * self.skip_no
        profit = skip - act
        pays = "pays" if profit > 0.0 else "does not pay"
        costs = f"on average it costs {shown(act)}, skipping {shown(skip)}"
        return profit > 0.0, profit, f"acting {pays} at a chance of {shown(value)}: {costs}"

    def threshold(self) -> float:
        """The chance above which acting pays.

        Raises BadInput (UB003) where there is none: where acting is never, or always, the better choice.
        """
        alarm, miss = self.act_no - self.skip_no, self.skip_yes - self.act_yes
        if alarm < 0.0 or miss < 0.0 or alarm + miss == 0.0:
            raise BadInput(
                "these costs have no threshold: acting has to cost more than skipping where the outcome does not come,"
                " and less where it comes",
                "act_no >= skip_no and act_yes <= skip_yes, not both equal; ubp.decide takes any four costs",
            )
        return alarm / (alarm + miss)


def money(name: str, value: float | None) -> float:
    """A sum from 0 to MOST. Raises BadInput (UB003)."""
    if value is None or not 0.0 <= value <= MOST:
        raise BadInput(f"{name} is {'NULL' if value is None else value}", f"a number from 0 to {MOST:g}")
    return float(value)


def cost_matrix(costs: Any) -> CostMatrix:
    """Of an object with the four OUTCOMES. Raises BadInput (UB003)."""
    if not isinstance(costs, dict) or set(costs) != set(OUTCOMES):
        raise BadInput(f"costs are not an object with {', '.join(OUTCOMES)}", EXAMPLE)
    found = {}
    for name in OUTCOMES:
        value = costs[name]
        # Compared as it is: a whole number of JSON may be too large for a double.
        if not isinstance(value, int | float) or isinstance(value, bool) or not -MOST <= value <= MOST:
            raise BadInput(f"cost {name} is no number between -{MOST:g} and {MOST:g}", EXAMPLE)
        found[name] = float(value)
    return CostMatrix(found)


def affordable(budget: int | None, funds: float | None, cost: float | None) -> int | None:
    """How many users can be acted on: `budget`, and no more than `funds` pay for; None: no limit.

    Raises BadInput (UB003).
    """
    if budget is not None and budget < 0:
        raise BadInput(f"budget is {budget}", "a number of users, from 0 on")
    if funds is None:
        return budget
    if cost is None or money("cost", cost) == 0.0:
        raise BadInput(
            "funds say nothing about how many users without a cost above 0", "cost is what acting on a user takes"
        )
    users = int(min(money("funds", funds) / cost, 2.0**62))
    return users if budget is None else min(users, budget)


def shown(value: float) -> str:
    """A number in a sentence: four digits of a small one, the whole units of a large one."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e16 else f"{value:.4g}"
