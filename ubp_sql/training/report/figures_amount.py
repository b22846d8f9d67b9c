"""Figures of a task whose score is an amount: what is predicted is a number, as money or days."""

import numpy as np
from matplotlib.axes import Axes

from ubp_sql.training.report import curves
from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.drawing import ACCENT, DASHED, GREY, MUTED, SOFT, Drawn, drawn
from ubp_sql.training.report.words import number, percent, percent_tick, tick

SHADES = (0.18, 0.38, 0.62, 0.9)


def of_amounts(labels: F64, scores: F64, png: bool) -> list[Drawn]:
    """Predicted against actual, one by one and in ten groups, the error of each group, and what is left over."""
    return [
        _each(labels, scores, png),
        _groups(labels, scores, png),
        _errors(labels, scores, png),
        _residuals(labels, scores, png),
    ]


def _turned(values: F64) -> F64:
    """Square roots with their sign: where most of the skewed amounts would else be one point, 0 stays 0."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


def _axis(axes: Axes, which: str, low: float, high: float) -> None:
    """An axis of turned values from `low` to `high`, with round marks."""
    marks = {float(f"{share * high:.1g}") for share in (0, 0.04, 0.16, 0.36, 0.64, 1.0)}
    marks |= {float(f"{low:.1g}")} if low < 0 else set()
    ordered = sorted(mark for mark in marks if low <= mark <= high)
    ends = _turned(np.array([low, high]))
    axes.set(**{f"{which}lim": ends, f"{which}ticks": _turned(np.array(ordered))})
    axes.set(**{f"{which}ticklabels": [tick(mark) for mark in ordered]})


def _each(labels: F64, scores: F64, png: bool) -> Drawn:
    ends = [(min(0.0, float(v.min())), max(float(np.percentile(v, 99.5)), 1e-9)) for v in (scores, labels)]
    x, y = (np.linspace(low, high, 25) for low, high in (_turned(np.array(end)).tolist() for end in ends))
    predicted, actual = _turned(scores.clip(*ends[0])), _turned(labels.clip(*ends[1]))
    counts = np.histogram2d(predicted, actual, bins=[x, y])[0]
    levels = [0, *np.percentile(counts[counts > 0], [50, 80, 95]), np.inf]

    def draw(axes: Axes) -> None:
        for shade, least, most in zip(SHADES, levels[:-1], levels[1:], strict=True):
            for i, j in np.argwhere((counts > least) & (counts <= most)).tolist():
                square = [x[i], x[i + 1], x[i + 1], x[i]], [y[j], y[j], y[j + 1], y[j + 1]]
                axes.fill(*square, color=ACCENT, alpha=shade, linewidth=0)
        most = min(x[-1], y[-1])
        axes.plot([x[0], most], [x[0], most], color=GREY, linestyle=DASHED, linewidth=1)
        _axis(axes, "x", *ends[0])
        _axis(axes, "y", *ends[1])
        axes.set(xlabel="predicted", ylabel="actual")

    return drawn(
        "predicted-actual",
        "Predicted against actual, user by user",
        "The stronger the colour, the more users. Both axes go by the square root; one user in 200 lies beyond, and "
        "is shown at their ends.",
        f"Counts of users by predicted amount, to {number(ends[0][1])}, and by actual amount, to {number(ends[1][1])}.",
        draw,
        png=png,
    )


def _groups(labels: F64, scores: F64, png: bool) -> Drawn:
    bins = curves.amount_bins(labels, scores)
    top = 1.06 * max(max(b.score, b.high) for b in bins)
    low = min(0.0, *(b.low for b in bins), *(b.score for b in bins))

    def draw(axes: Axes) -> None:
        ends = _turned(np.array([low, max(top, 1e-9)]))
        axes.plot(ends, ends, color=GREY, linestyle=DASHED, linewidth=1)
        x, y, least, most = (
            _turned(np.array(v)) for v in zip(*((b.score, b.label, b.low, b.high) for b in bins), strict=True)
        )
        axes.errorbar(
            x, y, [y - least, most - y], fmt="o", color=ACCENT, markersize=4.5, elinewidth=1, linestyle="none"
        )
        _axis(axes, "x", low, max(top, 1e-9))
        _axis(axes, "y", low, max(top, 1e-9))
        axes.set(xlabel="mean predicted", ylabel="mean actual")

    said = "; ".join(f"predicted {number(b.score)}, actual {number(b.label)}" for b in bins)
    return drawn(
        "groups",
        "Predicted against actual, in ten groups",
        "Ten groups of equally many users; bars are 95 % intervals of the mean. On the dashed line the mean is right.",
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
        axes.yaxis.set_major_formatter(tick)

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
        axes.text(
            0.98, 0.86, f"{percent(1 - above, 0)} less or as much", transform=axes.transAxes, ha="right", color=MUTED
        )
        axes.set(xlabel="actual less predicted", ylabel="share of users")
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(percent_tick)
        axes.xaxis.set_major_formatter(tick)

    return drawn(
        "residuals",
        "What is left over",
        "How far the actual amounts lie from the predicted ones. The outer bars hold what lies beyond them.",
        f"Residuals: one in a hundred below {number(low)}, half below {number(float(np.median(residual)))}, one in a "
        f"hundred above {number(high)}.",
        draw,
        png=png,
    )
