"""Work on whole populations without Numba: no import and no compilation that nobody can cancel, and the same bits."""

from typing import Any

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.live.helpers import NO_LIBRARY

AS_OF = "2025-07-20 00:00+00"
PROBE = """create function pg_temp.loaded() returns text[] language plpython3u as $$
import sys
return sorted({"numba", "llvmlite", "lightgbm"} & {name.split(".")[0] for name in sys.modules})
$$"""
JOBS = (
    f"select * from ubp.refresh_features('{AS_OF}')",
    "select ubp.training_set('purchase', array[timestamptz '2025-06-01 00:00+00'])",
    "select * from ubp.score_users('purchase')",
    "select what, users from ubp.parity_check(50)",
    "select count(*) from ubp.sequence_matrix(5)",
)
STORED = (
    "select r::text from ubp.feature_rows r order by feature_set_id, user_id",
    "select r::text from ubp.training_purchase r order by user_id, cut",
    "select row(user_id, score, percentile, reason, as_of)::text from ubp.user_scores order by user_id",
)


def done(conn: Connection) -> list[list[tuple[Any, ...]]]:
    conn.execute("update ubp.feature_sets set stale = true")
    for job in JOBS:
        conn.execute(job.encode())
    return [conn.execute(query.encode()).fetchall() for query in STORED]


def test_no_job_on_a_population_loads_numba(shop: Database) -> None:
    with shop.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute(PROBE)
        for job in JOBS:
            assert conn.execute(job.encode()).fetchall(), job
            assert conn.execute("select pg_temp.loaded()").fetchone() == ([],), job


def test_without_the_library_numba_writes_the_same(shop: Database) -> None:
    with shop.connect() as conn, conn.transaction(force_rollback=True):
        by_the_library = done(conn)
    with shop.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute(PROBE)
        conn.execute(NO_LIBRARY)
        assert done(conn) == by_the_library
        assert conn.execute("select pg_temp.loaded()").fetchone() == (["llvmlite", "numba"],)
