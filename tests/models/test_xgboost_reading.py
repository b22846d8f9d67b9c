"""XGBoost's files: what is refused, and where the message says it is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.xgboost_makers import NAMES, document, saved
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.models import document as document_module
from ubp_sql.models import json_text, xgboost_model
from ubp_sql.models.formats import read_model
from ubp_sql.models.json_text import read_json
from ubp_sql.models.loaded import open_model
from ubp_sql.models.ubj import read_ubj

Edit = Callable[[dict[str, Any]], object]


def edited(name: str, edit: Edit) -> bytes:
    found = document(name)
    edit(found)
    return json.dumps(found).encode()


def learner(found: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = found["learner"]
    return part


def parameter(key: str, value: str) -> Edit:
    return lambda found: learner(found)["learner_model_param"].update({key: value})


def model(found: dict[str, Any]) -> dict[str, Any]:
    booster = learner(found)["gradient_booster"]
    part: dict[str, Any] = booster.get("gbtree", booster)["model"]
    return part


def tree(found: dict[str, Any], k: int = 1) -> dict[str, Any]:
    part: dict[str, Any] = model(found)["trees"][k]
    return part


BROKEN: dict[str, tuple[str, Edit, str]] = {
    "no learner": ("one leaf", lambda d: d.pop("learner"), "no 'learner'"),
    "learner is a list": ("one leaf", lambda d: d.update(learner=[]), "learner: expected a table"),
    "no objective": ("one leaf", lambda d: learner(d).pop("objective"), "learner.objective is missing"),
    "objective is a number": ("one leaf", lambda d: learner(d)["objective"].update(name=3), "expected a text"),
    "no feature": ("one leaf", parameter("num_feature", "0"), "from 1 to 10000"),
    "features in words": ("one leaf", parameter("num_feature", "5_0"), "whole"),
    "classes without softmax": (
        "one leaf",
        parameter("num_class", "3"),
        "do not",
    ),
    "too few names": ("one leaf", lambda d: learner(d)["feature_names"].pop(), "expected 5 names, found 4"),
    "a name twice": ("one leaf", lambda d: learner(d)["feature_names"].__setitem__(0, "n1"), "occurs twice"),
    "a name is a number": ("one leaf", lambda d: learner(d)["feature_names"].__setitem__(0, 1), "expected 5 names"),
    "base score in words": (
        "one leaf",
        parameter("base_score", "x"),
        "base_score",
    ),
    "base score nan": ("one leaf", parameter("base_score", "nan"), "base_score"),
    "base score 0": ("one leaf", parameter("base_score", "0"), "no probability"),
    "two base scores": (
        "one leaf",
        parameter("base_score", "[1,2]"),
        "base_score",
    ),
    "mean of 0": ("count:poisson", parameter("base_score", "0"), "not above 0"),
    "trees miscounted": ("dart", lambda d: model(d)["gbtree_model_param"].update(num_trees="5"), "num_trees"),
    "output of a tree": ("dart", lambda d: model(d)["tree_info"].__setitem__(2, 1), "tree_info: 1.0 is no"),
    "weights of trees": ("dart", lambda d: learner(d)["gradient_booster"]["weight_drop"].pop(), "weight_drop"),
    "iterations descend": ("dart", lambda d: model(d)["iteration_indptr"].__setitem__(1, 9), "iteration_indptr"),
    "iterations end early": ("dart", lambda d: model(d)["iteration_indptr"].pop(), "iteration_indptr"),
    "no nodes": ("dart", lambda d: tree(d)["tree_param"].update(num_nodes="0"), "tree 1.tree_param.num_nodes"),
    "columns of nodes": ("dart", lambda d: tree(d)["loss_changes"].pop(), "tree 1.loss_changes: expected"),
    "a cycle": ("dart", lambda d: tree(d)["left_children"].__setitem__(1, 0), "tree 1: child 0 of node 1"),
    "a node twice": ("dart", lambda d: tree(d)["left_children"].__setitem__(0, 2), "tree 1: child 2 of node 0"),
    "child beyond": ("dart", lambda d: tree(d)["left_children"].__setitem__(0, 999), "left_children: 999.0 is no"),
    "child and a half": ("dart", lambda d: tree(d)["left_children"].__setitem__(0, 1.5), "left_children: 1.5 is no"),
    "one child": ("dart", lambda d: tree(d)["right_children"].__setitem__(0, -1), "tree 1: node 0 has one child"),
    "a node cut off": ("dart", lambda d: tree(d)["tree_param"].update(num_deleted="1"), "1 of them are called deleted"),
    "feature beyond": ("dart", lambda d: tree(d)["split_indices"].__setitem__(0, 5), "tree 1: node 0: split_indices"),
    "threshold nan": ("dart", lambda d: tree(d)["split_conditions"].__setitem__(0, float("nan")), "splits nothing"),
    "leaf infinite": ("dart", lambda d: tree(d)["split_conditions"].__setitem__(-1, 1e39), "leaf value is not finite"),
    "direction": ("dart", lambda d: tree(d)["default_left"].__setitem__(0, 2), "default_left: 2.0 is no"),
    "kind": ("dart", lambda d: tree(d)["split_type"].__setitem__(0, 2), "split_type: 2.0 is no"),
    "no categories": ("dart", lambda d: tree(d).update(split_type=[1] * len(tree(d)["split_type"])), "no categories"),
    "weights of a line": ("linear", lambda d: model(d)["weights"].pop(), "expected 6 numbers, found 5"),
    "weight nan": ("linear", lambda d: model(d)["weights"].__setitem__(0, float("nan")), "not finite"),
    "best iteration": ("dart", lambda d: learner(d)["attributes"].update(best_iteration="x"), "best_iteration"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_add_up_is_refused(case: str) -> None:
    name, edit, message = BROKEN[case]
    with pytest.raises(InvalidModel) as caught:
        read_model(edited(name, edit), NAMES)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def categorical(found: dict[str, Any]) -> dict[str, Any]:
    return next(t for t in model(found)["trees"] if t["categories"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("categories", -1, "categories: -1.0 is no"),
        ("categories", 2**24, "categories: 16777216.0 is no"),
        ("categories_nodes", 999, "categories_nodes"),
        ("categories_segments", 999, "categories_segments"),
        ("categories_sizes", 999, "categories_sizes"),
    ],
)
def test_categories_are_checked(key: str, value: int, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        read_model(edited("binary:logistic", lambda d: categorical(d)[key].__setitem__(0, value)), NAMES)


def test_large_categories_are_counted_before_they_are_laid_out() -> None:
    def edit(found: dict[str, Any]) -> None:
        for part in model(found)["trees"]:
            part["categories"] = [2**24 - 1] * len(part["categories"])

    with pytest.raises(InvalidModel, match="sets of categories are too large"):
        read_model(edited("binary:logistic", edit), NAMES)


UNSUPPORTED: dict[str, tuple[str, Edit, str]] = {
    "objective": ("one leaf", lambda d: learner(d)["objective"].update(name="binary:hinge"), "hinge"),
    "later version": ("one leaf", lambda d: d.update(version=[4, 0, 0]), "known are 1 to 3"),
    "booster": ("one leaf", lambda d: learner(d)["gradient_booster"].update(name="gbforest"), "gbforest"),
    "vector leaves": ("dart", lambda d: tree(d)["tree_param"].update(size_leaf_vector="3"), "several outputs"),
    "categories of a frame": ("dart", lambda d: model(d).update(cats={"enc": [{}]}), "categories of a data frame"),
    "no trees": (
        "one leaf",
        lambda d: model(d).update(trees=[], tree_info=[], iteration_indptr=[0], gbtree_model_param={"num_trees": "0"}),
        "was not trained",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_evaluated_is_refused_with_a_way_out(case: str) -> None:
    name, edit, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedModel, match=message) as caught:
        read_model(edited(name, edit), NAMES)
    assert caught.value.message or caught.value.hint


def test_older_versions_lack_some_fields() -> None:
    """1.x wrote flags as true and false, one base score, and no iterations."""

    def edit(found: dict[str, Any]) -> None:
        found["version"] = [1, 7, 6]
        settings = learner(found)["learner_model_param"]
        settings["base_score"] = settings["base_score"].strip("[]")
        del model(found)["iteration_indptr"], model(found)["cats"]
        for part in model(found)["trees"]:
            part["default_left"] = [bool(flag) for flag in part["default_left"]]

    assert read_model(edited("forest", edit), NAMES).compiled == read_model(saved("forest"), NAMES).compiled


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_every_cut_is_refused(kind: str) -> None:
    data = saved("one leaf", kind)
    for end in range(1, len(data)):
        with pytest.raises(InvalidModel):
            read_model(data[:end], NAMES)
    with pytest.raises(InvalidModel, match="goes on after its end"):
        read_model(data + b"x", NAMES)


@pytest.mark.parametrize("kind", ["json", "ubj"])
@settings(max_examples=150, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_refused_or_still_a_model(kind: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(saved("pruned", kind))
    for at, value in edits:
        data[at % len(data)] = value
    try:
        imported = read_model(bytes(data), NAMES)
    except UbpError as error:
        message = error.message
    else:
        open_model(imported.compiled)
        message = ""
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "byte 0: expected a value, the document ends"),
        (b"{", "byte 1: expected a text"),
        (b'{"a"}', "byte 4: expected ':'"),
        (b'{"a":1,}', "byte 7: expected a text"),
        (b'{"a":1,"a":2}', "'a' occurs twice"),
        (b'{"a":01}', "byte 6: expected ',' or '}'"),
        (b"[1,2", "expected"),
        (b"[1,,2]", "a list of numbers has something else in it"),
        (b"[1 2]", "a list of numbers has something else in it"),
        (b"[" + b"1" * 50 + b"]", "a list of numbers has something else in it"),
        (b"1" * 50, "expected a value"),
        (b'"\\ud800', "expected a text"),
        (b'"\xff"', "expected a text"),
        (b'"\\ud800"', "expected a text"),
        (b'"a\nb"', "expected a text"),
        (b"[" * 30, "nested more than 16 deep"),
        (b"tru", "expected a value"),
        (b"{} {}", "byte 3: the document goes on"),
    ],
)
def test_malformed_json_says_where(text: bytes, message: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        read_json(text)
    assert message in caught.value.message


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.floats(allow_nan=False),
        lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=4) | st.lists(inner, max_size=4),
        max_leaves=12,
    )
)
def test_json_is_read_as_the_standard_library_reads_it(value: object) -> None:
    for indent in (None, 1):
        text = json.dumps(value, indent=indent).encode()
        if nested(value) <= document_module.MAX_DEPTH:
            assert plain(read_json(text)) == value
        else:
            with pytest.raises(InvalidModel, match="deep"):
                read_json(text)


def nested(value: object) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + nested(part) for part in parts), default=0)


def plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: plain(value) for key, value in found.items()}
    return [plain(value) for value in found] if isinstance(found, list) or hasattr(found, "typecode") else found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: 1 bytes are to follow, 0 do"),
        (b"N", "1 bytes are to follow"),
        (b"x", "begins no value"),
        (b"{i\x01ai\x01i\x01ai\x02}", "'a' occurs twice"),
        (b"{i\xff", "a length of -1"),
        (b"{L\x7f" + b"\xff" * 7, "a length of"),
        (b"Si\x02\xff\xfe", "not UTF-8"),
        (b"[$d#L\x00\x00\x00\x00\x00\x00\x00\x09", "36 bytes are to follow"),
        (b"[$x#i\x01", "not of numbers"),
        (b"[$di\x01", "without a count"),
        (b"{$i#i\x01", "tables of a given type"),
        (b"[" * 30, "nested more than 16 deep"),
        (b"ZZ", "goes on after its end"),
    ],
)
def test_malformed_ubj_says_where(data: bytes, message: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        read_ubj(data)
    assert message in caught.value.message


def test_ubj_of_every_type() -> None:
    data = (
        b"{i\x01a[$U#i\x02\x01\xffi\x01b[i\x05I\x01\x00]i\x01c[#i\x02TFi\x01dNZi\x01eD?\xf0" + bytes(6) + b"i\x01f[]}"
    )
    found = read_ubj(data)
    assert plain(found) == {"a": [1, 255], "b": [5, 256], "c": [True, False], "d": None, "e": 1.0, "f": []}


def test_limits_hold_before_anything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved("one leaf")
    monkeypatch.setattr(xgboost_model, "MAX_TEXT_BYTES", len(data) - 1)
    with pytest.raises(InvalidModel, match="at most"):
        read_model(data, NAMES)
    monkeypatch.undo()
    monkeypatch.setattr(document_module, "MAX_DOCUMENT_VALUES", 20)
    for kind in ("json", "ubj"):
        with pytest.raises(InvalidModel, match="more than 20 values"):
            read_model(saved("one leaf", kind), NAMES)
    monkeypatch.undo()
    monkeypatch.setattr(document_module, "MAX_DOCUMENT_NUMBERS", 20)
    for kind in ("json", "ubj"):
        with pytest.raises(InvalidModel, match="more than 20 numbers"):
            read_model(saved("dart", kind), NAMES)
    assert json_text.LONGEST_NUMBER == 40


def test_leaves_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xgboost_model, "MAX_LEAVES", 12)
    with pytest.raises(InvalidModel, match=r"tree \d: the model has more than"):
        read_model(saved("dart"), NAMES)
