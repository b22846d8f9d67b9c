"""ONNX files made by hand, field by field: trees, linear models and small networks of every operator family."""

import struct
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tests.fuzz.edits_wire import number
from tests.fuzz.targets import NAMES

ML = "ai.onnx.ml"
F = len(NAMES)
Value = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | bytes
FLOAT, INT64 = 1, 7


def part(field: int, value: int | float | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return number(field << 3) + number(value)
    if isinstance(value, float):
        return number(field << 3 | 5) + struct.pack("<f", value)
    raw = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(raw)) + raw


def attribute(name: str, value: Value) -> bytes:
    head = part(1, name)
    if isinstance(value, int):
        return head + part(3, value) + part(20, 2)
    if isinstance(value, float):
        return head + part(2, value) + part(20, 1)
    if isinstance(value, str):
        return head + part(4, value) + part(20, 3)
    if isinstance(value, bytes):
        return head + part(5, value) + part(20, 4)
    if all(isinstance(v, float) for v in value):
        return head + b"".join(part(7, v) for v in value) + part(20, 6)
    if all(isinstance(v, int) for v in value):
        return head + b"".join(part(8, v) for v in value) + part(20, 7)
    return head + b"".join(part(9, v) for v in value) + part(20, 8)


def node(kind: str, inputs: str, outputs: str, domain: str = "", **attributes: Value) -> bytes:
    """A NodeProto; names of inputs and outputs are separated by spaces."""
    made = b"".join(part(1, name) for name in inputs.split()) + b"".join(part(2, name) for name in outputs.split())
    made += part(3, f"{kind}_{outputs.split()[0]}") + part(4, kind)
    made += b"".join(part(5, attribute(name, value)) for name, value in attributes.items())
    return made + (part(7, domain) if domain else b"")


def tensor(name: str, shape: Sequence[int], values: Sequence[float] | Sequence[int], raw: bool = True) -> bytes:
    whole = all(isinstance(v, int) for v in values)
    made = b"".join(part(1, n) for n in shape) + part(2, INT64 if whole else FLOAT)
    if raw:
        return made + part(8, name) + part(9, struct.pack(f"<{len(values)}{'q' if whole else 'f'}", *values))
    packed = b"".join(number(int(v)) for v in values) if whole else struct.pack(f"<{len(values)}f", *values)
    return made + part(7 if whole else 4, packed) + part(8, name)


def value(name: str, shape: Sequence[int | None], element: int = FLOAT) -> bytes:
    dims = b"".join(part(1, part(2, "n") if n is None else part(1, n)) for n in shape)
    return part(1, name) + part(2, part(1, part(1, element) + part(2, dims)))


def model(
    nodes: Sequence[bytes], outputs: Mapping[str, Sequence[int | None]], weights: Sequence[bytes] = (), width: int = F
) -> bytes:
    graph = b"".join(part(1, n) for n in nodes) + part(2, "g") + b"".join(part(5, w) for w in weights)
    graph += part(11, value("x", (None, width)))
    for name, shape in outputs.items():
        # What ZipMap makes is of no type that has a shape.
        graph += part(12, part(1, name) if name == "z" else value(name, shape, INT64 if name == "label" else FLOAT))
    opsets = part(8, part(1, "") + part(2, 17)) + part(8, part(1, ML) + part(2, 3))
    return part(1, 8) + part(2, "tests") + part(7, graph) + opsets


def _ensemble(random: Random, prefix: str, outputs: int, trees: int, **more: Value) -> dict[str, Any]:
    """Attributes of a TreeEnsemble: nodes of trees of three leaves, in all modes that one comparison is."""
    rows: list[tuple[int, int, int, float, str, int, int, int]] = []
    leaves: list[tuple[int, int, int, float]] = []
    for tree in range(trees):
        for i, (yes, no) in enumerate(((1, 2), (3, 4), (0, 0), (0, 0), (0, 0))):
            mode = "LEAF" if yes == no else random.choice(["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"])
            x = random.choice([0.0, 1.0, -0.5, round(random.gauss(0, 1), 2)])
            rows.append((tree, i, random.randrange(F), float(x), mode, yes, no, random.randrange(2)))
            if mode == "LEAF":
                leaves += [(tree, i, k, round(random.gauss(0, 1), 2)) for k in range(outputs)]
    keys = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    found: dict[str, Any] = {f"nodes_{key}": [row[k] for row in rows] for k, key in enumerate(keys)}
    found["nodes_missing_value_tracks_true"] = [row[7] for row in rows]
    for k, key in enumerate(("treeids", "nodeids", "ids", "weights")):
        found[f"{prefix}_{key}"] = [leaf[k] for leaf in leaves]
    return found | more


