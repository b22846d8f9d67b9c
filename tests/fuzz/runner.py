"""Starts workers one after the other, and notices what a worker cannot say of itself: that it died, or does not end."""

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import seeds as seed_files
from tests.fuzz.mutants import Seeds, mutant
from tests.fuzz.targets import READERS
from tests.fuzz.worker import MEMORY, PROGRESS
from ubp_sql.install import native as build

ROOT = Path(__file__).parents[2]
MOST_ALIKE = 3
_UNSTEADY = re.compile(r"\d+|'[^']*'|\[.*")  # what differs between findings of one sort
STUCK = 60  # seconds without a step: what waits uses no CPU


@dataclass
class Report:
    """What a run found.

    counts    mutants by what came of them
    findings  a line each, with the file that the mutant is kept in; of those alike only the first ones
    alike     how many findings there are of each sort
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROGRESS[1:], 0))
    findings: list[str] = field(default_factory=list)
    alike: Counter[str] = field(default_factory=Counter)
    mutants: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        c = self.counts
        return (
            f"{self.mutants:,} mutants in {self.seconds:.0f} s ({self.mutants / max(self.seconds, 1e-9):,.0f}/s): "
            f"{c['refused']:,} refused, {c['accepted']:,} scored alike by every walker; oracle: {c['equal']:,} equal, "
            f"{c['unwilling']:,} refused, {c['died']:,} killed it; {c['kilobytes'] / 1024:.0f} MB more at most, "
            f"slowest {c['slowest_ms']} ms; {self.alike.total():,} findings of {len(self.alike)} sorts"
        )


def run(
    mutants: int,
    seed: int,
    *,
    only: Sequence[str] = (),
    keep: Path,
    oracle: float = 0.02,
    first: int = 0,
    memory: int = MEMORY,
    most_findings: int = 50,
    say: Callable[[str], object] = lambda line: None,
    module: str = "tests.fuzz.worker",
) -> Report:
    """Judges mutants first .. first + mutants - 1 of a seed.

    only    targets, all by default
    keep    folder for mutants that something is wrong with; made when the first one comes
    oracle  of how many mutants, as a share, the libraries themselves are asked
    memory  bytes that a worker may take beyond its start
    """
    build.build()
    names = list(only) or list(READERS)
    report, started = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        seeds = seed_files.make(names)
        seed_files.write(Path(scratch, "seeds"), seeds)
        end = first + mutants
        while first < end and len(report.findings) < most_findings:
            settings = {"seeds": f"{scratch}/seeds", "progress": f"{scratch}/progress", "targets": names, "seed": seed}
            settings |= {"first": first, "count": min(end - first, 50_000), "oracle": oracle, "memory": memory}
            first = _worker(settings, Path(scratch), seeds, keep, report, module)
            report.mutants = first - (end - mutants)
            report.seconds = time.monotonic() - started
            say(str(report))
    return report


def _worker(settings: dict[str, object], scratch: Path, seeds: Seeds, keep: Path, report: Report, module: str) -> int:
    """Runs one worker to its end, or to its death; the number of the next mutant."""
    first, count = int(str(settings["first"])), int(str(settings["count"]))
    progress = scratch / "progress"
    progress.write_bytes(struct.pack(f"<{len(PROGRESS)}q", first - 1, *[0] * (len(PROGRESS) - 1)))
    command = [sys.executable, "-m", module, json.dumps(settings)]

    def found(index: int, what: str, details: str) -> None:
        targets = [READERS[name].target for name in seeds]
        sort = f"{what} {_UNSTEADY.sub('', details.strip().rpartition(chr(10))[2])}"[:120]
        report.alike[sort] += 1
        if report.alike[sort] > MOST_ALIKE:
            return
        made = mutant(targets, seeds, int(str(settings["seed"])), index)
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{made.target}.{settings['seed']}.{index}"
        path.write_bytes(made.data)
        report.findings.append(f"{made.target}: {what}: {details.strip()}  [{path}]")

    with open(scratch / "errors", "w+b") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT) as process:
            stuck = _read(process, progress, found)
        code = process.returncode
        errors.seek(0)
        said = errors.read()[-3000:].decode(errors="replace")
    index, *counts = struct.unpack(f"<{len(PROGRESS)}q", progress.read_bytes())
    for name, value in zip(PROGRESS[1:], counts, strict=True):
        before = report.counts[name]
        report.counts[name] = max(before, value) if name in ("kilobytes", "slowest_ms") else before + value
    if code == 0:
        return first + count
    if index < first:
        raise RuntimeError(f"the worker did not start: {said}")
    what = f"crash, {signal.Signals(-code).name if code < 0 else f'status {code}'}"
    if stuck or code == -signal.SIGPROF:
        what = f"hang, {STUCK} s without a step" if stuck else "hang, more than a second of CPU"
    found(index, what, said)
    return int(index) + 1


def _read(process: "subprocess.Popen[bytes]", progress: Path, found: Callable[[int, str, str], None]) -> bool:
    """Hands on what the worker says, until it ends; True where it had to be killed because it did not go on."""
    assert process.stdout is not None
    said, last, since = b"", b"", time.monotonic()
    while True:
        if select.select([process.stdout], [], [], 1.0)[0]:
            new = os.read(process.stdout.fileno(), 65536)
            if not new:
                return False
            *lines, said = (said + new).split(b"\n")
            for line in lines:
                finding = json.loads(line)
                found(finding["index"], finding["what"], finding["details"])
        at = progress.read_bytes()[:8]
        if at != last:
            last, since = at, time.monotonic()
        elif time.monotonic() - since > STUCK:
            process.kill()
            return True
