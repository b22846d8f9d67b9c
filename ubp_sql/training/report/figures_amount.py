"""Figures of a task whose score is an amount: what is predicted is a number, as money or days."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ubp_sql.training.report import curves
from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.drawing import ACCENT, DASHED, GREY, MUTED, SOFT, Drawn, drawn
from ubp_sql.training.report.words import number, percent

SHADES = (0.18, 0.38, 0.62, 0.9)


def of_amounts(labels: F64, scores: F64, png: bool) -> list[Drawn]:
    """Predicted against actual, one by one and in ten groups, the error of each group, and what is left over."""
    return [
        _each(labels, scores, png),
        _groups(labels, scores, png),
        _errors(labels, scores, png),
        _residuals(labels, scores, png),
    ]


def _plain(axes: Axes, *which: str) -> None:
    short = FuncFormatter(lambda value, _: number(value))
    for name in which:
        getattr(axes, f"{name}axis").set_major_formatter(short)


def _each(labels: F64, scores: F64, png: bool) -> Drawn:
    """Counts of users on a grid even in the square root, where most of the skewed amounts would else be one point."""
    top = float(max(np.percentile(labels, 99.5), np.percentile(scores, 99.5), 1e-9))
    low = float(min(labels.min(), scores.min(), 0.0))
    # 0 stays 0, so that "nothing" is a row of its own
    grid = np.concatenate([[-np.sqrt(-low)] if low < 0 else [], np.linspace(0, np.sqrt(top), 25)])
    turned = [np.sign(v) * np.sqrt(np.abs(v.clip(low, top))) for v in (scores, labels)]
    counts, _, _ = np.histogram2d(*turned, bins=[grid, grid])
    levels = [0, *np.percentile(counts[counts > 0], [50, 80, 95]), np.inf]

    def draw(axes: Axes) -> None:
        for shade, least, most in zip(SHADES, levels[:-1], levels[1:], strict=True):
            x, y = np.nonzero((counts > least) & (counts <= most))
            for column, row in zip(x, y, strict=True):
                axes.fill(
                    grid[[column, column + 1, column + 1, column]],
                    grid[[row, row, row + 1, row + 1]],
                    color=ACCENT,
                    alpha=shade,
                    linewidth=0,
                )
        axes.plot(grid[[0, -1]], grid[[0, -1]], color=GREY, linestyle=DASHED, linewidth=1)
        axes.set(xlim=grid[[0, -1]], ylim=grid[[0, -1]], xlabel="predicted", ylabel="actual")
        marks = np.array([0, 0.04, 0.16, 0.36, 0.64, 1.0]) * top
        rounded = [float(f"{mark:.1g}") for mark in marks]
        at = np.sqrt(rounded)
        axes.set_xticks(at, [number(mark) for mark in rounded])
        axes.set_yticks(at, [number(mark) for mark in rounded])

    return drawn(
        "predicted-actual",
        "Predicted against actual, user by user",
        "Darker: more users. Both axes go by the square root; what lies beyond them, one user in 200, is at their ends.",
        f"Counts of users by predicted and actual amount, up to {number(top)}.",
        draw,
        png=png,
    )


def _groups(labels: F64, scores: F64, png: bool) -> Drawn:
    bins = curves.amount_bins(labels, scores)
    top = 1.06 * max(max(b.score, b.high) for b in bins)
    low = min(0.0, *(b.low for b in bins), *(b.score for b in bins))

    def draw(axes: Axes) -> None:
        x, y = np.array([b.score for b in bins]), np.array([b.label for b in bins])
        axes.plot([low, top], [low, top], color=GREY, linestyle=DASHED, linewidth=1)
        error = np.array([[b.label - b.low for b in bins], [b.high - b.label for b in bins]]).clip(0)
        axes.errorbar(x, y, error, fmt="o", color=ACCENT, markersize=4.5, elinewidth=1, linestyle="none")
        axes.set(xlim=(low, top), ylim=(low, top), xlabel="mean predicted", ylabel="mean actual")
        _plain(axes, "x", "y")

    said = "; ".join(f"predicted {number(b.score)}, actual {number(b.label)}" for b in bins)
    return drawn(
        "groups",
        "Predicted against actual, in ten groups",
        "Ten groups of equally many users by prediction; bars are 95 % intervals. On the dashed line the mean is right.",
        f"Mean predicted and mean actual amounts of ten groups, lowest first: {said}.",
        draw,
        png=png,
    )


def _errors(labels: F64, scores: F64, png: bool) -> Drawn:
    order = np.array_split(np.argsort(scores, kind="stable"), min(10, len(scores)))
    error = [float(np.abs(scores[part] - labels[part]).mean()) for part in order]

    def draw(axes: Axes) -> None:
        axes.bar(range(1, len(error) + 1), error, 0.72, color=ACCENT, linewidth=0)
        axes.set(xlabel="tenth of the users, lowest predictions first", ylabel="mean absolute error")
        axes.set_xticks(range(1, len(error) + 1))
        axes.grid(visible=False, axis="x")
        _plain(axes, "y")

    return drawn(
        "errors",
        "Error by size of the prediction",
        "How far off a prediction is on average, from the lowest tenth of predictions to the highest.",
        "Mean absolute error by tenth, lowest predictions first: " + ", ".join(number(value) for value in error) + ".",
        draw,
        png=png,
    )


def _residuals(labels: F64, scores: F64, png: bool) -> Drawn:
    residual = labels - scores
    low, high = (float(edge) for edge in np.percentile(residual, [1, 99]))
    edges = np.linspace(low, high if high > low else low + 1, 41)
    inside = np.histogram(residual.clip(edges[0], edges[-1]), edges)[0] / len(residual)
    above = float((residual > 0).mean())

    def draw(axes: Axes) -> None:
        width = edges[1] - edges[0]
        middle = edges[:-1] + width / 2
        axes.bar(middle, inside, width * 0.88, color=[ACCENT if m > 0 else SOFT for m in middle], linewidth=0)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.text(0.98, 0.94, f"{percent(above, 0)} did more", transform=axes.transAxes, ha="right", color=ACCENT)
        axes.text(0.98, 0.86, f"{percent(1 - above, 0)} less or as much", transform=axes.transAxes, ha="right", color=MUTED)
        axes.set(xlabel="actual less predicted", ylabel="share of users")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
        _plain(axes, "x")

    return drawn(
        "residuals",
        "What is left over",
        "How far the actual amounts lie from the predicted ones; the first and last bar hold one user in a hundred beyond.",
        f"Residuals: one in a hundred below {number(low)}, half below {number(float(np.median(residual)))}, one in a hundred "
        f"above {number(high)}.",
        draw,
        png=png,
    )
