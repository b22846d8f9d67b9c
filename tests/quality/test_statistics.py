"""The statistics behind the rules, beside plain loops and on tails of many shapes."""

import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ubp_sql.quality.bursts import SECOND, Window, bursts, repeated
from ubp_sql.quality.changes import arrival, departure, shifts
from ubp_sql.quality.sequence import DAY, surroundings
from ubp_sql.quality.silences import main_span, silences
from ubp_sql.quality.tails import BINS, cuts

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
USERS = st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=30), max_size=4)


def columns(users: list[list[tuple[int, int]]], scale: int) -> tuple[I64, I64, I64]:
    """(first, t, key) of users' (time, key) pairs."""
    rows = [sorted(user) for user in users]
    first = np.cumsum([0, *(len(user) for user in rows)])
    flat = [row for user in rows for row in user]
    t = np.array([scale * row[0] for row in flat], np.int64)
    return first, t, np.array([row[1] for row in flat], np.int64)


@given(USERS)
def test_repeated_rows_are_those_of_a_plain_loop(users: list[list[tuple[int, int]]]) -> None:
    first, t, key = columns(users, 1)
    rows = set(repeated(first, t, [key]).tolist())
    seen: dict[tuple[int, int, int], list[int]] = {}
    for user in range(len(users)):
        for row in range(first[user], first[user + 1]):
            seen.setdefault((user, int(t[row]), int(key[row])), []).append(row)
    for same in seen.values():
        assert (len(same) > 1) == bool(rows & set(same)), (same, rows)


@settings(max_examples=200)
@given(USERS, st.integers(2, 8), st.sampled_from([0.3, 0.5, 1.0]))
def test_bursts_are_those_of_a_plain_loop(users: list[list[tuple[int, int]]], events: int, active: float) -> None:
    first, t, key = columns(users, SECOND // 2)
    order = np.where(key == 0, -1 - np.arange(len(t)) // 3, t)  # some are lines of orders of three
    window = Window(5, events)
    expected: set[tuple[int, int]] = set()
    for user in range(len(users)):
        own = range(first[user], first[user + 1])
        lines: set[int] = set()
        acts = []
        for row in own:
            if order[row] != t[row]:
                if int(order[row]) in lines:
                    continue
                lines.add(int(order[row]))
            acts.append(int(t[row]))
        for begin in acts:
            inside = [moment for moment in acts if begin <= moment < begin + 5 * SECOND]
            if len(inside) >= events and len({m // SECOND for m in inside}) >= max(2, math.ceil(active * 5)):
                expected.update((user, moment) for moment in inside)
    found = bursts(first, t, order, [window], active)
    told = {
        (user, int(moment))
        for user, begin, end in found
        for moment in t[first[user] : first[user + 1]]
        if begin <= moment <= end
    }
    assert {(user, moment) for user, moment in expected} <= told
    assert bool(told) == bool(expected)


def histogram(values: NDArray[np.float64]) -> tuple[I64, I64]:
    bins, counts = np.unique(np.floor(BINS * np.log(values)).astype(np.int64), return_counts=True)
    return bins, counts


PRICES = [4.99, 9.99, 19.99, 49.99, 199.0]
SHAPES: dict[str, Callable[[np.random.Generator, int], F64]] = {
    "lognormal": lambda rng, n: rng.lognormal(3, 1, n),
    "pareto": lambda rng, n: 5 * (1 + rng.pareto(1.5, n)),
    "exponential": lambda rng, n: rng.exponential(20, n) + 0.01,
    "prices": lambda rng, n: rng.choice(PRICES, n, p=[0.4, 0.3, 0.2, 0.09, 0.01]),
    "constant": lambda rng, n: np.full(n, 9.99),
}


@pytest.mark.parametrize("n", [100, 1_000, 30_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_ordinary_tail_has_outliers_and_planted_ones_are_found(shape: str, n: int) -> None:
    wrong = 0
    for seed in range(40):
        values = SHAPES[shape](np.random.default_rng(seed), n)
        low, high, median = cuts(*histogram(values), 3.5, 2, 7)
        wrong += int((values < low).sum() + (values > high).sum())
        assert abs(math.log(median / float(np.median(values)))) < 0.2 + 2 / math.sqrt(n)
        if shape != "pareto":
            planted = np.concatenate((values, np.array([1e6, 3e6, 1e7]) * values.max()))
            _, high, _ = cuts(*histogram(planted), 3.5, 2, 7)
            assert (planted > high).sum() == 3
    assert wrong <= 1, "of 40 logs"


def test_silences_of_clean_feeds_and_of_a_broken_one() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hour = np.arange(24 * 150)
        mean = np.where((hour % 24 > 6) & (hour // 24 % 7 < 6), 3.0, 0.02)
        counts = rng.poisson(mean) * rng.integers(1, 12, len(hour))
        counts[[0, -1]] = 1
        none = np.zeros(len(hour), np.bool_)
        for broken in (False, True):
            if broken:
                counts[24 * 70 : 24 * 72] = 0
            some = np.flatnonzero(counts)
            found = silences(some, counts[some], len(hour), 3, 4, 4, none, none)
            days = sum(1 for day in (70, 71) if day % 7 < 6)
            assert len(found) == int(broken)
            if broken:
                assert found[0].begin <= 24 * 70
                assert found[0].end >= 24 * 72
                assert 0.6 < found[0].expected / (days * 17 * 3 * 6) < 1.5


def test_the_main_part_of_a_feed() -> None:
    hours = np.array([-500_000, 0, 1, 2, 3, 900, 9_000_000])
    assert main_span(hours, np.array([1, 400, 300, 300, 1, 400, 2]), 480) == (0, 900)
    assert main_span(hours[:1], np.array([5]), 480) == (-500_000, -500_000)


def test_blocks_that_hold_a_time_from_elsewhere() -> None:
    random = Random(1)
    low = np.arange(100) * DAY // 4
    high = low + DAY // 4
    assert not surroundings(low, high, 20 * DAY).suspect.any()
    high[37] += 30 * DAY
    low[80] -= 25 * DAY
    assert np.flatnonzero(surroundings(low, high, 20 * DAY).suspect).tolist() == [37, 80]
    mixed = np.array([random.randrange(100 * DAY) for _ in range(100)])
    assert not surroundings(mixed, mixed + 50 * DAY, 20 * DAY).suspect.any(), "numbers that say nothing of times"


def test_weeks_that_differ_from_those_before() -> None:
    share = np.array([0.9, 0.91, 0.89, 0.9, 0.92, 0.1, 0.12, np.nan, 0.9, 0.91])
    events = np.full(10, 500)
    (one,) = shifts(share, events, 0.2, 4, 100)
    assert (one.begin, one.end, one.before, round(one.after, 2)) == (5, 6, 0.9, 0.11)
    assert shifts(share, events, 0.2, 20, 100) == []
    assert shifts(share, np.full(10, 99), 0.2, 4, 100) == []
    every = np.full(20, 1_000)
    late = np.where(np.arange(20) < 8, 0, 50)
    assert (found := arrival(late, every, 4, 100)) is not None
    assert found.begin == 8
    assert departure(late[::-1], every, 4, 100) is not None
    assert arrival(late // 50, every, 4, 100) is None, "so rare that it says nothing"
    assert arrival(every, every, 4, 100) is departure(every, every, 4, 100) is None
