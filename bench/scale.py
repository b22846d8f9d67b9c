"""Ten times the events: time grows no faster, and one backend's memory stays bounded."""

import os
from itertools import product
from typing import Any

import psycopg

from bench import ours, settings
from bench.event_log import END_US
from bench.memory import peak_of
from bench.server import cluster
from bench.snapshot import timed
from bench.stored import Size, stored

EVENTS, STEP = 10_000_000, 5
LONG_STEP = 10
"""Unless EVENTS says otherwise 2 M and 10 M events; with EVENTS=50, 5 M and 50 M."""
EVENTS_A_USER = 50
MOST_MORE = 1.1
MOST_MB = 1_500
_AS_OF = f"to_timestamp({END_US // 1_000_000})"
WORK = {
    "build_mirror": "select ubp.rebuild_mirror()",
    "arrays in memory": f"select bench.snapshot({END_US})",
    "refresh_features, everybody": f"select * from ubp.refresh_features({_AS_OF})",
}


def run() -> dict[str, Any]:
    """Each piece of work in a session of its own, whose memory is watched: a build once, the others' second run counts.

    WORK=arrays,refresh, for example, keeps to the works whose name has one of these words.

    The two sizes take turns. Loading compiled code, once a session, would make the small size look slow.
    """
    asked = os.environ.get("WORK", "").split(",")
    works = {name: statement for name, statement in WORK.items() if any(word in name for word in asked)}
    step = LONG_STEP if os.environ.get("EVENTS") else STEP
    large = settings.size(EVENTS, EVENTS // EVENTS_A_USER)
    small = Size(large.events // step, large.users // step, large.seed)
    seconds: dict[tuple[str, int], list[float]] = {}
    peaks: dict[tuple[str, int], float] = {}
    for size in (small, large):
        with stored(size) as conn:
            ours.prepare(conn)
    for _ in range(settings.count(2)):
        for size, (name, statement) in product((small, large), works.items()):
            dsn = cluster().dsn(size.name)
            with psycopg.connect(dsn, autocommit=True) as session, peak_of(session.info.backend_pid) as peak:
                for _ in range(1 if name == "build_mirror" else 2):  # a minute a build, which keeps nothing
                    session.execute("update ubp.feature_sets set stale = true")
                    taken = timed(session, statement)
            key = (name, size.events)
            peaks[key] = max(peaks.get(key, 0.0), peak.mb)
            seconds.setdefault(key, []).append(taken)
    rows, bars = [], {}
    for name in works:
        mine = {size: min(seconds[name, size.events]) for size in (small, large)}
        ratio, most = mine[large] / mine[small], MOST_MORE * step
        for size, fastest in mine.items():
            runs, peak_mb = seconds[name, size.events], peaks[name, size.events]
            row = {"work": name, "M events": size.events / 1e6, "fastest s": fastest}
            rows.append({**row, "slowest s": max(runs), "peak MB": peak_mb})
        bars[f"{name}: {step}x the events take {ratio:.1f}x <= {most:.1f}x"] = ratio <= most
        highest = peaks[name, large.events]
        bars[f"{name}: {highest:.0f} MB <= {MOST_MB} MB at {large.events / 1e6:g} M events"] = highest <= MOST_MB
    return {"rows": rows, "bars": bars, "size": str(large)}
