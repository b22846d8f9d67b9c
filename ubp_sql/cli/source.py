"""`ubp-sql source`: tables, views and foreign tables that are attached; a look at what could be loaded or attached."""

from typing import Annotated, Any

import typer

from ubp_sql.cli import guess
from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput
from ubp_sql.install import state

app = typer.Typer(no_args_is_help=True, help="Attached tables and views: attach | detach | list; guess a map.")
Relation = Annotated[str, typer.Argument(metavar="TABLE", help="Table, view or foreign table: schema.name.")]
ATTACH = """
select * from ubp.attach_source(%s::regclass, %s, %s, %s, item_id => %s, value => %s, ingested_at => %s,
                                event_id => %s, time_zone => %s, filter => %s, dry_run => %s)"""
KNOWN = "select to_regclass(%s) is not null as known"
LIST = """
select s.name as source, case a.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
                           when 'm' then 'materialized view' else 'foreign table' end as is_a,
       a.user_key as user_id, a.event_time, a.kind, a.item_key as item_id, a.value, a.ingested_at,
       a.event_key as event_id, a.filter, s.time_zone, a.attached_at, a.attached_by,
       (select string_agg(p.problem || ' (' || p.way_out || ')', '; ') from ubp.source_problems() p
         where p.source = s.name) as problems
  from ubp.attached_sources a join ubp.sources s using (source_id) order by s.name"""
REPORT = """
select s.name as source, r.reason, r.rows, r.example
  from ubp.attached_sources a join ubp.sources s using (source_id) cross join ubp.source_report(s.name) r
 order by s.name, r.reason <> 'event', r.rows desc"""


@guarded
def attach(
    table: Relation,
    user: Annotated[str, typer.Option("--user", help="Who: column or SQL expression.")],
    time: Annotated[str, typer.Option("--time", help="When it happened.")],
    kind: Annotated[str, typer.Option("--kind", help="What; a constant is written \"'purchase'\".")],
    item: Annotated[str | None, typer.Option("--item", help="Item.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Worth, a number.")] = None,
    ingested_at: Annotated[str | None, typer.Option("--ingested-at", help="When your systems learnt of it.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--event-id", help="What tells events apart; default: the primary key.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="Of times without a zone, and of hours and weekdays; else UTC.")
    ] = None,
    where: Annotated[str | None, typer.Option("--filter", help="Only rows where this is true.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print statements and locks; change nothing.")] = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Make the rows of a table, view or foreign table events where they lie."""
    with connection(dsn) as conn:
        if not state.one(conn, KNOWN, table):
            raise BadInput(f"there is no table {table!r}", "schema.name, in double quotes where SQL needs them")
        arguments = (table, user, time, kind, item, value, ingested_at, event_id, time_zone, where, dry_run)
        rows = state.rows(conn, ATTACH, *arguments)
    _print_steps(rows, json)


@guarded
def detach(
    source: Annotated[str, typer.Argument(help="Name of the source: schema.name of its table.")],
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Take an attached table's triggers, rights and events back; the table stays as it was."""
    with connection(dsn) as conn:
        _print_steps(state.rows(conn, "select * from ubp.detach_source(%s)", source), json)


@guarded
def list_sources(
    check: Annotated[
        bool, typer.Option("--check", help="Read every row, and say how many are events and why others are none.")
    ] = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Attached sources, with what became of them since."""
    with connection(dsn) as conn:
        rows = state.rows(conn, LIST)
        if not check:
            print_rows([row if json else {n: v for n, v in row.items() if v is not None} for row in rows], json)
            return
        with err.status("reading"):
            found = state.rows(conn, REPORT)
    problems = [{"source": row["source"], "reason": row["problems"]} for row in rows if row["problems"]]
    print_rows([*({**row, "rows": None, "example": None} for row in problems), *found], json)


def _print_steps(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Statements as they can be pasted, what they lock and what is to be known as comments between."""
    if as_json:
        print_json(rows)
        return
    for row in rows:
        statement = (
            row["step"] in ("lock", "grant", "trigger", "function") and row["detail"].split(" ")[0] in STATEMENTS
        )
        if statement:
            out.print(f"{row['detail']};", markup=False)
        else:
            out.print(f"-- {row['step']} {row['object']}: {row['detail']}", markup=False)
        if row.get("lock"):
            out.print(f"--   locks: {row['lock']}", markup=False)


STATEMENTS = ("lock", "grant", "revoke", "create", "alter")
app.command("attach")(attach)
app.command("detach")(detach)
app.command("list")(list_sources)
app.command("guess")(guess.guess)
