"""What owners of attached tables and members of ubp_admin must not be able to do, and how refreshes hear of changes."""

import json
import threading
import time

import psycopg
import pytest

from tests.attached.conftest import ORDERS, Shop

# Whoever runs this is noted; nothing fails.
SPY = """
create table shop.log (who text);
grant insert on shop.log to public;
grant usage on schema shop to public;
create function shop.spy(v integer) returns boolean language plpgsql as $$ begin
  insert into shop.log values (current_user::text);
  return true;
end $$;
"""
VIEW = "'shop.v', 'customer', 'at', '''x''', event_id => 'id'"
GIVEN = {
    "user_id": "customer", "event_time": "at", "kind": "'purchase'", "item_id": None, "value": None,
    "ingested_at": None, "event_id": None, "time_zone": None, "filter": None,
}  # fmt: skip


def _refused(shop: Shop, query: str, *arguments: object) -> str:
    with pytest.raises(psycopg.Error) as caught:
        shop.run(query, *arguments)
    assert (caught.value.sqlstate or "").startswith("UB"), caught.value
    return str(caught.value)


def _record(shop: Shop, relation: str, granted: object) -> tuple[str, str]:
    oid = shop.one("select %s::regclass::oid::bigint", relation)
    return "select ubp.record_source(%s::jsonb, false)", json.dumps(
        {"relation": oid, "given": GIVEN, "granted": granted}
    )


def _spied(shop: Shop) -> set[str]:
    return {who for (who,) in shop.rows("select who from shop.log")}


def test_only_our_roles_are_taken_rights_from(shop: Shop) -> None:
    shop.attach()
    more = '{"schema": [], "relation": ["ubp_owner; alter role shop_owner superuser; --"]}'
    shop.rows(f"update ubp.attached_sources set granted = '{more}' returning 1")
    with shop.db.connect() as root:
        root.execute("select * from ubp.detach_source('shop.orders')")
    assert shop.one("select rolsuper from pg_roles where rolname = 'shop_owner'") is False


def test_what_is_handed_on_is_checked_again(shop: Shop) -> None:
    shop.admin("create table public.others (id integer primary key, customer integer, at timestamptz)")
    shop.admin("grant select on public.others to public")
    both: dict[str, list[str]] = {"schema": [], "relation": []}
    assert "belongs to" in _refused(shop, *_record(shop, "public.others", both))
    assert "hands on" in _refused(shop, *_record(shop, "shop.orders", {}))
    assert "hands on" in _refused(shop, "select ubp.record_source('{}', false)")
    assert "not attached" in _refused(shop, "select ubp.forget_source(0)")
    assert shop.one("select count(*) from ubp.sources where source_id = 0") == 1


def test_a_literal_does_not_end_the_body(shop: Shop) -> None:
    pwn = "create function ubp.pwn() returns text language sql as ''select 1''"
    for quote in ("$ubp$", "$$", "$python$"):
        shop.run("set check_function_bodies = off")
        shop.run("select * from ubp.attach_source('shop.orders', %s, 'at', '''x''')",
                 f"coalesce(nullif(sku, '{quote}; {pwn}; --'), 'x')")  # fmt: skip
        shop.run("insert into shop.orders (customer, at, sku) values (1, now(), 'b')")
        assert shop.log()[-1][0] == "I"
        shop.detach()
    assert shop.one("select to_regprocedure('ubp.pwn()')") is None


@pytest.mark.parametrize(
    "user",
    [
        "(''{1}''::shop.d[])[1]::int + customer",
        "customer + (''(1)''::shop.c).x",
        "customer + (shop.c ''(1)'').x",
        "customer + cast(''1'' as shop . \"d\")",
        "case when many = ''{1}'' then customer end",
        'customer + ((1)::shop.U&"\\0063").x',
    ],
)
def test_no_literal_runs_code_of_its_type(shop: Shop, user: str) -> None:
    shop.run(SPY + "create domain shop.d as integer check (shop.spy(value)); create type shop.c as (x shop.d);"
             " alter table shop.orders add many shop.d[]")  # fmt: skip
    assert "type" in shop.refused(f"'shop.orders', '{user}', 'at', '''x'''").args[0] or "U&" in user
    shop.run("grant select on shop.orders to ubp_owner, ubp_reader")
    query, arguments = _record(shop, "shop.orders", {"schema": [], "relation": []})
    changed = json.loads(arguments)
    changed["given"]["user_id"] = user.replace("''", "'")
    _refused(shop, query, json.dumps(changed))
    assert _spied(shop) == set()


