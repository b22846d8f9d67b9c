"""Models of several outputs, and models whose features come in another order, through SQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import lightgbm
import numpy as np
import psycopg
import pytest

from tests.api.helpers import Event, feature_names, insert, packed_rows, refused, register
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
NO_LIBRARY = "do $$ from ubp_sql.kernels import native; native.entry = lambda name: None $$ language plpython3u"


@pytest.fixture(scope="module")
def few(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Ten buyers, a small feature set, task `purchase` without a model."""
    made = create(cluster, installed)
    with made.connect() as conn:
        insert(conn, [Event(u, AS_OF - timedelta(days=u), "purchase", None, float(u)) for u in range(1, 11)])
        conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
    yield made
    drop(made)


def fitted(names: list[str], **settings: object) -> lightgbm.Booster:
    """A small model of any objective."""
    rng = np.random.default_rng(len(settings))
    x = rng.normal(2, 3, (300, len(names))).astype(np.float32)
    y = rng.integers(0, 3, 300) if "num_class" in settings else x[:, 1] > x[:, 2]
    fixed = {"num_leaves": 5, "verbosity": -1, "num_threads": 1, "seed": 1}
    return lightgbm.train({**fixed, **settings}, lightgbm.Dataset(x, y, feature_name=names), num_boost_round=4)


@pytest.mark.parametrize("library", [True, False])
def test_all_outputs(few: Database, library: bool) -> None:
    names = feature_names(few)
    model = fitted(names, objective="multiclass", num_class=3)
    with few.connect() as conn:
        rows = np.stack(list(packed_rows(conn).values()))
        if not library:
            conn.execute(NO_LIBRARY)
        version = register(conn, "purchase", model)
        for row, expected in zip(rows, model.predict(rows), strict=True):
            values = [None if np.isnan(v) else float(v) for v in row]
            query = "select ubp.score_all('purchase', %s::float8[], %s)"
            assert conn.execute(query, [values, version]).fetchone() == (list(expected),)
            blob = "select ubp.score_blob_all(compiled, %s::float8[]) from ubp.models where version = %s"
            assert conn.execute(blob, [values, version]).fetchone() == (list(expected),)


def test_all_outputs_of_a_model_of_one(few: Database) -> None:
    names = feature_names(few)
    values = [1.0] * len(names)
    with few.connect() as conn, conn.transaction(force_rollback=True):
        register(conn, "purchase", fitted(names, objective="poisson"))
        conn.execute("select ubp.deploy_model('purchase')")
        both = "select ubp.score('purchase', %s::float8[]), ubp.score_all('purchase', %s::float8[])"
        one, every = conn.execute(both, [values, values]).fetchone() or (None, None)
        assert one is not None
        assert every == [one]


def test_a_model_of_several_outputs_answers_no_predict(few: Database) -> None:
    names = feature_names(few)
    values = [0.0] * len(names)
    with few.connect() as conn:
        version = register(conn, "purchase", fitted(names, objective="multiclassova", num_class=3))
        error = refused(conn, "UB007", "select ubp.deploy_model('purchase')")
        assert "3 outputs" in str(error)
        assert f"ubp.score_all('purchase', features, {version})" in str(error.diag.message_hint)
        assert refused(conn, "UB004", "select ubp.predict('purchase', 1)")
        error = refused(conn, "UB003", "select ubp.score('purchase', %s::float8[], %s)", values, version)
        assert "ubp.score_all" in str(error.diag.message_hint)
        blob = "select ubp.score_blob(compiled, %s::float8[]) from ubp.models where version = %s"
        error = refused(conn, "UB003", blob, values, version)
        assert "ubp.score_blob_all" in str(error.diag.message_hint)
        error = refused(conn, "UB004", "select ubp.score_all('purchase', %s::float8[])", values)
        assert "name a version" in str(error.diag.message_hint)
        for wrong in ([], values[1:], [*values, 1.0]):
            refused(conn, "UB003", "select ubp.score_all('purchase', %s::float8[], %s)", wrong, version)
        refused(conn, "UB004", "select ubp.score_all('purchase', %s::float8[], 99)", values)
        refused(conn, "UB001", "select ubp.score_all('nothing', %s::float8[])", values)
        refused(conn, "UB006", "select ubp.score_blob_all('\\x00', %s::float8[])", values)


def test_features_in_any_order(few: Database) -> None:
    """The same model with its columns shuffled in training scores the set's rows as LightGBM does its own."""
    names = feature_names(few)
    shuffled = names.copy()
    Random(1).shuffle(shuffled)
    assert shuffled != names
    model = fitted(shuffled, objective="binary")
    with few.connect() as conn, conn.transaction(force_rollback=True):
        register(conn, "purchase", model)
        conn.execute("select ubp.deploy_model('purchase')")
        rows = packed_rows(conn)
        order = [names.index(name) for name in shuffled]
        expected = model.predict(np.stack([row[order] for row in rows.values()]))
        found = [conn.execute("select ubp.predict('purchase', %s)", [user]).fetchone() for user in rows]
        assert found == [(score,) for score in expected]


@pytest.mark.parametrize("change", ["missing", "wrong", "more"])
def test_features_that_are_not_the_sets(few: Database, change: str) -> None:
    names = feature_names(few)
    changed = {"missing": names[1:], "wrong": ["nobody_knows", *names[1:]], "more": [*names, "one_more"]}[change]
    with few.connect() as conn:
        with pytest.raises(psycopg.Error) as caught:
            register(conn, "purchase", fitted(changed, objective="binary"))
        assert caught.value.sqlstate == "UB002"
        named = {"missing": names[0], "wrong": "nobody_knows", "more": "one_more"}[change]
        assert repr(named) in str(caught.value)
        assert "in any order" in str(caught.value.diag.message_hint)
