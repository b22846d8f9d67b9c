"""Forests of ONNX graphs: ONNX Runtime's answers, from our own trees."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.models.scorers import F32, by_all
from tests.models.sklearn_makers import FEATURES, TREES, by_runtime, convert, exported, fitted, probabilities, rows
from ubp_sql.errors import FeatureSetMismatch, InvalidModel, UnsupportedModel
from ubp_sql.models import onnx_trees
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.onnx_columns import Column, largest_below
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_fold import fold

NAMES = tuple("abcd")
BAR = 1e-5


@pytest.mark.parametrize("name", TREES)
def test_scikit_learns_forests_are_scored_as_by_the_runtime(name: str) -> None:
    data = exported(name)
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(b"UBPTREES")
    assert imported.trees >= 1
    assert not imported.by_name
    x = rows(name, 1500, 1)
    np.testing.assert_allclose(by_all(imported.compiled, x[:80]), by_runtime(data, x[:80]), rtol=BAR, atol=BAR)
    found = open_model(imported.compiled).score_batch(x)
    assert np.abs(found - by_runtime(data, x)).max() <= BAR


@pytest.mark.parametrize("name", ["forest of two", "histograms of three", "scaled, missing"])
def test_and_as_by_scikit_learn(name: str) -> None:
    x = rows(name, 300, 2)
    found = open_model(read_model(exported(name), NAMES).compiled).score_batch(x)
    np.testing.assert_allclose(found, probabilities(name, x), atol=BAR)


def test_dictionaries_of_probabilities_are_left_out() -> None:
    assert read_model(exported("forest of two", zipmap=True), NAMES) == read_model(exported("forest of two"), NAMES)


def test_inputs_with_a_name_each_are_found_by_name() -> None:
    model = fitted("imputed")
    data = convert(model, None, {id(model): {"zipmap": False}}, NAMES)
    imported = read_model(data, ("d", "c", "b", "a"))
    assert imported.by_name
    x = rows("imputed", 200, 3)
    expected = open_model(read_model(exported("imputed"), NAMES).compiled).score_batch(x)
    assert open_model(imported.compiled).score_batch(x[:, ::-1]).tobytes() == expected.tobytes()
    with pytest.raises(FeatureSetMismatch, match="no feature 'a'"):
        read_model(data, ("d", "c", "b", "x"))


def test_names_in_the_metadata_are_the_features() -> None:
    model = onnx.load_from_string(exported("forest"))
    for names, expected in ((NAMES[::-1], None), (NAMES[1:], InvalidModel), ((*NAMES[1:], "x"), FeatureSetMismatch)):
        helper.set_model_props(model, {"feature_names": json.dumps(names)})
        data = model.SerializeToString()
        if expected is not None:
            with pytest.raises(expected, match=r"4 features and 3 names|no feature 'x'"):
                read_model(data, NAMES)
            continue
        imported = read_model(data, NAMES)
        assert imported.by_name
        x = rows("forest", 50, 4)
        plain = open_model(read_model(exported("forest"), NAMES).compiled)
        assert open_model(imported.compiled).score_batch(x[:, ::-1]).tobytes() == plain.score_batch(x).tobytes()


def test_the_number_of_features_must_be_the_sets() -> None:
    with pytest.raises(FeatureSetMismatch, match="4 features without names, the feature set has 3"):
        read_model(exported("forest"), NAMES[:3])


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
VALUES = np.array([-1.5, -1.0, 0.0, 0.1, 1.0, 2.0, 1e-40, 3e38], np.float32)


def random_ensemble(rng: np.random.Generator, modes: tuple[str, ...], trees: int, depth: int) -> dict[str, list[Any]]:
    """Attributes of the nodes of an ensemble."""
    made: dict[str, list[Any]] = {
        key: []
        for key in (
            *("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids"),
            "missing_value_tracks_true",
        )
    }

    def grow(tree: int, level: int) -> int:
        node = made["treeids"].count(tree)
        leaf = level == depth or (level > 0 and rng.random() < 0.2)
        for key, value in (
            ("treeids", tree),
            ("nodeids", node),
            ("featureids", 0 if leaf else int(rng.integers(FEATURES))),
            ("modes", "LEAF" if leaf else str(rng.choice(modes))),
            ("values", 0.0 if leaf else float(rng.choice(VALUES))),
            ("truenodeids", 0),
            ("falsenodeids", 0),
            ("missing_value_tracks_true", 0 if leaf else int(rng.integers(2))),
        ):
            made[key].append(value)
        at = len(made["treeids"]) - 1
        if not leaf:
            made["truenodeids"][at] = grow(tree, level + 1)
            made["falsenodeids"][at] = grow(tree, level + 1)
        return node

    for tree in range(trees):
        grow(tree, 0)
    return made


def leaves(made: dict[str, list[Any]]) -> list[tuple[int, int]]:
    pairs = zip(made["treeids"], made["nodeids"], made["modes"], strict=True)
    return [(tree, node) for tree, node, mode in pairs if mode == "LEAF"]


def weights(made: dict[str, list[Any]], kind: str, ids: list[int], values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Each leaf has a weight for each of `ids`."""
    pairs = [(tree, node, i) for tree, node in leaves(made) for i in ids]
    return {
        f"{kind}_treeids": [tree for tree, _, _ in pairs],
        f"{kind}_nodeids": [node for _, node, _ in pairs],
        f"{kind}_ids": [i for _, _, i in pairs],
        f"{kind}_weights": [float(v) for v in values[: len(pairs)]],
    }


