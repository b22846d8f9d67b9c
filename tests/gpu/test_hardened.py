"""Whatever happens to a worker, nothing is lost; and whatever it brings, only a chunk's own rows are stored."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, refused
from tests.cli.running import told, ubp_sql
from tests.fix_database import Database
from tests.gpu.test_worker import compute, conn
from tests.refresh.helpers import START, assert_exact, refresh
from tests.refresh.points import WAITING, Call, stopped_at, until
from tests.refresh.test_steps import finish, start, step
from ubp_sql.worker.refresh import STORE, Chunk, Question, ask, chunks

__all__ = ["conn"]
ROOT = Path(__file__).parents[2]
DONE = "select count(*) from ubp.refresh_chunks where done"
STORING = """
select count(*) from pg_stat_activity
 where state = 'active' and query like '%store_refreshed%' and pid <> pg_backend_pid()"""
FUNCTIONS = {
    "refresh_question(1)",
    "refresh_events(1)",
    "store_refreshed(1, 1, '{}', 1, 1)",
    "training_question('purchase')",
    "training_pairs('purchase')",
}


def begun(db: Database) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from ubp_sql.cli.main import run; run()", "worker", "--no-gpu", "--dsn", db.dsn]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_worker_is_killed_and_another_one_goes_on(db: Database, conn: Connection) -> None:
    job = start(conn)
    assert compute(db, conn, job, stop=iter([False, True]).__next__) == 1
    with stopped_at(db, ("refresh_chunks", "update")):
        running = begun(db)
        until(lambda: db.one(WAITING) == 1)
        running.kill()
        running.communicate(timeout=60)
        assert db.one(DONE) == 1
    # What it had handed over, the server may have stored meanwhile.
    until(lambda: db.one(STORING) == 0)
    left = 3 - db.one(DONE)
    assert left >= 1
    assert told("worker", "--no-gpu", "--once", "--dsn", db.dsn).startswith(f"job {job}: {left} chunk")
    assert step(conn, job)[0] == "done"
    assert_exact(conn)


def test_sigterm_ends_it_after_the_chunk(db: Database, conn: Connection) -> None:
    job = start(conn)
    with stopped_at(db, ("refresh_chunks", "update")):
        running = begun(db)
        until(lambda: db.one(WAITING) == 1)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert running.poll() is None
    out, error = running.communicate(timeout=60)
    assert (running.returncode, out, error) == (0, f"job {job}: 1 chunk computed\n", "")
    assert db.one(DONE) == 1


def sigterm(seconds: float, when: Callable[[], object] = lambda: True) -> list[float]:
    """Sends SIGTERM to this process so long after a worker here takes it (before, the process would end of it) and
    `when` is true; the moment is in the list then."""
    usual, sent = signal.getsignal(signal.SIGTERM), []

    def send() -> None:
        for _ in range(6000):
            if signal.getsignal(signal.SIGTERM) is not usual and when():
                time.sleep(seconds)
                if signal.getsignal(signal.SIGTERM) is not usual:
                    sent.append(time.monotonic())
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.01)

    threading.Thread(target=send, daemon=True).start()
    return sent


def test_sigterm_ends_one_that_waits(db: Database) -> None:
    sent = sigterm(0.5)
    assert told("worker", "--no-gpu", "--every", "3600", "--dsn", db.dsn) == ""
    assert time.monotonic() - sent[0] < 60


def test_two_workers_and_the_server(db: Database, conn: Connection) -> None:
    job = start(conn)
    counts: list[int] = []

    def work(first: int) -> None:
        with db.connect() as own:
            counts.append(compute(db, own, job, start=lambda chunks: first))

    workers = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
    server = Call(db, "select ubp.refresh_step(%s)", job)
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(60)
    assert server.done().error is None
    assert sum(counts) + 1 == 3
    assert step(conn, job)[0] == "done"
    assert_exact(conn)


def test_a_job_that_is_overtaken_or_over(db: Database, conn: Connection) -> None:
    job = start(conn)
    compute(db, conn, job, stop=iter([False, True]).__next__)
    question, columns, chunk = asked(db, conn, job)
    assert question.chunks == 3
    refresh(conn, START)
    assert told("worker", "--no-gpu", "--once", "--dsn", db.dsn) == ""
    for _ in range(2):
        error = refused(conn, "UB005", STORE, job, chunk.number, columns, 1, 0.0)
        assert f"refresh job {job} is over" in str(error)
        assert finish(conn, job)[0] == "failed"
    refused(conn, "UB005", "select * from ubp.refresh_events(%s)", job)
    assert_exact(conn)


def test_a_job_overtaken_while_it_is_computed(db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start(conn)
    with db.connect() as other:
        answer = Question.answer

        def overtaken(question: Question, chunk: Chunk) -> list[bytes]:
            refresh(other, START)
            return answer(question, chunk)

        monkeypatch.setattr(Question, "answer", overtaken)
        result = ubp_sql("worker", "--no-gpu", "--once", "--dsn", db.dsn)
    assert result.exit_code == 0, "nothing is left to do"
    assert result.stderr.startswith(f"job {job}: UB005: refresh job {job} is over")
    assert result.stderr.count("\n") == 1
    assert_exact(conn)


def test_a_job_that_fails_is_not_tried_in_a_loop(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(conn)
    tries: list[int] = []

    def broken(question: Question, chunk: Chunk) -> list[bytes]:
        tries.append(chunk.number)
        return [b""]

    monkeypatch.setattr(Question, "answer", broken)
    sigterm(1.0, lambda: tries)
    result = ubp_sql("worker", "--no-gpu", "--every", "0.05", "--dsn", db.dsn)
    assert (result.exit_code, len(tries)) == (0, 1)
    assert result.stderr.startswith(f"job {job}: UB003: a chunk has 6 columns")
    assert result.stderr.count("\n") == 1
    once = ubp_sql("worker", "--no-gpu", "--once", "--dsn", db.dsn)
    assert (once.exit_code, len(tries)) == (4, 2)
    assert f"error UB005: not computed here, as said above: job {job}\n" in once.stderr
    assert finish(conn, job)[0] == "done"
    assert_exact(conn)


def test_ctrl_c(db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    start(conn)

    def interrupted(question: Question, chunk: Chunk) -> list[bytes]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Question, "answer", interrupted)
    assert ubp_sql("worker", "--no-gpu", "--dsn", db.dsn).exit_code == 130
    assert db.one(DONE) == 0


def asked(db: Database, conn: Connection, job: int) -> tuple[Question, list[bytes], Chunk]:
    with db.connect() as reading:
        question = ask(conn, job)
        found = chunks(reading, job, question.definition)
        chunk = next(found)
        return question, question.answer(chunk), chunk


Columns = list[bytes | None]


class Bad:
    """A job's first chunk, and what the server says to something else in its place."""

    def __init__(self, db: Database, conn: Connection) -> None:
        self.conn, self.job = conn, start(conn)
        self.question, right, self.chunk = asked(db, conn, self.job)
        self.right: Columns = list(right)
        assert all(right[:4])

    def refused(self, columns: Any, events: int = 1, seconds: float = 0.0) -> str:
        before = self.stored()
        error = refused(self.conn, "UB003", STORE, self.job, self.chunk.number, columns, events, seconds)
        assert self.stored() == before
        return str(error)

    def stored(self) -> Any:
        query = """select c.*, j.seconds, j.events from ubp.refresh_chunks c join ubp.refresh_jobs j using (job_id)
                    order by chunk"""
        return self.conn.execute(query.encode()).fetchall()

    def changed(self, place: int, column: bytes | None) -> Columns:
        return [*self.right[:place], column, *self.right[place + 1 :]]

    def ends_well(self) -> None:
        assert self.conn.execute(STORE, [self.job, 1, self.right, 1, 0.0]).fetchone() == (True,)
        assert self.conn.execute(STORE, [self.job, 1, self.right, 1, 0.0]).fetchone() == (False,), "done before"
        assert self.conn.execute(STORE, [self.job, 9, self.right, 1, 0.0]).fetchone() == (False,), "no such chunk"
        assert finish(self.conn, self.job)[0] == "done"
        assert_exact(self.conn)


