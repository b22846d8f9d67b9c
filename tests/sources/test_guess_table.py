"""What a look at a table proposes, and that ubp.attach_source takes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import document, refusal, ubp_sql
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster
from ubp_sql.errors import BadInput
from ubp_sql.sources.guess_table import TableGuess, guess_table

TABLES = """
create table customers (id bigint primary key, email text);
insert into customers select g, g || '@example.org' from generate_series(1, 200) g;
create type state as enum ('paid', 'cancelled');
create table orders (
  id bigint generated always as identity primary key, who bigint references customers, ordered_at timestamptz,
  created_at timestamptz default now(), sku text, quantity int, unit_price numeric(10,2), status state,
  deleted_at timestamptz);
insert into orders (who, ordered_at, sku, quantity, unit_price, status)
select 1 + g % 200, '2024-01-01'::timestamptz + g * interval '7 min', 'S' || g % 77, 1 + g % 5, g % 100 + .5, 'paid'
  from generate_series(1, 12000) g;
create table "Clicks" ("userKey" text, ts bigint, "event Type" text, page text);
insert into "Clicks" select 'u' || g % 30, 1700000000000 + g * 60000, case g % 3 when 0 then 'click' else 'view' end,
  '/p/' || g % 50 from generate_series(1, 900) g;
create table texts (user_id uuid, at text, action text, amount float8);
insert into texts select md5((g % 50)::text)::uuid,
  to_char('2024-01-01'::timestamp + g * interval '1 h', 'DD/MM/YYYY HH24:MI'), 'view', g from generate_series(1, 900) g;
