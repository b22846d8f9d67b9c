"""One user with very many events, very many users with one, and work that can be stopped."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fix_database import Database
from tests.mirror.helpers import Log

HOT = """
insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at)
select 5, timestamptz '2024-01-01' + g % {times} * interval '1 second',
       case g % 3 when 0 then 'view' else 'purchase' end,
       g % 100, g % 1000, timestamptz '2024-01-01' + g % {times} * interval '1 second'
  from generate_series(1, {n}) g"""
MANY = """
insert into ubp.events (user_id, event_time, kind, ingested_at)
select g * 3, timestamptz '2024-01-01' + g % 1000 * interval '1 hour', 'view', '2024-01-01'
  from generate_series(1, {n}) g"""
SOME = """
insert into ubp.events (user_id, event_time, kind) select g * 7, '2024-05-01', 'view' from generate_series(1, %s) g"""
LARGEST = """
select max(greatest(octet_length(t), octet_length(user_ids), octet_length(event_id))) from ubp.mirror_chunks"""


@pytest.fixture
def usual(db: Database) -> Iterator[Log]:
    """A session with chunks as large as everybody's."""
    with db.connect() as conn:
        yield Log(db, conn)


def hot(log: Log, n: int, times: int) -> None:
    log.run("insert into ubp.events (user_id, event_time, kind) values (4, now(), 'view'), (6, now(), 'view')")
    log.run(HOT.format(n=n, times=times))
    log.fold()
    parts = log.one("select count(*) from ubp.mirror_chunks where first_user = 5 and last_user = 5")
    assert parts >= n // 16_384
    assert log.one("select max(n) from ubp.mirror_chunks") <= 16_384
    assert log.one(LARGEST) <= 8 * 16_384
    # One event more, then one changed: a run beside the old one, then all of the user anew.
    log.run("insert into ubp.events (user_id, event_time, kind) values (5, '2024-01-01 00:00:05', 'cancel')")
    log.fold()
    assert log.read("mirror", ["cancel"])["sizes"].tolist() == [1]
    log.run("update ubp.events set kind = 'purchase' where kind = 'cancel'")
    log.fold()
    log.run("select ubp.compact_mirror()")
    found = log.read("mirror", ["view", "purchase"], numbers=["value"], keys=[])
    assert found["user_id"].tolist() == [4, 5, 6]
    assert found["sizes"].tolist() == [1, n + 1, 1]


def many(log: Log, n: int) -> None:
    log.run(MANY.format(n=n))
    log.fold()
    assert log.one("select count(*) from ubp.mirror_chunks") == -(-n // 16_384)
    log.run(SOME, n // 100)
    log.run("delete from ubp.events where user_id between 30 and 60")
    log.fold()
    users, events = log.rows("select count(distinct user_id), count(*) from ubp.events")[0]
    found = log.read("mirror", numbers=[], keys=[])
    assert (len(found["user_id"]), len(found["t_us"])) == (users, events)
    log.run("select ubp.compact_mirror()")
    again = log.read("mirror", numbers=[], keys=[])
    assert all(again[name].tobytes() == column.tobytes() for name, column in found.items())


@pytest.mark.parametrize("times", [1, 20_000])
def test_a_hot_user(log: Log, times: int) -> None:
    """Portions smaller than the user, at different times and all at one."""
    log.small(64)
    log.run("insert into ubp.events (user_id, event_time, kind) values (4, now(), 'view'), (6, now(), 'view')")
    log.run(HOT.format(n=4000, times=times))
    log.fold()
    log.run("insert into ubp.events (user_id, event_time, kind) values (5, '2024-01-01 00:00:05', 'cancel')")
    log.check()
    log.fold()
    log.check()
    log.run("update ubp.events set kind = 'purchase' where kind = 'cancel'")
    log.fold()
    log.run("select ubp.compact_mirror()")
    log.check()
    log.equal()


def test_a_user_of_many_chunks(usual: Log) -> None:
    hot(usual, 100_000, 30_000)
    usual.equal()


def test_many_users(usual: Log) -> None:
    many(usual, 100_000)
    usual.equal()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1_000_000, 1])
def test_ten_million_events_of_one_user(usual: Log, times: int) -> None:
    hot(usual, 10_000_000, times)


@pytest.mark.slow
def test_ten_million_users(usual: Log) -> None:
    many(usual, 10_000_000)


def cpu_s(log: Log) -> float:
    """CPU seconds of the session's server process: what else runs on the machine does not add to them."""
    fields = Path(f"/proc/{log.conn.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    "statement", ["select ubp.rebuild_mirror()", "select ubp.compact_mirror()", "select * from ubp.verify_mirror()"]
)
def test_it_can_be_stopped(usual: Log, statement: str) -> None:
    """At whatever moment the timeout comes, the statement ends soon after it."""
    usual.run(MANY.format(n=150_000))
    usual.run(HOT.format(n=150_000, times=1000))
    usual.fold()
    usual.run(SOME, 90_000)
    usual.fold()
    late = []
    for timeout in (60, 150, 250, 400, 600):
        usual.run(f"set statement_timeout = {timeout}")
        started = cpu_s(usual)
        try:
            usual.run(statement)
        except psycopg.errors.QueryCanceled:
            late.append(cpu_s(usual) - started - timeout / 1000)
        usual.run("set statement_timeout = 0")
    assert late
    assert sorted(late)[len(late) // 2] < 0.15, late
    usual.equal()
