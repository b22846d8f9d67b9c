"""Funnels, sessions, dwell, words: the worked examples of the document, and the kernel against the naive oracle."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference_behaviour as ref
from tests.features.behaviour_examples import Example, examples
from tests.features.behaviour_kernel import Wanted, columns, definition, rows
from tests.features.behaviour_oracle import UNITS, Values, expected
from tests.reference_behaviour import Event
from ubp_sql.features.compute import valid_until

EXAMPLES = list(examples())
AS_OF = 1_320_000_000_000_000
MINUTE = UNITS["m"]


def shown(x: float | None) -> str:
    return "NULL" if x is None or np.isnan(x) else f"{x:.6f}".rstrip("0").rstrip(".")


def test_the_document_has_examples_of_every_section() -> None:
    assert {x.section for x in EXAMPLES} == {"Funnel", "Sessions", "Dwell", "Words", "Favourite keys and entropy"}
    assert len(EXAMPLES) >= 39


@pytest.mark.parametrize("x", EXAMPLES, ids=lambda x: x.name)
def test_the_document_and_the_oracle_agree(x: Example) -> None:
    events = ref.known(x.events, x.as_of, x.as_of)
    found = expected(x.aggregate, x.settings, x.window, events, x.as_of)
    assert [name_of(x, shown(value)) for value in found] == x.values


@pytest.mark.parametrize("x", EXAMPLES, ids=lambda x: x.name)
def test_the_document_and_the_kernel_agree(x: Example) -> None:
    moment = (x.as_of, x.as_of)
    row = rows([x.events], [(x.aggregate, x.settings, x.window)], [(0, *moment)])[0]
    if x.aggregate != "top_keys":
        assert [shown(float(f"{value:.7g}")) for value in row.tolist()] == x.values
        return
    items = sorted({e.item for e in x.events if e.item is not None})
    alone = [[e for e in x.events if e.item == item] for item in items]
    codes = rows(alone, [("top_keys", x.settings | {"k": 1}, "all")], [(i, *moment) for i in range(len(items))])[:, 0]
    by_code = dict(zip(codes.tolist(), items, strict=True))
    assert len(by_code) == len(items)
    assert [name_of(x, "NULL" if np.isnan(c) else str(by_code[c])) for c in row.tolist()] == x.values


def name_of(x: Example, value: str) -> str:
    return f"code({value})" if x.aggregate == "top_keys" and value != "NULL" else value


AGGREGATES = """funnel_depth funnel_reached funnel_rate sessions session_events session_length bounce_share
    last_session_age last_session_length last_session_events dwell_count dwell_mean dwell_sum words"""
KINDS = st.sampled_from([["a"], ["b"], ["a", "b"], ["c", "a"]])
WIDTHS = st.sampled_from(["1s", "5m", "10m", "25m", "3h"])
WINDOWS = st.sampled_from(["5m", "10m", "20m", "1h", "all", "3 x 5m", "2 x 20m"])
STEPS = st.lists(st.sampled_from(["a", "a", "b", "c"]), min_size=2, max_size=4)


@st.composite
def feature(draw: st.DrawFn) -> Wanted:
    aggregate = draw(st.sampled_from(AGGREGATES.split()))
    window = draw(WINDOWS)
    if aggregate.startswith("funnel"):
        steps = draw(STEPS)
        step = {} if aggregate == "funnel_depth" else {"step": draw(st.integers(1, len(steps)))}
        return aggregate, {"steps": steps, "bound": draw(WIDTHS)} | step, window
    wanted: dict[str, Any] = {"kinds": draw(KINDS)}
    if aggregate == "words":
        return aggregate, wanted | {"buckets": draw(st.sampled_from([2, 7, 8, 33, 63, 64]))}, window.split(" x ")[-1]
    wanted |= {"timeout": draw(WIDTHS)}
    if aggregate.startswith("dwell") and draw(st.booleans()):
        wanted |= {"until": draw(KINDS)}
    return aggregate, wanted, "all" if aggregate.startswith("last_session") else window


@st.composite
def one_user(draw: st.DrawFn) -> list[Event]:
    """Up to 16 events: ties, pauses that are the limit or 1 us off it, the edges of windows, late arrivals."""
    pause = st.builds(
        lambda minutes, step: minutes * 5 * MINUTE + step, st.integers(0, 14), st.sampled_from([0, 0, 0, -1, 1])
    )
    word = st.frozensets(st.integers(0, 63), max_size=4)
    found = []
    for i in range(draw(st.integers(0, 16))):
        t = AS_OF - draw(pause)
        late = draw(st.sampled_from([0, 0, 0, 0, -MINUTE, MINUTE, 2 * 60 * MINUTE]))
        found.append(
            Event(t, t + late, draw(st.integers(0, 99)) * 100 + i, draw(st.sampled_from("aabbcd")), None, draw(word))
        )
    return found


MOMENTS = st.sampled_from([AS_OF, AS_OF + 1, AS_OF - 5 * MINUTE, AS_OF - 20 * MINUTE + 1])


@given(
    st.lists(one_user(), min_size=1, max_size=3),
    st.lists(feature(), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 2), MOMENTS, st.sampled_from([0, 0, -MINUTE, 90 * MINUTE])), min_size=1, max_size=5
    ),
    st.sampled_from([1, 2, 3, 7, 50]),
)
@settings(deadline=None, max_examples=400)
def test_the_kernel_equals_the_oracle(
    users: list[list[Event]], wanted: list[Wanted], moments: list[tuple[int, int, int]], chunk: int
) -> None:
    """Counts exactly, quotients to float32; and the same bits however the work is cut."""
    pairs = sorted((user % len(users), as_of, as_of + later) for user, as_of, later in moments)
    found = rows(users, wanted, pairs)
    for row, (user, as_of, known_at) in zip(found, pairs, strict=True):
        events = ref.known(users[user], as_of, known_at)
        assert_row(row.tolist(), [x for f in wanted for x in expected(*f, events, as_of)], wanted)
    cut = rows(users, wanted, pairs, chunk)
    assert np.array_equal(found.view(np.uint32), cut.view(np.uint32))


def assert_row(row: list[float], oracle: Values, wanted: list[Wanted]) -> None:
    assert len(row) == len(oracle)
    for got, want in zip(row, oracle, strict=True):
        if want is None:
            assert np.isnan(got), (wanted, row, oracle)
        else:
            assert abs(got - want) <= 2e-7 * abs(want), (wanted, row, oracle)


@given(one_user(), STEPS, WIDTHS)
@settings(deadline=None, max_examples=200)
def test_no_choice_of_later_events_beats_the_first_match(user: list[Event], steps: list[str], bound: str) -> None:
    """The oracle's greedy funnel against the search over all choices that the document promises it to equal."""
    events = ref.known(user[:9], AS_OF + 1, 1 << 62)
    limit = int(bound[:-1]) * UNITS[bound[-1]]
    for i, e in enumerate(events):
        if e.kind == steps[0]:
            assert ref.depth(events, i, steps, limit) == ref.depth_by_search(events, i, steps, limit)


