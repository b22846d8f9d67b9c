"""Figures of a task whose score is a chance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ubp_sql.training.report import curves
from ubp_sql.training.report.curves import F64, Bin
from ubp_sql.training.report.drawing import ACCENT, DASHED, GREY, MUTED, SOFT, Drawn, drawn
from ubp_sql.training.report.words import fixed, number, percent, percent_tick

HALF = 0.5


def of_chances(labels: F64, scores: F64, after: Sequence[Bin], known: dict[str, float], png: bool) -> list[Drawn]:
    """All of them; of users with one outcome only, those that need no second one.

    after  bins of the same users by a map that had not seen them, empty where there is none
    """
    single = [_calibration(curves.bins(labels, scores), after, png), _scores(labels, scores, png)]
    if labels.min() == labels.max():
        return single
    return [
        _roc(labels, scores, known["auc"], png),
        _precision_recall(labels, scores, known["pr_auc"], png),
        _gain(labels, scores, png),
        _lift(labels, scores, known["lift_10"], png),
        *single,
    ]


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel=x, ylabel=y)
    axes.xaxis.set_major_formatter(percent_tick)
    axes.yaxis.set_major_formatter(percent_tick)


def _roc(labels: F64, scores: F64, area: float, png: bool) -> Drawn:
    curve = curves.roc(labels, scores)

    def draw(axes: Axes) -> None:
        x, y = curves.thinned(curve)
        axes.fill_between(x, y, color=SOFT, linewidth=0)
        axes.plot(x, y, color=ACCENT)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=DASHED, linewidth=1)
        axes.text(0.97, 0.06, f"area {number(area)}", ha="right", color=ACCENT, fontweight="bold")
        axes.text(0.53, 0.47, "by lot", color=MUTED, fontsize=8.5)
        _unit(axes, "false alarms: share of those who did not", "found: share of those who did")

    tenth = float(np.interp(0.1, curve.x, curve.y))
    return drawn(
        "roc",
        "ROC: how well the score tells the two apart",
        "Each point is a threshold. The area: how often somebody who did scores higher than somebody who did not.",
        f"ROC curve. Area {number(area)}. At 10 % false alarms {percent(tenth, 0)} of those who did are found.",
        draw,
        png=png,
    )


def _precision_recall(labels: F64, scores: F64, area: float, png: bool) -> Drawn:
    curve, base = curves.precision_recall(labels, scores), float(labels.mean())

    def draw(axes: Axes) -> None:
        x, y = curves.thinned(curve)
        axes.plot(x, y, color=ACCENT)
        axes.axhline(base, color=GREY, linestyle=DASHED, linewidth=1)
        axes.text(0.02, base - 0.02, f"by lot: {percent(base)}", va="top", color=MUTED, fontsize=8.5)
        axes.text(0.97, 0.92, f"area {number(area)}", ha="right", color=ACCENT, fontweight="bold")
        _unit(axes, "recall: share of those who did that is chosen", "precision: share of the chosen who did")

    half = float(np.interp(HALF, curve.x, curve.y))
    return drawn(
        "precision-recall",
        "Precision and recall: the price of finding more",
        "Choosing more users, from left to right, finds more of those who did, and more who did not with them.",
        f"Precision over recall. Area {number(area)}. Where half of those who did are chosen, {percent(half, 0)} of "
        f"the chosen did; by lot {percent(base, 0)}.",
        draw,
        png=png,
    )


def _calibration(before: Sequence[Bin], after: Sequence[Bin], png: bool) -> Drawn:
    top = min(1.0, 1.08 * max(max(b.score, b.high) for b in (*before, *after)))

    def points(axes: Axes, part: Sequence[Bin], colour: str, marker: str, name: str) -> None:
        x, y = np.array([b.score for b in part]), np.array([b.label for b in part])
        error = np.array([[b.label - b.low for b in part], [b.high - b.label for b in part]]).clip(0)
        axes.errorbar(
            x, y, error, fmt=marker, color=colour, markersize=4.5, elinewidth=1, capsize=0, label=name, linestyle="none"
        )

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=GREY, linestyle=DASHED, linewidth=1)
        if not after:
            points(axes, before, ACCENT, "o", "score")
        else:
            points(axes, before, GREY, "D", "score of the model")
            points(axes, after, ACCENT, "o", "chance after the calibration map")
            axes.legend(loc="upper left", handletextpad=0.3, borderaxespad=0.2)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted chance", ylabel="share of users who did")
        axes.xaxis.set_major_formatter(percent_tick)
        axes.yaxis.set_major_formatter(percent_tick)

    shown = after or before
    said = "; ".join(f"predicted {percent(b.score)}, happened {percent(b.label)}" for b in shown)
    return drawn(
        "calibration",
        "Calibration: does 30 % mean three in ten?",
        "Ten groups of equally many users; bars are 95 % intervals of the share. On the dashed line a chance "
        "means what it says.",
        f"Calibration in ten groups, lowest first: {said}.",
        draw,
        png=png,
    )


def _gain(labels: F64, scores: F64, png: bool) -> Drawn:
    curve, base = curves.gain(labels, scores), float(labels.mean())
    fifth = float(np.interp(0.2, curve.x, curve.y))

    def draw(axes: Axes) -> None:
        x, y = curves.thinned(curve)
        axes.plot([0, base, 1], [0, 1, 1], color=GREY, linewidth=1, label="nobody does better")
        axes.plot(x, y, color=ACCENT, label=f"{percent(fifth, 0)} in the top fifth")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=DASHED, linewidth=1, label="by lot")
        axes.plot([0.2], [fifth], "o", color=ACCENT, markersize=4.5)
        # Below the diagonal, where no line of a model that is worth showing lies.
        axes.legend(loc="lower right", borderaxespad=0.2)
        _unit(axes, "share of users chosen, highest scores first", "share of those who did among them")

    return drawn(
        "gain",
        "Cumulative gain: how many are reached",
        "How many of those who did would have been reached by writing to the users with the highest scores.",
        f"Cumulative gain. The fifth of users with the highest scores holds {percent(fifth, 0)} of those who did.",
        draw,
        png=png,
    )


def _lift(labels: F64, scores: F64, tenth: float, png: bool) -> Drawn:
    curve = curves.lift(curves.gain(labels, scores))

    def draw(axes: Axes) -> None:
        x, y = curves.thinned(curve)
        axes.plot(x, y, color=ACCENT)
        axes.axhline(1, color=GREY, linestyle=DASHED, linewidth=1)
        axes.plot([0.1], [tenth], "o", color=ACCENT, markersize=4.5)
        # At the foot of the figure: beside its point it would lie on a line that wavers.
        axes.text(0.97, 0.06, f"{fixed(tenth, 2)} times in the top tenth", ha="right", color=ACCENT, fontweight="bold")
        axes.text(0.02, 0.98, "by lot", va="top", color=MUTED, fontsize=8.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.12 * float(y.max())))
        axes.set(xlabel="share of users chosen, highest scores first", ylabel="times as many as by lot")
        axes.xaxis.set_major_formatter(percent_tick)

    return drawn(
        "lift",
        "Lift: how much better than by lot",
        "Times as many of those who did among the chosen as among equally many users chosen by lot.",
        f"Lift. Among the tenth of users with the highest scores {fixed(tenth, 2)} times as many did as by lot.",
        draw,
        png=png,
    )


def _scores(labels: F64, values: F64, png: bool) -> Drawn:
    edges = np.linspace(0, max(float(values.max()), 1e-9), 31)
    width = edges[1] - edges[0]
    did, did_not = (np.histogram(values[labels == outcome], edges)[0] / len(labels) for outcome in (1, 0))

    def draw(axes: Axes) -> None:
        middle = edges[:-1] + width / 2
        axes.bar(middle, did_not, width * 0.86, color=SOFT, label="did not", linewidth=0)
        axes.bar(middle, did, width * 0.86, bottom=did_not, color=ACCENT, label="did", linewidth=0)
        # Above the figure: scores may pile up at either end of it.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, handlelength=1, handleheight=1, borderaxespad=0.2
        )
        axes.set(xlim=(0, edges[-1]), xlabel="score", ylabel="share of users")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(percent_tick)
        axes.yaxis.set_major_formatter(percent_tick)

    low, middle, high = np.percentile(values, [10, 50, 90])
    return drawn(
        "scores",
        "Scores: how they are spread",
        "How many users have which score of the model, and how many of them did.",
        f"Distribution of the scores: a tenth below {percent(low)}, half below {percent(middle)}, a tenth above "
        f"{percent(high)}.",
        draw,
        png=png,
    )
