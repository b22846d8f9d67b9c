"""Labels in a table of the user's own: what its rows come to, who may name it, and what becomes of it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.api.helpers import FIRST, LAST, ODD_KINDS, Connection, insert, odd_events, refused
from tests.fix_database import Database
from ubp_sql.embedded import Cluster

CUTS = [FIRST + timedelta(days=days) for days in (30, 60, 90, 120)]
HORIZON = timedelta(days=20)
DEFINE = "select ubp.define_task('probe', label => %s, population_kind => %s, horizon => %s)"
SET = "select ubp.training_set('probe', %s::timestamptz[])"
RULE = {"table": "shop.ended", "user": "customer", "time": "at", "value": "amount"}
TABLE = """
create schema shop;
create table shop.ended (customer bigint, at timestamptz, amount numeric, written timestamptz, note text);
insert into shop.ended
  select 1 + g % 14, timestamptz '2023-10-02 07:00+00' + make_interval(hours => 29 * g),
         case when g % 9 > 0 then g % 5 - 1 end, timestamptz '2023-10-03 07:00+00' + make_interval(hours => 29 * g)
    from generate_series(1, 160) g where g % 14 < 7 or g > 60;
grant usage on schema shop to ubp_owner;
grant select on shop.ended to ubp_owner"""
WANTED = """
select r.user_id, r.cut, {value}::double precision
  from ubp.training_probe r
  left join (select coalesce(m.user_id, e.customer) as user_id, e.at, e.amount
               from shop.ended e left join ubp.user_members m on m.member_id = e.customer) e
    on e.user_id = r.user_id and e.at >= r.cut + interval '{gap}'
   and e.at < r.cut + interval '{gap}' + interval '20 days'
 group by r.user_id, r.cut"""
GIVEN = "select user_id, cut, label::double precision from ubp.training_probe"


@pytest.fixture
def conn(db: Database) -> Iterator[Connection]:
    """Odd events, a set of two kinds, and shop.ended."""
    with db.connect() as made:
        insert(made, odd_events())
        made.execute("select ubp.define_feature_set('default', %s, array[7])", [list(ODD_KINDS[:2])])
        made.execute(TABLE.encode())
        yield made


def define(conn: Connection, rule: dict[str, Any], task: str = "probe") -> None:
    conn.execute(DEFINE.replace("probe", task), [json.dumps(rule), ODD_KINDS[0], HORIZON])


def refuse(conn: Connection, sqlstate: str, rule: dict[str, Any]) -> str:
    error = refused(conn, sqlstate, DEFINE, json.dumps(rule), ODD_KINDS[0], HORIZON)
    assert error.diag.message_hint
    return str(error.diag.message_primary)


def agree(conn: Connection, value: str, gap: str = "0") -> set[float]:
    conn.execute(SET, [CUTS])
    found = {row[:2]: row[2] for row in conn.execute(GIVEN)}
    query = WANTED.format(value=value, gap=gap)
    assert found == {row[:2]: row[2] for row in conn.execute(query.encode())}
    return set(found.values())


SUM, SOME = "coalesce(sum(e.amount), 0)", "(count(e.at) > 0)::integer"


@pytest.mark.parametrize(
    ("more", "value", "gap"),
    [
        ({}, SUM, "0"),
        ({"value": None}, SOME, "0"),
        ({"from": "5d"}, SUM, "5 days"),
        ({"known_at": "written"}, SUM, "0"),
    ],
    ids=["sum", "rows", "gap", "known_at"],
)
def test_labels_are_what_sql_says(conn: Connection, more: dict[str, Any], value: str, gap: str) -> None:
    conn.execute("select ubp.link_users('3', '4')")
    define(conn, {**RULE, **more})
    assert len(agree(conn, value, gap)) > 1
    output = "chance" if value == SOME else "amount"
    assert conn.execute("select output, label_kind from ubp.tasks").fetchone() == (output, None)


def test_keys_of_text_and_clocks_without_a_zone(conn: Connection) -> None:
    """Keys are those of loads; a date begins in the set's zone."""
    row = conn.execute("insert into ubp.users (user_key) values ('second') returning user_id").fetchone()
    assert row is not None
    conn.execute("update ubp.events set user_id = %s where user_id = 2", row)
    conn.execute("update ubp.feature_sets set time_zone = 'Asia/Kolkata'")
    conn.execute(
        """create view shop.texts as
           select case customer when 2 then 'second' else customer::text end as customer,
                  (at at time zone 'Asia/Kolkata')::date as at, amount::real as amount from shop.ended
           union all select 'nobody', date '2023-12-01', 5 union all select null, date '2023-12-01', 5"""
    )
    conn.execute("grant select on shop.texts to ubp_owner")
    define(conn, {**RULE, "table": "shop.texts"})
    conn.execute(SET, [CUTS])
    found = {row[:2]: row[2] for row in conn.execute(GIVEN)}
    conn.execute("update shop.ended set customer = %s where customer = 2", row)
    conn.execute(
        "update shop.ended set at = (at at time zone 'Asia/Kolkata')::date::timestamp at time zone 'Asia/Kolkata'"
    )
    assert found == {row[:2]: row[2] for row in conn.execute(WANTED.format(value=SUM, gap="0").encode())}
    assert any(found[row[0], cut] for cut in CUTS if (row[0], cut) in found)


