"""What the triggers write into ubp.event_log, for whom, and what a fold makes of it."""

from random import Random

import psycopg
import pytest

from tests.mirror.helpers import Log, events
from ubp_sql.install import commands

LOGGED = "select op, max_id - min_id + 1, min_time, max_time, users from ubp.event_log order by log_id"
SOME = """
insert into ubp.events (user_id, event_time, kind) select g, '2024-01-05', 'view' from generate_series(1, %s) g"""


def test_one_row_a_statement(log: Log) -> None:
    log.run("select ubp.ensure_event_partitions('2024-01-01', '2024-02-28')")
    log.run(SOME, 50)
    log.run(SOME, 0)
    log.run("update ubp.events set user_id = 3 where user_id in (1, 2)")
    log.run("delete from ubp.events_2024_01 where user_id = 3")
    log.run("delete from ubp.events where user_id = -7")
    found = [(op, n, users) for op, n, _, _, users in log.rows(LOGGED)]
    assert found[0] == ("I", 50, None)
    assert [(op, sorted(users)) for op, _, users in found[1:]] == [("U", [1, 2, 3]), ("U", [3])]


def test_rows_one_by_one_in_a_transaction(log: Log) -> None:
    one = "insert into ubp.events (user_id, event_time, kind) values (%s, now(), 'view')"
    with log.conn.transaction():
        for user in range(5):
            log.run(one, user)
        assert [row[:2] for row in log.rows(LOGGED)] == [("I", 1), ("I", 1001)]
        log.fold()
        log.run(one, 7)
        log.run(one, 8)
        assert [row[:2] for row in log.rows(LOGGED)] == [("I", 1), ("I", 1001)], "what covered them was consumed"
    log.equal()
    log.fold()
    log.equal()
    log.check()


def test_ids_far_apart_are_logged_by_users(log: Log) -> None:
    log.run(
        "insert into ubp.events (event_id, user_id, event_time, kind)"
        " values (10, 5, '2024-01-05', 'view'), (1018, 5, '2024-01-05', 'view'), (500, 6, '2024-01-05', 'view')"
    )
    log.run(
        "insert into ubp.events (event_id, user_id, event_time, kind) values (1, 5, now(), 'x'), (1010, 5, now(), 'x')"
    )
    [first, second] = log.rows(LOGGED)
    assert (first[0], first[1], first[4]) == ("I", 1009, None)
    assert (second[0], second[1], second[4]) == ("I", 1010, [5])


@pytest.mark.slow
def test_an_update_of_very_many_users_is_everybody(log: Log) -> None:
    log.run("alter table ubp.events disable trigger log_insert")
    log.run(SOME, 1_000_001)
    log.run("update ubp.events set value = 1")
    assert [row[0] for row in log.rows(LOGGED)] == ["T"]


def test_moving_rows_into_a_new_partition_is_no_change(log: Log) -> None:
    log.insert(events(Random(4), 50))
    log.fold()
    log.run("select ubp.ensure_event_partitions('2023-12-01', '2024-04-30')")
    assert log.rows(LOGGED) == []
    log.equal()
    log.run("delete from ubp.events_default")
    log.run("delete from ubp.events_2024_01")
    assert {row[0] for row in log.rows(LOGGED)} == {"U"}
    log.equal()


