"""Files that are not, or not wholly, a LightGBM model we evaluate: one clear error each, and never anything else."""

import math
import pickle
import re
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import reference_forest
from tests.models.forest_makers import blob_of, random_model, rows_for, train, trained, training_matrix, written
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.models import lightgbm_text
from ubp_sql.models.forest import Link
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.walker import Walker

TREE: dict[str, list[object]] = {
    "split_feature": [0, 1, 2],
    "split_gain": [3, 2, 1],
    "threshold": ["0.5", "-1.25", "inf"],
    "decision_type": [10, 2, 8],
    "left_child": [1, -1, -2],
    "right_child": [2, -3, -4],
    "leaf_value": ["0.125", "-0.5", "2", "1.75"],
    "leaf_count": [4, 3, 2, 1],
}
SOUND = written([TREE, TREE], 3, "binary sigmoid:1")


def edit(old: str, new: str) -> bytes:
    """SOUND with the first `old` replaced, and the sizes of the trees made right again."""
    text = SOUND.decode()
    assert old in text
    return resized(text.replace(old, new, 1))


def resized(text: str) -> bytes:
    head, body = text.split("Tree=0", 1)
    blocks = ["Tree" + block for block in ("Tree=0" + body).split("end of trees")[0].split("Tree")[1:]]
    head = re.sub(r"tree_sizes=.*", f"tree_sizes={' '.join(str(len(b.encode())) for b in blocks)}", head)
    return (head + "Tree=0" + body).encode()


def test_what_is_kept() -> None:
    forest = parse(trained("binary_rf"))
    assert forest.feature_names == tuple(f"Column_{j}" for j in range(6))
    assert len(forest.feature_infos) == 6
    assert forest.feature_infos[2] == "[0:4]"
    assert (forest.objective, forest.link, forest.link_parameter, forest.average) == ("binary", Link.SIGMOID, 1.0, True)
    assert parse(trained("quantile")).link == Link.IDENTITY
    assert len(parse(trained("regression")).trees) == 12


def test_names_with_signs_and_other_alphabets() -> None:
    forest = parse(resized(SOUND.decode().replace("f0 f1 f2", "a=b größe_7d 数")))
    assert forest.feature_names == ("a=b", "größe_7d", "数")


def test_every_kind_of_missing_in_the_sound_model() -> None:
    tree = parse(SOUND).trees[0]
    assert list(tree.flags) == [1, 0, 0]
    assert tree.threshold[2] == math.inf


def categorical(old: str, new: str) -> bytes:
    """SOUND whose first split is on categories, with the first `old` replaced."""
    cut = "num_cat=1\ncat_boundaries=0 2\ncat_threshold=5 2147483648"
    text = edit("num_cat=0", cut).decode().replace("threshold=0.5", "threshold=0", 1)
    text = text.replace("decision_type=10", "decision_type=1", 1)
    parse(resized(text))
    assert old in text
    return resized(text.replace(old, new, 1))


def classes(header: str, objective: str) -> bytes:
    text = SOUND.decode().replace("num_class=1", f"num_class={header}")
    text = text.replace("num_tree_per_iteration=1", f"num_tree_per_iteration={header}")
    return text.replace("binary sigmoid:1", f"multiclass num_class:{objective}").encode()