def test_rows_are_matured_as_far_as_the_table_goes(conn: Connection) -> None:
    conn.execute("delete from shop.ended where at > '2024-01-05'")
    define(conn, RULE)
    newest = conn.execute("select max(at) from shop.ended").fetchone()
    assert conn.execute("select ubp.outcomes_until('probe')").fetchone() == newest
    said: list[str] = []
    conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    conn.execute(SET, [CUTS])
    matured = dict(conn.execute("select cut, bool_and(matured) from ubp.training_probe group by cut").fetchall())
    assert newest is not None
    assert matured == {cut: cut + HORIZON <= newest[0] for cut in CUTS}
    [line] = said
    assert "rows are not matured" in line
    assert "2023-12-30 00:00" in line
    refused(conn, "UB005", "select ubp.training_set('probe', %s)", CUTS[-1:])
    conn.execute("insert into shop.ended values (1, 'infinity', 1), (1, '2999-01-01', 1), (2, null, 1)")
    assert conn.execute("select ubp.outcomes_until('probe')").fetchone() == newest, "what is to come was not seen"
    conn.execute("truncate shop.ended")
    assert conn.execute("select ubp.outcomes_until('probe')").fetchone() == (None,)


def test_rows_that_are_written_late_are_no_outcome_yet(conn: Connection) -> None:
    """Each is known 40 days after it happened: of the 40 days before the newest write nothing is known."""
    conn.execute("update shop.ended set written = at + interval '40 days'")
    conn.execute("delete from shop.ended where written > '2024-03-01'")
    define(conn, {**RULE, "known_at": "written"})
    newest = conn.execute("select max(at) from shop.ended").fetchone()
    assert newest is not None
    assert conn.execute("select ubp.outcomes_until('probe')").fetchone() == newest
    conn.execute(SET, [CUTS])
    matured = dict(conn.execute("select cut, bool_and(matured) from ubp.training_probe group by cut").fetchall())
    assert matured == {cut: cut + HORIZON <= newest[0] for cut in CUTS}
    assert set(matured.values()) == {True, False}
    conn.execute("insert into shop.ended values (1, '2024-03-02', 1, 'infinity'), (1, '2024-03-02', 1, null)")
    assert conn.execute("select ubp.outcomes_until('probe')").fetchone() == newest, "what nobody knew yet"