@pytest.mark.parametrize("buckets", [1, 2, 3, 7, 8, 33, 40, 63, 64])
def test_every_word_has_its_own_bucket_and_no_other(buckets: int) -> None:
    users = [[Event(AS_OF - 1, AS_OF - 1, 0, "a", None, frozenset([word]))] for word in range(64)]
    found = rows(users, [("words", {"kinds": ["a"], "buckets": buckets}, "1h")], [(i, AS_OF, AS_OF) for i in range(64)])
    assert np.array_equal(found, [[word % buckets == j for j in range(buckets)] for word in range(64)])


@given(one_user(), st.lists(feature(), min_size=1, max_size=4), st.integers(0, 80 * MINUTE))
@settings(deadline=None, max_examples=200)
def test_a_row_stays_right_as_long_as_it_is_said_to(user: list[Event], wanted: list[Wanted], later: int) -> None:
    """Nothing enters or leaves before valid_until: only what ages on its own may change, that is recency."""
    lasting = [f for f in wanted if f[0] != "last_session_age"]
    if not lasting:
        return
    made = definition(lasting)
    events, none = columns([user], made.kinds), np.zeros(1, np.int64)
    until = int(valid_until(events, made, none, none + AS_OF)[0])
    assert until >= AS_OF
    for moment in {min(AS_OF + later, until), min(AS_OF + 80 * MINUTE, until)}:
        now, then = rows([user], lasting, [(0, AS_OF, AS_OF)]), rows([user], lasting, [(0, moment, moment)])
        assert np.array_equal(now.view(np.uint32), then.view(np.uint32))
