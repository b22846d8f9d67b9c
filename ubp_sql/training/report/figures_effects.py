"""Figures of what a model's features do on the whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.drawing import ACCENT, GREY, MUTED, RULE, SOFT, Drawn, drawn, label
from ubp_sql.training.report.words import fixed, number, percent, percent_tick, tick


@dataclass(frozen=True)
class Importance:
    """A feature's part in what the model says."""

    feature: str
    meaning: str
    share: float


@dataclass(frozen=True)
class Effect:
    """What the model says over a feature: mean and the middle 80 % of the users, at points of the feature.

    missing  mean and middle 80 % where it is missing; None: not known
    """

    feature: str
    meaning: str
    x: F64
    mean: F64
    low: F64
    high: F64
    missing: tuple[float, float, float] | None


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


def effect(place: int, one: Effect, chance: bool, top: float, low: float, png: bool) -> Drawn:
    """Mean and the middle 80 % over one feature; all features share the scale from `low` to `top`."""

    def draw(axes: Axes) -> None:
        axes.fill_between(one.x, one.low, one.high, color=SOFT, linewidth=0)
        axes.plot(one.x, one.mean, color=ACCENT, marker="o" if len(one.x) < 3 else "", markersize=4)
        if one.missing is not None:
            mean, least, most = one.missing
            axes.plot([0.94, 0.94], [least, most], color=SOFT, linewidth=5, transform=axes.get_yaxis_transform())
            axes.plot([0.94], [mean], "D", color=GREY, markersize=4.5, transform=axes.get_yaxis_transform())
            axes.text(0.99, 0.03, "missing", transform=axes.transAxes, ha="right", color=MUTED, fontsize=8.5)
            wide = np.ptp(one.x) or 1.0
            axes.set_xlim(one.x.min() - 0.03 * wide, one.x.max() + 0.16 * wide)
        axes.set_ylim(low, top)
        axes.xaxis.set_major_formatter(tick)
        axes.yaxis.set_major_formatter(percent_tick if chance else tick)
        if len(one.x) == 1:
            axes.set_xticks(one.x)
        else:
            axes.locator_params(axis="x", nbins=5)
        axes.locator_params(axis="y", nbins=5)

    tell = percent if chance else lambda value: fixed(value, 2)
    ends = f"from {tell(float(one.mean[0]))} at {number(float(one.x[0]))} to {tell(float(one.mean[-1]))} at "
    return drawn(
        f"effect-{place}",
        label(one.feature, 64),
        one.meaning,
        f"Mean prediction over {label(one.feature, 64)}: {ends}{number(float(one.x[-1]))}.",
        draw,
        width=3.8,
        height=2.2,
        png=png,
    )
