"""`refresh`: stored features brought to one moment, once or every so often, in one transaction or in steps."""

import json as text_json
import re
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ubp_sql.cli.gpu import Gpu, asked_for, choice_of
from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import INTERRUPTED, AsJson, Dsn, connection, err, fail, from_server, guarded, note
from ubp_sql.errors import BadInput, NotReady, UbpError
from ubp_sql.install import state

if TYPE_CHECKING:
    from ubp_sql.worker.choice import Choose

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_S = 31 * 86400
UNDER_WAY = """
select f.job_under_way as job, r.detail ->> 'as_of' as as_of,
       (r.detail ->> 'as_of')::timestamptz <> %s::timestamptz as another
  from ubp.freshness f join ubp.job_runs r on r.job_id = f.job_under_way where f.feature_set = %s limit 1"""


@guarded
def refresh(
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Moment of the features, UTC without an offset; default: now.")
    ] = None,
    feature_set: Annotated[str, typer.Option("--feature-set", "--set", help="Which set.")] = "default",
    every: Annotated[
        str | None, typer.Option("--every", help="Again and again, so far apart: 30s, 5m, 1h. Ctrl-C ends it.")
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Commit between chunks of users; goes on with one that was interrupted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take; change nothing.")] = False,
    gpu: Gpu = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Bring stored features to one moment, computing those users whose events changed.

    A GPU computes in steps: --gpu implies --steps.
    """
    from ubp_sql.training.cuts import parse_cut

    moment = None if as_of is None else parse_cut(as_of)
    if every is None:
        _once(dsn, moment, feature_set, steps, dry_run, json, gpu if dry_run else asked_for(gpu))
        return
    if as_of is not None or dry_run:
        raise BadInput("--every takes neither --as-of nor --dry-run", "each round computes the moment it begins at")
    _again(dsn, _seconds(every), feature_set, steps, json, asked_for(gpu))


def _once(
    dsn: str,
    moment: Any,
    feature_set: str,
    steps: bool,
    dry_run: bool,
    json: bool,
    gpu: bool | None,
    line: bool = False,
) -> None:
    with connection(dsn) as conn:
        # Steps store every row twice: by itself a GPU does not win that back.
        choose = choice_of(gpu, conn) if (gpu or steps) and not dry_run else None
        if (steps or choose) and not dry_run:
            rows = _in_steps(conn, moment, feature_set, dsn, choose, quiet=json)
        else:
            query = "select * from ubp.refresh_features(coalesce(%s::timestamptz, now()), %s, %s)"
            with err.status("looking" if dry_run else "computing features"):
                rows = state.rows(conn, query, moment, feature_set, dry_run)
    if line and json:
        sys.stdout.write(text_json.dumps(rows[0], default=str) + "\n")
        sys.stdout.flush()
    else:
        print_rows(rows, json)


def _again(dsn: str, seconds: float, feature_set: str, steps: bool, json: bool, gpu: bool | None) -> None:
    """Rounds until interrupted; a round that fails is told and the next one tried, but the first must go well."""
    signal.signal(signal.SIGTERM, _interrupt)
    first = True
    while True:
        started = time.monotonic()
        try:
            _once(dsn, None, feature_set, steps, False, json, gpu, line=True)
            first = False
        except (psycopg.Error, UbpError) as error:
            if first:
                raise
            shown = from_server(error) if isinstance(error, psycopg.Error) else error
            err.print(f"{shown.sqlstate}: {shown.message}; next try in {seconds:g} s", markup=False)
        time.sleep(max(0.0, seconds - (time.monotonic() - started)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= seconds <= LONGEST_S:
        raise BadInput(f"--every {text!r} is no such time", "a number and s, m, h or d, up to 31d: 30s, 5m, 1h")
    return seconds


def _job(conn: psycopg.Connection[Any], moment: Any, feature_set: str, quiet: bool) -> int:
    """The job that is under way, else a new one.

    Raises NotReady where the one under way computes another moment than the one asked for.
    """
    found = state.rows(conn, UNDER_WAY, moment, feature_set)
    if not found:
        query = "select ubp.start_refresh(coalesce(%s::timestamptz, now()), %s) as job"
        try:
            with err.status("choosing users"):
                return int(state.rows(conn, query, moment, feature_set)[0]["job"])
        except psycopg.Error as error:
            # The server may still have been at a start whose client was killed: now that job is there.
            found = state.rows(conn, UNDER_WAY, moment, feature_set) if error.sqlstate == NotReady.sqlstate else []
            if not found:
                raise
    job, as_of = int(found[0]["job"]), found[0]["as_of"]
    if found[0]["another"]:
        raise NotReady(
            f"job {job}, a refresh as of {as_of}, is under way",
            f"without --as-of the command goes on with it; select ubp.cancel_refresh({job}) gives it up",
        )
    if not quiet:
        err.print(f"· going on with job {job}, as of {as_of}", markup=False)
    return job


def _in_steps(
    conn: psycopg.Connection[Any], moment: Any, feature_set: str, dsn: str, choose: "Choose | None", *, quiet: bool
) -> list[dict[str, Any]]:
    """Takes steps until the job is done; returns its last row with the job's number."""
    job = _job(conn, moment, feature_set, quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as shown:
            if choose:
                _computed_here(conn, job, dsn, choose, shown)
            bar = shown.add_task("users", total=None)
            while True:
                (row,) = state.rows(conn, "select * from ubp.refresh_step(%s)", job)
                shown.update(bar, completed=row["done_users"], total=row["total_users"])
                if row["state"] != "running":
                    break
    except KeyboardInterrupt:
        raise fail(
            f"interrupted; job {job} keeps what it has computed", "the same command goes on with it", INTERRUPTED
        ) from None
    if row["state"] == "failed":
        raise NotReady(f"job {job} failed: {row['detail']}", "the same command takes the step again, or begins anew")
    return [{"job": job, **row}]


def _computed_here(conn: psycopg.Connection[Any], job: int, dsn: str, choose: "Choose", shown: Progress) -> None:
    """Computes chunks on this machine; those that are left, or all where the job is over, are the next step's."""
    from ubp_sql.worker.refresh import compute_chunks

    bar = shown.add_task("chunks", total=None)
    with connection(dsn) as reading:
        try:
            compute_chunks(
                conn, reading, job, choose, say=note, done=lambda _, chunks: shown.update(bar, advance=1, total=chunks)
            )
        except (psycopg.Error, UbpError) as error:
            if conn.closed:
                raise
            shown.stop_task(bar)
            said = from_server(error) if isinstance(error, psycopg.Error) else error
            note(f"{said.sqlstate}: {said.message}; the server goes on")
