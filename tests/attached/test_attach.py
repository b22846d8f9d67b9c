"""ubp.attach_source and ubp.detach_source: what they do, for whom, what is heard, and that nothing stays behind."""

import json
import re
import subprocess
import threading
import time
from typing import Any

import psycopg
import pytest

from tests.attached.conftest import ORDERS, VISITS, Shop
from ubp_sql.embedded.binaries import find_binaries

STATEMENTS = {"lock", "grant", "trigger", "function"}
HERE = "select count(*) from ubp.all_events where origin > 0"
TRACES = """
select (select count(*) from ubp.sources where source_id > 0), (select count(*) from ubp.attached_sources),
       (select count(*) from pg_proc where proname like 'source\\_%%\\_insert'),
       (select count(*) from pg_trigger where tgname like 'ubp\\_%%'),
       (select count(*) from ubp.event_log where origin > 0)"""


def schema(shop: Shop) -> str:
    """pg_dump's view of the shop."""
    argv = [find_binaries().program("pg_dump"), "--schema-only", "--schema=shop", shop.db.dsn]
    dump = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_rows_are_events(shop: Shop) -> None:
    shop.attach()
    shop.attach(VISITS)
    shop.fold()
    shop.equal()
    assert shop.rows("select kind, count(*) from ubp.all_events group by 1 order by 1") == [
        ("purchase", 40),
        ("view", 30),
    ]
    first = "select user_id, item_id is not null, value, event_time from ubp.all_events order by event_id limit 1"
    assert shop.one("select source_id::bigint << 48 | 1 from ubp.attached_sources where relation_name = 'orders'") == (
        shop.one("select min(event_id) from ubp.all_events")
    )
    assert shop.rows(first)[0][:3] == (1, True, 1.0)
    kept = (
        "select user_type, item_type, key_type, ascending, watermark, attached_by from ubp.attached_sources order by 1"
    )
    assert shop.rows(kept) == [
        ("integer", "text", "integer", True, None, "shop_owner"),
        ("text", None, "none", False, None, "shop_owner"),
    ]
    assert shop.rows("select name, kind, time_zone, user_keys from ubp.sources where kind = 'attached' order by 1") == [
        ("shop.orders", "attached", "UTC", "integer"),
        ("shop.visits", "attached", "Europe/Berlin", "text"),
    ]
    assert shop.problems() == []


def test_a_dry_run_shows_what_a_real_one_does(shop: Shop) -> None:
    before = schema(shop)
    shown = shop.attach(dry_run=True)
    assert schema(shop) == before
    assert shop.rows(TRACES) == [(0, 0, 0, 0, 0)]
    done = shop.attach()
    assert [row for row in shown if row["step"] != "function"] == [row for row in done if row["step"] != "function"]
    assert [row["object"] for row in shown] == [row["object"] for row in done]
    shop.detach()
    for row in shown:
        if row["step"] in STATEMENTS - {"lock"}:
            shop.admin("set role " + ("ubp_owner" if row["step"] == "function" else "shop_owner"))
            shop.admin(row["detail"])
    by_hand = schema(shop)
    assert "CREATE TRIGGER ubp_insert" in by_hand
    assert "ENABLE ALWAYS TRIGGER ubp_truncate" in by_hand
    assert "GRANT SELECT ON TABLE shop.orders TO ubp_reader" in by_hand


def test_detached_it_is_as_before(shop: Shop) -> None:
    before = schema(shop)
    shop.attach()
    shop.attach(VISITS)
    assert schema(shop) != before
    shop.fold()
    steps = shop.detach()
    assert [row["step"] for row in steps] == ["source", "trigger", "grant"], "visits needs the schema's usage"
    assert shop.problems() == []
    steps = shop.detach("visits")
    assert [row["step"] for row in steps] == ["source", "trigger", "grant", "grant"]
    assert schema(shop) == before
    shop.fold()
    assert shop.rows(TRACES) == [(0, 0, 0, 0, 0)]
    assert shop.one("select coalesce(sum(events), 0) from ubp.mirror_runs") == 0
    shop.equal()
    shop.attach()
    shop.fold()
    assert shop.one(HERE) == 40


