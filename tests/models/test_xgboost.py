"""Scores of XGBoost's models: to the bit those of the plain reference, and XGBoost's own but for its rounding."""

import json

import numpy as np
import pytest
import xgboost

from tests.models import reference_xgboost
from tests.models.scorers import by_all, same_bits
from tests.models.xgboost_makers import NAMES, TRAINED, by_xgboost, document, rows_for, saved
from ubp_sql.errors import FeatureSetMismatch, UnsupportedModel
from ubp_sql.kernels.dispatch import Trees
from ubp_sql.kernels.forest_codes import CATEGORY, MISSING_LEFT
from ubp_sql.models import walker
from ubp_sql.models.batch import batch_form
from ubp_sql.models.blob import open_blob
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.walker import Walker

LINEAR = [name for name, (_, settings, _) in TRAINED.items() if settings.get("booster") == "gblinear"]
# What docs/models.md says of the distance to XGBoost's float32, in parts of the largest number that it adds up.
PARTS = 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_scores_are_the_references_to_the_bit(name: str) -> None:
    found = document(name)
    x = rows_for(name, 120, 1, endless=name not in LINEAR)
    imported = read_model(saved(name), NAMES)
    if name in LINEAR:  # huge values overflow the link of the plain loops
        x = np.clip(x, -50, 50)
    expected = [reference_xgboost.scores(found, row) for row in x.tolist()]
    scores = by_all(imported.compiled, x)
    if name in LINEAR:  # the reference adds the bias first: another order
        np.testing.assert_allclose(scores, expected, rtol=1e-12)
    else:
        same_bits(scores, np.array(expected))
    assert (imported.format, imported.objective, imported.by_name) == ("xgboost", TRAINED[name][0], True)
    model = found["learner"]["gradient_booster"]
    trees = model.get("gbtree", model)["model"].get("trees", [])
    assert imported.trees == len(trees)
    assert imported.outputs == scores.shape[1]


@pytest.mark.parametrize("name", TRAINED)
def test_json_and_ubj_compile_to_the_same_bytes(name: str) -> None:
    assert read_model(saved(name, "json"), NAMES).compiled == read_model(saved(name, "ubj"), NAMES).compiled


@pytest.mark.parametrize("name", TRAINED)
def test_xgboost_says_the_same_but_for_its_rounding(name: str) -> None:
    x = rows_for(name, 2000, 2)
    if name in LINEAR:
        x = np.clip(x, -3, 3)
    scores = open_model(read_model(saved(name), NAMES).compiled).score_batch(x)
    expected = by_xgboost(name, x)
    found = document(name)
    sums = np.array([reference_xgboost.margins(found, row) for row in x[:200].tolist()])
    scale = 1.0 + np.abs(sums).max()
    if TRAINED[name][0].startswith(("reg:logistic", "binary:logistic", "multi:")):
        assert np.abs(scores - expected).max() <= PARTS
    elif found["learner"]["objective"]["name"].startswith(("survival", "count", "reg:gamma", "reg:tweedie")):
        np.testing.assert_allclose(scores, expected, rtol=PARTS * scale)
    else:
        assert np.abs(scores - expected).max() <= PARTS * scale


def test_every_walker_sends_missing_categories_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they belong to a node's set, the bit vectors give way to the traversal."""
    blob = open_blob(read_model(saved("binary:logistic"), NAMES).compiled)
    assert CATEGORY | MISSING_LEFT in blob.node_flags
    assert isinstance(batch_form(blob), Trees)
    x = rows_for("binary:logistic", 300, 5, endless=True)
    compiled = [Walker(blob).scores(row) for row in x.tolist()]
    monkeypatch.setattr(walker, "MAX_COMPILED_LEAVES", 0)
    assert [Walker(blob).scores(row) for row in x.tolist()] == compiled


def test_the_best_iteration_counts() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, len(NAMES)))
    y = (x[:, 0] + rng.normal(size=400) > 0).astype(float)
    data, other = (xgboost.DMatrix(a, b, feature_names=list(NAMES)) for a, b in ((x[:80], y[:80]), (x[80:], y[80:])))
    settings = {"objective": "binary:logistic", "eta": 1.0, "nthread": 1, "eval_metric": "logloss"}
    booster = xgboost.train(settings, data, 60, evals=[(other, "test")], early_stopping_rounds=3, verbose_eval=False)
    best = booster.best_iteration
    assert best + 1 < booster.num_boosted_rounds()
    imported = read_model(bytes(booster.save_raw("json")), NAMES)
    assert imported.trees == best + 1
    rows = rng.normal(size=(500, len(NAMES))).astype(np.float32)
    expected = booster.predict(xgboost.DMatrix(rows, feature_names=list(NAMES)), iteration_range=(0, best + 1))
    assert np.abs(open_model(imported.compiled).score_batch(rows)[:, 0] - expected).max() <= PARTS
    booster.set_attr(best_iteration=None)
    assert read_model(bytes(booster.save_raw("json")), NAMES).trees == booster.num_boosted_rounds()


def test_features_are_found_by_name() -> None:
    turned = tuple(reversed(NAMES))
    x = rows_for("binary:logistic", 200, 4)
    one = open_model(read_model(saved("binary:logistic"), NAMES).compiled).score_batch(x)
    other = open_model(read_model(saved("binary:logistic"), turned).compiled).score_batch(x[:, ::-1])
    same_bits(one, other)
    linear = open_model(read_model(saved("linear"), turned).compiled).score_batch(x[:, ::-1])
    np.testing.assert_allclose(linear, open_model(read_model(saved("linear"), NAMES).compiled).score_batch(x))
    with pytest.raises(FeatureSetMismatch, match="no feature 'n0'"):
        read_model(saved("binary:logistic"), ("other", *NAMES[1:]))


@pytest.mark.parametrize("name", ["binary:logistic", "linear"])
def test_without_names_the_order_is_trusted_and_the_count_is_not(name: str) -> None:
    found = document(name)
    found["learner"]["feature_names"] = []
    data = json.dumps(found).encode()
    imported = read_model(data, tuple("abcde"))
    assert not imported.by_name
    assert imported.compiled == read_model(saved(name), NAMES).compiled
    with pytest.raises(FeatureSetMismatch, match="5 features without names, the feature set has 4"):
        read_model(data, tuple("abcd"))


def test_what_xgboost_itself_does_wrong_is_refused() -> None:
    """With a base score for each output, its linear booster takes the first of them for all."""
    found = document("linear classes")
    found["learner"]["learner_model_param"]["base_score"] = "[1E-1,2E-1,3E-1]"
    with pytest.raises(UnsupportedModel, match="takes the first of them"):
        read_model(json.dumps(found).encode(), NAMES)
