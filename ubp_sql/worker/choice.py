"""Whether this machine's GPU or its CPU is sooner done with a piece of work: measured here, kept, never guessed.

`ubp-sql bench --calibrate` measures both at several sizes and keeps the figures in a file of the user's. A piece of
work goes to the GPU where the figures say that it is the faster one; without figures, or with those of another card,
CPU, driver or version, it goes to the CPU. What a server would compute itself has figures of its own, with the time
that events and rows are under way, and has to repay what a process takes to begin on the card; the server's CPU is
taken to be like this machine's.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from ubp_sql import __version__
from ubp_sql.kernels import dispatch
from ubp_sql.kernels.dispatch import NoCard

Connection = psycopg.Connection[Any]
SERVER = "server"
Choose = Callable[[int, int], str | None]
"""The device for a part of a size, of work that has about so much in all: a name of dispatch.use, None for the CPU of
this machine, or SERVER."""
SURE = 1.25
"""Times that the GPU must be faster: figures of another day and other data differ by a fifth."""
MAY = """
select has_function_privilege('ubp.store_refreshed(bigint, integer, bytea[], bigint, double precision)', 'execute')"""


@dataclass(frozen=True)
class Machine:
    """What figures hold for."""

    card: str
    cpu: str
    version: str
    software: str


@dataclass(frozen=True)
class Figures:
    """Seconds by size on the CPU and on the GPU with its transfers, for each kind of work.

    measured  kind to [(size, CPU seconds, GPU seconds), ...], sizes ascending
    start     seconds until a new process has computed something on the card, less for the CPU
    """

    machine: Machine
    measured: dict[str, list[tuple[int, float, float]]]
    start: float = 0.0

    def break_even(self, kind: str) -> int | None:
        """The size from which the GPU was faster at all larger ones that were measured too; None: at no size."""
        faster = None
        for size, cpu, gpu in reversed(self.measured.get(kind, [])):
            if not gpu * SURE < cpu:
                break
            faster = size
        return faster

    def repaid(self, kind: str) -> float:
        """How large all of the work must be for its parts, of sizes at which the GPU is faster, to save `start`."""
        least = self.break_even(kind)
        saved = [
            (cpu - gpu * SURE) / size
            for size, cpu, gpu in self.measured.get(kind, [])
            if least is not None and size >= least
        ]
        return self.start / min(saved, default=0.0) if saved else math.inf


def path() -> Path:
    """Where the figures are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ubp_sql" / "gpu.json"


def only_gpu(size: int, whole: int) -> str:
    """Chooses the GPU at any size."""
    return "gpu"


def here() -> Choose:
    """Chooses between this machine's GPU and CPU, for a process that has begun and stays."""
    least = _least("pairs")
    return lambda size, whole: "gpu" if least is not None and size >= least else None


def here_or_server(conn: Connection) -> Choose | None:
    """Chooses between this machine's GPU and the server; None where the GPU is the faster one at no size, or whoever
    asks may not have the events.

    The card itself is looked at when there is work for it: to begin on it takes seconds.
    """
    figures, kind = _read(), pairs_of(conn)
    least = None if figures is None else figures.break_even(kind)
    if figures is None or least is None or not may_compute(conn):
        return None
    repaid, looked = figures.repaid(kind), cache(kept)
    return lambda size, whole: "gpu" if size >= least and whole >= repaid and looked() is not None else SERVER


def may_compute(conn: Connection) -> bool:
    """Whether the role may take events out of the server and bring rows."""
    try:
        row = conn.execute(MAY).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # of the schema
        return False
    return bool(row and row[0])


def _least(kind: str) -> int | None:
    """The size from which the GPU is the faster one. Only where there is one is the card itself looked at."""
    figures = _read()
    least = None if figures is None else figures.break_even(kind)
    return least if least is not None and kept() is not None else None


def pairs_of(conn: Connection) -> str:
    """Pairs that this server would compute else."""
    return f"pairs of {conn.info.host}:{conn.info.port}"


def kept() -> Figures | None:
    """The figures of this machine as it is; None where there are none, or no card."""
    figures = _read()
    try:
        return figures if figures is not None and figures.machine == this_machine() else None
    except NoCard:
        return None


def _read() -> Figures | None:
    try:
        found = json.loads(path().read_text())
        return Figures(
            Machine(**found["machine"]),
            {
                kind: sorted((int(n), float(c), float(g)) for n, c, g in rows)
                for kind, rows in found["measured"].items()
            },
            float(found["start"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def fault() -> str:
    """Why no GPU of this machine can be used; empty where one can."""
    try:
        dispatch.backend("gpu")
    except NoCard as error:
        return str(error)
    return ""


def this_machine() -> Machine:
    """Raises NoCard where there is none."""
    backend: Any = dispatch.backend("gpu")
    return Machine(backend.card_name(), _cpu_name(), __version__, backend.software())


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"
