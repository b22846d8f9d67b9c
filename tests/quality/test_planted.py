"""Faults that are put into a simulated log are found, and nothing else is."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.fix_database import Database
from tests.quality import planted

EXPECTED = {"duplicates": 1, "bots": 1, "gaps": 1, "outliers": 1, "swapped_dates": 1}


def finds_exactly(db: Database, folder: Path, users: int, days: int, seed: int) -> None:
    with db.connect() as conn:
        planted.fill(conn, folder, users, days, seed)
        assert planted.check(conn) == {}, "the log is clean"
        made = planted.plant(conn, seed)
        assert planted.check(conn) == EXPECTED
        assert planted.flagged(conn) == made.events
        gap = conn.execute(
            "select from_time, until_time, severity from ubp.quality_findings where rule = 'gaps'"
        ).fetchone()
    assert made.silence is not None
    assert gap is not None
    begin, end, severity = gap
    # Of a shop that sleeps at two, the hours before and after may have been silent anyway.
    assert made.silence[0] - timedelta(hours=8) < begin <= made.silence[0]
    assert made.silence[1] <= end < made.silence[1] + timedelta(hours=12)
    assert severity == "high"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_faults_are_found_and_nothing_else(db: Database, tmp_path: Path, seed: int) -> None:
    finds_exactly(db, tmp_path, users=900, days=110, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_planted_faults_in_a_million_events(db: Database, tmp_path: Path, seed: int) -> None:
    finds_exactly(db, tmp_path, users=22_000, days=365, seed=seed)


@pytest.mark.slow
def test_the_real_log(db: Database, online_retail: Path) -> None:
    """Online Retail: what a person who looks at it would say too (docs/quality.md)."""
    from ubp_sql.sources.load import load_file
    from ubp_sql.sources.load_map import LoadMap

    with db.connect() as conn:
        load_file(conn, online_retail, LoadMap.from_file("online_retail"))
        assert planted.check(conn) == {"duplicates": 1, "outliers": 2, "gaps": 5}
        high = conn.execute("select count(*) from ubp.quality_findings where severity = 'high'").fetchone()
        flags = planted.flagged(conn)
    assert high == (0,)
    assert len(flags["duplicates"]) == 5_227
    assert len(flags["outliers"]) == 6, "80,995 and 74,215 pieces, and four lines at 0.001"
