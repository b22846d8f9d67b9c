"""ubp.conform_model and what ubp.predict_interval and ubp.predict_set make of it, against fitting by hand."""

from datetime import timedelta

import numpy as np
import pytest

from tests.api.helpers import Connection, refused
from tests.decide.conftest import RECORD, record
from tests.fix_database import Database
from tests.serving_shop import AS_OF
from ubp_sql.models.conformal import interval, outcomes, place_of
from ubp_sql.models.conformal_fit import fit_interval, fit_set

USERS = [1, 2, 10, 77, 999]
TESTS = """
select scores, labels from ubp.model_tests t join ubp.models m using (model_id)
 where m.task = %s and m.version = 1 order by t.cut desc, t.part desc limit %s"""


def held_out(conn: Connection, task: str, moments: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rows = conn.execute(TESTS, [task, moments], binary=True).fetchall()
    scores, labels = (np.concatenate([np.frombuffer(row[k], "<f8") for row in rows]) for k in (0, 1))
    return scores, labels


def model_score(conn: Connection, task: str, user: int) -> float | None:
    row = conn.execute(
        "select ubp.score(%s, r.features::float8[], 1) from ubp.feature_rows r where r.user_id = %s",
        [task, user],
        binary=True,
    ).fetchone()
    return None if row is None else row[0]


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_intervals_are_those_fitted(conn: Connection, coverage: float) -> None:
    fitted = fit_interval(*held_out(conn, "spend"))
    for user in USERS:
        row = conn.execute(
            "select * from ubp.predict_interval('spend', %s::bigint, %s)", [user, coverage], binary=True
        ).fetchone()
        assert row is not None
        score = conn.execute("select ubp.predict('spend', %s::bigint)", [user], binary=True).fetchone()
        assert row[0] == (score or (None,))[0]
        assert row[3] == coverage
        if row[0] is None:
            assert row[1:3] == (None, None)
            assert row[4]
        else:
            assert row[1:3] == interval(fitted, row[0], place_of(coverage))
            assert row[4] is None
        by_key = conn.execute(
            "select * from ubp.predict_interval('spend', %s::text, %s)", [str(user), coverage], binary=True
        ).fetchone()
        assert by_key == row


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_sets_are_of_the_models_score_whatever_the_map(shop: Database, coverage: float) -> None:
    with shop.connect() as conn:
        fitted = fit_set(*held_out(conn, "purchase"))
        number = conn.execute(
            "select ubp.add_calibration_map('purchase', 1, 'isotonic', array[0.2, 0.8], array[0.4, 0.5])"
        ).fetchone()
        assert number is not None
        for mapped in (False, True):
            if mapped:
                conn.execute("select ubp.use_calibration('purchase', %s)", number)
            for user in USERS:
                row = conn.execute(
                    "select outcomes, score, coverage, reason from ubp.predict_set('purchase', %s::bigint, %s)",
                    [user, coverage],
                    binary=True,
                ).fetchone()
                assert row is not None
                said = conn.execute("select ubp.predict('purchase', %s::bigint)", [user], binary=True).fetchone()
                assert said is not None
                assert row[1] == said[0]
                score = model_score(conn, "purchase", user)
                if score is None:
                    assert row[0] is None
                    assert row[3]
                    continue
                assert row[0] == outcomes(fitted, score, place_of(coverage))
                assert (row[1] == score) is not mapped
        by_key = conn.execute("select outcomes from ubp.predict_set('purchase', '77', %s)", [coverage]).fetchone()
        by_id = conn.execute("select outcomes from ubp.predict_set('purchase', 77, %s)", [coverage]).fetchone()
        assert by_key == by_id


def test_the_newest_fit_counts_at_once(shop: Database) -> None:
    query = "select low, high from ubp.predict_interval('spend', 1)"
    with shop.connect() as conn:
        before = conn.execute(query).fetchone()
        record(conn, "spend", 10, 1_200, seed=7)
        assert conn.execute(query).fetchone() == before
        assert conn.execute("select ubp.conform_model('spend')").fetchone() == (1_200,)
        after = conn.execute(query).fetchone()
        assert after != before
        score = conn.execute("select ubp.predict('spend', 1)", binary=True).fetchone()
        assert score is not None
        assert after == interval(fit_interval(*held_out(conn, "spend")), score[0], 899)
        conn.execute("delete from ubp.conformal_quantiles where cuts[1] > timestamptz '2025-06-15'")
        assert conn.execute(query).fetchone() == before


def test_few_users_take_older_moments_too_and_one_of_both_parts_once(shop: Database) -> None:
    with shop.connect() as conn:
        record(conn, "spend", 10, 300)
        record(conn, "spend", 10, 300, part="test")
        assert conn.execute("select ubp.conform_model('spend', 1)").fetchone() == (1_800,)


def test_too_few_users_for_the_coverage(shop: Database) -> None:
    with shop.connect() as conn:
        for task in ("spend", "purchase"):
            conn.execute("delete from ubp.model_tests")
            record(conn, task, 5, 40)
            conn.execute("select ubp.conform_model(%s, 1)", [task])
        low, high, reason = conn.execute(
            "select low, high, reason from ubp.predict_interval('spend', 1, 0.99)"
        ).fetchone() or (0, 0, "")
        assert (low, high) == (None, None)
        assert "held-out users" in reason
        kept, reason = conn.execute("select outcomes, reason from ubp.predict_set('purchase', 1, 0.99)").fetchone() or (
            [],
            "",
        )
        assert kept == ["no", "yes"]
        assert "held-out users" in reason


def test_one_buyer_held_out_rules_nothing_out(shop: Database) -> None:
    """Whatever the score: the set agrees with the reason beside it."""
    with shop.connect() as conn:
        conn.execute("delete from ubp.model_tests")
        columns = np.arange(200, dtype="<i8"), np.zeros(200), np.eye(1, 200).ravel()
        when = AS_OF - timedelta(days=30)
        conn.execute(RECORD, ["purchase", 1, when, "calibration", *(column.tobytes() for column in columns)])
        conn.execute("select ubp.conform_model('purchase', 1)")
        rows = conn.execute(
            "select s.outcomes, s.reason from generate_series(1::bigint, 60) u, ubp.predict_set('purchase', u) s"
            " where s.score is not null"
        ).fetchall()
        assert rows
        assert all(kept == ["no", "yes"] and "too few held-out users" in reason for kept, reason in rows)


def test_amounts_that_are_never_below_0(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("delete from ubp.model_tests")
        rng = np.random.default_rng(8)
        scores = rng.gamma(2.0, 30.0, 1_200)
        columns = np.arange(1_200, dtype="<i8"), scores, scores * rng.gamma(1.0, 1.0, 1_200)
        when = AS_OF - timedelta(days=30)
        conn.execute(RECORD, ["spend", 1, when, "calibration", *(column.tobytes() for column in columns)])
        conn.execute("select ubp.conform_model('spend', 1)")
        lows = conn.execute(
            "select i.low from generate_series(1::bigint, 60) u, ubp.predict_interval('spend', u, 0.95) i"
            " where i.score is not null"
        ).fetchall()
        assert lows
        assert min(lows) == (0.0,)


def test_a_challenger_answers_with_its_own(shop: Database) -> None:
    """Users of version 2 get no interval of version 1's."""
    with shop.connect() as conn:
        conn.execute("select ubp.challenge_model('purchase', 2, 0.5)")
        versions = dict(
            conn.execute(
                "select u, d.version from unnest(%s::bigint[]) u, ubp.predict_detail('purchase', u) d"
                " where d.score is not null",
                [list(range(1, 40))],
            ).fetchall()
        )
        assert set(versions.values()) == {1, 2}
        for user, version in versions.items():
            query = f"select * from ubp.predict_set('purchase', {user})"
            if version == 1:
                assert conn.execute(query.encode()).fetchone()
            else:
                assert "conform_model('purchase', 2)" in str(refused(conn, "UB005", query).diag.message_hint)


def test_a_linked_id_gets_what_its_user_gets(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("select ubp.link_users('1', '77')")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        for call in ("predict_interval('spend', %s)", "predict_set('purchase', %s)", "decide('purchase', %s, 40, 5)"):
            user, member = (conn.execute(f"select * from ubp.{call}".encode(), [who]).fetchone() for who in (1, 77))
            assert user == member


def test_what_is_no_question(conn: Connection) -> None:
    for coverage in ("0", "1", "-1", "null", "'NaN'", "0.9995", "'Infinity'"):
        refused(conn, "UB003", f"select * from ubp.predict_interval('spend', 1, {coverage})")
        refused(conn, "UB003", f"select * from ubp.predict_set('purchase', '1', {coverage})")
    refused(conn, "UB003", "select * from ubp.predict_set('spend', 1)")
    refused(conn, "UB003", "select * from ubp.predict_interval('purchase', 1)")
    refused(conn, "UB001", "select * from ubp.predict_interval('nothing', 1)")
    refused(conn, "UB005", "select * from ubp.predict_set('again', 1)")
    refused(conn, "UB005", "select ubp.conform_model('again')")
    refused(conn, "UB004", "select ubp.conform_model('purchase', 99)")
    refused(conn, "UB001", "select ubp.conform_model('nothing')")
