"""25 features at many past moments: a training set's pairs, and every event of the log."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import psycopg

from bench import agree, ours, settings
from bench.event_log import DAY_US, END_US, I64
from bench.features25 import FEATURES
from bench.rivals.apart import Apart
from bench.rivals.postgres import ALONE, PlainSQL
from bench.rounds import Timing, rounds
from bench.server import cluster
from bench.snapshot import timed
from bench.stored import Size, log_of, stored

EVENTS, USERS, ROUNDS = 5_000_000, 100_000, 3
PAIRS = 200_000
SQL_PAIRS, SQL_EVENTS = 20_000, 2_000
"""LATERAL is timed on so many, drawn by a seed, and its time multiplied."""
YEAR_US = 365 * DAY_US
LEAST_PAIRS = {"SQL": 10.0, "DuckDB": 2.0}
LEAST_EVENTS = {"SQL": 100.0, "DuckDB": 8.0}
_NAMES = [f.name for f in FEATURES]


def run() -> dict[str, Any]:
    """Both parts: `pairs` are drawn evenly over users and the last year, `events` are those of the log."""
    size = settings.size(EVENTS, USERS)
    conn = stored(size, rival=True)
    ours.prepare(conn)
    sql = PlainSQL(psycopg.connect(cluster().dsn(size.name), autocommit=True))
    apart = {threads: Apart("DuckDB", threads, size) for threads in (1, 2)}
    pairs = _part(conn, sql, apart, "pairs", *_pairs(size), SQL_PAIRS)
    log = log_of(size)
    events = _part(conn, sql, apart, "every_event", log.user, log.t_us, SQL_EVENTS)
    for process in apart.values():
        process.close()
    rows, bars = [], {}
    for part, timings, n, least in (("pairs", *pairs, LEAST_PAIRS), ("events", *events, LEAST_EVENTS)):
        mine = timings["ours"].median
        for name, timing in timings.items():
            rows.append({"part": part, "method": name, **timing.row(), "k pairs/s": n / timing.median / 1e3})
        for engine, bar in least.items():
            rival = f"{engine}, 1 thread" if engine == "DuckDB" else engine
            ratio = timings[rival].median / mine
            bars[f"{part}: {ratio:.1f}x >= {bar:.0f}x of {rival}"] = ratio >= bar
    return {"rows": rows, "bars": bars, "notes": [NOTE], "size": str(size), "tolerance": agree.RELATIVE}


NOTE = (
    f"SQL is LATERAL on {SQL_PAIRS:,} pairs and {SQL_EVENTS:,} events drawn at random, its time multiplied; DuckDB"
    " joins pairs with events, and has RANGE frames with DISTINCT aggregates at every event; each event was known at"
    " its own time, and only ours asks"
)


def _pairs(size: Size) -> tuple[I64, I64]:
    draw = np.random.default_rng(size.seed)
    n = min(PAIRS, 10 * size.users)
    users, moments = draw.integers(1, size.users + 1, n), END_US - draw.integers(0, YEAR_US, n)
    order = np.lexsort((moments, users))
    # Who only ever put things into carts has no event of the features' kinds, and no row.
    log = log_of(size)
    known = np.isin(users[order], np.unique(log.user[log.kind < 2]))
    return users[order][known], moments[order][known]


def _part(
    conn: psycopg.Connection[Any],
    sql: PlainSQL,
    apart: dict[int, Apart],
    call: str,
    users: I64,
    moments: I64,
    sampled: int,
) -> tuple[dict[str, Timing], int]:
    """Timings of all, after answers have been compared at the sampled pairs."""
    sampled = min(sampled, len(users))
    which = np.sort(np.random.default_rng(1).choice(len(users), sampled, replace=False))
    sql.load_pairs(users[which], moments[which])
    ours.load_pairs(conn, users, moments)
    if call == "pairs":
        for rival in apart.values():
            rival.time("load_pairs", users, moments)
    expected, labels = sql.answer_pairs(), list(zip(users[which].tolist(), moments[which].tolist(), strict=True))
    conn.execute("select bench.pairs()")
    agree.require(f"ours, {call}", ours.features(conn, which), expected, _NAMES, labels)
    methods: dict[str, Callable[[], float]] = {"ours": partial(timed, conn, "select bench.pairs()")}
    share = sampled / len(users)
    methods["SQL"] = lambda: sql.pairs(ALONE) / share
    for threads, rival in apart.items():
        rival.time(call)
        agree.require(f"DuckDB, {call}, {threads}", rival.answer_pairs(which), expected, _NAMES, labels)
        methods[f"DuckDB, {threads} thread{'s'[: threads - 1]}"] = partial(rival.time, call)
    return rounds(methods, settings.count(ROUNDS)), len(users)
