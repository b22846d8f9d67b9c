"""LightGBM's text format (`booster.save_model`, versions v3 and v4) read without LightGBM.

LightGBM's own loader trusts the file: a wrong child index crashes or hangs the process. Here every field is counted
and checked before it is used, every node must be met exactly once, and what this version cannot evaluate exactly is
refused by name. Layout of a file, and of this module:

    tree            header: key=value lines up to a blank line (`_header`)
    Tree=k          one block a tree, of the size that the header's tree_sizes gives (`_tree`)
    end of trees    tail: feature importances, training parameters, pandas categories (`_check_tail`)

What LightGBM does with a row, and the trees made here repeat: values within 1e-35 of zero count as zero; NaN counts as
zero where the node's missing type is None, and zero as NaN where it is Zero; x <= threshold goes left; a category goes
left where it is in the node's set, NaN and negative numbers right. (Tree::NumericalDecision and CategoricalDecision in
tree.h, RowFunctionFromDenseMatrix in c_api.cpp of LightGBM 4.)
"""

from __future__ import annotations

import re
from array import array
from itertools import pairwise

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.kernels.forest_codes import CATEGORY, MISSING_LEFT, TINY, ZERO
from ubp_sql.models.forest import Forest, Tree, next_below, round_down
from ubp_sql.models.lightgbm_fields import decode, read_fields, read_floats, read_ints, read_lines, show
from ubp_sql.models.lightgbm_objective import read_objective
from ubp_sql.models.limits import (
    MAX_CATEGORY_WORDS,
    MAX_FEATURES,
    MAX_LEAVES,
    MAX_OUTPUTS,
    MAX_TEXT_BYTES,
    MAX_TREES,
    other_format,
)

_HEADER_NEEDED = (
    *("version", "num_class", "num_tree_per_iteration", "max_feature_idx"),
    *("feature_names", "feature_infos", "tree_sizes"),
)
_HEADER_KNOWN = {*_HEADER_NEEDED, "label_index", "objective", "average_output", "monotone_constraints"}
_TREE_NEEDED = (
    *("num_leaves", "num_cat", "split_feature", "threshold"),
    *("decision_type", "left_child", "right_child", "leaf_value"),
)
_NODE_EXTRA = ("split_gain", "internal_value", "internal_weight", "internal_count")
_LEAF_EXTRA = ("leaf_weight", "leaf_count")
_CATEGORIES = ("cat_boundaries", "cat_threshold")
_TREE_KNOWN = {*_TREE_NEEDED, *_NODE_EXTRA, *_LEAF_EXTRA, "is_linear", "shrinkage"}
_ENDLESS = frozenset((b"inf", b"-inf"))  # as a threshold: a split of NaN from all the rest
_UNKNOWN = frozenset((b"nan", b"-nan"))
_RANGE = re.compile(r"\[[-+.0-9a-z]{1,40}:[-+.0-9a-z]{1,40}\]", re.ASCII)
_MISSING_ZERO, _MISSING_NAN = 1, 2  # bits 2 and 3 of a decision type
_PARAMETER = re.compile(r"\[\w+: [^\x00-\x1f]*\]", re.ASCII)


