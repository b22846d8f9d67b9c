"""Arrays that lie on the card stay there: nothing large is copied, and the host reads none of them by accident."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from bench import gpu as case
from tests.features.test_backends import AHEAD
from tests.gpu.stand_in import CUPY, OnCard, asarray, stand_in
from tests.models.forest_makers import blob_of, random_model, rows_for
from ubp_sql.features.compute import _finite_widths
from ubp_sql.kernels import _gpu_card, dispatch, gpu
from ubp_sql.kernels._gpu_parts import Users
from ubp_sql.kernels.dispatch import EventColumns, Pairs
from ubp_sql.models.batch import score_batch, trees_of
from ubp_sql.models.bit_vectors import bit_vectors

pytestmark = [
    pytest.mark.skipif(not gpu.fault() and not gpu.simulated(), reason="there is a card: no stand-in is needed"),
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
GPU: Any = gpu
WORK = case.some_work(2_000, 12, 2, 1)
LARGE = 6_000
"""Bytes; the smallest array of events has more, the plan none of so many."""


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    monkeypatch.setattr(gpu, "LONGEST", 1_000)
    return stand_in(monkeypatch)


def on_card(work: case.Work) -> case.Work:
    return work._replace(
        events=EventColumns._make(map(asarray, work.events)), pairs=Pairs._make(map(asarray, work.pairs))
    )


def computed(backend: Any, work: case.Work, xp: Any) -> list[bytes]:
    made = work.room(xp)
    case._run(backend.new_scan, backend.run_pairs, work, 1, made)
    return [(it.inner if isinstance(it, OnCard) else it).tobytes() for it in made]


WANTED = computed(AHEAD, WORK, np)


def test_what_lies_on_the_card_is_not_copied(copied: list[tuple[str, int]]) -> None:
    there = on_card(WORK)
    copied.clear()
    assert computed(gpu, there, CUPY) == WANTED
    assert WORK.longest < 1_000
    assert max(size for _, size in copied) < LARGE, copied


def test_what_lies_on_the_host_is_copied_once(copied: list[tuple[str, int]]) -> None:
    assert computed(gpu, WORK, np) == WANTED
    events = sum(column.nbytes for column in WORK.events[1:])
    assert events <= sum(size for way, size in copied if way == "to" and size >= LARGE) <= 1.5 * events


@pytest.mark.parametrize("which", ["events", "pairs", "rows"])
def test_some_here_and_some_there(which: str, copied: list[tuple[str, int]]) -> None:
    there = on_card(WORK)
    mixed = WORK._replace(**{which: getattr(there, which)}) if which != "rows" else WORK
    assert computed(gpu, mixed, CUPY if which == "rows" else np) == WANTED


def test_who_has_too_many_events_is_the_cpus(copied: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where `use` says gpu: what is left to the CPU must not come back."""
    monkeypatch.setattr(gpu, "LONGEST", 300)
    with dispatch.use("gpu"):
        assert computed(gpu, on_card(WORK), CUPY) == WANTED
        assert computed(gpu, WORK, np) == WANTED


def test_little_memory_means_many_parts(copied: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUPY.cuda.runtime, "memGetInfo", lambda: (1 << 13, 1 << 27))
    monkeypatch.setattr(CUPY, "get_default_memory_pool", lambda: type("Pool", (), {"free_bytes": lambda pool: 0})())
    parts: list[tuple[int, int]] = []
    cut = Users.until

    def noted(users: Users, low: int, most: int) -> int:
        parts.append((low, cut(users, low, most)))
        return parts[-1][1]

    monkeypatch.setattr(Users, "until", noted)
    until = [np.empty(len(WORK.pairs.user), np.int64) for _ in range(2)]
    assert computed(gpu, WORK, np) == WANTED
    assert len(parts) > 2, "all users went over together"
    cursor = np.zeros(5, np.int64)
    cursor[2] = -1
    widths = _finite_widths(WORK.plan)
    parts.clear()
    for backend, into in ((gpu, until[0]), (AHEAD, until[1])):
        where = cursor.copy()
        while not backend.valid_until(WORK.plan, *widths, WORK.events, WORK.pairs, where, 1 << 20, into):
            pass
    assert until[0].tobytes() == until[1].tobytes()
    assert len(parts) > 2
    assert [low for low, _ in parts] == [0, *(high for _, high in parts[:-1])]


def test_rows_and_scores(copied: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of 40 rows; scores lie where their rows do."""
    text = random_model(Random(3), 3, 5, 12)
    blob, x = blob_of(text), rows_for(text, 100, 3)
    monkeypatch.setattr(CUPY.cuda.runtime, "memGetInfo", lambda: (40 * 200, 1 << 27))
    monkeypatch.setattr(CUPY, "get_default_memory_pool", lambda: type("Pool", (), {"free_bytes": lambda pool: 0})())
    wanted = AHEAD.forest_raw(x, trees_of(blob), blob.n_outputs).tobytes()
    bits = bit_vectors(blob, 1e9)
    assert bits is not None
    for kernel, form in ((GPU.forest_raw, trees_of(blob)), (GPU.forest_bits, bits)):
        assert kernel(x, form, blob.n_outputs).tobytes() == wanted
        assert kernel(asarray(x), form, blob.n_outputs).inner.tobytes() == wanted
    with dispatch.use("gpu"):
        scores = score_batch(blob, x)
    assert scores.tobytes() == score_batch(blob, x).tobytes()


def test_rows_of_the_host_go_over_in_parts(copied: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 rows, where the card has room for all: what is under way is page-locked, and a part hides another's way."""
    text = random_model(Random(3), 3, 5, 12)
    blob, x = blob_of(text), rows_for(text, 100, 3)
    trees, whole = trees_of(blob), x.nbytes
    monkeypatch.setattr(gpu, "PART", 80 * (8 * x.shape[1] + 16 * blob.n_outputs))
    wanted = AHEAD.forest_raw(x, trees, blob.n_outputs).tobytes()
    assert GPU.forest_raw(x, trees, blob.n_outputs).tobytes() == wanted
    assert {("to", whole * 80 // 100), ("to", whole * 20 // 100)} <= set(copied)
    there = asarray(x)
    copied.clear()
    assert GPU.forest_raw(there, trees, blob.n_outputs).inner.tobytes() == wanted
    assert not {size for _, size in copied} & {whole * 80 // 100, whole}


def test_compiled_kernels_are_kept_where_nobody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = _gpu_card._kept()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert _gpu_card._kept() == folder
    folder.chmod(0o770)
    assert _gpu_card._kept() is None
    folder.chmod(0o700)
    source = tmp_path / "source"
    source.mkdir()
    (source / "_cpu_ops.py").write_text("another")
    monkeypatch.setattr(_gpu_card, "__file__", str(source / "_gpu_card.py"))
    assert _gpu_card._kept() not in (None, folder)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert _gpu_card._kept() is None
