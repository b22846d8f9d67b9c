"""`ubp-sql load`: files through a map into ubp.events."""

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

from ubp_sql.cli.shared import INTERRUPTED, AsJson, Dsn, connection, err, fail, guarded, out, print_json, warn
from ubp_sql.errors import BadInput, SourceError

if TYPE_CHECKING:
    from ubp_sql.sources.inputs import Input
    from ubp_sql.sources.load import LoadResult, Progress
    from ubp_sql.sources.load_map import LoadMap

PLAIN_EVERY_S = 5.0
RAW_SHOWN = 200  # characters of a rejected row

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE...",
        help="CSV, TSV, JSONL (plain, gzip or zstd) or Parquet; a folder: its files of that format; -: standard input.",
        show_default=False,
    ),
]
Map = Annotated[str, typer.Option("--map", help="The load map: a YAML file, or the name of one that ships.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything, print the counts, undo it.")]
Ingested = Annotated[str, typer.Option("--ingested", help="`now`: late data, known from this moment on, not earlier.")]
Undo = Annotated[int, typer.Option("--undo", help="Take the load of this number back (ubp.loads lists them).")]


@guarded
def load(
    files: Files = None,
    map: Map = "",
    dsn: Dsn = "",
    json: AsJson = False,
    dry_run: DryRun = False,
    ingested: Ingested = "",
    undo: Undo = 0,
) -> None:
    """Load files into ubp.events. Rows that cannot be used go to ubp.rejected_events; a second run adds nothing.

    It commits in parts: a load that was broken off, or a file that has grown, goes on behind the last.
    """
    if undo:
        if files or map or ingested:
            raise BadInput("--undo takes no file and no map", "ubp-sql load --undo LOAD_ID")
        return _take_back(undo, dsn, json, dry_run)
    from ubp_sql.sources.inputs import STDIN, find_inputs, spooled
    from ubp_sql.sources.load_map import LoadMap

    if not files or not map:
        raise BadInput("a file and --map are needed", "for example: ubp-sql load events.csv --map map.yaml")
    if ingested not in ("", "now"):
        raise BadInput(f"--ingested {ingested} is not known", "write --ingested now, or leave it out")
    load_map = LoadMap.from_file(map)
    if ingested:
        load_map = load_map.ingested_now()
    if Path(STDIN) not in files:
        inputs = find_inputs(files, load_map)
        for name in inputs.left_out:
            warn(f"{name} is left out: its name does not end as those of format {load_map.format} do")
        return _load(inputs.files, load_map, dsn, json, dry_run, many=len(files) > 1 or files[0].is_dir())
    if len(files) > 1:
        raise BadInput("- (the standard input) stands alone", "load the files by another command")
    with spooled(sys.stdin.buffer) as kept:
        return _load([kept], load_map, dsn, json, dry_run, many=False)


def _load(files: "list[Input]", load_map: "LoadMap", dsn: str, json: bool, dry_run: bool, *, many: bool) -> None:
    """One file after the other; of many, one that cannot be read does not stop the others."""
    from ubp_sql.sources.load import load_file

    results: list[LoadResult] = []
    failed: list[tuple[str, SourceError]] = []
    with connection(dsn) as conn:
        superuser = conn.info.parameter_status("is_superuser") == "on"
        for file in files:
            try:
                with shown_progress(quiet=json) as shown, _interruptible(file.shown, dry_run) as noted:
                    progress = noted(shown)
                    result = load_file(conn, file.path, load_map, progress=progress, dry_run=dry_run, shown=file.shown)
            except SourceError as error:
                if not many:
                    raise
                failed.append((file.shown, error))
                if not json:
                    fail(f"{error.sqlstate}: {error.message}".replace("[", "\\["), error.hint, error.exit_code)
                continue
            results.append(result)
            if not json:
                show(result, dry_run)
    total = {name: sum(getattr(r, name) for r in results) for name in ("read", "loaded", "rejected", "already")}
    if json and many:
        errors = [{"file": name, "error": error.message, "hint": error.hint} for name, error in failed]
        print_json({"files": [dataclasses.asdict(result) for result in results], "failed": errors, "total": total})
    elif json:
        print_json(dataclasses.asdict(results[0]))
    else:
        if many:
            unread = f", {len(failed):,} could not be read" if failed else ""
            out.print(f"{len(results):,} files: {_counts(**total)} = {total['read']:,} read{unread}", markup=False)
        if superuser and not load_map.shipped:
            warn("the map's expressions ran with all rights of a superuser; load as a member of ubp_loader")
    useless = total["rejected"] and not total["loaded"] + total["already"]
    if useless and not json:
        err.print("hint: no row could be loaded: does the map fit the file? Mend it and load again", markup=False)
    if failed or useless:
        raise typer.Exit(SourceError.exit_code)


