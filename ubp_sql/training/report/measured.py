"""How good a model is: its metrics on the newest test with their intervals, in a table that explains them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ubp_sql.training.report import curves, resample, words
from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.facts import Facts, HeldOut
from ubp_sql.training.report.shown import Cell, Row, Table


class Line(NamedTuple):
    """A metric: name in the database, title, what it says, digits after the point; None where it has a unit."""

    metric: str
    title: str
    said: str
    digits: int | None

    def told(self, value: float | None) -> str:
        return words.number(value) if self.digits is None else words.fixed(value, self.digits)


CHANCE = (
    Line("auc", "AUC", "of two users, one who did and one who did not, how often the one who did scores higher", 3),
    Line("pr_auc", "PR AUC", "share of the chosen who did, averaged over how many are found", 3),
    Line("lift_10", "Lift at 10 %", "times as many who did in the top tenth as in a tenth chosen by lot", 2),
    Line("log_loss", "Log loss", "how surprising the outcomes are; lower is better", 4),
    Line("brier", "Brier score", "mean squared distance of chance and outcome; lower is better", 4),
    Line(
        "calibration_error", "Calibration error", "mean distance of a chance from the share that did; 0 is perfect", 3
    ),
)
AMOUNT = (
    Line("spearman", "Rank correlation", "how well the order of the users is right; 1 is perfect", 3),
    Line("r2", "R²", "share of the differences between users that is explained", 3),
    Line("mae", "Mean absolute error", "how far off a prediction is; lower is better", None),
    Line("rmse", "Root mean squared error", "the same, with large errors weighing more; lower is better", None),
    Line("bias", "Bias", "mean prediction less mean outcome", None),
)


BASELINE = "baseline_"


class Measured(NamedTuple):
    """Values of the newest test by metric, and their 95 % intervals."""

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def measured(test: HeldOut, amount: bool) -> Measured:
    """Computed anew from the users of the test, so that value and interval are of the same ones."""
    order = np.argsort(test.scores, kind="stable")
    labels, scores = test.labels[order], test.scores[order]
    measure = resample.of_amounts if amount else resample.of_chances
    once = measure(labels, scores, np.ones((1, len(labels))))
    return Measured(
        {name: float(value[0]) for name, value in once.items()}, resample.intervals(measure, labels, scores)
    )


def table(facts: Facts, test: HeldOut, found: Measured) -> Table:
    """Metrics of the newest test: model, after its map, and what a guess gets."""
    before, after = facts.calibration.get(False), facts.mapped
    lines = AMOUNT if facts.task.amount else CHANCE
    guess, simple = _of_guess(test.labels, facts.task.amount), baseline(facts, test)
    mapped: dict[str, Cell] = {}
    intervals = dict(found.intervals)
    if before is not None:
        # Less the bias that chance adds to it, which a plain resample would add once more.
        intervals["calibration_error"] = before.low, before.high
    if after is not None:
        mapped = {
            "log_loss": Cell(words.fixed(after.log_loss, 4)),
            "brier": Cell(words.fixed(after.brier, 4)),
            "calibration_error": Cell(
                words.fixed(after.error, 3),
                _interval((after.low, after.high), lambda value: words.fixed(value, 3)),
            ),
        }
    rows = []
    for line in lines:
        if line.metric not in found.values:
            continue
        cells = [Cell(line.title, line.said)]
        cells.append(Cell(line.told(found.values[line.metric]), _interval(intervals[line.metric], line.told)))
        if after is not None:
            cells.append(mapped.get(line.metric, Cell("the same")))
        if simple:
            cells.append(Cell(line.told(simple.get(line.metric))))
        cells.append(Cell(line.told(guess.get(line.metric))))
        rows.append(Row(cells))
    heads = [
        "",
        "model",
        *(["after the map"] if after is not None else []),
        *(["baseline"] if simple else []),
        "a guess",
    ]
    return Table(f"Held-out users at {words.moment(test.cut)}, with 95 % intervals", heads, rows)


def baseline(facts: Facts, test: HeldOut) -> dict[str, float]:
    """What something simpler got on the same users, by metric; empty where none is stored."""
    return {
        row["metric"].removeprefix(BASELINE): row["value"]
        for row in facts.metrics
        if row["cut"] == test.cut and row["metric"].startswith(BASELINE)
    }


def _interval(ends: tuple[float, float], tell: Callable[[float], str]) -> str:
    low, high = ends
    return "" if np.isnan(low) else words.between(low, high, tell)


def _of_guess(labels: F64, amount: bool) -> dict[str, float]:
    """What the same number for everybody gets: the share of those who did, or the mean amount."""
    base = float(labels.mean())
    if amount:
        apart = labels - base
        return {"r2": 0.0, "mae": float(np.abs(apart).mean()), "rmse": float(np.sqrt((apart**2).mean())), "bias": 0.0}
    entropy = -base * np.log(base) - (1 - base) * np.log(1 - base) if 0 < base < 1 else 0.0
    return {"auc": 0.5, "pr_auc": base, "lift_10": 1.0, "log_loss": float(entropy), "brier": base * (1 - base)}


def by_cut(facts: Facts) -> Table | None:
    """Stored metrics of every test, if there is more than one or no users of them are kept."""
    moments: dict[str, dict[str, float]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for row in facts.metrics:
        at = words.short_day(row["cut"])
        moments.setdefault(at, {})[row["metric"]] = row["value"]
        sizes[at] = row["n"], row["positives"]
    if not moments or (len(moments) < 2 and facts.tests):
        return None
    lines = [
        line
        for line in (AMOUNT if facts.task.amount else CHANCE)
        if any(line.metric in values for values in moments.values())
    ]
    rows = []
    for at, values in moments.items():
        n, positives = sizes[at]
        share = Cell(words.percent(positives / n) if n else words.NOTHING)
        rows.append(
            Row(
                [
                    Cell(at),
                    Cell(words.count(n)),
                    share,
                    *(Cell(x.told(values.get(x.metric))) for x in lines),
                ]
            )
        )
    did = "above 0" if facts.task.amount else "did"
    return Table("Every moment it was tested at", ["moment", "users", did, *(line.title for line in lines)], rows)


def tenths(test: HeldOut, amount: bool) -> Table:
    """Ten groups of equally many users, the highest scores first."""
    groups = (curves.amount_bins if amount else curves.bins)(test.labels, test.scores)[::-1]
    base, tell = float(test.labels.mean()), (words.number if amount else words.percent)
    most = max((group.label for group in groups), default=0) or 1
    rows, reached, total = [], 0.0, float(test.labels.sum())
    for place, group in enumerate(groups, 1):
        reached += group.n * group.label
        rows.append(
            Row(
                [
                    Cell(str(place)),
                    Cell(words.count(group.n)),
                    Cell(tell(group.score)),
                    Cell(tell(group.label), words.between(group.low, group.high, tell)),
                    Cell(f"{words.fixed(group.label / base, 2)} ×" if base else words.NOTHING),
                    Cell(words.percent(reached / total, 0) if total else words.NOTHING),
                ],
                round(100 * max(group.label, 0) / most, 1),
            )
        )
    heads = ["tenth", "users", "mean predicted" if amount else "mean score", "mean actual" if amount else "did", "lift"]
    return Table("Ten groups of equally many users, highest scores first", [*heads, "reached so far", ""], rows)
