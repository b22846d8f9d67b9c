"""Our scores are LightGBM's, to the bit: trained models of every kind we take, and forests that are seldom trained."""

import ctypes
import math
import struct
from collections.abc import Iterable
from itertools import chain
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import reference_forest
from tests.models.forest_makers import (
    AWKWARD,
    F32,
    TRAINED,
    blob_of,
    lightgbm_scores,
    random_model,
    random_tree,
    rows_for,
    trained,
    training_matrix,
    written,
)
from ubp_sql.errors import BadInput
from ubp_sql.install import native as build
from ubp_sql.kernels import native
from ubp_sql.models import batch, walker
from ubp_sql.models.batch import raw_batch, score_batch
from ubp_sql.models.blob import compile_forest, open_blob
from ubp_sql.models.forest import Link
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.walker import Walker


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    build.build()
    assert native.entry("ubp_score_row") is not None


def bits(values: Iterable[float]) -> list[bytes]:
    return [struct.pack("<d", v) for v in values]


def by_library(text: bytes, x: F32) -> list[list[float]]:
    """The outputs by the native library, and for a model of one output by its other entry too."""
    compiled = compile_forest(parse(text))
    outputs = open_blob(compiled).n_outputs
    score_row, score_outputs = native.entry("ubp_score_row"), native.entry("ubp_score_outputs")
    assert score_row is not None
    assert score_outputs is not None
    found = []
    for row in x:
        out = (ctypes.c_double * outputs)()
        assert score_outputs(compiled, row.tobytes(), out) == outputs
        found.append(list(out))
        if outputs == 1:
            assert bits([score_row(compiled, row.tobytes(), -1)]) == bits(out)
    return found


def check_all(text: bytes, x: F32, singly: int = 200) -> None:
    """All our ways are LightGBM's, to the bit, on the sums and on the scores: the batch kernel on every row, the
    compiled walker and the native library on `singly` of them, the reference on some.
    """
    blob = blob_of(text)
    walk = Walker(blob)
    expected, sums = lightgbm_scores(text, x), lightgbm_scores(text, x, raw=True)
    assert score_batch(blob, x).tobytes() == expected.tobytes()
    assert raw_batch(blob, x).tobytes() == sums.tobytes()
    some = np.unique(np.linspace(0, len(x) - 1, min(singly, len(x))).astype(int))
    rows = [tuple(row) for row in x[some].tolist()]
    assert bits(chain(*map(walk.scores, rows))) == bits(expected[some].ravel())
    assert bits(chain(*map(walk.sums, rows))) == bits(sums[some].ravel())
    assert bits(chain(*by_library(text, x[some]))) == bits(expected[some].ravel())
    if math.isclose(blob.link_parameter, 1.0):  # else LightGBM's own reading of the parameter may differ from float()
        few = [reference_forest.scores(text.decode(), list(row)) for row in rows[:50]]
        assert bits(chain(*few)) == bits(expected[some[:50]].ravel())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("seed", [7, 8, 9])
def test_trained_models(name: str, seed: int) -> None:
    text = trained(name, seed)
    check_all(text, np.concatenate([training_matrix(300, seed=seed), rows_for(text, 3000, seed)]))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_of_many_seeds(name: str) -> None:
    for seed in range(100, 130):
        text = trained.__wrapped__(name, seed)
        check_all(text, np.concatenate([training_matrix(600, seed=seed), rows_for(text, 10_000, seed)]), singly=50)


def test_what_the_training_is_for() -> None:
    """The options above do leave in the models what they are there to test."""
    assert 4 in blob_of(trained("categories")).node_flags
    assert any(flag & 2 for flag in blob_of(trained("zero_missing_regression")).node_flags)
    assert max(map(len, parse(trained("categories")).trees[0].sets)) > 30, "a set reaches to category 1000"
    assert blob_of(trained("multiclass_empty_class")).n_outputs == 6
    assert blob_of(trained("multiclass_rf")).average
    links = {parse(trained(name)).link for name in TRAINED}
    assert links == set(Link)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), iterations=st.integers(1, 8), leaves=st.integers(1, 12))
def test_forests_that_training_seldom_makes(seed: int, iterations: int, leaves: int) -> None:
    text = random_model(Random(seed), 3, iterations, leaves)
    check_all(text, rows_for(text, 60, seed))


@pytest.mark.parametrize("threshold", [*AWKWARD, math.inf, -math.inf])
@pytest.mark.parametrize("decision", [0, 2, 4, 6, 8, 10])
def test_one_split_on_every_awkward_value(threshold: float, decision: int) -> None:
    tree: dict[str, list[object]] = {
        "split_feature": [0],
        "threshold": [format(threshold, ".17g")],
        "decision_type": [decision],
        "left_child": [-1],
        "right_child": [-2],
        "leaf_value": [1.5, -2.5],
    }
    text = written([tree], 1, "regression")
    check_all(text, rows_for(text, 400, 5))


