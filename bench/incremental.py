"""A refresh after some events costs what they changed: not what the log holds, and never more than everybody."""

import statistics
import time
from contextlib import ExitStack
from typing import Any

import psycopg

from bench import fresh_events, latency, ours, settings
from bench.event_log import END_US
from bench.server import cluster
from bench.stored import Size, copied

EVENTS, STEP, EVENTS_A_USER = 10_000_000, 10, 50
"""Bases of 1 M and 10 M events; the curve and the moved moments are those of the smaller one."""
FRESH = (1_000, 10_000)
ROUNDS = 5
SHARES = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
MOST_BASES, MOST_SELECTS, MOST_OF_FULL = 1.3, 3.0, 1.1
_AT = "to_timestamp({})"
_AS_OF = _AT.format(END_US // 1_000_000)
_HOURS = {"an hour": 1, "a day": 24}


def run() -> dict[str, Any]:
    """Works on copies; every kind of refresh is compared with a full recompute, bit by bit, at the end of its part."""
    large = settings.size(EVENTS, EVENTS // EVENTS_A_USER)
    small = Size(large.events // STEP, large.users // STEP, large.seed)
    count = settings.count(ROUNDS)
    rows: list[dict[str, Any]] = []
    bars: dict[str, bool] = {}
    with ExitStack() as stack:
        bases = {size: stack.enter_context(copied(size)) for size in (small, large)}
        for conn in bases.values():
            ours.refresh_everybody(conn, _AS_OF)
        for k in FRESH:
            _fresh(bases, k, count, rows, bars)
        for size, conn in bases.items():
            _same_as_full(conn, _AS_OF, f"{size.events:,} events", bars)
        curve = _curve(bases[small], small, max(1, count // 2), rows, bars)
        _moved(bases[small], rows, bars)
    return {"rows": rows, "bars": bars, "curve": curve, "size": f"{small}; {large}"}


def _fresh(
    bases: dict[Size, psycopg.Connection[Any]], k: int, count: int, rows: list[dict[str, Any]], bars: dict[str, bool]
) -> None:
    """The same k events on each base, in turn; a primary-key SELECT is timed between them."""
    seconds: dict[Size, list[float]] = {size: [] for size in bases}
    selects: dict[Size, list[float]] = {size: [] for size in bases}
    touched: dict[Size, list[int]] = {size: [] for size in bases}
    smallest = min(bases, key=lambda size: size.events)
    for number in range(count):
        users = fresh_events.drawn_users(smallest, k, 100 * k + number)
        for size, conn in bases.items():
            fresh_events.insert(conn, users, 100 * k + number)
            taken, recomputed = refresh(conn, _AS_OF)
            seconds[size].append(taken)
            touched[size].append(recomputed)
            selects[size].append(_select_us(conn.info.dbname, size))
    for size in bases:
        per_user = [1e6 * s / n for s, n in zip(seconds[size], touched[size], strict=True)]
        ratio = statistics.median(one / two for one, two in zip(per_user, selects[size], strict=True))
        rows.append(
            {
                "part": f"{k:,} events on {size.events / 1e6:g} M",
                "median s": statistics.median(seconds[size]),
                "fastest s": min(seconds[size]),
                "slowest s": max(seconds[size]),
                "users": round(statistics.median(touched[size])),
                "µs a user": statistics.median(per_user),
                "key SELECT µs": statistics.median(selects[size]),
            }
        )
        name = f"{k:,} events on {size.events / 1e6:g} M: {ratio:.1f} primary-key SELECTs a user <= {MOST_SELECTS:.0f}"
        bars[name] = ratio <= MOST_SELECTS
    small, large = (statistics.median(seconds[size]) for size in sorted(bases, key=lambda size: size.events))
    bars[f"{k:,} events: {large / small:.2f}x on the larger base <= {MOST_BASES}x"] = large / small <= MOST_BASES


def refresh(conn: psycopg.Connection[Any], as_of: str) -> tuple[float, int]:
    """Seconds of a refresh, and the users it computed."""
    started = time.perf_counter()
    found = conn.execute(f"select recomputed from ubp.refresh_features({as_of})").fetchone()
    return time.perf_counter() - started, found[0] if found else 0


def _select_us(database: str, size: Size) -> float:
    """Median of a primary-key SELECT of a stored row, prepared, in a session of its own."""
    statement = f"""\\set u random(1, {size.users})
select features from ubp.feature_rows where feature_set_id = 1 and user_id = :u;
"""
    return latency.median_of(cluster().dsn(database), statement, 1)


def _same_as_full(conn: psycopg.Connection[Any], as_of: str, name: str, bars: dict[str, bool]) -> None:
    before = ours.fingerprint(conn)
    ours.refresh_everybody(conn, as_of)
    bars[f"{name}: equal to a full recompute, bit by bit"] = before == ours.fingerprint(conn)


def _curve(
    conn: psycopg.Connection[Any], size: Size, count: int, rows: list[dict[str, Any]], bars: dict[str, bool]
) -> list[dict[str, float]]:
    """Time over the share of users touched, beside a full recompute after as many events."""
    curve, worst = [], 0.0
    for share in SHARES:
        n = max(1, round(share * size.users))
        pairs = []
        for number in range(count):
            seconds = []
            for stale in ("stale", "true"):  # as it is, and as if nothing were stored: each after events of its own
                seed = 2 * number + (stale == "true")
                fresh_events.insert(conn, fresh_events.different_users(size, n, seed), seed)
                conn.execute(f"update ubp.feature_sets set stale = {stale}")
                seconds.append(refresh(conn, _AS_OF)[0])
            pairs.append((seconds[0], seconds[1]))
        taken, full = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / two for one, two in pairs)
        worst = max(worst, ratio)
        curve.append({"share": share, "users": n, "seconds": taken, "full_seconds": full})
        part = {"part": f"{share:.2%} of {size.users:,} users", "median s": taken, "users": n}
        rows.append({**part, "full s": full, "of full": ratio})
    bars[f"at most {worst:.2f}x of a full recompute <= {MOST_OF_FULL}x, whatever the share"] = worst <= MOST_OF_FULL
    return curve


def _moved(conn: psycopg.Connection[Any], rows: list[dict[str, Any]], bars: dict[str, bool]) -> None:
    """as_of moved on, without new events: who has an event that crosses an edge is rewritten."""
    for name, hours in _HOURS.items():
        ours.refresh_everybody(conn, _AS_OF)
        later = _AT.format(END_US // 1_000_000 + 3600 * hours)
        taken, recomputed = refresh(conn, later)
        _same_as_full(conn, later, f"as_of moved by {name}", bars)
        conn.execute("update ubp.feature_sets set stale = true")
        full, _ = refresh(conn, later)
        part = {"part": f"as_of moved by {name}", "median s": taken, "users": recomputed}
        rows.append({**part, "full s": full, "of full": taken / full})
