"""`ubp-sql task`: what is predicted, for whom, how far ahead, and who answers."""

from json import loads
from typing import Annotated

import typer

from ubp_sql.cli.run_jobs import Task, print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, guarded, out, print_json
from ubp_sql.errors import BadInput, UnknownTask
from ubp_sql.install import state
from ubp_sql.training.cuts import parse_horizon

app = typer.Typer(no_args_is_help=True, help="Tasks: list | define | show.")
LISTED = """
select task, output, label, population_kind, horizon::text, feature_set, deployed_version, test_metric, test_value,
       as_of
  from ubp.tasks order by task"""
SHOWN = "select t.*, t.horizon::text as horizon from ubp.tasks t where t.task = %s"
DEFINE = """
select ubp.define_task(%s, %s, %s, coalesce(%s, interval '30 days'), %s, %s, %s::jsonb)"""


@app.command("list")
@guarded
def list_tasks(dsn: Dsn = "", json: AsJson = False) -> None:
    """Every task, the version that answers and how its last test went."""
    with connection(dsn) as conn:
        print_rows(state.rows(conn, LISTED), json)


@app.command()
@guarded
def show(task: Task, dsn: Dsn = "", json: AsJson = False) -> None:
    """One task, a line a column."""
    with connection(dsn) as conn:
        found = state.rows(conn, SHOWN, task)
    if not found:
        raise UnknownTask(f"unknown task {task!r}", "`ubp-sql task list` lists them")
    if json:
        print_json(found[0])
    else:
        print_rows(found, False)


@app.command()
@guarded
def define(
    task: Task,
    label: Annotated[
        str | None, typer.Option("--label", help="""Rule as JSON: '{"none": ["purchase"]}'; docs/tasks.md has all.""")
    ] = None,
    label_kind: Annotated[
        str | None, typer.Option("--label-kind", help="""Short for --label '{"any": KIND}'.""")
    ] = None,
    population_kind: Annotated[
        str | None, typer.Option("--population-kind", help="Users with such an event; default: the label's first kind.")
    ] = None,
    horizon: Annotated[str, typer.Option("--horizon", help="How far ahead, as 30d or 36h.")] = "30d",
    feature_set: Annotated[str, typer.Option("--feature-set", help="Features to learn from.")] = "default",
    meaning: Annotated[str | None, typer.Option("--meaning", help="What a score says, in a sentence.")] = None,
    dsn: Dsn = "",
) -> None:
    """Define a task; the same definition again changes nothing."""
    if (label is None) == (label_kind is None):
        raise BadInput("give one of --label and --label-kind", """--label '{"sum": "value", "kinds": ["purchase"]}'""")
    try:
        loads(label or "{}")
    except (ValueError, RecursionError):
        raise BadInput(f"--label is no JSON: {label:.60}", """'{"none": ["purchase"]}', in single quotes""") from None
    with connection(dsn) as conn:
        given = [task, label_kind, population_kind, parse_horizon(horizon), feature_set, meaning, label]
        state.rows(conn, DEFINE, *given)
    out.print(f"{task} is defined: ubp-sql train {task}", markup=False)
