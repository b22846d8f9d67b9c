"""Which version answers whom, and since when: set times, challengers, shadows, retirement."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.helpers import Connection, Event, feature_names, insert, refused, register, tiny_model
from tests.fix_database import Database, clone, create, drop
from ubp_sql.embedded import Cluster
from ubp_sql.models.split import bounds, place, places

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
USERS = 200
SCORES = "select user_id, ubp.predict('purchase', user_id) from ubp.feature_rows order by user_id"


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Two hundred buyers, two sets, three registered versions of `purchase`: the third reads the second set."""
    made = create(cluster, installed)
    with made.connect() as conn:
        days = [Event(u, AS_OF - timedelta(days=1 + u * d % 90), "purchase", d, u + d) for u in range(1, USERS + 1)
                for d in (1, 7, 31)]  # fmt: skip
        insert(conn, days)
        conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7, 30])")
        conn.execute("select ubp.define_feature_set('wide', array['purchase'], array[1, 90])")
        for name in ("default", "wide"):
            conn.execute("select * from ubp.refresh_features(%s, %s)", [AS_OF, name])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
        for seed in range(3):
            register(conn, "purchase", tiny_model(feature_names(made), seed))
    yield made
    drop(made)


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `prepared` that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made


def scores(conn: Connection) -> dict[int, float]:
    return dict(conn.execute(SCORES, binary=True).fetchall())


def by_version(conn: Connection) -> dict[int, dict[int, float]]:
    """What each version says of everybody."""
    found = {}
    for version in (1, 2, 3):
        with conn.transaction(force_rollback=True):
            conn.execute("select ubp.deploy_model('purchase', %s)", [version])
            found[version] = scores(conn)
    return found


def answered(conn: Connection, said: dict[int, dict[int, float]]) -> Counter[int]:
    """How many users each version answers for, by what is said of them in every way of asking."""
    users: Counter[int] = Counter()
    for user, value in scores(conn).items():
        row = conn.execute("select version, score from ubp.predict_detail('purchase', %s)", [user], binary=True)
        version, score = row.fetchone() or (0, None)
        assert score == value == said[version][user]
        by_key = conn.execute("select ubp.predict('purchase', %s::text)", [str(user)], binary=True).fetchone()
        many = conn.execute("select score from ubp.predict_many('purchase', array[%s::bigint])", [user], binary=True)
        assert by_key == many.fetchone() == (value,)
        users[version] += 1
    return users


def serving(conn: Connection) -> list[tuple[Any, ...]]:
    query = "select role, version, round(share::numeric, 3)::float8 from ubp.deployed_versions order by role, version"
    return conn.execute(query).fetchall()


def test_a_switch_over_at_a_set_time_needs_nobody(shop: Database) -> None:
    with shop.connect() as conn, shop.connect() as other:
        said = by_version(conn)
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.deploy_model('purchase', 2, clock_timestamp() + interval '4 seconds')")
        assert scores(conn) == scores(other) == said[1]
        assert serving(conn) == [("champion", 1, 1.0), ("next", 2, 1.0)]
        # one statement has one version, however long it takes
        across = """
            select max(ubp.predict('purchase', 7)) filter (where n = 1), max(ubp.predict('purchase', 7))
                   filter (where n = 2), max(s::text)
              from (select 1 as n, '' as s union all (select 2, pg_sleep(4)::text)) x"""
        first, second, _ = other.execute(across, binary=True).fetchone() or (0, 1, 2)
        assert first == second == said[1][7]
        assert scores(conn) == scores(other) == said[2]
        assert serving(conn) == [("champion", 2, 1.0)]
        assert conn.execute("select ubp.rollback_model('purchase')").fetchone() == (1,)
        assert scores(other) == said[1]


