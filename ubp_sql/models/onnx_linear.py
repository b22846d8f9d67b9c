"""Linear models of ONNX graphs: LinearClassifier, LinearRegressor, and products with a constant matrix."""

from __future__ import annotations

import math
from array import array

from ubp_sql.errors import InvalidModel
from ubp_sql.kernels import forest_codes
from ubp_sql.models.limits import MAX_OUTPUTS, MAX_WEIGHTS
from ubp_sql.models.linear import Linear
from ubp_sql.models.onnx_columns import Column, NotFolded, Sources, matrix
from ubp_sql.models.onnx_graph import Node

MAX_PRODUCTS = 4 * MAX_WEIGHTS  # of what is taken into the weights of all outputs
LINKS = {"NONE": forest_codes.IDENTITY, "LOGISTIC": forest_codes.SIGMOID, "SOFTMAX": forest_codes.SOFTMAX}


class Sums:
    """Linear sums over columns: rows of weights, one an output, and their biases."""

    def __init__(self, sources: Sources, columns: list[Column], weight: list[list[float]], bias: list[float]) -> None:
        self.sources, self.columns, self.weight, self.bias = sources, columns, weight, bias

    @property
    def outputs(self) -> int:
        return len(self.bias)

    def take(self, chosen: list[int]) -> None:
        self.weight, self.bias = [self.weight[j] for j in chosen], [self.bias[j] for j in chosen]

    def subtract(self) -> None:
        """The second output less the first."""
        (w0, w1), (b0, b1) = self.weight, self.bias
        self.weight, self.bias = [[b - a for a, b in zip(w0, w1, strict=True)]], [b1 - b0]

    def opposite(self) -> bool:
        """Whether the first of two outputs is the second with the other sign."""
        (w0, w1), (b0, b1) = self.weight, self.bias
        return b0 == -b1 and all(a == -b for a, b in zip(w0, w1, strict=True))

    def add(self, values: list[float]) -> None:
        self.bias = [b + v for b, v in zip(self.bias, values, strict=True)]

    def body(self, features: int, names: tuple[str, ...], objective: str, link: int) -> Linear:
        """The model over features, with what was done to its columns."""
        if self.outputs * sum(len(row) for _, row, _ in self.sources.sums) > MAX_PRODUCTS:
            raise NotFolded
        weight = [0.0] * (features * self.outputs)
        missing = [0.0] * (features * self.outputs)
        bias = []
        for j, row in enumerate(self.weight):
            terms = [self.bias[j]]
            of_sums: dict[int, float] = {}
            pending = list(zip(self.columns, row, strict=True))
            while pending:
                for column, w in pending:
                    a, b, m = column.affine
                    terms.append(w * b)
                    if column.feature >= 0:
                        at = j * features + column.feature
                        weight[at] += w * a
                        if column.feature < self.sources.features:  # a category is never missing
                            missing[at] += w * (m - b)  # b is in the bias
                    elif m == m:
                        raise NotFolded  # a sum in whose place another number stands where it is missing
                    else:
                        of_sums[~column.feature] = of_sums.get(~column.feature, 0.0) + w * a
                pending = []
                if of_sums:  # the last one: what it is made of was there before it
                    k = max(of_sums)
                    columns, weights, b = self.sources.sums[k]
                    w = of_sums.pop(k)
                    terms.append(w * b)
                    pending = [(column, w * v) for column, v in zip(columns, weights, strict=True)]
            try:
                bias.append(math.fsum(terms))
            except (OverflowError, ValueError):  # of what is not finite, or no longer
                raise InvalidModel("the linear model has a weight that is not finite") from None
        linear = Linear(weight, missing, bias, link)
        linear.validate()
        return linear


def classifier(sources: Sources, node: Node) -> tuple[Sums, int]:
    """LinearClassifier: its sums and its link."""
    sums = _sums(sources, node, len(labels_of(node)))
    link = LINKS.get(post_transform(node))
    if link is None:
        raise NotFolded
    return sums, link


def regressor(sources: Sources, node: Node) -> tuple[Sums, int]:
    """LinearRegressor: its sums."""
    targets = node.attributes.get("targets", 1)
    if post_transform(node) != "NONE" or not isinstance(targets, int) or not 0 < targets <= MAX_OUTPUTS:
        raise NotFolded
    return _sums(sources, node, targets), forest_codes.IDENTITY


def product(sources: Sources, node: Node) -> tuple[Sums, int]:
    """MatMul or Gemm of columns and a constant."""
    # The constant first: a product of two values of the graph is none.
    if sources.constant(node.need(1)) is None:
        raise NotFolded
    columns = sources.numbers(node.need(0))
    weight, bias = matrix(sources, node, len(columns))
    return Sums(sources, columns, weight, bias), forest_codes.IDENTITY


def post_transform(node: Node) -> str:
    found = node.attributes.get("post_transform", b"NONE")
    return found.decode("ascii", "replace") if isinstance(found, bytes) else ""


def labels_of(node: Node) -> list[int] | list[bytes]:
    """The classes of a classifier; raises InvalidModel (UB006) where there are none."""
    for key in ("classlabels_ints", "classlabels_int64s"):
        found = node.attributes.get(key)
        if isinstance(found, array) and found.typecode == "q" and found:
            whole: list[int] = found.tolist()
            return whole
    texts = node.attributes.get("classlabels_strings")
    if not isinstance(texts, tuple) or not texts:
        raise InvalidModel(f"{node.where}: it names no classes")
    return list(texts)


def _sums(sources: Sources, node: Node, outputs: int) -> Sums:
    columns = sources.numbers(node.need(0))
    coefficients, intercepts = (node.attributes.get(key, array("f")) for key in ("coefficients", "intercepts"))
    if not isinstance(coefficients, array) or not isinstance(intercepts, array):
        raise InvalidModel(f"{node.where}: coefficients and intercepts are no numbers")
    if len(intercepts) not in (0, outputs) or len(coefficients) != outputs * len(columns):
        # A single row of coefficients for two classes is one of them: what it means is left to the runtime.
        raise NotFolded
    if not 0 < outputs <= MAX_OUTPUTS or len(coefficients) > MAX_WEIGHTS:
        raise NotFolded
    f = len(columns)
    weight = [coefficients[j * f : (j + 1) * f].tolist() for j in range(outputs)]
    return Sums(sources, columns, weight, intercepts.tolist() or [0.0] * outputs)
