"""Layers that a graph may have: normalisation, convolution, pooling, recurrent layers, attention."""

from __future__ import annotations

from math import prod

from ubp_sql.models.onnx_operators import FLOATS, WHOLE, broadcast, one_type
from ubp_sql.models.onnx_shapes import At, Known, Rule, Shape

_DIRECTIONS = ("forward", "reverse", "bidirectional")
_ACTIVATIONS: tuple[bytes, ...] = (
    b"Relu",
    b"Tanh",
    b"Sigmoid",
    b"Affine",
    b"LeakyRelu",
    b"ThresholdedRelu",
    b"ScaledTanh",
)
_ACTIVATIONS += (b"HardSigmoid", b"Elu", b"Softsign", b"Softplus")


def _channels(at: At) -> tuple[Known, int]:
    """The input of rows, channels and the rest, and how many channels."""
    x = at.input()
    if len(x.shape) < 2:
        at.bad(f"its input has the shape {list(x.shape)}, rows and channels are expected")
    return x, x.shape[1]


def _batch_norm(at: At) -> list[Known]:
    x, channels = _channels(at)
    if at.flag("training_mode"):
        at.unsupported("it is set to training", "export the model for inference")
    for k in range(1, 5):
        at.shaped(k, (channels,))
    at.work += 2 * x.elements
    return [Known(one_type(at, at.all_inputs(), FLOATS), x.shape)]


def _instance_norm(at: At) -> list[Known]:
    x, channels = _channels(at)
    at.shaped(1, (channels,))
    at.shaped(2, (channels,))
    at.work += 4 * x.elements
    return [Known(one_type(at, at.all_inputs(), FLOATS), x.shape)]


def _group_norm(at: At) -> list[Known]:
    x, channels = _channels(at)
    groups = at.number("num_groups")
    if groups < 1 or channels % groups:
        at.bad(f"{channels} channels in {groups} groups")
    for k in (1, 2):
        at.shaped(k, (channels if at.opset >= 21 else groups,))
    at.work += 4 * x.elements
    at.scratch += 3 * x.elements * 4  # it is made of other operators
    return [Known(one_type(at, at.all_inputs(), FLOATS), x.shape)]


def _layer_norm(at: At) -> list[Known]:
    x = at.input()
    axis = at.axis(at.number("axis", -1), len(x.shape))
    for k in (1, 2):
        if at.has(k):
            at.shaped(k, x.shape[axis:])
    at.work += 4 * x.elements
    dtype = one_type(at, at.all_inputs(), FLOATS)
    moments = Known("float32", x.shape[:axis] + (1,) * (len(x.shape) - axis))
    return [Known(dtype, x.shape), moments, moments]


