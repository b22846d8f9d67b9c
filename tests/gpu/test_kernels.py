"""The GPU's kernels beside the CPU's: the same bits of the same work, in whatever parts it is done.

Without a card numba.cuda's simulator runs them, with NumPy in CuPy's place (tests/conftest.py).
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features import op_oracle as oracle
from tests.features.helpers import columns, ints
from tests.features.test_backends import AHEAD, bits_of
from tests.features.test_ops import AGEING, MOMENTS, every_cell, histories, pairs_of
from tests.live.test_library import DEFINITION, START, some_events
from tests.models.forest_makers import blob_of, random_model, rows_for
from tests.reference import DAY, Event
from ubp_sql.features.events import Events
from ubp_sql.kernels import _gpu_card, dispatch, gpu
from ubp_sql.kernels._gpu_parts import for_a_core
from ubp_sql.kernels.dispatch import Backend
from ubp_sql.kernels.plan_build import OpSpec
from ubp_sql.models.batch import trees_of
from ubp_sql.models.bit_vectors import bit_vectors

pytestmark = [
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
    # What Numba computes without a word - a hash's overflow, 0/0 - NumPy's scalars tell, in the simulator's threads.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
GPU: Any = gpu


def agree(asked: tuple[Any, Any, Any, Any, Any, int]) -> None:
    """Everything that both say of the same pairs. A card's own log and pow may differ in the last bit of float64."""
    made, theirs = (bits_of(*asked, backend) for backend in (GPU, AHEAD))
    if gpu.simulated():
        assert made == theirs
        return
    for one, other, kind in zip(made, theirs, (np.float32, np.float64, np.int64, np.float32), strict=True):
        np.testing.assert_allclose(np.frombuffer(one, kind), np.frombuffer(other, kind), rtol=1e-6)


@given(
    st.tuples(histories(), histories()),
    st.one_of(st.none(), st.lists(oracle.specs(), min_size=1, max_size=6)),
    pairs_of,
)
@settings(deadline=None, max_examples=25)
def test_any_plan(
    users: tuple[list[Event], list[Event]], specs: list[OpSpec] | None, pairs: list[tuple[int, int, int]]
) -> None:
    made = AGEING if specs is None else every_cell(specs)[0]
    pairs.sort(key=lambda pair: pair[0])
    user, as_of = ints([u for u, *_ in pairs]), ints([moment for _, moment, _ in pairs])
    known_at = as_of + ints([later for *_, later in pairs])
    agree((made, columns(users, oracle.KINDS), user, as_of, known_at, 1 << 20))


def many_users(sizes: list[int]) -> tuple[Any, Any, Any, Any, Any, int]:
    """Users of so many events, a pair or two each."""
    numbers, keys, _ = DEFINITION.columns
    parts = [some_events(seed, n) for seed, n in enumerate(sizes)]

    def joined(name: str) -> Any:
        return np.concatenate([part[name][:n] for part, n in zip(parts, sizes, strict=True)])

    kind = joined("kind")
    events = Events(
        user_id=np.arange(len(sizes), dtype=np.int64),
        first=np.cumsum([0, *sizes]),
        t_us=joined("t"),
        ingested_us=joined("ingested"),
        offset_s=joined("offset_s"),
        kind=np.where(kind < len(DEFINITION.kinds), kind, -1).astype(np.int32),
        numbers={name: joined(name) for name in numbers},
        keys={name: joined(name) for name in keys},
    )
    user = np.repeat(np.arange(len(sizes)), 2)
    as_of = START + np.tile([30, 100], len(sizes)) * DAY
    return DEFINITION, events, user, as_of, as_of, 1


SIZES = [3, 40, 1, 200, 7, 33, 32, 129, 0, 5]


@pytest.fixture
def small_parts() -> Iterator[None]:
    """Parts of a few users, few of them under way together, and the CPU for those of more than 150 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "LEAST_EVENTS", 60)
        patch.setattr(gpu, "LONGEST", 150)
        patch.setattr(_gpu_card, "SIMULATED_ROOM", 1 << 18)
        yield


def before(function: Any, also: Callable[[], None]) -> Any:
    def both(*given: Any, **named: Any) -> Any:
        also()
        return function(*given, **named)

    return both


@pytest.fixture
def by_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Users whom the CPU computes beside the card, as they are left to it."""
    seen: list[int] = []
    taken = gpu._ByCpu.__init__

    def noted(those: Any, work: Any, at: Any) -> None:
        seen.extend(at)
        taken(those, work, at)

    monkeypatch.setattr(gpu._ByCpu, "__init__", noted)
    return seen


def test_users_of_all_lengths() -> None:
    agree(many_users(SIZES))


