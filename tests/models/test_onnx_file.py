"""ONNX files, read without ONNX: what good ones say, and how bad ones are refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from tests.models.onnx_makers import NETWORKS, F, Maker, mlp
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.models import onnx_file, onnx_graph, onnx_proto
from ubp_sql.models.onnx_compiled import network_of
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_graph import Graph, Tensor
from ubp_sql.models.onnx_write import write_graph


def same(node: Any, found: onnx_graph.Node) -> None:
    """A node as onnx reads it and as we do."""
    assert (node.op_type, node.domain, node.name) == (found.op_type, found.domain, found.name)
    assert (tuple(node.input), tuple(node.output)) == (found.inputs, found.outputs)
    for attribute in node.attribute:
        theirs, ours = helper.get_attribute_value(attribute), found.attributes[attribute.name]
        if isinstance(ours, Tensor):
            same_tensor(theirs, ours)
        else:
            assert theirs == (ours if isinstance(ours, int | float | bytes) else list(ours))
    assert len(node.attribute) == len(found.attributes)


def same_tensor(theirs: Any, ours: Tensor) -> None:
    values = numpy_helper.to_array(theirs)
    assert (values.dtype.name, values.shape) == (ours.dtype, ours.shape)
    assert values.tobytes() == ours.data
    assert ours.values().tolist() == values.ravel().tolist()


def same_graph(model: Any, graph: Graph) -> None:
    for node, found in zip(model.graph.node, graph.nodes, strict=True):
        same(node, found)
    assert graph.initializers.keys() == {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        same_tensor(tensor, graph.initializers[tensor.name])
    assert [v.name for v in graph.outputs] == [v.name for v in model.graph.output]
    assert graph.opsets == {o.domain: o.version for o in model.opset_import}


@pytest.mark.parametrize("kind", NETWORKS)
def test_as_onnx_reads_it(kind: str) -> None:
    graph = read_graph(NETWORKS[kind])
    same_graph(onnx.load_from_string(NETWORKS[kind]), graph)
    assert [(v.name, v.dtype, v.shape) for v in graph.inputs] == [("x", "float32", (None, F))]
    written = write_graph(graph)
    same_graph(onnx.load_from_string(written), graph)
    again = read_graph(written)
    assert (again.nodes, again.initializers, again.outputs) == (graph.nodes, graph.initializers, graph.outputs)
    onnx.checker.check_model(onnx.load_from_string(written))


def test_lists_in_every_form() -> None:
    """Thousands of numbers, negative ones, packed and one by one, in every element type and both places of data."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-(2**63), 2**63 - 1, 300, endpoint=True) >> rng.integers(0, 64, 300)
    m = Maker()
    m.nodes.append(
        helper.make_node("Nonsense", ["x"], ["y"], ints=whole, floats=rng.normal(size=300), texts=["ä", "", "b"])
    )
    for empty in (AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS):
        m.nodes[0].attribute.add(name=f"no {empty}", type=empty)
    for name, kind in (("f", "float32"), ("d", "float64"), ("i", "int32"), ("l", "int64"), ("b", "bool")):
        values = (rng.normal(size=(2, 3, 5)) * 100).astype(kind)
        m.tensors.append(numpy_helper.from_array(values, name))
        number = helper.np_dtype_to_tensor_dtype(values.dtype)
        m.tensors.append(helper.make_tensor(f"{name} listed", number, values.shape, values.ravel().tolist()))
    m.tensors.append(numpy_helper.from_array(np.array(7, np.int64), "scalar"))
    m.tensors.append(numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty"))
    data = m.bytes("y")
    same_graph(onnx.load_from_string(data), read_graph(data))
    packed = onnx_proto.Reader(b"\x42\x03\x01\x80\x01" + b"\x40\x05" * 3 + b"\x42\x02\x01\x02")
    assert packed.message((0, 15), {8: ("ints", onnx_proto.INTS)}, "here")["ints"].tolist() == [1, 128, 5, 5, 5, 1, 2]


def test_a_forest_is_read_in_time() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype(np.float32)
    forest = RandomForestClassifier(20, n_jobs=1, random_state=0).fit(x, x[:, 0] + rng.normal(size=500) > 0)
    model = to_onnx(forest, x[:1])
    graph = read_graph(model.SerializeToString())
    assert [node.op_type for node in graph.nodes] == ["TreeEnsembleClassifier", "Cast"], "ZipMap is left out"
    assert graph.outputs[1].name == "probabilities"
    same(model.graph.node[0], graph.nodes[0])


def edited(edit: Callable[[Any], object], base: bytes | None = None) -> bytes:
    model = onnx.load_from_string(base or mlp())
    edit(model)
    data: bytes = model.SerializeToString()
    return data


def node_of(kind: str, *inputs: str, **attributes: Any) -> Callable[[Any], object]:
    return lambda m: m.graph.node.append(helper.make_node(kind, inputs or ["x"], ["new"], name="odd", **attributes))


def external(m: Any) -> None:
    m.graph.initializer[0].ClearField("raw_data")
    m.graph.initializer[0].data_location = TensorProto.EXTERNAL
    m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def also_listed(m: Any) -> None:
    m.graph.initializer[0].float_data.append(1.0)


def reshaped(*dims: int) -> Callable[[Any], object]:
    def edit(m: Any) -> None:
        del m.graph.initializer[0].dims[:]
        m.graph.initializer[0].dims.extend(dims)

    return edit


def swapped(m: Any) -> None:
    first, second = m.graph.node[0], m.graph.node[1]
    first.input[0], second.output[0] = second.output[0], first.input[0]


BODY = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "body", [], [])
REFUSED: dict[str, tuple[type[UbpError], Callable[[Any], object]]] = {
    "external data": (UnsupportedModel, external),
    "functions": (UnsupportedModel, lambda m: m.functions.add(name="f", domain="own")),
    "training": (UnsupportedModel, lambda m: m.training_info.add()),
    "sparse": (UnsupportedModel, lambda m: m.graph.sparse_initializer.add()),
    "graph in a node": (UnsupportedModel, node_of("If", "x", then_branch=BODY)),
    "own domain": (UnsupportedModel, node_of("Relu", domain="com.evil")),
    "microsoft's domain": (UnsupportedModel, node_of("FusedGemm", domain="com.microsoft")),
    "text tensor": (
        UnsupportedModel,
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.array(["a"]), "s")),
    ),
    "half precision": (UnsupportedModel, lambda m: m.graph.initializer.append(helper.make_tensor("h", 10, [1], [1.0]))),
    "sparse attribute": (UnsupportedModel, lambda m: m.graph.node[0].attribute.add(name="a", type=11)),
    "reference": (UnsupportedModel, lambda m: m.graph.node[0].attribute.add(name="a", type=1, ref_attr_name="b")),
    "opset of tomorrow": (UnsupportedModel, lambda m: setattr(m.opset_import[0], "version", 99)),
    "opset of long ago": (UnsupportedModel, lambda m: setattr(m.opset_import[0], "version", 1)),
    "opset twice": (InvalidModel, lambda m: m.opset_import.add(domain="ai.onnx", version=16)),
    "no opset": (UnsupportedModel, lambda m: m.ClearField("opset_import")),
    "no graph": (InvalidModel, lambda m: m.ClearField("graph")),
    "no version": (InvalidModel, lambda m: m.ClearField("ir_version")),
    "no nodes": (InvalidModel, lambda m: m.graph.ClearField("node")),
    "no input": (InvalidModel, lambda m: m.graph.ClearField("input")),
    "no output": (InvalidModel, lambda m: m.graph.ClearField("output")),
    "name twice": (InvalidModel, lambda m: m.graph.node.append(m.graph.node[0])),
    "tensor twice": (InvalidModel, lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "nameless tensor": (InvalidModel, lambda m: m.graph.initializer[0].ClearField("name")),
    "unknown input": (InvalidModel, node_of("Relu", "nothing")),
    "a cycle": (InvalidModel, node_of("Add", "x", "new")),
    "out of order": (InvalidModel, swapped),
    "no such output": (InvalidModel, lambda m: m.graph.output.add(name="nothing")),
    "node without output": (InvalidModel, lambda m: m.graph.node.add(op_type="Relu", input=["x"])),
    "kind with a space": (InvalidModel, node_of("Re lu")),
    "attribute twice": (InvalidModel, lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("a", 1)] * 2)),
    "attribute of two minds": (InvalidModel, lambda m: m.graph.node[0].attribute.add(name="a", type=1, f=1.0, i=2)),
    "attribute without value": (InvalidModel, lambda m: m.graph.node[0].attribute.add(name="a", type=4)),
    "two places of data": (InvalidModel, also_listed),
    "too few bytes": (InvalidModel, reshaped(F, 17)),
    "negative dimension": (InvalidModel, reshaped(-F, -16)),
    "endless dimensions": (InvalidModel, reshaped(*[1] * 9)),
    "huge shape": (InvalidModel, reshaped(2**31 - 1, 2**31 - 1, 2**31 - 1)),
    "truth value of 2": (
        InvalidModel,
        lambda m: m.graph.initializer.append(onnx.TensorProto(name="b", data_type=9, dims=[1], raw_data=b"\2")),
    ),
    "long name": (InvalidModel, node_of("R" * 501)),
    "too many dimensions of an input": (
        InvalidModel,
        lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, [1] * 9)),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_in_a_line(kind: str) -> None:
    expected, edit = REFUSED[kind]
    with pytest.raises(UbpError) as caught:
        read_graph(edited(edit))
    assert type(caught.value) is expected, caught.value
    assert "\n" not in str(caught.value)
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x08", b"\x08\x08", b"\x08\x08\x3a\x00", b"\x08\x08\x3a\x7f", b"\x00" * 40, b"\xff" * 40),
        *(
            b"\x80\x04pickle",
            b"PK\x03\x04",
            b"{}",
            b"tree\n",
            b"\x0b\x0c",
            b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        *(b"\x08\x08" * 3, b"\x08" + b"\xff" * 9 + b"\x7f", mlp()[:-1], mlp() + b"\0", mlp() + b"\x08\x08"),
        *(mlp() + b"\xa2\x1f\x00", mlp() + b"\x3b"),
    ],
)
def test_other_bytes(data: bytes) -> None:
    with pytest.raises((InvalidModel, UnsupportedModel)) as caught:
        read_graph(data)
    assert "\n" not in str(caught.value)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    good = mlp()
    read_graph(good)
    for module, name, value in (
        (onnx_file, "MAX_ONNX_BYTES", len(good) - 1),
        (onnx_file, "MAX_NODES", 7),
        (onnx_proto, "MAX_FIELDS", 50),
        (onnx_proto, "MAX_NUMBERS", 5),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(InvalidModel, match=r"at most|more than|allowed"):
                read_graph(good)


def test_a_long_list_is_counted_before_it_is_made() -> None:
    """60 MB of whole numbers would be half a gigabyte."""
    ints = b"\x42" + onnx_write_varint(60_000_000) + bytes(60_000_000)
    attribute = b"\x0a\x01a" + ints + b"\xa0\x01\x07"
    node = b"\x0a\x01x\x12\x01y\x22\x04Relu\x2a" + onnx_write_varint(len(attribute)) + attribute
    graph = b"\x0a" + onnx_write_varint(len(node)) + node
    with pytest.raises(InvalidModel, match="more than 6000000 whole numbers"):
        read_graph(b"\x08\x08\x3a" + onnx_write_varint(len(graph)) + graph)


def onnx_write_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, arguments: seen.append(str(arguments[0])) if event in ("open", "os.open") else None)
from ubp_sql.errors import UbpError
from ubp_sql.models.formats import read_model
try:
    read_model(sys.stdin.buffer.read(), tuple(f"f{j}" for j in range(12)))
