"""When rows expire: every row is in a piece, pieces are by day where they are large, and few where they are old."""

from datetime import UTC, datetime, timedelta

import numpy as np

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define, refresh
from ubp_sql.api.expiries import MANY, MOST_PIECES
from ubp_sql.kernels.codes import DAY_US

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PIECES = "select day, users, valid_until from ubp.expiries order by expiry_id"
ROWS = """
select user_id, (extract(epoch from valid_until) * 1000000)::bigint
  from ubp.feature_rows where isfinite(valid_until)"""


def assert_every_row_is_in_a_piece(conn: Connection) -> None:
    said: set[tuple[int, int]] = set()
    for day, users, until in conn.execute(PIECES, binary=True).fetchall():
        until_us = np.frombuffer(until, np.int64)
        assert day is None or set((until_us // DAY_US).tolist()) == {day}
        said |= set(zip(np.frombuffer(users, np.int64).tolist(), until_us.tolist(), strict=True))
    rows = set(conn.execute(ROWS).fetchall())
    assert rows
    assert rows <= said


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def test_many_small_refreshes(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        log, as_of, most = Log(conn, 91), START, 0
        log.insert(as_of, 60)
        refresh(conn, as_of)
        for number in range(MOST_PIECES + 6):
            as_of += timedelta(hours=1)
            log.insert(as_of, 1)
            refresh(conn, as_of)
            most = max(most, db.one("select count(*) from ubp.expiries"))
            if number % 20 == 0:
                assert_every_row_is_in_a_piece(conn)
        assert most == MOST_PIECES + 1
        assert db.one("select count(*) from ubp.expiries") < 12, "put together"
        assert_every_row_is_in_a_piece(conn)
        assert_exact(conn)


def test_many_users(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        conn.execute(
            """insert into ubp.events (user_id, event_time, kind, ingested_at)
               select n, t, 'view', t
                 from (select n, %s - n * interval '9 minutes' as t from generate_series(1, %s) n) x""",
            [START, MANY + 500],
        )
        refresh(conn, START)
        assert db.one("select count(*) from ubp.expiries where day is null") == 0
        assert_every_row_is_in_a_piece(conn)
        later = START + timedelta(days=1, hours=3)
        due = db.one("select count(*) from ubp.feature_rows where valid_until < %s", later)
        done = refresh(conn, later)
        assert 0 < due == done["recomputed"] < MANY
        refresh(conn, later + timedelta(days=1))
        assert db.one("select min(day) from ubp.expiries where day is not null") == us(later) // DAY_US, "past ones go"
        assert_every_row_is_in_a_piece(conn)
        before = db.one("select count(*) from ubp.expiries where day is not null")
        refresh(conn, START)
        assert db.one("select count(*) from ubp.expiries") <= before + 3, "as_of moved back: all were made anew"
        assert_every_row_is_in_a_piece(conn)
        assert_exact(conn)


def test_the_row_decides(db: Database) -> None:
    """What a piece says of a row that was written anew since makes nobody compute it."""
    with db.connect() as conn:
        define(conn)
        for age in (0.1, 0.9):
            at = START - timedelta(days=age)
            conn.execute(
                "insert into ubp.events (user_id, event_time, kind, ingested_at) values (1, %s, 'view', %s)", [at, at]
            )
        refresh(conn, START)
        conn.execute("delete from ubp.events where event_time < %s", [START - timedelta(days=0.5)])
        assert refresh(conn, START)["recomputed"] == 1
        assert refresh(conn, START + timedelta(days=0.5))["recomputed"] == 0
        assert refresh(conn, START + timedelta(days=1))["recomputed"] == 1
        assert_exact(conn)