def test_rights_that_were_there_stay(shop: Shop) -> None:
    shop.run("grant usage on schema shop to public; grant select on shop.orders to ubp_owner")
    before = schema(shop)
    granted = [row["detail"] for row in shop.attach() if row["step"] == "grant"]
    assert granted == ["grant select on table shop.orders to ubp_reader"]
    shop.detach("orders")
    assert schema(shop) == before


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_what_is_logged(shop: Shop, role: str) -> None:
    shop.attach()
    shop.attach(VISITS)
    shop.admin(f"set session_replication_role = {role}")
    shop.admin("insert into shop.orders (customer, at) values (5, '2024-03-01'), (6, '2024-03-02')")
    shop.admin("insert into shop.orders (customer, at) select 1, now() where false")
    shop.admin("update shop.orders set customer = 8 where id in (1, 2)")
    shop.admin("delete from shop.orders where id = 3")
    shop.admin("insert into shop.visits select * from shop.visits where what = 'view'")
    shop.admin("truncate shop.orders")
    keys = [row[0] for row in shop.rows('select distinct visitor::text collate "C" from shop.visits order by 1')]
    assert shop.log(2) == [
        ("I", 41, 42, None, None),
        ("U", None, None, [1, 2, 8], None),
        ("U", None, None, [3], None),
        ("I", None, None, None, keys),
        ("T", None, None, None, None),
    ]
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 60


def test_ids_far_apart_are_logged_by_users(shop: Shop) -> None:
    shop.attach()
    insert = "insert into shop.orders (id, customer, at) overriding system value values "
    shop.run(insert + "(2000000000, 5, now()), (100, 6, now()), (-2000000000, null, now())")
    shop.run(insert + "(200, 5, now()), (1000, 6, now())")
    assert shop.log(1) == [("I", None, None, [5, 6], None), ("I", 200, 1000, None, None)]
    shop.run("alter table shop.orders alter id type bigint")
    shop.run(insert + "(9223372036854775807, 1, now()), (-9223372036854775808, 2, now())")
    assert shop.log(3) == [("I", None, None, [1, 2], None)], "no overflow reaches who inserts"


def test_rows_one_by_one_in_a_transaction(shop: Shop) -> None:
    """The second is logged as the first of a thousand; savepoints, folds and other times included."""
    shop.attach()
    shop.fold()
    one = "insert into shop.orders (customer, at) values ({}, {})"
    with shop.root.transaction():
        for user in range(5):
            shop.admin(one.format(user, "now()"))
        assert shop.log() == [("I", 41, 41, None, None), ("I", 42, 1042, None, None)]
        shop.admin(one.format(6, "'2024-01-01'"))
        assert shop.log(2) == [("I", 46, 46, None, None)], "of another time"
        shop.fold()
        shop.admin(one.format(7, "now()"))
        shop.admin(one.format(8, "now()"))
        assert shop.log() == [("I", 47, 47, None, None), ("I", 48, 1048, None, None)], "what covered them was consumed"
    with shop.root.transaction():
        shop.admin(one.format(1, "now()"))
        shop.admin("savepoint here")
        shop.admin(one.format(2, "now()"))
        shop.admin("rollback to savepoint here")
        shop.admin(one.format(3, "now()"))
        given = "insert into shop.orders (id, customer, at) overriding system value values "
        shop.admin(given + "(20000, 5, now()), (7000, 5, now())")
        shop.admin(given + "(-5, 5, now())")
    assert shop.log(2) == [
        ("I", 49, 49, None, None),
        ("I", 51, 1051, None, None),
        ("I", None, None, [5], None),
        ("I", -5, 995, None, None),
    ]
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == shop.one("select count(*) from shop.orders")


def test_who_writes_needs_no_rights_on_ubp(shop: Shop) -> None:
    shop.attach()
    with shop.db.connect() as conn:
        conn.execute("create role clerk")
        try:
            conn.execute("grant usage on schema shop to clerk; grant insert, delete, select on shop.orders to clerk")
            conn.execute("set role clerk")
            conn.execute("set search_path = pg_temp, shop")
            conn.execute("create temporary table fresh (id text); create temporary table event_log (x int)")
            conn.execute("insert into shop.orders (customer, at) values (3, now())")
            conn.execute("delete from shop.orders where customer = 2")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("select * from ubp.event_log")
        finally:
            conn.execute("reset role; drop owned by clerk; drop role clerk")
    assert [row[0] for row in shop.log(1)] == ["I", "U"]


