"""Fixtures: `shop`, a log of few items with declared columns of theirs, in chunks of a handful of events."""

from collections.abc import Iterator

import pytest

from tests.fix_database import Database
from tests.items.helpers import COLUMNS
from tests.mirror.helpers import Log


@pytest.fixture
def log(db: Database) -> Iterator[Log]:
    """A database without events; columns price (a number), category (a text) and tags (words) are of the item."""
    with db.connect() as conn:
        found = Log(db, conn)
        found.small()
        for column in COLUMNS:
            found.run("select ubp.define_event_column(%s, %s, %s, 'item')", *column)
        yield found
