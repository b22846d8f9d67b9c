"""A log with all that a log can have, a set of every aggregate with some standard ones, a model of all its features."""

import json
from collections.abc import Iterator

import pytest

from tests.api.helpers import Connection, feature_names, register, tiny_model
from tests.features.spec_cases import AS_OF, COLUMNS, ZONES, cases, log
from tests.fix_database import Database, create, drop
from tests.live.helpers import HOLIDAYS, insert
from ubp_sql.embedded import Cluster


@pytest.fixture(scope="session")
def logged(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Features as of AS_OF; tests roll back what they change."""
    made = create(cluster, installed)
    with made.connect() as conn:
        for source, zone in ZONES.items():
            conn.execute(
                "insert into ubp.sources (source_id, name, time_zone) values (%s, %s, %s) on conflict do nothing",
                [source, f"source {source}", zone],
            )
        for column in COLUMNS:
            conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
        insert(conn, log())
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