def graph_of(nodes: list[Any], outputs: list[tuple[str, int]], initializers: Any = (), dtype: int = 1) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", dtype, [None, FEATURES])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    made: bytes = model.SerializeToString()
    return made


def regressor(made: dict[str, list[Any]], targets: int = 1, **attributes: Any) -> bytes:
    nodes = {f"nodes_{key}": value for key, value in made.items() if value}
    values = np.random.default_rng(9).normal(size=10_000).astype(np.float32)
    held = weights(made, "target", list(range(targets)), values)
    chosen = {**nodes, **held, "n_targets": targets, **attributes}
    node = helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], name="trees", domain="ai.onnx.ml", **chosen)
    return graph_of([node], [("Y", TensorProto.FLOAT)])


def classifier(made: dict[str, list[Any]], ids: list[int], labels: int, lowest: float = -1, **attributes: Any) -> bytes:
    nodes = {f"nodes_{key}": value for key, value in made.items() if value}
    values = np.random.default_rng(9).uniform(lowest, 1, size=10_000).astype(np.float32)
    chosen = {**nodes, **weights(made, "class", ids, values), "classlabels_int64s": list(range(labels)), **attributes}
    node = helper.make_node("TreeEnsembleClassifier", ["X"], ["L", "P"], name="trees", domain="ai.onnx.ml", **chosen)
    return graph_of([node], [("L", TensorProto.INT64), ("P", TensorProto.FLOAT)])


def edges(seed: int, count: int = 400) -> F32:
    """Rows of thresholds, what is next to them, infinities and NaN."""
    rng = np.random.default_rng(seed)
    near = [VALUES, np.nextafter(VALUES, np.float32(-np.inf)), np.nextafter(VALUES, np.float32(np.inf))]
    pool = np.concatenate([*near, np.array([np.nan, np.nan, np.inf, -np.inf, -0.0], np.float32)])
    return rng.choice(pool, size=(count, FEATURES)).astype(np.float32)


def folded(data: bytes) -> Any:
    return fold(read_graph(data), FEATURES)


def check(data: bytes, x: F32) -> None:
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(b"UBPTREES")
    found = by_all(imported.compiled, x)
    np.testing.assert_allclose(found, by_runtime(data, x), rtol=0, atol=BAR)


@pytest.mark.parametrize("mode", [*MODES, "all"])
@pytest.mark.parametrize("tracks", [False, True])
def test_every_mode_goes_the_runtimes_way(mode: str, tracks: bool) -> None:
    modes = MODES if mode == "all" else (mode,)
    for seed in range(4):
        made = random_ensemble(np.random.default_rng(seed), modes, 4, 4)
        if not tracks:
            made["missing_value_tracks_true"] = []
        check(regressor(made), edges(seed, 150))


