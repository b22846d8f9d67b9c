"""Fixtures: a database of the second tier, and the two tiers side by side on one log."""

from collections.abc import Iterator

import pytest

from tests.fix_database import Database, drop
from tests.sql_tier.helpers import bare
from ubp_sql.embedded import Cluster


@pytest.fixture
def tier(cluster: Cluster) -> Iterator[Database]:
    """An empty database without PL/Python, of a role that is no superuser."""
    made = bare(cluster)
    yield made
    drop(made)


@pytest.fixture(scope="module")
def shared_tier(cluster: Cluster) -> Iterator[Database]:
    """The same for a module."""
    made = bare(cluster)
    yield made
    drop(made)