CATEGORICAL: dict[str, tuple[str, str, str]] = {
    "a set that is not there": ("threshold=0", "threshold=1", "names a set"),
    "a set below the first": ("threshold=0", "threshold=-1", "names a set"),
    "a set of no whole number": ("threshold=0", "threshold=0.5", "names a set"),
    "an infinite set": ("threshold=0", "threshold=inf", "names a set"),
    "more sets than splits": ("num_cat=1", "num_cat=4", "num_cat: 4 is outside 0..3"),
    "more sets than cuts": ("num_cat=1", "num_cat=2", "cat_boundaries: expected 3 values, found 2"),
    "no cuts": ("cat_boundaries=0 2\n", "", "cat_boundaries is missing"),
    "no words": ("cat_threshold=5 2147483648\n", "", "cat_threshold is missing"),
    "cuts from 1": ("cat_boundaries=0 2", "cat_boundaries=1 2", "cat_boundaries: they do not ascend"),
    "cuts that fall": ("num_cat=1\ncat_boundaries=0 2", "num_cat=2\ncat_boundaries=0 3 2", "do not ascend from 0"),
    "cuts beyond the words": ("cat_boundaries=0 2", "cat_boundaries=0 3", "cat_threshold: expected 3 values, found 2"),
    "endless cuts": ("cat_boundaries=0 2", "cat_boundaries=0 2147483647", "cat_boundaries: 2147483647 is outside"),
    "a word too large": ("2147483648", "4294967296", "cat_threshold: 4294967296 is outside"),
    "a word below 0": ("cat_threshold=5", "cat_threshold=-5", "cat_threshold: -5 is outside"),
    "a missing type that is none": ("decision_type=1", "decision_type=13", "a missing type that does not exist"),
}


DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "does not begin with the line 'tree'"),
    "other text": (lambda: b"a,b,c\n1,2,3\n", "does not begin with the line 'tree'"),
    "windows line ends": (lambda: SOUND.replace(b"\n", b"\r\n"), "does not begin"),
    "only the first line": (lambda: b"tree\n", "ends before the first tree"),
    "empty header": (lambda: b"tree\n\nTree=0\n", "not of the form key=value"),
    "header of many lines": (lambda: b"tree\n" + b"a=1\n" * 50 + b"\n", "header: more than"),
    "line without equals sign": (lambda: edit("num_class=1", "num_class 1"), "header: line 'num_class 1'"),
    "field twice": (lambda: edit("num_class=1\n", "num_class=1\nnum_class=1\n"), "header: 'num_class' occurs twice"),
    "field missing": (lambda: edit("max_feature_idx=2\n", ""), "header: max_feature_idx is missing"),
    "no tree sizes": (lambda: re.sub(rb"tree_sizes=.*\n", b"", SOUND), "header: tree_sizes is missing"),
    "no trees": (lambda: written([], 3, "regression"), "0 trees"),
    "no features": (lambda: edit("max_feature_idx=2", "max_feature_idx=-1"), "max_feature_idx: -1 is outside"),
    "too many features": (
        lambda: edit("max_feature_idx=2", "max_feature_idx=2147483647"),
        "max_feature_idx: 2147483647",
    ),
    "number of 30 digits": (
        lambda: edit("max_feature_idx=2", "max_feature_idx=" + "9" * 30),
        "max_feature_idx: a value",
    ),
    "digits of another script": (lambda: edit("num_class=1", "num_class=١"), "num_class: a value is not a number"),
    "fewer names": (lambda: edit("=f0 f1 f2", "=f0 f1"), "feature_names: expected 3 entries, found 2"),
    "name twice": (lambda: edit("=f0 f1 f2", "=f0 f1 f1"), "feature_names: a name occurs twice"),
    "empty name": (lambda: edit("=f0 f1 f2", "=f0  f2"), "feature_names: a name occurs twice, is empty"),
    "zero byte in a name": (lambda: edit("=f0 f1 f2", "=f0 f\0 f2"), "control characters"),
    "name not utf-8": (lambda: SOUND.replace(b"=f0 f1 f2", b"=f0 \xff1 f2"), "feature_names: not UTF-8"),
    "fewer infos": (lambda: edit("=[-1:1] [-1:1]", "=[-1:1]"), "feature_infos: expected 3 entries, found 2"),
    "malformed info": (lambda: edit("=[-1:1]", "=[-1;1]"), "feature_infos: an entry is neither"),
    "value of average_output": (
        lambda: edit("objective=", "average_output=1\nobjective="),
        "average_output takes no value",
    ),
    "sigmoid zero": (lambda: edit("sigmoid:1", "sigmoid:0"), "must be above 0"),
    "sizes too small": (lambda: re.sub(rb"tree_sizes=\d", b"tree_sizes=1", SOUND, count=1), "tree 0: not found"),
    "sizes swapped": (lambda: SOUND.replace(b"tree_sizes=", b"tree_sizes=5 "), "tree 0: not found"),
    "one size less": (lambda: re.sub(rb"(tree_sizes=\d+) \d+", rb"\1", SOUND), "tail: 'end of trees' is not found"),
    "negative size": (lambda: re.sub(rb"tree_sizes=", b"tree_sizes=-", SOUND), "tree_sizes: -"),
    "huge size": (lambda: re.sub(rb"tree_sizes=\d+", b"tree_sizes=99999999999", SOUND), "tree_sizes: 99999999999"),
    "wrong tree number": (lambda: edit("Tree=1", "Tree=7"), "tree 1: not found"),
    "tree of many lines": (lambda: edit("shrinkage=1\n", "shrinkage=1\n" + "\n" * 60), "tree 0: more than 40 lines"),
    "tree field twice": (lambda: edit("num_cat=0", "num_cat=0\nnum_cat=0"), "tree 0: 'num_cat' occurs twice"),
    "tree field missing": (lambda: edit("left_child=1 -1 -2\n", ""), "tree 0: left_child is missing"),
    "no leaves": (lambda: edit("num_leaves=4", "num_leaves=0"), "tree 0: num_leaves: 0 is outside"),
    "two thousand million leaves": (
        lambda: edit("num_leaves=4", "num_leaves=2000000000"),
        "tree 0: num_leaves: the model",
    ),
    "one leaf more": (lambda: edit("num_leaves=4", "num_leaves=5"), "tree 0: split_gain: expected 4 values, found 3"),
    "fewer thresholds": (lambda: edit("threshold=0.5 ", "threshold="), "tree 0: threshold: expected 3 values, found 2"),
    "fewer leaf values": (lambda: edit("leaf_value=0.125 ", "leaf_value="), "leaf_value: expected 4 values, found 3"),
    "fewer counts": (lambda: edit("leaf_count=4 ", "leaf_count="), "leaf_count: expected 4 values, found 3"),
    "threshold NaN": (lambda: edit("threshold=0.5", "threshold=nan"), "tree 0: threshold: a value is not finite"),
    "threshold beyond float64": (
        lambda: edit("threshold=0.5", "threshold=1e999"),
        "tree 0: threshold: a value is not finite",
    ),
    "threshold of inf and digits": (
        lambda: edit("threshold=0.5", "threshold=1inf"),
        "threshold: a value is not a number",
    ),
    "threshold with underscore": (lambda: edit("threshold=0.5", "threshold=0_5"), "threshold: a value is not a number"),
    "threshold in hexadecimal": (lambda: edit("threshold=0.5", "threshold=0x1"), "threshold: a value is not a number"),
    "threshold of 5000 digits": (lambda: edit("threshold=0.5", "threshold=" + "1" * 5000), "threshold: a value is not"),
    "leaf infinite": (lambda: edit("leaf_value=0.125", "leaf_value=inf"), "leaf_value: a value is not finite"),
    "leaf NaN": (lambda: edit("leaf_value=0.125", "leaf_value=nan"), "leaf_value: a value is not finite"),
    "leaf beyond float64": (lambda: edit("leaf_value=0.125", "leaf_value=-1e400"), "leaf_value: a value is not finite"),
    "leaf not a number": (lambda: edit("leaf_value=0.125", "leaf_value=1e"), "leaf_value: a value is not a number"),
    "feature too large": (lambda: edit("split_feature=0", "split_feature=3"), "split_feature: 3 is outside 0..2"),
    "feature negative": (lambda: edit("split_feature=0", "split_feature=-1"), "split_feature: -1 is outside 0..2"),
    "feature with a fraction": (
        lambda: edit("split_feature=0", "split_feature=0.5"),
        "split_feature: a value is not a number",
    ),
    "feature of two signs": (
        lambda: edit("split_feature=0", "split_feature=--1"),
        "split_feature: a value is not a whole",
    ),
    "child beyond the nodes": (lambda: edit("left_child=1", "left_child=3"), "left_child: 3 is outside -4..2"),
    "child beyond the leaves": (lambda: edit("left_child=1 -1", "left_child=1 -5"), "left_child: -5 is outside -4..2"),
    "child is the root": (lambda: edit("left_child=1", "left_child=0"), "tree 0: child 0 of node 0"),
    "child is itself": (lambda: edit("left_child=1 -1", "left_child=1 1"), "tree 0: child 1 of node 1"),
    "leaf twice": (lambda: edit("left_child=1 -1", "left_child=1 -3"), "tree 0: child -3 of node 1"),
    "node twice": (lambda: edit("left_child=1 -1 -2", "left_child=1 2 -2"), "tree 0: child 2 of node 1"),
    "cycle apart from the root": (
        lambda: edit("left_child=1 -1 -2\nright_child=2 -3 -4", "left_child=-1 2 1\nright_child=-2 -3 -4"),
        "tree 0: 2 of 3 nodes cannot be reached",
    ),
    "decision with an unknown bit": (
        lambda: edit("decision_type=10", "decision_type=26"),
        "decision_type: 26 is outside",
    ),
    "missing type 3": (lambda: edit("decision_type=10", "decision_type=14"), "decision_type: a missing type that"),
    "categorical bit without categories": (
        lambda: edit("decision_type=10", "decision_type=1"),
        "threshold: a categorical split names a set",
    ),
    **{
        f"categories: {name}": (partial(categorical, old, new), message)
        for name, (old, new, message) in CATEGORICAL.items()
    },
    "several classes": (lambda: edit("num_class=1", "num_class=3"), "num_class is 3, the objective binary has 1"),
    "several trees an iteration": (lambda: edit("iteration=1", "iteration=2"), "num_tree_per_iteration is 2"),
    "no class": (lambda: edit("num_class=1", "num_class=0"), "num_class: 0 is outside"),
    "too many classes": (lambda: classes("100000", "100000"), "num_class: 100000 is outside"),
    "classes of the objective": (lambda: classes("2", "3"), "num_class is 2, the objective multiclass has 3"),
    "one class of several": (lambda: classes("1", "1"), "1 output: a softmax needs several"),
    "trees that cannot be shared out": (lambda: classes("3", "3"), "2 trees cannot be shared out to 3 outputs"),
    "leaves beyond all sums": (lambda: edit("leaf_value=0.125 -0.5", "leaf_value=1e308 1e308"), "add up to more"),
    "count not a number": (lambda: edit("leaf_count=4", "leaf_count=x"), "tree 0: leaf_count: a value is not a number"),
    "shrinkage not a number": (
        lambda: edit("shrinkage=1", "shrinkage=x"),
        "tree 0: shrinkage: a value is not a number",
    ),
    "no end of trees": (lambda: edit("end of trees\n", ""), "tree 1: not found"),
    "garbage after the trees": (lambda: edit("end of trees\n", "end of trees\nrubbish\n"), "no section"),
    "unknown importance": (lambda: edit("importances:\n", "importances:\nzzz=3\n"), "'zzz=3' names no feature"),
    "malformed parameter": (lambda: edit("[boosting: gbdt]", "boosting"), "no section"),
    "parameter without a colon": (lambda: edit("[boosting: gbdt]", "[boosting~ gbdt]"), "no section"),
    "no end of parameters": (lambda: edit("end of parameters\n", ""), "tail: the file ends early"),
    "trailing garbage": (lambda: SOUND + b"rubbish\n", "'rubbish' after the end"),
    "two models in one": (lambda: SOUND + SOUND, "after the end of the model|more than|'end of trees'"),
    "trailing zeros": (lambda: SOUND + bytes(100), "after the end"),
    "categories cut short": (lambda: SOUND + b"\npandas_categorical:nul", "pandas_categorical: malformed"),
    "tail not utf-8": (lambda: SOUND + b"\xff\n", "tail: not UTF-8"),
    "tail of many lines": (lambda: SOUND + b"\n" * 5000, "tail: more than"),
}

UNSUPPORTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "later version": (lambda: edit("version=v4", "version=v5"), "version 'v5'"),
    "unknown header field": (lambda: edit("num_class=1", "num_class=1\nnew=1"), "field 'new' is not known"),
    "unknown tree field": (lambda: edit("num_cat=0", "num_cat=0\nnew=1"), "tree 0: field 'new' is not known"),
    "custom objective": (lambda: edit("objective=binary sigmoid:1\n", ""), "custom"),
    "unknown objective": (lambda: edit("objective=binary sigmoid:1", "objective=custom"), "objective 'custom'"),
    "binary without sigmoid": (lambda: edit("binary sigmoid:1", "binary"), "objective 'binary'"),
    "root of what has none": (lambda: edit("binary sigmoid:1", "poisson sqrt"), "objective 'poisson sqrt'"),
    "multiclass without classes": (lambda: edit("binary sigmoid:1", "multiclass"), "objective 'multiclass'"),
    "option of another": (lambda: edit("binary sigmoid:1", "binary num_class:1 sigmoid:1"), "num_class:1 sigmoid:1'"),
    "option twice": (lambda: edit("sigmoid:1", "sigmoid:1 sigmoid:1"), "sigmoid:1 sigmoid:1'"),
    "linear tree": (lambda: edit("is_linear=0", "is_linear=1\nleaf_const=0 0 0 0"), "tree 0: is_linear: linear trees"),
    "categories of pandas": (lambda: SOUND + b'\npandas_categorical:[["a", "b"]]\n', "categories of a pandas column"),
    "categories without a set": (
        lambda: edit("num_cat=0", "num_cat=0\ncat_threshold=1"),
        "'cat_threshold' is not known",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str) -> None:
    make, message = DAMAGED[name]
    with pytest.raises(InvalidModel, match=message) as caught:
        parse(make())
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_models_of_other_kinds(name: str) -> None:
    make, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModel, match=message):
        parse(make())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"objective": "regression", "linear_tree": True}, "linear trees"),
        ({"objective": lambda score, data: (score - data.get_label(), score * 0 + 1)}, "custom"),
    ],
)
def test_trained_models_of_other_kinds(parameters: dict[str, object], message: str) -> None:
    x = training_matrix()
    with pytest.raises(UnsupportedModel, match=message) as caught:
        parse(train(x, x[:, 2].copy(), {**parameters, "num_leaves": 5}, trees=2))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("data", "name"),
    [
        *((pickle.dumps({"model": 1}, protocol), "Python pickle") for protocol in range(6)),
        (b"cos\nsystem\n(S'true'\ntR.", "Python pickle"),
        (b"\x1f\x8b\x08\0", "compressed"),
        (b"PK\x03\x04", "archive"),
        (b'{"name":"tree"}', "JSON"),
        (b"\xef\xbb\xbf" + SOUND, "byte-order mark"),
        (b"\x93NUMPY\x01\0", "NumPy array"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x7fELF\x02", "program"),
    ],
)
def test_other_formats_are_refused_by_their_first_bytes(data: bytes, name: str) -> None:
    with pytest.raises(InvalidModel, match=f"{name}.*, not a LightGBM text model"):
        parse(data)


