"""The first call of a new connection, and the memory it takes: beside an empty PL/Python function.

What a pooler or an application without one waits for. Each round opens a connection for each statement, in turn.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import psycopg

from bench import settings
from bench.memory import Peak
from bench.predict import serving
from bench.server import cluster

ROUNDS = 31
MOST, MOST_MB = 1.5, 10.0
EMPTY = "empty PL/Python function"
STATEMENTS = {
    EMPTY: "select bench_empty({user})",
    "predict_purchase(user_id)": "select ubp.predict_purchase({user}::bigint)",
    "predict_detail": "select * from ubp.predict_detail('purchase', {user}::bigint)",
    "score": "select ubp.score('purchase', array_fill(1.0::float8, array[{features}]))",
    "features(user_id, now())": "select * from ubp.features({user}::bigint, now())",
    "warm()": "select * from ubp.warm()",
}
UNBOUND = {"warm()"}  # it is what a pooler calls so that others need not wait
OPTIONS = "language plpython3u stable strict parallel unsafe security definer set search_path = pg_catalog, pg_temp"


def run() -> dict[str, Any]:
    """Milliseconds, processor time and MB of Private_Dirty after the call, medians of connections in turn."""
    server = cluster()
    with serving(server, "bench_first_call") as conn:
        conn.execute(f"create function bench_empty(u bigint) returns bigint {OPTIONS} as $$ return u $$".encode())
        conn.execute("select * from ubp.score_users('purchase')")
        conn.execute("vacuum analyze")
        known = conn.execute("select min(user_id), min(cardinality(features)) from ubp.feature_rows").fetchone()
        user, features = known or (0, 0)
    texts = {name: text.format(user=user, features=features) for name, text in STATEMENTS.items()}
    found = measured(server.dsn("bench_first_call"), texts, settings.count(ROUNDS))
    base_ms, _, base_mb = (statistics.median(part) for part in zip(*found[EMPTY], strict=True))
    rows, bars = [], {}
    for name, samples in found.items():
        ms, cpu, mb = zip(*samples, strict=True)
        ratio, more = statistics.median(ms) / base_ms, statistics.median(mb) - base_mb
        timing = {"ms": statistics.median(ms), "fastest ms": min(ms), "slowest ms": max(ms), "ratio": ratio}
        used = {"CPU ms": statistics.median(cpu), "Private_Dirty MB": statistics.median(mb), "more MB": more}
        rows.append({"first call": name, "connections": len(ms), **timing, **used})
        if name != EMPTY and name not in UNBOUND:
            bars[f"{name}: {ratio:.2f}x <= {MOST}x an empty PL/Python function"] = ratio <= MOST
            bars[f"{name}: {more:.1f} MB more <= {MOST_MB:.0f} MB"] = more <= MOST_MB
    return {"rows": rows, "bars": bars}


def measured(dsn: str, statements: dict[str, str], rounds: int) -> dict[str, list[tuple[float, float, float]]]:
    """(milliseconds, those on a processor, MB) of the first statement of each new connection, less a first round."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in statements}
    for number in range(rounds + 1):
        names = list(statements)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with psycopg.connect(dsn, autocommit=True) as conn:
                pid = conn.info.backend_pid
                busy = _on_processor(pid)
                started = time.perf_counter()
                conn.execute(statements[name].encode()).fetchall()
                taken = 1e3 * (time.perf_counter() - started)
                busy = _on_processor(pid) - busy
                memory = Peak(pid)
                memory.look()
            if number:
                found[name].append((taken, busy, memory.mb))
    return found


def _on_processor(pid: int) -> float:
    """Milliseconds so far: what else the machine does hardly touches them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
