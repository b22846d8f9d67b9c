"""Who shops: segments, and the hidden traits drawn for each user."""

from dataclasses import dataclass

import numpy as np

from ubp_sql.sources.simulator.draws import Floats, Ints, choose, gamma, normal, stream

INTEREST_VISITS = 5.0  # an interested user visits five times as often
INTEREST_ODDS = 1.6  # and each visit's odds of buying are 1.6 times as high
REFILL_SHARE = 0.35  # share of ordinary orders of a user with a habit that hold a refill item, which starts a cycle


@dataclass(frozen=True)
class Segment:
    """Typical member of a group of users; docs/simulator.md prints this table and a test keeps the two equal."""

    name: str
    share: float  # of all users
    visits: float  # mean sessions a day while idle
    spread: int  # shape of the gamma distribution of that rate; smaller is more unequal
    buys: float  # probability that an ordinary session ends in an order, median of the group
    sale_odds: float  # factor on the odds of buying in a sale week
    hazard: float  # probability a day of leaving for good
    here: float  # share that is a customer already on the first day
    arrival: tuple[float, float]  # the others arrive uniformly between these fractions of the period
    first: float  # probability that the first visit ends in an order
    habit: float  # share with a refill habit
    cart: float  # probability that a session without order leaves a cart behind, while idle
    cancel: float  # probability that an order is cancelled


SEGMENTS = (
    Segment("loyal", 0.16, 0.035, 3, 0.30, 1.3, 1 / 900, 0.70, (0.0, 0.9), 0.60, 0.60, 0.15, 0.03),
    Segment("deal_hunter", 0.20, 0.027, 2, 0.09, 5.0, 1 / 400, 0.55, (0.0, 0.9), 0.35, 0.15, 0.25, 0.10),
    Segment("browser", 0.24, 0.045, 1, 0.03, 1.5, 1 / 300, 0.50, (0.0, 0.9), 0.15, 0.05, 0.10, 0.04),
    Segment("one_off", 0.22, 0.020, 2, 0.06, 1.5, 1 / 20, 0.00, (0.0, 1.0), 0.90, 0.00, 0.08, 0.05),
    Segment("newcomer", 0.18, 0.035, 2, 0.15, 2.0, 1 / 120, 0.00, (0.55, 1.0), 0.45, 0.25, 0.15, 0.05),
)


@dataclass(frozen=True)
class People:
    """Hidden traits of `n` users; arrays of length n, except `weekday` (7, n), Monday first, mean 1 over the week."""

    user: Ints  # key, integer, without order or meaning
    segment: Ints  # index into SEGMENTS
    acquired: Ints  # day of the first visit; -1: a customer before the first day
    visits: Floats  # sessions a day while idle, before season and weekday
    odds: Floats  # odds that an ordinary session ends in an order, while idle and outside sales
    sale_odds: Floats
    hazard: Floats  # probability of leaving at the end of a day
    wake: Floats  # probability, at the end of an idle day, that interest begins
    rest: Floats  # probability, at the end of an interested day, that it ends
    weekday: Floats
    refill: Floats  # orders a day at the peak of the refill cycle; 0 without a habit
    cycle: Floats  # days between refills
    first: Floats
    cart: Floats
    cancel: Floats
    hour: Floats  # favourite hour of the day, UTC
    taste: Floats  # (2, n) favourite and second category, as a position in [0, 1) on the list of categories
    n: int

    @property
    def idle_start(self) -> Floats:
        """Long-run share of interested days, the chance that a user who is here at the start is interested."""
        return self.wake / (self.wake + self.rest)


def make_people(users: int, days: int, seed: int) -> People:
    """Draw `users` users for a period of `days` days."""
    rng = stream(seed, 1)
    segment = choose(rng, np.array([s.share for s in SEGMENTS]), users)

    def of(field: str) -> Floats:
        return np.array([float(getattr(s, field)) for s in SEGMENTS])[segment]

    low = np.array([s.arrival[0] for s in SEGMENTS])[segment]
    high = np.array([s.arrival[1] for s in SEGMENTS])[segment]
    arrival = np.floor((low + (high - low) * rng.random(users)) * days).astype(np.int64)
    acquired = np.where(rng.random(users) < of("here"), -1, arrival)
    buys = of("buys")
    weekend = np.exp(0.5 * normal(rng, users))  # visits on a day of the weekend over those on a working day
    weekday = np.where(np.arange(7)[:, None] >= 5, weekend, 1.0)
    habit = rng.random(users) < of("habit")
    peak = np.array([12.5, 17.5, 20.5])[choose(rng, np.array([0.25, 0.25, 0.5]), users)]
    return People(
        user=100_001 + np.argsort(rng.random(users), kind="stable"),
        segment=segment,
        acquired=acquired,
        visits=of("visits") * gamma(rng, of("spread").astype(np.int64)),
        odds=buys / (1.0 - buys) * np.exp(0.5 * normal(rng, users)),
        sale_odds=of("sale_odds"),
        hazard=of("hazard"),
        wake=np.exp(0.3 * normal(rng, users)) / 25.0,
        rest=np.full(users, 1.0 / 6.0),
        weekday=weekday * 7.0 / (5.0 + 2.0 * weekend),
        refill=np.where(habit, 0.16, 0.0),
        cycle=18.0 + 42.0 * rng.random(users),
        first=of("first"),
        cart=of("cart"),
        cancel=of("cancel"),
        hour=peak + normal(rng, users),
        taste=rng.random((2, users)),
        n=users,
    )