def trees() -> list[bytes]:
    random = Random(31)
    made = []
    for n in (1, 3):
        kind = _ensemble(random, "target", n, 2, post_transform="NONE")
        regressor = node("TreeEnsembleRegressor", "x", "y", ML, n_targets=n, base_values=[0.25] * n, **kind)
        made.append(model([regressor], {"y": (None, n)}))
    average = _ensemble(random, "target", 1, 3, aggregate_function="AVERAGE")
    made.append(model([node("TreeEnsembleRegressor", "x", "y", ML, n_targets=1, **average)], {"y": (None, 1)}))
    for classes, transform in ((2, "NONE"), (2, "LOGISTIC"), (3, "SOFTMAX")):
        outputs = 1 if transform == "LOGISTIC" else classes
        kind = _ensemble(random, "class", outputs, 2, post_transform=transform)
        labels = list(range(classes))
        classifier = node("TreeEnsembleClassifier", "x", "label p", ML, classlabels_int64s=labels, **kind)
        made.append(model([classifier], {"label": (None,), "p": (None, classes)}))
    zipped = [classifier, node("ZipMap", "p", "z", ML, classlabels_int64s=[0, 1, 2])]
    made.append(model(zipped, {"label": (None,), "z": (None,)}))
    return made


def linear() -> list[bytes]:
    random = Random(32)

    def weights(n: int) -> list[float]:
        return [round(random.gauss(0, 1), 2) for _ in range(n)]

    scaler = node("Scaler", "x", "s", ML, offset=weights(F), scale=[0.5, 1.0, 2.0, 0.25, 1.5])
    imputer = node("Imputer", "x", "i", ML, imputed_value_floats=weights(F), replaced_value_float=float("nan"))
    regressor = node("LinearRegressor", "x", "y", ML, coefficients=weights(F), intercepts=weights(1))
    scaled = node("LinearRegressor", "s", "y", ML, coefficients=weights(2 * F), intercepts=weights(2), targets=2)
    binary: dict[str, Any] = {"coefficients": [*weights(2 * F)], "intercepts": weights(2), "classlabels_ints": [0, 1]}
    classifier = node("LinearClassifier", "i", "label p", ML, multi_class=0, post_transform="LOGISTIC", **binary)
    three: dict[str, Any] = {"coefficients": weights(3 * F), "intercepts": weights(3), "classlabels_ints": [0, 1, 2]}
    softmax = node("LinearClassifier", "x", "label q", ML, multi_class=1, post_transform="SOFTMAX", **three)
    normalizer = node("Normalizer", "q", "p", ML, norm="L1")
    cast = node("Cast", "raw", "y", to=1)
    components = [
        node("Sub", "x mean", "c"),
        node("MatMul", "c directions", "z"),
        node("LinearRegressor", "z", "y", ML, coefficients=weights(2), intercepts=weights(1)),
    ]
    directions = [tensor("mean", (F,), weights(F)), tensor("directions", (F, 2), weights(2 * F))]
    codes = [
        node("ArrayFeatureExtractor", "x last", "code", ML),
        node("Imputer", "code", "filled", ML, imputed_value_floats=[1.0], replaced_value_float=float("nan")),
        node("Cast", "filled", "whole", to=7),
        node("OneHotEncoder", "whole", "deep", ML, cats_int64s=[0, 1, 7], zeros=1),
        node("Reshape", "deep shape", "hot"),
        node("Concat", "x hot", "all", axis=1),
        node("LinearRegressor", "all", "y", ML, coefficients=weights(F + 3), intercepts=weights(1)),
    ]
    places = [tensor("last", (1,), [F - 1]), tensor("shape", (2,), [-1, 3])]
    return [
        model(components, {"y": (None, 1)}, directions),
        model(codes, {"y": (None, 1)}, places),
        model([regressor], {"y": (None, 1)}),
        model([scaler, scaled], {"y": (None, 2)}),
        model([imputer, classifier], {"label": (None,), "p": (None, 2)}),
        model([softmax, normalizer], {"label": (None,), "p": (None, 3)}),
        model([node("LinearRegressor", "x", "raw", ML, coefficients=weights(F)), cast], {"y": (None, 1)}),
    ]


