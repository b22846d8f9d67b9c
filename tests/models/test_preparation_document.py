"""Documents of preparations, and files of a model behind one: what is wrong is refused in one line that says where."""

import json
import struct
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.test_preparation import FEATURES, FULL, dumped, prepared
from ubp_sql.errors import FeatureSetMismatch, InvalidModel, UnsupportedModel
from ubp_sql.models import linear_text
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.preparation_document import read_preparation, split, together

NAMES = tuple(FEATURES)


def with_step(**content: Any) -> bytes:
    return dumped({"ubp_preparation": 1, "features": FEATURES, "steps": [content]})


def twice(kind: str, **content: Any) -> bytes:
    one = {"step": kind, "columns": ["code"], **content}
    return dumped({"ubp_preparation": 1, "features": FEATURES, "steps": [one, one]})


CODE = {"columns": ["code"]}
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "byte 0: expected a value"),
    "cut": (dumped(FULL)[:-3], "expected"),
    "no table": (b"[1]", "preparation: expected a table"),
    "no version": (b"{}", "preparation.ubp_preparation is missing"),
    "no features": (b'{"ubp_preparation": 1, "features": [], "steps": []}', "preparation.features: 0 names"),
    "a feature twice": (dumped({**FULL, "features": ["a", "a"]}), "preparation.features: 'a' comes twice"),
    "a feature of no name": (dumped({**FULL, "features": [""]}), "preparation.features: expected printable texts"),
    "a name that is none": (dumped({**FULL, "features": ["a\u0000"]}), "preparation.features: expected printable"),
    "many features": (dumped({**FULL, "features": list(map(str, range(10_001)))}), "10001 names"),
    "no steps": (dumped({**FULL, "steps": []}), "preparation.steps: 0 steps"),
    "many steps": (dumped({**FULL, "steps": [{}] * 1001}), "preparation.steps: 1001 steps"),
    "a field": (dumped({**FULL, "stepz": 1}), "preparation: there is no field 'stepz' here"),
    "unknown step": (with_step(step="impute_it", **CODE), r"preparation.steps\[0\].step: 'impute_it' is no step"),
    "unknown column": (with_step(step="log1p", columns=["x"]), r"steps\[0\].columns: there is no column 'x'"),
    "unknown field": (with_step(step="log1p", **CODE, by=2), r"steps\[0\]: there is no field 'by' here"),
    "no columns": (with_step(step="log1p", columns=[]), r"steps\[0\].columns: 0 names"),
    "columns no list": (with_step(step="log1p", columns="code"), r"steps\[0\].columns: expected a list"),
    "a column twice": (with_step(step="log1p", columns=["code", "code"]), "'code' comes twice"),
    "prepared twice": (twice("log1p"), r"steps\[1\].columns: 'code' was in a step log1p before"),
    "indicator twice": (twice("indicator"), "was in a step indicator before"),
    "nan": (with_step(step="impute", **CODE, values=[float("nan")]), r"steps\[0\].values: nan is not finite"),
    "inf": (with_step(step="standardise", **CODE, mean=[float("inf")], scale=[1]), "mean: inf is not finite"),
    "overflow": (with_step(step="impute", **CODE, values=[1]).replace(b"[1]", b"[1e999]"), "inf is not finite"),
    "a text": (with_step(step="impute", **CODE, values=["1"]), "expected a list of numbers"),
    "sizes": (with_step(step="impute", **CODE, values=[1, 2]), r"values: expected 1 numbers, found 2"),
    "no values": (with_step(step="impute", **CODE), r"steps\[0\].values is missing"),
    "scale": (with_step(step="standardise", **CODE, mean=[0], scale=[0]), "scale: 0.0 is not above 0"),
    "clip of nothing": (with_step(step="clip", **CODE), r"steps\[0\]: a clip has a low, a high, or both"),
    "clip upside down": (with_step(step="clip", **CODE, low=[2], high=[1]), "low: of 'code' it is above its high"),
    "one width": (with_step(step="interpolate", **CODE, widths=[7]), "widths: expected two or more"),
    "widths": (with_step(step="interpolate", columns=["a_7d", "code"], widths=[30, 7]), "ascending"),
    "one_hot of two": (with_step(step="one_hot", columns=["a_7d", "code"], values=[1]), "2 columns, a one_hot has one"),
    "no categories": (with_step(step="one_hot", **CODE, values=[]), "values: 0 values, expected 1 to 1000"),
    "a million": (with_step(step="one_hot", **CODE, values=list(range(10**6))), "values: 1000000 values"),
    "categories": (with_step(step="one_hot", **CODE, values=[2, 2]), "values: they do not ascend"),
    "components": (with_step(step="pca", **CODE, mean=[0], components=[[1], [2]]), "2 components of 1 columns"),
    "component": (with_step(step="pca", **CODE, mean=[0], components=[[1, 2]]), r"components\[0\]: expected 1 numbers"),
    "no component": (with_step(step="pca", **CODE, mean=[0], components=[]), "0 components"),
    "nested": (with_step(step="pca", **CODE, mean=[0], components=[[[1]]]), r"components\[0\]: expected a list of"),
    "a name of its own": (with_step(step="pca", **CODE, mean=[0], components=[[1]], name=""), "name: expected a text"),
    "a second column": (
        with_step(step="pca", **CODE, mean=[0], components=[[1]]).replace(b'"a_7d"', b'"pca_1"'),
        "it would make a second column 'pca_1'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_refused_and_said_where(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(InvalidModel, match=message) as caught:
        read_preparation(data)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
    with pytest.raises(InvalidModel):
        read_model(together(data, linear_text.write(["a"], [[1.0]], [0.0], "identity", "x")), NAMES)


def test_a_column_that_a_step_took_is_gone() -> None:
    steps = [{"step": "one_hot", **CODE, "values": [1]}, {"step": "log1p", **CODE}]
    with pytest.raises(InvalidModel, match=r"steps\[1\].columns: there is no column 'code' at this step"):
        read_preparation(dumped({**FULL, "steps": steps}))


def test_ten_thousand_by_ten_thousand_is_refused_in_no_time() -> None:
    names = [f"f{k}" for k in range(10_000)]
    row = "[" + ",".join(["0"] * 10_000) + "]"
    step = {"step": "pca", "columns": names, "mean": [0] * 10_000, "components": "ROWS"}
    text = json.dumps({"ubp_preparation": 1, "features": names, "steps": [step]})
    began = time.process_time()
    for rows in (10_000, 110):  # all of them are more bytes than are read, 110 more numbers
        made = text.replace('"ROWS"', "[" + ",".join([row] * rows) + "]").encode()
        with pytest.raises(InvalidModel, match=r"at most 33554432 are read|more than 1000000 numbers"):
            read_preparation(made)
    assert time.process_time() - began < 10


def test_other_features_are_told() -> None:
    with pytest.raises(FeatureSetMismatch, match=r"the preparation does not fit the feature set: it has no .*'a_30d'"):
        read_model(prepared(), ("a_7d", "x", "a_90d", "code"))
    with pytest.raises(FeatureSetMismatch, match="does not know its feature 'more'"):
        read_model(prepared(), (*NAMES, "more"))
    model = linear_text.write(["a", "b"], [[1.0, 2.0]], [0.0], "identity", "x")
    with pytest.raises(FeatureSetMismatch, match=r"the model behind its preparation: .*no feature 'a'") as caught:
        read_model(together(dumped(FULL), model), NAMES)
    assert "a_7d, a_30d_missing" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ubp-prepared-model 1\n{}", "the first line is not"),
        (b"ubp-prepared-model 1 x\n{}", "the first line is not"),
        (b"ubp-prepared-model 1 2\n{}", "the file ends within its document"),
        (b"ubp-prepared-model 1 99999999\n{}", "the file ends within its document"),
        (together(dumped(FULL), prepared()), "is a model with a preparation"),
        (together(dumped(FULL), b"\x80\x04."), "a Python pickle"),
    ],
)
def test_files_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        read_model(data, NAMES)


