"""kill -9 of a refresh at named points: the old state or the new one, pending work still logged, a rerun ends it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.fix_database import Database, create
from tests.refresh.helpers import START, Log, assert_exact, define, refresh, state
from tests.refresh.points import POINTS, SET_TRIGGER, Call, remove, until, waits
from ubp_sql.embedded import Cluster
from ubp_sql.install import commands

INSERT = "insert into ubp.events (user_id, event_time, kind, value, ingested_at) values (%s, %s, 'purchase', 1, %s)"


@pytest.fixture(scope="module")
def own(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster of its own: after a kill -9 PostgreSQL ends every session and recovers."""
    directory = Path(tempfile.mkdtemp(prefix="ubp-kill-"))
    directory.chmod(0o711)
    made = Cluster(directory)
    try:
        made.start()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def template(own: Cluster) -> str:
    with psycopg.connect(own.dsn("postgres"), autocommit=True) as conn:
        conn.execute("create database installed")
    with psycopg.connect(own.dsn("installed"), autocommit=True) as conn:
        commands.init(conn)
    return "installed"


def alive(db: Database) -> bool:
    with suppress(psycopg.OperationalError):
        return bool(db.one("select not pg_is_in_recovery()"))
    return False


def kill(db: Database, running: Call, holder: psycopg.Connection[tuple[object, ...]]) -> None:
    """Ends a session by force; the server then ends all others, `holder` too, and recovers."""
    os.kill(running.pid, signal.SIGKILL)
    assert isinstance(running.done().error, psycopg.OperationalError)

    def ended() -> bool:
        with suppress(psycopg.OperationalError):
            holder.execute("select 1")
        return holder.broken

    until(ended)
    holder.close()
    until(lambda: alive(db))


def held(db: Database, table: str, events: str) -> psycopg.Connection[tuple[object, ...]]:
    """A session that keeps whoever comes to the point waiting, until the server ends it."""
    holder = db.connect()
    holder.execute(SET_TRIGGER.format(events=events, table=table).encode())
    holder.execute("select pg_advisory_lock(7071)")
    return holder


def test_a_refresh_is_killed_at_each_point(own: Cluster, template: str) -> None:
    db = create(own, template)
    with db.connect() as conn:
        define(conn)
        log = Log(conn, 41)
        log.insert(START, 60)
        refresh(conn, START)
    for number, (table, events) in enumerate(POINTS.values(), 1):
        with db.connect() as conn:
            before, logged = state(conn), START + timedelta(hours=number)
            conn.execute(INSERT, [number, START, START])
        holder = held(db, table, events)
        running = Call(db, "select * from ubp.refresh_features(%s)", logged)
        waits(db, running.pid)
        kill(db, running, holder)
        with db.connect() as conn:
            remove(conn)
            assert state(conn) == before, table
            assert conn.execute("select count(*) > 0 from ubp.event_log").fetchone() == (True,)
            assert conn.execute("select count(*) from ubp.job_runs where state <> 'done'").fetchone() == (0,)
            assert refresh(conn, logged)["recomputed"] >= 1
            assert_exact(conn)


def test_a_job_in_steps_is_killed_and_goes_on(own: Cluster, template: str) -> None:
    db = create(own, template)
    with db.connect() as conn:
        define(conn)
        Log(conn, 42).insert(START, 60)
        refresh(conn, START)
        before = state(conn)
        conn.execute("update ubp.feature_sets set stale = true")
    small = "do $$ import ubp_sql.api.refresh_steps as s; s.CHUNK_USERS = 5 $$ language plpython3u"
    with db.connect() as conn:
        conn.execute(small)
        row = conn.execute("select ubp.start_refresh(%s)", [START + timedelta(days=2)]).fetchone()
        assert row is not None
        job = row[0]
    step = "select state, done_users from ubp.refresh_step(%s)"
    for table, events, done in (("refresh_chunks", "update", 0), ("feature_sets", "update", 12)):
        with db.connect() as conn:
            while done and conn.execute(step, [job]).fetchone() != ("running", done):
                continue
        holder = held(db, table, events)
        running = Call(db, step, job)
        waits(db, running.pid)
        kill(db, running, holder)
        with db.connect() as conn:
            remove(conn)
            assert state(conn) == before
            found = conn.execute("select coalesce(sum(n), 0) from ubp.refresh_chunks where done").fetchone()
            assert found == (done,), "what was committed is there"
    with db.connect() as conn:
        assert conn.execute(step, [job]).fetchone() == ("done", 12)
        assert_exact(conn)