def parse(data: bytes) -> Forest:
    """The forest in the bytes of a LightGBM model file.

    Raises InvalidModel (UB006) for bytes that are not such a file, damaged, inconsistent or over a limit, and
    UnsupportedModel (UB007) for a model that cannot be evaluated exactly here: linear trees, categories of a pandas
    column, custom objectives, a later version.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidModel(f"the model has {len(data)} bytes, at most {MAX_TEXT_BYTES} are read")
    if found := other_format(data):
        raise InvalidModel(f"this is {found[0]}, not a LightGBM text model", found[1])
    if not data.startswith(b"tree\n"):
        hint = "the file has Windows line ends; copy it as binary" if data.startswith(b"tree\r") else None
        raise InvalidModel("the model does not begin with the line 'tree' of LightGBM's text format", hint)
    end = data.find(b"\n\n")
    if end < 0:
        raise InvalidModel("header: the file ends before the first tree")
    header = read_fields(read_lines(data[5:end], len(_HEADER_KNOWN), "header"), "header", _HEADER_NEEDED)
    if unknown := header.keys() - _HEADER_KNOWN:
        raise UnsupportedModel(f"header: field {min(unknown)[:40]!a} is not known")
    names, infos, sizes = _header(header)
    objective, link, parameter, outputs = read_objective(header)
    _check_outputs(header, objective, outputs, len(sizes))
    trees = []
    position, leaves, words = end + 2, 0, 0
    for k, size in enumerate(sizes):
        tree = _tree(data[position : position + size], k, len(names), MAX_LEAVES - leaves, MAX_CATEGORY_WORDS - words)
        trees.append(tree)
        position += size
        leaves += len(tree.leaf_value)
        words += sum(map(len, tree.sets))
    _check_tail(data[position:], names)
    forest = Forest(tuple(trees), names, infos, objective, link, parameter, "average_output" in header, outputs)
    forest.validate()
    return forest


def _header(header: dict[str, bytes]) -> tuple[tuple[str, ...], tuple[str, ...], list[int]]:
    """Feature names, feature infos and tree sizes, after the checks of all other header fields."""
    if header["version"] not in (b"v3", b"v4"):
        raise UnsupportedModel(f"header: version {show(header['version'])} of the text format, known are v3 and v4")
    read_ints(header.get("label_index", b"0"), 1, "header", "label_index", -1, 2**31 - 1)
    n_features = read_ints(header["max_feature_idx"], 1, "header", "max_feature_idx", 0, MAX_FEATURES - 1)[0] + 1
    if header.get("average_output"):
        raise InvalidModel("header: average_output takes no value")
    for key in ("feature_names", "feature_infos"):
        if (found := header.get(key, b"").count(b" ") + 1) != n_features:
            raise InvalidModel(f"header: {key}: expected {n_features} entries, found {found}")
    names = tuple(decode(header["feature_names"], "header: feature_names").split(" "))
    if len(set(names)) != n_features or not all(names) or not all(map(str.isprintable, names)) or names[0][0] == "=":
        raise InvalidModel("header: feature_names: a name occurs twice, is empty or has control characters")
    infos = tuple(decode(header["feature_infos"], "header: feature_infos").split(" "))
    if not all(i == "none" or _RANGE.fullmatch(i) or (i and not i.strip("-0123456789:")) for i in infos):
        raise InvalidModel("header: feature_infos: an entry is neither 'none' nor a range nor a list of categories")
    if constraints := header.get("monotone_constraints"):
        read_ints(constraints, n_features, "header", "monotone_constraints", -1, 1)
    if header["tree_sizes"].count(b" ") >= MAX_TREES:
        raise InvalidModel(f"header: tree_sizes: more than {MAX_TREES} trees")
    return names, infos, read_ints(header["tree_sizes"], None, "header", "tree_sizes", 1, MAX_TEXT_BYTES)


def _check_outputs(header: dict[str, bytes], objective: str, outputs: int, trees: int) -> None:
    """The header's two counts of outputs are the objective's, and each output has equally many trees."""
    for key in ("num_class", "num_tree_per_iteration"):
        found = read_ints(header[key], 1, "header", key, 1, MAX_OUTPUTS)[0]
        if found != outputs:
            raise InvalidModel(f"header: {key} is {found}, the objective {objective} has {outputs}")
    if trees % outputs:
        raise InvalidModel(f"header: tree_sizes: {trees} trees cannot be shared out to {outputs} outputs")


def _tree(block: bytes, k: int, n_features: int, leaves_left: int, words_left: int) -> Tree:
    """Tree k from its block of the file; `Forest.validate` checks the shape afterwards."""
    where = f"tree {k}"
    title = b"Tree=%d\n" % k
    if not (block.startswith(title) and block.endswith(b"\n\n\n")):
        raise InvalidModel(f"{where}: not found where tree_sizes says it lies, or of another size")
    fields = read_fields(read_lines(block[len(title) : -3], 40, where), where, _TREE_NEEDED[:2])
    if fields.get("is_linear", b"0") != b"0":
        raise UnsupportedModel(
            f"{where}: is_linear: linear trees are not supported: their leaves are sums of features, not numbers",
            "train with linear_tree=false",
        )
    known = _TREE_KNOWN.union(_CATEGORIES) if fields["num_cat"] != b"0" else _TREE_KNOWN
    if unknown := fields.keys() - known:
        raise UnsupportedModel(f"{where}: field {min(unknown)[:40]!a} is not known")
    if missing := [key for key in _TREE_NEEDED if key not in fields]:
        raise InvalidModel(f"{where}: {missing[0]} is missing")
    leaves = read_ints(fields["num_leaves"], 1, where, "num_leaves", 1, 2**31 - 1)[0]
    if leaves > leaves_left:
        raise InvalidModel(f"{where}: num_leaves: the model has more than {MAX_LEAVES} leaves")
    n = leaves - 1
    cover = None
    for key, count in (*((key, n) for key in _NODE_EXTRA), *((key, leaves) for key in _LEAF_EXTRA), ("shrinkage", 1)):
        if fields.get(key):  # not needed for a score, but a file that breaks here is damaged, and LightGBM aborts
            values = read_floats(fields[key], count, where, key, _ENDLESS | _UNKNOWN)
            cover = array("d", values) if key == "leaf_count" else cover
    threshold = read_floats(fields["threshold"], n, where, "threshold", _ENDLESS)
    decision = read_ints(fields["decision_type"], n, where, "decision_type", 0, 15)
    if any(d >> 2 > _MISSING_NAN for d in decision):
        raise InvalidModel(f"{where}: decision_type: a missing type that does not exist")
    sets = _sets(fields, n, words_left, where)
    if not all(0 <= t < len(sets) and t.is_integer() for d, t in zip(decision, threshold, strict=True) if d & 1):
        raise InvalidModel(f"{where}: threshold: a categorical split names a set that the tree does not have")
    numbers = [t if d & 1 else _zero_widened(t) for d, t in zip(decision, threshold, strict=True)]
    return Tree(
        feature=array("i", read_ints(fields["split_feature"], n, where, "split_feature", 0, n_features - 1)),
        threshold=round_down(numbers),
        left=array("i", read_ints(fields["left_child"], n, where, "left_child", -leaves, n - 1)),
        right=array("i", read_ints(fields["right_child"], n, where, "right_child", -leaves, n - 1)),
        flags=bytes(map(_flags, decision, threshold)),
        leaf_value=array("d", read_floats(fields["leaf_value"], leaves, where, "leaf_value")),
        sets=sets,
        cover=cover,
    )


def _sets(fields: dict[str, bytes], nodes: int, words_left: int, where: str) -> tuple[array[int], ...]:
    """The tree's sets of categories: cat_threshold cut at cat_boundaries."""
    count = read_ints(fields["num_cat"], 1, where, "num_cat", 0, nodes)[0]
    if not count:
        return ()
    if missing := [key for key in _CATEGORIES if key not in fields]:
        raise InvalidModel(f"{where}: {missing[0]} is missing")
    cuts = read_ints(fields["cat_boundaries"], count + 1, where, "cat_boundaries", 0, words_left)
    if cuts[0] != 0 or cuts != sorted(cuts):
        raise InvalidModel(f"{where}: cat_boundaries: they do not ascend from 0")
    words = array("I", read_ints(fields["cat_threshold"], cuts[-1], where, "cat_threshold", 0, 2**32 - 1))
    return tuple(words[a:b] or array("I", [0]) for a, b in pairwise(cuts))