def test_later_versions_are_named() -> None:
    for data in (b"ubp-prepared-model 2 9\n", prepared().replace(b'"ubp_preparation": 1', b'"ubp_preparation": 2')):
        with pytest.raises(UnsupportedModel, match="the preparation has version 2, known is 1"):
            read_model(data, NAMES)
    with pytest.raises(UnsupportedModel, match="linear model has version 3"):
        linear_text.parse(b'{"ubp_linear": 3}')


def test_the_document_is_kept_to_the_bit() -> None:
    document, model = split(prepared())
    kept = read_model(prepared(), NAMES).preparation or ""
    again = read_model(together(kept.encode(), model), NAMES)
    assert again.compiled == read_model(prepared(), NAMES).compiled
    assert json.loads(kept) == json.loads(document)


LINEAR: dict[str, Any] = {"ubp_linear": 1, "features": ["a", "b"], "weights": [[1, 2]], "bias": [0.5], "link": "exp"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": []}, "linear.features: expected 1 to"),
        ({"features": ["a", "a"]}, "linear.features: a name comes twice"),
        ({"features": [1, 2]}, "linear.features: expected"),
        ({"weights": []}, "linear.weights: 0 rows"),
        ({"weights": [[1]]}, r"linear.weights\[0\]: expected 2 numbers, found 1"),
        ({"weights": [[1, float("nan")]]}, "weight that is not finite"),
        ({"bias": [1, 2]}, "linear.bias: expected 1 numbers"),
        ({"link": "logit"}, "linear.link: 'logit' is none of identity, sigmoid"),
        ({"link": "softmax"}, "of several outputs"),
        ({"more": 1}, "linear: there is no field 'more'"),
        ({"objective": "x\n"}, "linear.objective: expected a text"),
    ],
)
def test_linear_models_that_are_none(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        read_model(dumped({**LINEAR, **change}), ("a", "b"))


def test_a_linear_model_is_scored_as_it_says() -> None:
    imported = read_model(dumped({**LINEAR, "link": "identity"}), ("b", "a"))
    assert (imported.format, imported.objective, imported.by_name, imported.takes_missing) == (
        *("linear", "linear", True),
        False,
    )
    assert open_model(imported.compiled).score_packed(struct.pack("<2f", 10, 1)) == 0.5 + 1 + 20


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_documents_with_something_else_in_them_are_refused_or_read(data: st.DataObject) -> None:
    """A value anywhere in the document replaced by another."""
    document = json.loads(dumped(FULL))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(
        st.sampled_from([None, True, [], {}, "", "code", -1, 0, 1e300, float("nan"), [1], ["code"], {"step": "pca"}])
    )
    with suppress(InvalidModel, UnsupportedModel):
        read_preparation(dumped(document))
