"""`ubp-sql quality`: what is wrong with the events, by rules that are rows."""

from typing import Annotated, Any

import psycopg
import typer
from rich.markup import escape

from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.install import state

app = typer.Typer(no_args_is_help=True, help="Data quality: check | report | findings | rules | dismiss.")
Rule = Annotated[str | None, typer.Option("--rule", help="This rule alone; default: each active one.")]
PROGRESS = "ubp: "
REPORT = "select bad, rule, source, since, report from ubp.data_quality"
FINDINGS = """
select q.finding_id, q.rule, s.name as source, q.severity, q.user_id, q.from_time, q.until_time, q.events, q.first_seen,
       q.last_seen, q.sentence, q.example, q.way_out, q.detail
  from ubp.quality_findings q left join ubp.sources s on s.source_id = q.source
 where q.resolved_at is null and q.dismissed_at is null and (%s::text is null or q.rule = %s)
 order by array_position(array['high', 'medium', 'low'], q.severity), q.rule, q.from_time"""
RULES = """
select r.rule, r.check_name, r.active, coalesce(r.source, 'all') as source, r.settings::text as settings, r.meaning
  from ubp.quality_rules r order by r.rule"""


@app.command()
@guarded
def check(
    since: Annotated[
        str | None, typer.Option("--since", help="Leave findings about times before this moment as they are.")
    ] = None,
    rule: Rule = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Go through the rules: what they find is stored, what no longer holds is resolved."""
    from ubp_sql.training.cuts import parse_cut

    moment = None if since is None else parse_cut(since)
    with connection(dsn) as conn:
        rows = _checked(conn, moment, rule, quiet=json)
    print_rows(rows, json)


def _checked(conn: psycopg.Connection[Any], since: Any, rule: str | None, *, quiet: bool) -> list[dict[str, Any]]:
    """Rows of ubp.check_quality; meanwhile the terminal shows which rule it is at."""
    query = "select * from ubp.check_quality(%s::timestamptz, %s)"
    if quiet:
        return state.rows(conn, query, since, rule)
    with err.status("reading the events") as status:

        def show(notice: psycopg.errors.Diagnostic) -> None:
            text = notice.message_primary or ""
            if text.startswith(PROGRESS):
                status.update(text.removeprefix(PROGRESS))

        conn.add_notice_handler(show)
        conn.execute("set client_min_messages = debug2")  # the server tells its progress to whoever wants to hear it
        rows = state.rows(conn, query, since, rule)
        conn.execute("reset client_min_messages")
    return rows


@app.command()
@guarded
def report(dsn: Dsn = "", json: AsJson = False) -> None:
    """What is wrong, the worst first, with an example and what to do."""
    with connection(dsn) as conn:
        rows = state.rows(conn, REPORT)
    if json:
        print_json(rows)
        return
    for row in rows:
        head = " · ".join(str(part) for part in (row["bad"], row["rule"], row["source"]) if part)
        since = f", {row['since']}" if row["since"] else ""
        out.print(f"[bold]{escape(head)}[/bold]{since}")
        out.print("\n".join(f"  {line}" for line in row["report"].splitlines()), markup=False)


@app.command()
@guarded
def findings(rule: Rule = None, dsn: Dsn = "", json: AsJson = False) -> None:
    """Every finding that holds, with its number."""
    with connection(dsn) as conn:
        rows = state.rows(conn, FINDINGS, rule, rule)
    if not json:
        rows = [{name: row[name] for name in ("finding_id", "severity", "rule", "source", "sentence")} for row in rows]
    print_rows(rows, json)


@app.command()
@guarded
def rules(dsn: Dsn = "", json: AsJson = False) -> None:
    """The rules there are, with their settings."""
    with connection(dsn) as conn:
        rows = state.rows(conn, RULES)
    print_rows(rows, json)


@app.command()
@guarded
def dismiss(
    finding: Annotated[int, typer.Argument(help="Number of the finding.", show_default=False)],
    undo: Annotated[bool, typer.Option("--undo", help="Take it as wrong again.")] = False,
    dsn: Dsn = "",
) -> None:
    """Say that a finding is no fault: its events lose their flags, and the report leaves it out."""
    with connection(dsn) as conn:
        state.rows(conn, "select ubp.dismiss_finding(%s, %s)", finding, not undo)
    out.print(f"finding {finding} is {'open again, with the next check' if undo else 'dismissed'}", markup=False)
