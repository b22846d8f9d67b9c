"""A worker whose server goes away, and one who may not be a worker."""

from pathlib import Path

import pytest

from tests.api.helpers import Connection
from tests.cli.running import refusal, ubp_sql
from tests.fix_database import Database
from tests.gpu.test_hardened import DONE, sigterm
from tests.gpu.test_worker import conn
from tests.refresh.helpers import assert_exact
from tests.refresh.test_steps import start, step
from ubp_sql.worker.refresh import Chunk, Question

__all__ = ["conn"]
END = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where application_name = 'ubp-sql' and datname = current_database()"""


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures of whoever runs the tests; no waiting for a server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("ubp_sql.cli.worker.AWAY_S", 0.1)


@pytest.fixture
def lost(db: Database, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The second chunk that is computed; the server ends both sessions of the worker meanwhile."""
    seen: list[int] = []
    answer = Question.answer

    def ended(question: Question, chunk: Chunk) -> list[bytes]:
        seen.append(chunk.number)
        if len(seen) == 2:
            assert db.one(END) == 2
        return answer(question, chunk)

    monkeypatch.setattr(Question, "answer", ended)
    return seen


def test_a_server_that_comes_back_is_waited_for(db: Database, conn: Connection, lost: list[int]) -> None:
    job = start(conn)
    sigterm(0.1, lambda: db.one(DONE) == 3)
    result = ubp_sql("worker", "--no-gpu", "--every", "0.05", "--dsn", db.dsn)
    assert result.exit_code == 0, result.stderr
    assert "57P01: terminating connection due to administrator command; next try in 0.1 s\n" in result.stderr
    assert sorted(lost) == sorted([1, 2, 3, lost[1]])
    assert step(conn, job)[0] == "done"
    assert_exact(conn)


def test_once_means_once(db: Database, conn: Connection, lost: list[int]) -> None:
    start(conn)
    result = ubp_sql("worker", "--no-gpu", "--once", "--dsn", db.dsn)
    assert (result.exit_code, len(lost)) == (1, 2)
    assert result.stderr == "error 57P01: terminating connection due to administrator command\n"
    assert db.one(DONE) == 1


def test_a_server_that_is_not_there(db: Database) -> None:
    assert refusal("worker", "--no-gpu", "--dsn", f"{db.dsn} port=1")[:2] == (6, "UB011")


@pytest.mark.parametrize("role", ["ubp_reader", "ubp_loader", "ubp_analyst", "ubp_auditor"])
def test_only_an_admin_is_a_worker(db: Database, role: str) -> None:
    """Also with no work at hand, when nothing else would be refused."""
    code, state, message = refusal("worker", "--no-gpu", "--once", "--dsn", f"{db.dsn} options='-c role={role}'")
    assert (code, state) == (6, "UB011")
    assert "grant ubp_admin" in message
