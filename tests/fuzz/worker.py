"""Judges mutants in a process that may die of them: limits of memory, of CPU for each, and of what may be opened.

    python -m tests.fuzz.worker SETTINGS      JSON, as runner.py writes it

A line of JSON on standard output is something found. Where it stands is kept in a file of numbers (`PROGRESS`), which
its starter reads after a crash.
"""

import contextlib
import faulthandler
import json
import mmap
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz import seeds as seed_files
from tests.fuzz.judge import Wrong, judge
from tests.fuzz.mutants import Mutant, mutant
from tests.fuzz.oracle import Oracle
from tests.fuzz.targets import READERS

PROGRESS = ("index", "refused", "accepted", "equal", "died", "unwilling", "kilobytes", "slowest_ms")
SECONDS = 1.0  # of CPU for one mutant: reading, and scoring what is accepted
MEMORY = 192 << 20  # bytes beyond what the process has when all seeds were read
# Where Python's own modules, the package and the time zones lie: the only files that reading may open.
_PLACES = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/usr/share/zoneinfo", "/usr/lib/python3")
_WATCHED = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "pickle.",
    "shutil.",
    "tempfile.",
    "urllib.",
    "ctypes.dlopen",
    "mmap.",
)
_armed: list[str] = []
_opened: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed or not event.startswith(_WATCHED):
        return
    if event in ("open", "os.listdir", "os.scandir", "os.walk"):
        path, mode = os.fsdecode(arguments[0]) if arguments else "", arguments[1] if len(arguments) > 1 else "r"
        if path.startswith(_PLACES) and (mode is None or "r" in str(mode)):
            return
    _opened.append(f"{event} {arguments[:1]!a}"[:200])


def examine(found: Mutant, index: int, oracle: Oracle | None) -> tuple[str, str]:
    """('refused' | 'accepted' | 'equal' | 'died' | 'unwilling', '') or (what is wrong, details)."""
    _opened.clear()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _armed.append(found.target)
    try:
        verdict = judge(found, index, None)
        _armed.clear()
        signal.setitimer(signal.ITIMER_PROF, 0)
        if oracle is not None and verdict.oracle == "possible":
            verdict = judge(found, index, oracle)
    except Wrong as wrong:
        return "wrong", str(wrong)
    except MemoryError:
        return "memory", traceback.format_exc(limit=-4)
    except BaseException as error:  # SystemExit of a pickle that was opened, too
        return type(error).__name__, traceback.format_exc(limit=-6)
    finally:
        _armed.clear()
        signal.setitimer(signal.ITIMER_PROF, 0)
    if _opened:
        return "opened", "; ".join(_opened[:5])
    if not verdict.accepted:
        return "refused", ""
    return {"refused": "unwilling", "equal": "equal", "died": "died"}.get(verdict.oracle, "accepted"), ""


def limit(memory: int) -> None:
    """No more than so many bytes beyond what is mapped now, no core file. Soft: the oracle has another limit."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    settings = json.loads(sys.argv[1])
    seeds = seed_files.load(Path(settings["seeds"]))
    readers = [READERS[name] for name in settings["targets"]]
    targets = [reader.target for reader in readers]
    oracle = Oracle() if settings["oracle"] else None
    with open(settings["progress"], "r+b") as file:
        progress = memoryview(mmap.mmap(file.fileno(), 8 * len(PROGRESS))).cast("q")
    # Modules are imported, kernels loaded and caches filled before what is opened and allocated is counted.
    for reader in readers:
        for data in seeds[reader.target.name]:
            judge(Mutant(reader.target.name, data), 0, None)
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)
    sys.addaudithook(_audit)
    first, count = settings["first"], settings["count"]
    limit(settings["memory"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asked, slowest, starter = 0, 0.0, os.getppid()
    for index in range(first, first + count):
        if os.getppid() != starter:  # it was killed
            break
        progress[0] = index
        found = mutant(targets, seeds, settings["seed"], index)
        ask = oracle if oracle is not None and asked < settings["oracle"] * (index - first + 1) else None
        began = time.process_time()
        said, details = examine(found, index, ask)
        slowest = max(slowest, time.process_time() - began)
        asked += said in ("equal", "died", "unwilling")
        if said in PROGRESS:
            progress[PROGRESS.index(said)] += 1
            if said not in ("accepted", "refused"):
                progress[PROGRESS.index("accepted")] += 1
        else:
            sys.stdout.write(json.dumps({"index": index, "what": said, "details": details}) + "\n")
            sys.stdout.flush()
    progress[PROGRESS.index("slowest_ms")] = int(1000 * slowest)
    progress[PROGRESS.index("kilobytes")] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if oracle is not None:
        with contextlib.suppress(OSError):
            oracle.close()


if __name__ == "__main__":
    main()
