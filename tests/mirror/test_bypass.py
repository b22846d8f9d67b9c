"""What no trigger heard of: verify_mirror finds it, a fold notices partitions that came or went."""

from random import Random

import psycopg
import pytest

from tests.mirror.helpers import Log, events, sources

FIGURES = "select user_id, missing, extra, changed from ubp.verify_mirror() where problem = 'events differ'"
PROBLEMS = "select problem from ubp.verify_mirror() order by 1"


@pytest.fixture
def quiet(log: Log) -> Log:
    """Mirrored events, and a way to change them that no trigger hears."""
    sources(log)
    log.run("select ubp.ensure_event_partitions('2024-01-01', '2024-02-28')")
    log.insert(events(Random(2), 200))
    log.run("insert into ubp.events (user_id, event_time, kind, value) values (500, '2024-01-05', 'view', 1)")
    log.fold()
    return log


def unheard(log: Log, query: str) -> None:
    log.run("set session_replication_role = replica")
    log.run(query)
    log.run("reset session_replication_role")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("insert into ubp.events (user_id, event_time, kind) values (77, '2024-01-05', 'view')", (77, 1, 0, 0)),
        ("insert into ubp.events (user_id, event_time, kind) values (77, '2024-01-05', 'new kind')", (77, 1, 0, 0)),
        ("delete from ubp.events where user_id = 500", (500, 0, 1, 0)),
        ("update ubp.events set value = 2 where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set value = null where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set kind = 'cancel' where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set item_id = 3 where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set quantity = 'NaN', duration_s = 0 where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set ingested_at = 'infinity' where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set source = 11 where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set attributes = '{\"order_id\": 1}' where user_id = 500", (500, 0, 0, 1)),
        ("update ubp.events set event_time = event_time - interval '1 us' where user_id = 500", (500, 1, 1, 0)),
    ],
)
def test_a_change_that_was_not_logged(quiet: Log, query: str, found: tuple[int, ...]) -> None:
    quiet.equal()
    unheard(quiet, query)
    assert quiet.rows(FIGURES) == [found]
    quiet.fold()
    assert quiet.rows(FIGURES) == [found], "a fold does not know either"
    assert "1 users differ: ubp.rebuild_mirror() mends it" in quiet.one(PROBLEMS + " desc")
    quiet.run("select ubp.rebuild_mirror()")
    quiet.equal()
    quiet.check()


def test_many_changes_that_were_not_logged(quiet: Log) -> None:
    unheard(quiet, "update ubp.events set user_id = user_id + 1000")
    n, users = quiet.rows("select count(*), count(distinct user_id) from ubp.events")[0]
    assert len(quiet.rows("select * from ubp.verify_mirror(3)")) == 4
    total = quiet.rows("select missing, extra, changed from ubp.verify_mirror(1) where user_id is null")
    assert total == [(n, n, 0)]
    assert len(quiet.rows(FIGURES)) == min(100, 2 * users)


def test_a_change_that_no_feature_sees_is_none(quiet: Log) -> None:
    unheard(quiet, "update ubp.events set tenant = 5, attributes = attributes || '{\"x\": 1}'")
    quiet.equal()


def test_what_waits_in_the_log_is_no_difference(quiet: Log) -> None:
    quiet.run("delete from ubp.events where user_id in (3, 500)")
    quiet.insert(events(Random(3), 40))
    quiet.equal()
    unheard(quiet, "insert into ubp.events (user_id, event_time, kind) values (600, '2024-01-05', 'view')")
    found = quiet.rows(FIGURES)
    assert found in ([], [(600, 1, 0, 0)]), "its id may lie in a range that was logged"


@pytest.mark.parametrize("statement", ["detach partition", "drop"])
def test_a_partition_that_goes(quiet: Log, statement: str) -> None:
    gone = quiet.one("select count(*) from ubp.events_2024_01")
    if statement == "drop":
        quiet.run("drop table ubp.events_2024_01")
    else:
        quiet.run("alter table ubp.events detach partition ubp.events_2024_01")
    assert quiet.one("select sum(extra) from ubp.verify_mirror() where user_id is not null") == gone
    quiet.fold()
    quiet.equal()
    quiet.check()
    if statement == "drop":
        return
    # Nobody hears what is done to it now; attached again, it is read anew.
    quiet.run("update ubp.events_2024_01 set value = 12 where user_id < 5")
    assert quiet.one("select count(*) from ubp.event_log") == 0
    quiet.run(
        "alter table ubp.events attach partition ubp.events_2024_01 for values from ('2024-01-01') to ('2024-02-01')"
    )
    quiet.fold()
    quiet.equal()
    quiet.check()


def test_a_partition_that_comes(quiet: Log) -> None:
    insert = (
        "insert into public.mine (event_id, user_id, event_time, kind) values ({}, 9, '2024-06-01 00:00+00', 'view')"
    )
    quiet.run("create table public.mine (like ubp.events including defaults including constraints)")
    quiet.run(insert.format(700_000))
    quiet.run(
        "alter table ubp.events attach partition public.mine"
        " for values from ('2024-06-01 00:00+00') to ('2024-07-01 00:00+00')"
    )
    for query in ("select ubp.build_mirror()", "select * from ubp.verify_mirror()"):
        with pytest.raises(
            psycopg.Error, match=r"partition (public\.)?mine of ubp\.events is not ubp_owner's"
        ) as error:
            quiet.run(query)
        assert error.value.sqlstate == "UB005"
    quiet.run("alter table public.mine owner to ubp_owner")
    assert (9, 1, 0, 0) in [(*row[:1], 1, 0, 0) for row in quiet.rows(FIGURES)]
    quiet.fold()
    quiet.equal()
    quiet.check()
    quiet.run(insert.format(700_001))
    both = quiet.one("select count(*) from ubp.event_log")
    assert both == 1
    quiet.equal()


