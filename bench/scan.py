"""The analyst's scan: `SELECT user_id, ubp.predict_purchase(user_id) FROM audience` over a million users.

In order of the users and in a random one; beside the same scan where nothing is read ahead, an empty PL/Python
function of the same options, and `score_users`. The model has 200 trees of 31 leaves over 66 features; what it says is
of no use.
"""

from typing import Any

import lightgbm
import numpy as np
import psycopg

from bench import settings
from bench.population import EVENTS
from bench.rounds import rounds
from bench.server import cluster, fresh
from bench.snapshot import timed

USERS, EVENTS_EACH, ROUNDS, SAMPLE = 1_000_000, 3, 3, 50_000
TREES, LEAVES, WINDOWS = 200, 31, [7, 30, 90]
LEAST = 150_000
EMPTY = """
create function public.nothing(task text, user_id bigint) returns double precision
language plpython3u stable strict security definer set search_path = pg_catalog, pg_temp as $$ return 0.5 $$"""
ALONE = "do $$ import ubp_sql.api.snapshots as s; s.LAST_MAJOR = 0 $$ language plpython3u"
SCAN = "select sum({call}) from {audience} a"  # named twice, the planner would call it twice
PREDICT = "ubp.predict_purchase(user_id)"
IN_ORDER, RANDOM, SINGLE = "scan in order", "scan in a random order", "scan, nothing read ahead"
NOTHING, STORED = "empty function", "score_users"


def run() -> dict[str, Any]:
    """Scores of the scans are compared with LightGBM's on a sample and with each other on everybody first."""
    conn = fresh(cluster(), "bench_scan")
    conn.execute("select setseed(0.5)")
    conn.execute(EVENTS, [1, USERS, EVENTS_EACH])
    conn.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
    conn.execute("select * from ubp.refresh_features('2024-04-01 00:00+00')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    booster = _deployed(conn)
    conn.execute("create table public.audience as select user_id from ubp.feature_rows order by user_id")
    conn.execute("create table public.shuffled as select user_id from ubp.feature_rows order by random()")
    conn.execute(EMPTY)
    conn.execute("vacuum analyze")
    _check(conn, booster)
    single = psycopg.connect(conn.info.dsn, autocommit=True)
    single.execute(ALONE)
    few = f"(select user_id from public.audience limit {USERS // 10})"
    statements = {
        IN_ORDER: (conn, SCAN.format(call=PREDICT, audience="public.audience"), USERS),
        RANDOM: (conn, SCAN.format(call=PREDICT, audience="public.shuffled"), USERS),
        SINGLE: (single, SCAN.format(call=PREDICT, audience=few), USERS // 10),
        NOTHING: (conn, SCAN.format(call="public.nothing('purchase', user_id)", audience="public.audience"), USERS),
        STORED: (conn, "select * from ubp.score_users('purchase')", USERS),
    }
    methods = {name: (lambda c=c, q=q: timed(c, q)) for name, (c, q, _) in statements.items()}
    timings = rounds(methods, settings.count(ROUNDS))
    rate = {name: statements[name][2] / timing.median for name, timing in timings.items()}
    rows = [
        {"method": name, "users": statements[name][2], **timing.row(), "k users/s": rate[name] / 1e3}
        for name, timing in timings.items()
    ]
    bars = {
        f"{IN_ORDER}: {rate[IN_ORDER] / 1e3:.0f} k users/s >= {LEAST // 1000}": rate[IN_ORDER] >= LEAST,
        f"{STORED}: {rate[STORED] / rate[IN_ORDER]:.2f}x the scan > 1": rate[STORED] > rate[IN_ORDER],
    }
    single.close()
    conn.close()
    return {"rows": rows, "bars": bars, "trees": TREES, "leaves": LEAVES}


def _sample(conn: psycopg.Connection[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    query = f"""select substr(ubp.array_image(features), 21) from ubp.feature_rows
                where user_id <= {SAMPLE} order by user_id"""
    with conn.cursor(binary=True) as cursor:
        packed = cursor.execute(query.encode()).fetchall()
    return np.frombuffer(b"".join(row for (row,) in packed), "<f4").reshape(len(packed), -1)


def _deployed(conn: psycopg.Connection[Any]) -> lightgbm.Booster:
    query = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"
    names, x = [row[0] for row in conn.execute(query)], _sample(conn)
    rng = np.random.default_rng(settings.seed())
    x0 = np.nan_to_num(x)
    wish = x0 / (x0.std(axis=0) + 1e-9) @ rng.normal(size=x.shape[1])
    y = wish + rng.normal(size=len(x)) * wish.std() > np.median(wish)
    made = {"objective": "binary", "num_leaves": LEAVES, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    model = str(lightgbm.train(made, lightgbm.Dataset(x, y, feature_name=names), TREES).model_to_string())
    conn.execute("select ubp.register_model('purchase', %s)", [model.encode()])
    conn.execute("select ubp.deploy_model('purchase')")
    return lightgbm.Booster(model_str=model)


def _check(conn: psycopg.Connection[Any], booster: lightgbm.Booster) -> None:
    conn.execute("select * from ubp.score_users('purchase')")
    for audience in ("audience", "shuffled"):
        query = f"""
            select count(*) from (select user_id, {PREDICT} as score from public.{audience}) a
              join ubp.user_scores s using (user_id) where a.score is distinct from s.score"""
        if conn.execute(query.encode()).fetchone() != (0,):
            raise SystemExit("a scan differs from score_users: nothing is timed")
    query = f"select score from ubp.user_scores where user_id <= {SAMPLE} order by user_id"
    found = [score for (score,) in conn.execute(query.encode(), binary=True)]
    if found != np.asarray(booster.predict(_sample(conn))).tolist():
        raise SystemExit("scores differ from LightGBM's: nothing is timed")
