"""ubp.define_feature and its kin: how a set grows, what is refused, attributes, the calendar, ageing at read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection, Event, insert, refused
from tests.fix_database import Database

DAY = datetime(2024, 5, 6, tzinfo=UTC)


def fill(conn: Connection) -> None:
    """Two users with views and purchases of the last weeks before DAY."""
    insert(conn, [Event(1, DAY - timedelta(days=d), "view", d % 3, float(d)) for d in range(1, 30)])
    insert(conn, [Event(2, DAY - timedelta(days=d), "purchase", 1, 10.0) for d in (2, 9, 16)])


def names(conn: Connection, feature_set: str = "default") -> list[str]:
    query = "select feature from ubp.feature_catalogue where feature_set = %s order by position"
    return [name for (name,) in conn.execute(query, [feature_set])]


def shown(conn: Connection, column: str, view: str = "user_features") -> list[Any]:
    return [value for (value,) in conn.execute(f"select {column} from ubp.{view} order by user_id".encode())]


def test_a_set_is_made_and_grows(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        first = conn.execute(
            "select ubp.define_feature('views', 'count', array['view'], \"window\" => '7d')"
        ).fetchone()
        assert first == (1,)
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        assert shown(conn, "views") == [7]  # a user without an event of the set has no row
        assert conn.execute("select stale from ubp.feature_sets").fetchone() == (False,)
        second = conn.execute(
            "select ubp.define_feature('last', 'last_values', array['view'], settings => '{\"k\": 2}')"
        )
        assert second.fetchone() == (2,)
        third = conn.execute("select ubp.define_feature('buys', 'count', array['purchase'])").fetchone()
        assert third == (4,)
        assert names(conn) == ["views", "last_1", "last_2", "buys"]
        assert conn.execute("select stale, plan is not null from ubp.feature_sets").fetchone() == (True, True)
        assert shown(conn, "last_1") == [None]  # until the next refresh
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        found = conn.execute("select user_id, views, last_1, last_2, buys from ubp.user_features order by 1").fetchall()
        assert found == [(1, 7, 1.0, 2.0, 0), (2, 0, None, None, 3)]


def test_the_same_again_changes_nothing(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        one = "select ubp.define_feature('spent', 'sum', array['purchase'], \"window\" => '7d')"
        assert conn.execute(one.encode()).fetchone() == (1,)
        before = conn.execute("select hash, plan, definition, xmin from ubp.feature_sets").fetchone()
        other = "select ubp.define_feature('spent', 'sum', array['purchase'], 'value', '168h', '{}')"
        assert conn.execute(other.encode()).fetchone() == (1,)
        assert conn.execute("select hash, plan, definition, xmin from ubp.feature_sets").fetchone() == before
        error = refused(conn, "UB003", "select ubp.define_feature('spent', 'sum', array['purchase'], null, '8d')")
        assert "another definition" in str(error.diag.message_primary)
        assert "copy_feature_set" in str(error.diag.message_hint)


def test_a_standard_set_grows_too(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7], 'Europe/Berlin')")
        before = names(conn)
        row = conn.execute("select ubp.define_feature('views', 'count', array['view'])").fetchone()
        assert row == (len(before) + 1,)
        assert names(conn) == [*before, "views"]
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        assert shown(conn, "views") == [29, 0]
        assert shown(conn, "count_purchase_7d") == [0, 1]
        refused(conn, "UB003", "select ubp.define_feature('count_purchase_7d', 'count', array['view'])")
        refused(conn, "UB003", "select ubp.define_feature_set('default', array['purchase'], array[7])")


def test_many_at_once_are_all_or_none(db: Database) -> None:
    good = {"name": "a", "aggregate": "count", "kinds": ["view"]}
    bad = {"name": "b", "aggregate": "count", "kinds": ["vieuw"]}
    with db.connect() as conn:
        fill(conn)
        call = "select ubp.define_features(%s::jsonb, 'tested')"
        refused(conn, "UB003", call, json.dumps([good, bad]))
        assert names(conn, "tested") == []
        assert conn.execute(call.encode(), [json.dumps([good, {**good, "name": "c"}])]).fetchone() == (2,)
        assert names(conn, "tested") == ["a", "c"]
        conn.execute("select * from ubp.refresh_features(%s, 'tested')", [DAY])
        assert shown(conn, "c", "user_features_tested") == [29]
        deep = "[" * 5000 + "]" * 5000
        refused(conn, "UB003", call, deep)


@pytest.mark.parametrize(
    "arguments",
    [
        "null, 'count', array['view']",
        "'f', null, array['view']",
        "'f', 'count'",
        "'f', 'count', array[]::text[]",
        "'f', 'count', array['view', null]",
        "'f', 'count', array['viev']",
        "'f', 'count', array['view'], 'value'",
        "'f', 'sum', array['view'], 'price'",
        "'f', 'count', array['view'], null, '0d'",
        "'f', 'count', array['view'], null, '7d', '[]'",
        "'f', 'count', array['view'], null, '7d', '3'",
        "'f', 'count', array['view'], null, '7d', '{\"k\": 1}'",
        "'f', 'count', array['view'], null, '7d', '{}', 'No Set'",
        "'f', 'count', array['view'], null, '7d', '{}', null",
        "'F', 'count', array['view']",
        "'f', 'funnel_rate', null, null, '7d', '{\"steps\": [\"view\"], \"bound\": \"1h\"}'",
    ],
)
def test_bad_definitions_say_so(db: Database, arguments: str) -> None:
    with db.connect() as conn:
        fill(conn)
        error = refused(conn, "UB003", f"select ubp.define_feature({arguments})")
        assert error.diag.message_hint
        assert conn.execute("select count(*) from ubp.feature_sets").fetchone() == (0,)


def test_a_kind_may_be_defined_before_the_first_event(db: Database) -> None:
    db.execute("select ubp.define_feature('f', 'count', array['anything'])")
    assert db.one("select count(*) from ubp.feature_catalogue") == 1


def test_the_set_of_a_deployed_model_does_not_change(shop_copy: Database) -> None:
    with shop_copy.connect() as conn:
        before = names(conn)
        hashes = conn.execute("select hash from ubp.feature_sets").fetchall()
        same = f"select ubp.define_feature('{before[0]}', 'count', array['purchase'], null, '7d')"
        assert conn.execute(same.encode()).fetchone() == (1,)
        error = refused(conn, "UB003", "select ubp.define_feature('views_1d', 'count', array['view'], null, '1d')")
        assert "deployed model" in str(error.diag.message_primary)
        hint = str(error.diag.message_hint)
        assert "copy_feature_set" in hint
        conn.execute(hint.partition(" makes ")[0].encode())  # the way out is one
        assert conn.execute("select hash from ubp.feature_sets order by feature_set_id").fetchall() == hashes * 2
        conn.execute("select ubp.define_feature('views_1d', 'count', array['view'], null, '1d', '{}', 'default_2')")
        assert names(conn, "default_2") == [*before, "views_1d"]
        assert names(conn) == before
        refused(conn, "UB003", "select ubp.copy_feature_set('default', 'default_2')")
        refused(conn, "UB005", "select ubp.copy_feature_set('no such set', 'x')")


def test_a_task_needs_to_know_whom_to_ask(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.define_feature('views', 'count', array['view'], null, '7d')")
        error = refused(conn, "UB003", "select ubp.define_task('buy', 'view')")
        conn.execute(str(error.diag.message_hint).encode())
        conn.execute("select ubp.define_task('buy', 'view')")


def test_attributes_are_known_as_of_the_moment(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.define_event_column('text', 'text', 'text')")
        conn.execute("select ubp.set_user_attribute(1, 'age', 41, '2024-01-01')")
        conn.execute("select ubp.set_user_attribute(1::bigint, 'age', '42'::text, '2024-05-01')")
        conn.execute("select ubp.set_user_attribute(1, 'plan', 'gold', '2024-01-01')")
        # As it would have been had each been set when it began to hold.
        conn.execute("update ubp.events set ingested_at = event_time where kind like 'attribute:%'")
        conn.execute("select ubp.define_feature('age', 'last', array['attribute:age'])")
        conn.execute("select ubp.define_feature('plan', 'last_key', array['attribute:plan'], 'text')")
        conn.execute("select ubp.define_feature('plans', 'distinct', array['attribute:plan'], 'text')")
        for moment, age in ((DAY, 42.0), (datetime(2024, 3, 1, tzinfo=UTC), 41.0)):
            conn.execute("select * from ubp.refresh_features(%s)", [moment])
            assert shown(conn, "age") == [age]
            assert shown(conn, "plans") == [1]
            assert 0 <= shown(conn, "plan")[0] < 1 << 20
        kinds = conn.execute("select distinct kind from ubp.events where kind like 'attribute:%' order by 1").fetchall()
        assert kinds == [("attribute:age",), ("attribute:plan",)]
        for call in (
            "null::bigint, 'age', 1",
            "'nobody'::text, 'age', 1",
            "1, 'Age', 1",
            "1, null, 1",
            "1, 'age', null::float8",
            "1, 'age', 'NaN'::float8",
            "1, 'age', repeat('x', 3000)",
            "1, 'age', 1, null",
        ):
            refused(conn, "UB003", f"select ubp.set_user_attribute({call})")


def test_the_calendar_counts_where_its_zone_is_the_sets(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.define_feature('all_days', 'holiday_share', array['view'], null, '7d')")
        conn.execute("insert into ubp.calendar values ('2024-05-05', 'Asia/Tokyo', 'x'), ('2024-05-04', '', 'y')")
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        assert shown(conn, "all_days") == [pytest.approx(1 / 7)]
        before = shown(conn, "all_days")
        conn.execute("update ubp.calendar set region = 'UTC' where name = 'x'")
        assert conn.execute("select stale from ubp.feature_sets").fetchone() == (True,)
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        assert shown(conn, "all_days") == [pytest.approx(2 * before[0])]


AGEING: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("since", "recency", "view", {}),
    ("tenure", "tenure", "view", {}),
    ("overdue", "overdue", "view", {}),
    ("decayed", "decayed_count", "view", {"half_life": "36h"}),
    ("decayed_fast", "decayed_sum", "view", {"half_life": "1s"}),
    ("decayed_sum", "decayed_sum", "purchase", {"half_life": "90d"}),
    ("weekday", "same_weekday_share", "view", {}),
    ("ended", "last_session_age", "view", {}),
)


def test_what_ages_is_finished_when_it_is_read(db: Database) -> None:
    """Rows that a refresh did not touch show the set's moment, to the bit as if they had been computed at it."""
    strange = [1e308, 1e308, -1e300, 5e-324, 1e-300, float("inf")]
    with db.connect() as conn:
        fill(conn)
        insert(conn, [Event(3 + n, DAY - timedelta(days=3), "view", 1, value) for n, value in enumerate(strange)])
        insert(conn, [Event(20, DAY - timedelta(seconds=s), "view", 1, 1e-40) for s in (1, 40, 900, 2000)])
        for name, aggregate, kind, settings in AGEING:
            arguments = [name, aggregate, [kind], json.dumps(settings)]
            conn.execute("select ubp.define_feature(%s, %s, %s, settings => %s)", arguments)
        conn.execute("select ubp.define_feature('n', 'count', array['view', 'purchase'])")
        conn.execute("select * from ubp.refresh_features(%s)", [DAY])
        later = [DAY + timedelta(microseconds=1), DAY + timedelta(hours=5), DAY + timedelta(days=400)]
        for moment in later:
            done = conn.execute("select recomputed from ubp.refresh_features(%s)", [moment]).fetchone()
            assert done == (0,)
            aged = conn.execute("select * from ubp.user_features order by user_id", binary=True).fetchall()
            conn.execute("update ubp.feature_sets set stale = true")
            conn.execute("select * from ubp.refresh_features(%s)", [moment])
            anew = conn.execute("select * from ubp.user_features order by user_id", binary=True).fetchall()
            stored = conn.execute("select features from ubp.feature_rows order by user_id", binary=True).fetchall()
            assert aged == anew
            assert [[None if x != x else x for x in row] for (row,) in stored] == [list(row[2:]) for row in anew]
            conn.execute("select * from ubp.refresh_features(%s)", [DAY])


