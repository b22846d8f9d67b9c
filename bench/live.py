"""Features of one user at this moment, from 500 events of which some lie in a delta: beside a primary-key SELECT."""

import statistics
import time
from typing import Any

import numpy as np
import psycopg

from bench import features25, latency, ours, settings
from bench.event_log import BEGIN_US, END_US, Log
from bench.server import cluster
from bench.stored import Size, copied, copy, log_of

EVENTS, USERS = 1_000_000, 20_000
LIVE_USERS, LIVE_EVENTS, LIVE_DELTA = 200, 500, 25
"""Users beside those of the log, the events of each, and how many of them came after the mirror was built."""
MIXED_SECONDS, ROUND_SECONDS, ROUNDS, FIRST_CALLS = 15, 2, 5, 21
MOST, MOST_FIRST = 2.5, 1.5
LIVE = "features(user_id, now())"
_PICK = "\\set u random({low}, {high})\n"
STATEMENTS = {
    "primary key": "select v from bench.live_pk where user_id = :u::bigint;",
    LIVE: "select * from ubp.features(:u::bigint, now());",
}
FIRST = {
    "primary key": "select v from bench.live_pk where user_id = {low}",
    "empty PL/Python function": "select bench.empty({low})",
    LIVE: "select * from ubp.features({low}::bigint, now())",
}


def run() -> dict[str, Any]:
    """p50 and p99 in microseconds, and the first call of a new connection in milliseconds."""
    size = settings.size(EVENTS, USERS)
    with copied(size) as conn:
        low, high = _live_users(conn, size)
        check(conn, low)
        dsn = cluster().dsn(conn.info.dbname)
        pick = _PICK.format(low=low, high=high)
        found = latency.mixed_and_in_turn(
            dsn,
            [f"{pick}{statement}\n" for statement in STATEMENTS.values()],
            mixed_seconds=MIXED_SECONDS,
            round_seconds=ROUND_SECONDS,
            rounds=settings.count(ROUNDS),
        )
        first = latency.first_calls(dsn, {name: text.format(low=low) for name, text in FIRST.items()}, FIRST_CALLS)
    rows: list[dict[str, Any]] = []
    bars: dict[str, bool] = {}
    for way, times in found.items():
        base = statistics.median(times[0])
        for number, name in enumerate(STATEMENTS):
            cuts = statistics.quantiles(times[number], n=100)
            timing = {"calls": len(times[number]), "p50 µs": cuts[49], "p99 µs": cuts[98]}
            ratio = cuts[49] / base
            rows.append({"run": way, "statement": name, **timing, "ratio": ratio})
            if name == LIVE:
                bars[f"{way}: p50 {ratio:.2f}x <= {MOST}x a primary-key SELECT"] = ratio <= MOST
    empty = statistics.median(first["empty PL/Python function"])
    for name, taken in first.items():
        p50 = statistics.median(taken)
        timing = {"calls": len(taken), "p50 µs": 1e3 * p50, "p99 µs": 1e3 * max(taken)}
        rows.append({"run": "first call", "statement": name, **timing, "ratio": p50 / empty})
        if name == LIVE:
            bars[f"first call: p50 {p50 / empty:.2f}x <= {MOST_FIRST}x an empty PL/Python function"] = (
                p50 / empty <= MOST_FIRST
            )
    return {"rows": rows, "bars": bars, "size": str(size)}


def _live_users(conn: psycopg.Connection[Any], size: Size) -> tuple[int, int]:
    """Users with 500 events each, spread up to this moment; the last 25 come by a statement after the mirror."""
    n, each = LIVE_USERS, LIVE_EVENTS
    source = log_of(size)
    which = np.random.default_rng([11, size.seed]).choice(len(source), n * each, replace=False)
    span, now = END_US - BEGIN_US, int(1e6 * time.time()) - 60_000_000
    user = size.users + 1 + np.arange(n * each) // each
    t = now - (END_US - source.t_us[which]) * (span - 1) // span
    order = np.lexsort((t, user))
    log = Log(user, t[order], source.kind[which], source.item[which], source.value[which])
    late = np.arange(n * each) % each >= each - LIVE_DELTA
    conn.execute("select ubp.ensure_event_partitions(now() - interval '2 years', now())")
    copy(conn, "ubp.events", log, np.flatnonzero(~late))
    conn.execute("select ubp.rebuild_mirror()")
    copy(conn, "ubp.events", log, np.flatnonzero(late))
    ours.refresh_everybody(conn, "now()")
    conn.execute("create table bench.live_pk as select user_id, random() as v from ubp.feature_rows")
    conn.execute("alter table bench.live_pk add primary key (user_id)")
    conn.execute(
        "create function bench.empty(u bigint) returns bigint language plpython3u as $python$ return u $python$"
    )
    conn.execute("vacuum analyze")
    return size.users + 1, size.users + n


def check(conn: psycopg.Connection[Any], user: int) -> None:
    """A live row is the refreshed one at the same moment."""
    names = [feature.name for feature in features25.FEATURES]
    query = """
        select f.feature, f.value, (to_jsonb(u) ->> f.feature)::double precision as stored
          from ubp.feature_sets s
          join ubp.user_features u on u.user_id = %s
          cross join lateral ubp.features(u.user_id, s.as_of) f where s.name = 'default'"""
    found = conn.execute(query, [user]).fetchall()
    if sorted(name for name, _, _ in found) != sorted(names):
        raise SystemExit("ubp.features gives other features")
    for name, live, stored in found:
        if (live is None) != (stored is None) or (live is not None and np.float32(live) != np.float32(stored)):
            raise SystemExit(f"{name} of user {user} is {live!r} live and {stored!r} stored: nothing is timed")
