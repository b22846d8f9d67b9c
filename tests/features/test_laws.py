"""Laws that hold for every set of events: features depend on what they say they depend on, and on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.helpers import columns, event, ints, rows, same_bits
from tests.features.test_kernel import AS_OF, one_user
from tests.reference import DAY, Event
from ubp_sql.features import compute as computing
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.kernels import dispatch

SET = FeatureSetDefinition(("purchase", "cancel"))
WIDEST = max(SET.windows_days)
users = st.lists(one_user(SET), min_size=1, max_size=5)


@given(users)
@settings(deadline=None)
def test_a_user_alone_is_a_user_in_a_batch(batch: list[list[Event]]) -> None:
    together = rows(batch, SET, AS_OF)
    assert all(same_bits(together[i : i + 1], rows([user], SET, AS_OF)) for i, user in enumerate(batch))


@given(users, st.integers(-3000, 3000))
@settings(deadline=None)
def test_a_shift_by_whole_weeks_changes_nothing(batch: list[list[Event]], weeks: int) -> None:
    by = 7 * weeks * DAY
    moved = [
        [e._replace(t=e.t + by, local=e.local + by, ingested=e.ingested + by, order=e.order + by) for e in user]
        for user in batch
    ]
    assert same_bits(rows(batch, SET, AS_OF), rows(moved, SET, AS_OF + by, AS_OF + by))


@given(users)
@settings(deadline=None)
def test_events_outside_every_window_touch_lifetime_only(batch: list[list[Event]]) -> None:
    kept = [[e for e in user if AS_OF - WIDEST * DAY <= e.t < AS_OF] for user in batch]
    windowed = [f.position for f in SET.features if f.window_days is not None]
    assert same_bits(rows(batch, SET, AS_OF)[:, windowed], rows(kept, SET, AS_OF)[:, windowed])


@given(users)
@settings(deadline=None)
def test_the_future_and_other_kinds_touch_nothing(batch: list[list[Event]]) -> None:
    kept = [[e for e in user if e.t < AS_OF and e.ingested <= AS_OF and e.kind in SET.kinds] for user in batch]
    assert same_bits(rows(batch, SET, AS_OF), rows(kept, SET, AS_OF))


@given(users, st.randoms())
@settings(deadline=None)
def test_order_of_users_is_order_of_rows(batch: list[list[Event]], random: np.random.RandomState) -> None:
    order = list(range(len(batch)))
    random.shuffle(order)
    assert same_bits(rows(batch, SET, AS_OF)[order], rows([batch[i] for i in order], SET, AS_OF))


@given(users, st.integers(1, 40))
@settings(deadline=None)
def test_chunks_change_nothing(batch: list[list[Event]], chunk: int) -> None:
    assert same_bits(rows(batch, SET, AS_OF), rows(batch, SET, AS_OF, chunk=chunk))


@given(users, st.sampled_from([0, 5 * DAY, 50 * DAY]))
@settings(deadline=None)
def test_unknown_is_absent(batch: list[list[Event]], later: int) -> None:
    """An event not yet known leaves no trace, as if it had never been stored."""
    known = [[e for e in user if e.ingested <= AS_OF + later] for user in batch]
    assert same_bits(rows(batch, SET, AS_OF, known_at=AS_OF + later), rows(known, SET, AS_OF, known_at=2**62))


@given(users)
@settings(deadline=None)
def test_many_moments_at_once_are_each_alone(batch: list[list[Event]]) -> None:
    moments = [AS_OF - 30 * DAY, AS_OF - 1, AS_OF]
    n = len(batch)
    as_of = ints(moments * n)
    found = compute(columns(batch, SET.kinds), SET, np.repeat(np.arange(n), 3), as_of, as_of).features
    assert all(same_bits(found[i::3], rows(batch, SET, moment)) for i, moment in enumerate(moments))


def test_the_kernels_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signature would cost many seconds and memory in every session that meets it; read-only columns too."""
    from ubp_sql.kernels import _cpu_engine

    monkeypatch.setattr(computing, "backend", lambda: dispatch.backend("cpu"))
    events = columns([[event(AS_OF - 1)]], SET.kinds)
    events.t_us.flags.writeable = events.kind.flags.writeable = False
    for column in [*events.numbers.values(), *events.keys.values()]:
        column.flags.writeable = False
    one = ints([AS_OF])
    one.flags.writeable = False
    compute(events, SET, ints([0]), one, one)
    rows([[]], SET, AS_OF)
    assert len(getattr(_cpu_engine.run_pairs, "signatures", [None])) == 1
