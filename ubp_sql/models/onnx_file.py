"""ONNX files read without ONNX: a checked graph, or the reason why not.

What a file cannot bring along: code (functions, graphs inside nodes), other files (external data), other operators than
those of ONNX itself, texts as tensors, types beside tensors - but for the ZipMap that scikit-learn's converter puts
behind the probabilities, which is left out.
"""

from __future__ import annotations

import sys
from array import array
from math import prod
from typing import Any

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.limits import other_format
from ubp_sql.models.onnx_graph import ELEMENTS, NUMBERS, OPSETS, Graph, Node, Tensor, Value, check_graph, without_zipmap
from ubp_sql.models.onnx_proto import (
    DOUBLES,
    FLOAT,
    FLOATS,
    IGNORED,
    INT,
    INTS,
    SPAN,
    SPANS,
    Reader,
    Schema,
    Span,
)

MAX_ONNX_BYTES = 64 * 1024 * 1024
MAX_NODES = 10_000
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 2**31

_MODEL: Schema = {
    **{1: ("ir_version", INT), 2: ("producer_name", IGNORED), 3: ("producer_version", IGNORED), 4: ("domain", IGNORED)},
    **{5: ("model_version", IGNORED), 6: ("doc_string", IGNORED), 7: ("graph", SPAN), 8: ("opset_import", SPANS)},
    **{14: ("metadata_props", SPANS), 20: ("training_info", SPANS), 25: ("functions", SPANS)},
    **{26: ("configuration", IGNORED)},
}
_OPSET: Schema = {1: ("domain", SPAN), 2: ("version", INT)}
_PAIR: Schema = {1: ("key", SPAN), 2: ("value", SPAN)}
_GRAPH: Schema = {
    **{1: ("node", SPANS), 2: ("name", IGNORED), 5: ("initializer", SPANS), 10: ("doc_string", IGNORED)},
    **{11: ("input", SPANS), 12: ("output", SPANS), 13: ("value_info", IGNORED), 14: ("quantization", IGNORED)},
    **{15: ("sparse_initializer", SPANS), 16: ("metadata_props", IGNORED)},
}
_NODE: Schema = {
    **{1: ("input", SPANS), 2: ("output", SPANS), 3: ("name", SPAN), 4: ("op_type", SPAN), 5: ("attribute", SPANS)},
    **{6: ("doc_string", IGNORED), 7: ("domain", SPAN), 8: ("overload", SPAN), 9: ("metadata_props", IGNORED)},
    **{10: ("device_configurations", IGNORED)},
}
_ATTRIBUTE: Schema = {
    **{1: ("name", SPAN), 2: ("f", FLOAT), 3: ("i", INT), 4: ("s", SPAN), 5: ("t", SPAN), 6: ("g", SPANS)},
    **{7: ("floats", FLOATS), 8: ("ints", INTS), 9: ("strings", SPANS), 10: ("tensors", SPANS), 11: ("graphs", SPANS)},
    **{13: ("doc_string", IGNORED), 14: ("tp", SPANS), 15: ("type_protos", SPANS), 20: ("type", INT)},
    **{21: ("ref_attr_name", SPAN), 22: ("sparse_tensor", SPANS), 23: ("sparse_tensors", SPANS)},
}
# AttributeProto.type: which field holds the value, and what it is where the field is not written.
_KINDS: dict[int, tuple[str, object]] = {
    **{1: ("f", 0.0), 2: ("i", 0), 3: ("s", None), 4: ("t", None)},
    **{6: ("floats", None), 7: ("ints", None), 8: ("strings", None)},
}
_TENSOR: Schema = {
    **{1: ("dims", INTS), 2: ("data_type", INT), 3: ("segment", SPAN), 4: ("float_data", FLOATS)},
    **{5: ("int32_data", INTS), 6: ("string_data", SPANS), 7: ("int64_data", INTS), 8: ("name", SPAN)},
    **{9: ("raw_data", SPAN), 10: ("double_data", DOUBLES), 11: ("uint64_data", INTS), 12: ("doc_string", IGNORED)},
    **{13: ("external_data", SPANS), 14: ("data_location", INT), 16: ("metadata_props", IGNORED)},
}
_DATA = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}  # others: int32_data
_VALUE: Schema = {1: ("name", SPAN), 2: ("type", SPAN), 3: ("doc_string", IGNORED), 4: ("metadata_props", IGNORED)}
_TYPE: Schema = {
    **{1: ("tensor", SPAN), 4: ("sequence", SPAN), 5: ("map", SPAN), 6: ("denotation", IGNORED)},
    **{7: ("opaque", SPAN), 8: ("sparse", SPAN), 9: ("optional", SPAN)},
}
_TENSOR_TYPE: Schema = {1: ("elem_type", INT), 2: ("shape", SPAN)}
_SHAPE: Schema = {1: ("dim", SPANS)}
_DIMENSION: Schema = {1: ("value", INT), 2: ("name", IGNORED), 3: ("denotation", IGNORED)}