def test_a_pickle_is_not_opened() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return exec, ("raise SystemExit",)

    with pytest.raises(InvalidModel, match="pickle") as caught:
        parse(pickle.dumps(Trap()))
    assert caught.value.hint is not None
    assert "save_model" in caught.value.hint


def test_limits_come_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightgbm_text, "MAX_TEXT_BYTES", len(SOUND) - 1)
    with pytest.raises(InvalidModel, match="bytes, at most"):
        parse(SOUND)
    monkeypatch.undo()
    monkeypatch.setattr(lightgbm_text, "MAX_TREES", 1)
    with pytest.raises(InvalidModel, match="more than 1 trees"):
        parse(SOUND)
    monkeypatch.undo()
    monkeypatch.setattr(lightgbm_text, "MAX_LEAVES", 7)
    with pytest.raises(InvalidModel, match="tree 1: num_leaves: the model has more than 7"):
        parse(SOUND)


def test_every_shorter_file_is_refused() -> None:
    text = trained("binary_one_leaf")
    parse(text)
    for length in range(text.index(b"end of parameters") + len("end of parameters") - 1):
        with pytest.raises(InvalidModel):
            parse(text[:length])


def test_errors_survive_pickling() -> None:
    for wrong in (b"\x80\x04", edit("version=v4", "version=v5"), edit("num_class=1", "num_class=x")):
        with pytest.raises(UbpError) as caught:
            parse(wrong)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
        assert (type(again), str(again), again.hint) == (type(caught.value), str(caught.value), caught.value.hint)


