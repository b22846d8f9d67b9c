"""Which past moments to learn from and to test on."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ubp_sql.errors import BadInput, TrainingError


@dataclass(frozen=True)
class Protocol:
    """Rolling cuts: how far apart, how many at most, and how much history the earliest must have."""

    step: timedelta
    most: int
    history: timedelta


def last_matured(last_event: datetime, horizon: timedelta) -> datetime:
    """The latest midnight (UTC) whose whole horizon has been seen."""
    cut = (last_event - horizon).astimezone(UTC)
    return cut.replace(hour=0, minute=0, second=0, microsecond=0)


def training_cuts(first_event: datetime, before: datetime, horizon: timedelta, protocol: Protocol) -> list[datetime]:
    """Cuts, oldest first, whose label windows end at or before `before`: nothing after it is used.

    Raises TrainingError (UB014) when the log is too short for a single one.
    """
    latest = before - horizon
    earliest = first_event + protocol.history
    cuts = []
    while latest >= earliest and len(cuts) < protocol.most:
        cuts.append(latest)
        latest -= protocol.step
    if not cuts:
        needed = horizon * 2 + protocol.history
        raise TrainingError(
            f"the events reach from {first_event:%Y-%m-%d} to {before + horizon:%Y-%m-%d}: too short to train and test on",
            f"a horizon of {horizon.days} days needs {needed.days} days of events",
        )
    return cuts[::-1]


def parse_cut(text: str) -> datetime:
    """A test cut from the command line; without an offset it is UTC."""
    try:
        cut = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no date", "write it as 2011-11-09 or 2011-11-09T00:00+00:00") from None
    return cut if cut.tzinfo else cut.replace(tzinfo=UTC)