def test_a_hostile_search_path_changes_nothing(shop: Shop) -> None:
    shop.attach()
    shop.attach("'shop.visits', 'visitor::text || page', 'at', 'what', time_zone => 'UTC'")
    shop.admin("create schema evil;"
               "create function evil.f(bigint, bigint) returns boolean language sql as 'select 1/0 = 1';"
              "create operator evil.> (leftarg = bigint, rightarg = bigint, function = evil.f);"
               "create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.f);"
               "create operator evil.<= (leftarg = bigint, rightarg = bigint, function = evil.f);"
               "create function evil.g(text, text) returns boolean language sql as 'select 1/0 = 1';"
               "create operator evil.= (leftarg = text, rightarg = text, function = evil.g);"
               "create function evil.now() returns timestamptz language sql as 'select (1/0)::text::timestamptz';"
               "create function evil.length(text) returns integer language sql as 'select 1/0';"
              "create function evil.catch(text, text) returns text language sql as 'select (1/0)::text';"
              "create operator evil.|| (leftarg = text, rightarg = text, function = evil.catch);"
              "create aggregate evil.max(integer) (sfunc = int4larger, stype = int, initcond = '-7');"
              "create domain evil.text as pg_catalog.text check (value = 'never')")  # fmt: skip
    shop.admin("set search_path = evil, pg_catalog")
    shop.admin("insert into shop.orders (customer, at) values (3, pg_catalog.now())")
    shop.admin(
        "update shop.orders set customer = 4 where customer operator(pg_catalog.=) 3 and id operator(pg_catalog.>) 40"
    )
    shop.admin("update shop.orders set customer = null where id operator(pg_catalog.>) 40")
    shop.admin("delete from shop.orders where id operator(pg_catalog.<) 3")
    shop.admin("insert into shop.visits (visitor, page, at) values (null, 'x', '2024-01-01')")
    shop.admin("insert into shop.visits values (pg_catalog.md5('a')::uuid, '2024-01-01', 'buy', 'x')")
    shop.admin("reset search_path")
    assert shop.log(2) == [
        ("I", 41, 41, None, None),
        ("U", None, None, [3, 4], None),
        ("U", None, None, [4], None),
        ("U", None, None, [1, 2], None),
        ("I", None, None, None, ["0cc175b9-c0f1-b6a8-31c3-99e269772661x"]),
    ]


def test_undone_with_its_transaction(shop: Shop) -> None:
    before = schema(shop)
    shop.run("begin")
    shop.attach()
    shop.run("insert into shop.orders (customer, at) values (3, now())")
    shop.run("rollback")
    assert schema(shop) == before
    assert shop.rows(TRACES) == [(0, 0, 0, 0, 0)]
    assert shop.one("select count(*) from ubp.all_events") == 0
    shop.attach()
    shop.fold()
    shop.equal()


def test_attached_while_others_write(shop: Shop) -> None:
    """Who writes when the triggers are made is waited for; who writes later is heard."""
    stop = threading.Event()

    def write() -> None:
        with shop.db.connect(user="shop_owner") as conn:
            while not stop.is_set():
                with conn.transaction():
                    conn.execute("insert into shop.orders (customer, at, amount) values (1, now(), 1)")
                    conn.execute("update shop.orders set amount = amount + 1 where id = 13")
                time.sleep(0.001)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.1)
        shop.attach()
        shop.fold()
        time.sleep(0.1)
        shop.fold()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    shop.fold()
    shop.equal()
    assert shop.one("select sum(events) from ubp.mirror_runs") >= shop.one("select count(*) from shop.orders")
    assert shop.one(HERE) == shop.one("select count(*) from shop.orders")


def test_detached_while_a_fold_runs(shop: Shop) -> None:
    shop.attach()
    shop.attach(VISITS)
    shop.fold()
    shop.run("insert into shop.orders (customer, at) select g % 9, now() from generate_series(1, 2000) g")
    with shop.db.connect() as other:
        other.execute("begin")
        other.execute("select * from ubp.build_mirror()")
        waiting = threading.Thread(target=shop.detach)
        waiting.start()
        time.sleep(0.05)
        other.execute("commit")
        waiting.join()
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 30


def test_a_table_in_use_is_not_waited_for_forever(shop: Shop) -> None:
    shop.run("set lock_timeout = '50ms'")
    with shop.db.connect() as other, other.transaction():
        other.execute("insert into shop.orders (customer, at) values (3, now())")
        with pytest.raises(psycopg.Error, match=r"shop\.orders is in use by others") as caught:
            shop.attach()
        assert (caught.value.sqlstate, "lock_timeout" in str(caught.value.diag.message_hint)) == ("UB005", True)
    shop.attach()
    with shop.db.connect() as other, other.transaction():
        other.execute("insert into shop.orders (customer, at) values (3, now())")
        with pytest.raises(psycopg.Error, match=r"shop\.orders is in use by others"):
            shop.detach()
    assert shop.owner.execute("show lock_timeout").fetchone() == ("50ms",)
    shop.detach()