def test_expressions_call_nothing_of_ours_but_to_time(shop: Shop) -> None:
    said = shop.refused("'shop.orders', 'cardinality(ubp.image_array(null::bytea, array[customer]))', 'at', '''x'''")
    assert "ubp_owner" in str(said)
    shop.run("alter table shop.orders add clock text")
    shop.attach("'shop.orders', 'customer', 'ubp.to_time(clock)', '''x'''")


def test_casts_of_an_owner_may_do_nothing(shop: Shop) -> None:
    shop.attach()
    shop.run(SPY + """
        create type shop.t as (x integer);
        create function shop.f(shop.t) returns bigint language plpgsql as $$ begin
          perform shop.spy(1); return 1; end $$;
        create cast (shop.t as bigint) with function shop.f(shop.t) as assignment;
        alter table shop.orders alter customer type shop.t using row(customer)::shop.t;
        insert into shop.orders (customer, at) values (row(5), now());
        update shop.orders set amount = 2;
        delete from shop.orders""")  # fmt: skip
    assert _spied(shop) <= {"ubp_listener"}
    assert shop.one("select has_table_privilege('ubp_listener', 'ubp.events', 'select')"
                    " or has_schema_privilege('ubp_listener', 'ubp', 'create')") is False  # fmt: skip
    shop.admin("create role nobody_much login; create schema mine authorization nobody_much; set role nobody_much")
    shop.admin("create table mine.t (customer shop.t)")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shop.admin("create trigger x after delete on mine.t referencing old table as gone for each statement"
                       " execute function ubp.source_1_delete()")  # fmt: skip
    finally:
        shop.admin("reset role; drop schema mine cascade; drop role nobody_much")


@pytest.mark.parametrize(
    ("replaced", "problem"),
    [
        ("create or replace view shop.v as select id, shop.g(customer) as customer, at from shop.orders", "calls"),
        ("create or replace view shop.v as select id, customer operator(shop.###) 1 as customer, at"
         " from shop.orders", "calls"),
        ("drop view shop.v; create table shop.v (id integer, customer integer, at timestamptz)", "made again"),
        ("create policy p on shop.orders using (shop.spy(1)); alter table shop.orders enable row level security;"
         " alter table shop.orders force row level security", "calls shop.spy(integer) (policy p of shop.orders)"),
        ("create table shop.t (id integer, customer integer, at timestamptz); insert into shop.t values (1, 1, now());"
         " create view shop.w as select 1 as one where shop.spy(1);"
         " create policy p on shop.t using (exists (select from shop.w));"
         " alter table shop.t enable row level security; alter table shop.t force row level security;"
         " create or replace view shop.v as select id, customer, at from shop.t", "calls shop.spy(integer)"),
    ],
)  # fmt: skip
def test_a_view_that_was_replaced(shop: Shop, replaced: str, problem: str) -> None:
    shop.run(SPY + """
        create view shop.v as select id, customer, at from shop.orders;
        create function shop.g(v integer) returns integer language plpgsql as $$ begin
          perform shop.spy(v); return v; end $$;
        create function shop.h(v integer, w integer) returns integer language sql as 'select shop.g(v)';
        create operator shop.### (leftarg = integer, rightarg = integer, function = shop.h)""")  # fmt: skip
    shop.attach("'shop.v', 'customer', 'at', '''x''', event_id => 'id'")
    shop.run(replaced)
    assert [text for _, text, _ in shop.problems() if problem in text]
    with pytest.raises(psycopg.Error, match=r"shop\.v"):
        shop.fold()
    assert _spied(shop) == set()


