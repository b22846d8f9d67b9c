"""LightGBM's text format (`booster.save_model`, versions v3 and v4) read without LightGBM.

LightGBM's own loader trusts the file: a wrong child index crashes or hangs the process. Here every field is counted
and checked before it is used, every node must be met exactly once, and what this version cannot evaluate exactly is
refused by name. Layout of a file, and of this module:

    tree            header: key=value lines up to a blank line (`_header`)
    Tree=k          one block a tree, of the size that the header's tree_sizes gives (`_tree`)
    end of trees    tail: feature importances, training parameters, pandas categories (`_check_tail`)

What LightGBM does with a row, and the trees made here repeat: values within 1e-35 of zero count as zero; NaN counts as
zero where the node's missing type is None; x <= threshold goes left. (Tree::NumericalDecision in tree.h and
RowFunctionFromDenseMatrix in c_api.cpp of LightGBM 4.)
"""

from __future__ import annotations

import math
import re
from array import array

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.forest import Forest, Link, Tree, next_below, round_down
from ubp_sql.models.limits import MAX_FEATURES, MAX_LEAVES, MAX_TEXT_BYTES, MAX_TREES, other_format

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
_TREE_KNOWN = {*_TREE_NEEDED, *_NODE_EXTRA, *_LEAF_EXTRA, "is_linear", "shrinkage"}
_ENDLESS = frozenset((b"inf", b"-inf"))  # as a threshold: a split of NaN from all the rest
_UNKNOWN = frozenset((b"nan", b"-nan"))
# Objectives whose score is the plain sum; their numeric settings (alpha, c) are not in the file and do not matter.
_IDENTITY = {"regression", "regression_l1", "huber", "fair", "quantile", "mape"}
_SIGMOID = re.compile(r"sigmoid:(\d{1,15})(?:\.(\d{1,15}))?(?:e([+-])(\d{1,2}))?", re.ASCII)
_RANGE = re.compile(r"\[[-+.0-9a-z]{1,40}:[-+.0-9a-z]{1,40}\]", re.ASCII)
_PARAMETER = re.compile(r"\[\w+: [^\x00-\x1f]*\]", re.ASCII)
_ZERO = array("f", [1e-35])[0]  # LightGBM's kZeroThreshold


def parse(data: bytes) -> Forest:
    """The forest in the bytes of a LightGBM model file.

    Raises InvalidModel (UB006) for bytes that are not such a file, damaged, inconsistent or over a limit, and
    UnsupportedModel (UB007) for a model that cannot be evaluated exactly here: categorical splits, linear trees,
    several outputs, zero as missing, custom or other objectives.
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
    header = _fields(_lines(data[5:end], len(_HEADER_KNOWN), "header"), "header", _HEADER_NEEDED)
    names, infos, sizes = _header(header)
    objective, link, parameter = _objective(header)
    trees = []
    position, leaves = end + 2, 0
    for k, size in enumerate(sizes):
        tree = _tree(data[position : position + size], k, len(names), MAX_LEAVES - leaves)
        trees.append(tree)
        position += size
        leaves += len(tree.leaf_value)
    _check_tail(data[position:], names)
    forest = Forest(tuple(trees), names, infos, objective, link, parameter, "average_output" in header)
    forest.validate()
    return forest


def _header(header: dict[str, bytes]) -> tuple[tuple[str, ...], tuple[str, ...], list[int]]:
    """Feature names, feature infos and tree sizes, after the checks of all other header fields."""
    if header["version"] not in (b"v3", b"v4"):
        raise UnsupportedModel(f"header: version {_show(header['version'])} of the text format, known are v3 and v4")
    for key in ("num_class", "num_tree_per_iteration"):
        if _ints(header[key], 1, "header", key, 1, 1_000_000)[0] != 1:
            raise UnsupportedModel(f"header: {key} is {int(header[key])}; models of several outputs are not supported")
    _ints(header.get("label_index", b"0"), 1, "header", "label_index", -1, 2**31 - 1)
    n_features = _ints(header["max_feature_idx"], 1, "header", "max_feature_idx", 0, MAX_FEATURES - 1)[0] + 1
    if header.get("average_output"):
        raise InvalidModel("header: average_output takes no value")
    for key in ("feature_names", "feature_infos"):
        if (found := header.get(key, b"").count(b" ") + 1) != n_features:
            raise InvalidModel(f"header: {key}: expected {n_features} entries, found {found}")
    names = tuple(_text(header["feature_names"], "header: feature_names").split(" "))
    if len(set(names)) != n_features or not all(names) or not all(map(str.isprintable, names)) or names[0][0] == "=":
        raise InvalidModel("header: feature_names: a name occurs twice, is empty or has control characters")
    infos = tuple(_text(header["feature_infos"], "header: feature_infos").split(" "))
    if not all(i == "none" or _RANGE.fullmatch(i) or (i and not i.strip("-0123456789:")) for i in infos):
        raise InvalidModel("header: feature_infos: an entry is neither 'none' nor a range nor a list of categories")
    if constraints := header.get("monotone_constraints"):
        _ints(constraints, n_features, "header", "monotone_constraints", -1, 1)
    if header["tree_sizes"].count(b" ") >= MAX_TREES:
        raise InvalidModel(f"header: tree_sizes: more than {MAX_TREES} trees")
    return names, infos, _ints(header["tree_sizes"], None, "header", "tree_sizes", 1, MAX_TEXT_BYTES)


def _objective(header: dict[str, bytes]) -> tuple[str, Link, float]:
    """Name, link and the link's parameter of the header's objective line."""
    if "objective" not in header:
        raise UnsupportedModel("header: no objective: the model was trained with a custom one, its link is unknown")
    objective = _text(header["objective"][:100], "header: objective")  # the longest known has 45 characters
    name, *options = objective.split(" ")
    if name in _IDENTITY and not options:
        return name, Link.IDENTITY, 1.0
    if name == "cross_entropy" and not options:
        return name, Link.SIGMOID, 1.0
    if name == "binary" and len(options) == 1 and (match := _SIGMOID.fullmatch(options[0])):
        parameter = _short_number(*match.groups())
        if not parameter > 0:
            raise InvalidModel(f"header: objective: {options[0]!r} must be above 0")
        return name, Link.SIGMOID, parameter
    raise UnsupportedModel(
        f"header: objective {_show(header['objective'])} is not supported",
        f"supported are binary, cross_entropy, {', '.join(sorted(_IDENTITY))}, without further options",
    )


def _short_number(whole: str, fraction: str | None, sign: str | None, exponent: str | None) -> float:
    """A number of the objective line by the steps of LightGBM's Atof, which rounds twice where strtod rounds once."""
    value = float(whole)
    if fraction:
        value += float(fraction) / 10.0 ** len(fraction)
    scale = 10.0 ** int(exponent or 0)
    return value / scale if sign == "-" else value * scale


