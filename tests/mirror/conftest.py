"""Fixtures: `log`, an installed database with a session of many small chunks, read by mirror and by rows."""

from collections.abc import Iterator

import pytest

from tests.fix_database import Database
from tests.mirror.helpers import Log


@pytest.fixture
def log(db: Database) -> Iterator[Log]:
    """A database whose chunks, portions and batches hold a handful of events."""
    with db.connect() as conn:
        found = Log(db, conn)
        found.small()
        yield found
