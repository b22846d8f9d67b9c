"""What a relation may become, or hold, without an event being lost, kept too long, or read from somewhere else."""

from datetime import timedelta

import psycopg
import pytest

from tests.attached.engine import CLICKS, ORDERS, Connection, attach, create
from tests.fix_database import Database
from tests.refresh.helpers import KINDS, START

ORDER = "insert into shop.orders values (%s, %s, %s, 'view', 1, 2, null, 'new')"
BEFORE = START - timedelta(days=1)
TEXTS = CLICKS._replace(columns=CLICKS.columns.replace("visitor uuid", "visitor text"))


def held(conn: Connection) -> int:
    """Events in the mirror, while it holds what it should."""
    assert conn.execute("select * from ubp.verify_mirror()").fetchall() == []
    conn.execute("select * from ubp.compact_mirror()")
    row = conn.execute("select coalesce(sum(events), 0)::integer from ubp.mirror_runs").fetchone()
    assert row is not None
    return int(row[0])


def test_a_time_to_come_does_not_hide_what_comes_before(db: Database) -> None:
    with db.connect() as conn:
        create(conn, ORDERS)
        conn.execute("create view shop.seen as select * from shop.orders")
        attach(conn, ORDERS._replace(name="seen", ingested_at=None, event_id="id::text"))
        conn.execute(ORDER, [1, 1, BEFORE])
        conn.execute("select ubp.build_mirror()")
        conn.execute(ORDER, [2, 2, "2099-01-01"])
        conn.execute("select ubp.build_mirror()")
        conn.execute("insert into shop.orders values (3, 3, now() - interval '1 minute', 'view', 1, 2, null, 'new')")
        conn.execute("select ubp.build_mirror()")
        assert held(conn) == 2
        # As an earlier release left it.
        conn.execute("update ubp.attached_sources set watermark_at = 4070908800000000")
        conn.execute("insert into shop.orders values (4, 4, now() - interval '1 minute', 'view', 1, 2, null, 'new')")
        conn.execute("select ubp.build_mirror()")
        assert held(conn) == 3


def test_an_id_that_is_missing_means_everything(db: Database) -> None:
    with db.connect() as conn:
        create(conn, ORDERS)
        source = attach(conn, ORDERS)
        conn.execute(ORDER, [1, 1, BEFORE])
        conn.execute("select ubp.define_feature_set('default', %s, array[7])", [KINDS])
        conn.execute("select * from ubp.refresh_features(%s)", [START])
        conn.execute("insert into ubp.event_log (op, origin) values ('I', %s)", [source])
        conn.execute("select ubp.feature_vector(1, %s, 'default')", [START])
        row = conn.execute("select detail from ubp.refresh_features(%s)", [START]).fetchone()
        assert row is not None
        assert row[0].startswith("everybody")
        assert held(conn) == 1


READERS = {
    "live": "select ubp.feature_vector(1, %(at)s, 'default')",
    "refresh": "select * from ubp.refresh_features(%(at)s)",
    "parity": "select * from ubp.parity_check(10)",
}
VIEW = (
    "create view shop.orders as select shop.spy(id) as id, customer, at, what, sku, price, seen, state from shop.kept"
)
SWAPS = {
    "view": ["alter table shop.orders rename to kept", VIEW],
    "table": ["alter table shop.orders rename to kept", "create table shop.orders (like shop.kept)"],
    "schema": ["create schema other", "alter table shop.orders set schema other"],
    "rule": [
        "create table shop.kept as table shop.orders",
        "delete from shop.orders",
        "alter table shop.orders drop constraint orders_pkey, alter id drop not null",
        "drop trigger ubp_insert on shop.orders",
        "drop trigger ubp_update on shop.orders",
        "drop trigger ubp_delete on shop.orders",
        "drop trigger ubp_truncate on shop.orders",
        "vacuum shop.orders",
        'create rule "_RETURN" as on select to shop.orders do instead '
        + VIEW.split(" as ", 1)[1].replace("customer,", "customer::integer,"),
    ],
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("mirror", [True, False])
def test_another_relation_of_the_name_is_not_read(db: Database, swap: str, mirror: bool) -> None:
    """Whatever it would call, with the rights of whoever reads."""
    with db.connect() as conn:
        create(conn, ORDERS)
        conn.execute("create table shop.runs (who text)")
        conn.execute(
            "create function shop.spy(integer) returns integer language sql volatile security definer as"
            " 'insert into shop.runs values (current_user) returning $1'"
        )
        conn.execute("select ubp.define_feature_set('default', %s, array[7])", [KINDS])
        attach(conn, ORDERS)
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        conn.execute(ORDER, [1, 1, BEFORE])
        conn.execute("select * from ubp.refresh_features(%s)", [START])
        conn.execute(ORDER, [2, 1, BEFORE])
        conn.execute(READERS["live"], {"at": START})
        for statement in SWAPS[swap]:
            conn.execute(statement.encode())
        if swap != "schema":
            conn.execute("grant select on shop.orders to ubp_owner, ubp_reader")
        for name, query in READERS.items():
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(query.encode(), {"at": START + timedelta(hours=1)})
            assert caught.value.sqlstate == "UB015", name
            assert caught.value.diag.message_hint
        assert conn.execute("select * from shop.runs").fetchall() == []
        conn.execute("select * from ubp.detach_source('shop.orders')")
        conn.execute("select * from ubp.refresh_features(%s)", [START])
        assert conn.execute("select * from ubp.all_events").fetchall() == []


def test_keys_with_spaces(db: Database) -> None:
    """Users' are nobody and reported, items' are trimmed; an expression takes such users."""
    row = "insert into shop.clicks values (gen_random_uuid(), %s, %s, 'view', %s)"
    with db.connect() as conn:
        create(conn, TEXTS)
        attach(conn, TEXTS)
        for user, item in (
            ("anna", "mug"),
            ("anna ", "mug"),
            (" anna", "mug"),
            ("   ", "mug"),
            ("", "m"),
            ("bo", " mug "),
        ):
            conn.execute(row, [user, START.replace(tzinfo=None), item])
        conn.execute("select ubp.build_mirror()")
        assert held(conn) == 2
        assert conn.execute("select user_key from ubp.users order by 1").fetchall() == [("anna",), ("bo",)]
        assert conn.execute("select item_key from ubp.items").fetchall() == [("mug",)]
        found = conn.execute("select reason, rows from ubp.source_report('shop.clicks')").fetchall()
        assert {reason.partition(":")[0]: n for reason, n in found} == {
            "event": 2,
            "no user": 2,
            "spaces around the user key": 2,
        }
        conn.execute("select * from ubp.detach_source('shop.clicks')")
        attach(conn, TEXTS._replace(user_id="btrim(visitor)"))
        conn.execute("select ubp.build_mirror()")
        conn.execute(row, ["  anna", START.replace(tzinfo=None), "mug"])
        conn.execute("select ubp.build_mirror()")
        assert held(conn) == 5
        assert conn.execute(
            "select count(*) from ubp.all_events where user_id = ubp.resolve_user('anna')"
        ).fetchall() == [(4,)]
