"""Connections to clones of one small database that serves: making it anew for each test would take most of the time."""

from collections.abc import Iterator

import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database, clone, clone_filled
from tests.serving_shop import fill
from ubp_sql.embedded import Cluster


@pytest.fixture(scope="session")
def served_database(cluster: Cluster, installed: str) -> Iterator[Database]:
    with clone_filled(cluster, installed, fill) as made:
        yield made


@pytest.fixture
def serving(served_database: Database, cluster: Cluster) -> Iterator[Connection]:
    with clone(cluster, served_database.name) as made, made.connect() as conn:
        yield conn


@pytest.fixture(scope="module")
def refusing(served_database: Database, cluster: Cluster) -> Iterator[Connection]:
    """For tests that change nothing: one for all of them."""
    with clone(cluster, served_database.name) as made, made.connect() as conn:
        yield conn
