"""Studies of models: what they write, for whom, from whom, and what they refuse."""

import math
import time
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.api.helpers import feature_names, refused
from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from tests.study.conftest import FORMS, LINEAR, NETWORK, PREPARED, TREES, add, linear
from ubp_sql.api import study
from ubp_sql.models.loaded import Loaded, open_model
from ubp_sql.models.raw import raw_batch
from ubp_sql.training.study import study_version

SHOP = "select * from ubp.feature_importance where version = %s order by rank"
MOVING = "select count(*) from ubp.feature_importance where version = 4 and importance > 0"
SHOWN = "select array_remove(array[{}], null) as known from ubp.user_features"
EFFECTS = "select * from ubp.partial_dependence where version = %s and feature = %s order by position"


def loaded(db: Database, version: int) -> Loaded:
    return open_model(bytes(db.one("select compiled from ubp.models where version = %s", version)))


def sample(db: Database, version: int) -> Any:
    row = db.rows("select * from ubp.model_backgrounds join ubp.models using (model_id) where version = %s", version)[0]
    return np.frombuffer(bytes(row["rows"]), "<f4").reshape(row["sampled"], -1)


@pytest.mark.parametrize("form", FORMS)
def test_the_sample_is_of_stored_rows(studied_shop: Database, form: str) -> None:
    found = sample(studied_shop, FORMS[form])
    assert len(found) == 200
    # Finished at the set's as_of, as the view shows them.
    columns = ", ".join(f"{name}::real" for name in feature_names(studied_shop))
    shown = {tuple(np.array(row["known"], np.float32).tolist()) for row in studied_shop.rows(SHOWN.format(columns))}
    assert {tuple(row[~np.isnan(row)].tolist()) for row in found} <= shown


def test_a_study_again_gives_the_same(forms: Database) -> None:
    tables = {name: f"select * from ubp.{name} where version = 4 order by 1, 2, 3, 4" for name in VIEWS}
    before = {name: forms.rows(query) for name, query in tables.items()}
    forms.execute("select ubp.study_model('purchase', 4, 200)")
    for name, query in tables.items():
        after = forms.rows(query)
        for row in (*after, *before[name]):
            row.pop("studied_at", None)
        assert after == before[name]


VIEWS = ("feature_importance", "partial_dependence")


