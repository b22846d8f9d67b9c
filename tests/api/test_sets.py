"""Features of any set by name, and what a session makes of sets that others change, drop and define again."""

import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.api.helpers import Connection, Event, insert, refused
from tests.fix_database import Database

AS_OF = datetime(2024, 5, 6, tzinfo=UTC)
EVENTS = [Event(1, datetime(2024, 5, day, tzinfo=UTC), "view", day % 3, float(day)) for day in range(1, 6)]
LIVE = "select feature, value from ubp.features(1, '2024-05-06 00:00+00', 'shop')"


def views(conn: Connection, window: str, feature_set: str) -> None:
    conn.execute(
        """select ubp.define_feature('views_' || %s, 'count', array['view'], "window" => %s, feature_set => %s)""",
        [window, window, feature_set],
    )


@pytest.fixture
def sets(db: Database) -> Database:
    """One user with five views; sets `default` (one feature, refreshed) and `shop` (another one)."""
    with db.connect() as conn:
        insert(conn, EVENTS)
        views(conn, "2d", "default")
        views(conn, "3d", "shop")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    return db


def test_features_of_another_set(sets: Database) -> None:
    with sets.connect() as conn:
        assert conn.execute(LIVE.encode()).fetchall() == [("views_3d", 3)]
        assert conn.execute(LIVE.replace("(1", "('1'").encode()).fetchall() == [("views_3d", 3)]
        usual = [("views_2d", 2)]
        # A moment without a type stays a moment.
        for call in ("1, '2024-05-06 00:00+00'", "'1', '2024-05-06 00:00+00'", "1, now(), 'default'", "1"):
            found = conn.execute(f"select feature, value from ubp.features({call})".encode()).fetchall()
            assert found == (usual if "now" not in call else [("views_2d", 0)]), call
        refused(conn, "UB003", "select * from ubp.features(1, now(), null)")
        error = refused(conn, "UB005", "select * from ubp.features(1, now(), 'shp')")
        assert "default, shop" in str(error.diag.message_hint)


def test_a_set_that_grew_in_another_session(sets: Database) -> None:
    stored = "select feature, value from ubp.features(1)"
    with sets.connect() as conn, sets.connect() as other:
        assert conn.execute(stored.encode()).fetchall() == [("views_2d", 2)]
        assert conn.execute(LIVE.encode()).fetchall() == [("views_3d", 3)]
        views(other, "4d", "default")
        views(other, "4d", "shop")
        assert conn.execute(stored.encode()).fetchall() == [("views_2d", 2), ("views_4d", None)], "not refreshed yet"
        assert conn.execute(LIVE.encode()).fetchall() == [("views_3d", 3), ("views_4d", 4)]
        other.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        assert conn.execute(stored.encode()).fetchall() == [("views_2d", 2), ("views_4d", 4)]


LEFT = """
select (select count(*) from ubp.feature_sets) as sets, (select count(*) from ubp.feature_definitions) as definitions,
       (select count(*) from ubp.feature_rows) as rows, (select count(*) from ubp.dirty_users) as dirty,
       (select count(*) from ubp.awaited_users) as awaited, (select count(*) from ubp.task_definitions) as tasks,
       (select count(*) from pg_views where viewname like 'user\\_features%') as views"""
DROP = "select ubp.drop_feature_set('shop')"


def left(conn: Connection) -> tuple[int, ...]:
    row = conn.execute(LEFT).fetchone()
    assert row is not None
    return tuple(row)


