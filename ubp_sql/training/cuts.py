"""Which past moments to learn from and to test on."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput, TrainingError
from ubp_sql.training.settings import CUTS_PER_HORIZON, HALF_LIFE_DAYS, HISTORY_HORIZONS, MOST_CUTS


def last_matured(last_event: datetime, horizon: timedelta) -> datetime:
    """The latest midnight (UTC) whose whole horizon has been seen."""
    cut = (last_event - horizon).astimezone(UTC)
    return cut.replace(hour=0, minute=0, second=0, microsecond=0)


def training_cuts(first_event: datetime, before: datetime, horizon: timedelta) -> list[datetime]:
    """Cuts, oldest first, whose label windows end at or before `before`: nothing after it is used.

    The earliest lies HISTORY_HORIZONS after the first event, or one horizon where the log is too short for that.
    Raises TrainingError (UB014) when there is no such cut either.
    """
    for history in (HISTORY_HORIZONS, 1):
        cuts: list[datetime] = []
        latest = before - horizon
        while latest >= first_event + history * horizon and len(cuts) < MOST_CUTS:
            cuts.append(latest)
            latest -= horizon / CUTS_PER_HORIZON
        if cuts:
            return cuts[::-1]
    raise TrainingError(
        f"the events before {before:%Y-%m-%d} begin at {first_event:%Y-%m-%d}: too few to learn from",
        f"a horizon of {horizon.days} days needs {3 * horizon.days} days of events; shorten it or load more",
    )


def weights(cuts: Sequence[datetime], sizes: Sequence[int]) -> NDArray[np.float64]:
    """(n,) weight of each row: halves for each HALF_LIFE_DAYS that its cut lies before the newest."""
    ages = [(max(cuts) - cut) / timedelta(days=1) for cut in cuts]
    return np.repeat(0.5 ** (np.array(ages) / HALF_LIFE_DAYS), sizes)


def parse_cut(text: str) -> datetime:
    """A test cut from the command line; without an offset it is UTC."""
    try:
        cut = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no date", "write it as 2011-11-09 or 2011-11-09T00:00+00:00") from None
    return cut if cut.tzinfo else cut.replace(tzinfo=UTC)


UNITS = {"d": "days", "h": "hours", "m": "minutes"}
HORIZON = re.compile(r"(\d{1,7})\s*(d|h|m|days?|hours?|minutes?)")


def parse_horizon(text: str) -> timedelta:
    """A horizon from the command line: 30d, 36h, 90 minutes. Months are not a length: they differ."""
    found = HORIZON.fullmatch(text.strip().lower())
    if found is None:
        raise BadInput(f"{text!r} is no horizon", "write it as 30d, 36h or '90 minutes'")
    return timedelta(**{UNITS[found[2][0]]: int(found[1])})
