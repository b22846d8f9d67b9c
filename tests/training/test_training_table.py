"""The table of a training set: refusals, rights, replacement, what a killed call leaves, what is told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.api.helpers import Connection, refused
from tests.fix_database import Database
from ubp_sql.api.training_table import BATCHES
from ubp_sql.install import commands

CUT = "'2024-01-10 00:00+00'::timestamptz"
MAKE = f"select ubp.training_set('same', array[{CUT}])"
OTHERS = """
select md5(string_agg(c.oid::text || c.relname || c.relowner || coalesce(c.relacl::text, ''), ',' order by c.oid))
  from pg_class c where c.relnamespace in ('ubp'::regnamespace, 'public'::regnamespace)"""


def one(conn: Connection, query: str, *arguments: object) -> Any:
    row = conn.execute(query.encode(), arguments or None).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def undone(conn: Connection) -> Iterator[None]:
    with conn.transaction(force_rollback=True):
        yield


@pytest.mark.parametrize(
    ("sqlstate", "arguments"),
    [
        ("UB001", "'nope'"),
        ("UB001", "null"),
        ("UB003", "'same', '{}'"),
        ("UB003", f"'same', array[{CUT}, null]"),
        ("UB003", f"'same', array[array[{CUT}]]"),
        ("UB003", f"'same', array[{CUT}, {CUT}]"),
        ("UB003", f"'same', array[{CUT}, '2024-01-10 05:30+05:30']"),
        ("UB003", "'same', array['infinity'::timestamptz]"),
        ("UB003", "'same', array['-infinity'::timestamptz]"),
        ("UB003", "'same', array['294276-12-31'::timestamptz]"),
        ("UB003", "'same', horizon => '0'"),
        ("UB003", "'same', horizon => '-1 day'"),
        ("UB003", "'same', horizon => '1 month'"),
        ("UB003", "'same', horizon => '1 year 1 day'"),
        ("UB003", "'same', horizon => '40000 days'"),
        ("UB003", "'same', known_at => 'then'"),
        ("UB003", "'same', known_at => 'NOW'"),
        ("UB003", "'same', known_at => null"),
        ("UB003", "'same', negatives => 0"),
        ("UB003", "'same', negatives => -0.1"),
        ("UB003", "'same', negatives => 1.1"),
        ("UB003", "'same', negatives => 'NaN'"),
        ("UB003", "'same', negatives => 'infinity'"),
        ("UB005", "'same', array['2001-01-01'::timestamptz]"),
        ("UB005", "'same', array['2001-01-01'::timestamptz], known_at => 'now'"),
    ],
)
def test_bad_arguments(odd: Connection, sqlstate: str, arguments: str) -> None:
    before = one(odd, OTHERS)
    error = refused(odd, sqlstate, f"select ubp.training_set({arguments})")
    assert error.diag.message_hint
    assert one(odd, OTHERS) == before
    if sqlstate != "UB005":
        refused(odd, sqlstate, f"select count(*) from ubp.training_matrix({arguments})")


NAMES = [
    "",
    " ",
    ".",
    "a.b.c",
    "a b",
    "x; drop table ubp.events --",
    "training_x; drop table ubp.events",
    "training_x(a int)",
    '"unfinished',
    "1training",
    "training_x -- ",
    "mine",  # not training_...: a table of ours might want the name one day
    "events",
    "ubp.events",
    "ubp.feature_rows",
    "ubp.training",
    "pg_catalog.training_x",
    "pg_temp.training_x",
    "information_schema.training_x",
    "no_such_schema.training_x",
    "training_" + "x" * 50,
    '"training_' + "ü" * 25 + '"',
    "training_taken_table",
    "training_taken_view",
    "training_taken_type",
    "training_taken_index",
    "training_taken_sequence",
    "training_taken_partitioned",
    "training_other_owner",
    "training_unmarked",
]


@pytest.mark.parametrize("name", NAMES)
def test_bad_names(odd: Connection, name: str) -> None:
    with undone(odd):
        odd.execute(
            """create table ubp.training_taken_table (a int);
               comment on table ubp.training_taken_table is 'Training set of ubp_sql: by its own words';
               create view ubp.training_taken_view as select 1 as a;
               create type ubp.training_taken_type as (a int);
               create index training_taken_index on ubp.training_taken_table (a);
               create sequence ubp.training_taken_sequence;
               create table ubp.training_taken_partitioned (a int) partition by list (a);
               alter table ubp.training_taken_partitioned owner to ubp_owner;
               comment on table ubp.training_taken_partitioned is 'Training set of ubp_sql: by its own words';
               create role somebody; create table ubp.training_other_owner (a int);
               comment on table ubp.training_other_owner is 'Training set of ubp_sql: by its own words';
               alter table ubp.training_other_owner owner to somebody;
               create table ubp.training_unmarked (a int); alter table ubp.training_unmarked owner to ubp_owner"""
        )
        before = one(odd, OTHERS)
        with odd.transaction(force_rollback=True):
            error = refused(odd, "UB003", f"select ubp.training_set('same', array[{CUT}], into_table => %s)", name)
            assert error.diag.message_hint
        assert one(odd, OTHERS) == before


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (None, "ubp.training_same"),
        ("training_mine", "ubp.training_mine"),
        ("UBP.Training_Mine", "ubp.training_mine"),
        ('"training_ Mine; --"', 'ubp."training_ Mine; --"'),
        ("training_" + "x" * 49, "ubp.training_" + "x" * 49),
        ("lab.rows", "lab.rows"),
        ('lab."Training ü"', 'lab."Training ü"'),
    ],
)
def test_good_names(odd: Connection, name: str | None, table: str) -> None:
    with undone(odd):
        odd.execute("create schema lab; grant usage, create on schema lab to ubp_owner")
        for _ in range(2):  # the second replaces the first
            count = one(odd, f"select ubp.training_set('same', array[{CUT}], into_table => %s)", name)
            assert count == one(odd, f"select count(*) from {table}") > 5
        assert one(odd, "select relowner::regrole::text from pg_class where oid = %s::regclass", table) == "ubp_owner"
        left = odd.execute("select relname from pg_class where relname like '%in_the_making%'").fetchall()
        assert left == []
        keys = one(odd, "select pg_get_constraintdef(oid) from pg_constraint where conrelid = %s::regclass", table)
        assert keys == "PRIMARY KEY (user_id, cut)"
        assert one(odd, "select obj_description(%s::regclass)", table).startswith("Training set of ubp_sql: task same")


def test_shape(odd: Connection) -> None:
    with undone(odd):
        odd.execute(MAKE.encode())
        columns = odd.execute(
            """select attname, format_type(atttypid, null), attnotnull, col_description(attrelid, attnum) is not null
                 from pg_attribute where attrelid = 'ubp.training_same'::regclass and attnum > 0 order by attnum"""
        ).fetchall()
        bigger = one(odd, "select count(*) from pg_class where relname = 'training_same' and reltuples > 0")
    assert columns == [
        ("user_id", "bigint", True, True),
        ("cut", "timestamp with time zone", True, True),
        ("label", "smallint", True, True),
        ("matured", "boolean", True, True),
        ("weight", "real", True, True),
        ("features", "real[]", True, True),
    ]
    assert bigger == 1, "analysed"


def test_readers_keep_their_right(odd: Connection) -> None:
    with undone(odd):
        odd.execute('create role "odd Reader"')
        odd.execute(MAKE.encode())
        odd.execute(
            'grant select on ubp.training_same to "odd Reader"; grant insert on ubp.training_same to ubp_loader'
        )
        odd.execute(MAKE.encode())
        grants = one(odd, "select relacl::text[] from pg_class where oid = 'ubp.training_same'::regclass")
    assert sorted(grants) == [
        '"odd Reader"=r/ubp_owner',
        "ubp_auditor=r/ubp_owner",
        "ubp_owner=arwdDxt/ubp_owner",
    ]


def test_what_depends_on_it_is_named_and_kept(odd: Connection) -> None:
    with undone(odd):
        odd.execute(MAKE.encode())
        odd.execute("create view public.of_it as select user_id from ubp.training_same")
        with odd.transaction(force_rollback=True):
            error = refused(odd, "UB003", MAKE)
        assert error.diag.message_primary == "ubp: view public.of_it depends on ubp.training_same"
        assert one(odd, "select count(*) from public.of_it") > 5


def test_a_run_is_logged(odd: Connection) -> None:
    with undone(odd):
        count = one(odd, MAKE)
        job = odd.execute("select job, state, rows, detail from ubp.job_runs order by job_id desc limit 1").fetchone()
        positives = one(odd, "select sum(label) from ubp.training_same")
    assert job == ("training_set", "done", count, {"table": "ubp.training_same", "positives": positives})


def test_progress_is_told_at_level_info(odd: Connection) -> None:
    seconds = "do $$ import ubp_sql.api.training_table as t; t.INFO_SECONDS = {} $$ language plpython3u"
    heard: list[tuple[str | None, str | None]] = []

    def hear(said: psycopg.errors.Diagnostic) -> None:
        heard.append((said.severity, said.message_primary))

    odd.add_notice_handler(hear)
    try:
        with undone(odd):
            odd.execute(MAKE.encode())
            assert heard == [], "nothing to say in the first seconds"
            odd.execute(seconds.format("0.0").encode())
            odd.execute(MAKE.encode())
    finally:
        odd.execute(seconds.format("5.0").encode())
        odd.remove_notice_handler(hear)
    assert [severity for severity, _ in heard] == ["INFO"]
    assert "training rows after" in str(heard[0][1])


@contextmanager
def role(conn: Connection, *groups: str) -> Iterator[str]:
    """A login role inside a transaction that is rolled back."""
    with undone(conn):
        conn.execute("create role visitor login")
        for group in groups:
            conn.execute(sql.SQL("grant {} to visitor").format(sql.Identifier(group)))
        yield "visitor"


@pytest.mark.parametrize("group", ["ubp_loader", "ubp_analyst", "ubp_auditor"])
def test_others_than_admins_may_not(odd: Connection, group: str) -> None:
    with role(odd, group) as name:
        odd.execute(sql.SQL("set local role {}").format(sql.Identifier(name)))
        for function in ("training_set", "training_matrix"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=function), odd.transaction():
                odd.execute(f"select ubp.{function}('same')".encode())


def test_an_admin_writes_where_an_admin_may(odd: Connection) -> None:
    with role(odd, "ubp_admin") as name:
        odd.execute("create schema others; create schema mine; grant usage, create on schema mine to visitor")
        odd.execute("create schema open_to_us; grant usage, create on schema open_to_us to ubp_owner")
        odd.execute("create table mine.rows (a int); alter table mine.rows owner to visitor")
        odd.execute(sql.SQL("set local role {}").format(sql.Identifier(name)))
        assert one(odd, MAKE) == one(odd, "select count(*) from ubp.training_same") > 5
        with pytest.raises(psycopg.errors.InsufficientPrivilege), odd.transaction():
            odd.execute("drop table ubp.training_same")

        def tried(into: str) -> str:
            with odd.transaction(force_rollback=True):
                query = f"select ubp.training_set('same', array[{CUT}], into_table => %s)"
                return str(refused(odd, "UB003", query, into).diag.message_primary)

        assert "role visitor may not create" in tried("others.rows")
        assert "role visitor may not create" in tried("open_to_us.rows"), "our right is not the visitor's"
        assert "role ubp_owner" in tried("mine.other_rows")
        odd.execute("reset role")
        odd.execute("grant usage, create on schema mine to ubp_owner")
        odd.execute(sql.SQL("set local role {}").format(sql.Identifier(name)))
        assert "is no training set" in tried("mine.rows"), "not even the caller's own table"
        count = one(odd, f"select ubp.training_set('same', array[{CUT}], into_table => 'mine.other_rows')")
        assert one(odd, "select count(*) from mine.other_rows") == count


def test_an_admin_who_may_not_read_events_makes_the_same_set(odd: Connection) -> None:
    with undone(odd):
        whole = one(odd, MAKE)
    with role(odd, "ubp_admin"):
        odd.execute("revoke all on ubp.events from ubp_admin, ubp_auditor, ubp_loader")
        odd.execute("set local role visitor")
        assert one(odd, MAKE) == whole


BUSY = """
insert into ubp.events (user_id, event_time, kind, value, ingested_at)
select 1 + n % 3000, t, (array['purchase', 'view'])[1 + n % 2], n % 77, t
  from (select n, timestamptz '2025-01-01 00:00+00' + (n * 7919 % 17280000) * interval '1 second' as t
          from generate_series(1, 60000) n) x"""
EVERYTHING = "select ubp.training_set('purchase')"


@pytest.fixture
def busy(db: Database) -> Database:
    """Enough events that a set takes a while."""
    with db.connect() as conn:
        conn.execute(BUSY.encode())
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'])")
        conn.execute("select ubp.define_task('purchase', 'purchase')")
    return db


def again_and_again(conn: Connection) -> None:
    for _ in range(1000):
        conn.execute(EVERYTHING.encode())


def test_killed_half_way_it_leaves_what_was_there(busy: Database) -> None:
    state = "select count(*), max(xmin::text) from ubp.training_purchase"
    with busy.connect() as conn:
        conn.execute(EVERYTHING.encode())
        before = conn.execute(state).fetchone()
        for statement in ("pg_cancel_backend", "pg_terminate_backend"):
            with busy.connect() as victim:
                victim.execute("select count(*) from ubp.features(1, now())")  # an import cannot be interrupted
                killed: list[float] = []

                def kill(pid: int, statement: str = statement, killed: list[float] = killed) -> None:
                    time.sleep(0.25)
                    killed.append(time.monotonic())
                    busy.one(f"select {statement}(%s)", pid)

                thread = threading.Thread(target=kill, args=[victim.info.backend_pid])
                thread.start()
                with pytest.raises((psycopg.errors.QueryCanceled, psycopg.OperationalError)):
                    again_and_again(victim)
                took = time.monotonic() - killed[0]
                thread.join()
                assert took < 1.5
        after = conn.execute(state).fetchone()
        assert after is not None
        assert before is not None
        assert after[0] == before[0]
        assert one(conn, "select count(*) from pg_class where relname like '%in_the_making%'") == 0
        table = one(conn, "select 'ubp.training_purchase'::regclass::oid")
        conn.execute("set statement_timeout = 10")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(EVERYTHING.encode())
        conn.execute("set statement_timeout = 0")
        assert one(conn, "select 'ubp.training_purchase'::regclass::oid") == table


def test_a_second_call_for_the_same_table_waits(busy: Database) -> None:
    query = "select ubp.training_set('purchase', array['2025-04-01'::timestamptz], into_table => 'training_one')"
    with busy.connect() as conn, busy.connect() as other:
        with conn.transaction():
            conn.execute(query.encode())
            assert one(other, "select to_regclass('ubp.training_one')") is None
            assert one(other, query.replace("training_one", "training_two")) > 0
            other.execute("set statement_timeout = 300")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute(query.encode())
        other.execute("set statement_timeout = 0")
        assert one(other, query) == one(conn, "select count(*) from ubp.training_one")


def test_uninstall_takes_it_along(busy: Database) -> None:
    with busy.connect() as conn:
        conn.execute("select ubp.training_set('purchase', array['2025-03-01'::timestamptz])")
        todo, _ = commands.uninstall(conn, run=False)
        assert any("ubp.training_purchase" in step.sql for step in todo)
        commands.uninstall(conn, run=True)
        assert one(conn, "select to_regnamespace('ubp')") is None


def test_an_upgrade_leaves_one_training_matrix(db: Database) -> None:
    """Two of them, and a call with two arguments would be ambiguous."""
    with db.connect() as conn:
        commands.downgrade(conn, "0004", run=True)
        conn.execute(
            """create function ubp.training_matrix(task text, cuts timestamptz[]) returns void language sql as 'select';
               alter function ubp.training_matrix(text, timestamptz[]) owner to ubp_owner"""
        )
        commands.apply(conn)
        assert one(conn, "select count(*) from pg_proc where proname = 'training_matrix'") == 1
        refused(conn, "UB001", f"select * from ubp.training_matrix('nope', array[{CUT}])")


def test_a_mirror_rebuilt_meanwhile_changes_nothing(busy: Database) -> None:
    """The batches of one snapshot come from chunks of the mirror that others have deleted since."""
    query = BATCHES.replace("$1, $2, $3, $4, $5", "'purchase'")
    small = "do $$ import ubp_sql.api.training as t, ubp_sql.api.events as e; t.BATCH_BYTES = e.BATCH_EVENTS = 9999 $$"
    with busy.connect() as conn, busy.connect() as other:
        other.execute("select ubp.build_mirror()")
        conn.execute(f"{small} language plpython3u".encode())
        whole = conn.execute(query.encode(), binary=True).fetchall()
        with conn.transaction():
            conn.execute(f"declare batches no scroll cursor for {query}".encode())
            first = conn.execute("fetch 2 from batches", binary=True).fetchall()
            other.execute(
                "insert into ubp.events (user_id, event_time, kind) select n, now(), 'view' from "
                "generate_series(1, 6000) n"
            )
            other.execute("select ubp.rebuild_mirror()")
            rest = conn.execute("fetch all from batches", binary=True).fetchall()
        assert len(rest) > 10
        assert first + rest == whole
        assert conn.execute(query.encode(), binary=True).fetchall() != whole
