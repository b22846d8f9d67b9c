"""Declared preparations and what they learn: against scikit-learn's own, from the training rows alone."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from ubp_sql.errors import FeatureSetMismatch, InvalidModel, TrainingError, UnknownTask
from ubp_sql.models.preparation_batch import prepare_rows
from ubp_sql.models.preparation_document import Preparation, split
from ubp_sql.training.declared_steps import DEFAULT, declared, parse_declared, read_declared
from ubp_sql.training.prepare import learn
from ubp_sql.training.prepared_file import behind_preparation

F32 = NDArray[np.float32]
NAMES = ("mean_value_view_7d", "mean_value_view_30d", "mean_value_view_36h", "days_since_view", "last_kind")
BAR = 1e-5  # of float32 columns around 1


def rows(seed: int = 1, count: int = 400) -> F32:
    rng = np.random.default_rng(seed)
    x = rng.gamma(2, 30, (count, 5))
    x[:, 4] = rng.choice([0, 1, 2, 5], count, p=[0.5, 0.3, 0.15, 0.05])
    x[rng.random(x.shape) < 0.2] = np.nan
    return x.astype(np.float32)


def learnt(*steps: dict[str, Any], x: F32 | None = None, names: tuple[str, ...] = NAMES) -> Preparation:
    return learn(declared(list(steps)), names, rows() if x is None else x)


def content(preparation: Preparation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(preparation.text)["steps"]
    return found


@pytest.mark.parametrize("how", ["mean", "median"])
def test_imputing_and_scaling_are_scikit_learns(how: str) -> None:
    x = rows()
    x[:, 3] = 7.25  # a constant column is not divided by what rounding leaves
    theirs = make_pipeline(SimpleImputer(strategy=how), StandardScaler()).fit(x.astype(np.float64))
    preparation = learnt({"step": "impute", "with": how}, {"step": "standardise"}, x=x)
    z = rows(2)
    assert np.abs(prepare_rows(preparation.program, z) - theirs.transform(z.astype(np.float64))).max() < BAR
    assert content(preparation)[1]["scale"][3] == 1.0


@pytest.mark.parametrize("settings", [{"components": 3}, {"share": 0.8}])
def test_components_are_scikit_learns(settings: dict[str, Any]) -> None:
    x = np.nan_to_num(rows())
    preparation = learnt({"step": "standardise"}, {"step": "pca", **settings}, x=x)
    theirs = make_pipeline(StandardScaler(), PCA(settings.get("components", settings.get("share"))))
    with threadpool_limits(1):
        expected = theirs.fit(x.astype(np.float64)).transform(x.astype(np.float64))
    found = prepare_rows(preparation.program, x)
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(axis=0))
    assert np.abs(found * signs - expected).max() < 10 * BAR
    assert preparation.outputs == tuple(f"pca_{k + 1}" for k in range(expected.shape[1]))
    components = np.array(content(preparation)[1]["components"])
    assert (components[np.arange(len(components)), np.abs(components).argmax(axis=1)] > 0).all()


def test_categories_are_scikit_learns() -> None:
    x = rows()
    x[:, 4] = np.nan_to_num(x[:, 4])
    preparation = learnt({"step": "one_hot", "columns": "last_kind"}, x=x)
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(x[:, 4:])
    z = np.full((6, 5), 1, np.float32)
    z[:, 4] = [0, 1, 2, 5, 9, -1]
    found = prepare_rows(preparation.program, z)
    assert found[:, 4:8].tolist() == theirs.transform(z[:, 4:]).tolist()
    assert preparation.outputs[4:] == tuple(f"last_kind={k}" for k in (0, 1, 2, 5, "other", "missing"))
    assert found[:, 8].tolist() == [0, 0, 0, 0, 1, 1]


def test_the_most_frequent_categories_are_kept() -> None:
    found = learnt({"step": "one_hot", "columns": "last_kind", "most": 2})
    assert content(found)[0]["values"] == [0, 1]


def test_windows_of_one_number_are_neighbours() -> None:
    (step,) = content(learnt({"step": "impute", "with": "interpolate"}))
    assert step["columns"] == ["mean_value_view_36h", "mean_value_view_7d", "mean_value_view_30d"]
    assert step["widths"] == [1.5, 7, 30]
    trends = ("trend_count_view_7d_30d", "trend_count_view_7d_90d", "days_since_view", "x_1d", "y_2d")
    with pytest.raises(InvalidModel, match="step 1: no two of its columns are windows of one number"):
        learnt({"step": "impute", "with": "interpolate"}, names=trends)


def test_bounds() -> None:
    x = rows()
    (step,) = content(learnt({"step": "clip", "columns": "mean_*", "quantiles": [0.05, 0.9]}, x=x))
    known = x[:, 0][~np.isnan(x[:, 0])].astype(np.float64)
    assert (step["low"][0], step["high"][0]) == tuple(np.quantile(known, [0.05, 0.9]))
    assert content(learnt({"step": "clip", "columns": ["last_kind"], "high": 3})) == [
        {"step": "clip", "columns": ["last_kind"], "high": [3.0]}
    ]


def test_a_pattern_takes_what_no_earlier_step_of_its_kind_took() -> None:
    steps = content(
        learnt(
            {"step": "indicator"},
            {"step": "impute", "with": "interpolate"},
            {"step": "impute", "columns": ["days_since_*", "!*_missing"], "with": 9999},
            {"step": "impute", "with": "mean"},
            {"step": "log1p", "columns": ["*", "!*_missing", "!last_kind"]},
        )
    )
    assert [len(step["columns"]) for step in steps] == [5, 3, 1, 9, 4]
    assert "days_since_view" not in steps[3]["columns"]
    assert steps[4]["columns"] == list(NAMES[:4])


def test_an_indicator_of_a_pattern_is_of_what_is_missing_somewhere() -> None:
    x = rows()
    x[:, 3] = 1.0
    names = learnt({"step": "indicator"}, x=x).outputs[5:]
    assert "days_since_view_missing" not in names
    assert len(names) == 4
    named = learnt({"step": "indicator", "columns": "days_since_view"}, x=x)
    assert named.outputs[5:] == ("days_since_view_missing",)


def test_infinite_values_teach_nothing() -> None:
    x = rows()
    plain = content(learnt({"step": "impute", "with": "mean"}, {"step": "standardise"}, x=x))
    more = np.vstack([x, np.full((1, 5), np.inf, np.float32), np.full((1, 5), np.nan, np.float32)])
    (imputed, scaled) = content(learnt({"step": "impute", "with": "mean"}, {"step": "standardise"}, x=more))
    assert imputed == plain[0]
    assert all(map(math.isfinite, (*scaled["mean"], *scaled["scale"])))


def test_a_column_without_a_value_is_zero() -> None:
    x = rows()
    x[:, 0] = np.nan
    preparation = learnt({"step": "impute", "with": "median"}, {"step": "standardise"}, x=x)
    assert not prepare_rows(preparation.program, x)[:, 0].any()
    x[:, 4] = np.nan
    with pytest.raises(TrainingError, match="step 1: last_kind has no value in the training rows"):
        learnt({"step": "one_hot", "columns": "last_kind"}, x=x)
    with pytest.raises(TrainingError, match="step 1: mean_value_view_7d is missing or infinite in 400 training rows"):
        learnt({"step": "pca", "components": 1}, x=x)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_default_makes_numbers_of_whatever_comes(data: st.DataObject) -> None:
    """Of finite features and missing ones; what was learnt is learnt again from the same rows."""
    number = st.floats(width=32, allow_infinity=False) | st.sampled_from([0.0, -0.0, math.nan, 3.4e38, 1e-45])
    shape = data.draw(st.integers(1, 30)), 2
    x = np.array(data.draw(st.lists(st.lists(number, min_size=2, max_size=2), min_size=shape[0], max_size=shape[0])))
    x = x.astype(np.float32)
    preparation = learn(declared(DEFAULT), ("a", "b"), x)
    assert learn(declared(DEFAULT), ("a", "b"), x.copy()).text == preparation.text
    assert np.isfinite(prepare_rows(preparation.program, x)).all()


BAD: dict[str, tuple[Any, str]] = {
    "no list": ({"steps": []}, "expected one field, prepare"),
    "nothing": ([], "expected a list of 1 to 100 steps"),
    "no step": ([{"columns": "*"}], "step 1: expected a table with a field step"),
    "unknown step": ([{"step": "scale"}], "step 1: 'scale' is no step"),
    "unknown field": ([{"step": "log1p", "base": 2}], "step 1: log1p has no field 'base'"),
    "columns": ([{"step": "log1p", "columns": 3}], "step 1: columns: expected a name"),
    "empty columns": ([{"step": "log1p", "columns": []}], "step 1: columns: expected a name"),
    "twice": ([{"step": "log1p", "columns": ["a", "a"]}], "step 1: columns: a name comes twice"),
    "with": ([{"step": "impute"}], "step 1: with: expected mean, median, interpolate or a number"),
    "with a flag": ([{"step": "impute", "with": True}], "step 1: with: expected"),
    "with nan": ([{"step": "impute", "with": math.nan}], "step 1: with: expected"),
    "clip": ([{"step": "clip"}], "step 1: expected low, high or both"),
    "clip, both ways": ([{"step": "clip", "low": 1, "quantiles": [0, 1]}], "step 1: expected low, high or both"),
    "clip upside down": ([{"step": "clip", "low": 2, "high": 1}], "step 1: expected low, high or both, ascending"),
    "quantiles": ([{"step": "clip", "quantiles": [0.9, 0.1]}], "step 1: quantiles: expected two numbers"),
    "most": ([{"step": "one_hot", "most": 10**6}], "step 1: most: expected a whole number from 1 to 1000"),
    "pca": ([{"step": "pca"}], "step 1: expected components"),
    "pca, both": ([{"step": "pca", "components": 1, "share": 0.5}], "step 1: expected components"),
    "share": ([{"step": "pca", "share": 2}], "step 1: share: expected"),
    "name": ([{"step": "pca", "components": 1, "name": 3}], "step 1: name: expected a text"),
}


@pytest.mark.parametrize("case", BAD)
def test_declarations_that_are_none(case: str) -> None:
    steps, message = BAD[case]
    with pytest.raises(InvalidModel, match=message) as caught:
        parse_declared(json.dumps(steps).encode() if case != "with nan" else b"[{step: impute, with: .nan}]")
    assert caught.value.message.startswith("prepare: ")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"step": "log1p", "columns": "x"}], "step 1: there is no column 'x'"),
        ([{"step": "log1p", "columns": "x*"}], r"step 1: there is no column 'x\*'"),
        (
            [{"step": "one_hot", "columns": "last_kind"}, {"step": "log1p", "columns": "last_kind"}],
            "step 2: there is no",
        ),
    ],
)
def test_columns_that_are_not_there(steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(FeatureSetMismatch, match=message):
        learnt(*steps)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"step": "log1p"}, {"step": "log1p"}], "step 2: no column is left for it"),
        ([{"step": "log1p", "columns": ["last_kind"]}] * 2, "'last_kind' was in a step log1p before"),
        ([{"step": "pca", "columns": "mean_*", "components": 4}], "4 components of 3 columns"),
        ([{"step": "indicator"}], "step 1: the steps do nothing"),
    ],
)
def test_steps_that_cannot_be_done(steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        learnt(*steps, x=np.nan_to_num(rows()))


def test_yaml_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "prep.yaml"
    for text, message in (
        ("prepare: [", "prep.yaml: line 1: not YAML"),
        ("prepare: [{step: clip, low: 1, low: 2}]", "not YAML: low is given twice"),
        ("a: &x 1", "anchors and aliases are not read"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidModel, match=message):
            read_declared(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidModel, match=r"prep.yaml: .*not YAML"):
        read_declared(path)


def test_without_training_rows_only_given_numbers_do(tmp_path: Path) -> None:
    path = tmp_path / "prep.yaml"
    path.write_text("prepare:\n  - {step: impute, with: 0}\n  - {step: clip, low: 0, high: 100}\n  - {step: log1p}\n")
    document, model = split(behind_preparation(b"model", path, NAMES))
    assert model == b"model"
    assert [step["step"] for step in json.loads(document)["steps"]] == ["impute", "clip", "log1p"]
    path.write_text("- {step: impute, with: 0}\n- {step: standardise}\n")
    with pytest.raises(InvalidModel, match="step 2: standardise learns from training rows, and there are none"):
        behind_preparation(b"model", path, NAMES)
    with pytest.raises(UnknownTask):
        behind_preparation(b"model", path, ())
    path.write_bytes(document)
    assert split(behind_preparation(b"model", path, ()))[0] == document
    with pytest.raises(InvalidModel, match="has a preparation in it already"):
        behind_preparation(b"ubp-prepared-model 1 ...", path, NAMES)