def test_only_the_owner_in_ubp_admin_may(shop: Shop) -> None:
    shop.run("grant usage on schema shop to stranger; grant all on shop.orders to stranger")
    with shop.db.connect(user="stranger") as conn:
        with pytest.raises(psycopg.Error, match=r"shop\.orders belongs to shop_owner: stranger may not") as caught:
            conn.execute(f"select ubp.attach_source({ORDERS})".encode())
        assert caught.value.sqlstate == "UB011"
    with shop.db.connect() as conn:
        conn.execute("set role ubp_loader")
        for call in ("attach_source('pg_class', 'a', 'b', 'c')", "detach_source('x')", "record_source('{}', true)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"select ubp.{call}".encode())
    shop.rows(f"select * from ubp.attach_source({ORDERS})")
    with shop.db.connect(user="stranger") as conn:
        steps = conn.execute("select step, detail from ubp.detach_source('orders')").fetchall()
    assert ("advice", "as the owner: revoke select on table shop.orders from ubp_owner, ubp_reader") in steps


def test_what_records_a_source_trusts_nobody(shop: Shop) -> None:
    """Who detaches may be a superuser: no statement of somebody else's is executed then."""
    shop.run("grant usage on schema shop to ubp_owner; grant select on shop.orders to ubp_owner")
    number = shop.one("select 'shop.orders'::regclass::oid::bigint")
    given: dict[str, str | None] = {"user_id": "customer", "event_time": "at", "kind": "'x'"}
    given |= dict.fromkeys(("item_id", "value", "ingested_at", "event_id", "time_zone", "filter"))
    granted = {"schema": ["ubp_owner"], "relation": ["ubp_reader", "ubp_owner; drop table shop.visits"]}
    attached = json.dumps({"relation": number, "given": given, "granted": granted})
    for column in ("(select 1)", "customer); drop table shop.visits; --", "nothing"):
        bad = json.dumps({"relation": number, "given": given | {"user_id": column}, "granted": granted})
        with pytest.raises(psycopg.Error, match="user_id"):
            shop.owner.execute("select ubp.record_source(%s, false)", [bad])
    shop.owner.execute("select ubp.record_source(%s, false)", [attached])
    assert shop.rows("select granted from ubp.attached_sources") == [
        ({"schema": ["ubp_owner"], "relation": ["ubp_reader"]},)
    ]
    assert "does not hear" in shop.problems()[-1][1]
    shop.rows("select * from ubp.detach_source('orders')")
    assert shop.one("select count(*) from shop.visits") == 30


REFUSED = [
    ("'shop.orders_2024', 'customer', 'at', '''x'''", "is a partition of shop.parted"),
    ("'shop.child', 'customer', 'at', '''x'''", "inherits from shop.parent"),
    ("'shop.parent', 'customer', 'at', '''x'''", "has tables that inherit from it"),
    ("'shop.secured', 'customer', 'at', '''x'''", "has row security"),
    ("'shop.invoker', 'customer', 'at', '''x'''", "reads with the rights of whoever asks"),
    ("'shop.calls', 'customer', 'at', '''x'''", r"calls shop\.f\(integer\) of shop_owner"),
    ("'shop.calls_too', 'customer', 'at', '''x'''", r"calls shop\.f\(integer\) of shop_owner"),
    ("'scratch', 'customer', 'at', '''x'''", "is temporary"),
    ("'shop.numbers', 'last_value', 'now()', '''x'''", "is neither a table nor a view"),
    ("'ubp.events', 'user_id', 'event_time', 'kind'", "belongs to ubp_sql or to the system"),
    ("'pg_catalog.pg_class', 'oid', 'now()', '''x'''", "belongs to ubp_sql or to the system"),
    ("null, 'customer', 'at', '''x'''", "is NULL or gone"),
]


def test_relations_that_cannot_be_attached(shop: Shop) -> None:
    shop.run("create table shop.parted (customer int, at timestamptz) partition by range (at)")
    shop.run("create table shop.orders_2024 partition of shop.parted for values from ('2024-01-01') to ('2025-01-01')")
    shop.run("create table shop.parent (customer int, at timestamptz)")
    shop.run("create table shop.child () inherits (shop.parent)")
    shop.run("create table shop.secured (customer int, at timestamptz)")
    shop.run("alter table shop.secured enable row level security")
    shop.run("create view shop.invoker with (security_invoker = on) as select * from shop.orders")
    shop.run("create function shop.f(integer) returns integer language sql as 'select $1'")
    shop.run("create view shop.calls as select shop.f(customer) as customer, at from shop.orders")
    shop.run("create view shop.calls_too as select * from shop.calls")
    shop.run("create temporary table scratch (customer int, at timestamptz)")
    shop.run("create sequence shop.numbers")
    for arguments, match in REFUSED:
        error = shop.refused(arguments)
        assert re.search(match, str(error)), (arguments, str(error))
        assert error.diag.message_hint


def test_one_relation_has_one_map(shop: Shop) -> None:
    shop.attach()
    assert "is attached already, as source shop.orders" in str(shop.refused(ORDERS))
    shop.admin("insert into ubp.sources (name, kind) values ('shop.visits', 'file')")
    assert "there is a source shop.visits of kind file already" in str(shop.refused(VISITS))
    for unknown in ("nothing", "shop.visits", None):
        with pytest.raises(psycopg.Error, match="no attached source is called") as caught:
            shop.detach(unknown)  # type: ignore[arg-type]
        assert "attached are: shop.orders" in str(caught.value.diag.message_hint)


def test_names_that_need_quotes(shop: Shop) -> None:
    shop.admin('create schema "My Shop" authorization shop_owner')
    shop.run('create table "My Shop"."Select ""X" ("User" integer, "found" timestamptz,'
             ' "tg_op" text, "touched" integer primary key)')  # fmt: skip
    name = '"My Shop"."Select ""X"'
    rights = "select relacl from pg_class where relname = 'Select \"X'"
    assert shop.one(rights) is None
    shop.attach(f"""'{name}', '"User"', 'found', 'tg_op'""")
    shop.run(f"insert into {name} values (1, now(), 'buy', 1), (2, now(), 'buy', 2)")
    shop.run(f"update {name} set tg_op = 'view' where touched = 1")
    assert shop.log(1) == [("I", 1, 2, None, None), ("U", None, None, [1], None)]
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 2
    assert shop.one("select name from ubp.sources where kind = 'attached'") == 'My Shop.Select "X'
    shop.detach('My Shop.Select "X')
    assert shop.one(f"select count(*) from aclexplode(({rights}))") == 7, "the owner's"


def test_advice(shop: Shop) -> None:
    def of(arguments: str, step: str = "advice") -> list[str]:
        return [row["detail"] for row in shop.attach(arguments, dry_run=True) if row["step"] == step]

    assert of(ORDERS) == ["create index concurrently on shop.orders (customer)"]
    assert of(VISITS)[-1] == "create index concurrently on shop.visits (((visitor)::text))"
    shop.run("create index on shop.orders (customer, at); create index on shop.visits ((visitor::text))")
    assert of(ORDERS) == []
    assert [line for line in of(VISITS) if line.startswith("create")] == []
    for line in of(VISITS.replace("'visitor'", "'page'")):
        if line.startswith("create"):
            shop.run(line)
    assert len(of(VISITS.replace("'visitor'", "'page'"))) == 1, "nothing but that there is no id"


def test_partitions(shop: Shop) -> None:
    shop.run("create table shop.sales (id bigint generated always as identity, customer int, at timestamptz,"
             " primary key (id, at)) partition by range (at)")  # fmt: skip
    for month in (1, 2):
        shop.run(f"create table shop.sales_{month} partition of shop.sales"
                 f" for values from ('2024-0{month}-01') to ('2024-0{month + 1}-01')")  # fmt: skip
    shop.run("insert into shop.sales (customer, at) values (1, '2024-01-05'), (2, '2024-02-05')")
    steps = shop.attach("'shop.sales', 'customer', 'at', '''buy'''")
    assert sum(row["step"] == "trigger" for row in steps) == 3 * 4
    assert shop.one("select ascending from ubp.attached_sources")
    shop.run("insert into shop.sales (customer, at) values (1, '2024-01-06'), (2, '2024-02-06')")
    shop.run("insert into shop.sales_1 (id, customer, at) values (70, 1, '2024-01-07')")
    shop.run("update shop.sales set at = at + interval '1 month' where id = 1")
    shop.run("truncate shop.sales_2")
    assert shop.log(1) == [
        ("I", 3, 4, None, None),
        ("I", 70, 70, None, None),
        ("U", None, None, [1], None),
        ("T", None, None, None, None),
    ]
    shop.fold()
    shop.equal()
    shop.run("create table shop.sales_3 partition of shop.sales for values from ('2024-03-01') to ('2024-04-01')")
    assert [problem for _, problem, _ in shop.problems()] == [
        "statements that name a partition are unheard: shop.sales_3"
    ], "what comes through the whole is heard"
    shop.run("insert into shop.sales_3 (id, customer, at) values (80, 4, '2024-03-07')")
    shop.fold()
    shop.equal()
    made = shop.rows("select step, object from ubp.watch_sources()")
    assert made == [("trigger", "shop.sales_3")] * 4
    assert shop.rows("select * from ubp.watch_sources()") == []
    shop.run("insert into shop.sales_3 (id, customer, at) values (81, 4, '2024-03-07')")
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == shop.one("select count(*) from shop.sales") == 4
    shop.detach("sales")
    assert shop.rows(TRACES)[0][3] == 0


FOREIGN = """
create extension postgres_fdw;
create server elsewhere foreign data wrapper postgres_fdw options (host %s, port %s, dbname %s);
create user mapping for public server elsewhere options (user 'postgres', password_required 'false');
create foreign table shop.remote (customer integer, at timestamptz, id integer)
  server elsewhere options (schema_name 'shop', table_name 'orders');
"""


@pytest.mark.parametrize("kind", ["view", "materialized view", "foreign table"])
def test_where_no_trigger_hears(shop: Shop, kind: str) -> None:
    if kind == "foreign table":
        if not shop.one("select exists (select from pg_available_extensions where name = 'postgres_fdw')"):
            pytest.skip("postgres_fdw is not there")
        parts = psycopg.conninfo.conninfo_to_dict(shop.db.dsn)
        text = FOREIGN
        for name in ("host", "port", "dbname"):
            text = text.replace("%s", f"'{parts[name]}'", 1)
        shop.root.execute(text.encode())
        shop.admin("alter foreign table shop.remote owner to shop_owner")
    else:
        shop.run(f"create {kind} shop.remote as select customer, at, id from shop.orders")
    steps = shop.attach("'shop.remote', 'customer', 'at', '''buy''', event_id => 'id'")
    assert [row["step"] for row in steps if row["step"] in STATEMENTS] == ["grant", "grant"]
    unseen = " ".join(row["detail"] for row in steps if row["step"] == "cannot see")
    assert "updates and deletes" in unseen
    assert "ubp.rebuild_mirror()" in unseen
    assert shop.one("select watermark from ubp.attached_sources") == "event_key"
    shop.fold()
    shop.equal()
    shop.run("insert into shop.orders (customer, at) values (4, '2024-06-01')")
    if kind.startswith("mat"):
        shop.run("refresh materialized view shop.remote")
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 41
    assert shop.problems() == []
    shop.detach("remote")


def test_a_foreign_table_nobody_may_reach(shop: Shop) -> None:
    if not shop.one("select exists (select from pg_available_extensions where name = 'postgres_fdw')"):
        pytest.skip("postgres_fdw is not there")
    text = FOREIGN.replace("create user mapping for public", "create user mapping for shop_owner")
    shop.root.execute(text.replace("%s", "'x'").encode())
    shop.admin("alter foreign table shop.remote owner to shop_owner")
    with pytest.raises(psycopg.Error, match=r"ubp_owner cannot read shop\.remote: user mapping not found") as caught:
        shop.attach("'shop.remote', 'customer', 'at', '''buy'''")
    assert caught.value.sqlstate == "UB005"


def test_two_attach_at_once(shop: Shop) -> None:
    errors: list[Any] = []

    def attach(arguments: str) -> None:
        with shop.db.connect(user="shop_owner") as conn:
            try:
                conn.execute(f"select * from ubp.attach_source({arguments})".encode())
            except psycopg.Error as error:
                errors.append(error)

    threads = [threading.Thread(target=attach, args=[one]) for one in (ORDERS, VISITS, ORDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["is attached already" in str(error) for error in errors] == [True]
    shop.fold()
    shop.equal()
    assert shop.one(HERE) == 70
