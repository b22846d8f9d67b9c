"""Exact reasons beside the libraries' own, and beside Shapley's formula over all coalitions in fractions."""

from array import array
from fractions import Fraction
from random import Random
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.explain.makers import explainer, forest_of, random_text, tree_and_reference
from tests.models import forest_makers, xgboost_makers
from tests.reference import leaf_shapley, shapley, worth
from ubp_sql.install import native as build
from ubp_sql.models import explain_compile
from ubp_sql.models.explain import Explainer
from ubp_sql.models.explain_compile import compile_explainer
from ubp_sql.models.explain_plain import contributions as in_plain_python
from ubp_sql.models.forest import Forest
from ubp_sql.models.formats import read_model
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.walker import Walker
from ubp_sql.models.xgboost_model import parse as parse_xgboost

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
CLOSE = 1e-9
AWKWARD = [np.nan, 0.0, -0.0, 1e-36, -1e-36, 1.5, -1.0, 3.0, 31.0, 64.0, 1000.0, np.inf, -np.inf, 3e38]


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    build.build()


def explained(made: Explainer, x: F32) -> F64:
    """(r, f + 1) contributions and the base; raw scores are the model's, plain Python's bits the library's."""
    assert made.native is not None
    walker, found = Walker(made.model.blob), []
    for number, row in enumerate(np.ascontiguousarray(x)):
        raw, values = made.contributions(row.tobytes())
        assert raw == walker.raw(array("f", row)) / made.model.blob.divisor
        assert abs(made.base + sum(values) - raw) <= 1e-12 * max(1.0, *map(abs, values))
        if number < 20:
            assert in_plain_python(made, array("f", row)) == (raw, values)
        found.append([*values, made.base])
    return np.array(found)


def close(found: F64, expected: F64, bound: float = CLOSE) -> None:
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected).max())) <= bound


def rows(features: int, seed: int, n: int = 60) -> F32:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(np.float32)
    return np.where(rng.random(x.shape) < 0.4, rng.choice(AWKWARD, x.shape).astype(np.float32), x)


def of_lightgbm(text: bytes, x: F32) -> F64:
    said: Any = lightgbm.Booster(model_str=text.decode()).predict(x, pred_contrib=True, num_threads=1)
    return np.asarray(said)


ONE_OUTPUT = [name for name in forest_makers.TRAINED if not name.startswith("multi") and "_multi" not in name]


@pytest.mark.parametrize("name", ONE_OUTPUT)
def test_as_lightgbm(name: str) -> None:
    text = forest_makers.trained(name)
    forest = parse(text)
    x = np.concatenate([forest_makers.training_matrix(40, seed=5), rows(6, 3)])
    expected = of_lightgbm(text, x)
    if forest.average:  # LightGBM explains the sum of a forest whose score is the mean
        expected = expected / len(forest.trees)
    close(explained(explainer(forest), x), expected)


@given(st.integers(0, 2**32))
def test_as_lightgbm_with_any_trees(seed: int) -> None:
    random = Random(seed)
    features = random.choice([1, 3, 8])
    text = random_text(random, features, random.randint(1, 6), random.choice([1, 2, 8, 40]))
    x = rows(features, seed, 10)
    close(explained(explainer(parse(text)), x), of_lightgbm(text, x))


XGBOOST = [n for n, (o, s, _) in xgboost_makers.TRAINED.items()
           if not o.startswith("multi") and "quantile_alpha" not in s and s.get("booster") != "gblinear"]  # fmt: skip


@pytest.mark.parametrize("name", XGBOOST)
def test_as_xgboost(name: str) -> None:
    """Which adds float32 in its recursion."""
    booster = xgboost_makers.trained(name)
    body = parse_xgboost(bytes(booster.save_raw("json"))).body
    assert isinstance(body, Forest)
    x = rows(xgboost_makers.FEATURES, 4)
    x[:, xgboost_makers.CATEGORY] = np.random.default_rng(1).choice([0, 1, 7, 39, np.nan], len(x))
    x = np.where(np.isinf(x), np.float32(2), x)
    matrix = xgboost.DMatrix(x, feature_names=list(xgboost_makers.NAMES), feature_types=xgboost_makers.types(name))
    close(explained(explainer(body), x), np.asarray(booster.predict(matrix, pred_contribs=True)), 2e-5)


