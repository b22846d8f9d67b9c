"""Our scores are LightGBM's, to the bit: trained models of every kind we take, and forests that are seldom trained."""

import math
import struct
from collections.abc import Iterable
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
    random_tree,
    rows_for,
    trained,
    training_matrix,
    written,
)
from ubp_sql.errors import BadInput
from ubp_sql.models import batch, walker
from ubp_sql.models.batch import raw_batch, score_batch
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.walker import Walker


def bits(values: Iterable[float]) -> list[bytes]:
    return [struct.pack("<d", v) for v in values]


def check_all(text: bytes, x: F32) -> None:
    """LightGBM, reference, compiled walker and batch kernel agree on every row, on the sum and on the score."""
    blob, rows = blob_of(text), [tuple(row) for row in x.tolist()]
    walk = Walker(blob)
    expected = bits(lightgbm_scores(text, x))
    assert bits(map(walk.score, rows)) == expected
    assert bits(score_batch(blob, x).tolist()) == expected
    if math.isclose(blob.link_parameter, 1.0):  # else LightGBM's own reading of the parameter may differ from float()
        assert bits(reference_forest.score(text.decode(), list(row)) for row in rows[:50]) == expected[:50]
    sums = bits(lightgbm_scores(text, x, raw=True))
    assert bits(map(walk.raw, rows)) == sums
    assert bits(raw_batch(blob, x).tolist()) == sums


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models(name: str) -> None:
    text = trained(name)
    check_all(text, np.concatenate([training_matrix(), rows_for(text, 600, 11)]))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), trees=st.integers(1, 8), leaves=st.integers(1, 12))
def test_forests_that_training_seldom_makes(seed: int, trees: int, leaves: int) -> None:
    random = Random(seed)
    made = [random_tree(random, 3, random.randint(1, leaves)) for _ in range(trees)]
    objective, average = random.choice(["binary sigmoid:1", "regression"]), random.random() < 0.3
    text = written(made, 3, objective, average)
    check_all(text, rows_for(text, 60, seed))


@pytest.mark.parametrize("threshold", [*AWKWARD, math.inf, -math.inf])
@pytest.mark.parametrize("decision", [0, 2, 8, 10])
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
        "leaf_value": ["-1e300", "1e308", "-745.2"],
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


def test_compiled_and_listed_walkers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    text = trained("binary")
    blob, rows = blob_of(text), [tuple(row) for row in rows_for(text, 300, 9).tolist()]
    walkers = {1: Walker(blob)}
    monkeypatch.setattr(walker, "PART_LEAVES", max(len(tree.leaf_value) for tree in parse(text).trees))
    walkers[blob.n_trees] = Walker(blob)  # one tree a function
    expected = bits(map(walkers[1].score, rows))
    for name, most in (("PART_LEAVES", 1), ("MAX_COMPILED_LEAVES", 5), ("MAX_COMPILED_DEPTH", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(walker, name, most)
            listed = Walker(blob)
        assert listed._parts[0].__code__.co_filename == walker.__file__
        assert bits(map(listed.score, rows)) == expected
    for parts, compiled in walkers.items():
        assert len(compiled._parts) == parts
        assert compiled._parts[0].__code__.co_filename == "<forest>"
        assert bits(map(compiled.score, rows)) == expected


def test_walker_takes_any_sequence_of_the_right_length() -> None:
    walk = Walker(blob_of(trained("binary")))
    row = training_matrix()[0]
    assert walk.score(row.tolist()) == walk.score(tuple(row.tolist()))
    with pytest.raises(BadInput, match="takes 6 features, 5 were given"):
        walk.score((0.0,) * 5)


def test_batch_takes_strides_chunks_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    blob, x = blob_of(trained("binary")), training_matrix()
    expected = score_batch(blob, x)
    assert score_batch(blob, x[:0]).shape == (0,)
    assert np.array_equal(score_batch(blob, np.asfortranarray(x)), expected)
    assert np.array_equal(score_batch(blob, x[::-2]), expected[::-2])
    monkeypatch.setattr(batch, "CHUNK_VISITS", 70 * blob.n_trees)
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