def test_what_cannot_be_a_label(conn: Connection) -> None:
    assert "there is no table shop.gone" in refuse(conn, "UB003", {**RULE, "table": "shop.gone"})
    assert "has no column 'amout'" in refuse(conn, "UB003", {**RULE, "value": "amout"})
    assert "the time, is text" in refuse(conn, "UB003", {**RULE, "time": "note"})
    assert "the value, is text" in refuse(conn, "UB003", {**RULE, "value": "note"})
    assert "the user, is numeric" in refuse(conn, "UB003", {**RULE, "user": "amount"})
    assert "belongs to ubp_sql" in refuse(conn, "UB003", {**RULE, "table": "ubp.events"})
    assert "begins before the cut" in refuse(conn, "UB003", {**RULE, "from": "-7d"})
    conn.execute("create temporary table ended (customer bigint, at timestamptz)")
    schema = conn.execute("select pg_my_temp_schema()::regnamespace::text").fetchone()
    assert schema is not None
    refuse(conn, "UB003", {**RULE, "table": f"{schema[0]}.ended"})
    refused(conn, "UB003", "select ubp.define_task('probe', label => %s)", json.dumps(RULE))  # whom?
    conn.execute("update shop.ended set written = at - interval '1 hour' where amount = 3")
    assert "were known before they happened" in refuse(conn, "UB003", {**RULE, "known_at": "written"})
    conn.execute("create function shop.f(integer) returns integer language sql as 'select 1'")
    conn.execute("create role label_author nologin")
    try:
        conn.execute("alter function shop.f(integer) owner to label_author")
        conn.execute("create view shop.calls as select customer, at, shop.f(1)::numeric as amount from shop.ended")
        conn.execute("grant select on shop.calls to ubp_owner")
        assert "who could replace it" in refuse(conn, "UB003", {**RULE, "table": "shop.calls"})
    finally:
        conn.execute("drop owned by label_author cascade; drop role label_author")


def test_who_may_name_it(db: Database, conn: Connection, cluster: Cluster) -> None:
    conn.execute("create role label_admin login in role ubp_admin")
    try:
        with db.connect(user="label_admin") as other:
            assert "role label_admin may not read" in refuse(other, "UB011", RULE)
            conn.execute("grant usage on schema shop to label_admin")
            conn.execute("grant select (customer, at) on shop.ended to label_admin")
            assert "role label_admin may not read" in refuse(other, "UB011", RULE)
            conn.execute("grant select (amount) on shop.ended to label_admin")
            conn.execute("revoke select on shop.ended from ubp_owner")
            assert "role ubp_owner, which trains, may not" in refuse(other, "UB011", RULE)
            conn.execute("grant select on shop.ended to ubp_owner")
            define(other, RULE)
            assert len(agree(conn, SUM)) > 1
    finally:
        conn.execute("drop owned by label_admin; drop role label_admin")


def test_what_becomes_of_it(conn: Connection) -> None:
    define(conn, RULE)
    define(conn, RULE)
    changes = {
        "alter table shop.ended rename to over": "is gone",
        "alter table shop.ended rename column at to when_it_was": "is gone",
        "alter table shop.ended alter column customer type text": "was bigint and is text",
        "revoke select on shop.ended from ubp_owner": "permission denied",
        "alter table shop.ended enable row level security": "has row security",
        "drop table shop.ended": "is gone",
    }
    for statement, why in changes.items():
        with conn.transaction(force_rollback=True):
            conn.execute(statement.encode())
            with conn.transaction(force_rollback=True):
                error = refused(conn, "UB015", SET, CUTS)
            assert why in str(error.diag.message_primary), statement
            assert error.diag.message_hint
    assert len(agree(conn, SUM)) > 1


def test_a_table_that_features_read_too(conn: Connection) -> None:
    """An order is a feature from its time on; that it will come back must not be told before it does."""
    conn.execute(
        "create table shop.orders"
        " (number integer primary key, customer bigint, placed timestamptz, returned timestamptz)"
    )
    conn.execute("grant select on shop.orders to ubp_owner, ubp_reader; grant usage on schema shop to ubp_reader")
    conn.execute("select * from ubp.attach_source('shop.orders', 'customer', 'placed', %s, event_id => 'number')",
                 ["'" + ODD_KINDS[1].replace("'", "''") + "'"])  # fmt: skip
    back = {"table": "shop.orders", "user": "customer", "time": "returned"}
    assert "is read for features too, as source shop.orders" in refuse(conn, "UB003", back)
    conn.execute(
        "create view shop.returns as select customer, returned, placed from shop.orders where returned is not null"
    )
    conn.execute("grant select on shop.returns to ubp_owner")
    assert "is read for features too" in refuse(conn, "UB003", {**back, "table": "shop.returns"})
    define(conn, {**back, "time": "placed"}, "at_its_time")
    conn.execute("select ubp.detach_source('shop.orders')")
    define(conn, back, "detached")


