"""Partitions of ubp.events: made beside plain INSERTs, limited in number, and gone with the installation."""

import threading
import time

import psycopg

from tests.fix_database import Database
from ubp_sql.install import commands

MONTHS = "select count(*) from pg_inherits where inhparent = 'ubp.events'::regclass"
LIMIT = 360
WAITING = "select count(*) from pg_locks where not granted and relation = 'ubp.events_default'::regclass"


def test_an_insert_under_way_is_waited_for(db: Database) -> None:
    made: list[object] = []

    def ensure() -> None:
        try:
            made.append(db.one("select ubp.ensure_event_partitions('2011-01-01', '2011-01-31')"))
        except psycopg.Error as error:
            made.append(error.sqlstate)

    other = threading.Thread(target=ensure)
    with db.connect() as conn, conn.transaction():
        conn.execute("insert into ubp.events (user_id, event_time, kind) values (1, '2011-01-05 00:00+00', 'view')")
        other.start()
        until = time.monotonic() + 30
        while not db.one(WAITING) and time.monotonic() < until:
            time.sleep(0.01)
    other.join(30)
    assert made == [1]
    assert db.one("select tableoid::regclass::text from ubp.events") == "ubp.events_2011_01"


def test_their_number_is_limited(lone_db: Database) -> None:
    """As many as there may be, uninstalled in one transaction with a default server's lock table."""
    with lone_db.connect() as conn:
        commands.init(conn)
        made = [
            lone_db.one("select ubp.ensure_event_partitions(%s, %s)", f"{year}-01-01", f"{year + 19}-12-31")
            for year in range(1900, 2000, 20)
        ]
        assert made == [240, 120, 0, 0, 0]
        assert lone_db.one(MONTHS) == LIMIT + 1, "and the default partition"
        lone_db.execute("insert into ubp.events (user_id, event_time, kind) values (1, '2011-01-05', 'view')")
        assert lone_db.one("select tableoid::regclass::text from ubp.events") == "events_default"
        assert lone_db.one("select ubp.ensure_event_partitions('1901-01-01', '1901-02-01')") == 0, "there already"
        assert lone_db.one("show max_locks_per_transaction") == "64"
        commands.uninstall(conn, run=True)
    assert lone_db.one("select to_regnamespace('ubp')") is None