def _flags(decision: int, threshold: float) -> int:
    """A node's flags from its decision type: bit 0 categorical, bit 1 missing goes left, bits 2-3 what is missing."""
    if decision & 1:
        return CATEGORY
    default, zero = decision >> 1 & 1, int(threshold >= 0.0)
    missing = decision >> 2
    if missing == _MISSING_ZERO and default != zero:
        return ZERO | MISSING_LEFT * default
    # Where nothing is missing, NaN goes where zero goes; where zero is missing and goes there anyway, so does NaN.
    return MISSING_LEFT * (default if missing == _MISSING_NAN else zero)


def _zero_widened(t: float) -> float:
    """A threshold that treats values within 1e-35 of zero as LightGBM does, which replaces them by zero first."""
    if -TINY <= t < TINY:
        return TINY if t >= 0.0 else next_below(-TINY)
    return t


def _check_tail(tail: bytes, names: tuple[str, ...]) -> None:
    """Refuse a file that ends early, goes on after its end, or has trees that tree_sizes does not count."""
    if not tail.startswith(b"end of trees\n"):
        raise InvalidModel("tail: 'end of trees' is not found where tree_sizes says it lies")
    lines = [decode(line, "tail") for line in read_lines(tail, len(names) + 1000, "tail") if line]
    try:
        importances, parameters = lines.index("feature_importances:"), lines.index("parameters:")
        end = lines.index("end of parameters")
    except ValueError:
        raise InvalidModel("tail: the file ends early: importances, parameters or their end is missing") from None
    known = set(names)
    for line in lines[importances + 1 : parameters]:
        if line.rpartition("=")[0] not in known:
            raise InvalidModel(f"tail: feature_importances: {line[:40]!a} names no feature")
    if importances != 1 or not all(map(_PARAMETER.fullmatch, lines[parameters + 1 : end])):
        raise InvalidModel("tail: a line that belongs to no section")
    for line in lines[end + 1 :]:
        if not line.startswith("pandas_categorical:") or len(lines) > end + 2:
            raise InvalidModel(f"tail: {line[:40]!a} after the end of the model")
        if line not in ("pandas_categorical:null", "pandas_categorical:[]"):
            if line.startswith("pandas_categorical:[") and line.endswith("]"):
                raise UnsupportedModel(
                    "tail: pandas_categorical: the model expects categories of a pandas column",
                    "train on numbers, with categorical_feature for those that are categories",
                )
            raise InvalidModel("tail: pandas_categorical: malformed")
