"""`report`: one page about a task's model, for people."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ubp_sql.cli.run_jobs import Task
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput

MOST_EXAMPLES = 60


@guarded
def report(
    task: Task,
    to: Annotated[Path, typer.Option("--output", "-o", help="File to write, for example report.html.")],
    version: Annotated[
        int | None, typer.Option("--version", help="Version it is about; default: the one that answers.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Folder to write each figure into, as PNG.", file_okay=False)
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            "--examples", help=f"Users shown with their reasons, a third each high, middling, low: to {MOST_EXAMPLES}."
        ),
    ] = 6,
    no_examples: Annotated[bool, typer.Option("--no-examples", metavar="", help="No single user is shown.")] = False,
    gain: Annotated[
        float | None,
        typer.Option(
            "--gain", help="What the outcome brings (of an amount, a share of it); with --cost: a profit curve."
        ),
    ] = None,
    cost: Annotated[float | None, typer.Option("--cost", help="What acting on a user takes.")] = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Write a page about a task's model: what it predicts, how good it is, what moves it, how to repeat it.

    The page is one file of HTML: it loads nothing, so it can be mailed, printed and read without a network.
    """
    if not 0 <= examples <= MOST_EXAMPLES:
        raise BadInput(f"--examples is {examples}", f"a number of users from 0 to {MOST_EXAMPLES}")
    if (gain is None) != (cost is None):
        raise BadInput("one of --gain and --cost is missing", "--gain 40 --cost 5: the curve takes both, or neither")
    try:
        from ubp_sql.training.report.figures_profit import Stakes
        from ubp_sql.training.report.write import write
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed", "pip install 'ubp_sql[report]'") from None
    stakes = None if gain is None or cost is None else Stakes(gain, cost)
    shown = 0 if no_examples else examples
    started = time.perf_counter()
    with connection(dsn) as conn, err.status("report"):
        done = write(conn, task, to, version=version, examples=shown, png=png, stakes=stakes)
    seconds = time.perf_counter() - started
    if json:
        print_json({"task": task, **vars(done), "seconds": seconds})
        return
    out.print(
        f"{done.file}: {task} version {done.version}, {done.bytes / 1e3:,.0f} kB in {seconds:.1f} s", markup=False
    )
    if png is not None:
        out.print(f"{png}: {len(done.figures)} figures", markup=False)
