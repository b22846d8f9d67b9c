"""Every plain operation of the kernel against the naive oracle, over every form of window and condition."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference as ref
from tests.features import op_oracle as oracle
from tests.features.helpers import columns, event, ints, same_bits
from tests.reference import DAY, Event
from ubp_sql.features.columns import Columns
from ubp_sql.features.compute import age_rows, compute, valid_until
from ubp_sql.kernels.dispatch import LIFETIME_US, Formula, FormulaColumn, Key, Op, Plan, Size
from ubp_sql.kernels.plan_blob import pack_plan, unpack_plan
from ubp_sql.kernels.plan_build import OpSpec, PlanBuilder, Where

AS_OF = 1_320_000_000_000_000
HOUR = DAY // 24
MOMENTS = (AS_OF, AS_OF - 2 * DAY, AS_OF - 5 * DAY, AS_OF + 1, AS_OF - 30 * DAY)


class Made(NamedTuple):
    """A definition by hand: what `compute` asks of one."""

    plan: Plan
    kinds: tuple[str, ...] = oracle.KINDS
    columns: Columns = Columns(("value",), ("item", "order"), True)


def every_cell(specs: list[OpSpec]) -> tuple[Made, list[list[list[int]]]]:
    """A plan whose anchors are all its cells, and where the cells of each operation's windows are."""
    builder = PlanBuilder(len(oracle.KINDS))
    asked = [
        [
            [builder.formula(Formula.VALUE, builder.cell(spec, w, j)) for j in range(oracle.n_cells(spec))]
            for w in oracle.windows(spec)
        ]
        for spec in specs
    ]
    plan = builder.plan()
    places = [[[int(plan.formulas[f, FormulaColumn.A]) for f in window] for window in spec] for spec in asked]
    return Made(plan._replace(anchors=np.arange(plan.sizes[Size.CELLS]))), places


@st.composite
def scattered(draw: st.DrawFn) -> list[Event]:
    """Up to 30 events: ties, the edges of the windows, late and early ingestion, few keys, hostile values."""
    edges = [m - w + step for m in MOMENTS for w in (0, *oracle.WIDTHS[1:], 7 * DAY, 14 * DAY) for step in (-1, 0, 1)]
    time = st.one_of(st.sampled_from(edges), st.integers(AS_OF - 60 * DAY, AS_OF + DAY), st.just(AS_OF - 4 * DAY))
    value = st.one_of(st.none(), st.integers(-3, 3).map(float), st.floats(-100, 100), st.sampled_from([1e308, -1e308]))
    late = st.sampled_from([-DAY, 0, 0, 0, 0, 1, 40 * DAY])
    summer = draw(st.sampled_from([0, HOUR, 26 * HOUR]))
    found = []
    for t in draw(st.lists(time, max_size=30)):
        local = t - 5 * HOUR + (summer if t < AS_OF - 4 * DAY else 0)
        item, order = draw(st.sampled_from([None, 1, 1, 2, 3, -(2**62)])), draw(st.sampled_from([t, 5, 6]))
        kind = draw(st.sampled_from([*oracle.KINDS, "another"]))
        found.append(Event(t, local, t + draw(late), kind, item, order, draw(value)))
    return sorted(found, key=lambda e: (e.t, e.ingested))


@st.composite
def crowded(draw: st.DrawFn) -> list[Event]:
    """Up to 14 events in 12 days, a moment apart by whole days, of two kinds and two items: edges all over."""
    number = st.integers(-2, 10)
    found = []
    for n in draw(st.lists(number, max_size=14)):
        t = AS_OF - n * DAY
        late = draw(st.sampled_from([0, 0, 0, 1, 2, 4])) * DAY
        kind, item = draw(st.sampled_from(oracle.KINDS[:2])), draw(st.sampled_from([None, 1, 1, 2, 2]))
        found.append(Event(t, t, t + late, kind, item, item or 0, float(n)))
    return sorted(found, key=lambda e: (e.t, e.ingested))


def histories() -> st.SearchStrategy[list[Event]]:
    return st.one_of(crowded(), scattered())


pairs_of = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(MOMENTS), st.sampled_from([0, 0, 1, DAY, -DAY, 50 * DAY])),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("codes", [oracle.PLAIN, oracle.LINKED], ids=["plain", "linked"])
@given(data=st.data())
@settings(deadline=None, max_examples=250)
def test_cells_equal_the_oracle(codes: tuple[Op, ...], data: st.DataObject) -> None:
    users = data.draw(st.tuples(histories(), histories()))
    specs = data.draw(st.lists(oracle.specs(codes), min_size=1, max_size=4))
    pairs, chunk = data.draw(pairs_of), data.draw(st.sampled_from([1, 3, 9, 40, 1 << 20]))
    made, places = every_cell(specs)
    pairs.sort(key=lambda pair: pair[0])
    as_of = ints([moment for _, moment, _ in pairs])
    known_at = as_of + ints([later for *_, later in pairs])
    events, user = columns(users, oracle.KINDS), ints([u for u, *_ in pairs])
    found = compute(events, made, user, as_of, as_of, known_at, chunk=chunk, holidays=ints(oracle.HOLIDAYS)).anchors
    for row, (u, moment, later) in zip(found, pairs, strict=True):
        known = ref.known(users[u], moment, moment + later)
        for spec, windows in zip(specs, places, strict=True):
            for window, cells in zip(oracle.windows(spec), windows, strict=True):
                for j, (want, error) in enumerate(oracle.cells(spec, known, moment, window)):
                    got = row[cells[j]]
                    same = got == want or (np.isnan(got) and np.isnan(want)) or abs(got - want) <= error
                    assert same or np.isinf(error), (spec, window, j, got, want)


