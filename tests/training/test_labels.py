"""Pairs, memberships, labels and draws, against loops over single events."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ubp_sql.features import labels
from ubp_sql.features.events import Events
from ubp_sql.features.labels import NEVER, Pairs, at_cuts, at_events, drawn, label, member_from, outcomes_of
from ubp_sql.features.rows import of_users


class Event(NamedTuple):
    t: int
    ingested: int
    kind: int


TIMES = st.integers(0, 30)
LOGS = st.lists(
    st.lists(st.builds(Event, TIMES, TIMES, st.integers(-1, 2)), max_size=8).map(sorted), min_size=1, max_size=5
)


def columns(users: list[list[Event]]) -> Events:
    flat = [event for events in users for event in events]
    return Events(
        user_id=np.arange(len(users)) * 10,
        first=np.cumsum([0, *map(len, users)]),
        t_us=np.array([e.t for e in flat], np.int64),
        ingested_us=np.array([e.ingested for e in flat], np.int64),
        offset_s=np.zeros(len(flat), np.int32),
        kind=np.array([e.kind for e in flat], np.int32),
    )


def is_member(events: list[Event], kind: int, moment: int, whenever_known: bool) -> bool:
    return any(e.kind == kind and e.t < moment and (whenever_known or e.ingested <= moment) for e in events)


@given(users=LOGS, whenever_known=st.booleans())
def test_membership_begins_once_and_lasts(users: list[list[Event]], whenever_known: bool) -> None:
    since = member_from(columns(users), 1, whenever_known=whenever_known)
    for events, first in zip(users, since, strict=True):
        assert [first <= moment for moment in range(-1, 40)] == [
            is_member(events, 1, moment, whenever_known) for moment in range(-1, 40)
        ]
        assert first == NEVER or any(e.kind == 1 for e in events)


@given(users=LOGS, cuts=st.sets(st.integers(-2, 40), min_size=1, max_size=5))
def test_pairs_at_cuts(users: list[list[Event]], cuts: set[int]) -> None:
    since = member_from(columns(users), 0, whenever_known=False)
    pairs = at_cuts(since, np.array(sorted(cuts)))
    expected = [(u, c) for u, events in enumerate(users) for c in sorted(cuts) if is_member(events, 0, c, False)]
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == expected


@given(users=LOGS, kinds=st.sets(st.integers(0, 2)))
def test_pairs_at_events(users: list[list[Event]], kinds: set[int]) -> None:
    pairs = at_events(columns(users), member_from(columns(users), 0, whenever_known=True), sorted(kinds))
    expected = [
        (u, t)
        for u, events in enumerate(users)
        for t in sorted({e.t for e in events if e.kind in kinds})
        if is_member(events, 0, t, True)
    ]
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == expected


DAY_US = 86_400_000_000


def said(form: str, inside: list[tuple[int, float]], cut: int, latest: int) -> float:
    """What a form says of the (time, value) in a window."""
    if form in ("any", "none"):
        return float(bool(inside) == (form == "any"))
    if form == "count":
        return float(len(inside))
    if form == "sum":
        return sum(value for _, value in inside if not math.isnan(value))
    return (min(inside)[0] - cut if inside else latest) / DAY_US


@given(users=LOGS, form=st.sampled_from(["any", "none", "count", "sum", "days_until"]), begin=st.integers(0, 3),
       width=st.integers(1, 20), data=st.data())  # fmt: skip
def test_labels(users: list[list[Event]], form: str, begin: int, width: int, data: st.DataObject) -> None:
    grid = [(u, c) for u in range(len(users)) for c in range(-3, 40)]
    pairs = Pairs(np.array([u for u, _ in grid]), np.array([c for _, c in grid]))
    events = columns(users)
    number = st.one_of(st.integers(-9, 9).map(float), st.just(math.nan))
    values = data.draw(st.lists(number, min_size=len(events.t_us), max_size=len(events.t_us)))
    outcomes = outcomes_of(events, events.kind == 2, np.array(values, np.float64))
    found = label(form, outcomes, pairs, begin, width, begin + width)
    of_user = iter(values)
    mine = [[(e.t, next(of_user), e.kind) for e in user] for user in users]
    expected = [
        said(
            form,
            [(t, x) for t, x, kind in mine[u] if kind == 2 and c + begin <= t < c + begin + width],
            c,
            begin + width,
        )
        for u, c in grid
    ]
    assert found.tolist() == expected
    low, high = data.draw(st.tuples(st.integers(0, len(users)), st.integers(0, len(users))).map(sorted))
    part = (pairs.user >= low) & (pairs.user < high)
    some = Pairs(pairs.user[part] - low, pairs.cut_us[part])
    again = label(form, outcomes.of_users(low, high), some, begin, width, begin + width)
    assert again.tolist() == [x for x, kept in zip(expected, part, strict=True) if kept]


def test_sums_are_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge value leaves no rounding in windows without it, and parts of the work change nothing."""
    user = [Event(t, t, 2) for t in range(30)]
    values = np.array([1e17, *(0.1 * t for t in range(1, 30))])
    pairs = Pairs(np.zeros(30, np.int64), np.arange(30))
    outcomes = outcomes_of(columns([user]), np.ones(30, bool), values)
    whole = label("sum", outcomes, pairs, 0, 4)
    assert whole[1:].tolist() == pytest.approx([float(values[t : t + 4].sum()) for t in range(1, 30)], rel=1e-15)
    monkeypatch.setattr(labels, "SUMMED", 7)
    monkeypatch.setattr(labels, "TOGETHER", 5)
    assert label("sum", outcomes, pairs, 0, 4).tolist() == whole.tolist()


@given(users=LOGS, ends=st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted))
def test_of_users(users: list[list[Event]], ends: list[int]) -> None:
    low, high = (min(end, len(users)) for end in ends)
    part, whole = of_users(columns(users), low, high), columns(users[low:high])
    assert part.user_id.tolist() == [10 * u for u in range(low, high)]
    for name in ("first", "t_us", "ingested_us", "kind"):
        assert np.array_equal(getattr(part, name), getattr(whole, name))


def mix(x: int) -> int:
    """SplitMix64's finalizer, as published."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


@given(user=st.integers(-(2**63), 2**63 - 1), cut=st.integers(-(2**61), 2**61), share=st.floats(0, 1))
def test_a_draw_is_the_documented_hash(user: int, cut: int, share: float) -> None:
    expected = (mix((mix(user % 2**64) + cut) % 2**64) >> 11) / 2**53 < share
    assert drawn(np.array([user]), np.array([cut]), share).tolist() == [expected]


def grid(users: int, cuts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbouring ids and midnights: what a weak hash would show its pattern on."""
    return np.repeat(np.arange(users), cuts), np.tile(1_300_000_000_000_000 + 86_400_000_000 * np.arange(cuts), users)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_draws_are_fair_for_every_user_and_every_cut(share: float) -> None:
    user, cut = grid(1_000, 200)
    took = drawn(user, cut, share).reshape(1_000, 200)
    sd = np.sqrt(share * (1 - share))
    assert abs(took.mean() - share) < 5 * sd / np.sqrt(took.size)
    for axis, n in ((0, 1_000), (1, 200)):
        spread = took.mean(axis).std() / (sd / np.sqrt(n))
        assert 0.8 < spread < 1.2, "as independent draws would spread"


def test_a_smaller_share_is_a_part_of_a_larger_one() -> None:
    user, cut = grid(300, 30)
    some, more = drawn(user, cut, 0.2), drawn(user, cut, 0.6)
    assert some.sum() < more.sum()
    assert not (some & ~more).any()
    assert drawn(user, cut, 1.0).all()