def test_an_analyst_reads_and_an_admin_defines(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.define_feature('views', 'count', array['view'])")
        conn.execute("set role ubp_analyst")
        assert names(conn) == ["views"]
        for call in ("define_feature('x', 'count', array['view'])", "set_user_attribute(1, 'age', 1)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"select ubp.{call}".encode())
        conn.execute("set role ubp_admin")
        conn.execute("select ubp.define_feature('x', 'count', array['view'])")
        conn.execute("select ubp.set_user_attribute(1, 'age', 1)")


def test_a_set_of_another_version_does_not_stop_an_upgrade(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("select ubp.define_feature('a', 'count', array['view'], feature_set => 'old')")
        conn.execute("select ubp.define_feature('a', 'count', array['view'], feature_set => 'new')")
        conn.execute("""update ubp.feature_sets set definition = '{"semantics": 1}', plan = null where name = 'old'""")
        conn.execute("update ubp.feature_sets set plan = null where name = 'new'")
        notices: list[str] = []
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        assert conn.execute("select ubp.rebuild_generated()").fetchone() == (2,)
        assert len(notices) == 1
        assert "'old'" in notices[0]
        assert conn.execute("select name from ubp.feature_sets where plan is not null").fetchall() == [("new",)]
        refused(conn, "UB002", "select ubp.define_feature('b', 'count', array['view'], feature_set => 'old')")


def test_a_mistyped_kind(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        conn.execute("select ubp.build_mirror()")
        error = refused(conn, "UB003", "select ubp.define_feature('f', 'count', array['purchse'])")
        assert error.diag.message_hint == "did you mean 'purchase'? there are: purchase, view"
        error = refused(conn, "UB003", "select ubp.define_feature('f', 'count', array['zzz'])")
        assert error.diag.message_hint == "there are: purchase, view"