class _Window:
    """What slides over the places of an input: checked attributes of a convolution or a pool."""

    def __init__(self, at: At, places: Shape, kernel: Shape) -> None:
        rank = len(places)
        if not 1 <= rank <= 3 or len(kernel) != rank or min(kernel) < 1:
            at.bad(f"a kernel of shape {list(kernel)} over {list(places)}, one to three dimensions are expected")
        strides, dilations = at.numbers("strides") or [1] * rank, at.numbers("dilations") or [1] * rank
        pads = at.numbers("pads") or [0] * (2 * rank)
        if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
            at.bad("strides, dilations or pads are not as many as its dimensions")
        if min(strides) < 1 or min(dilations) < 1 or min(pads) < 0 or max(*strides, *dilations, *pads) > 1_000_000:
            at.bad("a stride, dilation or pad is out of range")
        auto = at.text("auto_pad", "NOTSET", ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
        ceil = at.flag("ceil_mode")
        shape = []
        for a, n in enumerate(places):
            reach = dilations[a] * (kernel[a] - 1) + 1
            if auto.startswith("SAME"):
                shape.append(-(-n // strides[a]))
                continue
            room = n - reach + (0 if auto == "VALID" else pads[a] + pads[a + rank])
            if room < 0:
                at.bad(f"a kernel that reaches over {reach} places does not fit into {n}")
            if ceil and room % strides[a]:
                at.unsupported("its last window reaches over the edge", "export it with ceil_mode=False and pads")
            shape.append(room // strides[a] + 1)
        self.shape: Shape = tuple(shape)
        self.pads = pads
        self.size = prod(kernel)


def _conv(at: At) -> list[Known]:
    (x, channels), w = _channels(at), at.input(1)
    group = at.number("group", 1)
    if len(w.shape) != len(x.shape) or group < 1 or channels != w.shape[1] * group or w.shape[0] % group:
        at.bad(f"weights of shape {list(w.shape)} in {group} groups for an input of {list(x.shape)}")
    kernel = w.shape[2:]
    if (named := at.numbers("kernel_shape")) is not None and tuple(named) != kernel:
        at.bad(f"kernel_shape {named[:10]} of weights of shape {list(w.shape)}")
    if at.has(2):
        at.shaped(2, w.shape[:1])
    window = _Window(at, x.shape[2:], kernel)
    each = prod(window.shape) * w.shape[1] * window.size
    at.work += x.shape[0] * w.shape[0] * each
    # One image unrolled; input and output once more, in blocks of 16 channels.
    padded = -(-channels // 16) * 16 * prod(x.shape[2:]) + -(-w.shape[0] // 16) * 16 * prod(window.shape)
    at.scratch += 4 * (each * group + x.shape[0] * padded)
    return [Known(one_type(at, at.all_inputs(), FLOATS), (x.shape[0], w.shape[0], *window.shape))]


def _pool(at: At) -> list[Known]:
    x, channels = _channels(at)
    kernel = tuple(at.numbers("kernel_shape") or ())
    window = _Window(at, x.shape[2:], kernel)
    if any(pad >= size for pad, size in zip(window.pads, kernel * 2, strict=True)):
        at.bad("a pad is as large as its kernel")
    shape = (x.shape[0], channels, *window.shape)
    at.work += prod(shape) * window.size
    return [Known(one_type(at, [x], FLOATS), shape), Known("int64", shape)]


def _global_pool(at: At) -> list[Known]:
    x, channels = _channels(at)
    if len(x.shape) < 3:
        at.bad(f"its input has the shape {list(x.shape)}")
    at.work += x.elements
    return [Known(one_type(at, [x], FLOATS), (x.shape[0], channels) + (1,) * (len(x.shape) - 2))]


def _recurrent(gates: int, functions: int, states: int) -> Rule:
    """A layer over steps: gates and activation functions of a direction, and states that it hands on."""

    def rule(at: At) -> list[Known]:
        x, w = at.input(0), at.input(1)
        if at.number("layout", 0) != 0:
            at.unsupported("layout 1", "export it with the steps first (batch_first=False, or a Transpose)")
        if len(x.shape) != 3 or len(w.shape) != 3:
            at.bad(f"an input of shape {list(x.shape)} with weights of {list(w.shape)}")
        steps, rows, width = x.shape
        hidden = at.number("hidden_size", w.shape[1] // gates)
        ways = 2 if at.text("direction", "forward", _DIRECTIONS) == "bidirectional" else 1
        if hidden < 1 or w.shape != (ways, gates * hidden, width):
            at.bad(f"weights of shape {list(w.shape)}, expected {[ways, gates * hidden, width]}")
        at.shaped(2, (ways, gates * hidden, hidden))
        if at.has(3):
            at.shaped(3, (ways, 2 * gates * hidden))
        if at.has(4):
            at.shaped(4, (rows,))
            one_type(at, [at.input(4)], ("int32",))
        for k in range(5, 5 + states):
            if at.has(k):
                at.shaped(k, (ways, rows, hidden))
        if at.has(5 + states):
            at.shaped(5 + states, (ways, 3 * hidden))
        named = at.node.attributes.get("activations", ())
        if named and (not isinstance(named, tuple) or len(named) != ways * functions or set(named) - {*_ACTIVATIONS}):
            at.bad("its activations are not known, or not as many as its gates")
        each = steps * rows * ways
        at.work += each * gates * hidden * (width + hidden + 20)
        at.scratch += 4 * (each * (gates + 2) * hidden + ways * gates * hidden * (width + hidden))
        dtype = one_type(at, [x, w, at.input(2)], ("float32",))
        state = Known(dtype, (ways, rows, hidden))
        return [Known(dtype, (steps, ways, rows, hidden)), *[state] * states]

    return rule


def _attention(at: At) -> list[Known]:
    """Attention of opset 23 without a memory of the past."""
    if any(at.has(k) for k in (4, 5, 6)):
        at.unsupported("a memory of the past", "export the model for inference on whole sequences")
    q, k, v = _heads(at, 0, "q_num_heads"), _heads(at, 1, "kv_num_heads"), _heads(at, 2, "kv_num_heads")
    (rows, heads, asked, width), (_, shared, steps, _) = q, k
    if k[0] != rows or v[:3] != k[:3] or k[3] != width or heads % shared:
        at.bad(f"queries, keys and values of shapes {list(q)}, {list(k)}, {list(v)} do not fit together")
    if at.has(3):
        mask = at.input(3)
        if mask.dtype not in (*FLOATS, *WHOLE, "bool") or broadcast(at, mask.shape, (rows, heads, asked, steps)) != (
            *(rows, heads, asked),
            steps,
        ):
            at.bad(f"a mask of {mask.dtype} of shape {list(mask.shape)}")
    scores = (rows, heads, asked, steps)
    at.work += prod(scores) * (width + v[3] + 20)
    at.scratch += 4 * (2 * prod(scores) + rows * heads * (asked * width + 2 * steps * (width + v[3])))
    shape = (rows, heads, asked, v[3]) if len(at.input().shape) == 4 else (rows, asked, heads * v[3])
    return [Known(one_type(at, [at.input(j) for j in range(3)], FLOATS), shape)]


def _heads(at: At, k: int, name: str) -> tuple[int, int, int, int]:
    """An input of attention as rows, heads, steps, width."""
    shape = at.input(k).shape
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    heads = at.number(name)
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        at.bad(f"input {k} of shape {list(shape)} in {heads} heads")
    return shape[0], heads, shape[1], shape[2] // heads


LAYERS: dict[str, Rule] = {
    **{"BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm},
    **{"LayerNormalization": _layer_norm, "RMSNormalization": _layer_norm},
    **{"Conv": _conv, "MaxPool": _pool, "AveragePool": _pool, "GlobalAveragePool": _global_pool},
    **{"GlobalMaxPool": _global_pool, "RNN": _recurrent(1, 1, 1), "GRU": _recurrent(3, 2, 1)},
    **{"LSTM": _recurrent(4, 3, 2), "Attention": _attention},
}
