"""The most that any policy can earn on a simulated shop if all it has is a log: a bound, computed exactly.

It is told more than a log holds: every trait of every customer, the laws of the process, each session, and whether the
customer was interested in it. All it does not see is what happened since the last session: whether the customer left,
and the interest at the cut. The chance of both given the rest is a forward pass over the days (a hidden Markov model of
three states: idle, interested, gone). Acting where the mean of the true chances over that pays is the best policy there
is for who knows that much; who knows less earns less.
"""

import numpy as np

from ubp_sql.sources.simulator.calendar import Calendar, make_calendar
from ubp_sql.sources.simulator.draws import Bools, Floats, Ints
from ubp_sql.sources.simulator.people import People, make_people
from ubp_sql.sources.simulator.process import NEVER, State, Visits, rates, run, truth
from ubp_sql.sources.simulator.shop import START


def best_chances(users: int, days: int, seed: int, cut: int) -> dict[int, float]:
    """Mean true chance of an order in the 30 days from day `cut` on, by user key, for all who ordered before.

    users, days, seed   of `simulate`
    """
    calendar, people = make_calendar(START, days), make_people(users, days, seed)
    visits, [state] = run(people, calendar, seed, [cut], lambda share: None)
    idle, keen = here_and(people, calendar, visits, cut)
    alive = np.ones(people.n, np.bool_)
    mean: Floats = np.zeros(people.n)
    for weight, interested in ((idle, ~alive), (keen, alive)):
        mean += weight * truth(people, calendar, State(cut, alive, interested, state.last_refill, state.customer))
    return dict(zip(people.user[state.customer].tolist(), mean[state.customer].tolist(), strict=True))


def here_and(people: People, calendar: Calendar, visits: Visits, cut: int) -> tuple[Floats, Floats]:
    """Chances, at the start of day `cut`, of being here and idle, and here and interested, given all sessions; (n,)."""
    idle = np.where(people.acquired < 0, 1.0 - people.idle_start, 0.0)
    keen = np.where(people.acquired < 0, people.idle_start, 0.0)
    gone = np.zeros(people.n)
    last_refill = np.full(people.n, NEVER, dtype=np.int64)
    for day in range(cut):
        keen[people.acquired == day] = 1.0  # the first visit is one of interest
        today = visits.day == day
        seen, interested = _seen(people.n, visits.user[today], visits.interested[today])
        # A day without a session speaks against interest, and for having left.
        idle = idle * _silence(people, calendar, day, False, last_refill)
        keen = keen * _silence(people, calendar, day, True, last_refill)
        whole = np.where(people.acquired <= day, idle + keen + gone, 1.0)
        idle = np.where(seen, ~interested, idle / whole)
        keen = np.where(seen, interested, keen / whole)
        gone = np.where(seen, 0.0, gone / whole)
        last_refill[visits.user[today & visits.refill]] = day
        stays = 1.0 - people.hazard
        gone = gone + people.hazard * (idle + keen)
        idle, keen = (
            stays * (idle * (1.0 - people.wake) + keen * people.rest),
            stays * (idle * people.wake + keen * (1.0 - people.rest)),
        )
    return idle, keen


def _seen(n: int, users: Ints, interested: Bools) -> tuple[Bools, Bools]:
    """Who had a session, and who an interested one; (n,)."""
    seen, keen = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    seen[users] = True
    keen[users[interested]] = True
    return seen, keen


def _silence(people: People, calendar: Calendar, day: int, interested: bool, last_refill: Ints) -> Floats:
    """Chance of a day without a session for who is here, (n,)."""
    look, buy, refill = rates(people, calendar, day, interested, last_refill)
    return np.exp(-(look + buy + refill))
