"""Stored scores: changed in place, nothing lost, nothing left behind, old ones until the commit."""

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, Event, feature_names, insert, refused, register, tiny_model
from tests.api.test_deployments import AS_OF, SCORES
from tests.fix_database import Database, clone, create, drop
from ubp_sql.embedded import Cluster
from ubp_sql.install import commands
from ubp_sql.models.population import percentiles

USERS = 1_000
SCORE = "select users, scored, without_score from ubp.score_users('purchase')"
STORED = "select user_id, score, percentile, reason, version, as_of from ubp.user_scores order by user_id"
DEPLOY = "select ubp.deploy_model('purchase', %s)"
PLACES = "select user_id, ctid::text from ubp.score_rows"


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A thousand users, every tenth without a purchase, and two versions of `purchase`, the first deployed."""
    made = create(cluster, installed)
    with made.connect() as conn:
        days = [
            Event(u, AS_OF - timedelta(days=1 + u * d % 90), "purchase" if u % 10 else "view", d, u % 50 + d)
            for u in range(1, USERS + 1)
            for d in (1, 7)
        ]
        insert(conn, days)
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
        for seed in range(2):
            register(conn, "purchase", tiny_model(feature_names(made), seed))
        conn.execute(DEPLOY, [1])
    yield made
    drop(made)


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `prepared` that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made


def stored(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute(STORED, binary=True).fetchall()


def check(conn: Connection) -> list[tuple[Any, ...]]:
    """What is stored is what single calls say, with percentiles by counting."""
    rows = stored(conn)
    assert [row[:2] for row in rows] == conn.execute(SCORES, binary=True).fetchall()
    given = [row[1] for row in rows if row[1] is not None]
    for _, score, percentile, reason, _, _ in rows:
        if score is None:
            assert percentile is None
            assert reason.startswith("too little history")
        else:
            assert reason is None
            assert percentile == pytest.approx(100 * sum(other < score for other in given) / len(given))
    return rows


def test_scores_are_changed_in_place(shop: Database) -> None:
    """Version after version of every score: no page is added, without any vacuum, and no index entry."""
    sizes = "select pg_relation_size('ubp.score_rows'), pg_relation_size('ubp.score_rows_pkey')"
    updates = (
        "select n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del from pg_stat_user_tables where relname = 'score_rows'"
    )
    with shop.connect() as conn:
        assert conn.execute(SCORE).fetchone() == (USERS, USERS * 9 // 10, USERS // 10)
        first = check(conn)
        before = conn.execute(sizes).fetchone()
        for version in (2, 1, 2, 1, 2, 1):
            conn.execute(DEPLOY, [version])
            conn.execute(SCORE)
            assert {row[4] for row in check(conn)} == {version}
        assert check(conn) == first
        assert conn.execute(sizes).fetchone() == before
        conn.execute("select pg_stat_force_next_flush()")
        assert conn.execute(updates).fetchone() == (USERS, 6 * USERS, 6 * USERS, 0)


def test_rows_that_are_right_stay(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute(SCORE)
        first, places = check(conn), conn.execute(PLACES).fetchall()
        scored_at = "select scored_at from ubp.score_runs"
        at = conn.execute(scored_at).fetchall()
        conn.execute(SCORE)
        assert (check(conn), conn.execute(PLACES).fetchall()) == (first, places)
        assert conn.execute(scored_at).fetchall() > at
        conn.execute("update ubp.score_rows set score = -1 where user_id = 42")
        conn.execute("update ubp.score_rows set percentile = 101 where user_id = 43")
        conn.execute("update ubp.score_rows set reason = 'none' where user_id = 44")
        conn.execute(SCORE)
        assert check(conn) == first
        moved = dict(places) | dict(conn.execute(PLACES).fetchall())
        assert {user for user, place in places if moved[user] != place} <= {42, 43, 44}


def test_users_come_and_go(shop: Database) -> None:
    gone = "delete from ubp.{} where user_id % 7 = 0 or user_id > 990"
    with shop.connect() as conn:
        conn.execute(SCORE)
        first = check(conn)
        conn.execute(gone.format("feature_rows").encode())
        conn.execute(SCORE)
        left = check(conn)
        assert {row[0] for row in first} - {row[0] for row in left} == {
            user for user in range(1, USERS + 1) if user % 7 == 0 or user > 990
        }
        assert conn.execute("select users from ubp.score_runs").fetchall() == [(len(left),)]
        insert(conn, [Event(user, AS_OF - timedelta(days=3), "purchase") for user in (-5, 7, 991, 10**12)])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute(SCORE)
        assert {row[0] for row in check(conn)} >= {-5, 7, 991, 10**12}
        conn.execute(gone.format("score_rows").encode())
        conn.execute(SCORE)
        check(conn)
        conn.execute("truncate ubp.feature_rows")
        assert conn.execute(SCORE).fetchone() == (0, 0, 0)
        assert stored(conn) == conn.execute("select * from ubp.score_rows").fetchall() == []


def test_challengers_share_the_rows(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute(SCORE)
        for share in (0.3, 0.9, 0.0):
            conn.execute("select ubp.challenge_model('purchase', 2, %s)", [share])
            conn.execute(SCORE)
            versions = [row[4] for row in check(conn)]
            by_version = {1: versions.count(1), 2: versions.count(2)}
            assert by_version[2] == pytest.approx(share * USERS, abs=60)
            runs = dict(conn.execute("select version, users from ubp.score_runs").fetchall())
            assert runs == ({1: USERS} if share == 0 else by_version)


def test_two_tasks_side_by_side(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute(SCORE)
        first = check(conn)
        conn.execute("select ubp.define_task('second', 'view')")
        register(conn, "second", tiny_model(feature_names(shop), 5))
        conn.execute("select ubp.deploy_model('second')")
        conn.execute("select * from ubp.score_users('second')")
        query = "select user_id, score from ubp.user_scores where task = 'second' order by user_id"
        single = "select user_id, ubp.predict('second', user_id) from ubp.feature_rows order by user_id"
        assert conn.execute(query, binary=True).fetchall() == conn.execute(single, binary=True).fetchall()
        conn.execute("delete from ubp.feature_rows where user_id = 1")
        conn.execute("select * from ubp.score_users('second')")
        one = STORED.replace("order by", "where task = 'purchase' order by")
        assert conn.execute(one.encode(), binary=True).fetchall() == first


def test_old_scores_until_the_commit(shop: Database) -> None:
    with shop.connect() as scorer, shop.connect() as reader:
        scorer.execute(SCORE)
        first = check(reader)
        scorer.execute(DEPLOY, [2])
        with scorer.transaction(force_rollback=True):
            scorer.execute(SCORE)
            assert {row[4] for row in stored(scorer)} == {2}
            assert stored(reader) == first
        assert stored(scorer) == first
        scorer.execute("set statement_timeout = 200")  # a shorter one could hit the statement that lifts it
        with pytest.raises(psycopg.errors.QueryCanceled):
            scorer.execute("select * from ubp.score_users('purchase'), pg_sleep(5)")
        scorer.execute("reset statement_timeout")
        assert stored(reader) == first
        with reader.transaction():
            reader.execute("set transaction isolation level repeatable read")
            assert stored(reader) == first
            scorer.execute(SCORE)
            assert stored(reader) == first
        assert {row[4] for row in check(reader)} == {2}


@pytest.mark.parametrize(
    "spoil",
    [
        "update ubp.feature_rows set features = features || 1::real where user_id = 500",
        "update ubp.feature_rows set features = features || 1::real",
        "update ubp.feature_rows set features[2] = null where user_id = 500",
        "update ubp.feature_rows set anchors = null where user_id = 500",
        "update ubp.feature_rows set anchors = null",
    ],
)
def test_rows_that_no_refresh_writes(shop: Database, spoil: str) -> None:
    with shop.connect() as conn:
        conn.execute(SCORE)
        first = stored(conn)
        conn.execute(spoil.encode())
        refused(conn, "UB002", SCORE)
        assert stored(conn) == first


def test_a_downgrade_keeps_the_scores(shop: Database) -> None:
    everything = (
        "select task, user_id, score, percentile, reason, version, as_of, scored_at from ubp.user_scores order by 2"
    )
    with shop.connect() as conn:
        conn.execute("select ubp.challenge_model('purchase', 2, 0.4)")
        conn.execute(SCORE)
        before = conn.execute(everything.encode()).fetchall()
        assert len(before) == USERS
        commands.downgrade(conn, "0010", run=True)
        assert conn.execute("select relkind from pg_class where oid = 'ubp.user_scores'::regclass").fetchone() == ("r",)
        assert conn.execute(everything.encode()).fetchall() == before
        commands.apply(conn)
        assert conn.execute(everything.encode()).fetchall() == before
    with shop.connect() as conn:
        conn.execute(SCORE)
        check(conn)


STORE = """
create function pg_temp.store(runs text) returns void language plpython3u as $$
import json
import numpy as np
from ubp_sql.api import score_rows
from ubp_sql.api.serving import Policy
from ubp_sql.models.population import Scored
score_rows.WRITE_USERS = 3
found = []
for version, said in json.loads(runs):
    users = sorted(said, key=int)
    columns = list(zip(*(said[user] for user in users))) or [[], []]
    scores = np.array([np.nan if score is None else score for score in columns[0]], float)
    users = np.array([int(user) for user in users], np.int64)
    said = Scored(users, scores, np.abs(scores) / 2, np.array(columns[1], np.int8))
    found.append((version, "2024-03-01+00", said, Policy(3, 9.0)))
