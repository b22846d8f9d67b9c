"""Networks: the same bits as an ONNX Runtime session of one's own, whatever is asked at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.models.onnx_makers import NETWORKS, F, Maker, mlp
from ubp_sql.errors import BadInput, FeatureSetMismatch, InstallError, InvalidModel, UnsupportedModel
from ubp_sql.models import onnx_runtime
from ubp_sql.models.loaded import open_model
from ubp_sql.models.onnx_compiled import Network, compile_network, network_of
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_runtime import OnnxModel

NAMES = tuple(f"f{j}" for j in range(F))


def rows_of(n: int, features: int = F, seed: int = 0) -> NDArray[np.float32]:
    """Ordinary rows, and among the first some with what a row can hold."""
    rows = np.random.default_rng(seed).normal(0, 2, (n, features)).astype(np.float32)
    for k, value in enumerate((0.0, np.nan, np.inf, -np.inf, 3e38, 1e-42)):
        rows[k, :: 1 + k] = value
    return rows


def network(data: bytes, names: tuple[str, ...] = NAMES) -> Network:
    return network_of(read_graph(data), names)[0]


def opened(data: bytes, names: tuple[str, ...] = NAMES) -> OnnxModel:
    model = open_model(compile_network(network(data, names)))
    assert isinstance(model, OnnxModel)
    return model


def plain(data: bytes, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a session with ONNX Runtime's own settings gives."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: rows})
    return outputs[-1].astype(np.float64)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_bits_as_a_session(kind: str) -> None:
    data, rows = NETWORKS[kind], rows_of(500)
    model, expected = opened(data), plain(data, rows)
    assert model.outputs == 1
    np.testing.assert_array_equal(model.score_batch(rows), expected[:, -1:])
    alone = [model.score_packed(row.tobytes()) for row in rows]
    assert [v is None for v in alone] == np.isnan(expected[:, -1]).tolist(), "no score is never a NaN"
    np.testing.assert_array_equal(np.array(alone, float), expected[:, -1], "alone as among others")
    for n in (1, 2, 3, 33):
        pieces = [model.score_batch(rows[k : k + n]) for k in range(0, 99, n)]
        np.testing.assert_array_equal(np.concatenate(pieces)[:99], expected[:99, -1:])


def test_scikit_learns_network_in_a_pipeline() -> None:
    rows = rows_of(400)[6:]
    labels = (rows[:, 0] > 0).astype(int)
    rows[rows > 4] = np.nan
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0))
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="not converge|iterations"):
        pipeline.fit(rows, labels)
    data = to_onnx(pipeline, rows[:1]).SerializeToString()
    model = opened(data)
    assert (model.outputs, model.network.second) == (1, True)
    scores = model.score_batch(rows)[:, 0]
    np.testing.assert_allclose(scores, pipeline.predict_proba(rows)[:, 1], atol=1e-5)
    assert not any("label" in name for node in model.network.graph.nodes for name in node.outputs)


def test_several_outputs_and_two_that_are_no_classes() -> None:
    m = Maker()
    three = opened(m.bytes(m.add("Softmax", m.dense("x", F, 3), axis=1), 3))
    scores = three.all_packed(rows_of(9)[8].tobytes())
    assert (three.outputs, len(scores)) == (3, 3)
    assert sum(scores) == pytest.approx(1)
    m = Maker()
    two = opened(m.bytes(m.dense("x", F, 2), 2))
    assert (two.outputs, two.network.second) == (2, False), "two numbers that nothing says are probabilities"


def test_features_by_name_and_by_place() -> None:
    m, rows = Maker(), rows_of(50)
    m.metadata["feature_names"] = json.dumps(NAMES[::-1])
    data = m.bytes(m.dense("x", F, 1))
    graph = read_graph(data)
    found, by_name = network_of(graph, NAMES)
    assert by_name
    np.testing.assert_array_equal(
        open_model(compile_network(found)).score_batch(rows), plain(data, rows[:, ::-1].copy())
    )
    with pytest.raises(FeatureSetMismatch, match="no feature 'f0'"):
        network_of(graph, ("other", *NAMES[1:]))
    with pytest.raises(FeatureSetMismatch, match="takes 12 features, the feature set has 13"):
        network_of(read_graph(mlp()), (*NAMES, "more"))
    for text in ("[1, 2]", "{}", "[" * 5000, '["a", "a"]', "nonsense", '["f0"]'):
        m.metadata["feature_names"] = text
        with pytest.raises(InvalidModel, match="feature_names"):
            network_of(read_graph(m.bytes(m.nodes[-1].output[0])), NAMES)


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_an_input_for_each_feature(opset: int) -> None:
    """As scikit-learn's converter exports a table of named columns: some whole, one that the score does not need."""
    m, rows = Maker(opset=opset), np.abs(rows_of(50)[6:])
    table = m.add("Concat", *(m.add("Cast", name, to=1) for name in NAMES[:-1]), axis=1)
    model = m.graph(m.dense(table, F - 1, 1))
    kinds = [onnx.TensorProto.INT64 if j % 3 == 0 else onnx.TensorProto.FLOAT for j in range(F)]
    model.graph.ClearField("input")
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in zip(NAMES, kinds, strict=True)
    )
    data = model.SerializeToString()
    given = {name: rows[:, [j]].astype(np.int64 if j % 3 == 0 else np.float32) for j, name in enumerate(NAMES)}
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found, by_name = network_of(read_graph(data), NAMES[::-1])
    assert by_name
    scores = open_model(compile_network(found)).score_batch(rows[:, ::-1].copy())
    np.testing.assert_array_equal(scores, session.run(None, given)[0])
    with pytest.raises(FeatureSetMismatch, match="no feature 'f0'"):
        network_of(read_graph(data), ("other", *NAMES[1:]))
    model.graph.input[3].type.tensor_type.shape.dim[1].dim_value = 2
    with pytest.raises(UnsupportedModel, match="the score depends on 11 inputs: f0, f1, f2"):
        network_of(read_graph(model.SerializeToString()), NAMES)


