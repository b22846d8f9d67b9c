"""The window kernel against the naive oracle."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.helpers import assert_row, columns, days, event, expected, family, ints, rows, same_bits
from tests.reference import DAY, Event
from ubp_sql.errors import BadInput
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events

AS_OF = 1_320_000_000_000_000
HOUR = DAY // 24
SETS = (
    FeatureSetDefinition(("purchase", "cancel")),
    FeatureSetDefinition(("une vue très chère", "購入", "add to cart"), (3, 1, 45)),
    FeatureSetDefinition(("only",), (30,)),
)


@st.composite
def one_user(draw: st.DrawFn, definition: FeatureSetDefinition) -> list[Event]:
    """Up to 30 events: ties, the very edges of every window, late ingestion, few keys, hostile values."""
    edges = [AS_OF - width * DAY + step for width in (0, *definition.windows_days) for step in (-1, 0, 1)]
    time = st.one_of(st.sampled_from(edges), st.integers(AS_OF - 200 * DAY, AS_OF + DAY), st.just(AS_OF - 5 * DAY))
    value = st.one_of(
        st.none(), st.floats(0, 100), st.floats(allow_nan=False), st.sampled_from([1e308, -1e308, 5e-324])
    )
    late = st.sampled_from([-DAY, 0, 0, 0, 1, 40 * DAY])
    zone = draw(st.sampled_from([0, -5 * HOUR, 13 * HOUR]))
    summer = draw(st.sampled_from([0, HOUR]))
    found = []
    for t in draw(st.lists(time, max_size=30)):
        order = draw(st.one_of(st.just(t), st.sampled_from([7, -7])))
        kind = draw(st.sampled_from([*definition.kinds, "another"]))
        item = draw(st.sampled_from([None, 0, 1, -(2**62)]))
        local = t + zone + (summer if t < AS_OF - 20 * DAY else 0)
        found.append(Event(t, local, t + draw(late), kind, item, order, draw(value)))
    return sorted(found, key=lambda e: (e.t, e.ingested))


@pytest.mark.parametrize("definition", SETS, ids=lambda d: d.kinds[0])
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_equals_the_oracle(definition: FeatureSetDefinition, data: st.DataObject) -> None:
    users = data.draw(st.lists(one_user(definition), min_size=1, max_size=4))
    moments = st.sampled_from([AS_OF, AS_OF - 30 * DAY, AS_OF - 5 * DAY, AS_OF + 1])
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, len(users) - 1), moments, st.sampled_from([0, 0, 1, 50 * DAY])), max_size=6)
    )
    pairs.sort(key=lambda pair: pair[0])
    as_of = ints([moment for _, moment, _ in pairs])
    known_at = as_of + ints([later for *_, later in pairs])
    chunk = data.draw(st.sampled_from([1, 2, 5, 100, 1 << 20]))
    local = as_of + 2 * HOUR
    found = compute(
        columns(users, definition.kinds), definition, ints([u for u, *_ in pairs]), as_of, local, known_at, chunk=chunk
    ).features
    assert found.shape == (len(pairs), len(definition.features))
    assert found.dtype == np.float32
    for row, (u, moment, later) in zip(found, pairs, strict=True):
        assert_row(definition, row, expected(definition, users[u], moment, moment + 2 * HOUR, moment + later))


def test_no_event_gives_zero_counts_and_no_other_value() -> None:
    definition = SETS[0]
    row = rows([[]], definition, AS_OF)[0]
    zero = {f.name for f in definition.features if f.sql_type == "integer" or family(f) == "sum_value"}
    assert {f.name for f, x in zip(definition.features, row, strict=True) if x == 0} == zero
    assert np.isnan(row).sum() == len(row) - len(zero)


def test_window_edges() -> None:
    """A window holds its start and not its end."""
    definition = SETS[2]
    start, at = [event(AS_OF - days(30), "only")], [event(AS_OF, "only")]
    before = [event(AS_OF - days(30) - 1, "only")]
    count = [f.name for f in definition.features].index("count_only_30d")
    assert rows([start, at, before], definition, AS_OF)[:, count].tolist() == [1, 0, 0]


def test_knowledge_clock() -> None:
    """known_at is inclusive and hides what came later, also from distinct counts that it stands between."""
    definition = SETS[2]
    names = [f.name for f in definition.features]
    late = AS_OF + days(3)
    events = [
        event(AS_OF - days(9), "only", item=1, order=5),
        event(AS_OF - days(8), "only", item=1, order=5, ingested=late),
        event(AS_OF - days(7), "only", item=1, order=5),
        event(AS_OF - days(6), "only", item=2, order=6, ingested=late),
    ]
    for known_at, count, items in ((None, 2, 1), (late - 1, 2, 1), (late, 4, 2)):
        row = dict(zip(names, rows([events], definition, AS_OF, known_at=known_at)[0].tolist(), strict=True))
        assert (row["count_only_30d"], row["distinct_items_only_30d"], row["orders_only_all"]) == (count, items, items)


def test_sums_are_clamped_to_float32_and_stay_with_their_user() -> None:
    definition = SETS[2]
    names = [f.name for f in definition.features]
    total = names.index("sum_value_only_30d")
    t = AS_OF - days(1)
    users = [
        [event(t, "only", value=1e308), event(t, "only", value=1e308)],
        [event(t, "only", value=2.0)],
        [event(t, "only", value=-np.inf)],
        [event(t, "only", value=np.inf), event(t, "only", value=-np.inf)],
        [event(t, "only", value=None)],
    ]
    found = rows(users, definition, AS_OF)[:, total]
    top = np.finfo(np.float32).max
    assert found[[0, 1, 2, 4]].tolist() == [top, 2.0, -top, 0.0]
    assert np.isnan(found[3])


def test_a_cancel_is_honoured_between_chunks() -> None:
    definition = SETS[0]
    users = [[event(AS_OF - days(1) - i) for i in range(50, 0, -1)]] * 20
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 40:
            raise KeyboardInterrupt

    args = (columns(users, definition.kinds), definition, np.arange(20), ints([AS_OF] * 20), ints([AS_OF] * 20))
    with pytest.raises(KeyboardInterrupt):
        compute(*args, between_chunks=stop, chunk=10)
    assert calls == 40
    assert same_bits(compute(*args, between_chunks=lambda: None).features, compute(*args, chunk=10).features)


def _pairs_off(events: int) -> dict[str, Callable[[], object]]:
    data = columns([[event(AS_OF - 1)] * events] * 2, ("purchase",))
    definition = FeatureSetDefinition(("purchase",))
    moment = ints([AS_OF, AS_OF])
    strange = columns([[event(AS_OF - 1, "b")]], ("a", "b"))
    return {
        "falls": lambda: compute(data, definition, ints([1, 0]), moment, moment),
        "leaves": lambda: compute(data, definition, ints([0, 2]), moment, moment),
        "shape": lambda: compute(data, definition, ints([0]), moment, moment),
        "75,000": lambda: compute(data, definition, ints([0, 1]), moment, ints([0, 2**63 - 1])),
        "kind": lambda: compute(strange, definition, ints([0]), moment[:1], moment[:1]),
        "chunk": lambda: compute(data, definition, ints([0, 1]), moment, moment, chunk=0),
    }


@pytest.mark.parametrize("case", sorted(_pairs_off(1)))
def test_refusals(case: str) -> None:
    with pytest.raises(BadInput, match=case):
        _pairs_off(1)[case]()


@pytest.mark.parametrize(
    "n", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)], ids=["a million", "ten million"]
)
def test_one_user_with_very_many_events(n: int) -> None:
    """Linear also where half the events of one key are unknown; counts checked by NumPy."""
    rng = np.random.default_rng(5)
    t = np.unique(rng.integers(AS_OF - 400 * DAY, AS_OF, n))
    n = len(t)
    late = rng.random(n) < 0.5
    item = np.where(rng.random(n) < 0.9, 1, rng.integers(0, 1 << 40, n))
    events = Events(
        ints([0]),
        ints([0, n]),
        t,
        t + late * 900 * DAY,
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        {"value": rng.random(n)},
        {"item": item, "order": t},
    )
    definition = FeatureSetDefinition(("purchase",), (30,))
    row = compute(events, definition, ints([0]), ints([AS_OF]), ints([AS_OF])).features[0]
    names = [f.name for f in definition.features]
    inside = (t >= AS_OF - 30 * DAY) & ~late
    assert row[names.index("count_purchase_30d")] == np.float32(inside.sum())
    assert row[names.index("distinct_items_purchase_30d")] == np.float32(len(np.unique(item[inside])))
    assert row[names.index("distinct_items_purchase_all")] == np.float32(len(np.unique(item[~late])))
