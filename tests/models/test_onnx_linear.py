"""Linear models of ONNX graphs: ONNX Runtime's answers, from our own sums."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.models.scorers import by_all
from tests.models.sklearn_makers import FEATURES, LINEAR, by_runtime, exported, probabilities, rows
from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models import onnx_columns
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_fold import fold

NAMES = tuple("abcd")
BAR = 1e-5


def close(found: Any, expected: Any) -> None:
    """Within the bar; of numbers above 1, in parts of the largest."""
    assert np.abs(found - expected).max() <= BAR * max(1.0, np.abs(expected).max())


# Of rows of float64 the converter makes other operators, some of which the runtime has not.
@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in LINEAR), ("least squares", "float64")])
def test_scikit_learns_linear_models_are_scored_as_by_the_runtime(name: str, dtype: str) -> None:
    data = exported(name, dtype)
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(b"UBPLINEA")
    assert (imported.format, imported.trees, imported.by_name) == ("onnx", 0, False)
    x = rows(name, 500, 1)
    close(by_all(imported.compiled, x), by_runtime(data, x.astype(dtype)))


@pytest.mark.parametrize("name", ["logistic", "imputed logistic of three", "chosen columns"])
def test_and_as_by_scikit_learn(name: str) -> None:
    x = rows(name, 300, 2)
    close(open_model(read_model(exported(name), NAMES).compiled).score_batch(x), probabilities(name, x))


def test_a_missing_feature_has_no_score_without_an_imputer() -> None:
    row = np.array([[1, 2, np.nan, 4]], np.float32)
    assert np.isnan(open_model(read_model(exported("logistic"), NAMES).compiled).score_batch(row)).all()
    assert not np.isnan(open_model(read_model(exported("imputed logistic"), NAMES).compiled).score_batch(row)).any()


RNG = np.random.default_rng(3)
W, B = RNG.normal(size=(FEATURES, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
C = np.array([0.5, 2.0, 0.1, 3.0], np.float32)
INDEX = np.array([2, 0], np.int64)
TENSORS: dict[str, NDArray[Any]] = {
    "W": W,
    "WT": W.T.copy(),
    "B": B,
    "B2": np.abs(B) + 1,
    "W1": W[:, :1],
    "w": W[:, 0],
    "C": C,
    "I": INDEX,
    "W2": W[:2],
}
TENSORS |= {"S": np.array([-1, 1], np.int64), "one": np.array([1], np.int64)}

Step = tuple[str, list[str], dict[str, Any]]
ML: dict[str, Any] = {"domain": "ai.onnx.ml"}
COEFFICIENTS = {"coefficients": W.T.ravel().tolist(), "intercepts": B.tolist()}
PAIR = {"coefficients": W[:, :2].T.ravel().tolist(), "intercepts": B[:2].tolist(), "classlabels_ints": [0, 1]}


def graph(*steps: Step, outputs: int = 1) -> bytes:
    """Nodes one after the other: '.' is the one before, X the input; the last one's outputs are the graph's."""
    nodes = []
    last = "X"
    for k, (kind, inputs, attributes) in enumerate(steps):
        given = [last if name == "." else name for name in inputs]
        made = [f"v{k}_{i}" for i in range(outputs if kind.endswith("Classifier") else 1)]
        nodes.append(helper.make_node(kind, given, made, name=f"n{k}", **attributes))
        last = made[-1]
    kinds = [TensorProto.INT64, TensorProto.FLOAT] if len(made) == 2 else [TensorProto.FLOAT]
    model = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(made, kinds, strict=True)],
        [numpy_helper.from_array(value, name) for name, value in TENSORS.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(model, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


FOLDED: dict[str, tuple[bytes, int]] = {
    "product": (graph(("MatMul", ["X", "W"], {})), 3),
    "product and sum": (graph(("MatMul", ["X", "W"], {}), ("Add", [".", "B"], {})), 3),
    "sum the other way": (graph(("MatMul", ["X", "W"], {}), ("Add", ["B", "."], {})), 3),
    "product of products": (graph(("MatMul", ["X", "W"], {}), ("MatMul", [".", "WT"], {})), 4),
    "components": (
        graph(
            ("Sub", ["X", "C"], {}),
            ("Gemm", [".", "W", "B"], {}),
            ("Div", [".", "B2"], {}),
            ("Gemm", [".", "WT"], {}),
            ("Add", [".", "C"], {}),
            ("MatMul", [".", "W1"], {}),
            ("Sigmoid", ["."], {}),
        ),
        1,
    ),
    "a vector": (graph(("MatMul", ["X", "w"], {})), 1),
    "gemm": (graph(("Gemm", ["X", "W", "B"], {"alpha": 0.5, "beta": 2.0})), 3),
    "gemm, transposed": (graph(("Gemm", ["X", "WT"], {"transB": 1})), 3),
    "softmax": (graph(("Gemm", ["X", "W", "B"], {}), ("Softmax", ["."], {"axis": 1})), 3),
    "sigmoid of one": (graph(("MatMul", ["X", "W1"], {}), ("Sigmoid", ["."], {}), ("Reshape", [".", "S"], {})), 1),
    "exp": (graph(("MatMul", ["X", "W1"], {}), ("Exp", ["."], {})), 1),
    "affine in front": (
        graph(("Mul", ["X", "C"], {}), ("Sub", [".", "C"], {}), ("Div", [".", "C"], {}), ("MatMul", [".", "W"], {})),
        3,
    ),
    "columns in front": (graph(("Gather", ["X", "I"], {"axis": 1}), ("MatMul", [".", "W2"], {})), 3),
    "columns twice": (
        graph(
            ("Concat", ["X", "X"], {"axis": 1}),
            (
                "LinearRegressor",
                ["."],
                {**ML, "targets": 1, "coefficients": [1.0, 2, 3, 4, 5, 6, 7, 8], "intercepts": [0.5]},
            ),
        ),
        1,
    ),
    "a class": (
        graph(("MatMul", ["X", "W"], {}), ("Sigmoid", ["."], {}), ("Gather", [".", "one"], {"axis": 1})),
        1,
    ),
    "classifier": (
        graph(
            (
                "LinearClassifier",
                ["X"],
                {**ML, **COEFFICIENTS, "classlabels_ints": [0, 1, 2], "post_transform": "SOFTMAX"},
            ),
            outputs=2,
        ),
        3,
    ),
    "classifier of two": (
        graph(("LinearClassifier", ["X"], {**ML, **PAIR, "post_transform": "SOFTMAX"}), outputs=2),
        1,
    ),
    "of two, logistic": (
        graph(("LinearClassifier", ["X"], {**ML, **PAIR, "post_transform": "LOGISTIC"}), outputs=2),
        1,
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_what_folds_is_the_runtimes(case: str) -> None:
    data, outputs = FOLDED[case]
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(b"UBPLINEA")
    assert imported.outputs == outputs
    x = np.random.default_rng(4).normal(size=(200, FEATURES)).astype(np.float32)
    close(by_all(imported.compiled, x), by_runtime(data, x))


NOT_FOLDED: dict[str, bytes] = {
    "network": graph(("MatMul", ["X", "W"], {}), ("Relu", ["."], {}), ("MatMul", [".", "WT"], {})),
    "a product of rows": graph(("MatMul", ["X", "W"], {}), ("MatMul", ["X", "."], {})),
    "two links": graph(("MatMul", ["X", "W"], {}), ("Sigmoid", ["."], {}), ("Exp", ["."], {})),
    "product behind": graph(("MatMul", ["X", "W"], {}), ("Mul", [".", "B"], {})),
    "normalized rows": graph(("Normalizer", ["X"], {**ML, "norm": "L2"}), ("MatMul", [".", "W"], {})),
    "zero replaced": graph(
        ("Imputer", ["X"], {**ML, "imputed_value_floats": [1.0], "replaced_value_float": 0.0}),
        ("MatMul", [".", "W"], {}),
    ),
    "softmax over rows": graph(("MatMul", ["X", "W"], {}), ("Softmax", ["."], {"axis": 0})),
    "one row for two classes": graph(
        (
            "LinearClassifier",
            ["X"],
            {
                **ML,
                "coefficients": W[:, 0].tolist(),
                "intercepts": [0.5],
                "classlabels_ints": [0, 1],
                "post_transform": "LOGISTIC",
            },
        ),
        outputs=2,
    ),
    "transposed rows": graph(("Gemm", ["X", "W"], {"transA": 1})),
}


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_what_does_not_fold_is_left_to_the_runtime(case: str) -> None:
    assert fold(read_graph(NOT_FOLDED[case]), FEATURES) is None


def test_normalized_scores_of_classes_fold_where_they_add_up_to_one() -> None:
    for coefficients, intercepts, folds in (
        ([-1.0, 2, 3, 4, 1, -2, -3, -4], [-5.0, 5], True),
        ([1.0] * 8, [1.0, 1], False),
        ([-1.0, 2, 3, 4, 1, -2, -3, -4], [5.0, 5], False),
    ):
        chosen: dict[str, Any] = {"coefficients": coefficients, "intercepts": intercepts, "classlabels_ints": [0, 1]}
        nodes = [
            helper.make_node("LinearClassifier", ["X"], ["L", "P"], post_transform="LOGISTIC", **ML, **chosen),
            helper.make_node("Normalizer", ["P"], ["Q"], norm="L1", **ML),
        ]
        made = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, FEATURES])],
            [
                helper.make_tensor_value_info(n, k, None)
                for n, k in (("L", TensorProto.INT64), ("Q", TensorProto.FLOAT))
            ],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        data = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
        assert (fold(read_graph(data), FEATURES) is not None) == folds


@pytest.mark.parametrize(
    "attributes",
    [
        {"coefficients": [1.0] * 3 + [float("nan")]},
        {"coefficients": [1.0] * 3 + [float("inf")]},
        {"intercepts": [float("nan")]},
    ],
)
def test_weights_that_are_none_are_refused(attributes: dict[str, Any]) -> None:
    chosen = {"coefficients": [1.0] * 4, "intercepts": [0.5], **attributes}
    with pytest.raises(InvalidModel, match="not finite"):
        fold(read_graph(graph(("LinearRegressor", ["X"], {**ML, **chosen}))), FEATURES)


def test_scaling_must_have_a_number_for_each_column() -> None:
    steps: tuple[Step, ...] = (
        ("Scaler", ["X"], {**ML, "offset": [0.0, 1.0], "scale": [1.0]}),
        ("MatMul", [".", "W"], {}),
    )
    with pytest.raises(InvalidModel, match=r"'n0' \(Scaler\): offset: expected 1 or 4 numbers, found 2"):
        fold(read_graph(graph(*steps)), FEATURES)


def test_classes_in_another_order_are_refused() -> None:
    chosen = {**PAIR, "classlabels_ints": [1, 0], "post_transform": "SOFTMAX"}
    with pytest.raises(UnsupportedModel, match="classes are 1 and 0"):
        fold(read_graph(graph(("LinearClassifier", ["X"], {**ML, **chosen}), outputs=2)), FEATURES)


def test_values_that_are_taken_many_times_are_followed_once() -> None:
    """Each step twice the one before: 2**15 ways from the end to the features."""
    steps: list[Step] = []
    for _ in range(15):
        steps += [("Concat", [".", "."], {"axis": 1}), ("Gather", [".", "I"], {"axis": 1})]
    data = graph(*steps, ("MatMul", [".", "W2"], {}))
    imported = read_model(data, NAMES)
    x = np.random.default_rng(4).normal(size=(20, FEATURES)).astype(np.float32)
    close(by_all(imported.compiled, x), by_runtime(data, x))


def test_columns_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = graph(("Mul", ["X", "C"], {}), ("Sub", [".", "C"], {}), ("MatMul", [".", "W"], {}))
    monkeypatch.setattr(onnx_columns, "MAX_COLUMNS", 7)
    assert fold(read_graph(data), FEATURES) is None


@pytest.mark.parametrize(
    "step",
    [
        ("LinearClassifier", ["X"], {**ML, **PAIR, "classlabels_ints": 3}),
        ("LinearClassifier", ["X"], {**ML, **PAIR, "post_transform": 10**12}),
        ("LinearRegressor", ["X"], {**ML, "coefficients": 1.0, "intercepts": [0.5]}),
        ("LinearRegressor", ["X"], {**ML, "coefficients": [1.0] * 4, "targets": [1]}),
        ("TreeEnsembleRegressor", ["X"], {**ML, "nodes_treeids": 1}),
        ("TreeEnsembleRegressor", ["X"], {**ML, "nodes_treeids": [0], "nodes_nodeids": [0], "nodes_modes": 5}),
        ("TreeEnsembleClassifier", ["X"], {**ML, "classlabels_int64s": [0, 1], "post_transform": 10**12}),
        ("Gemm", ["X", "W"], {"alpha": [1.0]}),
        ("Gemm", ["X"], {}),
    ],
)
def test_attributes_of_another_type_are_refused(step: Step) -> None:
    try:
        assert fold(read_graph(graph(step, outputs=2)), FEATURES) is None
    except InvalidModel as error:
        assert step[0] in error.message  # noqa: PT017 - or it is left to the runtime, which refuses it
