"""What acting on the highest scores would have earned in a test, for a gain and a cost that the reader named."""

import numpy as np
from matplotlib.axes import Axes

from ubp_sql.models.decisions import Stakes as Stakes
from ubp_sql.training.report import curves
from ubp_sql.training.report.curves import F64, Curve
from ubp_sql.training.report.drawing import ACCENT, DASHED, GREY, Drawn, drawn
from ubp_sql.training.report.words import count, many, number, percent, percent_tick, tick


def curve(labels: F64, scores: F64, stakes: Stakes) -> Curve:
    """Share of the users acted on, highest scores first, and what that earned of all of them together."""
    chosen, came = curves.by_threshold(labels, scores)
    earned = stakes.gain * came - stakes.cost * chosen
    return Curve(np.append(0, chosen / len(labels)), np.append(0, earned))


def profit(labels: F64, scores: F64, stakes: Stakes, amount: bool, png: bool) -> Drawn:
    """The curve, and the share at which it is highest."""
    found = curve(labels, scores, stakes)
    best = int(np.argmax(found.y))
    share, most, everybody = float(found.x[best]), float(found.y[best]), float(found.y[-1])
    users = round(share * len(labels))

    def draw(axes: Axes) -> None:
        axes.plot(*curves.thinned(found), color=ACCENT)
        axes.axhline(0, color=GREY, linestyle=DASHED, linewidth=1)
        axes.plot([share], [most], "o", color=ACCENT, markersize=4.5)
        axes.set_title(f"most: {number(most)} at {percent(share, 0)}", loc="right", color=ACCENT, fontsize=9.5)
        axes.set(xlim=(0, 1), xlabel="share of users acted on, highest scores first", ylabel="earned")
        axes.xaxis.set_major_formatter(percent_tick)
        axes.yaxis.set_major_formatter(tick)

    of = f"{tick(stakes.gain)} times the amount" if amount else f"{tick(stakes.gain)} for each who did"
    return drawn(
        "profit",
        "Profit: how many to act on",
        f"What acting on the users with the highest scores would have earned in this test, with a gain of {of} and a "
        f"cost of {tick(stakes.cost)} a user. That acting changes what users do is not in it.",
        f"Profit over the share of users acted on. It is highest, {number(most)}, with {many(users, 'user')} of "
        f"{count(len(labels))}; acting on everybody earns {number(everybody)}.",
        draw,
        png=png,
    )
