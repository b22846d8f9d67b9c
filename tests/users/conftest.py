"""Fixtures: `keyed`, a small log whose users have integer and text keys, with features and a model that answers."""

from collections.abc import Iterator

import pytest

from tests.fix_database import Database, create, drop
from tests.users.helpers import fill
from ubp_sql.embedded import Cluster


@pytest.fixture(scope="session")
def keyed_template(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    with made.connect() as conn:
        fill(conn)
    yield made
    drop(made)


@pytest.fixture
def keyed(cluster: Cluster, keyed_template: Database) -> Iterator[Database]:
    """A copy that a test may change."""
    made = create(cluster, keyed_template.name)
    yield made
    drop(made)
