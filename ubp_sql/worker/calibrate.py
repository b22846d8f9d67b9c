"""Seconds that a piece of work takes this machine's CPU and its GPU, at several sizes: the figures of choice.py."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
from psycopg import sql

from ubp_sql.errors import NotReady
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import DEFAULT_WINDOWS_DAYS, FeatureSetDefinition
from ubp_sql.features.events import Events
from ubp_sql.kernels import dispatch
from ubp_sql.kernels.dispatch import DAY_US
from ubp_sql.worker.ahead import Say
from ubp_sql.worker.choice import Connection, Figures, kept, pairs_of, path, this_machine

SIZES = {"pairs": (10_000, 100_000, 1_000_000, 4_000_000), "rows": (1_000, 10_000, 100_000, 1_000_000)}
"""Of pairs: events of their users; of rows: how many a forest of 100 trees scores."""
ROUNDS = 3
EVENTS_A_USER = 50
DEFINITION = FeatureSetDefinition(("cart", "purchase", "view"), DEFAULT_WINDOWS_DAYS)
EVENT_BYTES = 24 + 8 * (len(DEFINITION.columns.numbers) + len(DEFINITION.columns.keys))
ROW_BYTES = 16 + 4 * len(DEFINITION.features) + 8 * len(DEFINITION.plan.anchors)
"""Of an event on its way here, and of a user's row on its way back."""
DOWN = "copy (select convert_to(repeat('x', {}), 'UTF8') from generate_series(1, {})) to stdout (format binary)"
UP = "select array_length(%b::bytea[], 1)"
PIECE = 1 << 20
BEGIN = "import sys; from ubp_sql.worker.calibrate import begin; begin(sys.argv[1] or None)"


def calibrate(
    say: Say = lambda line: None, sizes: dict[str, Sequence[int]] | None = None, conn: Connection | None = None
) -> Figures:
    """Measures and keeps. Raises NoCard without a card, AssertionError where the two do not agree.

    conn  to the server whose work the GPU may take; None: figures of this machine alone
    """
    machine, before = this_machine(), kept()
    measured = {} if before is None else dict(before.measured)  # of other servers
    for kind, steps in (sizes or SIZES).items():
        work = {"pairs": _pairs_work, "rows": _rows_work}[kind]
        measured[kind] = [_measure(kind, size, work(size), say) for size in steps]
    if conn is not None:
        measured[pairs_of(conn)] = [
            (size, cpu, gpu + _way(conn, size, say)) for size, cpu, gpu in measured.get("pairs", [])
        ]
    figures = Figures(machine, measured, _start(say))
    write(figures)
    return figures


def write(figures: Figures) -> None:
    """Keeps figures, in place of those that were kept."""
    target = path()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = target.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    scratch.replace(target)


def begin(device: str | None) -> None:
    """What a process does to begin: everything is imported, the card is taken and computes a user."""
    if device:
        from ubp_sql.kernels import gpu

        gpu.SLOWER = 0.0
    with dispatch.use(device):
        _pairs_work(EVENTS_A_USER)()


def _start(say: Say) -> float:
    """Seconds that a new process takes longer to begin on the card than on the CPU."""
    took = []
    for device in ("", "gpu"):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", BEGIN, device], check=False)
        if done.returncode:
            raise NotReady(
                "a second process on the GPU failed, as said above",
                "`nvidia-smi -q -d COMPUTE` says whether the card is for one process only",
            )
        took.append(time.perf_counter() - started)
    cpu, gpu = took
    say(f"begin: CPU {cpu * 1e3:,.1f} ms, GPU {gpu * 1e3:,.1f} ms")
    return max(0.0, gpu - cpu)


def _measure(kind: str, size: int, work: Callable[[], Any], say: Say) -> tuple[int, float, float]:
    """(size, CPU seconds, GPU seconds), rounds of both in turn after one of each that is not timed."""
    took: dict[str | None, list[float]] = {None: [], "gpu": []}
    results = {}
    for round_number in range(ROUNDS + 1):
        for device, seconds in took.items():
            with dispatch.use(device):
                started = time.perf_counter()
                results[device] = work()
                if round_number:
                    seconds.append(time.perf_counter() - started)
    np.testing.assert_allclose(results["gpu"], results[None], rtol=1e-6)
    cpu, gpu = median(took[None]), median(took["gpu"])
    say(f"{kind} {size:>9,}: CPU {cpu * 1e3:,.1f} ms, GPU {gpu * 1e3:,.1f} ms, {cpu / gpu:.2f}x")
    return size, cpu, gpu


def _way(conn: Connection, events: int, say: Say) -> float:
    """Seconds that so many events take from the server, and the rows of their users back."""
    pieces, rows = -(-events * EVENT_BYTES // PIECE), [bytes(-(-events * ROW_BYTES // EVENTS_A_USER))]
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with (
            conn.cursor() as cursor,
            cursor.copy(sql.SQL(DOWN).format(sql.Literal(PIECE), sql.Literal(pieces))) as copy,
        ):
            for _ in copy:
                pass
        conn.execute(UP, [rows])
        took.append(time.perf_counter() - started)
    say(f"way of {events:>8,}: {median(took) * 1e3:,.1f} ms")
    return median(took)


def _pairs_work(size: int) -> Callable[[], Any]:
    """Standard features of users of EVENTS_A_USER events each, a moment."""
    rng = np.random.default_rng(1)
    users = max(1, size // EVENTS_A_USER)
    n = users * EVENTS_A_USER
    t_us = np.sort(rng.integers(0, 365 * DAY_US, (users, EVENTS_A_USER)), axis=1).ravel()
    events = Events(
        user_id=np.arange(users, dtype=np.int64),
        first=np.arange(users + 1, dtype=np.int64) * EVENTS_A_USER,
        t_us=t_us,
        ingested_us=t_us,
        offset_s=np.zeros(n, np.int32),
        kind=rng.integers(0, 3, n).astype(np.int32),
        numbers={name: rng.lognormal(3, 1, n) for name in DEFINITION.columns.numbers},
        keys={name: rng.integers(0, 1000, n) for name in DEFINITION.columns.keys},
    )
    moment = np.full(users, 365 * DAY_US)
    return lambda: compute(events, DEFINITION, np.arange(users), moment, moment).features


def _rows_work(size: int) -> Callable[[], Any]:
    """Scores of `size` rows of 40 features by 100 trees of 31 leaves."""
    from ubp_sql.models.batch import raw_batch
    from ubp_sql.models.blob import open_blob
    from ubp_sql.worker.sample_forest import sample_forest

    blob = open_blob(sample_forest(trees=100, leaves=31, features=40))
    rows = np.random.default_rng(2).normal(size=(size, 40)).astype(np.float32)
    return lambda: raw_batch(blob, rows)
