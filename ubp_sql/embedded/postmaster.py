"""Which server process works on a data directory, and what a killed one left behind. Reads /proc: Linux only."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ubp_sql.errors import ClusterError


@dataclass(frozen=True)
class Postmaster:
    """What a live server wrote into its postmaster.pid."""

    pid: int
    data_dir: str
    ready: bool


def find_postmaster(data: Path) -> Postmaster | None:
    """The live server of `data`; None if there is none, whoever has the process id that a dead one left in its file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    if not _works_in(pid, data):
        return None
    return Postmaster(pid, lines[1] if len(lines) > 1 else "", len(lines) > 7 and lines[7].strip() == "ready")


def settled_postmaster(data: Path, timeout: float) -> Postmaster | None:
    """The live server of `data` once it is ready, or None once there is none: waits while it starts, recovers or stops.

    Raises ClusterError (UB013) if that lasts longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while (server := find_postmaster(data)) and not server.ready:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the server (process {server.pid}) has been starting or stopping for {timeout:.0f} s",
                hint="look into its log; a recovery after a crash may take minutes, then start again",
            )
        time.sleep(0.1)
    return server


def stop_postmaster(data: Path, patience: float) -> None:
    """Ends the live server of `data`, if any: sessions are cut off in order, after `patience` seconds in any way.

    What was committed is safe in both cases; the second leads to a recovery at the next start.
    """
    server = find_postmaster(data)
    if server is None:
        return
    for way, wait in ((signal.SIGINT, patience), (signal.SIGQUIT, 20.0)):
        deadline = time.monotonic() + wait
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, way)
        while time.monotonic() < deadline:
            if not _works_in(server.pid, data):  # its pid file goes a moment before the process does
                return
            time.sleep(0.05)
    raise ClusterError(f"the server in {data} does not stop", hint=f"kill it: process {server.pid}")


def clear_leftovers(data: Path, socket_dir: Path, patience: float = 10) -> None:
    """Ends the sessions that outlived a killed server, then removes its stale pid file and socket.

    PostgreSQL itself refuses to start when the stale number now belongs to any process of the same account, or when
    a session that computes for long has not yet noticed its server's death. Call only without a live postmaster.
    """
    deadline = time.monotonic() + patience
    sent = signal.SIGTERM
    while orphans := _processes_in(data):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes of an earlier server do not end: {', '.join(map(str, orphans))}")
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        # A session inside a native loop answers no SIGTERM; its server is dead, so killing it can hurt no other one.
        if time.monotonic() > deadline - patience + 1:
            sent = signal.SIGKILL
        time.sleep(0.1)
    for file in (data / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
        file.unlink(missing_ok=True)


def _processes_in(data: Path) -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _works_in(int(entry), data)]


def _works_in(pid: int, data: Path) -> bool:
    """Each process of a server has the data directory as its working directory, and postgres as its program."""
    try:
        here = os.path.samestat(os.stat(f"/proc/{pid}/cwd"), data.stat())
        return here and os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("postgres")
    except OSError:  # gone, or another account's, which no server of ours is
        return False
