"""The second tier beside the first: the same events and model in a database without PL/Python, as SQL and PL/pgSQL.

Rows of features and scores are compared to the bit before anything is timed.
"""

import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from bench import settings
from bench.population import AS_OF, EVENTS, EVENTS_EACH, LEAVES, TREES, WINDOWS, _deployed
from bench.rounds import rounds
from bench.server import cluster, fresh
from bench.snapshot import timed
from ubp_sql.cli.sql_tier import sql_of
from ubp_sql.embedded import Cluster

USERS, ROUNDS, SINGLE = 20_000, 5, 200
LEAST_PER_SECOND, MOST_BYTES = 5_000, 2_000_000
NAME, OWNER = "bench_sql_tier", "bench_tier_owner"
REFRESH = f"select * from ubp.refresh_features({AS_OF})"
SCORE = "select * from ubp.score_users('purchase')"
ROWS = "select user_id, features from ubp.feature_rows order by user_id"
SCORES = "select user_id, score, percentile, reason from ubp.user_scores order by user_id"
COLUMNS = "event_id, user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source"
SINGLES = {
    "predict_purchase(user_id)": "select ubp.predict_purchase(%s)",
    "predict_purchase(user_id, as_of)": f"select ubp.predict_purchase(%s, {AS_OF})",
}

Connection = psycopg.Connection[Any]


def run() -> dict[str, Any]:
    """Features and scores of everybody, and of one user, in both tiers."""
    users = settings.users(USERS)
    server = cluster()
    full = fresh(server, "bench_sql_tier_full")
    full.execute("select setseed(0.5)")
    full.execute(EVENTS, [1, users, EVENTS_EACH])
    full.execute("select ubp.define_feature_set('default', array['purchase'], %s)", [WINDOWS])
    full.execute(REFRESH)
    full.execute("select ubp.define_task('purchase', 'purchase')")
    _, names = _deployed(full)
    tier = _bare(server)
    file = sql_of(full, "purchase", None).encode()
    tier.execute(file)
    _copy(full, tier)
    for conn in (full, tier):
        conn.execute(REFRESH)
        conn.execute(SCORE)
        conn.execute("vacuum analyze")
    _agree(full, tier)
    timings = rounds(
        {
            "features of everybody, first tier": partial(_everybody, full),
            "features of everybody, SQL": partial(timed, tier, REFRESH),
            "score_users, first tier": partial(timed, full, SCORE),
            "score_users, SQL": partial(timed, tier, SCORE),
        },
        settings.count(ROUNDS),
    )
    _agree(full, tier)
    work = {"features of everybody, SQL": _work(tier, REFRESH), "score_users, SQL": _work(tier, SCORE)}
    rows = []
    for name, timing in timings.items():
        figures = {"k users/s": users / timing.median / 1e3}
        if name in work:
            figures |= {"CPU s": work[name], "k users/CPU s": users / work[name] / 1e3}
        rows.append({"method": name, **timing.row(**figures)})
    for name, query in SINGLES.items():
        rows.append({"method": f"{name}, first tier", **_single(full.info.dsn, query)})
        rows.append({"method": f"{name}, SQL", **_single(tier.info.dsn, query)})
    scoring, together = users / work["score_users, SQL"], users / sum(work.values())
    bars = {
        f"scores {scoring / 1e3:.1f} k users a second of one core >= {LEAST_PER_SECOND / 1e3:g}": scoring
        >= LEAST_PER_SECOND,
        f"features and scores {together / 1e3:.1f} k >= {LEAST_PER_SECOND / 1e3:g}": together >= LEAST_PER_SECOND,
        f"file {len(file) / 1e6:.2f} MB < {MOST_BYTES / 1e6:g}": len(file) < MOST_BYTES,
        "rows and scores are the first tier's, to the bit": True,
    }
    size = f"{users:,} users, {users * EVENTS_EACH:,} events, {len(names)} features, {TREES} trees x {LEAVES} leaves"
    full.close()
    tier.close()
    return {"rows": rows, "bars": bars, "size": size}


def _bare(server: Cluster) -> Connection:
    """A database without PL/Python, as a role that is no superuser."""
    name, role = sql.Identifier(NAME), sql.Identifier(OWNER)
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        conn.execute(sql.SQL("drop role if exists {}").format(role))
        conn.execute(sql.SQL("create role {} login nosuperuser").format(role))
        conn.execute(sql.SQL("create database {} owner {} template template0").format(name, role))
    return psycopg.connect(server.dsn(NAME), user=OWNER, autocommit=True)


def _copy(full: Connection, tier: Connection) -> None:
    with (
        full.cursor().copy(f"copy (select {COLUMNS} from ubp.events) to stdout (format binary)") as rows,
        tier.cursor().copy(f"copy ubp.events ({COLUMNS}) from stdin (format binary)") as into,
    ):
        for row in rows:
            into.write(row)


def _agree(full: Connection, tier: Connection) -> None:
    """Raises SystemExit unless both tiers have the same rows and scores."""
    ours, theirs = (conn.execute(ROWS, binary=True).fetchall() for conn in (full, tier))
    one, other = (np.array([row for _, row in found], np.float32).view(np.uint32) for found in (ours, theirs))
    if [u for u, _ in ours] != [u for u, _ in theirs] or not np.array_equal(one, other):
        raise SystemExit("features differ from the first tier's")
    if full.execute(SCORES, binary=True).fetchall() != tier.execute(SCORES, binary=True).fetchall():
        raise SystemExit("scores differ from the first tier's")


def _everybody(full: Connection) -> float:
    """A refresh of the first tier, which would compute nobody whose events are as they were."""
    full.execute("update ubp.feature_sets set stale = true")
    return timed(full, REFRESH)


def _work(conn: Connection, query: str) -> float:
    """Processor seconds of the server process: one core does it all, and what else runs does not count."""
    before = _used(conn)
    conn.execute(query.encode()).fetchall()
    return _used(conn) - before


def _used(conn: Connection) -> float:
    fields = Path(f"/proc/{conn.info.backend_pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _single(dsn: str, query: str) -> dict[str, Any]:
    """The first call of a connection and the median of those after it, in ms."""
    taken = []
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("select 1")
        for number in range(1 + SINGLE):
            started = time.perf_counter()
            conn.execute(query, [1 + number * 7], prepare=True).fetchall()
            taken.append((time.perf_counter() - started) * 1e3)
    return {"first call ms": taken[0], "p50 ms": statistics.median(taken[1:])}
