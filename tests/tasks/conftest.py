"""Fixtures of the task tests: odd events, some of them in an attached table, of users who are linked in part."""

from collections.abc import Iterator

import pytest

from tests.api.helpers import ODD_KINDS, ZONES, Connection, add_sources, insert, odd_events
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster

ATTACHED = "rented"
ZONE = "Europe/Berlin"
# Of users 1 to 12, who have events in ubp.events too, at the moments of some of them.
RENTED = """
create schema lab;
create table lab.rentals (rental integer primary key, customer bigint, at timestamptz, fee numeric);
insert into lab.rentals
  select g, 1 + g % 12, timestamptz '2023-10-03 05:00+00' + make_interval(hours => 41 * g), g % 7 - 2
    from generate_series(1, 110) g"""


@pytest.fixture(scope="module")
def odd_db(cluster: Cluster, installed: str) -> Iterator[Database]:
    """The set knows two of the five kinds, one of them attached; users 5 and 6 are one person, and so are 7 and 8."""
    made = create(cluster, installed)
    with made.connect() as conn:
        add_sources(conn, ZONES)
        insert(conn, odd_events())
        conn.execute(RENTED)
        attach = (
            "select * from ubp.attach_source('lab.rentals', 'customer', 'at', %s, value => 'fee', event_id => 'rental')"
        )
        conn.execute(attach, [f"'{ATTACHED}'"])
        conn.execute("select ubp.define_event_column('order_text', 'order_id', 'text')")
        conn.execute("select ubp.define_feature_set('default', %s, array[7, 30], %s)", [[ODD_KINDS[0], ATTACHED], ZONE])
        count = "select ubp.define_feature('count_all', 'count', %s, feature_set => 'plain')"
        conn.execute(count, [[ODD_KINDS[0]]])
        for one, other in ((5, 6), (7, 8)):
            conn.execute("select ubp.link_users(%s::text, %s::text)", [str(one), str(other)])
        conn.execute(
            "insert into ubp.calendar (day, name) select '2024-01-10'::date + g, 'off' from generate_series(1, 9) g"
        )
    yield made
    drop(made)


@pytest.fixture(scope="module")
def odd(odd_db: Database) -> Iterator[Connection]:
    """One session for the module: each new one would load the engine anew."""
    with odd_db.connect() as conn:
        yield conn