def test_a_graph_of_one_row_scores_many() -> None:
    """Exported with a fixed batch of 1: nodes that carry the 1 along take no two rows."""
    m = Maker(rows=1)
    data = m.bytes(m.dense(m.add("Reshape", "x", m.whole(1, F)), F, 1))
    model, rows = opened(data), rows_of(20)
    assert model.network.one_by_one
    expected = [plain(data, row[None])[0] for row in rows]
    np.testing.assert_array_equal(model.score_batch(rows), expected)
    assert not network(mlp(rows=1)).one_by_one, "where nothing but the input says 1, it is not meant"


def test_double_precision_and_no_columns() -> None:
    m = Maker()
    m.dtype = onnx.TensorProto.DOUBLE
    weights = m.put(m.rng.normal(size=F))
    data = m.bytes(m.add("MatMul", "x", weights), shape=["n"])
    rows = rows_of(30)
    with np.errstate(all="ignore"):
        expected = plain(data, rows.astype(np.float64))
    np.testing.assert_array_equal(opened(data).score_batch(rows)[:, 0], expected)


def test_rows_in_chunks_that_a_cancel_can_end() -> None:
    m = Maker(features=200)
    x = "x"
    for _ in range(20):
        x = m.add("Tanh", m.dense(x, 200, 200))
    model, rows = opened(m.bytes(m.dense(x, 200, 1)), tuple(f"f{j}" for j in range(200))), rows_of(4000, 200)
    calls = []
    whole = model.score_batch(rows, lambda: calls.append(1))
    assert calls
    np.testing.assert_array_equal(whole[1000:1100], model.score_batch(rows[1000:1100]))

    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        model.score_batch(rows, cancel)
    assert model.score_batch(rows[:0]).shape == (0, 1)
    with pytest.raises(BadInput):
        model.score_batch(rows[:, :-1])


def test_compiled_bytes_are_checked() -> None:
    good = compile_network(network(mlp()))
    assert compile_network(network(mlp())) == good, "the same file, the same hash"
    for k in (8, 10, 12, 16, 30, 32, 34, 36, 41, 48, 60, 70, len(good) // 2, len(good) - 1):
        with pytest.raises((InvalidModel, UnsupportedModel)):
            open_model(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
    for k in (8, 20, 63, 64, 100, len(good) - 1):
        with pytest.raises((InvalidModel, UnsupportedModel)):
            open_model(good[:k])


def test_without_the_package_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InstallError, match="need ONNX Runtime") as caught:
        opened(mlp())
    assert "ubp_sql[onnx]" in str(caught.value.hint)


def test_what_onnx_runtime_refuses_has_a_line() -> None:
    m = Maker()
    data = m.bytes(m.add("Relu", m.dense("x", F, 1), nonsense=1))
    with pytest.raises(InvalidModel, match="ONNX Runtime refuses the graph") as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    model = opened(mlp())
    model._output = ["nothing"]
    with pytest.raises(InvalidModel, match="ONNX Runtime failed on these features"):
        model.score_packed(rows_of(9)[8].tobytes())


ALONE = """
import os, sys
import numpy
threads = len(os.listdir("/proc/self/task"))
from ubp_sql.models.loaded import open_model
model = open_model(sys.stdin.buffer.read())
model.score_packed(bytes(model.size))
print(len(os.listdir("/proc/self/task")) - threads)
"""


def test_no_thread_no_report_no_file(tmp_path: Path) -> None:
    """The package's own reporting, on by default, starts a thread and keeps a file in the home directory."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], input=compile_network(network(mlp())), env=environment, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")
    assert not list(tmp_path.rglob("*"))


def test_signals_are_blocked_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = onnx_runtime._package

    def look() -> object:
        seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return load()

    monkeypatch.setattr(onnx_runtime, "_package", look)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    opened(mlp())
    assert {signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM} <= seen[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
