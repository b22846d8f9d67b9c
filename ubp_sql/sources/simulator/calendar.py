"""The shop's year: weekdays, season, sale weeks."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ubp_sql.sources.simulator.draws import Floats, Ints

# (first, last, percent off), month and day, the last included
SALES = (((1, 6), (1, 19), 20), ((4, 7), (4, 13), 15), ((7, 1), (7, 14), 25), ((11, 21), (12, 1), 30))


@dataclass(frozen=True)
class Calendar:
    """Arrays of length `days`."""

    start: date
    days: int
    weekday: Ints  # 0 is Monday
    season: Floats  # factor on every visit rate
    sale: Ints  # 0, or 1 + the index of the sale in SALES

    def day(self, index: int) -> date:
        """Date of day `index`."""
        return self.start + timedelta(days=index)


def season_factor(day: date) -> float:
    """Factor on visits: a winter wave, a peak that ends November, a quiet second half of July and of February.

    1 + 0.10 cos(2 pi (y - 345) / 365.25) + 0.7 exp(-((y - 331) / 9)^2 / 2) - 0.15 exp(-((y - 205) / 12)^2 / 2)
    - 0.10 exp(-((y - 50) / 10)^2 / 2), y the day of the year
    """
    y = float(day.timetuple().tm_yday)

    def bump(centre: float, width: float) -> float:
        return float(np.exp(-0.5 * ((y - centre) / width) ** 2))

    wave = 0.10 * float(np.cos(2.0 * np.pi * (y - 345.0) / 365.25))
    return 1.0 + wave + 0.7 * bump(331.0, 9.0) - 0.15 * bump(205.0, 12.0) - 0.10 * bump(50.0, 10.0)


def make_calendar(start: date, days: int) -> Calendar:
    """Calendar of `days` days from `start`."""
    dates = [start + timedelta(days=d) for d in range(days)]
    sale = [next((k for k, (a, b, _) in enumerate(SALES, 1) if a <= (d.month, d.day) <= b), 0) for d in dates]
    return Calendar(
        start=start,
        days=days,
        weekday=np.array([d.weekday() for d in dates], dtype=np.int64),
        season=np.array([season_factor(d) for d in dates]),
        sale=np.array(sale, dtype=np.int64),
    )
