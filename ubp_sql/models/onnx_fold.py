"""ONNX graphs that are a forest or a linear model, with casts, imputation, scaling, categories and, of a linear model,
products with a matrix in front and a link behind: they become our own compiled forms, and need no runtime.

The output is followed back to the model, the model's input to the features. A classifier of two classes answers with
the probability of the second.
"""

from __future__ import annotations

from collections.abc import Callable

from ubp_sql.errors import UnsupportedModel
from ubp_sql.kernels.forest_codes import EXP, IDENTITY, SIGMOID, SOFTMAX
from ubp_sql.models import onnx_linear, onnx_trees
from ubp_sql.models.onnx_columns import MAX_STEPS, NotFolded, Sources, chosen, spread
from ubp_sql.models.onnx_graph import Graph, Node
from ubp_sql.models.parsed import Parsed

Sums = onnx_linear.Sums | onnx_trees.Trees
Model = Callable[[Sources, Node], tuple[Sums, int]]

_CLASSIFIERS: dict[str, Model] = {
    "LinearClassifier": onnx_linear.classifier,
    "TreeEnsembleClassifier": onnx_trees.classifier,
}
_REGRESSORS: dict[str, Model] = {
    "LinearRegressor": onnx_linear.regressor,
    "TreeEnsembleRegressor": onnx_trees.regressor,
    "MatMul": onnx_linear.product,
    "Gemm": onnx_linear.product,
}
MAX_HEADS = 4  # outputs of a graph: a label, scores
_LINKS = {"Sigmoid": SIGMOID, "Exp": EXP, "Softmax": SOFTMAX}
_OBJECTIVES = {IDENTITY: "regression", EXP: "exponential", SIGMOID: "probability", SOFTMAX: "probabilities"}


def fold(graph: Graph, features: int) -> Parsed | None:
    """The model of a graph, or None where it is neither a forest nor a linear model.

    features  columns of a row, for a graph that does not say

    Raises InvalidModel (UB006) for a model that is not sound, UnsupportedModel (UB007) for classes in another order.
    """
    found = []
    if len(graph.outputs) > MAX_HEADS:
        return None
    try:
        sources = Sources(graph, features)
    except NotFolded:
        return None
    for value in graph.outputs:
        try:
            found.append(_Head(sources, value.name).parsed())
        except NotFolded:
            continue
    # The label of a classifier is not followed; two numbers of which none is the score are no model here.
    return found[0] if len(found) == 1 else None


class _Head:
    """An output of the graph: sums and their link.

    classifies  the model is a classifier
    classes     its columns are the classes
    paired      one sum stands for two classes: the columns are 1 - p and p
    """

    def __init__(self, sources: Sources, name: str) -> None:
        self.sources = sources
        self.classes = self.paired = self.classifies = False
        behind: list[Node] = []
        while True:
            if name not in sources.made or len(behind) > MAX_STEPS:
                raise NotFolded
            node, place = sources.made[name]
            if node.op_type in _CLASSIFIERS or node.op_type in _REGRESSORS:
                break
            behind.append(node)
            name = self._followed(node)
        if node.op_type in _CLASSIFIERS:
            if place != 1:
                raise NotFolded
            self.sums, self.link = _CLASSIFIERS[node.op_type](sources, node)
            self.classes = self.classifies = True
            self.paired = self.sums.outputs == 1
            _check_labels(node)
        else:
            self.sums, self.link = _REGRESSORS[node.op_type](sources, node)
        self.trees = self.sums.count if isinstance(self.sums, onnx_trees.Trees) else 0
        for node in reversed(behind):
            self._pass(node)

    def _followed(self, node: Node) -> str:
        """The input of a node behind the model that is not a constant."""
        if node.op_type in ("Add", "Sum") and len(node.inputs) == 2 and self.sources.constant(node.inputs[0]):
            return node.inputs[1]
        return node.need(0)

    @property
    def width(self) -> int:
        return 2 if self.paired else self.sums.outputs

    def _pass(self, node: Node) -> None:
        """What a node behind the model does to it. Raises NotFolded."""
        kind = node.op_type
        if kind == "Identity" or (kind == "Cast" and node.attributes.get("to") in (1, 11)):
            return
        if kind in ("ArrayFeatureExtractor", "Gather"):
            self._take(chosen(self.sources, node, self.width))
        elif kind in ("Reshape", "Flatten", "Squeeze"):
            if self.width != 1 or kind != "Reshape" or not self._keeps_rows(node):
                raise NotFolded
        elif kind in _LINKS:
            if self.link != IDENTITY or self.paired or self.classes:
                raise NotFolded
            if kind == "Softmax" and (node.attributes.get("axis", -1) not in (1, -1) or self.width == 1):
                raise NotFolded
            self.link = _LINKS[kind]
        elif kind == "Normalizer":
            adds_up = self.paired or self.link == SOFTMAX or (self.link == SIGMOID and self._two_opposite())
            if node.attributes.get("norm") != b"L1" or not adds_up:
                raise NotFolded
        elif kind in ("Add", "Sum") and self.link == IDENTITY and not self.classes:
            constants = [found for name in node.inputs if (found := self.sources.constant(name))]
            if len(constants) != 1 or len(node.inputs) != 2:
                raise NotFolded
            self.sums.add(spread(constants[0], self.width))
        else:
            raise NotFolded

    def _keeps_rows(self, node: Node) -> bool:
        """Whether a Reshape of one column leaves one number a row."""
        shape = self.sources.constant(node.need(1))
        return shape is not None and len(shape.data) <= 16 and shape.values().tolist() in ([-1], [-1, 1], [0, 1])

    def _two_opposite(self) -> bool:
        return self.width == 2 and self.sums.opposite()

    def _take(self, chosen: list[int]) -> None:
        if self.paired:
            if chosen != [1]:
                raise NotFolded
            self.paired = self.classes = False
            return
        if self.link == SOFTMAX:
            if self.width != 2 or chosen != [1]:
                raise NotFolded
            self.sums.subtract()  # exp(b) / (exp(a) + exp(b)) = 1 / (1 + exp(-(b - a)))
            self.link = SIGMOID
        else:
            self.sums.take(chosen)
        self.classes = self.classes and len(chosen) > 1

    def parsed(self) -> Parsed:
        """The model over the features."""
        if self.classes and self.width == 2:
            self._take([1])
        objective = _OBJECTIVES[self.link]
        if self.classifies:
            objective = "binary" if self.width == 1 else "multiclass"
            if self.link == IDENTITY and isinstance(self.sums, onnx_linear.Sums):
                objective = "decision"
        sources = self.sources
        # Behind the features stand columns of categories, which have names of nobody's.
        behind = tuple(f"category {k}" for k in range(sources.width - sources.features)) if sources.names else ()
        body = self.sums.body(sources.width, sources.names + behind, objective, self.link)
        return Parsed(body, sources.names, objective, self.trees, sources.program())


def _check_labels(node: Node) -> None:
    """Of two classes the second is the one that is scored."""
    labels = onnx_linear.labels_of(node)
    if len(labels) == 2 and isinstance(labels[0], int) and labels[0] >= labels[1]:
        raise UnsupportedModel(
            f"{node.where}: its classes are {labels[0]} and {labels[1]}: the second one would be scored",
            "export it with its classes in ascending order",
        )
