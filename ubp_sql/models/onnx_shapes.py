"""What a graph makes of rows before it runs: the type and shape of every tensor, memory and work.

Sizes are concrete: the number of rows is given, so a graph is looked at once for each number of rows that it will run
with. Small tensors of known numbers are computed along, since exporters calculate shapes from shapes. What cannot be
known that way is refused: no operator here makes a tensor whose size depends on the values of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.onnx_graph import Graph, Node, Tensor

Shape = tuple[int, ...]
MAX_BYTES = 128 * 1024 * 1024  # of all tensors of a run together, weights included, whatever its rows
MAX_WORK = 4_000_000_000  # multiplications, about: some seconds
MAX_FOLDED = 4096  # numbers of a tensor that is computed along
_ITEM = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "bool": 1, "string": 64}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a tensor: type, shape, and its numbers where they are few and do not depend on a row."""

    dtype: str
    shape: Shape
    value: NDArray[Any] | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)


def constant(value: NDArray[Any]) -> Known:
    """A tensor of known numbers."""
    return Known(value.dtype.name, value.shape, value if value.size <= MAX_FOLDED else None)


def of_tensor(tensor: Tensor) -> Known:
    """A tensor of the file."""
    if prod(tensor.shape) > MAX_FOLDED:
        return Known(tensor.dtype, tensor.shape)
    little = np.dtype(tensor.dtype).newbyteorder("<")
    return constant(np.frombuffer(tensor.data, little).reshape(tensor.shape).astype(tensor.dtype))


class At:
    """A node whose output is wanted: its inputs, its attributes, what it costs beside its output."""

    def __init__(self, node: Node, inputs: list[Known | None], opset: int) -> None:
        self.node = node
        self.inputs = inputs
        self.opset = opset
        self.scratch = 0  # bytes
        self.work = 0

    def bad(self, what: str) -> NoReturn:
        """Raises InvalidModel (UB006)."""
        raise InvalidModel(f"{self.node.where}: {what}")

    def unsupported(self, what: str, hint: str | None = None) -> NoReturn:
        """Raises UnsupportedModel (UB007)."""
        raise UnsupportedModel(f"{self.node.where}: {what}", hint)

    def has(self, k: int) -> bool:
        return k < len(self.inputs) and self.inputs[k] is not None

    def input(self, k: int = 0) -> Known:
        found = self.inputs[k] if k < len(self.inputs) else None
        if found is None:
            self.bad(f"input {k} is missing")
        return found

    def all_inputs(self) -> list[Known]:
        return [self.input(k) for k in range(len(self.inputs))]

    def number(self, name: str, default: int | None = None) -> int:
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            self.bad(f"attribute {name} is missing or no whole number")
        return value

    def numbers(self, name: str) -> list[int] | None:
        """A list of whole numbers; None where it is not given."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        if getattr(value, "typecode", "") != "q":
            self.bad(f"attribute {name} is no list of whole numbers")
        return list(value)

    def floats(self, name: str) -> list[float]:
        """A list of numbers; empty where it is not given."""
        value = self.node.attributes.get(name, ())
        if value != () and getattr(value, "typecode", "") != "f":
            self.bad(f"attribute {name} is no list of numbers")
        return list(value)

    def text(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.node.attributes.get(name, default.encode())
        if not isinstance(value, bytes) or value.decode("latin-1") not in allowed:
            self.bad(f"attribute {name} is none of {', '.join(allowed)}")
        return value.decode()

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.number(name, int(default))
        if value not in (0, 1):
            self.bad(f"attribute {name} is neither 0 nor 1")
        return bool(value)

    def known(self, k: int) -> list[int]:
        """The whole numbers of an input that must not depend on a row."""
        found = self.input(k)
        if found.value is None or found.dtype not in ("int64", "int32"):
            self.unsupported(
                f"input {k} decides a shape and is not known before the graph runs",
                "export it with fixed sizes but for the number of rows",
            )
        return [int(v) for v in found.value.reshape(-1)]

    def from_both(self, name: str, k: int) -> list[int] | None:
        """An attribute that later versions of the operator take as an input."""
        if self.has(k):
            return self.known(k)
        return self.numbers(name)

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= value < rank:
            self.bad(f"axis {value} of a tensor of {rank} dimensions")
        return value % rank

    def shaped(self, k: int, shape: Shape) -> None:
        """Raises where an input has another shape."""
        found = self.input(k)
        if found.shape != shape:
            self.bad(f"input {k} has the shape {list(found.shape)}, expected {list(shape)}")


Rule = Callable[[At], "list[Known]"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a run takes: bytes of all its tensors, about as many multiplications, and what comes out by name."""

    bytes: int
    work: int
    outputs: dict[str, Known]


def infer(graph: Graph, inputs: Mapping[str, Shape], rules: Mapping[tuple[str, str], Rule]) -> Sizes:
    """Types and shapes of all tensors for inputs of these shapes.

    Raises InvalidModel (UB006) where a node cannot work on what it gets or a limit is passed, UnsupportedModel (UB007)
    at an operator without a rule or a size that cannot be known.
    """
    known: dict[str, Known] = {name: of_tensor(tensor) for name, tensor in graph.initializers.items()}
    for value in graph.inputs:
        if value.dtype not in _ITEM:
            raise UnsupportedModel(
                f"input {value.name[:60]!a} is {value.dtype or 'no tensor'}",
                "export it with one input: float32, rows by features",
            )
        known[value.name] = Known(value.dtype, inputs[value.name])
    size = sum(k.elements * _ITEM[k.dtype] for k in known.values() if k.dtype in _ITEM)
    work = 0
    for node in graph.nodes:
        rule = rules.get((node.domain, node.op_type))
        if rule is None:
            raise UnsupportedModel(f"{node.where}: this operator is not supported", _hint(node))
        at = At(node, [known[name] if name else None for name in node.inputs], graph.opsets[node.domain])
        made = rule(at)
        if len(node.outputs) > len(made):
            at.bad(f"it has {len(made)} outputs, {len(node.outputs)} are named")
        for name, output in zip(node.outputs, made, strict=False):
            if not name:
                continue
            if output.value is None and 0 in output.shape:
                at.bad("its output is empty")
            known[name] = output
            size += output.elements * _ITEM[output.dtype]
            work += output.elements
        size += at.scratch
        work += at.work
        if size > MAX_BYTES or work > MAX_WORK:
            at.bad(
                f"the graph needs more than {MAX_BYTES >> 20} MB or {MAX_WORK:,} steps for {_rows(inputs)} rows at once"
            )
    return Sizes(size, work, {value.name: known[value.name] for value in graph.outputs})


def _rows(inputs: Mapping[str, Shape]) -> int:
    return next(iter(inputs.values()))[0]


def _hint(node: Node) -> str:
    if node.op_type in ("Loop", "Scan", "If"):
        return "loops and branches are not supported; export it without them"
    if node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
        return "a score must not be drawn at random; export it for inference"
    return "docs/models.md names those that are"
