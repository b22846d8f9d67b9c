"""`training-set`: a task's training rows as a file for LightGBM, pandas or Polars."""

import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ubp_sql.cli.gpu import Gpu, asked_for, source_of
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput

if TYPE_CHECKING:
    from ubp_sql.training.export import Exported

EPOCH = date(1970, 1, 1)
SHOWN = 5


@guarded
def training_set(
    task: Annotated[str, typer.Argument(help="Task, for example purchase.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet, .arrow or .feather.")],
    cut: Annotated[
        list[str] | None, typer.Option("--cut", help="Moment(s) of the rows, UTC without an offset; repeatable.")
    ] = None,
    every_event: Annotated[
        bool, typer.Option("--every-event", metavar="", help="Rows at the time of every event instead.")
    ] = False,
    known_at: Annotated[
        str, typer.Option("--known-at", help="cut: what was known at the cut; now: what is known today.")
    ] = "cut",
    negatives: Annotated[
        float | None, typer.Option("--negatives", help="Share of the negatives to keep, above 0 and at most 1.")
    ] = None,
    horizon: Annotated[
        str | None, typer.Option("--horizon", help="How far the label looks ahead, as 30d or 36h; default: the task's.")
    ] = None,
    gpu: Gpu = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Write a task's training rows to a file: one row a user and moment, one column a feature of the task's set.

    The task names the feature set (select task, feature_set from ubp.tasks); ubp.define_task defines another one.
    """
    if bool(cut) == every_event:
        raise BadInput(
            "both --cut and --every-event were given" if cut else "no moment was given",
            "--cut 2011-06-01, once or more, or --every-event",
        )
    try:
        from ubp_sql.training.export import export
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed", "pip install 'ubp_sql[train]'") from None
    from ubp_sql.training.cuts import parse_cut, parse_horizon
    from ubp_sql.training.rows import Question

    started = time.perf_counter()
    cuts = None if every_event else [parse_cut(text) for text in cut or []]
    question = Question(task, cuts, None if horizon is None else parse_horizon(horizon), known_at, negatives)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"), TimeElapsedColumn())
    with (
        connection(dsn) as conn,
        Progress(*columns, console=err, transient=True, disable=json or not err.is_terminal) as bar,
    ):
        shown = bar.add_task("training rows", total=None, rows="")

        def say(done: "Exported", users: int | None) -> None:
            # Known where a refresh has counted them; some may have joined since.
            total = None if users is None else max(users, done.users)
            bar.update(shown, completed=done.users, total=total, rows=f"{done.rows:,} rows")

        done = export(conn, question, output, say, source_of(asked_for(gpu), conn))
    seconds = time.perf_counter() - started
    unmatured = {str(EPOCH + timedelta(days=day)): n for day, n in sorted(done.unmatured.items())}
    if json:
        print_json({**vars(done), "unmatured": unmatured, "seconds": seconds})
        return
    if unmatured:
        named = ", ".join(f"{n:,} at {day}" for day, n in list(unmatured.items())[:SHOWN])
        more = f" and {len(unmatured) - SHOWN} later days" if len(unmatured) > SHOWN else ""
        err.print(
            f"not matured, with an outcome that is not wholly known yet: {named}{more}; train on matured rows",
            markup=False,
        )
    out.print(
        f"{done.file}: {done.rows:,} rows of {done.users:,} users, {done.positives:,} with the label, "
        f"{done.features} features, {done.bytes / 1e6:,.1f} MB in {seconds:.1f} s",
        markup=False,
    )