def _tree(block: bytes, k: int, n_features: int, leaves_left: int) -> Tree:
    """Tree k from its block of the file; `Forest.validate` checks the shape afterwards."""
    where = f"tree {k}"
    title = b"Tree=%d\n" % k
    if not (block.startswith(title) and block.endswith(b"\n\n\n")):
        raise InvalidModel(f"{where}: not found where tree_sizes says it lies, or of another size")
    fields = _fields(_lines(block[len(title) : -3], 40, where), where, _TREE_NEEDED[:2])
    if _ints(fields["num_cat"], 1, where, "num_cat", 0, 2**31 - 1)[0]:
        raise UnsupportedModel(f"{where}: num_cat: splits on categories are not supported")
    if fields.get("is_linear", b"0") != b"0":
        raise UnsupportedModel(f"{where}: is_linear: linear trees are not supported")
    if unknown := fields.keys() - _TREE_KNOWN:
        raise UnsupportedModel(f"{where}: field {min(unknown)[:40]!a} is not known")
    if missing := [key for key in _TREE_NEEDED if key not in fields]:
        raise InvalidModel(f"{where}: {missing[0]} is missing")
    leaves = _ints(fields["num_leaves"], 1, where, "num_leaves", 1, 2**31 - 1)[0]
    if leaves > leaves_left:
        raise InvalidModel(f"{where}: num_leaves: the model has more than {MAX_LEAVES} leaves")
    n = leaves - 1
    for key, count in (*((key, n) for key in _NODE_EXTRA), *((key, leaves) for key in _LEAF_EXTRA), ("shrinkage", 1)):
        if fields.get(key):  # not needed for a score, but a file that breaks here is damaged, and LightGBM aborts
            _floats(fields[key], count, where, key, _ENDLESS | _UNKNOWN)
    threshold = _floats(fields["threshold"], n, where, "threshold", _ENDLESS)
    decision = _ints(fields["decision_type"], n, where, "decision_type", 0, 15)
    if any(d & 1 or d >> 2 == 3 for d in decision):
        raise InvalidModel(f"{where}: decision_type: a categorical split or missing type that the tree cannot have")
    if any(d >> 2 == 1 for d in decision):
        raise UnsupportedModel(f"{where}: decision_type: zero as missing is not supported")
    return Tree(
        feature=array("i", _ints(fields["split_feature"], n, where, "split_feature", 0, n_features - 1)),
        threshold=round_down(list(map(_zero_widened, threshold))),
        left=array("i", _ints(fields["left_child"], n, where, "left_child", -leaves, n - 1)),
        right=array("i", _ints(fields["right_child"], n, where, "right_child", -leaves, n - 1)),
        # bit 1: NaN's default is left; missing type (bits 2-3) None: NaN is zero
        nan_left=bytes(d >> 1 & 1 if d >> 2 == 2 else t >= 0.0 for d, t in zip(decision, threshold, strict=True)),
        leaf_value=array("d", _floats(fields["leaf_value"], leaves, where, "leaf_value")),
    )