@pytest.fixture
def bad(db: Database, conn: Connection) -> Bad:
    return Bad(db, conn)


def ids(*users: int) -> bytes:
    return np.array(users, np.int64).tobytes()


def test_bad_chunks_by_hand(bad: Bad) -> None:
    right = bad.right
    for columns in ([], right[:5], [*right, b""]):
        assert "a chunk has 6 columns" in bad.refused(columns)
    for place, column in enumerate(right):
        assert "NULL" in bad.refused(bad.changed(place, None))
        assert column is not None
        longer = [] if place == 4 else [column + ids(0)]
        for wrong in (column + b"\0", column[:-1] if column else b"\0" * 7, *longer):
            assert "bytes are not of" in bad.refused(bad.changed(place, wrong))
    of_two_dimensions = "select ubp.store_refreshed(%s, 1, array_fill('\\x'::bytea, array[6, 2]), 1, 0)"
    assert "a chunk has 6 columns" in str(refused(bad.conn, "UB003", of_two_dimensions, bad.job))
    users = np.frombuffer(right[0] or b"", np.int64)
    for wrong_users in (users[::-1], np.full(len(users), users[0]), users + 1000, users.byteswap()):
        assert "users that are not the chunk's" in bad.refused(bad.changed(0, wrong_users.tobytes()))
    both = [*right[:4], right[0], right[3]]
    assert "and are awaited" in bad.refused(both)
    past = np.frombuffer(right[3] or b"", np.int64).copy()
    past[-1] = bad.question.us - 1
    assert "outdated" in bad.refused(bad.changed(3, past.tobytes()))
    assert "events" in bad.refused(right, events=-1)
    for seconds in (float("nan"), float("inf"), -1.0):
        bad.refused(right, seconds=seconds)
    assert bad.conn.execute(STORE, [bad.job, 1, None, 1, 0.0]).fetchone() == (None,)
    bad.ends_well()


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def _any_bytes(bad: Bad, data: st.DataObject) -> None:
    """A column of a length that is not its own."""
    place = data.draw(st.integers(0, 5))
    column = bytearray(bad.right[place] or b"")
    if column and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(column) - 1))
        column[at:] = column[at + data.draw(st.integers(1, 7)) :]
    else:
        column += data.draw(st.binary(min_size=1, max_size=40))
    bad.refused(bad.changed(place, bytes(column)))


def test_bad_chunks_at_random(bad: Bad) -> None:
    _any_bytes(bad)
    bad.ends_well()


@pytest.mark.parametrize("role", ["ubp_loader", "ubp_analyst", "ubp_auditor", "ubp_admin"])
def test_only_an_admin_may(db: Database, role: str) -> None:
    with db.connect() as conn:
        conn.execute(f"set role {role}".encode())
        for call in FUNCTIONS:
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(f"select ubp.{call}".encode())
            assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege) == (role != "ubp_admin"), call


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
