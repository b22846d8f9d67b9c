"""Latency of `predict_purchase(user_id)` beside a primary-key SELECT: pgbench, prepared, both in one run."""

import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench.server import cluster, fresh, load_online_retail
from ubp_sql.embedded.binaries import find_binaries
from ubp_sql.training.train import train

MOST = 3.0
SECONDS = 20
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
    base = rows[0]["p50 µs"]
    for row in rows:
        row["p50 ratio"] = row["p50 µs"] / base
    ratio = rows[1]["p50 ratio"]
    return {
        "rows": rows,
        "bars": {f"p50 {ratio:.2f}x <= {MOST}x a primary-key SELECT": ratio <= MOST},
        "trees": trees[0],
    }


def _check(conn: psycopg.Connection[Any], model: str) -> None:
    booster = lightgbm.Booster(model_str=model)
    query = "select packed, ubp.predict_purchase(user_id) from ubp.feature_rows"
    with conn.cursor(binary=True) as cursor:
        found = [(np.frombuffer(p, "<f4"), s) for p, s in cursor.execute(query) if s is not None]
    expected = booster.predict(np.stack([row for row, _ in found]))
    if [score for _, score in found] != list(expected):
        raise SystemExit("scores differ from LightGBM's: nothing is timed")


def _pgbench(dsn: str, low: int, high: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        scripts = []
        for number, statement in enumerate(STATEMENTS.values()):
            path = Path(folder) / f"{number}.sql"
            path.write_text(f"\\set u random({low}, {high})\n{statement}\n")
            scripts += ["-f", str(path)]
        pgbench = find_binaries().program("pgbench")
        command = [
            pgbench,
            "-n",
            "-M",
            "prepared",
            "-T",
            str(SECONDS),
            "-l",
            "--log-prefix",
            f"{folder}/log",
            *scripts,
            dsn,
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        times: dict[int, list[int]] = {}
        for log in Path(folder).glob("log.*"):
            for line in log.read_text().splitlines():
                _, _, latency, script, *_ = line.split()
                times.setdefault(int(script), []).append(int(latency))
    rows = []
    for number, name in enumerate(STATEMENTS):
        # The first calls of a session import, compile and fill caches: they are the cold start, not the steady state.
        warm = times[number][200:]
        cuts = statistics.quantiles(warm, n=100)
        rows.append({"statement": name, "calls": len(warm), "p50 µs": cuts[49], "p99 µs": cuts[98]})
    return rows