def _zero_widened(t: float) -> float:
    """A threshold that treats values within 1e-35 of zero as LightGBM does, which replaces them by zero first."""
    if -_ZERO <= t < _ZERO:
        return _ZERO if t >= 0.0 else next_below(-_ZERO)
    return t


def _check_tail(tail: bytes, names: tuple[str, ...]) -> None:
    """Refuse a file that ends early, goes on after its end, or has trees that tree_sizes does not count."""
    if not tail.startswith(b"end of trees\n"):
        raise InvalidModel("tail: 'end of trees' is not found where tree_sizes says it lies")
    lines = [_text(line, "tail") for line in _lines(tail, len(names) + 1000, "tail") if line]
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
                raise UnsupportedModel("tail: pandas_categorical: the model expects categories of a pandas column")
            raise InvalidModel("tail: pandas_categorical: malformed")


def _lines(raw: bytes, most: int, where: str) -> list[bytes]:
    if raw.count(b"\n") > most:
        raise InvalidModel(f"{where}: more than {most} lines")
    return raw.split(b"\n")


def _fields(lines: list[bytes], where: str, needed: tuple[str, ...]) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    for line in lines:
        key, equals, value = line.partition(b"=")
        if not equals and key != b"average_output":
            raise InvalidModel(f"{where}: line {_show(line)} is not of the form key=value")
        name = key.decode("ascii", "backslashreplace")
        if name in fields:
            raise InvalidModel(f"{where}: {name[:40]!a} occurs twice")
        fields[name] = value
    if missing := [key for key in needed if key not in fields]:
        raise InvalidModel(f"{where}: {missing[0]} is missing")
    if where == "header" and (unknown := fields.keys() - _HEADER_KNOWN):
        raise UnsupportedModel(f"header: field {min(unknown)[:40]!a} is not known")
    return fields


def _tokens(text: bytes, n: int | None, where: str, key: str, characters: bytes, longest: int) -> list[bytes]:
    """The n numbers of a field as text. The filter keeps out what int() and float() accept beyond numbers: '1_0'."""
    found = text.count(b" ") + 1 if text else 0
    if n is not None and found != n:
        raise InvalidModel(f"{where}: {key}: expected {n} values, found {found}")
    tokens = text.split(b" ") if text else []
    if text.translate(None, characters) or any(len(token) > longest for token in tokens):
        raise InvalidModel(f"{where}: {key}: a value is not a number or too long")
    return tokens


def _ints(text: bytes, n: int | None, where: str, key: str, low: int, high: int) -> list[int]:
    """n integers (any number when None) within low..high."""
    try:
        values = list(map(int, _tokens(text, n, where, key, b"0123456789- ", 11)))
    except ValueError:
        raise InvalidModel(f"{where}: {key}: a value is not a whole number") from None
    if values and not (low <= min(values) and max(values) <= high):
        bad = next(v for v in values if not low <= v <= high)
        raise InvalidModel(f"{where}: {key}: {bad} is outside {low}..{high}")
    return values


def _floats(text: bytes, n: int, where: str, key: str, words: frozenset[bytes] = frozenset()) -> list[float]:
    """n numbers, finite but for those written as one of `words`."""
    tokens = _tokens(text, n, where, key, b"0123456789+-.eEinfa ", 40)
    try:
        values = list(map(float, tokens))
    except ValueError:
        raise InvalidModel(f"{where}: {key}: a value is not a number") from None
    if not all(map(math.isfinite, values)) and any(
        token not in words for token, v in zip(tokens, values, strict=True) if not math.isfinite(v)
    ):
        raise InvalidModel(f"{where}: {key}: a value is not finite")
    return values


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidModel(f"{where}: not UTF-8") from None


def _show(raw: bytes) -> str:
    """At most 40 bytes of the file for a message, with everything but plain ASCII escaped."""
    return ascii(raw[:40].decode("latin-1"))
