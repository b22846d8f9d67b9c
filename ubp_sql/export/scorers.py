"""Models as PL/pgSQL: a function of one row of features, real[], to the model's score.

A tree is a nested CASE, a forest one statement a tree: leaves are added in the order of the trees, in float64, as
models/walker.py adds them. Of six forms this was the second fastest and the shortest (docs/adr/0022-sql-tier.md).
"""

from collections.abc import Callable, Iterator

from ubp_sql.errors import UnsupportedModel
from ubp_sql.export.quoting import float8, single
from ubp_sql.kernels.forest_codes import (
    CATEGORY,
    EXP,
    IDENTITY,
    MISSING_LEFT,
    SIGMOID,
    SIGNED_SQUARE,
    TINY,
    ZERO,
)
from ubp_sql.models.blob import Blob
from ubp_sql.models.linear import Linear, LinearModel
from ubp_sql.models.loaded import Loaded, TreeModel
from ubp_sql.models.preparation_blob import PreparedModel

MOST_DEPTH = 1_000
"""Of a tree: PostgreSQL's parser recurses, and max_stack_depth is 2 MB."""
LEAST_WEIGHT, MOST_WEIGHT = 1e-250, 1e250
"""Times any float32 that is a float64 still: beyond, PostgreSQL raises an error where C says 0 or infinity."""
# Where exp() is not finite, and where it is 0: PostgreSQL raises errors there.
EXP_TOP, EXP_BOTTOM = 709.782712893384, -745.1332191019411
SQUARE_TOP, SQUARE_BOTTOM = 1.3407807929942596e154, 1.58e-162
NO_LOG1P = "its scores go through log1p, which PostgreSQL 15 does not have"


def scorer(loaded: Loaded) -> str:
    """The body of a function (f real[]) returns float8.

    Raises UnsupportedModel (UB007) for what has no such form, saying why.
    """
    if loaded.outputs != 1:
        raise _refused(f"it has {loaded.outputs} outputs, ubp.predict gives one", "train a binary model a class")
    if isinstance(loaded, TreeModel):
        return _forest(loaded.blob)
    if isinstance(loaded, LinearModel):
        return _linear(loaded.linear)
    what = "its features are prepared before it" if isinstance(loaded, PreparedModel) else "it is a neural network"
    raise _refused(what, "train trees, which take the features as they are")


def _refused(reason: str, hint: str) -> UnsupportedModel:
    return UnsupportedModel(f"the model has no form in SQL: {reason}", hint)


def _forest(blob: Blob) -> str:
    depth = _deepest(blob)
    if depth > MOST_DEPTH:
        raise _refused(f"a tree is {depth} levels deep, more than {MOST_DEPTH}", "train with a max_depth")
    used = sorted(set(blob.feature))
    lefts = {blob.feature[i] for i in range(len(blob.left)) if blob.node_flags[i] & MISSING_LEFT}
    declared = [f"  x{j} real := f[{j + 1}];" for j in used]
    # NaN is above every number in PostgreSQL, so it goes right; where it shall go left, it is taken for -Infinity.
    declared += [f"  y{j} real := case when x{j} = 'NaN' then '-Infinity' else x{j} end;" for j in sorted(lefts)]
    trees = [f"  s := s + {tree};" for tree in _trees(blob)]
    total = f"s / {float8(blob.divisor)}" if blob.divisor != 1.0 else "s"
    lines = ["declare", *declared, "  s float8 := 0;", "begin", *trees, f"  s := {total};"]
    return "\n".join([*lines, *_link(blob.link, blob.link_parameter), "end"])


def _deepest(blob: Blob) -> int:
    depth = [1] * len(blob.left)
    for i, children in enumerate(zip(blob.left, blob.right, strict=True)):
        for child in children:
            if child >= 0:
                depth[child] = depth[i] + 1
    return max(depth, default=0)


