"""The two kernels of many rows, bit vectors and traversal: the same bits as LightGBM, each for the shapes it is for."""

import io
from collections.abc import Iterator
from importlib import import_module
from random import Random
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.forest_makers import (
    F32,
    blob_of,
    lightgbm_scores,
    random_model,
    random_tree,
    rows_for,
    trained,
    with_categories,
    written,
)
from ubp_sql.install import native as build
from ubp_sql.kernels import native, scratch
from ubp_sql.kernels.dispatch import LANES, Backend, BitVectors, Trees
from ubp_sql.models import batch, bit_vectors
from ubp_sql.models.batch import batch_form, raw_batch, trees_of

AHEAD, NUMBA = (cast(Backend, import_module(f"ubp_sql.kernels.{name}")) for name in ("aot", "cpu"))


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    build.build()
    assert native.entry("ubp_batch_bits") is not None
    yield
    native.entry.cache_clear()


def by_every_kernel(text: bytes, x: F32) -> dict[str, Any]:
    """The raw sums by each kernel that takes the model, in each form that it is compiled in."""
    blob = blob_of(text)
    outputs, form, trees = blob.n_outputs, bit_vectors.bit_vectors(blob, np.inf), trees_of(blob)
    found = {"traversal": AHEAD.forest_raw(x, trees, outputs), "in Numba": NUMBA.forest_raw(x, trees, outputs)}
    assert form is not None
    found["bits in Numba"] = NUMBA.forest_bits(x, form, outputs)
    for wide in {False, native.is_wide()}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "is_wide", lambda wide=wide: wide)
            native.entry.cache_clear()
            found[f"bits, wide: {wide}"] = AHEAD.forest_bits(x, form, outputs)
    return found


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5, 32, 33, 70]), st.sampled_from([0, 1, 63, 64, 65, 150]))
@settings(deadline=None, max_examples=60)
def test_any_model(seed: int, leaves: int, rows: int) -> None:
    """Ties with thresholds, NaN, infinities, zeros as missing, categories, several outputs."""
    text = random_model(Random(seed), 3, 3, leaves)
    x = rows_for(text, rows, seed % 1000)
    expected = lightgbm_scores(text, x, raw=True) if rows else np.empty((0, blob_of(text).n_outputs))
    for name, found in by_every_kernel(text, x).items():
        assert found.tobytes() == (expected + 0.0).tobytes(), name


@pytest.mark.parametrize("leaves", [31, 64, 65, 255, 1000])
@pytest.mark.parametrize("chain", [False, True])
def test_trees_of_every_size(leaves: int, chain: bool) -> None:
    """Words of 32 leaves that are full, begun, and cleared as a whole; a chain has a left or right subtree of 1."""
    leaves = min(leaves, bit_vectors.DEEPEST) if chain else leaves
    random = Random(leaves)
    trees = [with_categories(random, random_tree(random, 5, leaves, chain)) for _ in range(4)]
    text = written(trees, 5, "regression")
    x = rows_for(text, 300, leaves)
    expected = lightgbm_scores(text, x, raw=True)
    for name, found in by_every_kernel(text, x).items():
        assert found.tobytes() == expected.tobytes(), name


def test_which_kernel_a_model_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(batch_form(blob_of(trained("binary"))), BitVectors)
    large = written([random_tree(Random(1), 5, 2000)], 5, "regression")
    assert isinstance(batch_form(blob_of(large)), Trees)
    x = rows_for(large, 50, 1)
    assert raw_batch(blob_of(large), x).tobytes() == lightgbm_scores(large, x, raw=True).tobytes()
    middling = written([random_tree(Random(1), 5, 150)], 5, "regression")
    for wide, kind in ((True, BitVectors), (False, Trees)):
        monkeypatch.setattr(native, "is_wide", lambda wide=wide: wide)
        assert isinstance(batch_form(blob_of(middling)), kind)


def test_a_model_beyond_the_bounds_is_traversed(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = blob_of(written([random_tree(Random(1), 5, bit_vectors.DEEPEST + 2, chain=True)], 5, "regression"))
    assert bit_vectors.bit_vectors(chain, np.inf) is None
    asks = blob_of(written([with_categories(Random(3), random_tree(Random(3), 5, 40))], 5, "regression"))
    assert bit_vectors.bit_vectors(asks, np.inf) is not None
    assert bit_vectors.bit_vectors(asks, 39) is None, "categories cost more than they are many"
    monkeypatch.setattr(bit_vectors, "MOST_SET_WORDS", 2)
    assert bit_vectors.bit_vectors(asks, np.inf) is None


def test_chunks_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row takes more steps than its model has nodes, or conditions: so much work, not so many rows."""
    blob = blob_of(trained("binary"))
    x = np.zeros((1000, blob.n_features), np.float32)
    form = batch_form(blob)
    monkeypatch.setattr(batch, "CHUNK_STEPS", 100 * (len(form.threshold) + 2 * blob.n_trees))
    calls: list[int] = []
    raw_batch(blob, x, lambda: calls.append(1))
    assert len(calls) == 9


@pytest.mark.parametrize(
    ("cpuinfo", "wide"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 bmi1 bmi2 f16c fma abm movbe sse\nbugs\t: \n", True),
        ("processor\t: 0\nflags\t\t: fpu avx bmi1 bmi2 f16c fma abm movbe sse\nbugs\t: avx2\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_what_a_cpu_can(monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, wide: bool) -> None:
    def fake(path: str) -> io.StringIO:
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return io.StringIO(cpuinfo)

    monkeypatch.setattr(native, "open", fake, raising=False)
    native.is_wide.cache_clear()
    try:
        assert native.is_wide() is wide
    finally:
        native.is_wide.cache_clear()


@pytest.mark.parametrize("columns", [0, 1, 7, 200])
def test_vectors_begin_with_a_line(columns: int) -> None:
    for made, size in zip(scratch.new_rows(columns, 3), (columns, 1, 1, 3), strict=True):
        assert isinstance(made, np.ndarray)
        assert made.ctypes.data % 64 == 0
        assert made.shape == (size * LANES,)
