"""A log with all that a log can have, a set of every aggregate with some standard ones, a model of all its features."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.api.helpers import Connection, add_sources, feature_names, register, tiny_model
from tests.features.spec_cases import AS_OF, BUY, COLUMNS, ZONES, cases, log
from tests.fix_database import Database, create, drop
from tests.live.helpers import HOLIDAYS, insert
from ubp_sql.embedded import Cluster


def at_limits() -> list[tuple[Any, ...]]:
    """User 20: pauses, stays and steps that meet their limits (8 hours, 1 and 2 days, 3 days) exactly or just not."""
    begun, hair = AS_OF - timedelta(days=10), timedelta(microseconds=1)
    hours = [(0, "view"), (8, "view"), (48, "cart"), (72, BUY), (96, "view"), (120, "view"), (128, "view")]
    times = [(begun + timedelta(hours=after), kind) for after, kind in hours]
    times += [(begun + timedelta(hours=16) + hair, "view"), (begun + timedelta(hours=152) + hair, "view")]
    return [(20, time, kind, 1, 5.0, None, None, None, time, 0) for time, kind in times]


@pytest.fixture(scope="session")
def logged(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Features as of AS_OF; tests roll back what they change."""
    made = create(cluster, installed)
    with made.connect() as conn:
        add_sources(conn, ZONES)
        for column in COLUMNS:
            conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
        insert(conn, [*log(), *at_limits()])
        conn.execute(HOLIDAYS)
        conn.execute("select ubp.define_feature_set('default', array['view', 'it''s 100%'], array[30])")
        conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(cases())])
        conn.execute("select ubp.build_mirror()")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'view')")
        register(conn, "purchase", tiny_model(feature_names(made)))
        conn.execute("select ubp.deploy_model('purchase', 1)")
    yield made
    drop(made)


@pytest.fixture(scope="session")
def kept(logged: Database) -> Iterator[Connection]:
    """A session for many calls, which keeps the set's plan."""
    with logged.connect() as conn:
        yield conn


@pytest.fixture(scope="session")
def names(logged: Database) -> list[str]:
    """The features of the task in their order."""
    return feature_names(logged)
