"""Latency of `predict_purchase(user_id)` beside a primary-key SELECT: pgbench, prepared, both in one run.

The model has 200 trees of 31 leaves over the 66 features of three windows of purchases; what it predicts is of no use.
"""

import statistics
import subprocess
from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench import latency
from bench.server import cluster, fresh, load_online_retail
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.binaries import find_binaries

MOST, MOST_P99, LEAST_SCALING = 1.6, 3.0, 0.95
TREES, LEAVES, WINDOWS = 200, 31, [7, 30, 90]
MIXED_SECONDS, ROUND_SECONDS, ROUNDS = 15, 2, 5
KEY, PREDICT = "primary key", "predict_purchase(user_id)"
STATEMENTS = {
    KEY: "select v from bench_pk where user_id = :u::bigint;",
    PREDICT: "select ubp.predict_purchase(:u::bigint);",
    "predict_purchase(user_key)": "select ubp.predict_purchase(:u::text);",
}


def run() -> dict[str, Any]:
    """p50 and p99 in microseconds, and what two clients get done; scores are checked against LightGBM first."""
    server = cluster()
    conn = serving(server, "bench_predict")
    conn.execute("create table bench_pk as select user_id, random() as v from ubp.feature_rows")
    conn.execute("alter table bench_pk add primary key (user_id)")
    conn.execute("vacuum analyze")
    low, high = conn.execute("select min(user_id), max(user_id) from bench_pk").fetchone() or (0, 0)
    conn.close()
    dsn = server.dsn("bench_predict")
    rows = _pgbench(dsn, low, high)
    base = {row["run"]: row for row in rows if row["statement"] == KEY}
    bars = {}
    for row in rows:
        row["p50 ratio"] = row["p50 µs"] / base[row["run"]]["p50 µs"]
        row["p99 ratio"] = row["p99 µs"] / base[row["run"]]["p99 µs"]
        if row["statement"] == PREDICT:
            for cut, most in (("p50", MOST), ("p99", MOST_P99)):
                ratio = row[f"{cut} ratio"]
                bars[f"{row['run']}: {cut} {ratio:.2f}x <= {most}x a primary-key SELECT"] = ratio <= most
    gains = {name: _gain(dsn, low, high, STATEMENTS[name]) for name in (KEY, PREDICT)}
    scaling = gains[PREDICT] / gains[KEY]
    bars[f"two clients scale {scaling:.2f}x >= {LEAST_SCALING}x as well as that SELECT does"] = scaling >= LEAST_SCALING
    return {"rows": rows, "bars": bars, "trees": TREES, "leaves": LEAVES, "two clients over one": gains}


def serving(server: Cluster, name: str) -> psycopg.Connection[Any]:
    """A new database of Online Retail with the model deployed; scores are checked against LightGBM."""
    conn = fresh(server, name)
    load_online_retail(conn)
    conn.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
    conn.execute("select * from ubp.refresh_features('2011-12-10 00:00+00')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    _check(conn, _deployed(conn))
    return conn


def _deployed(conn: psycopg.Connection[Any]) -> str:
    """The model of the size that the bars name."""
    query = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"
    names = [row[0] for row in conn.execute(query)]
    x = np.array([row[0] for row in conn.execute("select features from ubp.feature_rows order by user_id")], np.float32)
    rng = np.random.default_rng(1)
    wish = np.nan_to_num(x / (np.nanstd(x, axis=0) + 1e-9)) @ rng.normal(size=x.shape[1])
    y = wish + rng.normal(size=len(x)) * wish.std() > np.median(wish)
    settings = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    model = str(lightgbm.train(settings, lightgbm.Dataset(x, y, feature_name=names), TREES).model_to_string())
    conn.execute("select ubp.register_model('purchase', %s)", [model.encode()])
    conn.execute("select ubp.deploy_model('purchase')")
    return model


def _check(conn: psycopg.Connection[Any], model: str) -> None:
    booster = lightgbm.Booster(model_str=model)
    query = "select substr(ubp.array_image(features), 21), ubp.predict_purchase(user_id) from ubp.feature_rows"
    with conn.cursor(binary=True) as cursor:
        found = [(np.frombuffer(p, "<f4"), s) for p, s in cursor.execute(query) if s is not None]
    expected = booster.predict(np.stack([row for row, _ in found]))
    if [score for _, score in found] != list(expected):
        raise SystemExit("scores differ from LightGBM's: nothing is timed")


def _pgbench(dsn: str, low: int, high: int) -> list[dict[str, Any]]:
    scripts = [_script(low, high, statement) for statement in STATEMENTS.values()]
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


def _script(low: int, high: int, statement: str) -> str:
    return f"\\set u random({low}, {high})\n{statement}\n"


def _gain(dsn: str, low: int, high: int, statement: str) -> float:
    """Calls a second of two clients over those of one, the median of rounds in turn."""
    program = find_binaries().program("pgbench")
    gains = []
    for _ in range(ROUNDS):
        rates = []
        for clients in ("1", "2"):
            command = [program, "-n", "-M", "prepared", "-T", str(ROUND_SECONDS), "-c", clients, "-j", clients]
            done = subprocess.run(
                [*command, "-f", "-", dsn],
                input=_script(low, high, statement),
                check=True,
                capture_output=True,
                text=True,
            )
            rates.append(float(done.stdout.partition("tps = ")[2].split()[0]))
        gains.append(rates[1] / rates[0])
    return statistics.median(gains)