def test_a_dropped_set_leaves_nothing(sets: Database) -> None:
    with sets.connect() as conn, sets.connect() as other:
        insert(conn, [Event(2, datetime(2025, 1, 1, tzinfo=UTC), "view")])
        for name in ("default", "shop"):
            conn.execute("select * from ubp.refresh_features(%s, %s)", [AS_OF, name])
        insert(conn, [Event(1, AS_OF, "view")])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])  # the other set's users are noted
        only_default = (1, 1, 1, 0, 1, 0, 1)
        conn.execute("select ubp.define_feature('n', 'count', array['view'], feature_set => 'shop')")
        conn.execute("select ubp.define_task('views', 'view', feature_set => 'shop')")
        assert left(conn)[:3] == (2, 3, 2)
        assert min(left(conn)[3:]) > 0
        assert len(other.execute(LIVE.encode()).fetchall()) == 2
        said: list[str] = []
        conn.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        assert conn.execute(DROP.encode()).fetchone() == (1,)
        assert said == ["dropped with feature set shop, and never trained: views"]
        assert left(conn) == only_default
        hint = "there are: default; ubp.define_feature_set makes one"
        for session in (conn, other):
            assert refused(session, "UB005", LIVE).diag.message_hint == hint
        error = refused(conn, "UB005", DROP)
        assert "default" in str(error.diag.message_hint)
        views(conn, "5d", "shop")
        assert other.execute(LIVE.encode()).fetchall() == [("views_5d", 5)]
        conn.execute("select ubp.drop_feature_set('default')")
        conn.execute("select ubp.drop_feature_set('shop')")
        assert left(conn) == (0, 0, 0, 0, 0, 0, 0)
        assert "there is none yet" in str(refused(conn, "UB005", DROP).diag.message_hint)


def test_a_default_set_made_again_is_the_one_that_is_read(sets: Database) -> None:
    stored = "select feature, value from ubp.features(1)"
    with sets.connect() as conn, sets.connect() as other:
        assert conn.execute(stored.encode()).fetchall() == [("views_2d", 2)]
        other.execute("select ubp.drop_feature_set('default')")
        refused(conn, "UB005", stored)
        views(other, "9d", "default")
        other.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        assert conn.execute(stored.encode()).fetchall() == [("views_9d", 5)]


def test_a_set_in_use_stays(shop_copy: Database) -> None:
    with shop_copy.connect() as conn:
        before = left(conn)
        drop = "select ubp.drop_feature_set('default')"
        assert "answered by version 1" in str(refused(conn, "UB003", drop).diag.message_primary)
        conn.execute("update ubp.deployments set retired_at = now()")
        assert "in the registry with version 1" in str(refused(conn, "UB003", drop).diag.message_primary)
        assert left(conn) == before
        text = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
        [both] = [block for block in re.findall(r"```sql\n(.*?)```", text, re.S) if "delete from" in block]
        conn.execute(both.replace("= 'visits'", "= 'purchase'").replace("('visits')", "('default')").encode())
        assert left(conn) == (0, 0, 0, 0, 0, 0, 0)


def test_a_set_that_others_read_or_refresh_stays(sets: Database) -> None:
    with sets.connect() as conn, sets.connect() as other:
        before = left(conn)
        conn.execute("create view public.mine as select user_id from ubp.user_features_shop")
        error = refused(conn, "UB003", DROP)
        assert "view public.mine depends on view" in str(error.diag.message_primary)
        assert left(conn) == before
        conn.execute("drop view public.mine")
        (job,) = conn.execute("select ubp.start_refresh(%s, 'shop')", [AS_OF]).fetchone() or (0,)
        error = refused(conn, "UB005", DROP)
        assert str(error.diag.message_hint).endswith(f"select ubp.cancel_refresh({job})")
        conn.execute(str(error.diag.message_hint).partition(": ")[2].encode())
        other.execute("begin")
        other.execute("select * from ubp.refresh_features(%s, 'shop')", [AS_OF])
        conn.execute("set statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(DROP.encode())
        other.execute("commit")
        conn.execute("set statement_timeout = 0")
        assert conn.execute(DROP.encode()).fetchone() == (1,)


def test_who_may_drop_a_set(sets: Database) -> None:
    with sets.connect() as conn:
        conn.execute("set role ubp_loader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(DROP.encode())
        conn.execute("set role ubp_admin")
        assert conn.execute(DROP.encode()).fetchone() == (0,)
