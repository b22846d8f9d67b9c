"""`ubp-sql refresh` as people, scripts and service managers meet it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define
from tests.refresh.points import WAITING, stopped_at, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dsn(db: Database) -> tuple[str, str]:
    with db.connect() as conn:
        define(conn)
        Log(conn, 71).insert(START, 90)
    return "--dsn", db.dsn


def begun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from ubp_sql.cli.main import run; run()", "refresh", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_once_and_dry(db: Database, dsn: tuple[str, str]) -> None:
    (dry,) = document("refresh", "--dry-run", *dsn)
    assert dry["detail"].startswith("dry run: everybody")
    assert db.one("select as_of from ubp.feature_sets") is None
    (done,) = document("refresh", "--as-of", "2025-03-03", "--set", "default", *dsn)
    assert (done["users"], done["recomputed"]) == (12, 12)
    assert "0 with changed events" in told("refresh", "--as-of", "2025-03-03", *dsn)


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        (["--every", "5"], "UB003"),
        (["--every", "0s"], "UB003"),
        (["--every", "5m", "--as-of", "2025-03-03"], "UB003"),
        (["--every", "5m", "--dry-run"], "UB003"),
        (["--set", "none"], "UB005"),
        (["--every", "5m", "--set", "none"], "UB005"),
        (["--steps", "--set", "none"], "UB005"),
    ],
)
def test_refusals(dsn: tuple[str, str], arguments: list[str], state: str) -> None:
    assert refusal("refresh", *arguments, *dsn)[1] == state


def test_steps_go_on_where_they_were_interrupted(db: Database, dsn: tuple[str, str]) -> None:
    with stopped_at(db, ("refresh_chunks", "update")):
        running = begun("--steps", "--as-of", "2025-03-03", *dsn)
        until(lambda: db.one(WAITING) == 1, 120)
        running.send_signal(signal.SIGINT)
        out, error = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    job = db.one("select job_id from ubp.refresh_jobs")
    assert f"job {job} keeps what it has computed" in error
    assert "Traceback" not in error
    _, state, message = refusal("refresh", "--steps", "--as-of", "2025-03-04", *dsn)
    assert state == "UB005"
    assert f"job {job}, a refresh as of 2025-03-03 00:00:00+00, is under way" in message
    assert f"ubp.cancel_refresh({job})" in message
    (done,) = document("refresh", "--steps", "--as-of", "2025-03-03", *dsn)
    assert (done["job"], done["state"], done["done_users"]) == (job, "done", 12)
    with db.connect() as conn:
        assert_exact(conn)


def test_steps_go_on_with_a_job_that_was_being_started(db: Database, dsn: tuple[str, str]) -> None:
    """The client of the first start was killed: the server goes on with it, and the second start waits for that."""
    with db.connect() as conn, conn.transaction():
        started = conn.execute("select ubp.start_refresh('2025-03-03')").fetchone()
        running = begun("--steps", "--json", *dsn)
        until(lambda: db.one(WAITING) == 1, 120)
    out, error = running.communicate(timeout=60)
    assert running.returncode == 0, error
    (done,) = json.loads(out)
    assert started is not None
    assert (done["job"], done["state"]) == (started[0], "done")


def test_again_and_again_until_it_is_told_to_end(db: Database, dsn: tuple[str, str]) -> None:
    running = begun("--every", "1s", "--json", *dsn)
    try:
        until(lambda: db.one("select count(*) from ubp.job_runs") >= 3, 120)
        with db.connect() as conn:
            conn.execute("alter table ubp.job_runs add constraint no check (job_id < 0) not valid")
            assert running.stderr is not None
            error = next(line for line in running.stderr if "next try in 1 s" in line)
            conn.execute("alter table ubp.job_runs drop constraint no")
        seen = db.one("select count(*) from ubp.job_runs")
        until(lambda: db.one("select count(*) from ubp.job_runs") > seen, 30)
    finally:
        os.kill(running.pid, signal.SIGTERM)
        out, more = running.communicate(timeout=60)
    assert running.returncode == 130
    rounds = [json.loads(line) for line in out.splitlines()]
    assert len(rounds) >= 3
    assert rounds[0]["recomputed"] == 12
    assert "Traceback" not in error + more
