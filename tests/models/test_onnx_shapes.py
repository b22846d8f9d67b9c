"""What a graph takes before it runs: shapes as in ONNX's own examples, limits that hold, divisions that would crash."""

import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.models.onnx_makers import NETWORKS, F, Maker
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.models import onnx_shapes
from ubp_sql.models.onnx_compiled import ALL_RULES, network_of, rows_at_once
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_graph import OPSETS
from ubp_sql.models.onnx_runtime import MOST_ROWS, RUN_BYTES
from ubp_sql.models.onnx_shapes import infer

NAMES = tuple(f"f{j}" for j in range(F))
# Refused on purpose: other element types, a memory of the past, training, what makes an empty tensor or divides whole
# numbers by what is not known.
LIMITS = (
    *("element type", "memory of the past", "set to training", "its output is empty", "divided only by known"),
    *("outputs, 4 are named", "layout 1", "no numbers, or not equally many", "numbers with a fraction need"),
    *(
        "no input or no output",
        "known are 7 to",
        "of type bool",
        "last window reaches over",
        "texts",
        "(Range): input 0 decides",
    ),
)


def examples() -> dict[str, list[Any]]:
    """ONNX's own examples of one operator each that is known here, by operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found: dict[str, list[Any]] = {}
        for case in collect_testcases(None):
            nodes = case.model.graph.node if case.model else []
            if len(nodes) == 1 and (nodes[0].domain, nodes[0].op_type) in ALL_RULES:
                found.setdefault(nodes[0].op_type, []).append(case)
    return found


def with_constants(case: Any) -> tuple[bytes, dict[str, Any]]:
    """The example with its small whole inputs, which decide shapes, as constants; and its inputs by name."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    for opset in model.opset_import:
        opset.version = min(opset.version, OPSETS[opset.domain][1])
    values = [np.asarray(v) if isinstance(v, np.generic) else v for v in case.data_sets[0][0]]
    given = dict(zip([value.name for value in model.graph.input], values, strict=True))
    first, kind = model.graph.input[0].name if given else "", model.graph.node[0].op_type
    for name, value in given.items():
        small = isinstance(value, np.ndarray) and value.dtype.kind in "iub" and value.ndim <= 1
        if small and (name != first or kind in ("ConstantOfShape", "Range")):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model.SerializeToString(), given


def test_shapes_are_those_of_onnxs_examples() -> None:
    agreed, rejected, without = 0, 0, []
    for kind, cases in examples().items():
        good = 0
        for case in cases:
            data, given = with_constants(case)
            if not all(isinstance(value, np.ndarray) for value in given.values()):
                continue
            try:
                graph = read_graph(data)
                sizes = infer(graph, {v.name: given[v.name].shape for v in graph.inputs}, ALL_RULES)
            except UbpError as error:
                if not any(words in str(error) for words in LIMITS):
                    raise
                rejected += 1
                continue
            for known, expected in zip(sizes.outputs.values(), case.data_sets[0][1], strict=True):
                assert (known.dtype, known.shape) == (expected.dtype.name, expected.shape), case.name
                if known.value is not None:
                    np.testing.assert_array_equal(known.value, expected, case.name)
            good += 1
        without += [kind] * (not good)
        agreed += good
    # Their examples have no input, or other element types, or an opset of long ago.
    assert set(without) <= {"Cast", "Constant", "ConstantOfShape", "LabelEncoder", "Not", "Range"}
    assert agreed > 500
    assert rejected < agreed / 2


def test_every_operator_runs_in_onnx_runtime() -> None:
    """None is on the list that ONNX Runtime would refuse."""
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    assert known >= ALL_RULES.keys()


