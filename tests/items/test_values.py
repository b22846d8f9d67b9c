"""What an event's item was: by the mirror, by rows, and by plain Python, on both clocks."""

import math
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.items.helpers import (
    ALWAYS,
    Event,
    Said,
    bits_of,
    expected,
    happen,
    happenings,
    key_of,
    number_of,
    say,
    seen,
    statements,
)
from tests.mirror.helpers import Log


def same(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> None:
    assert {name: list(map(str, column)) for name, column in one.items()} == {
        name: list(map(str, column)) for name, column in other.items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_by_mirror_rows_and_python(log: Log, seed: int) -> None:
    random = Random(seed)
    rows, events = statements(random, 120), happenings(random, 300)
    say(log, rows)
    happen(log, events)
    log.fold()
    want = expected(rows, events, bits_of(log))
    assert sum(not math.isnan(x) for x in want["price"]) > 30
    same(seen(log, "rows"), want)
    same(seen(log, "mirror"), want)
    log.equal()


def test_both_clocks(log: Log) -> None:
    """On the edges: a statement of the very moment counts, known in the very moment; the later of two decides."""
    say(
        log,
        [
            Said(1, "unit price", 10.0, None, 0, 0),
            Said(1, "unit price", 20.0, None, 10, 30),
            Said(1, "unit price", 15.0, None, 5, 40),
            Said(1, "unit price", 21.0, None, 10, 50),
        ],
    )
    events = {
        Event(1, -1, 100, 1): math.nan,
        Event(2, 0, 0, 1): 10.0,
        Event(3, 9, 39, 1): 10.0,
        Event(4, 9, 40, 1): 15.0,
        Event(5, 10, 29, 1): 10.0,
        Event(6, 10, 30, 1): 20.0,
        Event(7, 10, 50, 1): 21.0,
        Event(8, 99, 45, 1): 20.0,
        Event(9, 10, ALWAYS, 1): math.nan,
        Event(10, 10, 50, 2): math.nan,
        Event(11, 10, 50, None): math.nan,
    }
    happen(log, list(events))
    log.fold()
    for way in ("mirror", "rows"):
        assert str(seen(log, way)["price"]) == str(list(events.values()))


NUMBERS: list[tuple[float | None, str | None]] = [
    (3.5, None),
    (3.5, "9"),
    (None, "9"),
    (None, " 9"),
    (None, "1e400"),
    (None, "nine"),
    (None, None),
    (math.nan, "9"),
    (math.inf, None),
    (-1e308, None),
    (1e-301, None),
    (1.7e307, None),
    (0.1 + 0.2, None),
]


@pytest.mark.parametrize("digits", [1, -15])
def test_forms_of_a_value(log: Log, digits: int) -> None:
    """What is neither a number nor reads as one is missing; the session's digits do not matter."""
    log.run(f"set extra_float_digits = {digits}")
    say(log, [Said(n, "unit price", value, text, 0, 0) for n, (value, text) in enumerate(NUMBERS)])
    texts: list[tuple[float | None, str | None]] = [(12.5, None), (7.0, None), (7.0, "x"), (None, "7"), (None, "")]
    texts += [(None, None), (math.nan, None)]
    say(log, [Said(n, "it's", value, text, 0, 0) for n, (value, text) in enumerate(texts)])
    happen(log, [Event(n, 1, 1, n) for n in range(len(NUMBERS))])
    log.fold()
    for way in ("mirror", "rows"):
        found = seen(log, way)
        assert str(found["price"]) == str([number_of(*form) for form in NUMBERS])
        assert found["category"][: len(texts)] == [key_of(*form) for form in texts]
    assert found["category"][1] == found["category"][3], "7 and '7' are one category"


minutes = st.integers(0, 6)
said = st.builds(
    Said, st.integers(0, 1), st.just("unit price"), st.sampled_from([None, 1.0, 2.0, 3.0]),
    st.sampled_from([None, "4", "x"]), st.sampled_from([ALWAYS, 0, 2, 4]), st.sampled_from([ALWAYS, 0, 2, 3, 5]),
)  # fmt: skip
happened = st.builds(Event, st.integers(0, 3), minutes, minutes, st.sampled_from([None, 0, 1]))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    before=st.lists(said, min_size=1, max_size=6, unique_by=lambda row: row[4:]),
    events=st.lists(happened, min_size=1, max_size=8),
    after=st.lists(said, max_size=4, unique_by=lambda row: row[4:]),
    fold=st.booleans(),
)
def test_whatever_is_said_and_when(
    log: Log, before: list[Said], events: list[Event], after: list[Said], fold: bool
) -> None:
    """Statements of the past after the events were folded: readers are right before the next fold, and it is too."""
    log.run("truncate ubp.events, ubp.item_attributes restart identity")
    log.fold()
    unique = {(row.item, *row[4:]): row for row in before}
    say(log, list(unique.values()))
    happen(log, events)
    log.fold()
    late = [row for row in {(row.item, *row[4:]): row for row in after}.values() if (row.item, *row[4:]) not in unique]
    if late:
        say(log, late)
    want = expected([*unique.values(), *late], events, {})
    same(seen(log, "mirror"), want)
    same(seen(log, "mirror", range(4)), want)
    log.equal()
    if fold:
        log.fold()
        same(seen(log, "mirror"), want)
        log.equal()