@pytest.mark.parametrize("form", FORMS)
def test_importance(studied_shop: Database, form: str) -> None:
    rows = studied_shop.rows(SHOP, FORMS[form])
    assert [row["rank"] for row in rows] == list(range(1, len(feature_names(studied_shop)) + 1))
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert [row["importance"] for row in rows] == sorted((row["importance"] for row in rows), reverse=True)
    assert {row["method"] for row in rows} == {METHODS[form]}
    model, background = loaded(studied_shop, FORMS[form]), sample(studied_shop, FORMS[form])
    places = {name: i for i, name in enumerate(feature_names(studied_shop))}
    for row in rows:
        column = background[:, places[row["feature"]]]
        known = np.sort(column[~np.isnan(column)])
        if 2 * len(known) <= len(column):
            assert row["typical"] is None
        else:
            assert np.float32(row["typical"]) == known[(len(known) - 1) // 2]
        # A feature moves scores on the whole only where changing it changes some score.
        changed = background.copy()
        changed[:, places[row["feature"]]] = np.roll(column, 1)
        moved = np.abs(raw_batch(model, changed) - raw_batch(model, background)).max()
        assert (row["importance"] > 1e-9) >= (moved > 1e-6), row
        assert (row["permutation"] > 0) <= (row["importance"] > 0), row


METHODS = {"trees": "shap", "network": "sampled shap", "linear": "linear", "prepared": "sampled shap"}


def test_importance_of_a_linear_model_is_exact(studied_shop: Database) -> None:
    background = sample(studied_shop, LINEAR).astype(np.float64)
    names = feature_names(studied_shop)
    weights = np.array(loaded(studied_shop, LINEAR).linear.weight)  # type: ignore[attr-defined]
    exact = np.abs(weights * (background - background.mean(axis=0)))
    for row in studied_shop.rows(SHOP, LINEAR):
        i = names.index(row["feature"])
        assert row["importance"] == pytest.approx(exact[:, i].mean() if weights[i] else 0.0, abs=1e-12)


def test_sampled_importance_is_near_the_exact_one(studied_shop: Database) -> None:
    """Of a preparation that fills in 0, before a linear model: Shapley values are terms less their means."""
    background = np.nan_to_num(sample(studied_shop, PREPARED).astype(np.float64))
    model = loaded(studied_shop, PREPARED).model  # type: ignore[attr-defined]
    terms = np.array(model.linear.weight) * background
    exact = np.abs(terms - terms.mean(axis=0)).mean(axis=0)
    names = feature_names(studied_shop)
    for row in studied_shop.rows(SHOP, PREPARED)[:5]:
        assert row["importance"] == pytest.approx(exact[names.index(row["feature"])], rel=0.25)


@pytest.mark.parametrize("form", FORMS)
def test_partial_dependence(studied_shop: Database, form: str) -> None:
    model, background = loaded(studied_shop, FORMS[form]), sample(studied_shop, FORMS[form])
    for shown in [row for row in studied_shop.rows(SHOP, FORMS[form])[:4] if row["importance"] > 0]:
        i = feature_names(studied_shop).index(shown["feature"])
        rows = studied_shop.rows(EFFECTS, FORMS[form], shown["feature"])
        assert 1 < len(rows) <= 21
        xs = [row["x"] for row in rows if row["x"] is not None]
        assert xs == sorted(set(xs))
        assert set(np.array(xs, np.float32).tolist()) <= set(background[:, i].tolist())
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        assert (rows[-1]["x"] is None) == bool(np.isnan(background[:, i]).any())
        assert sum(row["share"] for row in rows) == pytest.approx(1.0)
        for row in rows:
            changed = background.copy()
            changed[:, i] = math.nan if row["x"] is None else row["x"]
            scores = model.score_batch(changed)[:, 0]
            assert row["mean"] == pytest.approx(scores.mean(), abs=1e-12)
            assert np.mean(scores < row["low"]) <= 0.1 <= np.mean(scores <= row["low"]) + 0.01
            assert np.mean(scores > row["high"]) <= 0.1 <= np.mean(scores >= row["high"]) + 0.01


def test_as_many_effects_as_are_asked_for(forms: Database) -> None:
    query = "select count(distinct feature) from ubp.partial_dependence where version = 4"
    for asked, found in ((0, 0), (3, 3), (10_000, forms.one(MOVING))):
        forms.execute("select ubp.study_model('purchase', 4, 50, %s)", asked)
        assert forms.one(query) == found


def test_who_is_sampled(forms: Database) -> None:
    position = feature_names(forms).index("count_purchase_all") + 1
    forms.execute(
        f"update ubp.feature_rows set features[{position}] = case when user_id %% 3 = 0 then real 'NaN' else 0 end"
        " where user_id %% 2 = 0 or user_id %% 3 = 0".replace("%%", "%")
    )
    forms.execute("select ubp.study_model('purchase')")
    rows = sample(forms, TREES)
    assert len(rows) == forms.one("select users from ubp.model_backgrounds where model_id = 1")
    assert len(rows) == forms.one("select count(*) from ubp.feature_rows where user_id % 2 <> 0 and user_id % 3 <> 0")
    assert (rows[:, position - 1] >= 1).all()


def test_a_linear_model_that_lacks_features_is_studied_on_those_it_scores(forms: Database) -> None:
    with forms.connect() as conn:
        version = add(conn, linear(feature_names(forms), "std_gap_purchase_all"))
        conn.execute("select ubp.study_model('purchase', %s)", [version])
        rows = sample(forms, version)
        assert 2 <= len(rows) < 270
        assert not np.isnan(rows[:, feature_names(forms).index("std_gap_purchase_all")]).any()
        version = add(conn, linear(feature_names(forms)))
        error = refused(conn, "UB007", f"select ubp.study_model('purchase', {version})")
    assert "the model gives a number for 0 of 270 users" in str(error)


def test_default_version(forms: Database) -> None:
    assert forms.one("select ubp.study_model('purchase', sample => 20)") == TREES
    forms.execute("update ubp.deployments set retired_at = now()")
    assert forms.one("select ubp.study_model('purchase', sample => 20)") == PREPARED


def test_a_study_that_is_undone_leaves_the_old_one(forms: Database) -> None:
    before = forms.rows(SHOP, NETWORK)
    with forms.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute("select ubp.study_model('purchase', 4, 30)")
    assert forms.rows(SHOP, NETWORK) == before


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "says"),
    [
        ("'no_task'", "UB001", "unknown task 'no_task'"),
        ("null", "UB001", "unknown task NULL"),
        ("'purchase', 99", "UB004", "no version 99"),
        ("'purchase', 1, 1", "UB003", "sample is 1"),
        ("'purchase', 1, null", "UB003", "sample is null"),
        ("'purchase', 1, 100001", "UB003", "sample is 100001"),
        ("'purchase', 1, 100, -1", "UB003", "features is -1"),
        ("'purchase', 1, 100, null", "UB003", "features is null"),
    ],
)
def test_refusals(studied_shop: Database, arguments: str, sqlstate: str, says: str) -> None:
    with studied_shop.connect() as conn:
        error = refused(conn, sqlstate, f"select ubp.study_model({arguments})")
    assert says in str(error)
    assert error.diag.message_hint


