"""Fixtures of the training tests: a database of odd events with two tasks, and one session for it."""

from collections.abc import Iterator

import pytest

from tests.api.helpers import ODD_KINDS, ZONES, Connection, add_sources, insert, odd_events
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster

WINDOWS = (1, 7, 30)
ZONE = "Europe/Berlin"  # its clock changes within the events' time


@pytest.fixture(scope="module")
def odd_db(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A dozen users with ties, late arrivals and four clocks; tasks `same` and `other` (population another kind)."""
    made = create(cluster, installed)
    with made.connect() as conn:
        add_sources(conn, ZONES)
        insert(conn, odd_events())
        conn.execute("select ubp.define_feature_set('default', %s, %s, %s)", [list(ODD_KINDS), list(WINDOWS), ZONE])
        conn.execute("select ubp.define_task('same', %s, horizon => '20 days')", [ODD_KINDS[0]])
        conn.execute("select ubp.define_task('other', %s, %s, '36 hours')", [ODD_KINDS[1], ODD_KINDS[2]])
    yield made
    drop(made)


@pytest.fixture(scope="module")
def odd(odd_db: Database) -> Iterator[Connection]:
    """One session for the module: each new one would import Numba anew."""
    with odd_db.connect() as conn:
        yield conn
