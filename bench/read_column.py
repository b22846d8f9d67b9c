"""One column of ubp.user_features over a million users, beside a plain table of the same real columns."""

from functools import partial
from typing import Any

import psycopg

from bench import ours, settings
from bench.event_log import END_US
from bench.features25 import FEATURES
from bench.rounds import rounds
from bench.snapshot import timed
from bench.stored import stored

EVENTS, USERS, ROUNDS = 3_000_000, 1_000_000, 5
MOST = 2.0
COLUMNS = ("count_purchase_7d", "mean_purchase_90d", "days_since_view", "decayed_sum_purchase")
"""The first of the row, one in the middle, one that ages with time alone, the last."""


def run() -> dict[str, Any]:
    """Sums are compared first; both read everything from memory, as far as it fits."""
    size = settings.size(EVENTS, USERS)
    conn = stored(size)
    ours.prepare(conn)
    conn.execute("delete from ubp.feature_rows")
    conn.execute("vacuum ubp.feature_rows")  # else every run of the bench would leave its old rows behind
    ours.refresh_everybody(conn, f"to_timestamp({END_US // 1_000_000})")
    conn.execute("drop table if exists bench.plain")
    columns = ", ".join(f"{feature.name}::real" for feature in FEATURES)
    conn.execute(f"create table bench.plain as select user_id, {columns} from ubp.user_features")
    conn.execute("vacuum analyze bench.plain")
    conn.execute("vacuum analyze ubp.feature_rows")
    rows, bars = [], {}
    for column in COLUMNS:
        tables = {"view": "ubp.user_features", "table": "bench.plain"}
        queries = {name: f"select sum({column}) from {table}" for name, table in tables.items()}
        sums = {name: _exact_sum(conn, column, table) for name, table in tables.items()}
        if abs(sums["view"] - sums["table"]) > 1e-9 * abs(sums["table"]):
            raise SystemExit(f"{column}: the view sums to {sums['view']}, the table to {sums['table']}")
        timings = rounds({name: partial(timed, conn, query) for name, query in queries.items()}, settings.count(ROUNDS))
        ratio = timings["view"].median / timings["table"].median
        rows += [{"column": column, "of": name, **timing.row()} for name, timing in timings.items()]
        bars[f"{column}: {ratio:.2f}x <= {MOST}x of a plain table"] = ratio <= MOST
    return {"rows": rows, "bars": bars, "size": str(size)}


def _exact_sum(conn: psycopg.Connection[Any], column: str, table: str) -> float:
    """In double precision: the sum of real values is real, and depends on their order."""
    found = conn.execute(f"select sum({column}::float8) from {table}").fetchone()
    return float(found[0]) if found else 0.0