def read_graph(data: bytes) -> Graph:
    """The graph in the bytes of an ONNX file.

    Raises InvalidModel (UB006) for bytes that are no such file, broken, inconsistent or over a limit, UnsupportedModel
    (UB007) for a graph with what no graph here may have.
    """
    if len(data) > MAX_ONNX_BYTES:
        raise InvalidModel(f"the model has {len(data)} bytes, at most {MAX_ONNX_BYTES} are read")
    if found := other_format(data):
        raise InvalidModel(f"this is {found[0]}, not an ONNX file", found[1])
    reader = Reader(data)
    model = reader.message((0, len(data)), _MODEL, "model")
    if "graph" not in model or not model.get("ir_version"):
        raise InvalidModel("the model has no graph or no ir_version: this is no ONNX file")
    if model["functions"] or model["training_info"]:
        raise UnsupportedModel(
            "the model has functions of its own or a training part",
            "export it for inference: onnx.inliner.inline_local_functions puts functions in their places",
        )
    graph = reader.message(model["graph"], _GRAPH, "graph")
    if graph["sparse_initializer"]:
        raise UnsupportedModel("the graph has sparse initializers", "export it with dense ones")
    if not 0 < len(graph["node"]) <= MAX_NODES:
        raise InvalidModel(f"the graph has {len(graph['node'])} nodes, allowed are 1 to {MAX_NODES}")
    initializers: dict[str, Tensor] = {}
    for span in graph["initializer"]:
        name, tensor = _tensor(reader, span, f"initializer {len(initializers)}")
        if not name or name in initializers:
            raise InvalidModel(f"initializer {name[:60]!a}: its name is empty or there is another one")
        initializers[name] = tensor
    inputs = [_value(reader, span, f"input {k}") for k, span in enumerate(graph["input"])]
    made = Graph(
        nodes=tuple(_node(reader, span, k) for k, span in enumerate(graph["node"])),
        initializers=initializers,
        # Before version 4 of the format, initializers had to be inputs too: defaults, which nobody replaces here.
        inputs=tuple(value for value in inputs if value.name not in initializers),
        outputs=tuple(_value(reader, span, f"output {k}") for k, span in enumerate(graph["output"])),
        opsets=_opsets(reader, model["opset_import"]),
        metadata=_metadata(reader, model["metadata_props"]),
    )
    check_graph(made)
    return without_zipmap(made)


