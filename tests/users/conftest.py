"""Fixtures: `keyed`, a small log whose users have integer and text keys, with features and a model that answers."""

from collections.abc import Iterator

import pytest

from tests.fix_database import Database, clone, clone_filled
from tests.users.helpers import fill
from ubp_sql.embedded import Cluster


@pytest.fixture(scope="session")
def keyed_template(cluster: Cluster, installed: str) -> Iterator[Database]:
    with clone_filled(cluster, installed, fill) as made:
        yield made


@pytest.fixture
def keyed(cluster: Cluster, keyed_template: Database) -> Iterator[Database]:
    """A copy that a test may change."""
    with clone(cluster, keyed_template.name) as made:
        yield made
