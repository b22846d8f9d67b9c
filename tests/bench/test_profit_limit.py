"""The bound on what a log lets anyone earn: its chances of the hidden state come true as often as they say."""

import numpy as np
import pytest

from bench.profit_limit import best_chances, here_and
from ubp_sql.sources.simulator.calendar import make_calendar
from ubp_sql.sources.simulator.people import make_people
from ubp_sql.sources.simulator.process import run, truth
from ubp_sql.sources.simulator.shop import START

USERS, DAYS, CUT = 4_000, 200, 150


@pytest.mark.parametrize("seed", [1, 2])
def test_hidden_states_come_true_as_often_as_they_are_said_to(seed: int) -> None:
    calendar, people = make_calendar(START, DAYS), make_people(USERS, DAYS, seed)
    visits, [state] = run(people, calendar, seed, [CUT], lambda share: None)
    idle, keen = here_and(people, calendar, visits, CUT)
    here = people.acquired < CUT
    assert not (idle + keen)[~here].any()
    known = best_chances(USERS, DAYS, seed, CUT)
    expected = np.array([known.get(user, np.nan) for user in people.user.tolist()])
    p = truth(people, calendar, state)
    true_idle, true_keen = state.here & ~state.interested, state.here & state.interested
    for chance, fact in ((idle, true_idle), (keen, true_keen), (idle + keen, state.here)):
        for group in np.array_split(np.flatnonzero(here)[np.argsort(chance[here])], 10):
            sd = np.sqrt((chance[group] * (1.0 - chance[group])).sum())
            assert abs(fact[group].sum() - chance[group].sum()) <= 4.0 * sd + 1e-6
    gap = (p - expected)[state.customer]
    assert abs(gap.mean()) <= 4.0 * gap.std() / np.sqrt(gap.size)
    for cost in (0.05, 0.1, 0.3):  # who knows the state earns more, who knows the mean of it more than who acts on all
        worth = (p - cost)[state.customer]
        most, bound = worth[worth > 0.0].sum(), worth[expected[state.customer] > cost].sum()
        assert most > bound > max(worth.sum(), 0.0)