def networks() -> list[bytes]:
    """Perceptrons, convolutions, recurrent cells, attention and operators of shape."""
    random = Random(33)

    def w(name: str, *shape: int) -> bytes:
        size = 1
        for n in shape:
            size *= n
        return tensor(name, shape, [round(random.gauss(0, 0.5), 2) for _ in range(size)], raw=random.random() < 0.7)

    def ints(name: str, *values: int) -> bytes:
        return tensor(name, (len(values),), values, raw=random.random() < 0.5)

    dense = [
        node("Gemm", "x w b", "h", transB=1),
        node("Relu", "h", "r"),
        node("MatMul", "r v", "m"),
        node("Sigmoid", "m", "y"),
    ]
    norm = [
        *(node("LayerNormalization", "x g b", "n", axis=-1, epsilon=1e-5), node("Gemm", "n w", "h", transB=1)),
        *(node("Tanh", "h", "t"), node("Softmax", "t", "y", axis=1)),
    ]
    image = [
        *(node("Reshape", "x shape", "i"), node("Conv", "i k c", "f", kernel_shape=[3], pads=[1, 1])),
        *(node("Relu", "f", "r"), node("MaxPool", "r", "p", kernel_shape=[2]), node("GlobalAveragePool", "p", "g")),
        *(node("Flatten", "g", "l"), node("Gemm", "l v", "y")),
    ]
    recurrent = [
        *(node("Unsqueeze", "x axes", "u"), node("Transpose", "u", "s", perm=[1, 0, 2])),
        *(node("LSTM", "s W R B", "a h c", hidden_size=2), node("Squeeze", "h zero", "q"), node("Gemm", "q v", "y")),
    ]
    gru = [
        *(node("Unsqueeze", "x axes", "u"), node("Transpose", "u", "s", perm=[1, 0, 2])),
        *(node("GRU", "s W R", "a h", hidden_size=2, linear_before_reset=1), node("Squeeze", "h zero", "q")),
        node("ReduceMean", "q", "y", axes=[1], keepdims=1),
    ]
    attention = [
        *(node("Unsqueeze", "x axes", "u"), node("MatMul", "u q", "Q"), node("Transpose", "Q", "K", perm=[0, 2, 1])),
        *(node("MatMul", "Q K", "s"), node("Mul", "s scale", "t"), node("Softmax", "t", "a", axis=-1)),
        *(node("MatMul", "a Q", "o"), node("ReduceMean", "o", "y", axes=[1], keepdims=0)),
    ]
    shapes = [
        *(node("Shape", "x", "n"), node("ConstantOfShape", "n", "z", value=tensor("", (1,), [0.5]))),
        *(node("Add", "x z", "a"), node("Slice", "a begin end one", "b"), node("Concat", "b a", "c", axis=1)),
        *(node("Gather", "c pick", "d", axis=1), node("Pad", "d pads", "e"), node("Clip", "e low high", "f")),
        *(node("Where", "mask f c2", "g"), node("ReduceSum", "g one", "y", keepdims=1)),
    ]
    masks = [w("c2", 1, 1), node("Greater", "f low", "mask")]
    shapes.insert(8, masks[1])
    one, two = (None, 1), (None, 2)
    return [
        model(dense, {"y": one}, [w("w", 4, F), w("b", 4), w("v", 4, 1)]),
        model(norm, {"y": two}, [w("g", F), w("b", F), w("w", 2, F)]),
        model(image, {"y": one}, [ints("shape", -1, 1, F), w("k", 2, 1, 3), w("c", 2), w("v", 2, 1)]),
        model(
            recurrent,
            {"y": one},
            [ints("axes", 2), ints("zero", 0), w("W", 1, 8, 1), w("R", 1, 8, 2), w("B", 1, 16), w("v", 2, 1)],
        ),
        model(gru, {"y": one}, [ints("axes", 2), ints("zero", 0), w("W", 1, 6, 1), w("R", 1, 6, 2)]),
        model(attention, {"y": two}, [ints("axes", 2), w("q", 1, 2), tensor("scale", (), [0.7])]),
        model(
            *(shapes, {"y": one}),
            [
                *(ints("begin", 0), ints("end", 3), ints("one", 1), ints("pick", 0, 2, 4), ints("pads", 0, 1, 0, 1)),
                *(tensor("low", (), [-1.0]), tensor("high", (), [1.0]), masks[0]),
            ],
        ),
    ]
