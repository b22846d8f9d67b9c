"""A source that gets its row, and its clock, while a fold meets its events as those of a source without one."""

import threading
import time

import psycopg
import pytest

from tests.mirror.helpers import Log

EVENT = (
    "insert into ubp.events (user_id, event_time, kind, source, ingested_at) values (1, %s, 'view', %s, '2024-01-01')"
)
SOURCE = b"insert into ubp.sources (source_id, name, time_zone) values (77, 'shop', 'Asia/Tokyo')"
WAITING = "select exists (select from pg_locks where relation = 'ubp.mirror_runs'::regclass and not granted)"
OFFSETS = "select array_agg(distinct offset_all) from ubp.mirror_chunks where n > 0"


@pytest.mark.parametrize("built", [False, True])
def test_described_after_the_fold_has_read(log: Log, built: bool) -> None:
    """It waits for the fold's commit, and sees then what there is to be made anew."""
    log.run(EVENT, "2024-03-01 03:00+00", 77)
    if built:
        log.fold()
    log.run(EVENT, "2024-03-02 03:00+00", 77)
    with log.db.connect() as other:
        with log.conn.transaction():
            log.fold()
            describing = threading.Thread(target=other.execute, args=(SOURCE,))
            describing.start()
            time.sleep(0.3)
            assert describing.is_alive()
        describing.join()
    log.fold()
    log.equal()
    assert log.one(OFFSETS) == [9 * 3600]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_described_while_the_fold_reads(log: Log, isolation: str) -> None:
    """Committed between the fold's first look at the sources and the end of its reading."""
    log.run(EVENT, "2024-03-01 03:00+00", 77)
    with log.db.connect() as held, log.db.connect() as other, log.db.connect() as folding:
        folding.execute(f"set default_transaction_isolation = '{isolation}'".encode())
        with held.transaction():
            # The fold stands still before it writes a run, when it has read everything.
            held.execute("lock table ubp.mirror_runs in share mode")
            fold = threading.Thread(target=folding.execute, args=(b"select ubp.build_mirror()",))
            fold.start()
            deadline = time.monotonic() + 30
            while not log.one(WAITING):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            other.execute(SOURCE)
        fold.join()
    log.fold()
    log.equal()
    assert log.one(OFFSETS) == [9 * 3600]


def test_nothing_is_made_anew_for_nothing(log: Log) -> None:
    log.run(EVENT, "2024-03-01 03:00+00", 0)
    log.fold()
    built = log.one("select built_at from ubp.mirror_state")
    with log.conn.transaction():
        log.run(EVENT, "2024-03-02 03:00+00", 0)
        log.fold()
        with log.db.connect() as other:
            other.execute(b"set lock_timeout = 2000")
            other.execute(SOURCE)
    log.run(EVENT, "2024-03-03 03:00+00", 77)
    log.fold()
    log.equal()
    assert log.one("select built_at from ubp.mirror_state") == built


def test_a_cancelled_fold_lets_go(log: Log) -> None:
    log.run(EVENT, "2024-03-01 03:00+00", 77)
    with log.db.connect() as other, other.transaction():
        other.execute(SOURCE)
        log.run("set statement_timeout = 500")
        with pytest.raises(psycopg.errors.QueryCanceled):
            log.fold()
        log.run("set statement_timeout = 0")
    log.fold()
    log.equal()