def test_what_a_refresh_looked_at_stays_until_it_is_read(shop: Shop) -> None:
    """It waits between the look and the read, where it keeps the new list of partitions."""
    shop.run(
        SPY
        + """
        create view shop.v as select id, customer, at from shop.orders;
        create policy p on shop.orders using (shop.spy(1));
        create table shop.p (id bigint, customer int, at timestamptz, primary key (id, at)) partition by range (at)"""
    )
    shop.attach(VIEW)
    shop.attach("'shop.p', 'customer', 'at', $$'y'$$")
    shop.run("create table shop.p1 partition of shop.p for values from ('2024-01-01') to ('2024-02-01')")
    shop.run("select * from ubp.watch_sources()")
    with shop.db.connect() as refresher, shop.db.connect() as holder:
        holder.execute("begin; select from ubp.attached_sources for update")
        refreshing = threading.Thread(target=refresher.execute, args=["select * from ubp.build_mirror()"])
        refreshing.start()
        until = time.monotonic() + 20
        while time.monotonic() < until and not shop.one(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%build_mirror%'"
            " and pid <> pg_backend_pid() and datname = current_database()"
        ):
            time.sleep(0.02)
        shop.run("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shop.run("alter table shop.orders enable row level security, force row level security")
        holder.execute("rollback")
        refreshing.join()
    assert _spied(shop) == set()


def test_row_policies_that_a_view_passes_by(shop: Shop) -> None:
    """PostgreSQL asks them neither for the owner of the table nor for a superuser."""
    shop.run(
        SPY
        + """
        create view shop.v as select id, customer, at from shop.orders;
        create policy p on shop.orders using (shop.spy(1));
        alter table shop.orders enable row level security"""
    )
    shop.attach(VIEW)
    assert shop.problems() == []
    shop.fold()
    assert shop.one("select count(*) from ubp.all_events where origin > 0") == 40
    shop.run("alter table shop.orders force row level security")
    assert len(shop.problems()) == 1
    shop.admin("alter view shop.v owner to postgres")
    assert shop.problems() == []
    shop.fold()
    assert _spied(shop) == set()


def test_a_view_that_reads_with_rights_of_the_asking_however_that_is_written(shop: Shop) -> None:
    for written in ("on", "Yes", "t", "1"):
        shop.run(f"create view shop.v with (security_invoker = {written}) as select id, customer, at from shop.orders")
        assert "whoever asks" in str(shop.refused(VIEW))
        shop.run("drop view shop.v")


def test_a_view_with_an_operator_of_somebody_is_refused(shop: Shop) -> None:
    shop.run("create function shop.h(v integer, w integer) returns integer language sql as 'select v';"
             " create operator shop.### (leftarg = integer, rightarg = integer, function = shop.h);"
             " create view shop.v as select id, customer operator(shop.###) 1 as customer, at"
             " from shop.orders")  # fmt: skip
    assert "operator shop.###" in str(shop.refused("'shop.v', 'customer', 'at', '''x''', event_id => 'id'"))


def test_a_report_reads_what_was_attached(shop: Shop) -> None:
    shop.run("alter table shop.orders add secret text default 'pin 1234'")
    shop.attach()
    shop.run("insert into shop.orders (customer, at) values (null, now())")
    example = shop.one("select example from ubp.source_report('shop.orders') where reason = 'no user'")
    assert "customer" in example
    assert "pin" not in example
    shop.run(SPY + """alter table shop.orders rename to old;
        create function shop.g(v integer) returns integer language plpgsql as $$ begin
          perform shop.spy(v); return v; end $$;
        create view shop.orders as select id, shop.g(customer) as customer, at, amount, sku, state from shop.old;
        grant select on shop.orders to ubp_owner, ubp_reader""")  # fmt: skip
    with pytest.raises(psycopg.Error, match=r"shop.orders") as caught:
        shop.rows("select * from ubp.source_report('shop.orders')")
    assert caught.value.sqlstate == "UB015"
    assert _spied(shop) == set()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("create table shop.child () inherits (shop.orders)", "shop.child"),
        ("alter table shop.orders alter id drop identity; create table shop.big (like shop.orders) partition by"
         " range (at); alter table shop.big attach partition shop.orders for values from ('2020-01-01')"
         " to ('2030-01-01')", "became a partition of shop.big"),
        ("alter table shop.orders drop column amount; alter table shop.orders add amount numeric(9, 2)",
         "amount of shop.orders was dropped and made again"),
        ("alter table shop.orders drop constraint orders_pkey", "unique"),
    ],
)  # fmt: skip
def test_what_is_named_as_a_problem(shop: Shop, change: str, problem: str) -> None:
    shop.attach()
    assert shop.problems() == []
    shop.run(change)
    assert [text for _, text, _ in shop.problems() if problem in text], shop.problems()


def test_ids_that_are_null_count_as_everything(shop: Shop) -> None:
    shop.attach()
    shop.run("alter table shop.orders alter id drop identity; alter table shop.orders drop constraint orders_pkey;"
             " alter table shop.orders alter id drop not null")  # fmt: skip
    before = len(shop.log())
    shop.run("insert into shop.orders (customer, at) values (3, now())")
    shop.run("insert into shop.orders (customer, at) values (3, now()), (4, now())")
    assert [op for op, *_ in shop.log(before)] == ["T", "T"]


