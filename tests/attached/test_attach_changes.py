"""What becomes of an attached source: its table altered, dropped, renamed, restored; rows that cannot be used."""

import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.attached.conftest import ORDERS, VISITS, Shop
from tests.fix_database import Database, create, drop
from ubp_sql.embedded.binaries import find_binaries
from ubp_sql.install import commands

HERE = "select count(*) from ubp.all_events where origin > 0"
INSERT = "insert into shop.orders (customer, at) values (5, now())"
ANEW = "select * from ubp.detach_source('shop.orders'), then "
AS_OWNER = "as a superuser, or as shop_owner in ubp_admin: select * from ubp.watch_sources()"
CHANGES = [
    ("alter table shop.orders rename customer to who", "column customer of shop.orders is gone", ANEW),
    ("alter table shop.orders drop column amount", "column amount of shop.orders is gone", ANEW),
    ("alter table shop.orders alter sku type varchar(9)",
     "column sku of shop.orders is character varying(9) now, not text", ANEW),
    ("alter table shop.orders enable row level security", "shop.orders has row security", "attach a view of it"),
    ("revoke select on shop.orders from ubp_reader", "ubp_reader may not read shop.orders",
     "grant select on table shop.orders to ubp_reader"),
    ("revoke usage on schema shop from ubp_owner", "ubp_owner may not use schema shop",
     "grant usage on schema shop to ubp_owner"),
    ("alter table shop.orders disable trigger ubp_update", "does not hear of update", AS_OWNER),
    ("alter table shop.orders disable trigger user", "does not hear of delete, insert, truncate, update", AS_OWNER),
    ("drop trigger ubp_insert on shop.orders", "does not hear of insert", AS_OWNER),
    ("drop table shop.orders", "shop.orders is gone", ANEW),
    ("drop table shop.orders; create table shop.orders (customer int, at timestamptz)",
     "shop.orders was dropped and made again", ANEW),
    ("alter table shop.orders rename to sales", "shop.orders is called shop.sales now", "goes on under the new name"),
    ("alter table shop.orders rename to sales; create table shop.orders (id int)",
     "shop.orders is called shop.sales now, and another relation has its name", ANEW),
]  # fmt: skip


def test_each_change_is_named(shop: Shop) -> None:
    shop.attach()
    shop.fold()
    for change, problem, way_out in CHANGES:
        shop.run("begin")
        shop.run(change)
        with shop.owner.cursor() as cursor:
            found = cursor.execute("select * from ubp.source_problems()").fetchall()
        shop.run("rollback")
        assert [row[0] for row in found] == ["shop.orders"] * len(found)
        assert any(problem in row[1] and way_out in row[2] for row in found), (change, found)
    assert shop.problems() == []


@pytest.mark.parametrize("change", [0, 9])
def test_a_fold_says_so_and_goes_on_when_it_is_mended(shop: Shop, change: int) -> None:
    shop.attach()
    shop.fold()
    shop.run(CHANGES[change][0])
    with pytest.raises(psycopg.Error, match=CHANGES[change][1]) as caught:
        shop.fold()
    assert caught.value.sqlstate == "UB015"
    assert CHANGES[change][2] in str(caught.value.diag.message_hint)
    shop.detach()
    shop.fold()
    shop.equal()
    if change != 9:
        shop.attach(ORDERS.replace("'customer'", "'who'") if change == 0 else ORDERS.replace("'amount'", "'customer'"))
        shop.fold()
        shop.equal()
        assert shop.one(HERE) == 40


def test_who_writes_never_fails_because_of_us(shop: Shop) -> None:
    """Whatever became of the columns: then everything counts as changed."""
    shop.attach()
    shop.run(INSERT)
    shop.run("alter table shop.orders rename customer to who; alter table shop.orders drop column at")
    shop.run("insert into shop.orders (who) values (5)")
    shop.run("update shop.orders set who = 6 where id = 1")
    shop.run("delete from shop.orders where id = 2")
    shop.run("truncate shop.orders")
    assert [row[0] for row in shop.log(1)] == ["I", "T", "T", "T", "T"]


