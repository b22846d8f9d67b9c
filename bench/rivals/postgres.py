"""Plain SQL in the same server, over a table of its own with an index that covers the query."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from bench.event_log import F64, I64
from bench.features25 import FEATURES
from bench.rivals import sql_pairs, sql_text

_TABLE = "bench.events"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# JIT compiles for as long as it saves; parallel plans are priced so that the planner takes one where there is one.
ALONE = ("jit = off", "work_mem = '512MB'", "max_parallel_workers_per_gather = 0")
PARALLEL = (
    "jit = off",
    "work_mem = '512MB'",
    "max_parallel_workers_per_gather = 2",
    "parallel_setup_cost = 10",
    "parallel_tuple_cost = 0.001",
    "min_parallel_table_scan_size = 0",
    "min_parallel_index_scan_size = 0",
)
FORMS = {"filter": sql_text.filter_form, "split": sql_text.split_form}


class PlainSQL:
    """Rows are computed and thrown away in the server (EXPLAIN ANALYZE without clocks): nothing is sent to a client."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn

    def snapshot(self, form: str, as_of_us: int, settings: tuple[str, ...]) -> float:
        """Seconds of the features of every user at one moment."""
        self.set(settings)
        return self.timed(f"explain (analyze, timing off) {self.query(form, as_of_us)}")

    def query(self, form: str, as_of_us: int) -> str:
        """The query's text."""
        return FORMS[form](sql_text.POSTGRES, _TABLE, f"to_timestamp({as_of_us // 1_000_000})")

    def answer(self, form: str, as_of_us: int) -> tuple[I64, F64]:
        """Users ascending, and (users, 25) features, NaN for NULL."""
        self.set(ALONE)
        with self.conn.cursor(binary=True) as cursor:
            rows = cursor.execute(f"select * from ({self.query(form, as_of_us)}) q order by user_id").fetchall()
        return np.array([row[0] for row in rows], np.int64), _table(rows)

    def load_pairs(self, user: I64, moment_us: I64) -> None:
        """Pairs to be asked for, in the session's own table."""
        self.conn.execute("drop table if exists pg_temp.pairs")
        self.conn.execute("create temp table pairs (pair bigint, user_id bigint, moment timestamptz)")
        with self.conn.cursor() as cursor, cursor.copy("copy pg_temp.pairs from stdin") as target:
            for pair, (who, when) in enumerate(zip(user.tolist(), moment_us.tolist(), strict=True)):
                target.write_row((pair, who, _EPOCH + timedelta(microseconds=when)))
        self.conn.execute("analyze pg_temp.pairs")

    def pairs(self, settings: tuple[str, ...]) -> float:
        """Seconds of the features of the loaded pairs."""
        self.set(settings)
        return self.timed(f"explain (analyze, timing off) {sql_pairs.lateral_form('pg_temp.pairs')}")

    def answer_pairs(self) -> F64:
        """(pairs, 25) features of the loaded pairs, in their order."""
        self.set(ALONE)
        with self.conn.cursor(binary=True) as cursor:
            rows = cursor.execute(f"{sql_pairs.lateral_form('pg_temp.pairs')} order by p.pair").fetchall()
        return _table(rows)

    def set(self, settings: tuple[str, ...]) -> None:
        """These settings and no others."""
        self.conn.execute("reset all")
        for setting in settings:
            self.conn.execute(f"set {setting}")

    def timed(self, statement: str) -> float:
        """Seconds as the client sees them."""
        started = time.perf_counter()
        self.conn.execute(statement)
        return time.perf_counter() - started


def _table(rows: list[tuple[Any, ...]]) -> F64:
    """Rows but for their first column, NaN for NULL."""
    table = np.array([[np.nan if v is None else v for v in row[1:]] for row in rows], np.float64)
    return table.reshape(len(rows), len(FEATURES))