def test_a_table_that_features_came_to_read(conn: Connection) -> None:
    """Attached after the task was defined on it."""
    conn.execute("alter table shop.ended add number integer generated always as identity primary key")
    conn.execute("grant select on shop.ended to ubp_reader; grant usage on schema shop to ubp_reader")
    define(conn, RULE)
    attach = "select * from ubp.attach_source('shop.ended', 'customer', %s, %s, event_id => 'number')"
    kind = "'" + ODD_KINDS[1].replace("'", "''") + "'"
    conn.execute(attach, ["written", kind])
    for query, arguments in ((SET, [CUTS]), ("select ubp.outcomes_until('probe')", [])):
        error = refused(conn, "UB015", query, *arguments)
        assert "is read for features too, as source shop.ended" in str(error.diag.message_primary)
    conn.execute("select ubp.detach_source('shop.ended')")
    conn.execute(attach, ["at", kind])
    assert len(agree(conn, SUM)) > 1


SPY = """
create table shop.log (who text);
grant insert on shop.log to public;
create function shop.spy() returns boolean language plpgsql as $$ begin
  insert into shop.log values (current_user::text);
  return true;
end $$;
create table shop.theirs as select customer, at from shop.ended;
create policy p on shop.theirs using (shop.spy());
create view shop.seen as select customer, at from shop.theirs;
grant select on shop.seen to ubp_owner;
create role label_author nologin;
alter function shop.spy() owner to label_author;
alter table shop.theirs owner to label_author;
alter view shop.seen owner to label_author"""


def test_no_row_policy_runs_with_our_rights(conn: Connection) -> None:
    """The owner of a table below the view could put anything there."""
    rule = {"table": "shop.seen", "user": "customer", "time": "at"}
    conn.execute(SPY)
    try:
        conn.execute("alter table shop.theirs enable row level security")  # of which its owner is free
        define(conn, rule)
        conn.execute("select ubp.outcomes_until('probe')")
        conn.execute("alter table shop.theirs force row level security")
        for query, arguments in ((SET, [CUTS]), ("select ubp.outcomes_until('probe')", [])):
            error = refused(conn, "UB015", query, *arguments)
            assert "calls shop.spy() (policy p of shop.theirs)" in str(error.diag.message_primary)
        assert "(policy p of shop.theirs)" in refuse(conn, "UB003", rule)
        assert conn.execute("select count(*) from shop.log").fetchone() == (0,)
    finally:
        conn.execute("drop owned by label_author cascade; drop role label_author")


def test_no_task_takes_a_name_of_ours(conn: Connection) -> None:
    """ubp.predict_<task> and ubp.explain_<task> are made for it."""
    found = conn.execute(
        "select distinct substr(proname, 9) from pg_proc"
        " where pronamespace = 'ubp'::regnamespace and proname ~ '^(predict|explain)_'"
    )
    names = {name for (name,) in found}
    assert {"many", "if", "interval", "set"} <= names
    for name in sorted(names):
        refused(conn, "UB003", "select ubp.define_task(%s, %s)", name, ODD_KINDS[0])


def test_a_table_of_other_kinds_may_be_one(conn: Connection) -> None:
    conn.execute(
        "create table shop.visits (number integer primary key, customer bigint, came timestamptz, went timestamptz)"
    )
    conn.execute("grant select on shop.visits to ubp_owner")
    conn.execute(
        "select * from ubp.attach_source('shop.visits', 'customer', 'came', '''visit''', event_id => 'number')"
    )
    define(conn, {"table": "shop.visits", "user": "customer", "time": "went"})


def test_the_newest_moment(conn: Connection) -> None:
    define(conn, RULE)
    until = conn.execute("select ubp.outcomes_until('probe')").fetchone()
    assert until is not None
    assert until[0] < LAST.astimezone(UTC) < datetime.now(UTC)
    with pytest.raises(psycopg.Error, match="unknown task"):
        conn.execute("select ubp.outcomes_until('nothing')")