def test_a_switch_over_is_called_off_or_stays_set(shop: Database) -> None:
    later = "now() + interval '1 hour'"
    with shop.connect() as conn:
        said = by_version(conn)
        refused(conn, "UB004", "select ubp.cancel_deployment('purchase')")
        conn.execute(f"select ubp.deploy_model('purchase', 1, {later})".encode())
        refused(conn, "UB004", "select ubp.predict('purchase', 7)")  # nobody answers until then
        refused(conn, "UB003", f"select ubp.deploy_model('purchase', 2, {later})")
        assert conn.execute("select ubp.cancel_deployment('purchase')").fetchone() == (1,)
        refused(conn, "UB004", "select ubp.predict('purchase', 7)")
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute(f"select ubp.deploy_model('purchase', 3, {later})".encode())
        conn.execute("select ubp.deploy_model('purchase', 2)")
        conn.execute("select ubp.challenge_model('purchase', 1, 0.5)")
        assert serving(conn) == [("challenger", 1, 0.5), ("champion", 2, 0.5), ("next", 3, 1.0)]
        refused(conn, "UB003", "select ubp.retire_model('purchase', 3)")
        assert conn.execute("select ubp.cancel_deployment('purchase')").fetchone() == (3,)
        conn.execute("select ubp.challenge_model('purchase', 1, 0)")
        assert serving(conn) == [("champion", 2, 1.0)]
        assert scores(conn) == said[2]
        for at in ("now() - interval '1 second'", "'infinity'", "'-infinity'"):
            refused(conn, "UB003", f"select ubp.deploy_model('purchase', 1, {at})")
        assert conn.execute("select ubp.rollback_model('purchase')").fetchone() == (1,)


def test_a_challenger_keeps_its_users(shop: Database) -> None:
    with shop.connect() as conn, shop.connect() as other:
        said = by_version(conn)
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.challenge_model('purchase', 2, 0.2)")
        few = answered(conn, said)
        assert 20 < few[2] < 60
        first = {user for user, value in scores(other).items() if value == said[2][user]}
        conn.execute("select ubp.challenge_model('purchase', 2, 0.6)")
        more = {user for user, value in scores(other).items() if value == said[2][user]}
        assert first < more
        conn.execute("select ubp.challenge_model('purchase', 3, 0.4)")
        assert answered(conn, said)[1] == 0
        assert serving(conn) == [("challenger", 2, 0.6), ("challenger", 3, 0.4), ("champion", 1, 0.0)]
        (stored,) = conn.execute("select * from ubp.score_users('purchase')").fetchall()
        assert stored[:3] == (USERS, USERS, 0)
        rows = conn.execute("select user_id, version, score from ubp.user_scores", binary=True).fetchall()
        assert {user: score for user, _, score in rows} == scores(conn)
        assert {version for _, version, _ in rows} == {2, 3}
        assert all(score == said[version][user] for user, version, score in rows)
        # a deployment ends its challenges
        conn.execute("select ubp.deploy_model('purchase', 2)")
        assert scores(conn) == scores(other) == said[2]


