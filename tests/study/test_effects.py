"""Grids, shares, typical values, permutation importance: by hand and by Hypothesis."""

import math

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fix_database import Database
from tests.study.conftest import LINEAR, NETWORK, TREES
from tests.study.test_study import loaded, sample
from ubp_sql.models.calibration import ISOTONIC, Map, batch
from ubp_sql.models.effects import (
    GRID,
    categories_of,
    grid,
    partial_dependence,
    permutation_importance,
    typical_values,
    used_features,
)
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
NAN = math.nan
COLUMN = st.lists(
    st.one_of(st.just(NAN), st.integers(-4, 4).map(float), st.floats(width=32, allow_nan=False)),
    min_size=1,
    max_size=70,
)


@settings(max_examples=150, deadline=None)
@given(COLUMN, st.booleans())
def test_a_grid_is_of_values_that_there_are(values: list[float], whole: bool) -> None:
    column = np.array(values)
    x = grid(column, whole=whole)
    known = sorted({value for value in values if value == value})
    points = [value for value in x.tolist() if value == value]
    assert points == sorted(set(points))
    assert set(points) <= set(known)
    assert len(points) == min(len(known), GRID) or (len(known) > GRID and 1 <= len(points) <= GRID)
    assert math.isnan(x[-1]) == any(value != value for value in values) or not len(x)
    (effect,) = partial_dependence(lambda rows: rows[:, 0].astype(np.float64), column[:, None].astype(np.float32), [0],
                                   frozenset([0] if whole else []))  # fmt: skip
    assert effect.share.sum() == pytest.approx(1.0)
    assert len(effect.share) == len(effect.x)


def test_shares_are_of_the_nearest() -> None:
    column = np.repeat(np.array([0.0, 1.0, 1.4, 10.0, NAN], np.float32), [4, 3, 1, 1, 1])[:, None]
    (effect,) = partial_dependence(lambda rows: np.zeros(len(rows)), column, [0], frozenset())
    assert effect.x.tolist()[:-1] == pytest.approx([0, 1, 1.4, 10])
    assert effect.share.tolist() == pytest.approx([0.4, 0.3, 0.1, 0.1, 0.1])
    many = np.append(np.arange(1000.0), 1e9).astype(np.float32)[:, None]
    (effect,) = partial_dependence(lambda rows: np.zeros(len(rows)), many, [0], frozenset())
    assert len(effect.x) == GRID
    assert effect.x[-1] == 990.0  # one odd value does not stretch the grid
    assert effect.share.sum() == pytest.approx(1.0)


def test_the_effect_of_a_sum_is_its_term() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    weights = np.array([1.0, -2.0, 0.0])
    effects = list(partial_dependence(lambda r: r.astype(np.float64) @ weights, rows, [0, 1, 2], frozenset()))
    for weight, effect in zip(weights, effects, strict=True):
        assert np.diff(effect.mean) == pytest.approx(weight * np.diff(effect.x), abs=1e-6)
        assert (effect.low <= effect.mean).all()
        assert (effect.mean <= effect.high).all()
        spread = effect.high - effect.low
        assert spread == pytest.approx(np.full(len(spread), spread[0]), abs=1e-5)


def test_typical_values() -> None:
    rows = np.array([[1, NAN, 3, NAN], [2, NAN, 3, 1], [4, 5, 7, NAN], [9, NAN, 8, 2]], np.float32)
    found = typical_values(rows, frozenset([2]))
    assert found.tolist()[0] == 2.0
    assert math.isnan(found[1])
    assert found[2] == 3.0
    assert math.isnan(found[3])


def test_permutation_importance() -> None:
    rows = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    found = permutation_importance(lambda r: 3.0 * r[:, 1] + np.zeros(len(r)), rows, [0, 1, 2], 0)
    assert found[[0, 2]].tolist() == [0.0, 0.0]
    assert found[1] == pytest.approx(3 * 2 / math.sqrt(math.pi), rel=0.15)  # mean |a - b| of two normal numbers
    assert (found == permutation_importance(lambda r: 3.0 * r[:, 1] + np.zeros(len(r)), rows, [0, 1, 2], 0)).all()


def test_categories_have_a_most_frequent_value() -> None:
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.integers(0, 30, 500), rng.normal(size=500), np.zeros(500)]).astype(np.float32)
    labels = np.isin(rows[:, 0], [3, 5, 11, 29]).astype(int)
    data = lightgbm.Dataset(rows, labels, categorical_feature=[0], feature_name=["a", "b", "c"])
    chosen = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 1, "min_data_in_leaf": 1}
    booster = lightgbm.train(chosen, data, num_boost_round=5)
    opened = open_model(read_model(booster.model_to_string().encode(), ("a", "b", "c")).compiled)
    assert categories_of(opened) == {0}
    assert 0 in used_features(opened)
    assert 2 not in used_features(opened)
    most, counts = np.unique(rows[:, 0], return_counts=True)
    assert typical_values(rows, frozenset([0]))[0] == most[counts.argmax()]
    frequent = np.sort(most[np.argsort(-counts, kind="stable")[:GRID]])
    (effect,) = partial_dependence(lambda r: np.zeros(len(r)), rows, [0], frozenset([0]))
    assert effect.x.tolist() == frequent.tolist()


def test_effects_are_in_what_predict_says(forms: Database) -> None:
    x, y = [0.1, 0.6], [0.0, 0.9]
    with forms.connect() as conn:
        conn.execute("select ubp.add_calibration_map('purchase', 1, 'isotonic', %s, %s)", [x, y])
        conn.execute("select ubp.study_model('purchase', 1, 50)")
        assert conn.execute(MAPS).fetchone() == (None,)  # deployed without it
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.study_model('purchase', 1, 50)")
        assert conn.execute(MAPS).fetchone() != (None,)
    model, rows = loaded(forms, TREES), sample(forms, TREES)
    feature = forms.one("select feature from ubp.feature_importance where version = 1 and rank = 1")
    position = forms.one("select position from ubp.feature_catalogue where feature = %s", feature)
    shown = forms.rows("select * from ubp.partial_dependence where version = 1 and feature = %s", feature)
    for row in shown:
        rows = rows.copy()
        rows[:, position - 1] = NAN if row["x"] is None else row["x"]
        values = batch(Map(ISOTONIC, x, y), model.score_batch(rows)[:, 0])
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-12)


def test_effects_of_a_challenger_are_through_its_own_map(forms: Database) -> None:
    """Not through the newest of its maps, which answers nobody."""
    add = "select ubp.add_calibration_map('purchase', %s, 'platt', array[1.0, %s])"
    of = "select map_id from ubp.model_backgrounds join ubp.models using (model_id) where version = %s"
    with forms.connect() as conn:
        for form, deploy in (
            (LINEAR, "select ubp.challenge_model('purchase', %s, 0.5)"),
            (NETWORK, "select ubp.shadow_model('purchase', %s, true)"),
        ):
            own = conn.execute(add, [form, 0.5]).fetchone()
            conn.execute(deploy, [form])
            conn.execute(add, [form, -0.5])
            conn.execute("select ubp.study_model('purchase', %s, 20, 1)", [form])
            assert conn.execute(of, [form]).fetchone() == own
        conn.execute("select ubp.challenge_model('purchase', %s, 0)", [LINEAR])
        newest = conn.execute(add, [LINEAR, 0.1]).fetchone()
        conn.execute("select ubp.study_model('purchase', %s, 20, 1)", [LINEAR])
        assert conn.execute(of, [LINEAR]).fetchone() == newest


MAPS = "select map_id from ubp.model_backgrounds where model_id = 1"