@pytest.mark.parametrize(
    ("targets", "attributes"),
    [
        (1, {"base_values": [0.5]}),
        (3, {}),
        (3, {"base_values": [0.5, -1.0, 2.0]}),
        (1, {"aggregate_function": "AVERAGE"}),
        (2, {"aggregate_function": "AVERAGE", "base_values": [0.5, -1.0]}),
    ],
)
def test_targets_bases_and_averages(targets: int, attributes: dict[str, Any]) -> None:
    made = random_ensemble(np.random.default_rng(3), MODES, 5, 4)
    check(regressor(made, targets, **attributes), edges(1, 150))


CLASSES: dict[str, tuple[list[int], int, float, dict[str, Any]]] = {
    "one sum, logistic": ([0], 2, -1, {"post_transform": "LOGISTIC"}),
    "one sum, logistic, base": ([0], 2, -1, {"post_transform": "LOGISTIC", "base_values": [0.3]}),
    "one sum, probability": ([0], 2, 0.01, {}),
    "one sum, logistic, none negative": ([0], 2, 0.01, {"post_transform": "LOGISTIC"}),
    "the second class alone": ([1], 2, -1, {"post_transform": "LOGISTIC"}),
    "the second class alone, probability": ([1], 2, 0.01, {}),
    "two sums": ([0, 1], 2, 0.01, {}),
    "two sums, negative": ([0, 1], 2, -1, {}),
    "two sums, logistic": ([0, 1], 2, -1, {"post_transform": "LOGISTIC"}),
    "two sums, softmax": ([0, 1], 2, -1, {"post_transform": "SOFTMAX"}),
    "three": ([0, 1, 2], 3, 0.01, {}),
    "three, softmax": ([0, 1, 2], 3, -1, {"post_transform": "SOFTMAX"}),
    "three, softmax, base": ([0, 1, 2], 3, -1, {"post_transform": "SOFTMAX", "base_values": [0.1, 0.5, -0.5]}),
    "three, logistic": ([0, 1, 2], 3, -1, {"post_transform": "LOGISTIC"}),
}


@pytest.mark.parametrize("case", CLASSES)
def test_classes_are_the_runtimes(case: str) -> None:
    ids, labels, lowest, attributes = CLASSES[case]
    for seed in range(3):
        made = random_ensemble(np.random.default_rng(seed), MODES, 4, 3)
        check(classifier(made, ids, labels, lowest, **attributes), edges(seed, 150))


LEFT_TO_THE_RUNTIME: dict[str, tuple[list[int], int, float, dict[str, Any]]] = {
    "one sum without a link": ([0], 2, -1, {}),
    "the second class alone with a base": ([1], 2, -1, {"post_transform": "LOGISTIC", "base_values": [0.3]}),
    "two sums with bases": ([0, 1], 2, -1, {"base_values": [0.5, 0.5]}),
    "probit": ([0, 1], 2, 0.01, {"post_transform": "PROBIT"}),
    "softmax without zeros": ([0, 1, 2], 3, -1, {"post_transform": "SOFTMAX_ZERO"}),
}


@pytest.mark.parametrize("case", LEFT_TO_THE_RUNTIME)
def test_what_is_not_plain_is_left_to_the_runtime(case: str) -> None:
    ids, labels, lowest, attributes = LEFT_TO_THE_RUNTIME[case]
    made = random_ensemble(np.random.default_rng(1), MODES, 4, 3)
    assert folded(classifier(made, ids, labels, lowest, **attributes)) is None


def test_so_are_other_aggregates_and_transforms_of_a_number() -> None:
    made = random_ensemble(np.random.default_rng(1), MODES, 4, 3)
    for attributes in ({"aggregate_function": "MAX"}, {"post_transform": "LOGISTIC"}, {"base_values": [1.0, 2.0]}):
        assert folded(regressor(made, **attributes)) is None


def test_a_chain_of_equals_that_doubles_is_left_to_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_trees, "MAX_LEAVES", 200)
    made = random_ensemble(np.random.default_rng(1), ("BRANCH_EQ",), 1, 6)
    assert len(leaves(made)) < 100
    assert folded(regressor(made)) is None


def test_classes_in_another_order_are_refused() -> None:
    made = random_ensemble(np.random.default_rng(1), MODES, 2, 3)
    with pytest.raises(UnsupportedModel, match="classes are 1 and 0"):
        folded(classifier(made, [0, 1], 2, classlabels_int64s=[1, 0]))


