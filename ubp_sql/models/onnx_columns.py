"""What stands before a model in an ONNX graph, followed back to the features: casts, imputation, scaling, a choice of
columns, products with a matrix, categories.

Each column that the model reads is one feature on which a few steps were done, in the precision of the file. A linear
model takes the steps into its weights. A tree takes them into its thresholds, exactly: the steps keep the order of
numbers, so there is a largest float32 that still passes (`largest_below`).

A column may also be 1 or 0 for a feature that is of one category or not: such columns stand behind the features, and a
preparation makes them (`program`). Or it may be a sum of weighted columns, which a linear model takes into its weights.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from math import prod

from ubp_sql.errors import InvalidModel
from ubp_sql.models.limits import MAX_FEATURES, MAX_OUTPUTS, MAX_WEIGHTS
from ubp_sql.models.onnx_graph import Graph, Node, Tensor
from ubp_sql.models.preparation import COPY, FILL, ONE_HOT, TRUNCATE, Program, step

MAX_STEPS = 32
MAX_COLUMNS = 10 * MAX_FEATURES  # of all values together
# Operators of ai.onnx.ml that are looked at; of the same name elsewhere they are something else.
ML = {"LinearClassifier", "LinearRegressor", "TreeEnsembleClassifier", "TreeEnsembleRegressor"}
ML |= {"ArrayFeatureExtractor", "FeatureVectorizer", "Imputer", "Normalizer", "OneHotEncoder", "Scaler"}
_FLOATS = {1: "float32", 11: "float64"}
_WHOLE = "int64"
MAX_CODES = 900  # columns that have categories: a step of the preparation each
MAX_CATEGORY = 2**53


class NotFolded(Exception):
    """The graph, or this part of it, is neither a forest nor a linear model."""


@dataclass(frozen=True, slots=True)
class Column:
    """A feature and what is done to it: (what, number, whether the result is rounded to float32); what is one of
    + - * / and ?, which replaces NaN.

    feature  from the number of features on, a category of a feature; below 0, ~k is sum k of columns
    dtype    int64: the whole part of what the steps make, of which only categories are made
    """

    feature: int
    dtype: str
    steps: tuple[tuple[str, float, bool], ...] = ()

    def then(self, what: str, number: float, rounded: bool | None = None) -> Column:
        if len(self.steps) == MAX_STEPS or not math.isfinite(number) or self.dtype == _WHOLE:
            raise NotFolded
        # A factor that is not positive would turn the order round, or end it.
        if what in "*/" and not number > 0.0:
            raise NotFolded
        step = what, number, self.dtype == "float32" if rounded is None else rounded
        return replace(self, steps=(*self.steps, step))

    def apply(self, x: float) -> float:
        for what, number, rounded in self.steps:
            if what == "?":
                x = number if x != x else x
            elif what == "+":
                x += number
            elif what == "-":
                x -= number
            else:
                x = x * number if what == "*" else x / number
            if rounded:
                x = _FLOAT(x)
        return x

    @property
    def affine(self) -> tuple[float, float, float]:
        """(a, b, m): the steps make a * x + b of x and m of NaN."""
        a, b, m = 1.0, 0.0, math.nan
        for what, number, _ in self.steps:
            if what == "?":
                m = number if m != m else m
            elif what in "+-":
                b, m = (b + number, m + number) if what == "+" else (b - number, m - number)
            else:
                a, b, m = (v * number if what == "*" else v / number for v in (a, b, m))
        return a, b, m


def _FLOAT(x: float) -> float:
    return array("f", (x,))[0]


def _word(x: float) -> int:
    """The place of a float32 in the order of all of them."""
    word = array("i", array("f", (x,)).tobytes())[0]
    return word if word >= 0 else -(word & 0x7FFFFFFF)


def _of_word(word: int) -> float:
    bits = word if word >= 0 else -word - 0x80000000
    return array("f", array("i", (bits,)).tobytes())[0]


_LOWEST, _HIGHEST = _word(-math.inf), _word(math.inf)


def largest_below(column: Column, t: float, strict: bool = False) -> float | None:
    """The largest float32 x for which the column's value is <= t, or < t; None where there is none. t is not NaN."""
    passes: Callable[[float], bool] = (lambda v: v < t) if strict else (lambda v: v <= t)
    a, b, _ = column.affine
    guess = (t - b) / a if math.isfinite(t) and a > 0.0 else t
    low = high = min(max(_word(guess if guess == guess else 0.0), _LOWEST), _HIGHEST)
    step = 1
    while passes(column.apply(_of_word(high))):  # up until one does not
        if high == _HIGHEST:
            return math.inf
        low, high, step = high, min(high + step, _HIGHEST), 2 * step
    step = 1
    while not passes(column.apply(_of_word(low))):  # down until one does
        if low == _LOWEST:
            return None
        low, high, step = max(low - step, _LOWEST), low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if passes(column.apply(_of_word(middle))):
            low = middle
        else:
            high = middle
    return _of_word(low)