def test_an_expression_that_fails_for_a_row(shop: Shop) -> None:
    shop.run("truncate shop.visits; alter table shop.visits add n integer")
    shop.attach("'shop.visits', '100 / n', 'at', '''x''', time_zone => 'UTC'")
    shop.run("insert into shop.visits (at, n) values ('2024-01-01', 5)")
    shop.run("insert into shop.visits (at, n) values ('2024-01-01', 0)")
    assert shop.log(1) == [("I", None, None, [20], None), ("T", None, None, None, None)]
    with pytest.raises(psycopg.errors.DivisionByZero):
        shop.fold()
    shop.run("delete from shop.visits where n = 0")
    shop.fold()
    shop.equal()


def test_triggers_that_were_off_are_put_on_again(shop: Shop) -> None:
    shop.attach()
    shop.fold()
    shop.run("alter table shop.orders disable trigger ubp_insert; drop trigger ubp_delete on shop.orders")
    shop.run(INSERT)
    with pytest.raises(psycopg.Error, match="does not hear of delete, insert"):
        shop.fold()
    made = shop.owner.execute("select step, object, detail from ubp.watch_sources()").fetchall()
    assert [row[2].split(" ubp_")[0] for row in made] == [
        "alter table shop.orders enable always trigger",
        "create trigger",
    ]
    assert shop.log(0) == [("T", None, None, None, None)], "nobody knows what was done meanwhile"
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 41


def test_followed_under_a_new_name(shop: Shop) -> None:
    shop.attach()
    shop.fold()
    shop.run("alter table shop.orders rename to sales")
    shop.run("insert into shop.sales (customer, at) values (5, now())")
    shop.run("select * from ubp.watch_sources()")
    assert shop.problems() == []
    assert shop.one("select name from ubp.sources where kind = 'attached'") == "shop.sales"
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 41
    shop.detach("sales")


def test_what_only_an_owner_may_do_is_said(shop: Shop) -> None:
    shop.attach()
    shop.run("alter table shop.orders disable trigger ubp_insert; grant usage on schema shop to stranger")
    with shop.db.connect(user="stranger") as conn:
        [(step, relation, detail)] = conn.execute("select * from ubp.watch_sources()").fetchall()
    assert (step, relation) == ("cannot see", "shop.orders")
    assert "as a superuser, or as shop_owner in ubp_admin" in detail


REASONS = [
    ("event", 40),
    ("no user", 2),
    ("event whose value is no finite number", 1),
    ("event_time is not finite", 1),
    ("event_time is outside 1900..2300", 1),
    ("filter is not true", 1),
    ("no event_time", 1),
    ("no kind", 1),
    ("user key is longer than 1000 bytes", 1),
]


def test_rows_without_use_are_counted(shop: Shop) -> None:
    shop.run("alter table shop.orders add who text, add what text default 'buy', add worth double precision default 1;"
             " update shop.orders set who = 'u' || customer")  # fmt: skip
    shop.attach("'shop.orders', 'who', 'at', 'what', value => 'worth', filter => 'state <> ''draft'''")
    shop.run("insert into shop.orders (who, at, what, worth, state) values (null, now(), 'x', 1, 'a'),"
             " ('', now(), 'x', 1, 'a'), (repeat('x', 1001), now(), 'x', 1, 'a'), ('a', null, 'x', 1, 'a'),"
             " ('a', 'infinity', 'x', 1, 'a'), ('a', '294276-12-31', 'x', 1, 'a'), ('a', now(), '', 1, 'a'),"
             " ('a', now(), 'x', 'NaN', 'a'), ('a', now(), 'x', 1, 'draft')")  # fmt: skip
    found = shop.rows("select reason, rows, example from ubp.source_report('shop.orders')")
    assert [row[:2] for row in found] == REASONS
    assert all(("{" in (row[2] or "")) == (row[0] != "event") for row in found)
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 41