create table iso (user_id int, at text, action text);
insert into iso
select g % 50, to_char('2024-01-01'::timestamp + g * interval '1 h', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'view'
  from generate_series(1, 900) g;
create view bought as select who as customer_id, ordered_at::timestamp as at, sku from orders;
create table visits (visitor text, day date, hour time, "when" timestamp);
insert into visits select 'v' || g % 9, '2024-01-01'::date + g, '10:00', '2024-01-01'::timestamp + g * interval '1 day'
  from generate_series(1, 100) g;
create table nothing (user_id int, at timestamptz, kind text);
create table "Strange ""Name"" drop" (
  gone int, "user" int, t timestamp, action text, j jsonb, a int[], c customers, x xml);
alter table "Strange ""Name"" drop" drop column gone;
insert into "Strange ""Name"" drop" ("user", t, action, j, a)
select g % 9, case when g % 5 = 0 then 'infinity' else '0044-03-15 BC'::timestamp end, 'view', '{}', '{1}'
  from generate_series(1, 99) g;
create view failing as select user_id, at, 1 / (user_id - 3) as value from iso;
create table guarded as select * from iso;
alter table guarded enable row level security;
comment on column orders.who is 'the customer';
analyze;
"""


@pytest.fixture(scope="module")
def tables(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    made.execute(TABLES)
    yield made
    drop(made)


def guessed(db: Database, name: str) -> TableGuess:
    with db.connect() as conn:
        return guess_table(conn, name)


def test_a_table_of_orders(tables: Database) -> None:
    guess = guessed(tables, "orders")
    assert guess.relation == "public.orders"
    assert guess.arguments() == {
        "user_id": "who",
        "event_time": "ordered_at",
        "kind": "'purchase'",
        "item_id": "sku",
        "value": "quantity * unit_price",
        "ingested_at": "created_at",
        "event_id": "id",
        "filter": "deleted_at is null",
    }
    user = next(part for part in guess.parts if part.name == "user")
    assert user.why.startswith("a foreign key to customers")
    assert user.why.endswith("its comment: the customer")
    assert "about 200 users in 12,000 rows" in guess.notes
    assert guess.problem is None
    assert {"advice", "trigger"} <= {step["step"] for step in guess.steps}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            '"Clicks"',
            {
                "user_id": '"userKey"',
                "event_time": "to_timestamp(ts / 1000.0)",
                "kind": '"event Type"',
                "item_id": "page",
            },
        ),
        (
            "public.texts",
            {
                "user_id": "user_id",
                "event_time": "ubp.to_time(at, 'DD/MM/YYYY HH24:MI', 'UTC')",
                "kind": "action",
                "value": "amount",
            },
        ),
        ("iso", {"user_id": "user_id", "event_time": "ubp.to_time(at)", "kind": "action"}),
        ("visits", {"user_id": "visitor", "event_time": '"when"', "kind": "'visit'", "time_zone": "UTC"}),
    ],
)
def test_other_tables(tables: Database, table: str, expected: dict[str, str]) -> None:
    guess = guessed(tables, table)
    assert guess.arguments() == expected
    assert guess.problem is None


def test_the_call_can_be_pasted(tables: Database, cluster: Cluster) -> None:
    made = create(cluster, tables.name)
    try:
        for table, rows in (("orders", 12_000), ('"Clicks"', 900), ("texts", 900), ("iso", 900), ("visits", 100)):
            guess = guessed(made, table)
            made.execute(guess.call_text())
            report = made.rows("select reason, rows from ubp.source_report(%s)", guess.relation)
            assert report == [{"reason": "event", "rows": rows}]
    finally:
        drop(made)


def test_looking_changes_nothing(tables: Database) -> None:
    guessed(tables, "orders")
    assert tables.one("select count(*) from ubp.attached_sources") == 0
    assert tables.one("select count(*) from pg_trigger where tgrelid = 'orders'::regclass and not tgisinternal") == 0


def test_what_is_open(tables: Database) -> None:
    view = guessed(tables, "bought")
    assert view.open == ["kind"]
    assert "--   kind => '''purchase'''" in view.call_text()
    assert guessed(tables, "customers").open == ["user", "event_time", "kind"]


def test_an_empty_table_by_names_and_types(tables: Database) -> None:
    guess = guessed(tables, "nothing")
    assert guess.arguments() == {"user_id": "user_id", "event_time": "at"}
    assert guess.open == ["kind"]
    assert any("it is empty" in note for note in guess.notes)


def test_strange_names_types_and_times(tables: Database) -> None:
    guess = guessed(tables, '"Strange ""Name"" drop"')
    assert guess.arguments() == {"user_id": '"user"', "event_time": "t", "kind": "action", "time_zone": "UTC"}
    assert guess.problem is None


def test_a_line_end_in_a_name_does_not_end_a_comment(tables: Database) -> None:
    tables.execute('create table evil ("customer\nselect 1; --id" int, "client\nselect 1; --id" int, at timestamptz)')
    tables.execute("insert into evil select g, g % 9, now() from generate_series(1, 99) g")
    text = guessed(tables, "evil").call_text()
    assert "user_id: cannot tell" in text
    behind = text.partition(");\n")[2].splitlines()
    assert len(behind) >= 3
    assert all(line.startswith("--") for line in behind)


def test_what_attaching_refuses_is_said(tables: Database) -> None:
    guess = guessed(tables, "guarded")
    assert "row security" in (guess.problem or "")
    assert ubp_sql("source", "guess", "guarded", "--dsn", tables.dsn).exit_code == 2


def test_a_view_that_fails(tables: Database) -> None:
    with tables.connect() as conn, pytest.raises(BadInput, match="failing cannot be read: division by zero"):
        guess_table(conn, "failing")


def test_for_people_and_machines(tables: Database, tmp_path: Path) -> None:
    shown = ubp_sql("source", "guess", "public.orders", "--dsn", tables.dsn)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("select step, object, lock from ubp.attach_source('public.orders',")
    assert "advice: create index concurrently on public.orders (who)" in shown.stderr
    found = document("source", "guess", "public.orders", "--dsn", tables.dsn)
    assert found["call"] == shown.stdout
    assert ubp_sql("source", "guess", "bought", "--dsn", tables.dsn).exit_code == 3


@pytest.mark.parametrize("name", ["nix", "a b", "orders; drop table orders", "", "public.", "ubp.events_pkey"])
def test_what_is_no_table(tables: Database, name: str) -> None:
    assert refusal("source", "guess", name, "--dsn", tables.dsn)[:2] == (2, "UB003")


def test_who_may_not_read_it(tables: Database) -> None:
    with tables.connect() as conn:
        conn.execute("create role guess_nobody")
        try:
            conn.execute("set role guess_nobody")
            with pytest.raises(BadInput, match=r"may not read public\.orders"):
                guess_table(conn, "public.orders")
        finally:
            conn.execute("reset role")
            conn.execute("drop role guess_nobody")


def test_without_the_schema(empty_db: Database) -> None:
    empty_db.execute("create table views (user_id int, at timestamptz, action text)")
    empty_db.execute("insert into views select g % 9, now() + g * interval '1 s', 'view' from generate_series(1, 99) g")
    guess = guessed(empty_db, "views")
    assert guess.problem is None
    assert any("ubp_sql is not installed" in note for note in guess.notes)
