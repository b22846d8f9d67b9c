"""`simulate`: the whole shop from a seed to files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.sources.simulator.calendar import make_calendar
from ubp_sql.sources.simulator.catalogue import make_catalogue
from ubp_sql.sources.simulator.events import KINDS, make_events
from ubp_sql.sources.simulator.files import write_events, write_items, write_truth
from ubp_sql.sources.simulator.people import make_people
from ubp_sql.sources.simulator.process import HORIZON, LOOK, Visits, run, truth

START = date(2025, 1, 1)
LEAST_DAYS = 60
MOST_CUTS = 9  # default: the last cut and up to eight earlier ones, 30 days apart


@dataclass(frozen=True)
class Simulation:
    """What was written and how much of it."""

    directory: Path
    events: Path  # events.csv.gz
    items: Path  # items.csv
    pictures: Path  # folder
    truth: Path  # truth.csv
    users: int
    days: int
    seed: int
    start: date
    kinds: dict[str, int]  # events of each kind
    sessions: int
    orders: int
    item_count: int
    cuts: dict[date, int]  # rows of truth.csv at each cut (midnight UTC), in order of time

    @property
    def event_count(self) -> int:
        """Rows of events.csv.gz."""
        return sum(self.kinds.values())

    @property
    def last_cut(self) -> date:
        """Last cut of truth.csv."""
        return max(self.cuts)


def simulate(
    directory: Path,
    users: int = 20_000,
    days: int = 365,
    seed: int = 7,
    start: date = START,
    progress: Callable[[float], None] | None = None,
    cuts: Sequence[date] | None = None,
) -> Simulation:
    """Write a simulated shop into `directory`: events.csv.gz, items.csv, pictures/ and truth.csv.

    users, days   size; about 50 events a user a year
    seed          >= 0; same arguments, same bytes
    progress      called with the share done, rising to 1.0
    cuts          dates for truth.csv, each 1 day or more after `start` and 30 or more before the end;
                  default: 30, 60, ... days before the end, nine at most, none before day 30

    Raises BadInput (UB003) on sizes, seeds or cuts out of range and on a directory that cannot be written.
    """
    _check(users, days, seed, start)
    chosen = _cuts(days, start, cuts)
    report = progress or (lambda share: None)
    calendar = make_calendar(start, days)
    catalogue = make_catalogue(seed)
    people = make_people(users, days, seed)
    visits, states = run(people, calendar, seed, chosen, lambda share: report(0.15 * share))
    events = make_events(people, calendar, catalogue, visits, seed)
    report(0.3)
    directory = Path(directory)
    files = {"events": "events.csv.gz", "items": "items.csv", "pictures": "pictures", "truth": "truth.csv"}
    paths = {what: directory / name for what, name in files.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_items(paths["items"], paths["pictures"], catalogue)
        known = [(s, truth(people, calendar, s), _bought(visits, users, s.day)) for s in states]
        rows = write_truth(paths["truth"], people, calendar, known)
        write_events(paths["events"], people, calendar, catalogue, events, lambda share: report(0.35 + 0.65 * share))
    except OSError as error:
        raise BadInput(
            f"cannot write the simulated shop to {directory}: {error.strerror}", "name a folder that can be written"
        ) from error
    report(1.0)
    return Simulation(
        directory=directory,
        **paths,
        users=users,
        days=days,
        seed=seed,
        start=start,
        kinds=dict(zip(KINDS, np.bincount(events.kind, minlength=len(KINDS)).tolist(), strict=True)),
        sessions=visits.user.size,
        orders=int((visits.kind != LOOK).sum()),
        item_count=catalogue.n,
        cuts=rows,
    )


def _bought(visits: Visits, users: int, cut: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    bought = np.zeros(users, dtype=np.bool_)
    bought[visits.user[(visits.kind != LOOK) & (visits.day >= cut) & (visits.day < cut + HORIZON)]] = True
    return bought


def _check(users: int, days: int, seed: int, start: date) -> None:
    if users <= 0:
        raise BadInput(f"users is {users}, the shop needs at least 1", "use --users 1 or more, for instance 20000")
    if days < LEAST_DAYS:
        raise BadInput(
            f"days is {days}, at least {LEAST_DAYS} are needed",
            f"use --days {LEAST_DAYS} or more: {HORIZON} days of history and {HORIZON} to predict",
        )
    if (date.max - start).days < days:
        raise BadInput(f"{days} days from {start} end after the last date", "use an earlier start or fewer days")
    if seed < 0:
        raise BadInput(f"seed is {seed}, it cannot be negative", "use --seed 0 or more")


def _cuts(days: int, start: date, cuts: Sequence[date] | None) -> list[int]:
    if cuts is None:
        first = max(HORIZON, days - MOST_CUTS * HORIZON)
        return sorted(range(days - HORIZON, first - 1, -HORIZON))
    wrong = [c for c in cuts if not 1 <= (c - start).days <= days - HORIZON]
    if wrong or not cuts:
        last = start + timedelta(days=days - HORIZON)
        named = f"the cut {wrong[0]} lies outside the period" if wrong else "no cut is given"
        raise BadInput(named, f"use dates from {start + timedelta(days=1)} to {last}")
    return sorted({(c - start).days for c in cuts})
