"""`score_users`, stored features to stored scores, beside a bare `Booster.predict` on a matrix that is ready."""

import time
from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench import settings
from bench.rounds import rounds
from bench.server import cluster, fresh
from bench.snapshot import timed

USERS, EVENTS_EACH, ROUNDS = 100_000, 12, 5
TREES, LEAVES, WINDOWS = 100, 31, [7, 30, 90]
LEAST = 1.5
PREDICT, AGAIN, FIRST = "Booster.predict, 1 thread", "score_users, over earlier scores", "score_users, the first time"
PACKED = "select substr(ubp.array_image(features), 21) from ubp.feature_rows order by user_id"
EVENTS = """
insert into ubp.events (user_id, event_time, ingested_at, kind, value)
select u, e.at, e.at, 'purchase', exp(3 * random())
  from generate_series(1, %s) u, generate_series(1, %s),
       lateral (select timestamptz '2024-01-01 00:00+00' + make_interval(secs => 7776000 * random() + 0 * u) as at) e"""


def run() -> dict[str, Any]:
    """Scores are compared with the Booster's first, to the bit."""
    conn = fresh(cluster(), "bench_population")
    conn.execute("select setseed(0.5)")
    conn.execute(EVENTS, [USERS, EVENTS_EACH])
    conn.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
    conn.execute("select * from ubp.refresh_features('2024-04-01 00:00+00')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    x, booster = _deployed(conn)
    conn.execute("vacuum analyze")
    conn.execute("select * from ubp.score_users('purchase')")
    stored = conn.execute("select score from ubp.user_scores where task = 'purchase' order by user_id").fetchall()
    if [score for (score,) in stored] != np.asarray(booster.predict(x, num_threads=1)).tolist():
        raise SystemExit("scores differ from LightGBM's: nothing is timed")

    def predict() -> float:
        started = time.perf_counter()
        booster.predict(x, num_threads=1, predict_disable_shape_check=True)
        return time.perf_counter() - started

    def again() -> float:
        conn.execute("vacuum ubp.user_scores")
        return timed(conn, "select * from ubp.score_users('purchase')")

    def first() -> float:
        conn.execute("truncate ubp.user_scores")
        return timed(conn, "select * from ubp.score_users('purchase')")

    timings = rounds({PREDICT: predict, AGAIN: again, FIRST: first}, settings.count(ROUNDS))
    bare = timings[PREDICT].median
    rows = [
        {"method": name, **timing.row(), "k users/s": USERS / timing.median / 1e3, "of predict": bare / timing.median}
        for name, timing in timings.items()
    ]
    ratios = {name: bare / timings[name].median for name in (FIRST, AGAIN)}
    bars = {f"{name}: {ratio:.2f}x Booster.predict >= {LEAST}": ratio >= LEAST for name, ratio in ratios.items()}
    conn.close()
    size = f"{USERS:,} users, {x.shape[1]} features, {TREES} trees x {LEAVES} leaves"
    return {"rows": rows, "bars": bars, "size": size}


def _deployed(conn: psycopg.Connection[Any]) -> tuple[Any, lightgbm.Booster]:
    """The stored features as a matrix, and a model of them that is deployed."""
    query = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"
    names = [row[0] for row in conn.execute(query)]
    with conn.cursor(binary=True) as cursor:
        packed = cursor.execute(PACKED).fetchall()
    x = np.frombuffer(b"".join(row for (row,) in packed), "<f4").reshape(len(packed), len(names))
    rng = np.random.default_rng(settings.seed())
    wish = np.nan_to_num(x / (np.nanstd(x, axis=0) + 1e-9)) @ rng.normal(size=x.shape[1])
    y = wish + rng.normal(size=len(x)) * wish.std() > np.median(wish)
    made = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(made, lightgbm.Dataset(x, y, feature_name=names), TREES).model_to_string()
    conn.execute("select ubp.register_model('purchase', %s)", [str(model).encode()])
    conn.execute("select ubp.deploy_model('purchase')")
    return x, lightgbm.Booster(model_str=model)
