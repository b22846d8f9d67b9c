"""The operators that a graph may have, and the shape of what each makes: arithmetic, sums, products.

A rule checks what ONNX Runtime's code takes for granted: whole numbers are divided only by known ones, since
-2**31 % -1 ends the process (so does, in older releases, a division by zero). Operators that move tensors are in
onnx_moves.py, layers in onnx_layers.py, those of scikit-learn in onnx_ml.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.onnx_graph import ELEMENTS
from ubp_sql.models.onnx_shapes import MAX_FOLDED, At, Known, Rule, Shape

Fold = Callable[..., NDArray[Any]]
FLOATS = ("float32", "float64")
WHOLE = ("int32", "int64")
MAX_DIMENSIONS = 8


def broadcast(at: At, *shapes: Shape) -> Shape:
    """NumPy's rule."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        wide = {n for n in sizes if n != 1} or {1}
        if len(wide) > 1:
            at.bad(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not fit together")
        result.append(wide.pop())
    return tuple(result)


def one_type(at: At, inputs: list[Known], allowed: tuple[str, ...]) -> str:
    """The type that all inputs have."""
    kinds = {known.dtype for known in inputs}
    if len(kinds) != 1 or not kinds <= set(allowed):
        at.bad(f"inputs of type {' and '.join(sorted(kinds))}, one of {', '.join(allowed)} is expected")
    return kinds.pop()


def folded(dtype: str, shape: Shape, inputs: list[Known], fold: Fold | None) -> Known:
    """A tensor, with its numbers where all inputs have theirs and `fold` computes them."""
    values = [known.value for known in inputs]
    if fold is None or prod(shape) > MAX_FOLDED or any(value is None for value in values):
        return Known(dtype, shape)
    with np.errstate(all="ignore"):
        return Known(dtype, shape, np.asarray(fold(*values), dtype).reshape(shape))


def _arithmetic(fold: Fold | None = None) -> Rule:
    """Of two, with their numbers where these are known; without `fold` of any number of inputs."""

    def rule(at: At) -> list[Known]:
        inputs = [at.input(0), at.input(1)] if fold else at.all_inputs()
        dtype = one_type(at, inputs, FLOATS + WHOLE)
        return [folded(dtype, broadcast(at, *(k.shape for k in inputs)), inputs, fold)]

    return rule


def _divide(at: At) -> list[Known]:
    inputs = [at.input(0), at.input(1)]
    dtype = one_type(at, inputs, FLOATS + WHOLE)
    shape = broadcast(at, inputs[0].shape, inputs[1].shape)
    if dtype in FLOATS:
        if at.node.op_type == "Mod" and not at.flag("fmod"):
            at.bad("numbers with a fraction need fmod=1")
        return [folded(dtype, shape, inputs, np.divide if at.node.op_type == "Div" else None)]
    divisor = inputs[1].value
    if divisor is None or not divisor.size or divisor.min() < 1:
        at.unsupported("whole numbers are divided only by known ones above zero", "cast to float32 before")
    if at.node.op_type == "Mod":
        return [folded(dtype, shape, inputs, None if at.flag("fmod") else np.mod)]  # fmod goes through float64
    return [folded(dtype, shape, inputs, lambda a, b: a // b + ((a < 0) & (a % b != 0)))]  # towards zero


def _power(at: At) -> list[Known]:
    base, exponent = at.input(0), at.input(1)
    if base.dtype not in FLOATS + WHOLE or exponent.dtype not in FLOATS + WHOLE:
        at.bad("its inputs are no numbers")
    at.work += 20 * base.elements
    return [Known(base.dtype, broadcast(at, base.shape, exponent.shape))]


def _compare(fold: Fold) -> Rule:
    def rule(at: At) -> list[Known]:
        inputs = [at.input(0), at.input(1)]
        one_type(at, inputs, FLOATS + WHOLE + ("bool",))
        return [folded("bool", broadcast(at, inputs[0].shape, inputs[1].shape), inputs, fold)]

    return rule


def _logical(fold: Fold) -> Rule:
    def rule(at: At) -> list[Known]:
        inputs = [at.input(0), at.input(1)]
        return [folded(one_type(at, inputs, ("bool",)), broadcast(at, *(k.shape for k in inputs)), inputs, fold)]

    return rule


def _where(at: At) -> list[Known]:
    inputs = [at.input(0), at.input(1), at.input(2)]
    one_type(at, inputs[:1], ("bool",))
    dtype = one_type(at, inputs[1:], FLOATS + WHOLE + ("bool",))
    return [folded(dtype, broadcast(at, *(k.shape for k in inputs)), inputs, np.where)]


def same(allowed: tuple[str, ...] = FLOATS, work: int = 1, fold: Fold | None = None) -> Rule:
    """Number by number: what goes in is what comes out."""

    def rule(at: At) -> list[Known]:
        x = at.input()
        at.work += work * x.elements
        return [folded(one_type(at, [x], allowed), x.shape, [x], fold)]

    return rule


def _is(at: At) -> list[Known]:
    one_type(at, [at.input()], FLOATS)
    return [Known("bool", at.input().shape)]


def _clip(at: At) -> list[Known]:
    x = at.input()
    for k in (1, 2):
        if at.has(k) and (at.input(k).shape not in ((), (1,)) or at.input(k).dtype != x.dtype):
            at.bad("a bound is no single number of the input's type")
    return [Known(one_type(at, [x], FLOATS + WHOLE), x.shape)]


def _slope(at: At) -> list[Known]:
    x, slope = at.input(0), at.input(1)
    if broadcast(at, x.shape, slope.shape) != x.shape:
        at.bad("its slope has more numbers than its input")
    return [Known(one_type(at, [x, slope], FLOATS), x.shape)]


def _dropout(at: At) -> list[Known]:
    x = at.input()
    if at.has(2) and (at.input(2).value is None or bool(at.input(2).value.any())):  # type: ignore[union-attr]
        at.unsupported("it is set to training", "export the model for inference")
    return [Known(one_type(at, [x], FLOATS), x.shape), Known("bool", x.shape)]


def _cast(at: At) -> list[Known]:
    x, to = at.input(), at.number("to")
    if to not in ELEMENTS or x.dtype == "string":
        at.unsupported(f"from {x.dtype} to element type {to}", "float32, float64, int32, int64 and bool are known")
    dtype = ELEMENTS[to][0]
    exact = x.value is not None and bool(np.all(np.isfinite(x.value) & (np.abs(x.value.astype("f8")) < 2**31)))
    return [folded(dtype, x.shape, [x], lambda v: v.astype(dtype)) if exact else Known(dtype, x.shape)]


def _reduce(at: At) -> list[Known]:
    x = at.input()
    axes = at.from_both("axes", 1)
    if not axes and at.flag("noop_with_empty_axes"):
        return [Known(x.dtype, x.shape)]
    gone = {at.axis(a, len(x.shape)) for a in axes or range(len(x.shape))}
    at.work += 2 * x.elements
    return [Known(one_type(at, [x], FLOATS + WHOLE), without(x.shape, gone, at.flag("keepdims", True)))]


def without(shape: Shape, gone: set[int], keep: bool) -> Shape:
    return tuple(1 if a in gone else n for a, n in enumerate(shape) if keep or a not in gone)


def _arg(at: At) -> list[Known]:
    x = at.input()
    one_type(at, [x], FLOATS + WHOLE)
    gone = {at.axis(at.number("axis", 0), len(x.shape))}
    return [Known("int64", without(x.shape, gone, at.flag("keepdims", True)))]


def _cumulative(at: At) -> list[Known]:
    x, axis = at.input(0), at.known(1)
    if len(axis) != 1:
        at.bad("its axis is no single number")
    at.axis(axis[0], len(x.shape))
    return [Known(one_type(at, [x], FLOATS + WHOLE), x.shape)]


def _along(at: At) -> list[Known]:
    """Softmax and its kin."""
    x = at.input()
    at.axis(at.number("axis", -1 if at.opset >= 13 or at.node.op_type == "LpNormalization" else 1), len(x.shape))
    at.work += 20 * x.elements
    return [Known(one_type(at, [x], FLOATS), x.shape)]


def _matmul(at: At) -> list[Known]:
    a, b = at.input(0), at.input(1)
    if not a.shape or not b.shape:
        at.bad("an input is a single number")
    left = (1, *a.shape) if len(a.shape) == 1 else a.shape
    right = (*b.shape, 1) if len(b.shape) == 1 else b.shape
    if left[-1] != right[-2]:
        at.bad(f"shapes {list(a.shape)} and {list(b.shape)} do not fit together")
    outer = broadcast(at, left[:-2], right[:-2])
    at.work += prod(outer) * left[-2] * left[-1] * right[-1]
    shape = outer + (() if len(a.shape) == 1 else left[-2:-1]) + (() if len(b.shape) == 1 else right[-1:])
    return [Known(one_type(at, [a, b], FLOATS), shape)]


def _gemm(at: At) -> list[Known]:
    a, b = at.input(0), at.input(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        at.bad("an input is no matrix")
    m, k = a.shape[::-1] if at.flag("transA") else a.shape
    k2, n = b.shape[::-1] if at.flag("transB") else b.shape
    if k != k2:
        at.bad(f"shapes {list(a.shape)} and {list(b.shape)} do not fit together")
    if at.has(2) and broadcast(at, at.input(2).shape, (m, n)) != (m, n):
        at.bad("its input C is larger than its output")
    at.work += m * k * n
    return [Known(one_type(at, [k for k in at.inputs if k is not None], FLOATS), (m, n))]


_ANY = FLOATS + WHOLE + ("bool",)
RULES: dict[str, Rule] = {
    **{"Add": _arithmetic(np.add), "Sub": _arithmetic(np.subtract), "Mul": _arithmetic(np.multiply)},
    **{"Div": _divide, "Mod": _divide, "Pow": _power},
    **{"Min": _arithmetic(), "Max": _arithmetic(), "Sum": _arithmetic(), "Mean": _arithmetic()},
    **{"Equal": _compare(np.equal), "Less": _compare(np.less), "Greater": _compare(np.greater)},
    **{"LessOrEqual": _compare(np.less_equal), "GreaterOrEqual": _compare(np.greater_equal)},
    **{"And": _logical(np.logical_and), "Or": _logical(np.logical_or), "Xor": _logical(np.logical_xor)},
    **{"Not": same(("bool",), fold=np.logical_not), "Where": _where, "IsNaN": _is, "IsInf": _is},
    **{"Neg": same(FLOATS + WHOLE, fold=np.negative), "Abs": same(FLOATS + WHOLE, fold=np.abs)},
    **{"Sign": same(FLOATS + WHOLE), "Identity": same(_ANY, fold=lambda v: v)},
    **dict.fromkeys(("Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "HardSwish"), same()),
    **dict.fromkeys(("Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Softsign"), same()),
    **dict.fromkeys(("Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Sigmoid", "Tanh"), same(work=20)),
    **dict.fromkeys(("Erf", "Exp", "Log", "Sin", "Cos", "Swish"), same(work=20)),
    **{"PRelu": _slope, "Clip": _clip, "Dropout": _dropout, "Cast": _cast},
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"), _reduce),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"), _reduce),
    **{"ArgMax": _arg, "ArgMin": _arg, "CumSum": _cumulative},
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along),
    **{"MatMul": _matmul, "Gemm": _gemm},
}