def _take_back(load_id: int, dsn: str, json: bool, dry_run: bool) -> None:
    from ubp_sql.sources.undo import undo_load

    with connection(dsn) as conn:
        result = undo_load(conn, load_id, dry_run=dry_run)
    if json:
        return print_json(dataclasses.asdict(result))
    out.print(
        f"load {result.load_id} of {result.source}, {result.file}: {result.deleted:,} of {result.loaded:,} rows deleted"
        f"{' in a dry run: nothing was changed' if dry_run else '; refresh features and scores'}",
        markup=False,
    )


@contextlib.contextmanager
def _interruptible(
    file: str, dry_run: bool
) -> "Iterator[Callable[[Callable[[Progress], None] | None], Callable[[Progress], None]]]":
    """Ctrl-C says what is in by then: yields what to wrap around a progress function."""
    last: list[Progress] = []

    def noted(shown: "Callable[[Progress], None] | None") -> "Callable[[Progress], None]":
        def note(step: "Progress") -> None:
            last[:] = [step]
            if shown is not None:
                shown(step)

        return note

    try:
        yield noted
    except KeyboardInterrupt:
        kept = last[0] if last and not dry_run else None
        if kept is None or not kept.kept:
            raise
        text = f"interrupted; {kept.kept:,} rows of {file} up to line {kept.line:,} or more are in"
        raise fail(text.replace("[", "\\["), "run it again: it goes on behind them", INTERRUPTED) from None


def _counts(loaded: int, rejected: int, already: int, **_: int) -> str:
    return f"{loaded:,} loaded + {rejected:,} rejected + {already:,} already there"


def show(result: "LoadResult", dry_run: bool = False) -> None:
    """The counts, and why rows were rejected."""
    for text in result.warnings:
        warn(text)
    counts = _counts(result.loaded, result.rejected, result.already)
    if result.known_since:
        out.print(
            f"{result.file}: this content was loaded by load {result.load_id} on {result.known_since};"
            f" nothing was added ({counts} = {result.read:,})",
            markup=False,
        )
        return
    rate = f" ({result.read / result.seconds:,.0f} rows/s)" if result.seconds > 0 else ""
    out.print(f"{result.file}: {counts} = {result.read:,} read, in {result.seconds:.1f} s{rate}", markup=False)
    if result.anonymous:
        out.print(f"  {result.anonymous:,} of the loaded have no user: in ubp.anonymous_events", markup=False)
    if result.continued_line:
        out.print(f"  up to line {result.continued_line:,} an earlier load had read it: it went on there", markup=False)
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
    told = {"reading", "writing events"}

    def write(step: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_EVERY_S and step.phase in told:
            return
        told.add(step.phase)
        last = now
        share = 100 * step.position / max(step.size, 1)
        left = (now - began) * (step.size - step.position) / max(step.position, 1)
        rate = step.rows / max(now - began, 0.001)
        print(
            f"{step.phase}: {share:.0f} %, {step.rows:,} rows, {rate:,.0f} rows/s, about {left:.0f} s to read",
            file=sys.stderr,
            flush=True,
        )

    return write
