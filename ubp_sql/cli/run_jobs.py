"""`train` and `score`: what an ETL job and an analyst run day by day."""

import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ubp_sql.cli.gpu import Gpu, asked_for, source_of
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, note, out, print_json, warn
from ubp_sql.errors import BadInput, no_such_set
from ubp_sql.install import state
from ubp_sql.training.study import study_unstudied, study_version

MOST_DAYS = 36_500
DEFINE = "select ubp.define_task(%s, %s, %s, %s, %s, label => %s::jsonb)"
Task = Annotated[str, typer.Argument(help="Task, for example purchase.")]


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("none yet")
        return
    if len(rows) == 1:
        _print_row(rows[0])
        return
    table = Table()
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    # In a pipe or a cron mail nothing is cut to the width of a terminal that is not there.
    (out if out.is_terminal else Console(width=1_000, highlight=False)).print(table)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)


def _print_row(row: dict[str, Any]) -> None:
    """A line a column: as a table, a few numbers and a sentence would be wider than any terminal."""
    indent = 2 + max(map(len, row))
    for name, value in row.items():
        line = f"{name:<{indent}}{_shown(value)}".rstrip()
        if out.is_terminal:
            line = textwrap.fill(line, out.width, subsequent_indent=" " * indent, break_long_words=False)
        out.print(line, markup=False)


@guarded
def score(task: Task, dsn: Dsn = "", json: AsJson = False) -> None:
    """Score every user with stored features into ubp.user_scores."""
    with connection(dsn) as conn, err.status("scoring"):
        rows = state.rows(conn, "select * from ubp.score_users(%s)", task)
        study_unstudied(conn, task, (lambda line: None) if json else note)
    print_rows(rows, json)


@guarded
def train(
    task: Task,
    label_kind: Annotated[
        str | None, typer.Option("--label-kind", help="Event kind to predict; default: the task's name.")
    ] = None,
    population_kind: Annotated[
        str | None, typer.Option("--population-kind", help="Users with such an event; default: the label kind.")
    ] = None,
    horizon_days: Annotated[int | None, typer.Option("--horizon-days", help="How far ahead; default: 30.")] = None,
    feature_set: Annotated[
        str | None, typer.Option("--feature-set", help="Features to learn from; default: the set called default.")
    ] = None,
    test_cut: Annotated[
        list[str] | None,
        typer.Option("--test-cut", help="Moment(s) to test on; default: the last whose outcome is known."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="trees (LightGBM) or linear (logistic regression).")] = "trees",
    prepare: Annotated[
        Path | None,
        typer.Option("--prepare", help="YAML of what is done to the features before the model (docs/preparation.md)."),
    ] = None,
    calibrate: Annotated[
        str, typer.Option("--calibrate", help="Map on held-out scores: auto, isotonic, platt or none.")
    ] = "auto",
    no_deploy: Annotated[bool, typer.Option("--no-deploy", help="Register only.")] = False,
    threads: Annotated[int, typer.Option("--threads", help="LightGBM's threads; 0: all cores.")] = 0,
    gpu: Gpu = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Train, test on moments the model has not seen, register and deploy. Defines the task on first use."""
    from ubp_sql.training.cuts import parse_cut
    from ubp_sql.training.declared_steps import read_declared
    from ubp_sql.training.train import train as run

    if model not in ("trees", "linear"):
        raise BadInput(f"--model is {model!r}", "trees or linear")
    if calibrate not in ("auto", "isotonic", "platt", "none"):
        raise BadInput(f"--calibrate is {calibrate!r}", "auto, isotonic, platt or none")
    steps = None if prepare is None else read_declared(prepare)
    if horizon_days is not None and not 0 < horizon_days <= MOST_DAYS:
        raise BadInput(f"--horizon-days is {horizon_days}", f"a number of days from 1 to {MOST_DAYS:,}")
    cuts = [parse_cut(text) for text in test_cut] if test_cut else None
    with connection(dsn) as conn:
        horizon = None if horizon_days is None else timedelta(days=horizon_days)
        _define(conn, task, [label_kind, population_kind, horizon, feature_set])
        say: Callable[[str], None] = (lambda line: None) if json else note
        result = run(
            conn,
            task,
            test_cuts=cuts,
            deploy=not no_deploy,
            model=model,
            prepare=steps,
            threads=threads,
            calibration=calibrate,
            source=source_of(asked_for(gpu), conn),
            say=say,
        )
        study_version(conn, task, result.version, say)
    rows = [{"cut": f"{t.cut:%Y-%m-%d}", "users": len(t.rows.labels), **t.metrics, **t.baseline} for t in result.tested]
    for line in result.warnings:
        warn(line)
    if json:
        found = {"task": task, "version": result.version, "deployed": result.deployed, "rows": result.training_rows}
        found["calibration"] = None if result.calibrated is None else result.calibrated.method
        print_json({**found, "tests": rows, "warnings": result.warnings, "seconds": result.seconds})
        return
    print_rows(rows, False)
    version = result.version
    if result.deployed:
        out.print(f"{task} version {version} is deployed: select ubp.predict_{task}(user_id)", markup=False)
    else:
        out.print(f"{task} version {version} is registered: ubp-sql model deploy {task} {version}", markup=False)


def _define(conn: Any, task: str, given: list[Any]) -> None:
    """Defines the task where it is new; where it is not, what was given must be what it is: none is dropped in silence.

    given  label kind, population kind, horizon, feature set; None: as it is, else the default
    """
    known = state.rows(conn, "select population_kind, horizon, feature_set, label from ubp.tasks where task = %s", task)
    if known and given == [None] * 4:
        return
    kind = given[0] if known or given[0] else task
    usual = list(known[0].values()) if known else [None, timedelta(days=30), "default", None]
    population, horizon, name = (
        own if own is not None else default for own, default in zip(given[1:], usual[:3], strict=True)
    )
    rule = None if kind else usual[3]
    names = [row["name"] for row in state.rows(conn, "select name from ubp.feature_sets order by name")]
    if name not in names:
        if name != "default":
            raise no_such_set(name, names)
        state.rows(conn, "select ubp.define_feature_set(%s)", name)
    state.rows(conn, DEFINE, task, kind, population, horizon, name, rule)
