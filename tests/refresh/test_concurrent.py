"""Writers and refreshes at once: whatever order they commit in, no event is lost and nobody's moment is mixed."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations

import psycopg
import pytest

from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define, refresh, state
from tests.refresh.points import POINTS, Call, stopped_at, waits

REFRESH = "select * from ubp.refresh_features(%s)"
INSERT = "insert into ubp.events (user_id, event_time, kind, value, ingested_at) values (%s, %s, 'purchase', 1, %s)"
SEEN = """
select coalesce(r.features[1], 0)::integer from (values (%s::bigint)) u (user_id)
  left join ubp.feature_rows r using (user_id)"""


def orders() -> Iterator[tuple[str, ...]]:
    """Two writers, each an insert and a commit, and two refreshes: the 90 orders that differ."""
    seen = set()
    for order in permutations(("1", "1", "2", "2", "r", "r")):
        if order not in seen:
            seen.add(order)
            yield order


@pytest.mark.parametrize("mirror", [True, False])
def test_every_order_of_two_writers_and_two_refreshes(db: Database, mirror: bool) -> None:
    tried = 0
    with db.connect() as reader, db.connect() as one, db.connect() as two:
        reader.execute("update ubp.mirror_state set enabled = %s", [mirror])
        define(reader)
        reader.execute(INSERT, [0, START, START])
        refresh(reader, START + timedelta(days=1))
        for number, order in enumerate(orders()):
            users = {"1": 1000 + number, "2": 2000 + number}
            writers = {"1": one, "2": two}
            for writer in writers.values():
                writer.autocommit = False
            begun: set[str] = set()
            for step in order:
                if step == "r":
                    refresh(reader, START + timedelta(days=1))
                elif step in begun:
                    writers[step].commit()
                else:
                    writers[step].execute(INSERT, [users[step], START, START])
                    begun.add(step)
            refresh(reader, START + timedelta(days=1))
            assert all(reader.execute(SEEN, [user]).fetchone() == (1,) for user in users.values()), order
            tried += 1
        assert tried == 90
        assert_exact(reader)


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_a_writer_commits_while_a_refresh_stands_still(db: Database, point: tuple[str, str]) -> None:
    """What is not seen by it stays logged: the next refresh has it."""
    with db.connect() as conn:
        define(conn)
        Log(conn, 7).insert(START, 40)
        refresh(conn, START)
        late = START + timedelta(hours=1)
        conn.execute(INSERT, [3, START, START])
        with stopped_at(db, point):
            running = Call(db, REFRESH, late)
            waits(db, running.pid)
            conn.execute(INSERT, [4, START, START])
            conn.execute("delete from ubp.events where user_id = 5")
            second = Call(db, REFRESH, late + timedelta(hours=1))
            waits(db, second.pid)
            assert conn.execute("select as_of from ubp.feature_sets").fetchone() == (START,)
        assert running.done().error is None
        assert second.done().error is None
        assert conn.execute("select count(*) from ubp.event_log").fetchone() == (0,)
        assert conn.execute("select as_of from ubp.feature_sets").fetchone() == (late + timedelta(hours=1),)
        assert_exact(conn)


def test_two_refreshes_move_one_after_the_other(db: Database) -> None:
    with db.connect() as conn, db.connect() as first:
        define(conn)
        Log(conn, 8).insert(START, 40)
        first.autocommit = False
        refresh(first, START)
        second = Call(db, REFRESH, START + timedelta(days=2))
        waits(db, second.pid)
        first.commit()
        assert second.done().error is None
        assert conn.execute("select as_of from ubp.feature_sets").fetchone() == (START + timedelta(days=2),)
        assert_exact(conn)


def test_a_snapshot_from_before_sees_the_old_rows(db: Database) -> None:
    with db.connect() as conn, db.connect() as old:
        define(conn)
        Log(conn, 9).insert(START, 60)
        refresh(conn, START)
        with old.transaction():
            old.execute("set transaction isolation level repeatable read")
            before = state(old)
            refresh(conn, START - timedelta(days=20))
            refresh(conn, START + timedelta(days=20))
            assert state(old) == before
            assert old.execute("select count(*) from ubp.user_features").fetchone() == (len(before),)
        assert state(old) != before


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_callers_with_a_snapshot_of_their_own(db: Database, level: str) -> None:
    """Right, or refused as PostgreSQL refuses: never a refresh that overlooks what another one consumed."""
    with db.connect() as conn, db.connect() as caller:
        define(conn)
        Log(conn, 10).insert(START, 60)
        refresh(conn, START)
        conn.execute(INSERT, [1, START, START])
        with caller.transaction():
            caller.execute(f"set transaction isolation level {level}".encode())
            refresh(caller, START + timedelta(hours=1))
        assert_exact(conn)
        caller.autocommit = False
        caller.execute(f"set transaction isolation level {level}".encode())
        caller.execute("select 1 from ubp.events limit 1")
        conn.execute(INSERT, [2, START, START])
        refresh(conn, START + timedelta(hours=2))
        with pytest.raises(psycopg.errors.SerializationFailure):
            refresh(caller, START + timedelta(hours=3))
        caller.rollback()
        assert_exact(conn)


def test_a_first_refresh_that_a_snapshot_does_not_see(db: Database) -> None:
    with db.connect() as conn, db.connect() as caller:
        define(conn)
        define(conn, "other")
        Log(conn, 11).insert(START, 60)
        refresh(conn, START)
        caller.autocommit = False
        caller.execute("set transaction isolation level repeatable read")
        caller.execute("select 1 from ubp.events limit 1")
        refresh(conn, START, "other")
        with pytest.raises(psycopg.errors.SerializationFailure):
            refresh(caller, START, "other")
        caller.rollback()
        assert_exact(conn, "other")
