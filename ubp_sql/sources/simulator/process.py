"""The hidden process: who is here, who is interested, who visits and who orders, day by day; and its exact truth.

Given the hidden state at a cut, the chance of no order until the horizon is a backward recursion over days: as long as
no order happens, all that an order depends on evolves without chance, or as a Markov chain of three states (idle,
interested, gone). `rates` is the only place where the chances are written: `run` draws from it, `truth` integrates it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ubp_sql.sources.simulator.calendar import Calendar
from ubp_sql.sources.simulator.draws import Bools, Floats, Ints, poisson, stream
from ubp_sql.sources.simulator.people import INTEREST_ODDS, INTEREST_VISITS, REFILL_SHARE, People

HORIZON = 30  # days
NEVER = -1_000_000  # "last refill" of a user without one: the cycle's bump is 0 there
LOOK, BUY, REFILL = 0, 1, 2


@dataclass(frozen=True)
class State:
    """Hidden state of every user at the first moment of day `day`; arrays (n,)."""

    day: int
    here: Bools  # acquired and not gone
    interested: Bools
    last_refill: Ints  # day
    customer: Bools  # has ordered before


@dataclass(frozen=True)
class Visits:
    """Sessions, arrays (s,), by day and, within a day, by kind and user."""

    user: Ints  # index into People
    day: Ints
    kind: Ints  # LOOK, BUY or REFILL
    interested: Bools
    refill: Bools  # the order holds a refill item


def rates(
    people: People, calendar: Calendar, day: int, interested: Bools | bool, last_refill: Ints
) -> tuple[Floats, Floats, Floats]:
    """Mean number of sessions without order, of ordinary sessions with one, and of refill orders of those here, (n,).

    The three are independent Poisson counts: one count of sessions, each with one probability of an order, splits so.
    """
    visits = people.visits * calendar.season[day] * people.weekday[calendar.weekday[day]]
    visits = visits * np.where(interested, INTEREST_VISITS, 1.0)
    odds = people.odds * np.where(interested, INTEREST_ODDS, 1.0)
    if calendar.sale[day]:
        odds = odds * people.sale_odds
    buys = visits * odds / (1.0 + odds)
    age = (day - last_refill) / people.cycle
    bump = np.exp(-0.5 * ((np.minimum(age, 9.0) - 1.0) / 0.16) ** 2)
    refill = people.refill * people.weekday[calendar.weekday[day]] * bump
    return visits - buys, buys, refill


def run(
    people: People, calendar: Calendar, seed: int, cuts: list[int], tick: Callable[[float], None]
) -> tuple[Visits, list[State]]:
    """Draw the whole period. Returns the sessions and the hidden state at the start of each day in `cuts` (ascending).

    A day: those who leave are decided at its end, and so is a change of interest; a user's first visit is on the day of
    acquisition and may end in an order, ordinary sessions of that day come on top.
    """
    rng = stream(seed, 2)
    n = people.n
    here = people.acquired < 0
    interested = here & (rng.random(n) < people.idle_start)
    last_refill = np.full(n, NEVER, dtype=np.int64)
    customer = np.zeros(n, dtype=np.bool_)
    parts: list[tuple[Ints, Ints, Ints, Bools, Bools]] = []
    states: list[State] = []
    for day in range(calendar.days):
        if day in cuts:
            states.append(State(day, here.copy(), interested.copy(), last_refill.copy(), customer.copy()))
        arrived = np.flatnonzero(people.acquired == day)
        here[arrived] = True
        interested[arrived] = True
        look, buy, refill = rates(people, calendar, day, interested, last_refill)
        ordered = np.where(rng.random(arrived.size) < people.first[arrived], BUY, LOOK)
        who = [arrived]
        kind = [ordered]
        for code, mean in ((LOOK, look), (BUY, buy), (REFILL, refill)):
            drawn = np.repeat(np.arange(n), poisson(rng, np.where(here, mean, 0.0)))
            who.append(drawn)
            kind.append(np.full(drawn.size, code))
        u, k = np.concatenate(who), np.concatenate(kind)
        holds = (k == REFILL) | ((k == BUY) & (people.refill[u] > 0.0) & (rng.random(u.size) < REFILL_SHARE))
        parts.append((u, np.full(u.size, day), k, interested[u], holds))
        last_refill[u[holds]] = day
        customer[u[k != LOOK]] = True
        here &= rng.random(n) >= people.hazard
        interested ^= rng.random(n) < np.where(interested, people.rest, people.wake)
        tick((day + 1) / calendar.days)
    user, days, kinds, keen, refills = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Visits(user, days, kinds, keen, refills), states


def truth(people: People, calendar: Calendar, state: State) -> Floats:
    """P(at least one order in [cut, cut + 30 d) | hidden state at the cut), (n,); 0 for who is gone or not yet here.

    Backward over days d, z in {idle, interested}, h the hazard, T the interest's transition, V the chance of no order
    from the start of day d for a user who is here:

        V_d(z) = exp(-(buy_d(z) + refill_d)) * (h + (1 - h) * sum_z' T(z, z') V_{d+1}(z')),   V_{cut+30} = 1
    """
    stay = 1.0 - people.hazard
    idle, keen = np.ones(people.n), np.ones(people.n)
    for day in reversed(range(state.day, state.day + HORIZON)):
        _, buy_idle, refill = rates(people, calendar, day, False, state.last_refill)
        _, buy_keen, _ = rates(people, calendar, day, True, state.last_refill)
        next_idle = people.hazard + stay * ((1.0 - people.wake) * idle + people.wake * keen)
        next_keen = people.hazard + stay * (people.rest * idle + (1.0 - people.rest) * keen)
        idle = np.exp(-(buy_idle + refill)) * next_idle
        keen = np.exp(-(buy_keen + refill)) * next_keen
    return np.where(state.here, 1.0 - np.where(state.interested, keen, idle), 0.0)