def test_a_trigger_that_is_switched_off(quiet: Log) -> None:
    quiet.run("alter table ubp.events_2024_01 disable trigger log_update")
    [(problem,)] = quiet.rows(PROBLEMS)
    assert problem == "statements on ubp.events_2024_01 are not logged: a trigger is missing or switched off"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("t = substr(t, 9)", "wrong length"),
        ("forms = substr(forms, 17)", "wrong length"),
        ("forms = set_byte(forms, 0, 5)", "wrong length"),
        ("forms = set_byte(forms, 16 * 2 + 8, 255 - get_byte(forms, 16 * 2 + 8))", "users differ"),
        ("value = value || '\\x00'", "wrong length"),
        ("user_ids = user_ids || user_ids", "wrong length"),
        ("event_id = decode(repeat('00', get_byte(forms, 16 * 2) * n), 'hex')", "users differ"),
        ("kind = null, kind_all = 1", "users differ"),
    ],
)
def test_a_damaged_chunk(quiet: Log, change: str, words: str) -> None:
    chunk = quiet.one(
        "select min(chunk_id) from ubp.mirror_chunks where value is not null and kind is not null and n > 3"
    )
    quiet.run(f"update ubp.mirror_chunks set {change} where chunk_id = {chunk}")
    assert any(words in problem for (problem,) in quiet.rows(PROBLEMS))
    quiet.run("select ubp.rebuild_mirror()")
    quiet.equal()


def test_without_a_mirror(log: Log) -> None:
    assert log.rows(PROBLEMS) == [("there is no mirror: ubp.build_mirror() makes it",)]
    log.fold()
    log.equal()
    log.run("truncate ubp.events")
    [(problem,)] = log.rows(PROBLEMS)
    assert problem.startswith("not compared: ")


ZONE = "update ubp.sources set time_zone = 'America/New_York' where source_id = 10"


@pytest.mark.parametrize(
    "query",
    [
        ZONE,
        "delete from ubp.sources where source_id = 11",
        "insert into ubp.sources (source_id, name, time_zone) values (99, 'late', 'Asia/Tokyo')",
        "update ubp.sources set source_id = 12 where source_id = 10",
    ],
)
def test_a_source_whose_clock_changes(quiet: Log, query: str) -> None:
    quiet.run("insert into ubp.feature_sets (name, hash, definition, stale) values ('s', 'h', '{}', false)")
    quiet.run(query)
    assert quiet.one("select rebuild_due from ubp.mirror_status")
    assert quiet.one("select count(distinct x) from unnest(%s::int[]) x", quiet.read("usual")["offset_s"].tolist()) > 1
    quiet.fold()
    assert quiet.one("select stale from ubp.feature_sets"), "hours and weekdays of anybody may have changed"
    quiet.check()
    quiet.equal()


def test_a_source_whose_clock_stays(quiet: Log) -> None:
    quiet.run("update ubp.sources set map = '{}', time_zone = time_zone")
    quiet.run("insert into ubp.sources (name) values ('utc')")
    assert quiet.one("select count(*) from ubp.event_log") == 0


def test_rows_that_row_security_hides(quiet: Log) -> None:
    """The mirror knows no policies: whoever is under one reads rows."""
    quiet.run("alter table ubp.events enable row level security")
    quiet.run("create policy few on ubp.events to ubp_reader using (user_id < 3)")
    quiet.run("grant usage on schema public to ubp_reader")
    quiet.run("set role ubp_reader")
    assert max(quiet.read("usual")["user_id"]) == 2
    quiet.run("reset role")
    assert max(quiet.read("mirror")["user_id"]) == 500


@pytest.mark.parametrize(
    "change",
    [
        "firsts = substr(firsts, 1, 4) || '\\xffffff7f' || substr(firsts, 9)",
        "firsts = substr(firsts, 1, 4) || '\\x00ffffff' || substr(firsts, 9)",
        "user_ids = substr(user_ids, 9, 8) || substr(user_ids, 1, 8) || substr(user_ids, 17)",
    ],
)
def test_a_damaged_directory(quiet: Log, change: str) -> None:
    """Memory is taken by what it says: 20 GB and no end, once."""
    quiet.run(
        "insert into ubp.events (user_id, event_time, kind)"
        " select 100 + g, '2024-05-01', 'view' from generate_series(1, 5) g"
    )
    quiet.fold()
    chunk = quiet.one("select min(chunk_id) from ubp.mirror_chunks where users > 2")
    quiet.run(f"update ubp.mirror_chunks set {change} where chunk_id = {chunk}")
    quiet.run("set statement_timeout = '20s'")
    for query in ("select * from ubp.verify_mirror()", "select ubp.compact_mirror()"):
        with pytest.raises(psycopg.Error) as refused:
            quiet.run(query)
        assert refused.value.sqlstate == "UB005"
        assert "rebuild_mirror" in str(refused.value.diag.message_hint)
    quiet.run("select ubp.rebuild_mirror()")
    quiet.equal()
