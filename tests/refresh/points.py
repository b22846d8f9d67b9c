"""Waiting points inside a refresh: a trigger of the test's own stops whoever writes a table, for as long as the test
holds an advisory lock. What runs is the product as it is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.fix_database import Database

Connection = psycopg.Connection[Any]
HELD = 7_071
# Where a refresh can be stopped: what it has done up to there, by the table that it writes next.
POINTS = {
    "log taken, mirror half written": ("mirror_runs", "insert"),
    "users chosen, none written": ("feature_rows", "insert or update"),
    "rows written, moment not moved": ("feature_sets", "update"),
    "moment moved, run not logged": ("job_runs", "insert"),
}
SET_TRIGGER = """
create function public.wait_here() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(7071);
  return coalesce(new, old);
end $$;
create trigger wait_here before {events} on ubp.{table} for each statement execute function public.wait_here()"""
WAITING = """
select count(*) from pg_stat_activity
 where wait_event_type = 'Lock' and datname = current_database() and backend_type = 'client backend'"""
DROP_TRIGGER = "drop function public.wait_here() cascade"


@contextmanager
def stopped_at(db: Database, point: tuple[str, str]) -> Iterator[None]:
    """While this is open, whoever comes to the point waits there."""
    table, events = point
    with db.connect() as holder:
        holder.execute(SET_TRIGGER.format(events=events, table=table).encode())
        holder.execute("select pg_advisory_lock(%s)", [HELD])
        try:
            yield
        finally:
            holder.execute("select pg_advisory_unlock_all()")
            if not holder.broken:
                remove(holder)


def remove(conn: Connection) -> None:
    conn.execute("set lock_timeout = '20s'")
    conn.execute(DROP_TRIGGER)


def waits(db: Database, pid: int, seconds: float = 60.0) -> None:
    """Returns when the session waits for a lock of anybody's."""
    query = "select wait_event_type from pg_stat_activity where pid = %s"
    until(lambda: db.one(query, pid) == "Lock", seconds)


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


class Call(threading.Thread):
    """A statement in a session of its own; `result` is its first row, `error` what it ended in."""

    def __init__(self, db: Database, query: str, *arguments: object) -> None:
        super().__init__(daemon=True)
        self.conn = db.connect()
        self.pid = self.conn.info.backend_pid
        self.query, self.arguments = query, arguments
        self.result: tuple[Any, ...] | None = None
        self.error: psycopg.Error | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.conn.execute(self.query.encode(), self.arguments).fetchone()
        except psycopg.Error as error:
            self.error = error
        finally:
            self.conn.close()

    def done(self, seconds: float = 120.0) -> "Call":
        self.join(seconds)
        assert not self.is_alive(), "still running"
        return self
