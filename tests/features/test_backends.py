"""The two forms of the kernels on the CPU, compiled ahead of time and by Numba in the process: the same bits."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from random import Random
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features import op_oracle as oracle
from tests.features.helpers import columns, ints
from tests.features.test_ops import AGEING, MOMENTS, every_cell, histories, pairs_of
from tests.live.test_library import DEFINITION, HOLIDAYS, START, some_events
from tests.models.forest_makers import blob_of, random_model, rows_for
from tests.reference import DAY, Event
from ubp_sql.features import compute as computing
from ubp_sql.features.compute import Planned, age_rows, compute, valid_until
from ubp_sql.features.events import Events
from ubp_sql.install import native as build
from ubp_sql.kernels import dispatch, native
from ubp_sql.kernels.dispatch import F32, I64, Backend
from ubp_sql.kernels.forest_codes import LINKS
from ubp_sql.kernels.plan_build import OpSpec
from ubp_sql.models.batch import trees_of

AHEAD, NUMBA = (cast(Backend, import_module(f"ubp_sql.kernels.{name}")) for name in ("aot", "cpu"))


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    build.build()
    assert all(map(native.entry, native.ENTRIES))


@contextmanager
def run_by(backend: Backend) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "backend", lambda: backend)
        yield


def bits_of(made: Planned, events: Events, user: I64, as_of: I64, known_at: I64, chunk: int, backend: Backend) -> Any:
    """Everything that the kernels say of the pairs."""
    holidays = ints([*oracle.HOLIDAYS, *HOLIDAYS])
    with run_by(backend):
        rows = compute(events, made, user, as_of, as_of, known_at, chunk=chunk, holidays=holidays)
        until = valid_until(events, made, user, as_of, chunk=chunk)
        aged = age_rows(made.plan, rows.features, rows.anchors, as_of + 3 * DAY, 5, chunk=chunk)
    return [item.tobytes() for item in (*rows, until, aged)]


@given(
    st.tuples(histories(), histories()),
    st.one_of(st.none(), st.lists(oracle.specs(), min_size=1, max_size=6)),
    pairs_of,
    st.sampled_from([1, 7, 1 << 20]),
)
@settings(deadline=None, max_examples=150)
def test_any_plan(
    users: tuple[list[Event], list[Event]],
    specs: list[OpSpec] | None,
    pairs: list[tuple[int, int, int]],
    chunk: int,
) -> None:
    made = AGEING if specs is None else every_cell(specs)[0]
    pairs.sort(key=lambda pair: pair[0])
    user, as_of = ints([u for u, *_ in pairs]), ints([moment for _, moment, _ in pairs])
    asked = (made, columns(users, oracle.KINDS), user, as_of, as_of + ints([later for *_, later in pairs]), chunk)
    assert bits_of(*asked, AHEAD) == bits_of(*asked, NUMBA)


@given(st.integers(0, 2**32), st.sampled_from([1, 40, 300]), st.sampled_from([50, 1 << 20]))
@settings(deadline=None, max_examples=60)
def test_behaviour_and_declared_columns(seed: int, n: int, chunk: int) -> None:
    found, (numbers, keys, _) = some_events(seed, n), DEFINITION.columns
    events = Events(
        user_id=ints([1]),
        first=ints([0, n]),
        t_us=found["t"],
        ingested_us=found["ingested"],
        offset_s=found["offset_s"],
        kind=np.where(found["kind"] < len(DEFINITION.kinds), found["kind"], -1).astype(np.int32),
        numbers={name: found[name] for name in numbers},
        keys={name: found[name] for name in keys},
    )
    as_of = START + ints([5, 30, 30, 100]) * DAY
    asked = (DEFINITION, events, np.zeros(4, np.int64), as_of, as_of + ints([0, 0, DAY, 0]), chunk)
    assert bits_of(*asked, AHEAD) == bits_of(*asked, NUMBA)


@pytest.mark.parametrize(("seed", "rows"), [(0, 0), (1, 1), (2, 70), (3, 200), (4, 200), (5, 200)])
def test_forests(seed: int, rows: int) -> None:
    text = random_model(Random(seed), 3, 5, 12)
    blob, x = blob_of(text), rows_for(text, rows, seed)
    raw = AHEAD.forest_raw(x, trees_of(blob), blob.n_outputs)
    assert raw.shape == (rows, blob.n_outputs)
    assert raw.tobytes() == NUMBA.forest_raw(x, trees_of(blob), blob.n_outputs).tobytes()
    for link in range(LINKS):
        arguments = (raw, 3.0, link, 0.7)
        assert AHEAD.forest_score(*arguments).tobytes() == NUMBA.forest_score(*arguments).tobytes()


def age_two(out: Any, anchors: Any = None) -> bool:
    """`age_rows` of two rows."""
    plan = AGEING.plan
    moments, weekday, cells = np.full(2, MOMENTS[0]), np.zeros(2, np.int64), np.zeros(1000)
    stored = np.zeros((2, len(plan.anchors))) if anchors is None else anchors
    return AHEAD.age_rows(plan, moments, weekday, cells, stored, np.zeros(1, np.int64), 1 << 20, out)


def two_rows() -> F32:
    return np.zeros((2, len(AGEING.plan.formulas)), np.float32)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: out.astype(np.float64),
        lambda out: np.asfortranarray(out),
        lambda out: np.repeat(out, 2, axis=0)[::2],
        lambda out: out[:, :-1].copy(),
        lambda out: out[:1],
        lambda out: out.ravel(),
    ],
)
def test_what_is_no_such_array_is_not_touched(spoil: Callable[[F32], Any]) -> None:
    """An address says nothing of what lies there: Numba would look at the array, here we do."""
    assert age_two(two_rows())
    with pytest.raises((TypeError, ValueError), match=r"array 17 is|out has shape"):
        age_two(spoil(two_rows()))


def test_anchors_of_another_plan_and_a_read_only_output() -> None:
    with pytest.raises(ValueError, match="anchors has shape"):
        age_two(two_rows(), np.zeros((2, 1)))
    out = two_rows()
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        age_two(out)


def test_the_native_library_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.backend() is AHEAD
    assert dispatch.backend("cpu") is NUMBA
    monkeypatch.setattr(native, "entry", lambda _: None)
    assert dispatch.backend() is NUMBA


def test_no_kernel_of_the_native_library_needs_numba() -> None:
    code = """
import sys
import numpy as np
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events
from ubp_sql.models import batch
none = np.zeros(0, np.int64)
made = FeatureSetDefinition(("purchase",))
names = made.columns
events = Events(np.zeros(1, np.int64), np.zeros(2, np.int64), none, none, none.astype("i4"), none.astype("i4"),
                dict.fromkeys(names.numbers, none.astype("f8")), dict.fromkeys(names.keys, none))
one = np.zeros(1, np.int64)
assert compute(events, made, one, one, one).features.shape == (1, len(made.features))
print(*sorted({"numba", "llvmlite"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