@given(st.integers(0, 2**32))
def test_as_shapley_says(seed: int) -> None:
    random = Random(seed)
    features = random.randint(1, 5)
    made = [tree_and_reference(random, features, random.randint(1, 9)) for _ in range(random.randint(1, 3))]
    average = random.random() < 0.3
    divisor = len(made) if average else 1
    row = [random.choice([float("nan"), -2.0, -1.0, 0.0, 0.25, 0.5, 7.0]) for _ in range(features)]
    found = explained(explainer(forest_of([t for t, _ in made], features, average)), np.array([row], np.float32))[0]
    trees = [reference for _, reference in made]
    exact = [sum(shapley(t, row, j) for t in trees) / divisor for j in range(features)]
    exact.append(sum(worth(t, row, frozenset()) for t in trees) / Fraction(divisor))
    close(found, np.array(list(map(float, exact))), 1e-13)


@pytest.mark.parametrize(("depth", "features"), [(24, 24), (60, 7)])
def test_long_paths(depth: int, features: int) -> None:
    """One branch of splits, each feature met once or again and again: where recursions that subtract lose digits."""
    random = Random(depth)
    node = {"split_feature": [i % features for i in range(depth)], "threshold": ["0.0"] * depth}
    node |= {"decision_type": [8] * depth, "right_child": [*range(1, depth), ~depth]}
    node |= {"left_child": [~i for i in range(depth)]}
    values = [random.gauss(0, 1) for _ in range(depth + 1)]
    counts = [random.randint(1, 9) for _ in range(depth + 1)]
    tree = {**node, "leaf_value": [format(v, ".17g") for v in values], "leaf_count": counts}
    row = [random.choice([1.0, 1.0, -1.0]) for _ in range(features)]
    exact = [Fraction(0)] * features
    for leaf, value in enumerate(values):
        path: dict[int, tuple[bool, Fraction]] = {}
        for i in range(min(leaf + 1, depth)):
            stays, below = i < leaf, sum(counts[i + 1 :])
            share = Fraction(below if stays else counts[i], below + counts[i])
            allows, before = path.get(i % features, (True, Fraction(1)))
            path[i % features] = allows and (row[i % features] > 0) == stays, before * share
        for j in path:
            exact[j] += leaf_shapley(value, path, j)
    text = forest_makers.written([tree], features, "regression")  # type: ignore[list-item]
    found = explained(explainer(parse(text)), np.array([row], np.float32))[0]
    close(found[:-1], np.array(list(map(float, exact))), 1e-13)


def test_what_has_no_exact_reasons_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several outputs, trees without covers, and paths that would take longer than a cancel may."""
    names = tuple(f"Column_{j}" for j in range(6))
    assert read_model(forest_makers.trained("binary"), names).explainer is not None
    assert read_model(forest_makers.trained("multiclass"), names).explainer is None
    random = Random(1)
    for counts in (None, [1.0] * 3, [0.0] * 4, [1.0, -1.0, 1.0, 1.0], [1.0, float("nan"), 1.0, 1.0]):
        tree, _ = tree_and_reference(random, 2, 4)
        object.__setattr__(tree, "cover", counts and array("d", counts))
        assert compile_explainer(forest_of([tree], 2), bytes(4)) is None
    for features, made in ((256, True), (257, False)):
        deep = forest_makers.random_tree(random, 1, features + 1, chain=True)
        deep |= {"split_feature": list(range(features)), "leaf_count": [1] * (features + 1)}
        forest = parse(forest_makers.written([deep], features, "regression"))
        assert (compile_explainer(forest, bytes(4)) is not None) == made
    broad = forest_of([tree_and_reference(random, 3, 9)[0]] * 4, 3)
    assert compile_explainer(broad, bytes(4)) is not None
    monkeypatch.setattr(explain_compile, "MOST_STEPS", 31)  # 4 trees of 8 nodes, one pass each
    assert compile_explainer(broad, bytes(4)) is None
