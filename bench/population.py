"""`score_users`, stored features to stored scores, beside a bare `Booster.predict` on a matrix that is ready."""

import time
from functools import partial
from typing import Any

import lightgbm
import numpy as np
import psycopg
from numpy.typing import NDArray

from bench import settings
from bench.rounds import rounds
from bench.server import cluster, fresh
from bench.snapshot import timed

USERS, EVENTS_EACH, ROUNDS = 100_000, 12, 5
TREES, LEAVES, WINDOWS, TRAINED_ON = 100, 31, [7, 30, 90], 100_000
LEAST, LEAST_PER_SECOND = 1.5, 150_000
AS_OF = "timestamptz '2024-04-01 00:00+00'"
PREDICT, FIRST = "Booster.predict, 1 thread", "score_users, the first time"
SHARES = (0.01, 0.1, 1.0)
PACKED = "select substr(ubp.array_image(features), 21) from ubp.feature_rows order by user_id"
STORED = "select score, percentile from ubp.user_scores where task = 'purchase' order by user_id"
SCORE = "select * from ubp.score_users('purchase')"
# One to each user of the range, at random moments of the ninety days before as_of.
EVENTS = f"""
insert into ubp.events (user_id, event_time, ingested_at, kind, value)
select u, e.at, e.at, 'purchase', exp(3 * random())
  from generate_series(%s::integer, %s::integer) u, generate_series(1, %s::integer),
       lateral (select {AS_OF} - make_interval(secs => 7776000 * random() + 0 * u) as at) e"""

Connection = psycopg.Connection[Any]


def run() -> dict[str, Any]:
    """Scores are compared with the Booster's, to the bit, before anything is timed and at the end."""
    users = settings.users(USERS)
    conn = fresh(cluster(), "bench_population")
    conn.execute("select setseed(0.5)")
    conn.execute(EVENTS, [1, users, EVENTS_EACH])
    conn.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
    _refresh(conn)
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    booster, names = _deployed(conn)
    conn.execute(SCORE)
    x = _same(conn, booster)

    def predict() -> float:
        started = time.perf_counter()
        booster.predict(x, num_threads=1, predict_disable_shape_check=True)
        return time.perf_counter() - started

    def first() -> float:
        conn.execute("truncate ubp.score_rows, ubp.score_runs")
        return timed(conn, SCORE)

    def after(share: float) -> float:
        """A refresh after events of that share of the users; no vacuum of the scores."""
        conn.execute(EVENTS, [1, round(share * users), 1])
        _refresh(conn)
        return timed(conn, SCORE)

    again = {f"score_users, after a refresh of {share:.0%} of the users": partial(after, share) for share in SHARES}
    timings = rounds({PREDICT: predict, FIRST: first, **again}, settings.count(ROUNDS))
    _same(conn, booster)
    bare = timings[PREDICT].median
    rows = [
        {"method": name, **timing.row(), "k users/s": users / timing.median / 1e3, "of predict": bare / timing.median}
        for name, timing in timings.items()
    ]
    ratios = {name: bare / timing.median for name, timing in timings.items() if name != PREDICT}
    bars = {f"{name}: {ratio:.2f}x Booster.predict >= {LEAST}": ratio >= LEAST for name, ratio in ratios.items()}
    slowest = users / max(timing.median for name, timing in timings.items() if name != PREDICT)
    bars[f"{slowest / 1e3:.0f} k users/s >= {LEAST_PER_SECOND / 1e3:.0f}"] = slowest >= LEAST_PER_SECOND
    conn.close()
    size = f"{users:,} users, {len(names)} features, {TREES} trees x {LEAVES} leaves"
    return {"rows": rows, "bars": bars, "size": size}


def _refresh(conn: Connection) -> None:
    """With what autovacuum would do about it in the next minute, on the other core."""
    conn.execute(f"select * from ubp.refresh_features({AS_OF})")
    conn.execute("vacuum analyze ubp.feature_rows")


def _deployed(conn: Connection) -> tuple[lightgbm.Booster, list[str]]:
    """A model of the stored features that is deployed."""
    query = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"
    names = [row[0] for row in conn.execute(query)]
    x = _matrix(conn)[:TRAINED_ON]
    rng = np.random.default_rng(settings.seed())
    wish = np.nan_to_num(x / (np.nanstd(x, axis=0) + 1e-9)) @ rng.normal(size=x.shape[1])
    y = wish + rng.normal(size=len(x)) * wish.std() > np.median(wish)
    made = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(made, lightgbm.Dataset(x, y, feature_name=names), TREES).model_to_string()
    conn.execute("select ubp.register_model('purchase', %s)", [str(model).encode()])
    conn.execute("select ubp.deploy_model('purchase')")
    return lightgbm.Booster(model_str=model), names


def _matrix(conn: Connection) -> NDArray[np.float32]:
    """The stored features."""
    with conn.cursor(binary=True) as cursor:
        packed = cursor.execute(PACKED).fetchall()
    return np.frombuffer(b"".join(row for (row,) in packed), "<f4").reshape(len(packed), -1)


def _same(conn: Connection, booster: lightgbm.Booster) -> NDArray[np.float32]:
    """The stored features, whose stored scores and percentiles are the Booster's and those by sorting."""
    x = _matrix(conn)
    with conn.cursor(binary=True) as cursor:
        scores, percentiles = np.array(cursor.execute(STORED).fetchall()).T
    if scores.tolist() != np.asarray(booster.predict(x, num_threads=1)).tolist():
        raise SystemExit("scores differ from LightGBM's")
    below = np.searchsorted(np.sort(scores), scores)
    if not np.allclose(percentiles, 100 * below / len(scores), rtol=1e-14, atol=0):
        raise SystemExit("percentiles differ from those by sorting")
    return x