def test_nothing_to_sample(forms: Database) -> None:
    with forms.connect() as conn:
        conn.execute("update ubp.feature_rows set features[1:] = array_fill('NaN'::real, array[cardinality(features)])")
        assert "no rows of two users" in str(refused(conn, "UB005", "select ubp.study_model('purchase')"))
        conn.execute("delete from ubp.feature_rows")
        refused(conn, "UB005", "select ubp.study_model('purchase')")
        conn.execute("update ubp.feature_rows set features = features[:3]")
        conn.execute("update ubp.feature_sets set as_of = null, as_of_us = null")
        assert "refresh_features" in str(refused(conn, "UB005", "select ubp.study_model('purchase')").diag.message_hint)


def test_rows_of_another_length(forms: Database) -> None:
    with forms.connect() as conn:
        conn.execute("update ubp.feature_rows set features = features[:3] where user_id % 2 = 0")
        refused(conn, "UB002", "select ubp.study_model('purchase')")


def test_roles(forms: Database) -> None:
    with forms.connect() as conn:
        for role, study, views in (
            ("ubp_admin", True, True),
            ("ubp_loader", True, True),
            ("ubp_analyst", False, True),
            ("ubp_auditor", False, True),
        ):
            conn.execute(f"set role {role}".encode())
            for allowed, query in (
                (study, "select ubp.study_model('purchase', sample => 20)"),
                (views, "select count(*) from ubp.feature_importance"),
                (views, "select count(*) from ubp.partial_dependence"),
                (role in ("ubp_admin", "ubp_auditor"), "select count(*) from ubp.model_backgrounds"),
            ):
                if allowed:
                    conn.execute(query.encode())
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        conn.execute(query.encode())
            conn.execute("reset role")


@pytest.mark.parametrize("form", ["trees", "network"])
def test_a_study_can_be_cancelled(forms: Database, form: str) -> None:
    with forms.connect() as conn:
        conn.execute("select ubp.study_model('purchase', 5, 2)")  # imports are not what is timed
        conn.execute("set statement_timeout = '20ms'")
        begin = time.perf_counter()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("select ubp.study_model('purchase', %s, 100000, 10000)", [FORMS[form]])
        assert time.perf_counter() - begin < 1.5
    assert len(sample(forms, FORMS[form])) == 200


def test_a_cancel_can_come_between_two_users(studied_shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reasons of one user of a model of thousands of trees take tens of milliseconds."""
    done: list[str] = []
    model = loaded(studied_shop, TREES)

    class Slow:
        def contributions(self, packed: bytes, between: Any) -> tuple[float, Any]:
            done.append("user")
            return 0.0, np.zeros(model.features)

    monkeypatch.setattr(study, "touch", lambda plpy, memory: done.append("look"))
    rows = np.zeros((3, model.features), np.float32)
    study._Study(None, {}, {"model_id": 1}, model, rows)._exact(Slow())  # type: ignore[arg-type]
    assert done == ["look", "user"] * 3


def test_on_the_command_line(forms: Database) -> None:
    shown = told("model", "study", "purchase", "4", "--sample", "60", "--features", "3", "--dsn", forms.dsn)
    assert "purchase version 4, 60 of 270 users as of 2025-07-01" in shown
    assert shown.count("\n") < 12
    found = document("model", "study", "purchase", "--features", "2", "--dsn", forms.dsn)
    assert [found["version"], found["sampled"], len(found["features"])] == [TREES, 270, 2]
    code, sqlstate, message = refusal("model", "study", "purchase", "77", "--dsn", forms.dsn)
    assert (code, sqlstate) == (4, "UB004")
    assert "no version 77" in message


def test_scoring_studies_what_was_not_studied(forms: Database) -> None:
    forms.execute("delete from ubp.model_backgrounds")
    assert document("score", "purchase", "--dsn", forms.dsn)[0]["users"] == 270
    versions = "select array_agg(distinct version) from ubp.feature_importance"
    assert forms.one(versions) == [TREES]
    forms.execute("select ubp.challenge_model('purchase', 2, 0.5)")
    before = forms.one("select studied_at from ubp.model_backgrounds")
    told("score", "purchase", "--dsn", forms.dsn)
    assert forms.one(versions) == [TREES, 2]
    assert forms.one("select studied_at from ubp.model_backgrounds where model_id = 1") == before


def test_what_cannot_be_studied_is_said(forms: Database) -> None:
    forms.execute("delete from ubp.feature_rows")
    said: list[str] = []
    with forms.connect() as conn:
        study_version(conn, "purchase", TREES, said.append)
    assert len(said) == 1
    assert said[0].startswith("version 1 is not studied: feature set 'default' has no rows of two users")
    assert "ubp.refresh_features()" in said[0]


def test_a_slow_network_is_studied_on_fewer(forms: Database) -> None:
    notices: list[str] = []
    with forms.connect() as conn:
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        conn.execute("update ubp.models set checked = checked || '{\"seconds_per_row_together\": 0.0002}'")
        conn.execute("select ubp.study_model('purchase', %s, 200)", [NETWORK])
    assert 2 <= len(sample(forms, NETWORK)) < 200
    assert any("is slow" in line for line in notices)