class Sources:
    """The producers of a graph's values, and the columns that a value has."""

    def __init__(self, graph: Graph, features: int) -> None:
        """features: columns of a row, for a graph with one input of unknown width."""
        self.graph = graph
        if any((node.op_type in ML) != (node.domain == "ai.onnx.ml") for node in graph.nodes):
            raise NotFolded
        self.made = {name: (node, k) for node in graph.nodes for k, name in enumerate(node.outputs) if name}
        self._known: dict[str, list[Column]] = {}
        self._deep: set[str] = set()  # values of three dimensions, the middle one of 1
        self._left = MAX_COLUMNS
        self._categories: dict[tuple[Column, float], int] = {}
        self.sums: list[tuple[list[Column], list[float], float]] = []  # columns, weights, bias of column ~k
        count = 0
        widths = []
        for value in graph.inputs:
            shape = value.shape
            if value.dtype not in _FLOATS.values() or shape is None or len(shape) != 2:
                raise NotFolded
            width = shape[1] if shape[1] is not None else features if len(graph.inputs) == 1 else None
            if width is None or not 0 < width <= MAX_FEATURES - count:
                raise NotFolded
            self._known[value.name] = [Column(count + i, value.dtype) for i in range(width)]
            widths.append(width)
            count += width
        self.features = count
        one_each = len(widths) > 1 and set(widths) == {1}
        self.names = tuple(value.name for value in graph.inputs) if one_each else ()

    def constant(self, name: str) -> Tensor | None:
        """The tensor of an initializer or of a Constant."""
        if name in self.graph.initializers:
            return self.graph.initializers[name]
        node = self.made[name][0] if name in self.made else None
        value = node.attributes.get("value") if node is not None and node.op_type == "Constant" else None
        return value if isinstance(value, Tensor) else None

    @property
    def width(self) -> int:
        """Columns of the rows that the model reads: features and categories."""
        return self.features + len(self._categories)

    def numbers(self, name: str) -> list[Column]:
        """The columns that a model reads of a value of shape (rows, columns). Raises NotFolded."""
        columns = self.columns(name)
        if name in self._deep or any(column.dtype == _WHOLE for column in columns):
            raise NotFolded
        return columns

    def columns(self, name: str, depth: int = 0) -> list[Column]:
        """The columns of a value of shape (rows, columns) or (rows, 1, columns). Raises NotFolded."""
        # Each value once: a graph may take one many times over.
        if name not in self._known:
            if name not in self.made or depth > MAX_STEPS:
                raise NotFolded
            columns = self._made(self.made[name][0], depth + 1)
            self._left -= len(columns)
            if self._left < 0:
                raise NotFolded
            self._known[name] = columns
        return self._known[name]

    def _made(self, node: Node, depth: int) -> list[Column]:
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            return self._arithmetic(node, depth)
        if node.op_type in ("Concat", "FeatureVectorizer"):
            return self._joined(node, depth)
        if node.op_type in ("MatMul", "Gemm"):
            return self._multiplied(node, depth)
        if node.op_type in ("OneHotEncoder", "Reshape"):
            return self._of_categories(node, depth) if node.op_type == "OneHotEncoder" else self._reshaped(node, depth)
        if node.op_type not in ("Identity", "Cast", "Imputer", "Scaler", "ArrayFeatureExtractor", "Gather"):
            raise NotFolded
        columns = self.columns(node.need(0), depth)
        axes = (1, -1)
        if node.need(0) in self._deep:
            if node.op_type not in ("Identity", "Gather"):
                raise NotFolded
            self._deep |= set(node.outputs)
            axes = (2, -1)
        if node.op_type == "Cast":
            return _cast(columns, node.attributes.get("to"))
        if node.op_type == "Imputer":
            return _imputed(columns, node)
        if node.op_type == "Scaler":
            return _scaled(columns, node)
        return columns if node.op_type == "Identity" else [columns[i] for i in chosen(self, node, len(columns), axes)]

    def _multiplied(self, node: Node, depth: int) -> list[Column]:
        columns = self.columns(node.need(0), depth)
        if node.need(0) in self._deep or any(column.dtype == _WHOLE for column in columns):
            raise NotFolded
        weight, bias = matrix(self, node, len(columns))
        first = len(self.sums)
        self.sums += [(columns, row, b) for row, b in zip(weight, bias, strict=True)]
        if sum(len(row) for _, row, _ in self.sums) > MAX_WEIGHTS:
            raise NotFolded
        return [Column(~(first + k), columns[0].dtype) for k in range(len(weight))]

    def _of_categories(self, node: Node, depth: int) -> list[Column]:
        columns, categories = self.columns(node.need(0), depth), node.attributes.get("cats_int64s")
        # Without `zeros` the runtime fails on a category that it does not know.
        if len(columns) != 1 or not isinstance(categories, array) or node.attributes.get("zeros", 1) != 1:
            raise NotFolded
        (column,) = columns
        plain = column.dtype == _WHOLE and 0 <= column.feature < self.features
        if not plain or any(what != "?" for what, _, _ in column.steps) or node.need(0) in self._deep:
            raise NotFolded
        if not categories or len(set(categories)) < len(categories) or max(map(abs, categories)) > MAX_CATEGORY:
            raise NotFolded
        made = [self._categories.setdefault((column, float(c)), self.width) for c in categories]
        codes = {source for source, _ in self._categories}
        if self.width > MAX_FEATURES or len(codes) > MAX_CODES:
            raise NotFolded
        self._deep |= set(node.outputs)
        return [Column(number, "float32") for number in made]

    def _reshaped(self, node: Node, depth: int) -> list[Column]:
        columns, shape = self.columns(node.need(0), depth), self.constant(node.need(1))
        if shape is None or shape.dtype != _WHOLE or shape.values().tolist() not in ([-1, len(columns)],):
            raise NotFolded
        return columns

    def program(self) -> Program | None:
        """What makes the rows that the model reads, of rows of features; None where they are the features."""
        if not self._categories:
            return None
        codes = list(dict.fromkeys(source for source, _ in self._categories))
        copies = {code: self.features + k for k, code in enumerate(codes)}
        steps = [step(COPY, [code.feature for code in codes])]
        if filled := [code for code in codes if code.steps]:
            steps.append(step(FILL, [copies[code] for code in filled], [code.steps[0][1] for code in filled]))
        steps.append(step(TRUNCATE, list(copies.values())))
        at = self.features + len(codes)
        place: dict[tuple[Column, float], int] = {}
        for code in codes:
            values = sorted(value for source, value in self._categories if source == code)
            steps.append(step(ONE_HOT, [copies[code]], values))
            place |= {(code, value): at + k for k, value in enumerate(values)}
            at += len(values) + 2
        return Program(self.features, steps, [*range(self.features), *(place[key] for key in self._categories)])

    def _joined(self, node: Node, depth: int) -> list[Column]:
        parts = [self.columns(part, depth) for part in node.inputs]
        if sum(map(len, parts)) > MAX_FEATURES:
            raise NotFolded
        columns = list(chain.from_iterable(parts))
        deep = [part in self._deep for part in node.inputs]
        if node.op_type == "FeatureVectorizer":  # it would cut or fill up parts of another width
            widths = node.attributes.get("inputdimensions")
            if any(deep) or not isinstance(widths, array) or widths.tolist() != list(map(len, parts)):
                raise NotFolded
            return _cast(columns, 1)
        if node.attributes.get("axis") not in ((2, -1) if all(deep) else (1, -1)) or any(deep) != all(deep):
            raise NotFolded
        if all(deep):
            self._deep |= set(node.outputs)
        return columns

    def _arithmetic(self, node: Node, depth: int) -> list[Column]:
        first, second = node.need(0), node.need(1)
        constant = self.constant(second)
        if constant is None and node.op_type in ("Add", "Mul"):
            first, constant = second, self.constant(first)
        if constant is None or constant.dtype not in _FLOATS.values():
            raise NotFolded
        columns = self.columns(first, depth)
        if first in self._deep:
            raise NotFolded
        what = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}[node.op_type]
        return [c.then(what, v) for c, v in zip(columns, spread(constant, len(columns)), strict=True)]