score_rows.store_scores(plpy, SD, "purchase", found)
$$"""
VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0, 1e300]).map(lambda score: (score, 0))
SAID = st.one_of(VALUES, st.sampled_from([(None, why) for why in (1, 2, 3, 4)]))
REASONS = "", "too little his", "the model give", "abstained: few", "abstained: fea"
RUNS = st.lists(
    st.dictionaries(
        st.sampled_from([-(2**63), -1, *range(9), 2**63 - 2, 2**63 - 1]), st.tuples(st.sampled_from([1, 2]), SAID)
    ),
    min_size=2,
    max_size=4,
)


# From the fourth on they are written by place: 11 has gone, 10 has come.
PLACED = [dict.fromkeys((1, 2, 3, 11, 12), (1, (0.25, 0))), dict.fromkeys((1, 2, 3, 10, 12), (1, (0.5, 0)))]


def expected(run: dict[int, tuple[int, tuple[float | None, int]]]) -> dict[int, tuple[Any, ...]]:
    """user: (version, value, percentile of the score, start of the reason)."""
    known = [score for _, (score, _) in run.values() if score is not None]
    made: dict[int, tuple[Any, ...]] = {}
    for user, (version, (score, why)) in run.items():
        if score is None:
            made[user] = version, None, None, REASONS[why]
        else:
            rank = 100 * sum(other < score for other in known) / len(known)
            made[user] = version, abs(score) / 2, pytest.approx(rank), None
    return made


def test_any_run_after_any_other(shop: Database) -> None:
    """Whatever was stored, afterwards it is what was said last."""
    with shop.connect() as conn:
        conn.execute(STORE)

        @settings(max_examples=60, deadline=None)
        @given(RUNS)
        @example(PLACED)
        def runs(all_said: list[dict[int, tuple[int, tuple[float | None, int]]]]) -> None:
            with conn.transaction(force_rollback=True):
                for run in all_said:
                    arms = [(v, {str(u): said for u, (w, said) in run.items() if v == w}) for v in (1, 2)]
                    conn.execute("select pg_temp.store(%s)", [json.dumps(arms)])
                    query = "select user_id, version, score, percentile, left(reason, 14) from ubp.user_scores"
                    found = {row[0]: (*row[1:4], row[4] and row[4].strip()) for row in conn.execute(query)}
                    assert found == expected(run)
                    counts = dict(conn.execute("select version, users from ubp.score_runs").fetchall())
                    assert counts == {arm: len(said) for arm, said in arms}
                    assert conn.execute("select count(*) from ubp.score_rows").fetchone() == (len(run),)

        runs()


FLOATS = st.floats(width=64, allow_nan=True)


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.5, math.nan]), FLOATS), max_size=30))
def test_percentiles_by_counting(values: list[float]) -> None:
    known = [value for value in values if value == value]
    found = percentiles(np.array(values, float), np.sort(np.array(known, float)))
    for value, rank in zip(values, found.tolist(), strict=True):
        if value != value:
            assert rank != rank
        else:
            assert rank == pytest.approx(100 * sum(other < value for other in known) / len(known))
