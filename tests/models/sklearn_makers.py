"""scikit-learn's models as ONNX, trained once a session, and ONNX Runtime's answers."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import onnx.helper
import onnxruntime
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FEATURES = 4
MISSING = "takes missing values"

# name: (model, label: two classes, three classes, a number, counts)
TREES: dict[str, tuple[Callable[[], Any], str]] = {
    "tree of two": (lambda: DecisionTreeClassifier(max_depth=4), "two"),
    "tree of three": (lambda: DecisionTreeClassifier(max_depth=4), "three"),
    "tree": (lambda: DecisionTreeRegressor(max_depth=4), "number"),
    "one leaf": (lambda: DecisionTreeRegressor(max_leaf_nodes=2, min_samples_leaf=250), "number"),
    "forest of two": (lambda: RandomForestClassifier(20, max_leaf_nodes=31, random_state=1), "two"),
    "forest of three": (lambda: RandomForestClassifier(10, max_depth=4, random_state=1), "three"),
    "forest": (lambda: RandomForestRegressor(10, max_depth=5, random_state=1), "number"),
    "forest of targets": (lambda: RandomForestRegressor(5, max_depth=4, random_state=1), "numbers"),
    "extra of two": (lambda: ExtraTreesClassifier(10, max_depth=4, random_state=1), "two"),
    "extra": (lambda: ExtraTreesRegressor(10, max_depth=4, random_state=1), "number"),
    "boosting of two": (lambda: GradientBoostingClassifier(n_estimators=20, random_state=1), "two"),
    "boosting of three": (lambda: GradientBoostingClassifier(n_estimators=8, random_state=1), "three"),
    "boosting": (lambda: GradientBoostingRegressor(n_estimators=20, random_state=1), "number"),
    "histograms of two": (lambda: HistGradientBoostingClassifier(max_iter=15), "two"),
    "histograms of three": (lambda: HistGradientBoostingClassifier(max_iter=6), "three"),
    "histograms": (lambda: HistGradientBoostingRegressor(max_iter=15), "number"),
    "imputed": (lambda: _imputed(RandomForestClassifier(10, max_depth=5, random_state=1)), "two"),
    "scaled": (lambda: _scaled(GradientBoostingRegressor(n_estimators=20, random_state=1)), "number"),
    "scaled, missing": (lambda: make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=15)), "two"),
    "to 0-1": (lambda: make_pipeline(SimpleImputer(), MinMaxScaler(), DecisionTreeRegressor(max_depth=6)), "number"),
}
LINEAR: dict[str, tuple[Callable[[], Any], str]] = {
    "logistic": (LogisticRegression, "two"),
    "logistic, liblinear": (lambda: LogisticRegression(solver="liblinear"), "two"),
    "logistic of three": (LogisticRegression, "three"),
    "least squares": (LinearRegression, "number"),
    "least squares of targets": (LinearRegression, "numbers"),
    "ridge": (Ridge, "number"),
    "lasso": (lambda: Lasso(alpha=0.3), "number"),
    "ridge of two": (RidgeClassifier, "two"),
    "poisson": (PoissonRegressor, "counts"),
    "imputed logistic": (lambda: _scaled(LogisticRegression()), "two"),
    "imputed logistic of three": (lambda: _scaled(LogisticRegression()), "three"),
    "imputed ridge": (lambda: make_pipeline(SimpleImputer(strategy="median"), MinMaxScaler(), Ridge()), "number"),
    "chosen columns": (lambda: make_pipeline(SimpleImputer(), SelectKBest(k=2), LogisticRegression()), "two"),
}
TAKES_MISSING = ("histograms", "imputed", "scaled", "to 0-1", "chosen")


def _imputed(model: Any) -> Any:
    return make_pipeline(SimpleImputer(), model)


def _scaled(model: Any) -> Any:
    return make_pipeline(SimpleImputer(), StandardScaler(), model)


@cache
def training_rows() -> tuple[F32, dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(300, FEATURES)) * [1, 10, 0.1, 1000] + [0, 5, 0.2, 3000]).astype(np.float32)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    number = z[:, 0] + z[:, 1] * z[:, 2] + 0.3 * rng.normal(size=len(x))
    labels = {
        "two": (number > 0).astype(int),
        "three": np.digitize(number, [-0.5, 0.5]),
        "number": number,
        "numbers": np.column_stack([number, 2 * number + z[:, 3]]),
        "counts": rng.poisson(np.exp(np.clip(number, -2, 2))),
    }
    return x, labels


@cache
def fitted(name: str) -> Any:
    make, label = {**TREES, **LINEAR}[name]
    x, labels = training_rows()
    if name.startswith(TAKES_MISSING):
        x = x.copy()
        x[np.random.default_rng(6).random(x.shape) < 0.1] = np.nan
    # Threads of OpenMP wait for each other in loops: on a busy machine that takes seconds.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return make().fit(x, labels[label])


def probabilities(name: str, x: F32) -> F64:
    """scikit-learn's own; of two classes the second."""
    with threadpool_limits(1):
        found = np.asarray(fitted(name).predict_proba(x), np.float64)
    return found[:, 1:] if found.shape[1] == 2 else found


@cache
def exported(name: str, dtype: str = "float32", zipmap: bool = False) -> bytes:
    """The model as ONNX, by skl2onnx; zipmap: probabilities as dictionaries, its own default."""
    model = fitted(name)
    options = {id(model): {"zipmap": zipmap}} if hasattr(model, "predict_proba") else None
    return convert(model, np.zeros((1, FEATURES), dtype), options)


def convert(model: Any, sample: Any, options: Any = None, names: Sequence[str] = ()) -> bytes:
    """names: of inputs of one column each, in place of one of all columns."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    types = [(name, FloatTensorType([None, 1])) for name in names] or None

    def attribute(key: str, value: Any, *rest: Any, **named: Any) -> Any:
        # skl2onnx 1.20 gives flags of missing values as bool, which onnx 1.23 takes for no number.
        if isinstance(value, list) and value and all(isinstance(v, bool | np.integer | int) for v in value):
            value = [int(v) for v in value]
        return make_attribute(key, value, *rest, **named)

    make_attribute = onnx.helper.make_attribute
    with warnings.catch_warnings(), mock.patch.object(onnx.helper, "make_attribute", attribute):
        warnings.simplefilter("ignore")
        made = to_onnx(model, None if names else sample, initial_types=types, options=options)
        return bytes(made.SerializeToString())


def by_runtime(data: bytes, x: NDArray[Any]) -> F64:
    """(r, k) the last output of ONNX Runtime; of two classes the second."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})
    scores = np.asarray(found[-1], np.float64).reshape(len(x), -1)
    return scores[:, 1:] if len(found) > 1 and scores.shape[1] == 2 else scores


def rows(name: str, count: int, seed: int) -> F32:
    """Rows around the training data, some cells missing where the model takes that."""
    rng = np.random.default_rng(seed)
    x, _ = training_rows()
    made = x[rng.integers(0, len(x), count)] + rng.normal(size=(count, FEATURES)) * x.std(axis=0)
    if name.startswith(TAKES_MISSING):
        made[rng.random(made.shape) < 0.15] = np.nan
    return np.asarray(made, np.float32)
