"""scikit-learn's pipelines with categories and components in front of a model, as ONNX: our own forms, no runtime."""

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from tests.models.scorers import by_all
from tests.models.sklearn_makers import by_runtime, convert
from tests.models.test_onnx_linear import close
from ubp_sql.models.formats import read_model
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_fold import fold
from ubp_sql.models.preparation_document import together

F32 = NDArray[np.float32]
NAMES = tuple("abcde")


def rows(count: int, seed: int, missing: bool) -> F32:
    """Three numbers, two codes; 9 is a code that nobody was trained on."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5)) * [1, 10, 100, 1, 1]
    x[:, 3], x[:, 4] = rng.choice([-2, 0, 1, 3, 9], count), rng.integers(0, 4, count)
    if missing:
        x[rng.random(x.shape) < 0.15] = np.nan
    return x.astype(np.float32)


def _encoder() -> Any:
    return OneHotEncoder(handle_unknown="ignore", categories=[[-2, 0, 1, 3]])


def _numbers() -> Any:
    return make_pipeline(SimpleImputer(), StandardScaler())


def _codes() -> Any:
    return make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))


PIPELINES: dict[str, tuple[Any, bytes]] = {
    "components": (make_pipeline(_numbers(), PCA(3), LogisticRegression()), b"UBPLINEA"),
    "components, ridge": (make_pipeline(_numbers(), PCA(2), Ridge()), b"UBPLINEA"),
    "all of it": (
        make_pipeline(
            ColumnTransformer(
                [("n", make_pipeline(_numbers(), PCA(2)), [0, 1, 2]), ("c", _codes(), [3, 4])], sparse_threshold=0
            ),
            LogisticRegression(),
        ),
        b"UBPPREPA",
    ),
    "one code, three classes": (
        make_pipeline(
            ColumnTransformer([("c", _encoder(), [3]), ("n", _numbers(), [0, 1, 2, 4])], sparse_threshold=0),
            LogisticRegression(),
        ),
        b"UBPPREPA",
    ),
    "forest": (
        make_pipeline(
            ColumnTransformer([("n", SimpleImputer(), [2, 0]), ("c", _codes(), [4, 3])], sparse_threshold=0),
            RandomForestClassifier(20, max_depth=5, random_state=1),
        ),
        b"UBPPREPA",
    ),
    "boosting": (
        make_pipeline(
            ColumnTransformer([("n", _numbers(), [0, 1, 2]), ("c", _codes(), [3, 4])], sparse_threshold=0),
            GradientBoostingClassifier(n_estimators=20, random_state=1),
        ),
        b"UBPPREPA",
    ),
    "components before trees": (
        make_pipeline(_numbers(), PCA(2), RandomForestClassifier(5, max_depth=3, random_state=1)),
        b"UBPONNX1",
    ),
}


@cache
def exported(name: str) -> bytes:
    model, _ = PIPELINES[name]
    x = rows(400, 1, True)
    known = np.nan_to_num(x)
    x[:, 3][x[:, 3] == 9] = 0
    y = known[:, 0] + known[:, 1] / 10 + (known[:, 3] == 1) + np.random.default_rng(2).normal(size=len(x)) > 0.5
    label = y + (known[:, 4] > 2) if "three" in name else y
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        model.fit(x, label.astype(int))
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    return convert(model, np.zeros((1, 5), np.float32), options)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_are_scored_as_by_the_runtime_and_by_scikit_learn(name: str) -> None:
    model, magic = PIPELINES[name]
    data = exported(name)
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(magic)
    x = rows(500, 3, True)
    found = by_all(imported.compiled, x)
    close(found, by_runtime(data, x))
    with threadpool_limits(1):
        expected = model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x).reshape(-1, 1)
    close(found, expected[:, 1:] if expected.shape[1] == 2 else expected)


def test_what_takes_missing_values_is_known() -> None:
    assert read_model(exported("all of it"), NAMES).takes_missing
    assert not read_model(exported("one code, three classes"), NAMES).preparation
    # Its encoder has no imputer: a missing code is none of the categories, and the score is a number all the same.
    x = rows(50, 5, True)
    assert not np.isnan(by_all(read_model(exported("one code, three classes"), NAMES).compiled, x)).any()


def test_a_graph_with_categories_stands_behind_a_preparation() -> None:
    """Two preparations one after the other: the document's, then the graph's."""
    document = b'{"ubp_preparation": 1, "features": ["a", "b", "c", "d", "e"], "steps": [{"step": "impute", "columns": ["a", "b", "c", "d", "e"], "values": [0, 0, 0, 1, 2]}]}'  # noqa: E501
    data = exported("all of it")
    x = rows(200, 6, True)
    filled = np.where(np.isnan(x), np.array([0, 0, 0, 1, 2], np.float32), x)
    together_ = read_model(together(document, data), NAMES)
    assert by_all(together_.compiled, x).tobytes() == by_all(read_model(data, NAMES).compiled, filled).tobytes()


Step = tuple[str, str, str, dict[str, Any]]
ML = {"domain": "ai.onnx.ml"}
TENSORS: dict[str, NDArray[Any]] = {
    "W": np.array([[1.0], [2], [-3]], np.float32),
    "S": np.array([-1, 3], np.int64),
    "S2": np.array([3, -1], np.int64),
    "I": np.array([1, 0, 2], np.int64),
    "first": np.array([3], np.int64),
}


def graph(*steps: Step) -> bytes:
    """Nodes of (operator, inputs, output, attributes); X goes in, the last output is the graph's."""
    nodes = [helper.make_node(kind, given.split(), [made], **options) for kind, given, made, options in steps]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 5])],
        [helper.make_tensor_value_info(steps[-1][2], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in TENSORS.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


CODE: Step = ("Gather", "X first", "code", {"axis": 1})
WHOLE: Step = ("Cast", "code", "whole", {"to": 7})
HOT: Step = ("OneHotEncoder", "whole", "hot", {**ML, "cats_int64s": [3, -2, 0], "zeros": 1})
FLAT: Step = ("Reshape", "hot S", "flat", {})
SUM: Step = ("MatMul", "flat W", "y", {})


@pytest.mark.parametrize(
    "steps",
    [
        (CODE, WHOLE, HOT, FLAT, SUM),
        (CODE, WHOLE, HOT, ("Gather", "hot I", "hot2", {"axis": 2}), ("Reshape", "hot2 S", "flat", {}), SUM),
        (CODE, WHOLE, HOT, ("Gather", "hot I", "hot2", {"axis": -1}), ("Reshape", "hot2 S", "flat", {}), SUM),
    ],
)
def test_categories_are_the_whole_part_of_a_feature(steps: tuple[Step, ...]) -> None:
    data = graph(*steps)
    imported = read_model(data, NAMES)
    assert imported.compiled.startswith(b"UBPPREPA")
    x = np.zeros((12, 5), np.float32)
    x[:, 3] = [3, 3.9, -2, -2.9, 0, -0.0, 0.9, -0.9, 1e30, -1e30, np.nan, np.inf]
    close(by_all(imported.compiled, x), by_runtime(data, x))


NOT_FOLDED: dict[str, tuple[Step, ...]] = {
    "deep": (CODE, WHOLE, HOT, ("MatMul", "hot W", "y", {})),
    "other shape": (CODE, WHOLE, HOT, ("Reshape", "hot S2", "flat", {}), SUM),
    "whole numbers": (CODE, WHOLE, ("Cast", "whole", "back", {"to": 1}), ("MatMul", "X W", "y", {})),
    "of a number": (CODE, ("OneHotEncoder", "code", "hot", {**ML, "cats_int64s": [3, -2, 0]}), FLAT, SUM),
    "twice": (
        CODE, WHOLE, ("OneHotEncoder", "whole", "hot", {**ML, "cats_int64s": [3, 3, 0]}), FLAT, SUM,
    ),
    "unknown fails": (
        CODE, WHOLE, ("OneHotEncoder", "whole", "hot", {**ML, "cats_int64s": [3, 2, 0], "zeros": 0}), FLAT, SUM,
    ),
    "scaled before": (
        CODE, ("Mul", "code C", "code2", {}), ("Cast", "code2", "whole", {"to": 7}), HOT, FLAT, SUM,
    ),
    "another axis": (
        CODE, WHOLE, HOT, ("Gather", "hot I", "hot2", {"axis": 1}), ("Reshape", "hot2 S", "flat", {}), SUM,
    ),
}  # fmt: skip
TENSORS["C"] = np.array([2.0], np.float32)


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_what_does_not_fold_is_left_to_the_runtime(case: str) -> None:
    assert fold(read_graph(graph(*NOT_FOLDED[case])), 5) is None


def test_encoders_of_encoders_end() -> None:
    steps: list[Step] = [CODE, WHOLE, HOT]
    for k in range(400):
        steps += [
            ("Gather", f"{steps[-1][2]} first", f"c{k}", {"axis": -1}),
            ("Cast", f"c{k}", f"w{k}", {"to": 7}),
            ("OneHotEncoder", f"w{k}", f"h{k}", {**ML, "cats_int64s": [0, 1, 2, 3]}),
        ]
    assert fold(read_graph(graph(*steps, ("Reshape", f"{steps[-1][2]} S", "flat", {}), SUM)), 5) is None
