"""Figures of what a model's features do on the whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.drawing import ACCENT, GREY, MUTED, RULE, Drawn, drawn, label
from ubp_sql.training.report.words import number, percent, percent_tick, tick

# A point this many times as far as all before it is left out of a figure.
FAR = 3.0


@dataclass(frozen=True)
class Importance:
    """A feature's part in what the model says."""

    feature: str
    meaning: str
    share: float


@dataclass(frozen=True)
class Effect:
    """What the model says on average over a feature, at points that users have; `missing`: where it is missing."""

    feature: str
    meaning: str
    x: F64
    mean: F64
    missing: float | None


def inside(x: F64) -> int:
    """How many points to show: a few users far beyond all others would leave no room for these."""
    count = len(x)
    while count > 3 and x[count - 1] - x[0] > FAR * (x[count - 2] - x[0]):
        count -= 1
    return count


def importance(found: Sequence[Importance], png: bool) -> Drawn:
    """A bar a feature, its name above it, so that no name is too long."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(found))[::-1]
        shares = [one.share for one in found]
        top = max(*shares, 1e-9)
        axes.barh(places, [top] * len(found), 0.3, color=RULE, linewidth=0)
        axes.barh(places, shares, 0.3, color=ACCENT, linewidth=0)
        for place, one in zip(places, found, strict=True):
            axes.text(0, place + 0.26, label(one.feature), va="bottom", fontsize=9)
            axes.text(top, place + 0.26, percent(one.share), va="bottom", ha="right", color=MUTED, fontsize=9)
        axes.set(xlim=(0, top), ylim=(-0.4, len(found) - 0.15))
        axes.set_axis_off()

    said = ", ".join(f"{label(one.feature)} {percent(one.share, 0)}" for one in found)
    return drawn(
        "importance",
        "What matters most",
        "Each feature's share of all that moves scores.",
        f"Share of importance by feature: {said}.",
        draw,
        height=0.38 * len(found) + 0.2,
        png=png,
    )


def effect(place: int, one: Effect, chance: bool, low: float, high: float, png: bool) -> Drawn:
    """The mean over one feature, on the scale from `low` to `high` that all features share."""
    shown = inside(one.x)
    x, mean = one.x[:shown], one.mean[:shown]

    def draw(axes: Axes) -> None:
        axes.plot(x, mean, color=ACCENT, marker="" if shown > 2 else "o", markersize=4.5)
        axes.plot(x, [0.02] * shown, "|", color=GREY, markersize=5, transform=axes.get_xaxis_transform())
        if one.missing is not None:
            axes.plot([0.94], [one.missing], "D", color=GREY, markersize=4.5, transform=axes.get_yaxis_transform())
            axes.annotate(
                "missing",
                (0.94, one.missing),
                xytext=(5, 7),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                color=MUTED,
                fontsize=8.5,
            )
            wide = np.ptp(x) or 1.0
            axes.set_xlim(x.min() - 0.04 * wide, x.max() + 0.22 * wide)
        axes.set_ylim(low, high)
        axes.xaxis.set_major_formatter(tick)
        axes.yaxis.set_major_formatter(percent_tick if chance else tick)
        axes.locator_params(axis="y", nbins=5)
        if shown == 1:
            axes.set_xticks(x)
        else:
            axes.locator_params(axis="x", nbins=5)

    tell = percent if chance else number
    name = label(one.feature, 64)
    return drawn(
        f"effect-{place}",
        name,
        one.meaning,
        f"Mean prediction over {name}: {tell(float(mean[0]))} at {number(float(x[0]))}, {tell(float(mean[-1]))} at "
        f"{number(float(x[-1]))}" + ("." if one.missing is None else f", {tell(one.missing)} where it is missing."),
        draw,
        width=3.8,
        height=2.2,
        png=png,
    )