NASTY = [
    *(
        "-1",
        "0",
        "1",
        "2",
        "3",
        "-9",
        "99999999999",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e308",
        "-0.0",
        "",
        "x",
        "1_0",
        "\0",
    ),
    *("4e-324", "1e-35", "9" * 400, "=", "Tree=0", "\n", "\n\n", "é", "end of trees", "3.5e38"),
]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A sound model after one to four edits: tokens, bytes, lines or parts replaced, moved, doubled, cut."""
    random = draw(st.randoms(use_true_random=False))
    text: bytes = random_model(Random(random.random()), 3, random.randint(1, 3), 6)
    for _ in range(random.randint(1, 4)):
        kind, a, b = random.randrange(6), random.randrange(len(text) + 1), random.randrange(len(text) + 1)
        lines = text.decode("latin-1").split("\n")
        i, j = random.randrange(len(lines)), random.randrange(len(lines))
        if kind == 0:
            text = text[:a] + bytes([random.randrange(256)]) + text[a + 1 :]
        elif kind == 1:
            text = text[: min(a, b)] + text[max(a, b) :] if random.random() < 0.3 else text[:a]
        elif kind == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif kind == 3:
            lines.insert(i, lines[j])
        else:
            words = re.split(r"([ =])", lines[i])
            words[random.randrange(len(words))] = random.choice([*NASTY, random.choice(re.split(r"[ =]", lines[j]))])
            lines[i] = "".join(words)
        if kind > 1:
            text = "\n".join(lines).encode("latin-1", "replace")
            if random.random() < 0.8 and text.count(b"Tree=0") == 1 and b"tree_sizes=" in text:
                text = resized(text.decode("latin-1")).decode().encode("latin-1")
        if not text:
            break
    return text


@settings(deadline=None, max_examples=400)
@given(text=mutants())
def test_mutants_are_refused_or_scored_as_they_read(text: bytes) -> None:
    refusal = None
    try:
        parse(text)
    except (InvalidModel, UnsupportedModel) as error:
        refusal = error
    if refusal is not None:
        assert refusal.message.isprintable()
        return
    walk = Walker(blob_of(text))
    for row in rows_for(text, 5, 1).tolist():
        assert walk.scores(row) == reference_forest.scores(text.decode(), row)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"tree\n", b"tree\nversion=v4\n", SOUND[:300]]))
def test_any_bytes_are_refused(data: bytes, start: bytes) -> None:
    with pytest.raises(UbpError):
        parse(start + data)