def _opsets(reader: Reader, spans: list[Span]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for span in spans:
        found = reader.message(span, _OPSET, "opset_import")
        domain = _domain(reader.text(found.get("domain"), "opset_import: domain"))
        version = found.get("version", 0)
        # scikit-learn's converter names a domain once for each of its operators.
        if opsets.setdefault(domain, version) != version:
            raise InvalidModel(f"opset_import: domain {domain[:60]!a} comes twice, with two versions")
    return opsets


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _metadata(reader: Reader, spans: list[Span]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for span in spans:
        pair = reader.message(span, _PAIR, "metadata")
        key = reader.text(pair.get("key"), "metadata: key")
        if key in metadata:
            raise InvalidModel(f"metadata: key {key[:60]!a} comes twice")
        metadata[key] = reader.text(pair.get("value"), f"metadata {key[:60]!a}", most=10_000_000)
    return metadata


def _value(reader: Reader, span: Span, where: str) -> Value:
    found = reader.message(span, _VALUE, where)
    name = reader.text(found.get("name"), f"{where}: name")
    kind = reader.message(found["type"], _TYPE, f"{where}: type") if "type" in found else {}
    if "tensor" not in kind:
        return Value(name, "", None)
    tensor = reader.message(kind["tensor"], _TENSOR_TYPE, f"{where}: type")
    element = tensor.get("elem_type", 0)
    dtype = ELEMENTS[element][0] if element in ELEMENTS else f"element type {element}"
    if "shape" not in tensor:
        return Value(name, dtype, None)
    shape: list[int | None] = []
    for span in reader.message(tensor["shape"], _SHAPE, f"{where}: shape")["dim"]:
        size = reader.message(span, _DIMENSION, f"{where}: shape").get("value")
        if len(shape) == MAX_DIMENSIONS or (size is not None and not 0 <= size < MAX_ELEMENTS):
            raise InvalidModel(f"{where}: a dimension of {size}, or more than {MAX_DIMENSIONS}")
        shape.append(size)
    return Value(name, dtype, tuple(shape))


def _node(reader: Reader, span: Span, k: int) -> Node:
    found = reader.message(span, _NODE, f"node {k}")
    kind = reader.text(found.get("op_type"), f"node {k}: op_type")
    if not (kind.isascii() and kind.isidentifier()):
        raise InvalidModel(f"node {k}: op_type {kind[:40]!a} is no name")
    name = reader.text(found.get("name"), f"node {k}: name")
    where = f"node {(name or str(k))[:60]!a} ({kind[:40]})"
    domain = _domain(reader.text(found.get("domain"), f"{where}: domain"))
    if domain not in OPSETS or reader.text(found.get("overload"), f"{where}: overload"):
        raise UnsupportedModel(
            f"{where}: an operator of domain {domain[:60]!a}", "only operators of ONNX itself are known"
        )
    attributes: dict[str, Any] = {}
    for part in found["attribute"]:
        key, value = _attribute(reader, part, where)
        if not key or key in attributes:
            raise InvalidModel(f"{where}: attribute {key[:60]!a} has no name or comes twice")
        attributes[key] = value
    inputs = tuple(reader.text(part, f"{where}: input") for part in found["input"])
    outputs = tuple(reader.text(part, f"{where}: output") for part in found["output"])
    if not any(outputs):
        raise InvalidModel(f"{where}: it has no output")
    return Node(kind, domain, name, inputs, outputs, attributes)


def _attribute(reader: Reader, span: Span, where: str) -> tuple[str, Any]:
    found = reader.message(span, _ATTRIBUTE, f"{where}: attribute")
    name = reader.text(found.get("name"), f"{where}: attribute")
    where = f"{where}: attribute {name[:60]!a}"
    if found["g"] or found["graphs"]:
        raise UnsupportedModel(f"{where} is a graph", "loops and branches are not supported; export it without them")
    kind = found.get("type", 0)
    if kind not in _KINDS or "ref_attr_name" in found:
        raise UnsupportedModel(f"{where} is of type {kind}", "numbers, texts, their lists and tensors are known")
    key, default = _KINDS[kind]
    # A value under another field than the type's: which of the two is meant is anybody's guess.
    lists = [other for other in found if other not in ("name", "type", key) and found[other]]
    if lists or (key not in found and default is None and kind != 3):
        raise InvalidModel(f"{where} has not the value that its type says")
    if kind == 4:
        return name, _tensor(reader, found["t"], where)[1]
    if kind == 8:
        return name, tuple(reader.data[a:b] for a, b in found["strings"])
    if kind == 3:
        a, b = found.get("s", (0, 0))
        return name, reader.data[a:b]
    return name, found.get(key, default)


def _tensor(reader: Reader, span: Span, where: str) -> tuple[str, Tensor]:
    """A tensor and its name."""
    found = reader.message(span, _TENSOR, where)
    name = reader.text(found.get("name"), f"{where}: name")
    if name:
        where = f"{where} {name[:60]!a}"
    if found["external_data"] or found.get("data_location", 0) != 0:
        raise UnsupportedModel(
            f"{where}: its data lies in another file, which is never opened",
            "onnx.save_model(model, path, save_as_external_data=False) writes one file",
        )
    element = found.get("data_type", 0)
    if element not in ELEMENTS or "segment" in found or found["string_data"] or found["uint64_data"]:
        raise UnsupportedModel(
            f"{where}: element type {element}", f"{', '.join(NUMBERS)} are known; export it with one of them"
        )
    dtype, code, size = ELEMENTS[element]
    shape = tuple(found["dims"])
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= n < MAX_ELEMENTS for n in shape):
        raise InvalidModel(f"{where}: a dimension is negative or too large, or there are more than {MAX_DIMENSIONS}")
    expected = prod(shape) * size
    holds = [key for key in ("float_data", "int32_data", "int64_data", "double_data") if found[key]]
    if holds and (holds != [_DATA.get(dtype, "int32_data")] or "raw_data" in found):
        raise InvalidModel(f"{where}: its numbers are not where its element type says")
    if holds:
        values = found[holds[0]]
        try:
            data = _little(values if values.typecode == code else array(code, values))
        except OverflowError:
            raise InvalidModel(f"{where}: a number that is no {dtype}") from None
    else:
        a, b = found.get("raw_data", (0, 0))
        data = reader.data[a:b]
    if len(data) != expected:
        raise InvalidModel(f"{where}: {len(data)} bytes of data, its shape {list(shape)} has {expected}")
    if dtype == "bool" and data.strip(b"\0\1"):
        raise InvalidModel(f"{where}: a truth value that is neither 0 nor 1")
    return name, Tensor(dtype, shape, data)


def _little(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()