except UbpError as error:
    print(type(error).__name__)
print([name for name in seen if "weights" in name])
"""


def test_a_path_in_a_file_is_never_opened(tmp_path: Path) -> None:
    """Whoever opened the pipe would wait for ever."""
    pipe = tmp_path / "weights"
    os.mkfifo(pipe)

    def outside(m: Any) -> None:
        external(m)
        m.graph.initializer[0].external_data[0].value = str(pipe)

    done = subprocess.run([sys.executable, "-c", WATCHED], input=edited(outside), capture_output=True, timeout=60)
    assert done.stdout.split(b"\n") == [b"UnsupportedModel", b"[]", b""], done.stderr


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutations_are_read_or_refused(data: st.DataObject) -> None:
    """Flipped, cut and repeated bytes: our error or a graph, never another exception."""
    name = data.draw(st.sampled_from(sorted(NETWORKS)))
    base = bytearray(NETWORKS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(base) - 1))
        way = data.draw(st.sampled_from(("flip", "cut", "repeat", "grow")))
        if way == "flip":
            base[at] ^= 1 << data.draw(st.integers(0, 7))
        elif way == "cut":
            del base[at : at + data.draw(st.integers(1, 9))]
        elif way == "repeat":
            base[at:at] = base[at : at + data.draw(st.integers(1, 60))]
        else:
            base[at] = 0xFF
        if not base:
            return
    try:
        graph = read_graph(bytes(base))
        network_of(graph, tuple(f"f{j}" for j in range(F)))
    except UbpError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert read_graph(write_graph(graph)).nodes == graph.nodes
    assert "\n" not in refusal