def broken(key: str, at: int, value: Any) -> bytes:
    made = random_ensemble(np.random.default_rng(1), ("BRANCH_LEQ",), 2, 3)
    made[key][at] = value
    return regressor(made)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("truenodeids", 0, "another parent"),
        ("truenodeids", 2, "another parent"),
        ("truenodeids", 999, "does not exist"),
        ("falsenodeids", -1, "does not exist"),
        ("featureids", FEATURES, "feature 4 of 4"),
        ("featureids", -1, "feature -1 of 4"),
        ("modes", "BRANCH_MEMBER", "modes of ONNX"),
        ("values", float("nan"), "not finite"),
        ("nodeids", 1, "two nodes of one number"),
        ("treeids", 1, ""),
    ],
)
def test_trees_that_are_none_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        folded(broken(key, 0, value))
    assert message in caught.value.message
    assert "'trees'" in caught.value.message


def test_weights_belong_to_leaves() -> None:
    made = random_ensemble(np.random.default_rng(1), ("BRANCH_LEQ",), 1, 3)
    for attributes in (
        {"target_nodeids": [0] * len(leaves(made))},
        {"target_ids": [1] * len(leaves(made))},
        {"target_weights": [1.0]},
        {"target_weights": [float("inf")] * len(leaves(made))},
        {"nodes_values": [1.0]},
        {"nodes_missing_value_tracks_true": [1]},
        {"n_targets": 0},
    ):
        with pytest.raises(InvalidModel):
            folded(regressor(made, **attributes))


def test_the_largest_number_that_passes_is_exact() -> None:
    """Of a threshold behind scaling: it passes, and the next float32 does not."""
    rng = np.random.default_rng(4)
    for _ in range(300):
        offset, scale = (
            float(np.float32(v)) for v in (rng.normal() * 10.0 ** rng.integers(-3, 6), rng.lognormal(0, 3))
        )
        column = Column(0, "float32").then("-", offset).then("*", scale)
        t = float(np.float32(rng.normal()))
        x = largest_below(column, t)
        assert x is not None
        assert column.apply(x) <= t < column.apply(float(np.nextafter(np.float32(x), np.float32(np.inf))))
        strict = largest_below(column, t, strict=True)
        assert strict is not None
        assert strict <= x
        assert column.apply(strict) < t <= column.apply(float(np.nextafter(np.float32(strict), np.float32(np.inf))))
    column = Column(0, "float32").then("-", 1.0)
    assert largest_below(column, float("inf")) == float("inf")
    assert largest_below(column, float("-inf")) == float("-inf")
    assert largest_below(column, float("-inf"), strict=True) is None


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("scaled", [False, True])
def test_what_is_in_front_rounds_as_in_the_runtime(scaled: bool, dtype: int) -> None:
    made = random_ensemble(np.random.default_rng(2), MODES, 4, 4)
    trees = onnx.load_from_string(regressor(made)).graph.node[0]
    trees.input[0] = "Z"
    first = helper.make_node("Cast", ["X"], ["Z"], to=TensorProto.FLOAT)
    if scaled:
        chosen: dict[str, Any] = {"offset": [0.1, 0.0, -3.0, 1e-3], "scale": [0.7, 1.0, 1e3, 1e-3]}
        first = helper.make_node("Scaler", ["X"], ["Z"], domain="ai.onnx.ml", **chosen)
    data = graph_of([first, trees], [("Y", TensorProto.FLOAT)], dtype=dtype)
    x = edges(3)
    if scaled:  # numbers that scaling takes to a threshold, or within some steps of it
        with np.errstate(over="ignore"):
            back = (VALUES.astype(np.float64)[:, None] / chosen["scale"] + chosen["offset"]).astype(np.float32)
            steps = np.random.default_rng(1).integers(-3, 4, size=(400, FEATURES))
            near = back[np.random.default_rng(2).integers(0, len(back), size=(400, FEATURES)), np.arange(FEATURES)]
            moved = (near.view(np.int32) + steps.astype(np.int32)).view(np.float32)
            x = np.concatenate([x, np.where(np.isfinite(near), moved, near)])
    found = open_model(read_model(data, NAMES).compiled).score_batch(x)
    expected = by_runtime(data, x.astype(helper.tensor_dtype_to_np_dtype(dtype)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=BAR)
