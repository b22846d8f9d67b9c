"""Graphs back into the bytes of an ONNX file: what ONNX Runtime gets to read is written here, never what came in."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from struct import pack
from typing import Any

from ubp_sql.models.onnx_graph import NUMBERS, Graph, Node, Tensor, Value

IR_VERSION = 8  # of opset 15; every ONNX Runtime since 2021 reads it, and newer opsets need no newer one


def write_graph(graph: Graph) -> bytes:
    """The bytes of an ONNX file with this graph; equal graphs give equal bytes."""
    model = [_number(1, IR_VERSION), _span(7, _graph(graph))]
    for domain, version in sorted(graph.opsets.items()):
        model.append(_span(8, _text(1, domain) + _number(2, version)))
    return b"".join(model)


def _graph(graph: Graph) -> bytes:
    parts = [_span(1, _node(node)) for node in graph.nodes]
    parts.append(_text(2, "graph"))
    parts += [_span(5, _tensor(tensor, name)) for name, tensor in graph.initializers.items()]
    parts += [_span(11, _value(value)) for value in graph.inputs]
    parts += [_span(12, _value(value)) for value in graph.outputs]
    return b"".join(parts)


def _node(node: Node) -> bytes:
    parts = [_text(1, name) for name in node.inputs] + [_text(2, name) for name in node.outputs]
    parts += [_text(3, node.name), _text(4, node.op_type)]
    parts += [_span(5, _attribute(name, value)) for name, value in node.attributes.items()]
    return b"".join(parts) + _text(7, node.domain)


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, float):
        kind, body = 1, b"\x15" + pack("<f", value)
    elif isinstance(value, int):
        kind, body = 2, _number(3, value)
    elif isinstance(value, bytes):
        kind, body = 3, _span(4, value)
    elif isinstance(value, Tensor):
        kind, body = 4, _span(5, _tensor(value, ""))
    elif isinstance(value, tuple):
        kind, body = 8, b"".join(_span(9, text) for text in value)
    elif value.typecode == "f":
        kind, body = 6, _span(7, _little(value)) if value else b""
    else:
        kind, body = 7, _span(8, _varints(value)) if value else b""
    return _text(1, name) + body + _number(20, kind)


def _tensor(tensor: Tensor, name: str) -> bytes:
    dims = _span(1, _varints(tensor.shape)) if tensor.shape else b""
    return dims + _number(2, NUMBERS[tensor.dtype]) + (_text(8, name) if name else b"") + _span(9, tensor.data)


def _value(value: Value) -> bytes:
    shape = b"".join(_span(1, b"" if n is None else _number(1, n)) for n in value.shape or ())
    kind = _number(1, NUMBERS[value.dtype]) + (b"" if value.shape is None else _span(2, shape))
    return _text(1, value.name) + _span(2, _span(1, kind))


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _varints(values: Iterable[int]) -> bytes:
    return b"".join(map(_varint, values))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _span(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _span(field, text.encode())


def _little(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
