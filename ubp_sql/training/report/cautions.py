"""What of a model's figures is not to be trusted, in sentences."""

import math

import numpy as np

from ubp_sql.training.report import words
from ubp_sql.training.report.facts import Facts, HeldOut
from ubp_sql.training.report.measured import Measured, baseline

# Fewer of the rarer outcome, and a resample of them tells little.
FEW = 100
# Standard errors by which a level is off beyond doubt.
SURELY = 3.0
NOT_A_CAUSE = (
    "A score says what a user will do, not what he will do because you wrote to him: only a comparison with users who "
    "got no message shows what a message brings."
)


def cautions(facts: Facts, test: HeldOut, found: Measured) -> list[str]:
    """Most pressing first; what holds of every model comes last."""
    own = _of_amounts(facts, test, found) if facts.task.amount else _of_chances(facts, test, found)
    once = (
        f"It was tested at one moment, {words.day(test.cut)}: in another season it may do better or worse."
        if len(facts.tests) == 1
        else ""
    )
    return [line for line in (*own, once, NOT_A_CAUSE) if line]


def _of_chances(facts: Facts, test: HeldOut, found: Measured) -> list[str]:
    n, did = len(test.labels), int(test.labels.sum())
    rarer = min(did, n - did)
    few = ""
    if rarer < FEW:
        those = "did" if did <= n - did else "did not"
        few = f"Only {words.count(rarer)} of the users tested {those}: every figure here may be far off."
    order = ""
    if found.intervals["auc"][0] <= 0.5:
        order = "Whether it orders users any better than chance is not sure: the interval of AUC holds 0.5."
    return [few, order, _level(facts, test)]


def _level(facts: Facts, test: HeldOut) -> str:
    """Whether chances are too high or too low on the whole."""
    if facts.mapped is not None:
        shown = facts.mapped.bins
        said = sum(one.n * one.score for one in shown) / sum(one.n for one in shown)
    elif facts.map is not None:
        return (
            "The calibration map that chances go through was not tried on this test: how far they are off is unknown."
        )
    else:
        said = float(test.scores.mean())
    share, n = float(test.labels.mean()), len(test.labels)
    if abs(said - share) <= SURELY * math.sqrt(share * (1 - share) / n):
        return ""
    off = "high" if said > share else "low"
    return (
        f"Chances were too {off} in this test: {words.percent(said)} on average, and {words.percent(share)} did. The "
        f"order of the users is not touched by that, a gain reckoned from chances is."
    )


def _of_amounts(facts: Facts, test: HeldOut, found: Measured) -> list[str]:
    came = int((test.labels != 0).sum())
    few = ""
    if came < FEW:
        few = f"Only {words.many(came, 'user')} had an amount other than 0: every figure here may be far off."
    mean = float(test.labels.mean())
    simple = baseline(facts, test).get("mae", math.inf)
    worth, error = "", found.values["mae"]
    if error >= min(simple, float(np.abs(test.labels - mean).mean())):
        worth = "Its predictions are no nearer than something simpler: see the columns beside it."
    low, high = found.intervals["bias"]
    level = ""
    if low > 0 or high < 0:
        off = "much" if low > 0 else "little"
        level = (
            f"It predicted too {off} in this test: {words.number(float(test.scores.mean()))} on average, and "
            f"{words.number(mean)} came. Sums over users are off by as much."
        )
    return [few, worth, level]
