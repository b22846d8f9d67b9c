"""What others commit between a refresh's first look at its set and its last statement."""

import threading
import time

import psycopg
import pytest

from tests.fix_database import Database

EVENTS = """
insert into ubp.events (user_id, event_time, kind, value, ingested_at)
select u, t, 'view', 1, t
  from generate_series(1, 50) u cross join generate_series(1, 40) h
 cross join lateral (select timestamptz '2025-06-01' + h * interval '1 hour') x (t)"""
MIRROR = "select pg_advisory_xact_lock(hashtextextended('ubp.mirror', 0))"
WAITING = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
AS_OF = "2025-06-05"


@pytest.fixture
def two_sets(db: Database) -> Database:
    """Sets `one`, which asks for holidays, and `two`."""
    db.execute(EVENTS)
    db.execute("select ubp.define_feature_set('one', array['view']), ubp.define_feature_set('two', array['view'])")
    db.execute(
        """select ubp.define_feature('feasts', 'count', array['view'], "window" => '30d',
                                     settings => '{"where": {"holiday": 1}}', feature_set => 'one')"""
    )
    for name in ("one", "two"):
        db.execute("select ubp.refresh_features(%s, %s)", AS_OF, name)
    return db


def until(db: Database, query: str) -> None:
    deadline = time.monotonic() + 30
    while not db.one(query):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refreshing(db: Database, name: str, errors: list[Exception]) -> threading.Thread:
    def go() -> None:
        try:
            db.execute("select ubp.refresh_features(%s, %s)", AS_OF, name)
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    return thread


@pytest.mark.parametrize("stale", [False, True])
def test_a_holiday_that_is_named_during_a_refresh(two_sets: Database, stale: bool) -> None:
    """The refresh has read the calendar; that its set is stale must not go with its own end."""
    if stale:
        two_sets.execute("insert into ubp.calendar (day) values ('2025-06-01')")
    errors: list[Exception] = []
    with two_sets.connect() as other, other.transaction():
        other.execute(MIRROR)
        refresh = refreshing(two_sets, "one", errors)
        until(two_sets, WAITING)
        # It may have to wait for the refresh.
        naming = threading.Thread(
            target=two_sets.execute, args=("insert into ubp.calendar (day) values ('2025-06-02')",)
        )
        naming.start()
        naming.join(1)
    refresh.join()
    naming.join()
    assert not errors
    two_sets.execute("select ubp.refresh_features(%s, 'one')", AS_OF)
    assert two_sets.one("select users from ubp.parity_check(50, 'one') where what = 'differing'") == 0
    days = (1, 2) if stale else (2,)
    asked = (
        "select count(*) from ubp.events"
        " where user_id = 1 and extract(day from event_time at time zone 'UTC') = any (%s)"
    )
    assert two_sets.one("select feasts from ubp.user_features_one where user_id = 1") == two_sets.one(asked, list(days))


def test_two_sets_after_a_truncate(two_sets: Database) -> None:
    """The first waits for the mirror, the second has it and marks both as stale: neither may wait for the other."""
    errors: list[Exception] = []
    with two_sets.connect() as other, other.transaction():
        other.execute(MIRROR)
        refresh = refreshing(two_sets, "one", errors)
        until(two_sets, WAITING)
        other.execute("truncate ubp.events")
        other.execute(EVENTS.encode())
        other.execute("select ubp.refresh_features(%s, 'two')", [AS_OF])
    refresh.join()
    assert not errors