def spread(constant: Tensor, width: int) -> list[float]:
    """A constant that is added to rows of `width` columns: one number for each of them. Raises NotFolded."""
    alone = prod(constant.shape) == 1
    if not alone and constant.shape not in ((width,), (1, width)):
        raise NotFolded
    values: list[float] = constant.values().tolist()
    return values * width if alone else values


def chosen(sources: Sources, node: Node, width: int, axes: tuple[int, int] = (1, -1)) -> list[int]:
    """Which columns ArrayFeatureExtractor or Gather takes, whose axis is one of `axes`. Raises NotFolded."""
    indices = sources.constant(node.need(1))
    if indices is None or indices.dtype not in ("int64", "int32") or not 0 < prod(indices.shape) <= MAX_FEATURES:
        raise NotFolded
    if node.op_type == "Gather" and (node.attributes.get("axis") not in axes or len(indices.shape) != 1):
        raise NotFolded
    taken: list[int] = indices.values().tolist()
    if not all(0 <= i < width for i in taken):
        raise NotFolded
    return taken


def matrix(sources: Sources, node: Node, width: int) -> tuple[list[list[float]], list[float]]:
    """MatMul or Gemm of `width` columns and a constant: weights of the columns for each output, and biases.

    Raises NotFolded.
    """
    found = sources.constant(node.need(1))
    if found is None or found.dtype not in _FLOATS.values() or not 1 <= len(found.shape) <= 2:
        raise NotFolded
    if prod(found.shape) > MAX_WEIGHTS:
        raise NotFolded
    values = found.values().tolist()
    rows, outputs = (*found.shape, 1)[:2]
    attributes = node.attributes if node.op_type == "Gemm" else {}
    if attributes.get("transA"):
        raise NotFolded
    if attributes.get("transB"):
        weight = [values[j * outputs : (j + 1) * outputs] for j in range(rows)]
        rows, outputs = outputs, rows
    else:
        weight = [values[j::outputs] for j in range(outputs)]
    if rows != width or not 0 < outputs <= MAX_OUTPUTS:
        raise NotFolded
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if not isinstance(alpha, float) or not isinstance(beta, float):
        raise InvalidModel(f"{node.where}: alpha and beta are no numbers")
    if alpha != 1.0:
        weight = [[alpha * w for w in row] for row in weight]
    added = [0.0] * outputs
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = sources.constant(node.inputs[2])
        if bias is None:
            raise NotFolded
        added = [beta * v for v in spread(bias, outputs)]
    return weight, added