def test_a_subscription_made_later_is_missed(shop: Shop) -> None:
    shop.attach()
    shop.admin("create subscription of_m1 connection 'dbname=nowhere' publication p with (connect = false,"
               " slot_name = none, create_slot = false, enabled = false)")  # fmt: skip
    try:
        shop.admin("insert into pg_subscription_rel select oid, 'shop.orders'::regclass, 'r', null"
                   " from pg_subscription where subname = 'of_m1'")  # fmt: skip
        assert "row" in shop.problems()[0][1]
        shop.run("select * from ubp.watch_sources()")
        assert shop.problems() == []
    finally:
        shop.admin("delete from pg_subscription_rel; drop subscription of_m1")


def test_an_old_snapshot_changes_no_sources(shop: Shop) -> None:
    shop.run("begin isolation level repeatable read")
    assert "READ COMMITTED" in _refused(shop, f"select * from ubp.attach_source({ORDERS})")
    shop.run("rollback")
    shop.attach()
    shop.run("begin isolation level repeatable read")
    assert "READ COMMITTED" in _refused(shop, "select * from ubp.detach_source('shop.orders')")
    shop.run("rollback")


def test_detaching_waits_for_writers_and_they_do_not_wait_for_it(shop: Shop) -> None:
    shop.run(
        "create table shop.p (id bigint, customer int, at timestamptz, primary key (id, at)) partition by range (at)"
    )
    for month in (1, 2, 3):
        shop.run(f"create table shop.p{month} partition of shop.p"
                 f" for values from ('2024-0{month}-01') to ('2024-0{month + 1}-01')")  # fmt: skip
    shop.attach("'shop.p', 'customer', 'at', '''x'''")
    with shop.db.connect(user="shop_owner") as writer:
        for first, then in (("2024-01-05", "2024-03-05"), ("2024-03-05", "2024-01-05")):
            writer.execute("begin")
            writer.execute("insert into shop.p values (1, 1, %s)", [first])
            shop.run("begin")
            waiting = threading.Thread(target=shop.detach, args=["shop.p"])
            waiting.start()
            while not shop.one("select count(*) from pg_locks where not granted and relation = 'shop.p'::regclass"):
                time.sleep(0.02)
            writer.execute("insert into shop.p values (2, 1, %s)", [then])
            writer.execute("rollback")
            waiting.join()
            shop.run("rollback")


def test_watching_waits_no_longer_than_the_session_would(shop: Shop) -> None:
    shop.attach()
    shop.run("drop trigger ubp_delete on shop.orders")
    with shop.db.connect(user="shop_owner") as writer:
        writer.execute("begin")
        writer.execute("insert into shop.orders (customer, at) values (1, now())")
        shop.run("set lock_timeout = '50ms'; set statement_timeout = '9s'")
        step, _, said = shop.owner.execute("select * from ubp.watch_sources()").fetchall()[0]
        assert (step, "others use it" in said) == ("cannot see", True)
        writer.execute("rollback")
    assert shop.owner.execute("select step from ubp.watch_sources()").fetchall() == [("trigger",)]


def test_a_partition_nobody_hears_is_named_and_refreshes_go_on(shop: Shop) -> None:
    shop.run("create table shop.p (id bigint, customer int, at timestamptz, primary key (id, at))"
             " partition by range (at)")  # fmt: skip
    shop.attach("'shop.p', 'customer', 'at', '''x'''")
    shop.run("create table shop.p1 partition of shop.p for values from ('2024-01-01') to ('2024-02-01')")
    assert [text for _, text, _ in shop.problems()] == ["statements that name a partition are unheard: shop.p1"]
    shop.fold()
    shop.run("select * from ubp.watch_sources()")
    assert shop.problems() == []


def test_triggers_may_use_what_the_schema_has(shop: Shop) -> None:
    shop.run("alter table shop.orders add what shop.mood")
    shop.attach("'shop.orders', 'case when what = ''buy'' then sku end', 'at', '''x'''")
    shop.run("insert into shop.orders (customer, at, sku, what) values (1, now(), 'b', 'buy')")
    shop.run("update shop.orders set amount = 9 where sku = 'b'")
    assert shop.log()[-1] == ("U", None, None, None, ["b"])
    shop.detach()
    assert shop.one("select has_schema_privilege('ubp_listener', 'shop', 'usage')") is False
