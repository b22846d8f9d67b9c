"""A refresh among others: it ends when it is told to, and gives way to a migration as the migration does to it."""

import time
from datetime import timedelta

import psycopg
import pytest

from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define, refresh, state
from tests.refresh.points import POINTS, Call, stopped_at, waits
from ubp_sql.errors import UbpError
from ubp_sql.install import commands, render, steps

# D8 wants 150 ms; a machine that runs other things too is given this many seconds.
PATIENCE_S = 1.5
MANY = """
insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at)
select n % 5000, t, (array['purchase', 'view', 'cart'])[1 + n % 3], n % 90, n % 7, t
  from (select n, timestamptz '2025-03-03' - n * interval '50 seconds' as t from generate_series(1, 100000) n) x"""


@pytest.mark.parametrize("where", ["everybody", "some", "in steps"])
def test_a_timeout_at_any_time(db: Database, where: str) -> None:
    with db.connect() as conn:
        define(conn)
        conn.execute(MANY)
        refresh(conn, START)
        query = "select * from ubp.refresh_features(%s)"
        later = START + timedelta(days=1)
        if where == "everybody":
            conn.execute("update ubp.feature_sets set stale = true")
        elif where == "some":
            conn.execute(
                "insert into ubp.dirty_users select feature_set_id, user_id from ubp.feature_rows where user_id < 999"
            )
        else:
            conn.execute("select ubp.start_refresh(%s)", [later])
            query = "select * from ubp.refresh_step((select job_id from ubp.refresh_jobs where %s is not null))"
        before = state(conn)
        stopped = 0
        for after_ms in (5, 20, 60, 120, 250):
            conn.execute(f"set statement_timeout = {after_ms}".encode())
            started = time.monotonic()
            try:
                with conn.transaction(force_rollback=True):
                    conn.execute(query.encode(), [later])
            except psycopg.errors.QueryCanceled:
                stopped += 1
            assert time.monotonic() - started < after_ms / 1000 + PATIENCE_S
            conn.execute("set statement_timeout = 0")
            assert state(conn) == before
        assert stopped
        while conn.execute(query.encode(), [later]).fetchone()[0] == "running":  # type: ignore[index]
            continue
        assert_exact(conn)


def test_a_cancel_while_it_waits_for_the_lock(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        Log(conn, 51).insert(START, 30)
        with stopped_at(db, POINTS["users chosen, none written"]):
            first = Call(db, "select * from ubp.refresh_features(%s)", START)
            waits(db, first.pid)
            second = Call(db, "select * from ubp.refresh_features(%s)", START)
            waits(db, second.pid)
            for call in (second, first):
                db.one("select pg_cancel_backend(%s)", call.pid)
                assert isinstance(call.done(20).error, psycopg.errors.QueryCanceled)
        assert state(conn) == {}
        refresh(conn, START)
        assert_exact(conn)


def test_a_migration_does_not_queue_behind_a_refresh(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SETTINGS", steps.SETTINGS.replace("10s", "300ms"))
    with db.connect() as conn, db.connect() as migrating:
        define(conn)
        Log(conn, 52).insert(START, 30)
        refresh(conn, START)
        with stopped_at(db, POINTS["rows written, moment not moved"]):
            running = Call(db, "select * from ubp.refresh_features(%s)", START + timedelta(days=9))
            waits(db, running.pid)
            with pytest.raises(UbpError, match="lock"):
                commands.downgrade(migrating, "0003", run=True)
        assert running.done().error is None
        assert commands.status(migrating)["revision"] == render.head()
        assert_exact(conn)
        migrating.autocommit = False
        migrating.execute("lock table ubp.feature_rows in access exclusive mode")
        waiting = Call(db, "select * from ubp.refresh_features(%s)", START + timedelta(days=10))
        waits(db, waiting.pid)
        migrating.rollback()
        assert waiting.done().error is None
        assert_exact(conn)
