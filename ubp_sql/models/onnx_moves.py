"""Operators that move, cut, repeat and make tensors, and the shape of what each makes.

What such an operator makes must be known before it runs: a shape that comes from a row's values is refused.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ubp_sql.models.onnx_graph import Tensor
from ubp_sql.models.onnx_operators import FLOATS, WHOLE, broadcast, folded, one_type, without
from ubp_sql.models.onnx_shapes import At, Known, Rule, Shape, constant, of_tensor

MAX_DIMENSIONS = 8


def _reshape(at: At) -> list[Known]:
    x, wanted = at.input(), at.known(1)
    if len(wanted) > MAX_DIMENSIONS or any(n < -1 for n in wanted) or wanted.count(-1) > 1:
        at.bad(f"to the shape {wanted[:20]}")
    if not at.flag("allowzero"):
        if any(n == 0 and a >= len(x.shape) for a, n in enumerate(wanted)):
            at.bad(f"to the shape {wanted}: there is no dimension to copy")
        wanted = [x.shape[a] if n == 0 else n for a, n in enumerate(wanted)]
    rest = -prod(wanted) if -1 in wanted else 0
    shape = tuple((x.elements // rest if rest else -1) if n == -1 else n for n in wanted)
    if prod(shape) != x.elements:
        at.bad(f"{list(x.shape)} has not as many numbers as {wanted}")
    return [folded(x.dtype, shape, [x], lambda v: v)]


def _flatten(at: At) -> list[Known]:
    x, axis = at.input(), at.number("axis", 1)
    if axis != len(x.shape):
        axis = at.axis(axis, len(x.shape))
    return [folded(x.dtype, (prod(x.shape[:axis]), prod(x.shape[axis:])), [x], lambda v: v)]


def _transpose(at: At) -> list[Known]:
    x = at.input()
    order = at.numbers("perm") or [*reversed(range(len(x.shape)))]
    if sorted(order) != [*range(len(x.shape))]:
        at.bad(f"order {order[:20]} of {len(x.shape)} dimensions")
    return [folded(x.dtype, tuple(x.shape[a] for a in order), [x], lambda v: v.transpose(order))]


def _squeeze(at: At) -> list[Known]:
    x, axes = at.input(), at.from_both("axes", 1)
    gone = {at.axis(a, len(x.shape)) for a in axes} if axes else {a for a, n in enumerate(x.shape) if n == 1}
    if any(x.shape[a] != 1 for a in gone):
        at.bad(f"a dimension of {list(x.shape)} that is not 1")
    return [folded(x.dtype, without(x.shape, gone, False), [x], lambda v: v)]


def _unsqueeze(at: At) -> list[Known]:
    x, axes = at.input(), at.from_both("axes", 1)
    rank = len(x.shape) + len(axes or ())
    new = {at.axis(a, rank) for a in axes or ()}
    if not axes or len(new) != len(axes) or rank > MAX_DIMENSIONS:
        at.bad(f"axes {axes}")
    sizes = iter(x.shape)
    return [folded(x.dtype, tuple(1 if a in new else next(sizes) for a in range(rank)), [x], lambda v: v)]


def _concat(at: At) -> list[Known]:
    inputs = at.all_inputs()
    first = inputs[0].shape
    axis = at.axis(at.number("axis"), len(first))
    others = first[:axis] + first[axis + 1 :]
    if any(len(k.shape) != len(first) or k.shape[:axis] + k.shape[axis + 1 :] != others for k in inputs):
        at.bad(f"shapes {' and '.join(str(list(k.shape)) for k in inputs[:10])} do not fit together")
    shape = (*first[:axis], sum(k.shape[axis] for k in inputs), *first[axis + 1 :])
    dtype = one_type(at, inputs, FLOATS + WHOLE + ("bool",))
    return [folded(dtype, shape, inputs, lambda *v: np.concatenate(v, axis))]


def _slice(at: At) -> list[Known]:
    x = at.input()
    starts, ends = at.from_both("starts", 1), at.from_both("ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        at.bad("starts and ends are missing or differ in number")
    axes = at.from_both("axes", 3) or [*range(len(starts))]
    steps = (at.known(4) if at.has(4) else None) or [1] * len(starts)
    if not len(axes) == len(steps) == len(starts) or 0 in steps:
        at.bad("axes or steps are not as many as starts, or a step is 0")
    cut = [slice(None)] * len(x.shape)
    for a, *bounds in zip(axes, starts, ends, steps, strict=True):
        cut[at.axis(a, len(x.shape))] = slice(*bounds)
    shape = tuple(len(range(*s.indices(n))) for s, n in zip(cut, x.shape, strict=True))
    return [folded(x.dtype, shape, [x], lambda v: v[tuple(cut)])]


def _split(at: At) -> list[Known]:
    x = at.input()
    axis = at.axis(at.number("axis", 0), len(x.shape))
    sizes, n = at.from_both("split", 1), len(at.node.outputs)
    if sizes is None:
        if at.number("num_outputs", n) != n:
            at.bad(f"num_outputs is not the number of its outputs, {n}")
        each = -(-x.shape[axis] // n)
        sizes = [each] * (n - 1) + [x.shape[axis] - each * (n - 1)]
    if len(sizes) != n or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        at.bad(f"{x.shape[axis]} into {sizes[:20]}")
    ends = [sum(sizes[: k + 1]) for k in range(n)]
    return [
        folded(
            x.dtype,
            (*x.shape[:axis], size, *x.shape[axis + 1 :]),
            [x],
            lambda v, a=end - size, b=end: v.take(range(a, b), axis),
        )
        for size, end in zip(sizes, ends, strict=True)
    ]


def _gather(at: At) -> list[Known]:
    x, where = at.input(0), at.input(1)
    one_type(at, [where], WHOLE)
    axis = at.axis(at.number("axis", 0), len(x.shape))
    n = x.shape[axis]
    if where.value is not None and where.value.size and not -n <= where.value.min() <= where.value.max() < n:
        at.bad(f"it reads beyond the {n} entries of its axis")
    shape = x.shape[:axis] + where.shape + x.shape[axis + 1 :]
    return [folded(x.dtype, shape, [x, where], lambda v, w: v.take(w, axis))]


def _gather_elements(at: At) -> list[Known]:
    x, where = at.input(0), at.input(1)
    one_type(at, [where], WHOLE)
    axis = at.axis(at.number("axis", 0), len(x.shape))
    if len(where.shape) != len(x.shape) or any(
        w > n for a, (w, n) in enumerate(zip(where.shape, x.shape, strict=True)) if a != axis
    ):
        at.bad("its indices are larger than its input")
    return [Known(x.dtype, where.shape)]


def _wanted(at: At, k: int) -> Shape:
    shape = tuple(at.known(k))
    if len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
        at.bad(f"to the shape {list(shape[:20])}")
    return shape


def _expand(at: At) -> list[Known]:
    x = at.input()
    shape = broadcast(at, x.shape, _wanted(at, 1))
    return [folded(x.dtype, shape, [x], lambda v: np.broadcast_to(v, shape))]


def _tile(at: At) -> list[Known]:
    x, times = at.input(), _wanted(at, 1)
    if len(times) != len(x.shape):
        at.bad("not as many repeats as dimensions")
    return [
        folded(x.dtype, tuple(n * t for n, t in zip(x.shape, times, strict=True)), [x], lambda v: np.tile(v, times))
    ]


def _shape(at: At) -> list[Known]:
    shape = at.input().shape
    return [constant(np.array(shape[slice(at.number("start", 0), at.number("end", len(shape)))], np.int64))]


def _size(at: At) -> list[Known]:
    return [constant(np.array(at.input().elements, np.int64))]


def _constant(at: At) -> list[Known]:
    (name, value), *more = at.node.attributes.items() or [("", None)]
    if more or name not in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        at.unsupported("its value is no number, list of numbers or tensor")
    if isinstance(value, Tensor):
        return [of_tensor(value)]
    whole = isinstance(value, int) or getattr(value, "typecode", "") == "q"
    return [constant(np.array(value, np.int64 if whole else np.float32))]


def _constant_of_shape(at: At) -> list[Known]:
    shape, value = _wanted(at, 0), at.node.attributes.get("value", Tensor("float32", (1,), bytes(4)))
    if not isinstance(value, Tensor) or prod(value.shape) != 1:
        at.bad("its value is no tensor of one number")
    one = of_tensor(value)
    return [folded(one.dtype, shape, [one], lambda v: np.full(shape, v.reshape(())))]


def _range(at: At) -> list[Known]:
    parts = [at.known(k) for k in range(3)]
    dtype = one_type(at, at.all_inputs(), WHOLE)
    if any(len(part) != 1 for part in parts) or parts[2][0] == 0:
        at.bad("its bounds are no single numbers, or the step is 0")
    start, stop, step = (part[0] for part in parts)
    n = max(0, -((start - stop) // step))
    return [folded(dtype, (n,), at.all_inputs(), lambda *_: np.arange(n) * step + start)]


def _pad(at: At) -> list[Known]:
    x, pads = at.input(), at.from_both("pads", 1)
    mode = at.text("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    rank = len(x.shape)
    axes = [at.axis(a, rank) for a in at.known(3)] if at.has(3) else [*range(rank)]
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        at.bad("pads are not two for each axis")
    shape = list(x.shape)
    for a, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        n = x.shape[a]
        if min(before, after) < -n or (mode != "constant" and not 0 <= min(before, after) <= max(before, after) < n):
            at.bad(f"pads {before} and {after} of a dimension of {n} with mode {mode}")
        shape[a] = n + before + after
        if shape[a] < 0:
            at.bad(f"pads {before} and {after} of a dimension of {n}")
    return [Known(x.dtype, tuple(shape))]


def _triangle(at: At) -> list[Known]:
    x = at.input()
    if len(x.shape) < 2:
        at.bad("its input is no matrix")
    return [Known(x.dtype, x.shape)]


MOVES: dict[str, Rule] = {
    **{"Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze},
    **{"Unsqueeze": _unsqueeze, "Concat": _concat, "Slice": _slice, "Split": _split, "Gather": _gather},
    **{"GatherElements": _gather_elements, "Expand": _expand, "Tile": _tile, "Shape": _shape, "Size": _size},
    **{"Constant": _constant, "ConstantOfShape": _constant_of_shape, "Range": _range, "Pad": _pad, "Trilu": _triangle},
}
