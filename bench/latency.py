"""Latency of statements by pgbench: prepared, one client; and of the first call in a new connection."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from ubp_sql.embedded.binaries import find_binaries

COLD_CALLS = 200
Samples = dict[int, list[int]]


def mixed_and_in_turn(
    dsn: str, statements: list[str], *, mixed_seconds: int, round_seconds: int, rounds: int
) -> dict[str, Samples]:
    """Microseconds of each call by statement: drawn at random in one session, and each in turn in one of its own.

    Mixed, each statement finds the processor's caches and clock as the other left them, which flatters the slower one;
    in turn, each has them to itself. A statement may be several lines, its first ones \\set.
    """
    with tempfile.TemporaryDirectory() as folder:
        scripts = []
        for number, statement in enumerate(statements):
            path = Path(folder) / f"{number}.sql"
            path.write_text(statement)
            scripts.append(path)
        mixed = _latencies(dsn, folder, scripts, mixed_seconds)
        alone: Samples = {number: [] for number in range(len(scripts))}
        for _ in range(rounds):
            for number, path in enumerate(scripts):
                alone[number] += _latencies(dsn, folder, [path], round_seconds)[0]
    return {"mixed": mixed, "in turn": alone}


def median_of(dsn: str, statement: str, seconds: int) -> float:
    """Median microseconds of one statement alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "0.sql"
        path.write_text(statement)
        return statistics.median(_latencies(dsn, folder, [path], seconds)[0])


def first_calls(dsn: str, statements: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of the first statement of a new connection, in turn."""
    found: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(rounds):
        for name, statement in statements.items():
            with psycopg.connect(dsn, autocommit=True) as conn:
                started = time.perf_counter()
                conn.execute(statement)
                found[name].append(1e3 * (time.perf_counter() - started))
    return found


def _latencies(dsn: str, folder: str, scripts: list[Path], seconds: int) -> Samples:
    """Microseconds of each call by script, less the first of the session: they import, compile and fill caches."""
    pgbench = find_binaries().program("pgbench")
    files = [part for path in scripts for part in ("-f", str(path))]
    command = [pgbench, "-n", "-M", "prepared", "-T", str(seconds), "-l", "--log-prefix", f"{folder}/log", *files, dsn]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    times: Samples = {}
    for log in Path(folder).glob("log.*"):
        for line in log.read_text().splitlines():
            _, _, latency, script, *_ = line.split()
            times.setdefault(int(script), []).append(int(latency))
        log.unlink()
    return {script: found[COLD_CALLS:] for script, found in times.items()}