def test_the_page_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = page.partition("| kind | operators |\n|---|---|\n")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines() for name in line.split("|")[2].split()]
    assert sorted(named) == sorted(name for _, name in ALL_RULES)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_tensor_has_the_inferred_shape(kind: str, rows: int) -> None:
    model = onnx.load_from_string(NETWORKS[kind])
    names = [name for node in model.graph.node for name in node.output if name]
    model.graph.ClearField("output")
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(names, {"x": np.ones((rows, F), np.float32)})
    graph = read_graph(model.SerializeToString())
    sizes = infer(graph, {"x": (rows, F)}, ALL_RULES)
    assert {n: (k.dtype, k.shape) for n, k in sizes.outputs.items()} == {
        n: (v.dtype.name, v.shape) for n, v in zip(names, made, strict=True)
    }
    assert sizes.bytes >= sum(v.nbytes for v in made)


def greedy(kind: str) -> bytes:
    """A small file that asks for a terabyte."""
    m = Maker()
    big = 10**6
    x = m.add("ReduceSum", "x", m.whole(1), keepdims=1)
    if kind == "expand":
        y = m.add("Expand", m.add("Unsqueeze", x, m.whole(2)), m.whole(1, big, big))
    elif kind == "constant":
        y = m.add("Add", x, m.add("ConstantOfShape", m.whole(big, big // 4)))
    elif kind == "pad":
        y = m.add("Pad", x, m.whole(0, 0, big, big))
    elif kind == "tile":
        y = m.add("Tile", x, m.whole(big, big))
    elif kind == "range":
        y = m.add("Add", x, m.add("Cast", m.add("Range", *(m.put(np.int64(k)) for k in (0, 2**62, 1))), to=1))
    elif kind == "conv":
        wide = m.add("Unsqueeze", m.add("Tile", "x", m.whole(1, 100_000)), m.whole(1))
        y = m.add("Conv", wide, m.draw(1000, 1, 500), auto_pad="SAME_UPPER")
    elif kind == "outer product":
        column = m.add("Reshape", m.add("Tile", "x", m.whole(1, 50_000)), m.whole(-1, 600_000, 1))
        y = m.add("MatMul", column, m.add("Transpose", column, perm=[0, 2, 1]))
    elif kind == "broadcast":
        y = m.add("Add", m.add("ConstantOfShape", m.whole(big, 1)), m.add("Tile", x, m.whole(1, big)))
    elif kind == "steps":
        for _ in range(200):
            x = m.add("Concat", x, x, axis=1)
        y = x
    else:
        square = m.add("ConstantOfShape", m.whole(2000, 2000))
        for _ in range(60):
            square = m.add("MatMul", square, square)
        y = m.add("MatMul", x, m.add("Slice", square, m.whole(0), m.whole(1), m.whole(0)))
    return m.bytes(m.add("ReduceMax", y), shape=[])


@pytest.mark.parametrize(
    "kind",
    ["expand", "constant", "pad", "tile", "range", "conv", "outer product", "broadcast", "steps", "much work"],
)
def test_a_terabyte_is_refused_before_anything_runs(kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidModel, match=r"node 'n\d+' \(\w+\): the graph needs more than 128 MB or") as caught:
        network_of(read_graph(greedy(kind)), NAMES)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_rows_together_stay_within_a_run() -> None:
    """A row of a megabyte: as many together as fit, and no more than the limit of all."""
    m = Maker()
    x = m.add("Tile", "x", m.whole(1, 10_000))
    network, _ = network_of(read_graph(m.bytes(m.add("ReduceMean", x, axes=[1]))), NAMES)
    n = rows_at_once(network, RUN_BYTES, MOST_ROWS)
    assert network.sizes(n).bytes - network.sizes(1).bytes <= RUN_BYTES < 2 * network.sizes(2 * n).bytes
    with pytest.raises(InvalidModel, match="the graph needs more than 128 MB"):
        network.sizes(1000)


LOWEST = """
import sys
import numpy
import onnxruntime
session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.full((1, 12), -2.0**31, "float32")})
"""


def test_a_division_of_whole_numbers_ends_the_process() -> None:
    """What the rule about divisors is for: it may go with the releases before 1.32, which ends no process any more."""
    m = Maker()
    lowest, minus_one = m.add("Cast", "x", to=6), m.add("Cast", m.add("Div", "x", m.put(np.float32(2**31))), to=6)
    data = m.bytes(m.add("Cast", m.add("Mod", lowest, minus_one), to=1), F)
    done = subprocess.run([sys.executable, "-c", LOWEST], input=data, capture_output=True)
    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    assert done.returncode == (-signal.SIGFPE if release < (1, 32) else 0), done
    with pytest.raises(UnsupportedModel, match="divided only by known ones above zero"):
        network_of(read_graph(data), NAMES)


def test_shapes_from_shapes_are_computed_as_c_does() -> None:
    """An attacker would make the two differ: division towards zero, overflow, slices from behind."""
    values: NDArray[np.int64] = np.array([7, -7, 2**63 - 1, -(2**63), 0, -1], np.int64)
    m = Maker()
    outputs = [
        m.add("Div", m.put(values), m.whole(2)),
        m.add("Mod", m.put(values), m.whole(3)),
        m.add("Mul", m.put(values), m.put(values)),
        m.add("Sub", m.put(values), m.whole(1)),
        m.add("Neg", m.put(values)),
        m.add("Slice", m.put(values), m.whole(-1), m.whole(-(2**63)), m.whole(0), m.whole(-2)),
        m.add("Slice", m.put(values), m.whole(1), m.whole(2**63 - 1)),
        m.add("Gather", m.put(values), m.whole(-1, 0)),
        m.add("Where", m.add("Less", m.put(values), m.whole(0)), m.put(values), m.whole(5)),
        m.add("Cast", m.add("Div", m.put(np.float32(-7)), m.put(np.float32(2))), to=7),
        m.add("Range", *(m.put(np.int64(k)) for k in (9, -3, -4))),
        m.add("Expand", m.whole(3), m.whole(2, 2)),
        m.add("Concat", m.add("Shape", "x", start=-1), m.add("Reshape", m.add("Size", "x"), m.whole(1)), axis=0),
    ]
    model = m.graph(outputs[0])
    model.graph.ClearField("output")
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    data = model.SerializeToString()
    found = infer(read_graph(data), {"x": (3, F)}, ALL_RULES).outputs
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for name, expected in zip(outputs, session.run(outputs, {"x": np.ones((3, F), np.float32)}), strict=True):
        value = found[name].value
        assert value is not None
        assert (value.dtype, value.tolist()) == (expected.dtype, expected.tolist())


def test_many_small_numbers_are_not_computed_along() -> None:
    assert onnx_shapes.constant(np.zeros(onnx_shapes.MAX_FOLDED + 1)).value is None


def refusals() -> dict[str, Callable[[Maker], str]]:
    """Nodes that cannot work on what they get; ONNX Runtime trusts some of this."""
    two = ("x", "x")
    return {
        "shapes of a sum": lambda m: m.add("Add", "x", m.draw(5)),
        "types of a sum": lambda m: m.add("Add", "x", m.whole(1)),
        "truth values": lambda m: m.add("And", *two),
        "condition": lambda m: m.add("Where", "x", *two),
        "bounds": lambda m: m.add("Clip", "x", m.draw(2)),
        "training": lambda m: m.add("Dropout", "x", m.put(np.float32(0.5)), m.put(np.bool_(True))),
        "product": lambda m: m.add("MatMul", "x", m.draw(F + 1, 2)),
        "product with a number": lambda m: m.add("MatMul", "x", m.put(np.float32(1))),
        "cast to a text": lambda m: m.add("Cast", "x", to=8),
        "cast without a type": lambda m: m.add("Cast", "x"),
        "axis": lambda m: m.add("Softmax", "x", axis=2),
        "axis of a sum": lambda m: m.add("ReduceSum", "x", m.whole(7)),
        "reshape": lambda m: m.add("Reshape", "x", m.whole(5, 5)),
        "reshape twice unknown": lambda m: m.add("Reshape", "x", m.whole(-1, -1)),
        "reshape by a row": lambda m: m.add("Reshape", "x", m.add("Cast", "x", to=7)),
        "order": lambda m: m.add("Transpose", "x", perm=[0, 0]),
        "squeeze": lambda m: m.add("Squeeze", "x", m.whole(1)),
        "ranks": lambda m: m.add("Concat", "x", m.draw(3), axis=1),
        "step of 0": lambda m: m.add("Slice", "x", m.whole(0), m.whole(1), m.whole(0), m.whole(0)),
        "split": lambda m: m.add("Split", "x", m.whole(1, 2), axis=1, outputs=2),
        "beyond a table": lambda m: m.add("Gather", m.draw(3), m.whole(3)),
        "expand to less than nothing": lambda m: m.add("Expand", "x", m.whole(-5)),
        "pads": lambda m: m.add("Pad", "x", m.whole(0, 1)),
        "reflected pads": lambda m: m.add("Pad", "x", m.whole(0, F, 0, 0), mode="reflect"),
        "endless range": lambda m: m.add("Range", m.whole(0), m.whole(1), m.whole(0)),
        "attribute of another type": lambda m: m.add("Softmax", "x", axis=[1]),
        "list of another type": lambda m: m.add("Transpose", "x", perm=1),
        "normalisation": lambda m: m.add("BatchNormalization", "x", *(m.draw(F) for _ in range(3)), m.draw(F + 1)),
        "layer normalisation": lambda m: m.add("LayerNormalization", "x", m.draw(3)),
        "groups": lambda m: m.add("Conv", image(m), m.draw(4, 1, 3), group=3),
        "kernel": lambda m: m.add("Conv", image(m), m.draw(4, 1, F + 1)),
        "negative pads": lambda m: m.add("Conv", image(m), m.draw(4, 1, 3), pads=[-1, 0]),
        "stride of 0": lambda m: m.add("MaxPool", image(m), kernel_shape=[2], strides=[0]),
        "wide pads": lambda m: m.add("AveragePool", image(m), kernel_shape=[2], pads=[2, 0]),
        "pool without a kernel": lambda m: m.add("MaxPool", image(m)),
        "recurrent weights": lambda m: m.add("LSTM", image(m), m.draw(1, 8, F), m.draw(1, 8, 3)),
        "activation": lambda m: m.add("RNN", image(m), m.draw(1, 2, F), m.draw(1, 2, 2), activations=["Mystery"]),
        "initial state": lambda m: m.add("GRU", image(m), m.draw(1, 6, F), m.draw(1, 6, 2), "", "", m.draw(1, 9, 2)),
        "attention": lambda m: m.add("Attention", image(m), image(m), image(m), q_num_heads=5, kv_num_heads=5),
        "scaler": lambda m: scikit(m, "Scaler", scale=[1.0] * 3, offset=[0.0]),
        "imputer": lambda m: scikit(m, "Imputer", imputed_value_floats=[1.0, 2.0]),
        "linear": lambda m: scikit(m, "LinearRegressor", coefficients=[1.0] * 5),
        "columns": lambda m: m.add("ArrayFeatureExtractor", "x", m.whole(F), domain="ai.onnx.ml"),
        "vectors": lambda m: scikit(m, "SVMRegressor", n_supports=9, support_vectors=[1.0], coefficients=[1.0] * 9),
        "trees": lambda m: scikit(m, "TreeEnsembleRegressor", nodes_treeids=[0], nodes_modes=["LEAF"]),
        "inputs missing": lambda m: m.add("Gemm", "x"),
    }


def image(m: Maker) -> str:
    return m.add("Reshape", "x", m.whole(-1, 1, F))


def scikit(m: Maker, kind: str, **attributes: Any) -> str:
    return m.add(kind, "x", domain="ai.onnx.ml", **attributes)


@pytest.mark.parametrize("kind", refusals())
def test_nodes_that_cannot_work(kind: str) -> None:
    m = Maker(opset=23 if kind == "attention" else 17)
    data = m.bytes(refusals()[kind](m), shape=[])
    with pytest.raises((InvalidModel, UnsupportedModel), match=r"^node 'n\d+' \(\w+\): ") as caught:
        infer(read_graph(data), {"x": (1, F)}, ALL_RULES)
    assert "\n" not in str(caught.value)
