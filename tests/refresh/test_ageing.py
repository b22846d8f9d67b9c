"""Ageing features are finished at read: in SQL, in Python without NumPy and by the kernel, to the same bit."""

from array import array
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import feature_names, register, tiny_model
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, define, refresh, state
from ubp_sql.api import ageing as stored_rows
from ubp_sql.api.ageing import Ageing
from ubp_sql.features.compute import age_rows
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.kernels import codes
from ubp_sql.kernels.codes import ANCHOR_EPOCH_US
from ubp_sql.kernels.plan_blob import pack_plan

PLAN = FeatureSetDefinition(("purchase", "view"), (7, 30)).plan
AGEING = Ageing(PLAN.formulas.tolist(), PLAN.factors.tolist(), PLAN.anchors.tolist())
NUMBERS = st.one_of(
    st.floats(-3e15, 0), st.floats(0, 50).map(float), st.just(0.0), st.just(float("nan")), st.floats(allow_nan=False)
)


def in_python(ageing: Ageing, features: np.ndarray, anchors: np.ndarray, as_of_us: int, weekday: int) -> bytes:
    return ageing.finish(features.tobytes(), anchors.tolist(), as_of_us, weekday)


@settings(max_examples=300, deadline=None)
@given(
    anchors=st.lists(NUMBERS, min_size=len(PLAN.anchors), max_size=len(PLAN.anchors)),
    as_of_us=st.integers(-(10**15), 3 * 10**15),
    weekday=st.integers(0, 6),
)
def test_python_gives_the_kernels_bits(anchors: list[float], as_of_us: int, weekday: int) -> None:
    held = np.array([anchors])
    features = np.arange(len(PLAN.formulas), dtype=np.float32)[None]
    expected = age_rows(PLAN, features, held, as_of_us, weekday)
    assert in_python(AGEING, features[0], held[0], as_of_us, weekday) == expected.tobytes()


def test_a_stored_plan_says_the_same() -> None:
    from ubp_sql.api.ageing import _of_blob

    anchors = np.linspace(-1e15, -1, len(PLAN.anchors))
    features = np.zeros(len(PLAN.formulas), np.float32)
    as_of_us = ANCHOR_EPOCH_US - 10**15
    stored = in_python(_of_blob(pack_plan(PLAN)), features, anchors, as_of_us, 3)
    assert stored == in_python(AGEING, features, anchors, as_of_us, 3)
    assert stored != features.tobytes()


@pytest.mark.parametrize("days", [1, 40])
def test_every_reader_sees_the_sets_moment(db: Database, days: int) -> None:
    """Rows that were not rewritten, as predict*, score_users, features and the view see them,
    against the same rows computed at that moment."""
    with db.connect() as conn:
        define(conn)
        conn.execute(  # old events only: nothing crosses an edge
            """insert into ubp.events (user_id, event_time, kind, value, ingested_at)
               select 1 + n %% 9, t, (array['purchase', 'view', 'cart'])[1 + n %% 3], n, t
                 from (select n, %s - interval '90 days' - n * interval '31 hours' as t
                         from generate_series(1, 60) n) x""",
            [START],
        )
        refresh(conn, START)
        names = feature_names(db)
        conn.execute("select ubp.define_task('purchase', 'purchase')")
        register(conn, "purchase", tiny_model(names, seed=names.index("days_since_purchase")))
        conn.execute("select ubp.deploy_model('purchase')")
        done = refresh(conn, START + timedelta(days=days))
        assert done["recomputed"] == 0
        queries = (
            "select user_id, ubp.predict('purchase', user_id) from ubp.feature_rows order by 1",
            "select user_id, ubp.predict('purchase', user_id::text) from ubp.feature_rows order by 1",
            "select d.* from ubp.feature_rows r, ubp.predict_detail('purchase', r.user_id) d order by r.user_id",
            "select * from ubp.predict_many('purchase', array[1, 2, 3, 4, 5, 6, 7, 8, 9])",
            "select user_id, score, percentile from ubp.user_scores order by user_id",
            "select r.user_id, f.* from ubp.feature_rows r, ubp.features(r.user_id) f order by r.user_id, f.feature",
            "select * from ubp.user_features order by user_id",
        )
        conn.execute("select * from ubp.score_users('purchase')")
        found = [conn.execute(query.encode(), binary=True).fetchall() for query in queries]
        conn.execute("update ubp.feature_sets set stale = true")
        assert refresh(conn, START + timedelta(days=days))["recomputed"] == 9
        conn.execute("select * from ubp.score_users('purchase')")
        for query, before in zip(queries, found, strict=True):
            now = conn.execute(query.encode(), binary=True).fetchall()
            assert before == now, query
            assert before, query
        assert len({score for _, score in found[0]}) > 1


def test_the_view_gives_the_bits(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        Log(conn, 31).insert(START, 80)
        refresh(conn, START)
        refresh(conn, START + timedelta(hours=7))
        rows = conn.execute("select * from ubp.user_features order by user_id", binary=True).fetchall()
        expected = state(conn)
        assert [row[0] for row in rows] == list(expected)
        for user, _, *values in rows:
            shown = array("f", [float("nan") if value is None else value for value in values])
            assert shown.tobytes() == expected[user].finished, user


def test_the_codes_of_ageing_features_are_the_kernels() -> None:
    named = (stored_rows.AGE, stored_rows.AGE_RATIO, stored_rows.DECAY, stored_rows.WEEKDAY)
    assert named == codes.AGEING == stored_rows.AGEING
    assert named == (codes.Formula.AGE, codes.Formula.AGE_RATIO, codes.Formula.DECAY, codes.Formula.WEEKDAY)
    columns = codes.FormulaColumn
    assert (stored_rows.CODE, stored_rows.CELL_A, stored_rows.CELL_B) == (columns.CODE, columns.A, columns.B)
    assert stored_rows.ANCHOR_EPOCH_US == codes.ANCHOR_EPOCH_US
