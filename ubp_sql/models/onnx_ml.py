"""Operators of ai.onnx.ml that a graph may have around or instead of layers, as scikit-learn's converter writes them.

ONNX Runtime reads the lists of these operators by counts that it takes from other lists: every length is checked here.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ubp_sql.models.onnx_fold import fold
from ubp_sql.models.onnx_graph import Graph, Value
from ubp_sql.models.onnx_operators import FLOATS, WHOLE, one_type
from ubp_sql.models.onnx_shapes import At, Known, Rule

_NUMBERS = FLOATS + WHOLE
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def _table(at: At) -> tuple[int, int]:
    """Rows and columns of the input."""
    x = at.input()
    one_type(at, [x], _NUMBERS)
    if len(x.shape) != 2:
        at.bad(f"its input has the shape {list(x.shape)}, rows and columns are expected")
    return x.shape[0], x.shape[1]


def _scaler(at: At) -> list[Known]:
    rows, columns = _table(at)
    for name in ("offset", "scale"):
        if len(at.floats(name)) not in (1, columns):
            at.bad(f"{name} has {len(at.floats(name))} numbers for {columns} columns")
    return [Known("float32", (rows, columns))]


def _normalizer(at: At) -> list[Known]:
    at.text("norm", "MAX", ("MAX", "L1", "L2"))
    return [Known("float32", _table(at))]


def _imputer(at: At) -> list[Known]:
    rows, columns = _table(at)
    dtype = one_type(at, [at.input()], ("float32", "int64"))
    values = at.floats("imputed_value_floats") if dtype == "float32" else at.numbers("imputed_value_int64s") or []
    if len(values) not in (1, columns):
        at.bad(f"{len(values)} values to put in for {columns} columns")
    return [Known(dtype, (rows, columns))]


def _binarizer(at: At) -> list[Known]:
    return [Known(one_type(at, [at.input()], FLOATS), at.input().shape)]


def _extract(at: At) -> list[Known]:
    x, which = at.input(0), at.known(1)
    if len(x.shape) != 2 or not which or not all(0 <= j < x.shape[1] for j in which):
        at.bad(f"columns {which[:20]} of an input of shape {list(x.shape)}")
    return [Known(x.dtype, (x.shape[0], len(which)))]


def _one_hot(at: At) -> list[Known]:
    x = at.input()
    one_type(at, [x], _NUMBERS)
    categories = at.numbers("cats_int64s")
    if not categories:
        at.unsupported("its categories are texts", "export it with whole numbers as categories")
    if not at.flag("zeros", True):
        at.unsupported("it fails on a category that it does not know", "export it with handle_unknown='ignore'")
    return [Known("float32", (*x.shape, len(categories)))]


def _labels(at: At) -> list[Known]:
    x = at.input()
    given = at.numbers("keys_int64s") if x.dtype == "int64" else at.floats("keys_floats")
    made, dtype = at.numbers("values_int64s"), "int64"
    if made is None:
        made, dtype = at.floats("values_floats"), "float32"  # type: ignore[assignment]
    if x.dtype not in ("int64", "float32") or not given or made is None or len(made) != len(given):
        at.unsupported("keys and values are no numbers, or not equally many")
    return [Known(dtype, x.shape)]


def _vector(at: At) -> list[Known]:
    rows, total = _table(at)[0], 0
    for known in at.all_inputs():
        one_type(at, [known], _NUMBERS)
        if len(known.shape) != 2 or known.shape[0] != rows:
            at.bad(f"an input of shape {list(known.shape)}")
        total += known.shape[1]
    if at.numbers("inputdimensions") != [known.shape[1] for known in at.all_inputs()]:
        at.bad("inputdimensions are not those of its inputs")
    return [Known("float32", (rows, total))]


def _linear_regressor(at: At) -> list[Known]:
    rows, columns = _table(at)
    targets = at.number("targets", 1)
    at.text("post_transform", "NONE", _TRANSFORMS)
    if targets < 1 or len(at.floats("coefficients")) != targets * columns:
        at.bad(f"{len(at.floats('coefficients'))} coefficients for {targets} targets of {columns} columns")
    if len(at.floats("intercepts")) not in (0, targets):
        at.bad("its intercepts are not as many as its targets")
    at.work += prod((rows, columns, targets))
    return [Known("float32", (rows, targets))]


def labels_of(at: At) -> int:
    """How many classes a classifier tells apart."""
    texts = at.node.attributes.get("classlabels_strings", ())
    for name in ("classlabels_ints", "classlabels_int64s"):
        if whole := at.numbers(name):
            return len(whole)
    if not isinstance(texts, tuple) or not texts:
        at.bad("it has no labels of its classes")
    return len(texts)


def classes(at: At, rows: int, n: int) -> list[Known]:
    """What a classifier gives: a label and the scores of n classes."""
    texts = at.node.attributes.get("classlabels_strings", ())
    return [Known("string" if texts else "int64", (rows,)), Known("float32", (rows, n))]


def _linear_classifier(at: At) -> list[Known]:
    rows, columns = _table(at)
    n = labels_of(at)
    at.text("post_transform", "NONE", _TRANSFORMS)
    if n < 2 or len(at.floats("coefficients")) != n * columns or len(at.floats("intercepts")) != n:
        at.bad(f"its coefficients or intercepts are not those of {n} classes and {columns} columns")
    at.work += prod((rows, columns, n))
    return classes(at, rows, n)


def _forest(at: At) -> list[Known]:
    """Trees among other operators: ONNX Runtime follows children as they are written, so they are checked as those are
    that become a compiled forest.
    """
    rows, columns = _table(at)
    x = Value("x", "float32", (None, columns))
    node = replace(at.node, inputs=("x",), outputs=at.node.outputs[:1] + ("scores",) * (len(at.node.outputs) - 1))
    alone = Graph((node,), {}, (x,), (Value(node.outputs[-1], "float32", None),), {"ai.onnx.ml": at.opset}, {})
    if fold(alone, columns) is None:
        at.unsupported("its trees are of a form that is not known", "docs/models.md says which are")
    at.work += rows * len(at.numbers("nodes_treeids") or ())
    if at.node.op_type == "TreeEnsembleRegressor":
        return [Known("float32", (rows, at.number("n_targets", 1)))]
    return classes(at, rows, labels_of(at))


def _support_vectors(at: At) -> list[Known]:
    """A classifier that was trained with probabilities, or a regressor."""
    rows, columns = _table(at)
    at.text("kernel_type", "LINEAR", ("LINEAR", "POLY", "RBF", "SIGMOID"))
    at.text("post_transform", "NONE", _TRANSFORMS)
    regressor = at.node.op_type == "SVMRegressor"
    n = 1 if regressor else labels_of(at)
    if regressor:
        vectors, weights, pairs = at.number("n_supports", 0), 1, 1
    else:
        of_class = at.numbers("vectors_per_class") or []
        vectors, weights, pairs = sum(of_class), n - 1, n * (n - 1) // 2
        if len(of_class) != n or min(of_class) < 0 or n < 2:
            at.bad(f"vectors_per_class are not of {n} classes")
        if not len(at.floats("prob_a")) == len(at.floats("prob_b")) == pairs:
            at.unsupported("it gives no probabilities", "train it with probability=True")
    if vectors < 1 or len(at.floats("support_vectors")) != vectors * columns:
        at.bad(f"its support vectors are not {vectors} of {columns} columns")
    if len(at.floats("coefficients")) != vectors * weights or len(at.floats("rho")) != pairs:
        at.bad(f"its coefficients or offsets are not those of {vectors} support vectors")
    if len(at.floats("kernel_params")) != 3:
        at.bad("kernel_params are not three numbers")
    at.work += 2 * rows * vectors * (columns + 20)
    at.scratch += 4 * rows * vectors * 2
    return [Known("float32", (rows, 1))] if regressor else classes(at, rows, n)


ML: dict[str, Rule] = {
    **{"Scaler": _scaler, "Normalizer": _normalizer, "Imputer": _imputer, "Binarizer": _binarizer},
    **{"ArrayFeatureExtractor": _extract, "OneHotEncoder": _one_hot, "LabelEncoder": _labels},
    **{"TreeEnsembleRegressor": _forest, "TreeEnsembleClassifier": _forest},
    **{"SVMRegressor": _support_vectors, "SVMClassifier": _support_vectors},
    **{"FeatureVectorizer": _vector, "LinearRegressor": _linear_regressor, "LinearClassifier": _linear_classifier},
}
