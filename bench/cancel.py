"""How soon work that a cancel or a statement timeout meets at a random moment ends."""

import random
import threading
import time
from typing import Any

import numpy as np
import psycopg
from psycopg import errors

from bench import ours, settings
from bench.event_log import BEGIN_US, DAY_US, DAYS, END_US, ITEMS, Log
from bench.server import cluster
from bench.snapshot import timed
from bench.stored import Size, copied, copy

EVENTS, USERS = 1_000_000, 20_000
"""Of the log; one more user has as many events again."""
SECONDS, LEAST = 3.0, 3
"""Each work is stopped again and again for so long, and so many times at least."""
MOST_MS = 150.0
SHORTEST = 0.005
_AS_OF = f"to_timestamp({END_US // 1_000_000})"


def run() -> dict[str, Any]:
    """Each work is timed alone once; then it is stopped at moments drawn evenly over that time."""
    size = settings.size(EVENTS, USERS)
    draw = random.Random(size.seed)
    rows, bars = [], {}
    with copied(size) as conn:
        user = _huge_user(conn, size)
        conn.execute("select ubp.define_feature('count_purchase_all', 'count', array['purchase'])")
        conn.execute("select ubp.define_task('bench', 'purchase')")
        ours.refresh_everybody(conn, _AS_OF)
        for name, (before, statement) in _works(user).items():
            for session, warm in (("warm", True), ("new", False)):
                found = _stop(conn, (*before, *(["select bench.warm()"] * warm)), statement, draw)
                for how, (alone, late) in found.items():
                    most = max(late, default=0.0)
                    row = {"work": name, "session": session, "alone s": alone, "stopped by": how}
                    rows.append({**row, "times": len(late), "longest ms": most})
                    line = f"{name}, {session} session, {how}: {most:.0f} ms <= {MOST_MS:.0f} ms"
                    bars[line] = bool(late) and most <= MOST_MS
    return {"rows": rows, "bars": bars, "size": str(size)}


def _stop(
    other: psycopg.Connection[Any], before: tuple[str, ...], statement: str, draw: random.Random
) -> dict[str, tuple[float, list[float]]]:
    """By way: seconds of the statement alone, and the milliseconds until each attempt to stop it was honoured."""
    dsn = cluster().dsn(other.info.dbname)

    def prepared() -> psycopg.Connection[Any]:
        session = psycopg.connect(dsn, autocommit=True)
        for text in before:
            session.execute(text)
        return session

    with prepared() as session:
        alone = timed(session, statement)
    found = {}
    for name, way in (("pg_cancel_backend", _cancelled), ("statement_timeout", _timed_out)):
        late: list[float] = []
        tried, until = 0, time.monotonic() + SECONDS
        while tried < LEAST or time.monotonic() < until:
            tried += 1
            after = draw.uniform(SHORTEST, max(2 * SHORTEST, 0.95 * alone))
            with prepared() as session:
                taken = way(session, other, statement, after)
            late += [1e3 * taken] if taken is not None else []
        found[name] = (alone, late)
    return found


def _works(user: int) -> dict[str, tuple[tuple[str, ...], str]]:
    """What to stop, and what makes it work again after it was done."""
    cuts = ", ".join(f"{_AS_OF} - interval '{30 * k} days'" for k in range(1, 9))
    return {
        "rebuild_mirror": ((), "select ubp.rebuild_mirror()"),
        "compact_mirror": ((), "select ubp.compact_mirror()"),
        "refresh_features, everybody": (
            ("update ubp.feature_sets set stale = true",),
            f"select * from ubp.refresh_features({_AS_OF})",
        ),
        "refresh_features, a tenth": (
            (
                "insert into ubp.dirty_users select 1, user_id from ubp.feature_rows where user_id % 10 = 0"
                " on conflict do nothing",
            ),
            f"select * from ubp.refresh_features({_AS_OF})",
        ),
        "refresh_step": (
            (
                "select ubp.cancel_refresh(job_id) from ubp.refresh_jobs",
                "update ubp.feature_sets set stale = true",
                f"select ubp.start_refresh({_AS_OF})",
            ),
            "select * from ubp.refresh_step((select job_id from ubp.refresh_jobs))",
        ),
        "verify_mirror": ((), "select * from ubp.verify_mirror()"),
        "parity_check": ((), "select * from ubp.parity_check()"),
        "training_set, 8 cuts": ((), f"select ubp.training_set('bench', array[{cuts}])"),
        "features of a user of millions": ((), f"select * from ubp.features({user}, {_AS_OF} - interval '1 day')"),
    }


def _cancelled(
    session: psycopg.Connection[Any], other: psycopg.Connection[Any], statement: str, after: float
) -> float | None:
    """Seconds from pg_cancel_backend to the error; None where the work was done before."""
    sent: list[float] = []

    def cancel() -> None:
        sent.append(time.perf_counter())
        other.execute("select pg_cancel_backend(%s)", [session.info.backend_pid])

    timer = threading.Timer(after, cancel)
    timer.start()
    try:
        session.execute(statement)
    except errors.QueryCanceled:
        return time.perf_counter() - sent[0]
    finally:
        timer.cancel()
        timer.join()
    return None


def _timed_out(
    session: psycopg.Connection[Any], other: psycopg.Connection[Any], statement: str, after: float
) -> float | None:
    """Seconds by which a statement outlives statement_timeout."""
    milliseconds = max(1, round(1e3 * after))
    session.execute(f"set statement_timeout = {milliseconds}")
    started = time.perf_counter()
    try:
        session.execute(statement)
    except errors.QueryCanceled:
        return time.perf_counter() - started - milliseconds / 1e3
    return None


def _huge_user(conn: psycopg.Connection[Any], size: Size) -> int:
    """One more user, with as many events as all others; most in the mirror's base, the rest in deltas."""
    n, draw = size.events, np.random.default_rng([13, size.seed])
    t = BEGIN_US + np.sort(draw.integers(0, DAYS * DAY_US, n))
    kind = draw.integers(0, 3, n).astype(np.int32)
    value = np.where(kind == 0, np.nan, np.round(90 * draw.random(n), 2))
    user = size.users + 1
    log = Log(np.full(n, user), t, kind, draw.integers(1, ITEMS + 1, n), value)
    parts = np.array_split(np.arange(n), [n // 2, 5 * n // 8, 3 * n // 4, 7 * n // 8])
    copy(conn, "ubp.events", log, parts[0])
    conn.execute("select ubp.rebuild_mirror()")
    for part in parts[1:]:
        copy(conn, "ubp.events", log, part)
        conn.execute(f"select * from ubp.refresh_features({_AS_OF})")
    return user