def test_many_parts(small_parts: None, by_cpu: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[tuple[int, int]] = []
    start = gpu._Part.__init__

    def noted(part: Any, work: Any, scan: Any, low: int, high: int) -> None:
        starts.append((low, high))
        start(part, work, scan, low, high)

    monkeypatch.setattr(gpu._Part, "__init__", noted)
    agree(many_users(SIZES))
    assert len(starts) > 2, "the users went over in one part"
    assert [low for low, _ in starts] == [0, *(high for _, high in starts[:-1])]
    assert by_cpu == [3], "the user of 200 events was not the CPU's"


def test_a_user_of_much_work_is_the_cpus(by_cpu: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread would keep the whole card waiting for him; and the core computes while the card does."""
    monkeypatch.setattr(gpu, "SLOWER", 3.0)
    order: list[str] = []
    for kind, name in ((_gpu_card.Lane, "launch"), (gpu._ByCpu, "compute"), (_gpu_card.Lane, "finish")):
        monkeypatch.setattr(kind, name, before(getattr(kind, name), partial(order.append, name)))
    agree(many_users([5, 700, 8, 3, 600, 0, 2, 7]))
    assert by_cpu == [1, 4, 1, 4], "for the features, and until when they hold"
    assert order[: order.index("finish")] == ["launch", "compute"]


@pytest.mark.parametrize(
    ("work", "slower", "wanted"),
    [
        ([], 100.0, []),
        ([50, 50, 50], 0.0, []),
        ([50] * 200, 100.0, []),
        ([50] * 50, 100.0, range(50)),
        ([5_000, *[50] * 1_000], 100.0, [0]),
        ([40, 90_000, *[400] * 1_000, 60_000], 100.0, [1, 1_002]),
        ([60_000] * 101, 100.0, []),
    ],
)
def test_whom_the_cpu_takes(work: list[int], slower: float, wanted: Iterable[int]) -> None:
    assert np.flatnonzero(for_a_core(ints(work), slower)).tolist() == list(wanted)


def test_what_is_stopped_between_two_parts_can_go_on(small_parts: None) -> None:
    definition, events, user, as_of, *_ = many_users(SIZES)
    from ubp_sql.features import compute as computing

    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "backend", lambda: GPU)
        with pytest.raises(KeyboardInterrupt):
            computing.compute(events, definition, user, as_of, as_of, between_chunks=stop, chunk=1)
        again = computing.compute(events, definition, user, as_of, as_of, chunk=1)
    assert again.features.tobytes() == computing.compute(events, definition, user, as_of, as_of).features.tobytes()


@pytest.mark.parametrize(("seed", "rows"), [(0, 0), (1, 1), (2, 70), (3, 130), (4, 40), (5, 40)])
@pytest.mark.parametrize("held", [8, 1024])
def test_forests(seed: int, rows: int, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`held` 8: trees that do not fit a block's memory."""
    monkeypatch.setattr(import_module("ubp_sql.kernels._gpu_forest"), "HELD", held)
    text = random_model(Random(seed), 3, 5, 12)
    blob, x = blob_of(text), rows_for(text, rows, seed)
    trees, bits = trees_of(blob), bit_vectors(blob, 1e9)
    wanted = AHEAD.forest_raw(x, trees, blob.n_outputs)
    assert gpu.forest_raw(x, trees, blob.n_outputs).tobytes() == wanted.tobytes()
    if bits is not None:
        assert gpu.forest_bits(x, bits, blob.n_outputs).tobytes() == wanted.tobytes()
    score = (wanted, blob.divisor, blob.link, blob.link_parameter)
    assert gpu.forest_score(*score).tobytes() == AHEAD.forest_score(*score).tobytes()


def test_rows_of_a_leaf_alone_and_of_deep_trees_go_together() -> None:
    for seed in range(6):
        text = random_model(Random(100 + seed), 4, 1 + seed % 3, 3)
        blob, x = blob_of(text), rows_for(text, 20, seed)
        assert gpu.forest_raw(x, trees_of(blob), blob.n_outputs).tobytes() == (
            AHEAD.forest_raw(x, trees_of(blob), blob.n_outputs).tobytes()
        )


def test_one_interface() -> None:
    """Backends drift apart by a default or an argument that one of them lacks."""
    names = sorted(name for name in vars(Backend) if not name.startswith("_"))
    for backend in ("aot", "cpu", "gpu"):
        module = import_module(f"ubp_sql.kernels.{backend}")
        assert sorted(module.__all__) == names
        for name in names:
            function = getattr(module, name)
            wanted = inspect.signature(getattr(Backend, name))
            found = inspect.signature(getattr(function, "py_func", function))
            given = [(p.name, p.default) for p in wanted.parameters.values()][1:]
            assert [(p.name, p.default) for p in found.parameters.values()] == given, f"{backend}.{name}"


def test_moments_of_a_user_are_any_number() -> None:
    users: tuple[list[Event], list[Event]] = ([], [])
    user, as_of = np.zeros(3, np.int64), ints([MOMENTS[0]] * 3)
    agree((AGEING, columns(users, oracle.KINDS), user, as_of, as_of, 1))
    agree((AGEING, columns(users, oracle.KINDS), user[:0], as_of[:0], as_of[:0], 1))


def test_the_backend_by_name() -> None:
    assert dispatch.backend("gpu") is GPU
