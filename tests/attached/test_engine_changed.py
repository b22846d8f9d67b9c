"""A source that is no longer what it was: whoever has to read it says so in one line, with a way out."""

from datetime import timedelta

import psycopg
import pytest

from tests.attached.engine import CLICKS, ORDERS, Connection, attach, create
from tests.fix_database import Database
from tests.refresh.helpers import KINDS, START

READERS = {
    "refresh": "select * from ubp.refresh_features(%(at)s)",
    "live": "select ubp.feature_vector(1, %(at)s, 'default')",
    "parity": "select * from ubp.parity_check(10)",
    "plan": "select * from ubp.refresh_features(%(at)s, dry_run => true)",
    "kinds": "select ubp.define_feature_set('other')",
    "sequence": "select * from ubp.sequence(1, 5, %(at)s)",
    "training": "select * from ubp.training_matrix('purchase', array[%(at)s], interval '1 day')",
}
CHANGES = {
    "dropped": ("drop table shop.orders cascade", "gone"),
    "renamed": ("alter table shop.orders rename to sales", "is called shop.sales now"),
    "column": ("alter table shop.orders rename column customer to buyer", "column customer of shop.orders is gone"),
    "revoked": ("revoke select on shop.orders from ubp_owner, ubp_reader", "may not read shop.orders"),
    "schema": ("revoke usage on schema shop from ubp_owner, ubp_reader", "may not use schema shop"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mirror", [True, False])
def test_every_reader_says_so(db: Database, change: str, mirror: bool) -> None:
    statement, said = CHANGES[change]
    with db.connect() as conn:
        for of in (ORDERS, CLICKS):
            create(conn, of)
        conn.execute("select ubp.define_feature_set('default', %s, array[7])", [KINDS])
        attach(conn, ORDERS)
        row = "insert into shop.orders values (%s, 1, %s, %s, 1, 2, null, '')"
        conn.execute(row, [1, START - timedelta(days=1), "purchase"])
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        conn.execute("select * from ubp.refresh_features(%s)", [START])
        conn.execute("select ubp.define_task('purchase', 'purchase', 'purchase', interval '1 day')")
        conn.execute(row, [2, START - timedelta(days=1), "cart"])
        conn.execute(statement.encode())
        answered = {name for name, query in READERS.items() if _answers(conn, query, said)}
        # What the mirror holds and no log row speaks of needs no relation.
        assert answered <= {"training", "sequence", "kinds", "plan"}, answered
        if change == "renamed":
            conn.execute("select * from ubp.watch_sources()")
        elif change == "revoked":
            conn.execute("grant select on shop.orders to ubp_owner, ubp_reader")
        elif change == "schema":
            conn.execute("grant usage on schema shop to ubp_owner, ubp_reader")
        else:
            conn.execute("select * from ubp.detach_source('shop.orders')")
            attach(conn, CLICKS)
            conn.execute(
                "insert into shop.clicks values (gen_random_uuid(), gen_random_uuid(), %s, 'view')", ["2025-01-01"]
            )
        conn.execute("select * from ubp.refresh_features(%s)", [START])
        assert conn.execute("select * from ubp.verify_mirror()").fetchall() == [] or not mirror


def _answers(conn: Connection, query: str, said: str) -> bool:
    """Whether it does; else the error is ours."""
    try:
        conn.execute(query.encode(), {"at": START})
    except psycopg.Error as error:
        found = error
    else:
        return True
    assert found.sqlstate == "UB015", (query, str(found))
    assert said in str(found.diag.message_primary), query
    assert found.diag.message_hint
    return False