def _cast(columns: list[Column], to: object) -> list[Column]:
    if to == 7:
        return [replace(c, dtype=_WHOLE) for c in columns]
    if any(c.dtype == _WHOLE for c in columns):
        raise NotFolded
    if not isinstance(to, int) or to not in _FLOATS:
        raise NotFolded
    # To add nothing, and to round: the way from float64 to float32.
    return [
        replace(c.then("+", 0.0, True) if c.dtype == "float64" and to == 1 else c, dtype=_FLOATS[to]) for c in columns
    ]


def _floats(node: Node, key: str, width: int) -> list[float]:
    found = node.attributes.get(key)
    values: list[float] = found.tolist() if isinstance(found, array) else []
    if len(values) not in (1, width):
        raise InvalidModel(f"{node.where}: {key}: expected 1 or {width} numbers, found {len(values)}")
    return values * (width // len(values))


def _imputed(columns: list[Column], node: Node) -> list[Column]:
    if not isinstance(replaced := node.attributes.get("replaced_value_float"), float) or replaced == replaced:
        raise NotFolded  # another number than NaN is replaced
    values = _floats(node, "imputed_value_floats", len(columns))
    return [c.then("?", v) for c, v in zip(columns, values, strict=True)]


def _scaled(columns: list[Column], node: Node) -> list[Column]:
    offset, scale = (_floats(node, key, len(columns)) for key in ("offset", "scale"))
    scaled = [c.then("-", o).then("*", s) for c, o, s in zip(columns, offset, scale, strict=True)]
    return _cast(scaled, 1)
