"""Refreshes that commit between their steps: the same rows in the end, whatever happens between the steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection, refused
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define, from_nothing, refresh, state
from tests.refresh.points import Call, stopped_at, until, waits

CHUNK = "do $$ import ubp_sql.api.refresh_steps as s; s.CHUNK_USERS = {} $$ language plpython3u"
INSERT = "insert into ubp.events (user_id, event_time, kind, value, ingested_at) values (%s, %s, 'purchase', 1, %s)"


@contextmanager
def in_chunks(db: Database) -> Iterator[Connection]:
    """A session with 60 events of a dozen users, in chunks of five users."""
    with db.connect() as made:
        define(made)
        made.execute(CHUNK.format(5).encode())
        Log(made, 21).insert(START, 60)
        yield made


@pytest.fixture
def conn(db: Database) -> Iterator[Connection]:
    with in_chunks(db) as made:
        yield made


def start(conn: Connection, as_of: Any = START) -> int:
    row = conn.execute("select ubp.start_refresh(%s)", [as_of]).fetchone()
    assert row is not None
    return int(row[0])


def step(conn: Connection, job: int) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = conn.execute(
        "select state, done_users, total_users, detail from ubp.refresh_step(%s)", [job]
    ).fetchone()
    assert row is not None
    return row


def finish(conn: Connection, job: int) -> tuple[Any, ...]:
    for _ in range(20):
        row = step(conn, job)
        if row[0] != "running":
            return row
    raise AssertionError("no end of steps")


def run_of(conn: Connection, job: int) -> Any:
    row = conn.execute("select state, rows, detail from ubp.job_runs where job_id = %s", [job]).fetchone()
    assert row is not None
    return row


def nothing_left(conn: Connection) -> bool:
    row = conn.execute("select (select count(*) from ubp.refresh_jobs) + (select count(*) from ubp.refresh_chunks)")
    return row.fetchone() == (0,)


def test_readers_see_nothing_before_the_last_step(conn: Connection) -> None:
    job = start(conn)
    assert run_of(conn, job)[0] == "running"
    seen = []
    while (row := step(conn, job))[0] == "running":
        seen.append(row[1])
        assert state(conn) == {}
        assert conn.execute("select as_of from ubp.feature_sets").fetchone() == (None,)
    assert seen == [5, 10, 12]
    assert row[:3] == ("done", 12, 12)
    assert run_of(conn, job)[0] == "done"
    assert nothing_left(conn)
    assert_exact(conn)
    assert step(conn, job)[0] == "done", "a step too many says the same"


@pytest.mark.parametrize("days", [0, 1, 9, -3])
def test_the_same_rows_as_in_one_transaction(conn: Connection, days: int) -> None:
    refresh(conn, START)
    log = Log(conn, 22)
    log.insert(START, 5)
    log.change()
    job = start(conn, START + timedelta(days=days))
    assert finish(conn, job)[0] == "done"
    assert conn.execute("select as_of from ubp.feature_sets").fetchone() == (START + timedelta(days=days),)
    assert_exact(conn)
    expected, _ = from_nothing(conn)
    assert len(state(conn)) == len(expected)


def test_what_changes_between_steps_is_left_to_the_next_refresh(conn: Connection) -> None:
    """Users before and after the step's place, a new one, one who goes: none is lost, none is at another moment."""
    refresh(conn, START)
    later = START + timedelta(days=8)
    job = start(conn, later)
    step(conn, job)
    changed = [0, 11, 50]
    for user in changed:
        conn.execute(INSERT, [user, START, START])
    conn.execute("delete from ubp.events where user_id = 3")
    with conn.transaction(force_rollback=True):
        refresh(conn, later)  # folds the log of the job's own set too: the job would be overtaken
    assert finish(conn, job)[0] == "done"
    pending = conn.execute("select count(*) from ubp.event_log").fetchone()
    assert pending is not None
    assert pending[0] > 0
    assert {row.as_of for row in state(conn).values()} <= {START, later}
    refresh(conn, later)
    assert_exact(conn)
    assert 50 in state(conn)
    assert 3 not in state(conn)


def test_another_set_may_fold_the_log_between_steps(conn: Connection) -> None:
    define(conn, "other")
    refresh(conn, START)
    refresh(conn, START, "other")
    job = start(conn, START + timedelta(days=8))
    step(conn, job)
    for user in (0, 11, 50):
        conn.execute(INSERT, [user, START, START])
    refresh(conn, START, "other")
    assert finish(conn, job)[0] == "done"
    refresh(conn, START + timedelta(days=8))
    assert_exact(conn)
    assert_exact(conn, "other")


