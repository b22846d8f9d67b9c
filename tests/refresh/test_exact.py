"""Whatever happened to the events and however as_of moved: a refresh leaves what computing everybody would."""

from datetime import timedelta
from random import Random

import pytest

from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, define, refresh, state, versions

MOVES = (
    timedelta(0),
    timedelta(microseconds=1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=1),
    timedelta(days=7),
    timedelta(days=31),
    -timedelta(days=2),
)


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_changes(db: Database, seed: int) -> None:
    random = Random(seed)
    with db.connect() as conn:
        if seed % 3 == 2:
            conn.execute("update ubp.mirror_state set enabled = false")
        define(conn)
        log, as_of, everybody = Log(conn, seed), START, 0
        log.insert(as_of, 60)
        refresh(conn, as_of)
        for _ in range(8):
            for _ in range(random.randrange(3)):
                log.change() if random.random() < 0.5 else log.insert(as_of, random.randrange(1, 6))
            as_of += random.choice(MOVES)
            everybody += refresh(conn, as_of)["detail"].startswith("everybody")
            assert_exact(conn)
        assert everybody < 8, "else nothing was tested"


def test_only_users_with_a_change_or_an_event_at_an_edge_are_written(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        days: dict[int, list[float]] = {1: [2], 2: [6, 3], 3: [29.5], 4: [45], 5: [0.5], 6: [20], 7: [-0.5]}
        for user, ages in days.items():
            for age in ages:
                at = START - timedelta(days=age)
                conn.execute(
                    "insert into ubp.events (user_id, event_time, kind, ingested_at) values (%s, %s, 'purchase', %s)",
                    [user, at, at],
                )
        refresh(conn, START)
        before = versions(conn)
        assert set(before) == {1, 2, 3, 4, 5, 6}
        done = refresh(conn, START + timedelta(hours=24))
        # 5 leaves the day, 3 leaves 30 days, 7 begins; 2 reaches 7 days to the microsecond, where it still counts
        assert {user for user, version in versions(conn).items() if before.get(user) != version} == {3, 5, 7}
        assert done["recomputed"] == 3
        assert_exact(conn)
        before = versions(conn)
        one = "insert into ubp.events (user_id, event_time, kind, ingested_at) values (%s, %s, %s, %s)"
        conn.execute(one, [4, START, "view", START])
        conn.execute(one, [6, START, "else", START])
        refresh(conn, START + timedelta(hours=24))
        changed = {user for user, version in versions(conn).items() if before.get(user) != version}
        assert 4 in changed
        assert changed <= {4, 6}
        assert_exact(conn)


def test_nothing_to_do_writes_nothing(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        Log(conn, 1).insert(START, 50)
        refresh(conn, START)
        before = versions(conn)
        done = refresh(conn, START)
        assert (done["recomputed"], done["events"], done["removed"]) == (0, 0, 0)
        assert versions(conn) == before


def test_who_lost_all_events_loses_the_row(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        Log(conn, 2).insert(START, 80)
        refresh(conn, START)
        users = len(state(conn))
        conn.execute("delete from ubp.events where user_id in (1, 2)")
        assert refresh(conn, START)["removed"] == 2
        assert len(state(conn)) == users - 2
        conn.execute("truncate ubp.events")
        assert refresh(conn, START)["removed"] == users - 2
        assert state(conn) == {}
        Log(conn, 3).insert(START, 30)
        refresh(conn, START)
        assert_exact(conn)


def test_two_sets_each_keep_their_own_list(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        define(conn, "other")
        log = Log(conn, 4)
        log.insert(START, 60)
        refresh(conn, START)
        refresh(conn, START + timedelta(days=1), "other")
        log.insert(START, 5)
        refresh(conn, START)
        log.change()
        refresh(conn, START + timedelta(days=1), "other")
        assert_exact(conn, "other")
        refresh(conn, START + timedelta(hours=1))
        assert_exact(conn)


def test_many_who_changed_are_read_in_passing(db: Database) -> None:
    """Above a share of the users all events are read, and still only those users computed."""
    with db.connect() as conn:
        define(conn)
        log = Log(conn, 5, users=300)
        log.insert(START, 1500)
        refresh(conn, START)
        conn.execute(
            """insert into ubp.events (user_id, event_time, kind, ingested_at)
               select n, %s, 'view', %s from generate_series(0, 599, 3) n""",
            [START - timedelta(days=1)] * 2,
        )
        done = refresh(conn, START + timedelta(hours=1))
        assert not done["detail"].startswith("everybody")
        assert 200 <= done["recomputed"] < len(state(conn))
        assert_exact(conn)