def _trees(blob: Blob) -> Iterator[str]:
    for k in range(blob.n_trees):
        first, last, origin = blob.node_first[k], blob.node_first[k + 1], blob.leaf_first[k]
        leaf = [float8(v) for v in blob.leaf_value[origin : blob.leaf_first[k + 1]]]
        node = [leaf[0]] if last == first else [""] * (last - first)
        # Children come after their parents: backwards, both texts are there when the parent needs them.
        for i in range(last - 1, first - 1, -1):
            a, b = blob.left[i], blob.right[i]
            yes = node[a - first] if a >= 0 else leaf[~a - origin]
            no = node[b - first] if b >= 0 else leaf[~b - origin]
            node[i - first] = f"case when {_goes_left(blob, i)} then {yes} else {no} end"
        yield node[0]


def _goes_left(blob: Blob, i: int) -> str:
    """The condition of node i; x and y as _forest declares them."""
    j, flags = blob.feature[i], blob.node_flags[i]
    if flags & CATEGORY:
        return _in_set(blob, i)
    limit = single(blob.threshold[i])
    zero = f"x{j} between {single(-TINY)} and {single(TINY)}"
    if flags & MISSING_LEFT:
        return f"y{j}<={limit} or {zero}" if flags & ZERO else f"y{j}<={limit}"
    return f"x{j}<={limit} and not {zero}" if flags & ZERO else f"x{j}<={limit}"


def _in_set(blob: Blob, i: int) -> str:
    x, number = f"x{blob.feature[i]}", int(blob.threshold[i])
    words = blob.set_words[blob.set_first[number] : blob.set_first[number + 1]]
    held = b"".join(word.to_bytes(4, "little") for word in words)
    bit = f"get_bit(decode('{held.hex()}','hex'),trunc({x})::integer)=1"
    inside = f"case when {x}>-1 and {x}<{8 * len(held)} then {bit} else false end"
    return f"{x}='NaN' or {inside}" if blob.node_flags[i] & MISSING_LEFT else inside


def _linear(linear: Linear) -> str:
    """As LinearModel sums: the bias, then the features in their order; what misses a value and has none gives NaN."""
    terms = []
    for i, (w, instead) in enumerate(zip(linear.weight, linear.missing, strict=True)):
        if not w and not instead:  # a value of NaN counts as one
            continue
        if w and not LEAST_WEIGHT < abs(w) < MOST_WEIGHT:
            raise _refused(f"the weight {w!r} of feature {i + 1} is out of all bounds", "leave the feature out")
        x = f"f[{i + 1}]"
        terms.append(f"  s := s + case when {x} = 'NaN' then {float8(instead)} else {float8(w)} * {x} end;")
    lines = ["declare", f"  s float8 := {float8(linear.bias[0])};", "begin", *terms]
    lines += ["  if s = 'NaN' then", "    return s;", "  end if;"]  # it is above every number
    return "\n".join([*lines, *_link(linear.link, linear.link_parameter), "end"])


_POWER = f"case when s > {EXP_TOP!r} then 'Infinity' when s < {EXP_BOTTOM!r} then 0 else exp(s) end"


_LINKS: dict[int, Callable[[float], list[str]]] = {
    IDENTITY: lambda _: ["  return s;"],
    SIGMOID: lambda parameter: [f"  s := {float8(-parameter)} * s;", f"  return 1 / (1 + {_POWER});"],
    EXP: lambda _: [f"  return {_POWER};"],
    SIGNED_SQUARE: lambda _: [
        f"  return case when abs(s) > {SQUARE_TOP!r} then sign(s) * 'Infinity'::float8",
        f"              when abs(s) < {SQUARE_BOTTOM!r} then 0 else sign(s) * s * s end;",
    ],
}


def _link(link: int, parameter: float) -> list[str]:
    if link not in _LINKS:
        raise _refused(NO_LOG1P, "train with another objective")
    return _LINKS[link](parameter)