def test_a_challenger_of_another_feature_set(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("update ubp.task_definitions set feature_set_id = (select feature_set_id from ubp.feature_sets "
                     "where name = 'wide')")  # fmt: skip
        assert register(conn, "purchase", tiny_model(feature_names(shop, "wide"), 5)) == 4
        conn.execute("select ubp.challenge_model('purchase', 4, 0.5)")
        mixed = scores(conn)
        conn.execute("select * from ubp.score_users('purchase')")
        rows = conn.execute("select user_id, score from ubp.user_scores", binary=True).fetchall()
        assert dict(rows) == mixed
        live = "select user_id, ubp.predict('purchase', user_id, %s) from ubp.feature_rows order by user_id"
        assert dict(conn.execute(live, [AS_OF], binary=True).fetchall()) == mixed
        conn.execute("select ubp.deploy_model('purchase', 4)")
        whole = scores(conn)
        assert 60 < sum(mixed[user] == whole[user] for user in mixed) < 140
        # the set that a challenger reads must not grow either
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.challenge_model('purchase', 4, 0.5)")
        refused(conn, "UB003", "select ubp.define_feature('more', 'count', array['purchase'], feature_set => 'wide')")


def test_a_shadow_is_stored_and_not_served(shop: Database) -> None:
    with shop.connect() as conn:
        said = by_version(conn)
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.shadow_model('purchase', 2)")
        assert scores(conn) == said[1]
        conn.execute("select * from ubp.score_users('purchase')")
        stored = conn.execute("select user_id, score from ubp.shadow_scores where version = 2", binary=True).fetchall()
        assert dict(stored) == said[2]
        report = conn.execute("select shadow, version, users, mean_difference from ubp.shadow_report").fetchall()
        expected = float(np.mean([said[2][user] - said[1][user] for user in said[1]]))
        assert [row[:3] for row in report] == [(2, 1, USERS)]
        assert report[0][3] == pytest.approx(expected)
        conn.execute("select ubp.shadow_model('purchase', 2, false)")
        conn.execute("select * from ubp.score_users('purchase')")
        assert conn.execute("select count(*) from ubp.shadow_scores").fetchone() == (0,)


def test_a_retired_version_stays_out(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.deploy_model('purchase', 2)")
        for how in ("challenge_model('purchase', 1, 0.1)", "shadow_model('purchase', 1)"):
            conn.execute(f"select ubp.{how}".encode())
            refused(conn, "UB003", "select ubp.retire_model('purchase', 1)")
            conn.execute("select ubp.challenge_model('purchase', 1, 0)")
        refused(conn, "UB003", "select ubp.retire_model('purchase', 2)")
        assert conn.execute("select ubp.retire_model('purchase', 1)").fetchone() == (1,)
        for query in (
            "deploy_model('purchase', 1)",
            "challenge_model('purchase', 1, 0.1)",
            "rollback_model('purchase')",
        ):
            refused(conn, "UB004", f"select ubp.{query}")
        conn.execute("select ubp.retire_model('purchase', 3)")
        assert conn.execute("select ubp.deploy_model('purchase')").fetchone() == (2,)  # the newest that is left


def test_what_is_refused(shop: Database) -> None:
    with shop.connect() as conn:
        refused(conn, "UB004", "select ubp.challenge_model('purchase', 1, 0.1)")
        conn.execute("select ubp.deploy_model('purchase', 1)")
        for share in ("-0.1", "1.01", "'NaN'", "'infinity'", "null"):
            refused(conn, "UB003", f"select ubp.challenge_model('purchase', 2, {share})")
        refused(conn, "UB003", "select ubp.challenge_model('purchase', 1, 0.1)")
        refused(conn, "UB003", "select ubp.shadow_model('purchase', null)")
        refused(conn, "UB004", "select ubp.challenge_model('purchase', 9, 0.1)")
        refused(conn, "UB001", "select ubp.challenge_model('churn', 1, 0.1)")
        conn.execute("select ubp.challenge_model('purchase', 2, 0.7)")
        refused(conn, "UB003", "select ubp.challenge_model('purchase', 3, 0.4)")
        assert serving(conn) == [("challenger", 2, 0.7), ("champion", 1, 0.3)]


def test_two_deploys_at_once_go_one_after_the_other(shop: Database) -> None:
    with shop.connect() as one, shop.connect() as other:
        said = by_version(one)
        one.execute("select ubp.deploy_model('purchase', 3)")
        with one.transaction():
            one.execute("select ubp.deploy_model('purchase', 1)")
            other.execute("set lock_timeout = '200ms'")
            with pytest.raises(Exception, match="lock timeout"):
                other.execute("select ubp.deploy_model('purchase', 2)")
            assert scores(other) == said[3]
        other.execute("select ubp.deploy_model('purchase', 2)")
        assert scores(one) == scores(other) == said[2]
        # a transaction that began before the other's deployment, and deploys after it
        with one.transaction():
            one.execute("select now()")
            sleep(0.01)
            other.execute("select ubp.deploy_model('purchase', 1)")
            one.execute("select ubp.deploy_model('purchase', 3)")
            assert scores(one) == said[3]
            assert scores(other) == said[1]
        assert scores(one) == scores(other) == said[3]
        assert serving(one) == [("champion", 3, 1.0)]


@given(st.text(max_size=20), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_one_place_for_one_and_for_many(task: str, users: list[int]) -> None:
    found = places(task, np.array(users, np.int64)).tolist()
    assert found == [place(task, user) for user in users]
    assert all(0.0 <= where < 1.0 for where in found)


def test_users_are_spread_evenly_and_anew_for_each_task() -> None:
    users = np.arange(100_000, dtype=np.int64)
    one, two = places("purchase", users), places("churn", users)
    assert np.histogram(one, 10)[0].min() > 9_700
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02
    assert bounds([0.25, 0.5]) == [0.25, 0.75]
