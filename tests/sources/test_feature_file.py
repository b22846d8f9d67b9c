"""YAML files of feature definitions: read strictly, written so that they read back."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.spec_cases import cases
from ubp_sql.errors import BadInput
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.sources.feature_file import MOST_BYTES, parse_features, read_features, write_features


def test_what_is_written_reads_back() -> None:
    specs = [FeatureSpec.from_mapping(case).to_json() for case in cases()]
    assert parse_features(write_features(specs, "set\nx")) == specs


def test_plain_words_stay_words() -> None:
    """YAML 1.1 has booleans and dates where people write event kinds."""
    text = "features:\n  - {name: f, aggregate: count, kinds: [on, no, y, 2024-01-01, 404], window: 7d}"
    assert parse_features(text)[0]["kinds"] == ["on", "no", "y", "2024-01-01", "404"]


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nfeatures: [*b, *b]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one field, features"),
        ("features", "one field, features"),
        ("features: 3", "one field, features"),
        ("features: []", "empty"),
        ("feature: [x]", "one field, features"),
        ("features: [x]\nmore: 1", "one field, features"),
        ("features: [x]", "not a list of fields"),
        ("features: [{name: f, name: g}]", "line 1: not YAML: name is given twice"),
        ("features:\n  - {? [a] : 1}", "not YAML: a field's name is no text"),
        (BOMB, "line 1: not YAML: anchors and aliases are not read"),
        ("features: *a", "anchors and aliases are not read"),
        ("features: !!python/object/apply:os.system [ls]", "not YAML"),
        ("features: [", "line 1: not YAML"),
        ("\t- x", "not YAML"),
        ("features: " + "[" * 3000, "not YAML: nested too deeply"),
        ("features:\n  - {name: 0x" + "f" * 20_000 + "}", "line 2: not YAML: a number of 20002 characters"),
        ("features: [{kinds: [1" + ":59" * 20_000 + "]}]", "line 1: not YAML: a number of 60001 characters"),
        ("features: [{name: f, aggregate: count, kinds: [view], window: 90}]", "no window"),
        ("features: [{name: f, aggregate: count, kinds: [view], where: {value: {min: .inf}}}]", "finite"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_features(text)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "features.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_features(path)
    path.write_text("x" * (MOST_BYTES + 1))
    with pytest.raises(BadInput, match="more than"):
        read_features(path)
    path.write_text("features: [3]")
    with pytest.raises(BadInput, match="a feature is 3"):
        read_features(path)


@given(st.text(alphabet="features:-[]{} \n&*!?|>'\"#,namekind7d", max_size=60))
@settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    refusal = None
    try:
        parse_features(text)
    except BadInput as error:
        refusal = error
    assert refusal is None or "\n" not in refusal.message
