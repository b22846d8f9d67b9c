"""Latency of `predict_purchase(user_id)` beside a primary-key SELECT: pgbench, prepared, both in one run."""

import statistics
from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench import latency
from bench.server import cluster, fresh, load_online_retail
from ubp_sql.training.train import train

MOST = 3.0
MIXED_SECONDS, ROUND_SECONDS, ROUNDS = 15, 2, 5
STATEMENTS = {
    "primary key": "select v from bench_pk where user_id = :u::bigint;",
    "predict_purchase(user_id)": "select ubp.predict_purchase(:u::bigint);",
    "predict_purchase(user_key)": "select ubp.predict_purchase(:u::text);",
}


def run() -> dict[str, Any]:
    """p50 and p99 in microseconds; the model is the demo's own, scores are checked against LightGBM first."""
    server = cluster()
    conn = fresh(server, "bench_predict")
    load_online_retail(conn)
    conn.execute("select * from ubp.refresh_features('2011-12-10 00:00+00')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    model = train(conn, "purchase").model
    _check(conn, model)
    conn.execute("create table bench_pk as select user_id, random() as v from ubp.feature_rows")
    conn.execute("alter table bench_pk add primary key (user_id)")
    conn.execute("vacuum analyze")
    low, high = conn.execute("select min(user_id), max(user_id) from bench_pk").fetchone() or (0, 0)
    trees = conn.execute("select trees from ubp.models").fetchone() or (0,)
    conn.close()
    rows = _pgbench(server.dsn("bench_predict"), low, high)
    base = {row["run"]: row["p50 µs"] for row in rows if row["statement"] == "primary key"}
    for row in rows:
        row["p50 ratio"] = row["p50 µs"] / base[row["run"]]
    bars = {
        f"{row['run']}: p50 {row['p50 ratio']:.2f}x <= {MOST}x a primary-key SELECT": row["p50 ratio"] <= MOST
        for row in rows
        if row["statement"] == "predict_purchase(user_id)"
    }
    return {"rows": rows, "bars": bars, "trees": trees[0]}


def _check(conn: psycopg.Connection[Any], model: str) -> None:
    booster = lightgbm.Booster(model_str=model)
    query = "select packed, ubp.predict_purchase(user_id) from ubp.feature_rows"
    with conn.cursor(binary=True) as cursor:
        found = [(np.frombuffer(p, "<f4"), s) for p, s in cursor.execute(query) if s is not None]
    expected = booster.predict(np.stack([row for row, _ in found]))
    if [score for _, score in found] != list(expected):
        raise SystemExit("scores differ from LightGBM's: nothing is timed")


def _pgbench(dsn: str, low: int, high: int) -> list[dict[str, Any]]:
    scripts = [f"\\set u random({low}, {high})\n{statement}\n" for statement in STATEMENTS.values()]
    found = latency.mixed_and_in_turn(
        dsn, scripts, mixed_seconds=MIXED_SECONDS, round_seconds=ROUND_SECONDS, rounds=ROUNDS
    )
    rows = []
    for way, times in found.items():
        for number, name in enumerate(STATEMENTS):
            cuts = statistics.quantiles(times[number], n=100)
            rows.append(
                {"run": way, "statement": name, "calls": len(times[number]), "p50 µs": cuts[49], "p99 µs": cuts[98]}
            )
    return rows