def test_a_loader_writes_events_and_not_the_log(log: Log) -> None:
    log.run("set role ubp_loader")
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-05', 'view')")
    for query in ("insert into ubp.event_log (op) values ('T')", "delete from ubp.event_log"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            log.run(query)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.run("select ubp.build_mirror()")
    log.run("reset role")
    assert len(log.rows(LOGGED)) == 1


RIGHTS = [
    ("ubp_admin", "select * from ubp.build_mirror()", True),
    ("ubp_admin", "select * from ubp.rebuild_mirror()", True),
    ("ubp_admin", "select * from ubp.compact_mirror()", True),
    ("ubp_admin", "select ubp.drop_mirror()", True),
    ("ubp_admin", "select ubp.define_event_column('a', 'b', 'text')", True),
    ("ubp_admin", "select * from ubp.verify_mirror()", True),
    ("ubp_auditor", "select * from ubp.verify_mirror()", True),
    ("ubp_auditor", "select * from ubp.mirror_chunks, ubp.mirror_runs, ubp.mirror_kinds, ubp.dirty_users", True),
    ("ubp_auditor", "select ubp.drop_mirror()", False),
    ("ubp_analyst", "select * from ubp.mirror_status", True),
    ("ubp_analyst", "select * from ubp.mirror_chunks", False),
    ("ubp_analyst", "select * from ubp.verify_mirror()", False),
    ("ubp_loader", "select * from ubp.mirror_status", True),
    ("ubp_loader", "select ubp.rebuild_mirror()", False),
    ("ubp_reader", "select * from ubp.mirror_chunks, ubp.mirror_state, ubp.event_log, ubp.event_columns", True),
    ("ubp_reader", "delete from ubp.event_log", False),
]


@pytest.mark.parametrize(("role", "query", "may"), RIGHTS)
def test_rights(log: Log, role: str, query: str, may: bool) -> None:
    log.run(f"set role {role}")
    if may:
        log.run(query)
        return
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        log.run(query)


def test_dirty_users_and_stale_sets(log: Log) -> None:
    for name in "ab":
        log.run("insert into ubp.feature_sets (name, hash, definition, stale) values (%s, 'h', '{}', false)", name)
    log.fold()
    assert not log.one("select bool_or(stale) from ubp.feature_sets"), "there was nothing that could have changed"
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-05', 'view'), (2, now(), 'view')")
    log.run("update ubp.events set user_id = 3 where user_id = 2")
    log.fold()
    dirty = "select user_id, count(*) from ubp.dirty_users group by 1 order by 1"
    assert log.rows(dirty) == [(1, 2), (2, 2), (3, 2)], "one row a set; who has no events left is told of too"
    log.fold()
    assert log.rows(dirty) == [(1, 2), (2, 2), (3, 2)]
    assert not log.one("select bool_or(stale) from ubp.feature_sets")
    log.run("truncate ubp.events")
    log.fold()
    assert log.one("select bool_and(stale) from ubp.feature_sets")


def test_without_a_mirror_users_are_dirty_all_the_same(log: Log) -> None:
    log.run("select ubp.drop_mirror()")
    log.run("insert into ubp.feature_sets (name, hash, definition, stale) values ('a', 'h', '{}', false)")
    log.insert(events(Random(1), 30))
    call = "do $$ import ubp_sql.api.mirror as m; m.fold(plpy, {}) $$ language plpython3u"
    log.run(call)
    users = "select array_agg(distinct user_id order by user_id) from "
    assert log.one(users + "ubp.dirty_users") == log.one(users + "ubp.events")
    assert log.rows("select enabled, built, runs, log_rows from ubp.mirror_status") == [(False, False, 0, 0)]
    assert log.one("select count(*) from ubp.mirror_chunks") == 0
    log.run("delete from ubp.events where user_id = 3")
    log.run("delete from ubp.dirty_users")
    log.run(call)
    assert log.rows("select user_id from ubp.dirty_users") == [(3,)]
    assert log.read("rows").keys()


def test_dropped_and_built_again(log: Log) -> None:
    log.insert(events(Random(1), 60))
    log.fold()
    log.check()
    log.run("select ubp.drop_mirror()")
    assert log.one("select count(*) from ubp.mirror_runs") == 0
    before = log.read("usual")
    log.insert(events(Random(2), 60))
    log.run("select ubp.build_mirror()")
    log.check()
    log.equal()
    assert len(log.read("usual")["t_us"]) > len(before["t_us"])


def test_the_log_is_shown(log: Log) -> None:
    status = "select enabled, built, events, runs, log_rows, log_since is not null, rebuild_due from ubp.mirror_status"
    assert log.rows(status) == [(True, False, 0, 0, 0, False, False)]
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-05', 'view')")
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-05', 'view')")
    assert log.rows(status) == [(True, False, 0, 0, 2, True, False)]
    log.fold()
    assert log.rows(status) == [(True, True, 2, 1, 0, False, False)]


def test_runs_stay_few(log: Log) -> None:
    """Fifty folds of one event leave a handful of runs; every event is written again a few times only."""
    log.small(4)
    for number in range(50):
        log.run("insert into ubp.events (user_id, event_time, kind) values (%s, now(), 'view')", number % 7)
        log.fold()
        assert log.one("select runs from ubp.mirror_status") <= 9
    log.check()
    log.equal()


def test_down_and_up_with_data(log: Log) -> None:
    log.insert(events(Random(1), 60))
    log.fold()
    log.run("update ubp.events set value = 1 where user_id = 1")
    log.run("select ubp.define_event_column('channel', 'channel', 'text')")
    commands.downgrade(log.conn, "0001", run=True)
    assert log.one("select to_regclass('ubp.mirror_chunks')") is None
    assert log.one("select count(*) from pg_trigger where tgname like 'log%'") == 0
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-05', 'view')")
    commands.init(log.conn)
    log.fold()
    log.check()
    log.equal()
