"""Latency of `explain_purchase(user_id)`, top 5, beside a primary-key SELECT and LightGBM's own pred_contrib.

The model has 200 trees of 31 leaves over 60 features, the others of the set are in none of its trees.
"""

import statistics
import time
from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench import latency, settings
from bench.first_call import EMPTY, OPTIONS, measured
from bench.server import cluster, fresh, load_online_retail
from ubp_sql.embedded import Cluster

MOST_MS, MOST_DIFFERENCE = 1.0, 1e-9
TREES, LEAVES, FEATURES, WINDOWS, TOP = 200, 31, 60, [7, 30, 90], 5
CHECKED, ALONE = 300, 200
MIXED_SECONDS, ROUND_SECONDS, ROUNDS, FIRST_CALLS = 6, 2, 5, 15
KEY, EXPLAIN = "primary key", f"explain_purchase(user_id), top {TOP}"
STATEMENTS = {
    KEY: "select v from bench_pk where user_id = :u::bigint;",
    "predict_purchase(user_id)": "select ubp.predict_purchase(:u::bigint);",
    EXPLAIN: "select * from ubp.explain_purchase(:u::bigint);",
    "explain_purchase(user_key), top 5": "select * from ubp.explain_purchase(:u::text);",
    "explain_purchase(user_id, 60)": "select * from ubp.explain_purchase(:u::bigint, 60);",
}


def run() -> dict[str, Any]:
    """p50 and p99 in microseconds; contributions are compared with LightGBM's first."""
    server = cluster()
    with fresh(server, "bench_explain") as conn:
        load_online_retail(conn)
        conn.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
        conn.execute("select * from ubp.refresh_features('2011-12-10 00:00+00')")
        conn.execute("select ubp.define_task('purchase', 'purchase')")
        booster = _deployed(conn)
        conn.execute("select ubp.study_model('purchase')")
        conn.execute("create table bench_pk as select user_id, random() as v from ubp.feature_rows")
        conn.execute("alter table bench_pk add primary key (user_id)")
        conn.execute("vacuum analyze")
        worst = _worst(conn, booster)
        if worst > MOST_DIFFERENCE:
            raise SystemExit(f"contributions differ from LightGBM's by up to {worst:.1e}: nothing is timed")
        row = _rows(conn)[1][:1].astype(np.float64)
        low, high = conn.execute("select min(user_id), max(user_id) from bench_pk").fetchone() or (0, 0)
    rows = _latencies(server, low, high)
    rows.append({"run": "in Python", "statement": "LightGBM's pred_contrib, all features", **_alone(booster, row)})
    p50 = {row["run"]: row["p50 µs"] / 1000 for row in rows if row["statement"] == EXPLAIN}
    bars = {f"{run}: p50 {ms:.2f} ms <= {MOST_MS} ms": ms <= MOST_MS for run, ms in p50.items()}
    bars[f"at most {worst:.0e} from LightGBM's pred_contrib <= {MOST_DIFFERENCE:.0e}"] = worst <= MOST_DIFFERENCE
    rows += _first_calls(server, low)
    return {"rows": rows, "bars": bars, "trees": TREES, "leaves": LEAVES, "features": FEATURES}


def _rows(conn: psycopg.Connection[Any]) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float32]]]:
    query = "select user_id, substr(ubp.array_image(features), 21) from ubp.feature_rows order by user_id"
    found = conn.execute(query.encode(), binary=True).fetchall()
    return [user for user, _ in found], np.stack([np.frombuffer(packed, "<f4") for _, packed in found])


def _deployed(conn: psycopg.Connection[Any]) -> lightgbm.Booster:
    """The model of the size that the bar names, registered and deployed."""
    query = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"
    names = [row[0] for row in conn.execute(query)]
    _, x = _rows(conn)
    rng = np.random.default_rng(settings.seed())
    wish = np.nan_to_num(x / (np.nanstd(x, axis=0) + 1e-9)) @ rng.normal(size=x.shape[1])
    y = wish + rng.normal(size=len(x)) * wish.std() > np.median(wish)
    read = x.copy()
    read[:, FEATURES:] = 0  # never split on
    chosen = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(chosen, lightgbm.Dataset(read, y, feature_name=names), TREES)
    conn.execute("select ubp.register_model('purchase', %s)", [booster.model_to_string().encode()])
    conn.execute("select ubp.deploy_model('purchase')")
    return booster


def _worst(conn: psycopg.Connection[Any], booster: lightgbm.Booster) -> float:
    """The largest difference of a contribution from LightGBM's, over some users and all features."""
    users, x = _rows(conn)
    place = {name: j for j, name in enumerate(booster.feature_name())}
    query = """select user_id, feature, contribution from ubp.explain_many('purchase', %s, 1000)
                where rank is not null"""
    found = np.zeros((CHECKED, x.shape[1] + 1))
    seen = {user: i for i, user in enumerate(users[:CHECKED])}
    scored = set()
    for user, feature, contribution in conn.execute(query.encode(), [list(seen)], binary=True):
        found[seen[user], place.get(feature, -1)] = contribution
        scored.add(seen[user])
    chosen = sorted(scored)
    expected: Any = booster.predict(x[chosen], pred_contrib=True, num_threads=1)
    return float(np.max(np.abs(found[chosen] - expected)))


def _latencies(server: Cluster, low: int, high: int) -> list[dict[str, Any]]:
    scripts = [f"\\set u random({low}, {high})\n{statement}\n" for statement in STATEMENTS.values()]
    found = latency.mixed_and_in_turn(
        server.dsn("bench_explain"),
        scripts,
        mixed_seconds=MIXED_SECONDS,
        round_seconds=ROUND_SECONDS,
        rounds=settings.count(ROUNDS),
    )
    rows = []
    for way, times in found.items():
        base = statistics.median(times[0])
        for number, name in enumerate(STATEMENTS):
            cuts = statistics.quantiles(times[number], n=100)
            timing = {"p50 µs": cuts[49], "p99 µs": cuts[98], "p50 ratio": cuts[49] / base}
            rows.append({"run": way, "statement": name, "calls": len(times[number]), **timing})
    return rows


def _alone(booster: lightgbm.Booster, row: np.ndarray[Any, Any]) -> dict[str, Any]:
    times = []
    for _ in range(ALONE):
        started = time.perf_counter()
        booster.predict(row, pred_contrib=True, num_threads=1)
        times.append(1e6 * (time.perf_counter() - started))
    cuts = statistics.quantiles(times, n=100)
    return {"calls": ALONE, "p50 µs": cuts[49], "p99 µs": cuts[98]}


def _first_calls(server: Cluster, user: int) -> list[dict[str, Any]]:
    """Of the first statement of new connections."""
    dsn = server.dsn("bench_explain")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            f"create or replace function bench_empty(u bigint) returns bigint {OPTIONS} as $$ return u $$".encode()
        )
    texts = {
        EMPTY: f"select bench_empty({user})",
        "predict_purchase": f"select ubp.predict_purchase({user}::bigint)",
        "explain_purchase": f"select * from ubp.explain_purchase({user}::bigint)",
    }
    found = measured(dsn, texts, settings.count(FIRST_CALLS))
    return [
        {
            "run": "first call of a connection",
            "statement": name,
            "calls": len(samples),
            "p50 µs": 1e3 * statistics.median(ms for ms, _, _ in samples),
        }
        for name, samples in found.items()
    ]