@pytest.mark.parametrize("sigmoid", ["2", "0.7", "1e-05", "1.23457e-05", "3.3e+02", "15.8007", "9.33528", "1.55055"])
def test_sigmoid_is_read_as_lightgbm_reads_it(sigmoid: str) -> None:
    random = Random(sigmoid)  # the last three differ from float() in the last bit
    made = [random_tree(random, 2, 8) for _ in range(5)]
    for tree in made:
        tree["leaf_value"] = [float(str(v)) / float(sigmoid) for v in tree["leaf_value"]]
    text = written(made, 2, f"binary sigmoid:{sigmoid}")
    check_all(text, rows_for(text, 300, 6))


def test_scores_beyond_the_range_of_exp() -> None:
    tree: dict[str, list[object]] = {
        "split_feature": [0, 0],
        "threshold": [0, 1],
        "decision_type": [0, 0],
        "left_child": [-1, -2],
        "right_child": [1, -3],
        "leaf_value": ["-1e300", "1e307", "-745.2"],
    }
    text = written([tree, tree], 1, "binary sigmoid:1")
    check_all(text, np.array([[-1], [0.5], [2], [np.nan]], dtype=np.float32))
    assert Walker(blob_of(text)).score((-1.0,)) == 0.0


@pytest.mark.parametrize(
    "leaves", [walker.MAX_COMPILED_DEPTH, walker.MAX_COMPILED_DEPTH + 1, 3 * walker.MAX_COMPILED_DEPTH]
)
def test_deep_trees(leaves: int) -> None:
    text = written([random_tree(Random(1), 4, leaves + 1, chain=True)], 4, "regression")
    check_all(text, rows_for(text, 200, 3))


@pytest.mark.parametrize("name", ["binary", "multiclass", "zero_missing_regression", "categories_multiclass"])
def test_compiled_and_listed_walkers_agree(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = trained(name)
    blob, rows = blob_of(text), [tuple(row) for row in rows_for(text, 300, 9).tolist()]
    walkers = {1: Walker(blob)}
    monkeypatch.setattr(walker, "PART_LEAVES", max(len(tree.leaf_value) for tree in parse(text).trees))
    walkers[blob.n_trees // blob.n_outputs] = Walker(blob)  # one tree a function
    expected = bits(chain(*map(walkers[1].scores, rows)))
    for limit, most in (("PART_LEAVES", 1), ("MAX_COMPILED_LEAVES", 5), ("MAX_COMPILED_DEPTH", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(walker, limit, most)
            listed = Walker(blob)
        assert not hasattr(listed._parts[0][0], "__code__")  # not compiled
        assert bits(chain(*map(listed.scores, rows))) == expected
    for parts, compiled in walkers.items():
        assert len(compiled._parts[0]) == parts
        assert compiled._parts[0][0].__code__.co_filename == "<forest>"
        assert bits(chain(*map(compiled.scores, rows))) == expected


def test_walker_takes_any_sequence_of_the_right_length() -> None:
    walk = Walker(blob_of(trained("binary")))
    row = training_matrix()[0]
    assert walk.score(row.tolist()) == walk.score(tuple(row.tolist()))
    with pytest.raises(BadInput, match="takes 6 features, 5 were given"):
        walk.score((0.0,) * 5)


def test_batch_takes_strides_chunks_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    blob, x = blob_of(trained("binary")), training_matrix()
    expected = score_batch(blob, x)
    assert score_batch(blob, x[:0]).shape == (0, 1)
    assert np.array_equal(score_batch(blob, np.asfortranarray(x)), expected)
    assert np.array_equal(score_batch(blob, x[::-2]), expected[::-2])
    monkeypatch.setattr(batch, "CHUNK_STEPS", 70 * (len(batch.batch_form(blob).threshold) + 2 * blob.n_trees))
    calls: list[None] = []
    assert np.array_equal(score_batch(blob, x, lambda: calls.append(None)), expected)
    assert len(calls) == math.ceil(len(x) / 70) - 1

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_batch(blob, x, cancel)


def test_batch_refuses_other_types_and_widths() -> None:
    blob, x = blob_of(trained("binary")), training_matrix()
    for wrong in (x.astype(np.float64), x[:, :5], x[0]):
        with pytest.raises(BadInput, match="rows of 6 float32 values"):
            score_batch(blob, wrong)  # type: ignore[arg-type]
