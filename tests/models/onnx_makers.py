"""Small graphs of each kind of network, as trainers export them: bytes of ONNX files with seeded weights."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

F = 12  # features
Nodes = list[Any]


class Maker:
    """A graph under way: weights are drawn, names are counted."""

    def __init__(self, seed: int = 0, opset: int = 17, features: int = F, rows: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset, self.features, self.rows = opset, features, rows
        self.nodes: Nodes = []
        self.tensors: Nodes = []
        self.metadata: dict[str, str] = {}
        self.dtype = TensorProto.FLOAT

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; the name of its last output."""
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[-1]

    def draw(self, *shape: int, scale: float = 0.3) -> str:
        """A tensor of random weights."""
        return self.put((self.rng.normal(size=shape) * scale).astype(np.float32))

    def put(self, value: NDArray[Any] | np.generic) -> str:
        """A tensor of these numbers."""
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def whole(self, *values: int) -> str:
        return self.put(np.array(values, np.int64))

    def dense(self, x: str, width: int, to: int) -> str:
        return self.add("Gemm", x, self.draw(width, to), self.draw(to))

    def graph(self, output: str, columns: int | None = 1, shape: Any = ...) -> Any:
        """The model as onnx has it."""
        rows = self.rows or "n"
        out = [rows, columns] if shape is ... else shape
        made = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", self.dtype, [rows, self.features])],
            [helper.make_tensor_value_info(output, self.dtype, out)],
            self.tensors,
        )
        imports = [helper.make_opsetid("", self.opset)]
        if any(node.domain for node in self.nodes):
            imports.append(helper.make_opsetid("ai.onnx.ml", 3))
        model = helper.make_model(made, opset_imports=imports, ir_version=10)
        helper.set_model_props(model, self.metadata)
        return model

    def bytes(self, output: str, columns: int | None = 1, shape: Any = ...) -> bytes:
        """The file."""
        data: bytes = self.graph(output, columns, shape).SerializeToString()
        return data


def mlp(seed: int = 0, **more: Any) -> bytes:
    m = Maker(seed, **more)
    x = "x"
    for width, to, kind in ((m.features, 16, "Relu"), (16, 8, "Tanh"), (8, 8, "Elu")):
        x = m.add(kind, m.dense(x, width, to))
    return m.bytes(m.add("Sigmoid", m.dense(x, 8, 1)))


def normalised(seed: int = 0) -> bytes:
    """Batch and layer normalisation, GELU by its parts, a softmax over two classes."""
    m = Maker(seed)
    mean, var = m.draw(F), m.put(m.rng.uniform(0.5, 2.0, F).astype(np.float32))
    x = m.add("BatchNormalization", "x", m.draw(F), m.draw(F), mean, var)
    x = m.add("LayerNormalization", m.dense(x, F, 16), m.draw(16), m.draw(16), axis=-1)
    half = m.add("Mul", x, m.put(np.float32(0.5)))
    erf = m.add("Erf", m.add("Div", x, m.put(np.float32(2**0.5))))
    x = m.add("Mul", half, m.add("Add", erf, m.put(np.float32(1.0))))
    return m.bytes(m.add("Softmax", m.dense(x, 16, 2), axis=-1), 2)


def cnn(seed: int = 0) -> bytes:
    m = Maker(seed)
    x = m.add("Reshape", "x", m.whole(-1, 1, F))
    x = m.add("Relu", m.add("Conv", x, m.draw(4, 1, 3), m.draw(4), pads=[1, 1], kernel_shape=[3]))
    x = m.add("MaxPool", x, kernel_shape=[2], strides=[2])
    x = m.add("Relu", m.add("Conv", x, m.draw(8, 2, 3), group=2, pads=[1, 1]))
    x = m.add("Flatten", m.add("GlobalAveragePool", x))
    return m.bytes(m.dense(x, 8, 1))


def recurrent(kind: str, seed: int = 0, direction: str = "forward") -> bytes:
    """An RNN, LSTM or GRU over the features as steps, its last state into one number."""
    m = Maker(seed)
    gates, ways, h = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], 2 if direction == "bidirectional" else 1, 6
    steps = m.add("Transpose", m.add("Reshape", "x", m.whole(-1, F // 2, 2)), perm=[1, 0, 2])
    weights = [m.draw(ways, gates * h, 2), m.draw(ways, gates * h, h), m.draw(ways, 2 * gates * h)]
    m.add(kind, steps, *weights, outputs=2, hidden_size=h, direction=direction)
    state = f"{m.nodes[-1].output[1]}"
    x = m.add("Reshape", m.add("Transpose", state, perm=[1, 0, 2]), m.whole(-1, ways * h))
    return m.bytes(m.add("Sigmoid", m.dense(x, ways * h, 1)))


def attention(seed: int = 0) -> bytes:
    """Self-attention of two heads, by its parts, with shapes taken from shapes as exporters do."""
    m = Maker(seed)
    steps, width, heads = 4, 8, 2
    rows = m.add("Gather", m.add("Shape", "x"), m.whole(0), axis=0)
    tokens = m.add("Reshape", "x", m.add("Concat", rows, m.whole(steps, F // steps), axis=0))
    tokens = m.add("Add", m.add("MatMul", tokens, m.draw(F // steps, width)), m.draw(steps, width))
    split = m.add("Concat", rows, m.whole(steps, heads, width // heads), axis=0)
    q, k, v = (m.add("Reshape", m.add("MatMul", tokens, m.draw(width, width)), split) for _ in range(3))
    q, v = m.add("Transpose", q, perm=[0, 2, 1, 3]), m.add("Transpose", v, perm=[0, 2, 1, 3])
    scores = m.add("MatMul", q, m.add("Transpose", k, perm=[0, 2, 3, 1]))
    shares = m.add("Softmax", m.add("Div", scores, m.put(np.float32(2.0))), axis=-1)
    mixed = m.add("Transpose", m.add("MatMul", shares, v), perm=[0, 2, 1, 3])
    x = m.add("Add", tokens, m.add("Reshape", mixed, m.add("Concat", rows, m.whole(steps, width), axis=0)))
    x = m.add("ReduceMean", x, axes=[1], keepdims=0)
    return m.bytes(m.dense(x, width, 1))


def attention_operator(seed: int = 0) -> bytes:
    """The operator Attention of opset 23."""
    m = Maker(seed, opset=23)
    tokens = m.add("Reshape", "x", m.whole(-1, 3, 4))
    q, k, v = (m.add("MatMul", tokens, m.draw(4, 8)) for _ in range(3))
    x = m.add("Attention", q, k, v, q_num_heads=2, kv_num_heads=2)
    x = m.add("ReduceSum", x, m.whole(1), keepdims=0)
    return m.bytes(m.dense(x, 8, 1))


NETWORKS: dict[str, bytes] = {
    "mlp": mlp(),
    "normalised": normalised(),
    "cnn": cnn(),
    "rnn": recurrent("RNN"),
    "lstm": recurrent("LSTM"),
    "lstm both ways": recurrent("LSTM", direction="bidirectional"),
    "gru": recurrent("GRU"),
    "attention": attention(),
    "attention operator": attention_operator(),
}
