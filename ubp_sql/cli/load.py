"""`ubp-sql load`: a file through a map into ubp.events."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput, SourceError

if TYPE_CHECKING:
    from ubp_sql.sources.load import LoadResult, Progress

PLAIN_EVERY_S = 5.0
RAW_SHOWN = 200  # characters of a rejected row

File = Annotated[Path, typer.Argument(help="CSV or JSONL, plain or gzip.", show_default=False)]
Map = Annotated[str, typer.Option("--map", help="The load map: a YAML file, or the name of one that ships.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything, print the counts, undo it.")]
Ingested = Annotated[str, typer.Option("--ingested", help="`now`: late data, known from this moment on, not earlier.")]


@guarded
def load(
    file: File, map: Map, dsn: Dsn = "", json: AsJson = False, dry_run: DryRun = False, ingested: Ingested = ""
) -> None:
    """Load a file into ubp.events. Rows that cannot be used go to ubp.rejected_events; a second run adds nothing."""
    from ubp_sql.sources.load import load_file
    from ubp_sql.sources.load_map import LoadMap

    if ingested not in ("", "now"):
        raise BadInput(f"--ingested {ingested} is not known", "write --ingested now, or leave it out")
    load_map = LoadMap.from_file(map)
    if ingested:
        load_map = load_map.ingested_now()
    with connection(dsn) as conn, shown_progress(quiet=json) as progress:
        result = load_file(conn, file, load_map, progress=progress, dry_run=dry_run)
        superuser = conn.info.parameter_status("is_superuser") == "on"
    if json:
        print_json(dataclasses.asdict(result))
    else:
        show(result, dry_run)
        if superuser and not load_map.shipped:
            warn("the map's expressions ran with all rights of a superuser; load as a member of ubp_loader")
    if result.rejected and not result.loaded + result.already:
        if not json:
            err.print("hint: no row could be loaded: does the map fit the file? Mend it and load again", markup=False)
        raise typer.Exit(SourceError.exit_code)


def warn(text: str) -> None:
    err.print(f"warning: {text}", markup=False)


def show(result: "LoadResult", dry_run: bool = False) -> None:
    """The counts, and why rows were rejected."""
    for text in result.warnings:
        warn(text)
    counts = f"{result.loaded:,} loaded + {result.rejected:,} rejected + {result.already:,} already there"
    if result.known_since:
        out.print(
            f"{result.file}: this content was loaded by load {result.load_id} on {result.known_since};"
            f" nothing was added ({counts} = {result.read:,})",
            markup=False,
        )
        return
    rate = f" ({result.read / result.seconds:,.0f} rows/s)" if result.seconds > 0 else ""
    out.print(f"{result.file}: {counts} = {result.read:,} read, in {result.seconds:.1f} s{rate}", markup=False)
    for reason, rows in list(result.rejected_by_reason.items())[:10]:
        out.print(f"  rejected {rows:,}: {reason}", markup=False)
        for line, raw in result.examples.get(reason, []):
            out.print(f"    line {line}: {raw if len(raw) <= RAW_SHOWN else raw[:RAW_SHOWN] + '...'}", markup=False)
    if result.rejected and not dry_run:
        out.print(f"  with line and raw text in ubp.rejected_events, load_id {result.load_id}", markup=False)
    if dry_run:
        out.print("  this was a dry run: nothing was kept", markup=False)


@contextlib.contextmanager
def shown_progress(quiet: bool) -> "Iterator[Callable[[Progress], None] | None]":
    """A bar on a terminal, a line every few seconds elsewhere, nothing with --json."""
    if quiet:
        yield None
    elif err.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Bar(*columns, console=err, transient=True) as bar:
            task = bar.add_task("reading", total=None, rate="")
            began = time.monotonic()

            def move(step: "Progress") -> None:
                rate = f"{step.rows / max(time.monotonic() - began, 0.001):,.0f} rows/s"
                bar.update(task, description=step.phase, completed=step.position, total=step.size, rate=rate)

            yield move
    else:
        yield _plain_lines()


def _plain_lines() -> "Callable[[Progress], None]":
    began = last = time.monotonic()
    phase = "reading"

    def write(step: "Progress") -> None:
        nonlocal last, phase
        now = time.monotonic()
        if now - last < PLAIN_EVERY_S and step.phase == phase:
            return
        last, phase = now, step.phase
        share = 100 * step.position / max(step.size, 1)
        left = (now - began) * (step.size - step.position) / max(step.position, 1)
        eta = f", about {left:.0f} s to read" if step.phase == "reading" else ""
        rate = step.rows / max(now - began, 0.001)
        print(f"{step.phase}: {share:.0f} %, {step.rows:,} rows, {rate:,.0f} rows/s{eta}", file=sys.stderr, flush=True)

    return write