def test_truncate_between_steps(conn: Connection) -> None:
    job = start(conn)
    step(conn, job)
    define(conn, "other")
    conn.execute("truncate ubp.events")
    Log(conn, 23).insert(START, 20)
    refresh(conn, START, "other")
    assert finish(conn, job)[0] == "done"
    assert conn.execute("select stale from ubp.feature_sets where name = 'default'").fetchone() == (True,)
    refresh(conn, START)
    assert_exact(conn)


def test_a_second_job_is_refused_with_a_way_out(conn: Connection) -> None:
    job = start(conn)
    step(conn, job)
    error = refused(conn, "UB005", "select ubp.start_refresh()")
    assert f"job {job}" in str(error.diag.message_primary)
    assert "5 of 12 users" in str(error.diag.message_primary)
    assert f"ubp.cancel_refresh({job})" in str(error.diag.message_hint)
    assert conn.execute("select ubp.cancel_refresh(%s)", [job]).fetchone() == (True,)
    assert conn.execute("select ubp.cancel_refresh(%s)", [job]).fetchone() == (False,)
    assert run_of(conn, job)[0] == "failed"
    assert nothing_left(conn)
    assert finish(conn, start(conn))[0] == "done"
    assert_exact(conn)
    for unknown in ("select * from ubp.refresh_step(999)", "select ubp.cancel_refresh(999)"):
        refused(conn, "UB003", unknown)


@pytest.mark.parametrize("before", [False, True])
def test_a_refresh_in_one_transaction_overtakes(conn: Connection, before: bool) -> None:
    """The job's users are its own then, whether they were everybody or some."""
    if before:
        refresh(conn, START)
        conn.execute(INSERT, [2, START, START])
    job = start(conn, START + timedelta(hours=1))
    step(conn, job)
    refresh(conn, START + timedelta(days=1))
    assert_exact(conn)
    state_, _, _, detail = step(conn, job)
    assert state_ == "failed"
    assert "overtaken" in detail
    assert nothing_left(conn)


def test_a_set_that_grew_meanwhile_starts_anew(conn: Connection) -> None:
    job = start(conn)
    step(conn, job)
    conn.execute("select ubp.define_feature('n', 'count', array['purchase'], \"window\" => '2d')")
    assert step(conn, job)[0] == "failed"
    assert nothing_left(conn)
    assert finish(conn, start(conn))[0] == "done"
    assert_exact(conn)


def test_a_step_that_fails_can_be_taken_again(conn: Connection) -> None:
    job = start(conn)
    step(conn, job)
    conn.execute("alter table ubp.feature_rows add constraint no check (user_id < 7)")
    row = finish(conn, job)
    assert row[0] == "failed"
    assert row[1:3] == (12, 12)
    assert "no" in row[3]
    assert run_of(conn, job)[0] == "failed"
    assert state(conn) == {}
    conn.execute("alter table ubp.feature_rows drop constraint no")
    assert finish(conn, job)[0] == "done"
    assert run_of(conn, job)[0] == "done"
    assert_exact(conn)


def test_two_sessions_may_take_steps_of_one_job(conn: Connection, db: Database) -> None:
    job = start(conn)
    with stopped_at(db, ("refresh_chunks", "update")):
        one = Call(db, "select state from ubp.refresh_step(%s)", job)
        waits(db, one.pid)
        other = Call(db, "select state from ubp.refresh_step(%s)", job)
        waits(db, other.pid)
    assert (one.done().result, other.done().result) == (("running",), ("running",))
    assert finish(conn, job)[0] == "done"
    assert_exact(conn)


def test_a_session_that_is_ended_in_a_step(conn: Connection, db: Database) -> None:
    job = start(conn)
    step(conn, job)
    with stopped_at(db, ("refresh_chunks", "update")):
        one = Call(db, "select state from ubp.refresh_step(%s)", job)
        waits(db, one.pid)
        db.one("select pg_terminate_backend(%s)", one.pid)
        assert isinstance(one.done().error, psycopg.OperationalError)
    until(lambda: db.one("select count(*) from pg_stat_activity where pid = %s", one.pid) == 0)
    assert run_of(conn, job)[0] == "running"
    assert finish(conn, job)[:3] == ("done", 12, 12)
    assert_exact(conn)


def test_nobody_to_compute(conn: Connection) -> None:
    refresh(conn, START)
    assert finish(conn, start(conn))[:3] == ("done", 0, 0)
    assert_exact(conn)
