"""A few kills at random moments; `make chaos` does hundreds."""

import pytest

from tests.fix_database import Database
from tests.sources.chaos import KEPT, run


def test_killed_loads_leave_what_an_undisturbed_one_does(db: Database) -> None:
    assert run(db, kills=8, seed=3)["kills"] >= 8


def test_a_row_too_many_is_noticed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: parts that are forgotten are loaded twice."""
    monkeypatch.setattr("ubp_sql.sources.load.known_ends", lambda cursor, source: {})
    with pytest.raises(AssertionError):
        run(db, kills=200, seed=3)  # to the first kill that leaves parts behind
    assert "ubp.loads" in KEPT