def test_clock_times(shop: Shop) -> None:
    """One that clocks skipped counts as an hour later, one that they showed twice as the later of the two."""
    shop.run("truncate shop.visits")
    shop.attach(VISITS)
    shop.run("insert into shop.visits values (md5('a')::uuid, '2024-03-31 02:30', 'buy'),"
             " (md5('a')::uuid, '2024-10-27 02:30', 'buy'), (md5('a')::uuid, 'infinity', 'buy'),"
             " (md5('a')::uuid, '294276-12-31', 'buy'), (md5('a')::uuid, '4713-01-01 BC', 'buy')")  # fmt: skip
    shop.fold()
    shop.equal()
    times = "select array_agg(event_time at time zone 'UTC' order by event_time)::text from ubp.all_events"
    assert shop.one(times) == '{"2024-03-31 01:30:00","2024-10-27 01:30:00"}'
    report = dict(row[:2] for row in shop.rows("select * from ubp.source_report('visits')"))
    assert report == {"event": 1, "no event_time": 3, "event at a time that its zone's clocks skipped": 1}


@pytest.fixture
def copy(shop: Shop) -> Iterator[Database]:
    """The database, dumped and restored: its relations have other numbers."""
    shop.attach()
    shop.attach(VISITS)
    shop.fold()
    made = create(shop.db.cluster, "template0")
    binaries = find_binaries()
    dump = subprocess.run([binaries.program("pg_dump"), "-Fc", shop.db.dsn], capture_output=True, check=True).stdout
    argv = [binaries.program("pg_restore"), "--exit-on-error", "-d", made.dsn]
    subprocess.run(argv, input=dump, check=True, capture_output=True)
    yield made
    drop(made)


def test_dumped_and_restored(copy: Database) -> None:
    with copy.connect() as conn:
        conn.execute("insert into shop.orders (customer, at) values (5, now())")
        assert conn.execute("select * from ubp.source_problems()").fetchall() == []
        conn.execute("select * from ubp.build_mirror()")
        assert conn.execute("select * from ubp.verify_mirror()").fetchall() == []
        assert conn.execute(HERE.encode()).fetchone() == (71,)
        here = "select count(*) from ubp.attached_sources where relation = to_regclass('shop.' || relation_name)"
        assert conn.execute(here.encode()).fetchone() == (2,)
        conn.execute("alter table shop.orders rename to sales; select * from ubp.watch_sources()")
        conn.execute("select * from ubp.detach_source('shop.sales')")
        conn.execute("select * from ubp.detach_source('shop.visits')")
        assert conn.execute("select count(*) from pg_trigger where tgname like 'ubp\\_%'").fetchone() == (0,)


def test_installing_again_makes_the_functions_anew(shop: Shop) -> None:
    shop.attach()
    shop.attach(VISITS)
    body = "select string_agg(prosrc, '' order by proname) from pg_proc where proname ~ '^source_[0-9]'"
    before = shop.one(body)
    shop.admin("create or replace function ubp.source_1_insert() returns trigger language plpgsql as 'begin end'")
    commands.init(shop.root)
    assert shop.one(body) == before
    shop.run(INSERT)
    shop.fold()
    shop.equal()


@pytest.mark.parametrize("how", ["uninstall", "downgrade"])
def test_nothing_of_ours_is_left_on_a_table(shop: Shop, how: str) -> None:
    shop.attach()
    shop.attach(VISITS)
    if how == "uninstall":
        commands.uninstall(shop.root, run=True)
    else:
        commands.downgrade(shop.root, "0011", run=True)
    assert (
        shop.one("select count(*) from pg_trigger where not tgisinternal and tgrelid::regclass::text like 'shop.%%'")
        == 0
    )
    shop.run(INSERT)
    held: Any = "select count(*) from pg_class c, aclexplode(c.relacl) a where a.grantee::regrole::text like 'ubp\\_%%'"
    if how == "uninstall":
        assert shop.one(held + " and c.relnamespace = 'shop'::regnamespace") == 0
    else:
        commands.apply(shop.root)
        assert shop.problems() == []
        shop.attach()
        shop.fold()
        shop.equal()
