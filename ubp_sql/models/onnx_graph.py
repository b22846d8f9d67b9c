"""A graph of operators as ONNX files hold it, and what is true of every one that was read.

Nodes are in an order in which each finds what it reads, every name is given once, and a tensor has as many bytes as its
shape says. What operators mean is not looked at here.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ubp_sql.errors import InvalidModel, UnsupportedModel

OPSETS = {"": (7, 26), "ai.onnx.ml": (1, 5)}  # of the versions of each domain whose operators are known
ELEMENTS: dict[int, tuple[str, str, int]] = {  # ONNX number: NumPy's name, array's code, bytes
    1: ("float32", "f", 4),
    6: ("int32", "i", 4),
    7: ("int64", "q", 8),
    9: ("bool", "b", 1),
    11: ("float64", "d", 8),
}
NUMBERS = {name: number for number, (name, _, _) in ELEMENTS.items()}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers of a shape: `data` little-endian, the last dimension fastest. dtype is a value of ELEMENTS."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    def values(self) -> array[Any]:
        """The numbers, flat; of bool 0 and 1."""
        values: array[Any] = array(ELEMENTS[NUMBERS[self.dtype]][1], self.data)
        if sys.byteorder == "big":
            values.byteswap()
        return values


@dataclass(frozen=True, slots=True)
class Value:
    """What goes into a graph or comes out. dtype is '', shape and sizes are None where the file does not say."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """An operator at work. Inputs and outputs of name '' are left out; domain '' is ONNX's own, else 'ai.onnx.ml'.

    attributes  int, float, bytes (a text), array of int64 or float32, tuple of bytes, Tensor
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def where(self) -> str:
        """The node in a message."""
        return f"node {(self.name or ''.join(self.outputs))[:60]!a} ({self.op_type[:40]})"

    def need(self, k: int) -> str:
        """The name of input k. Raises InvalidModel (UB006) where it is left out."""
        if k >= len(self.inputs) or not self.inputs[k]:
            raise InvalidModel(f"{self.where}: input {k} is missing")
        return self.inputs[k]


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked graph: nodes in an order in which each finds its inputs.

    inputs  those that the caller gives; initializers are not among them
    opsets  version by domain
    """

    nodes: tuple[Node, ...]
    initializers: dict[str, Tensor]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: dict[str, int]
    metadata: dict[str, str]


def own_names(graph: Graph) -> tuple[str, ...] | None:
    """A model's own names of its input's columns: metadata `feature_names`, a JSON list; None where there is none."""
    text = graph.metadata.get("feature_names")
    if text is None:
        return None
    try:
        own = json.loads(text)
    except (ValueError, RecursionError):
        own = None
    if not isinstance(own, list) or not all(isinstance(name, str) for name in own) or len(set(own)) != len(own):
        raise InvalidModel("metadata feature_names is no JSON list of different names")
    return tuple(own)


def check_graph(graph: Graph) -> None:
    """Every name is given once, and before it is read. Raises InvalidModel (UB006), UnsupportedModel (UB007)."""
    for domain in {node.domain for node in graph.nodes}:
        first, last = OPSETS[domain]
        version = graph.opsets.get(domain, 0)
        if not first <= version <= last:
            raise UnsupportedModel(
                f"opset {version} of {domain or 'ai.onnx'}, known are {first} to {last}",
                f"export it with opset {last} or older",
            )
    if not graph.inputs or not graph.outputs:
        raise InvalidModel("the graph has no input or no output")
    given = set(graph.initializers)
    _give(given, (value.name for value in graph.inputs), "the graph's inputs")
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in given:
                raise InvalidModel(f"{node.where}: input {name[:60]!a} does not exist or comes later")
        _give(given, (name for name in node.outputs if name), node.where)
    for value in graph.outputs:
        if value.name not in given:
            raise InvalidModel(f"output {value.name[:60]!a} of the graph does not exist")
    if len({value.name for value in graph.outputs}) != len(graph.outputs):
        raise InvalidModel("an output of the graph comes twice")


def _give(given: set[str], names: Iterable[str], where: str) -> None:
    for name in names:
        if not name or name in given:
            raise InvalidModel(f"{where}: the name {name[:60]!a} is empty or given twice")
        given.add(name)


def without_zipmap(graph: Graph) -> Graph:
    """The graph without ZipMap, which makes of each row of a table of probabilities a dictionary by class."""
    behind: dict[str, str] = {}
    for node in graph.nodes:
        if not behind.keys().isdisjoint(node.inputs):
            raise UnsupportedModel(f"{node.where} reads dictionaries", "export with the option zipmap=False")
        if (node.op_type, node.domain) == ("ZipMap", "ai.onnx.ml"):
            if len(node.inputs) != 1 or not node.inputs[0] or len(node.outputs) != 1:
                raise InvalidModel(f"{node.where}: one input and one output are expected")
            behind[node.outputs[0]] = node.inputs[0]
    outputs = {behind.get(v.name, v.name): v for v in graph.outputs}
    return replace(
        graph,
        nodes=tuple(node for node in graph.nodes if node.outputs[0] not in behind),
        outputs=tuple(Value(name, v.dtype, v.shape) for name, v in outputs.items()),
    )