@given(st.tuples(histories(), histories()), st.lists(oracle.specs(), min_size=1, max_size=4), pairs_of)
@settings(deadline=None, max_examples=100)
def test_budgets_change_no_bit(
    users: tuple[list[Event], list[Event]], specs: list[OpSpec], pairs: list[tuple[int, int, int]]
) -> None:
    made, _ = every_cell(specs)
    pairs.sort(key=lambda pair: pair[0])
    as_of = ints([moment for _, moment, _ in pairs])
    events, user = columns(users, oracle.KINDS), ints([u for u, *_ in pairs])
    whole, parts = (compute(events, made, user, as_of, as_of, chunk=chunk) for chunk in (1 << 20, 1))
    assert same_bits(whole.features, parts.features)
    assert np.array_equal(whole.anchors.view(np.int64), parts.anchors.view(np.int64))


def ageing_plan() -> Made:
    """One formula of each kind that ages, beside counts, a sum and a distinct count over windows."""
    builder = PlanBuilder(len(oracle.KINDS))
    seen, gaps = OpSpec(Op.SEEN, (0,)), OpSpec(Op.GAPS, (0, 1), key=1)
    decay = OpSpec(Op.DECAY, (0,), number=0, p0=7.0 * DAY)
    days = OpSpec(Op.HIST, (0,), key=Key.WEEKDAY, size=7)
    count = OpSpec(Op.COUNT, (0,))
    builder.formula(Formula.AGE, builder.cell(seen), f1=float(DAY))
    builder.formula(Formula.AGE_RATIO, builder.cell(gaps, j=4), builder.cell(gaps, j=1))
    builder.formula(Formula.DECAY, builder.cell(decay), builder.cell(decay, j=1), f0=7.0 * DAY, f1=2.0)
    builder.formula(Formula.WEEKDAY, builder.cell(days, 30 * DAY), builder.cell(count, 30 * DAY))
    for width in (LIFETIME_US, 30 * DAY, DAY):
        builder.formula(Formula.VALUE, builder.cell(count, width))
        builder.formula(Formula.VALUE, builder.cell(OpSpec(Op.SUM, (1,), number=0), width, 1))
        builder.formula(Formula.VALUE, builder.cell(OpSpec(Op.DISTINCT, (0, 1), key=0), width))
    builder.formula(Formula.VALUE, builder.cell(OpSpec(Op.COUNT, (2,), where=Where(0, 0.0, 50.0)), 5 * DAY))
    return Made(builder.plan())


AGEING = ageing_plan()


@given(histories(), st.sampled_from(MOMENTS), st.integers(0, 2**40), st.integers(0, 6))
@settings(deadline=None, max_examples=300)
def test_rows_age_without_events(user: list[Event], as_of: int, later: int, days: int) -> None:
    """Up to valid_until an aged row has the bits of a computed one."""
    events, zero = columns([user], oracle.KINDS), ints([0])
    made = compute(events, AGEING, zero, ints([as_of]), ints([as_of]))
    until = int(valid_until(events, AGEING, zero, ints([as_of]))[0])
    assert until >= as_of
    for moment in {as_of, min(as_of + later, until), min(until, as_of + 900 * DAY)}:
        local = moment + days * DAY
        fresh = compute(events, AGEING, zero, ints([moment]), ints([local]))
        aged = age_rows(AGEING.plan, made.features, made.anchors, moment, ref.weekday(local))
        assert same_bits(aged, fresh.features)
        assert np.array_equal(made.anchors.view(np.int64), fresh.anchors.view(np.int64))


def counting_plan() -> Made:
    builder = PlanBuilder(len(oracle.KINDS))
    for width in (LIFETIME_US, 30 * DAY, 5 * DAY):
        builder.formula(Formula.VALUE, builder.cell(OpSpec(Op.COUNT, (0, 1, 2)), width))
    return Made(builder.plan())


COUNTS = counting_plan()


@given(histories(), st.sampled_from(MOMENTS), st.sampled_from([1, 7, 1 << 20]))
@settings(deadline=None, max_examples=300)
def test_valid_until_is_the_oracles_moment(user: list[Event], as_of: int, chunk: int) -> None:
    events, zero = columns([user], oracle.KINDS), ints([0])
    mine = [e for e in user if e.kind in oracle.KINDS]
    until = int(valid_until(events, COUNTS, zero, ints([as_of]), chunk=chunk)[0])
    assert until == ref.valid_until(mine, as_of, [30 * DAY, 5 * DAY])


def test_one_microsecond_later_a_count_changes() -> None:
    users = [
        [event(AS_OF - 3 * DAY, "view"), event(AS_OF + 9 * DAY, "view")],
        [event(AS_OF - DAY, "buy", ingested=AS_OF + 7)],
    ]
    events, both = columns(users, oracle.KINDS), ints([0, 1])
    until = valid_until(events, COUNTS, both, ints([AS_OF] * 2))
    assert until.tolist() == [AS_OF + 2 * DAY, AS_OF + 6]
    last, after = (compute(events, COUNTS, both, until + step, until + step).features for step in (0, 1))
    assert last.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert after.tolist() == [[1, 1, 0], [1, 1, 1]]


@given(st.lists(oracle.specs(), min_size=1, max_size=6))
@settings(deadline=None, max_examples=50)
def test_a_plan_survives_its_bytes(specs: list[OpSpec]) -> None:
    made, _ = every_cell(specs)
    raw = pack_plan(made.plan)
    again = unpack_plan(raw)
    assert pack_plan(again) == raw
    assert all(
        np.array_equal(one, other) and one.dtype == other.dtype for one, other in zip(made.plan, again, strict=True)
    )
