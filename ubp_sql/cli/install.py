"""`init`, `migrate`, `uninstall`, `doctor`: what a DBA runs, with the SQL shown before it is run."""

from pathlib import Path
from typing import Annotated, Any

import typer

import ubp_sql
from ubp_sql.cli.shared import AsJson, Dsn, connection, guarded, out, print_json
from ubp_sql.errors import BadInput

migrate = typer.Typer(
    no_args_is_help=True, help="Plan, apply and undo the schema: plan | apply | downgrade | status | sql."
)
Yes = Annotated[bool, typer.Option("--yes", metavar="", help="Do it.")]
NoSearchPath = Annotated[
    bool, typer.Option("--no-search-path", metavar="", help="Leave the database's search_path alone.")
]
UP_TO_DATE = "nothing to do: the database is up to date"


def show(steps: list[Any], *, as_json: bool = False) -> None:
    """The exact SQL, grouped by who must run it."""
    from ubp_sql.install.run import as_json as to_json

    if as_json:
        print_json(to_json(steps))
        return
    for number, step in enumerate(steps, 1):
        out.print(f"[bold]-- {number}. {step.title}[/bold]")
        out.print(step.comment, markup=False)
        out.print(step.sql + "\n", markup=False)
    needing = [step.title for step in steps if step.by == "superuser"]
    if needing:
        out.print(f"-- {len(steps)} steps, {len(needing)} need a superuser; all run in one transaction", markup=False)


def show_rows(lines: list[str]) -> None:
    """What dropped tables take with them."""
    for line in lines:
        out.print(f"-- goes with its table: {line}", markup=False)


@guarded
def init(dsn: Dsn = "", no_search_path: NoSearchPath = False, json: AsJson = False) -> None:
    """Install ubp_sql into a database: roles, tables, functions. Run again at any time; it does what is missing."""
    from ubp_sql.install import commands, doctor

    with connection(dsn) as conn:
        done = commands.init(conn, with_search_path=not no_search_path)
        library = doctor.build_library(conn, dsn)
        if json:
            print_json({"version": ubp_sql.__version__, "steps": [step.title for step in done]})
            return
        for step in done:
            out.print(f"  {step.title}", markup=False)
        if library is not None:
            out.print(f"  {library.text}{'' if library.ok else f': {library.way_out}'}", markup=False)
        out.print(f"ubp_sql {ubp_sql.__version__} is installed in database {conn.info.dbname}", markup=False)


@migrate.command("plan")
@guarded
def plan(dsn: Dsn = "", no_search_path: NoSearchPath = False, json: AsJson = False) -> None:
    """Show the exact SQL that `apply` would run, its locks, and which steps need a superuser."""
    from ubp_sql.install import commands

    with connection(dsn) as conn:
        steps = commands.plan(conn, with_search_path=not no_search_path)
        show(steps, as_json=json)
        if not steps and not json:
            out.print(UP_TO_DATE)


@migrate.command("apply")
@guarded
def apply(dsn: Dsn = "", no_search_path: NoSearchPath = False, json: AsJson = False) -> None:
    """Bring the schema and the functions to this package's version, in one transaction."""
    from ubp_sql.install import commands

    with connection(dsn) as conn:
        missing = commands.plan(conn, with_search_path=not no_search_path)
        done = commands.apply(conn, with_search_path=not no_search_path)
        if json:
            print_json([step.title for step in done])
        else:
            out.print(f"{len(done)} steps applied" if missing else "up to date; the functions were applied again")


@migrate.command("downgrade")
@guarded
def downgrade(
    revision: Annotated[str, typer.Argument(help="Revision to go back to, or base for no tables at all.")],
    dsn: Dsn = "",
    yes: Yes = False,
) -> None:
    """Undo migrations. Shows the SQL; runs it with --yes. Tables that go take their rows with them."""
    from ubp_sql.install import commands

    with connection(dsn) as conn:
        steps = commands.downgrade(conn, revision, run=yes)
        if not steps:
            out.print(f"the database is at {revision} already: nothing was dropped", markup=False)
        elif yes:
            out.print(f"{len(steps)} steps run; the functions are gone until `ubp-sql migrate apply`")
            if left := commands.status(conn).get("still_there"):
                out.print(f"still there: {left} (`ubp-sql uninstall` removes them)", markup=False)
        else:
            show(steps)
            show_rows(commands.rows_that_go(conn, steps))
            out.print("-- nothing was run: add --yes to run it")


@migrate.command("status")
@guarded
def status(dsn: Dsn = "", json: AsJson = False) -> None:
    """Revision and versions of the database beside those of this package."""
    from ubp_sql.install import commands

    with connection(dsn) as conn:
        found = commands.status(conn)
        if json:
            print_json(found)
            return
        for key, value in found.items():
            text = str(value).replace("\n", "\n" + " " * 22)
            out.print(f"{key.replace('_', ' '):>20}  {text}", markup=False)


@migrate.command("sql")
@guarded
def sql(
    dsn: Dsn = "",
    folder: Annotated[Path, typer.Option("--out", help="Folder for the scripts.")] = Path("ubp_sql_scripts"),
    no_search_path: NoSearchPath = False,
) -> None:
    """Write the scripts a DBA reviews and runs: the superuser's and the owner's, numbered in their order."""
    from ubp_sql.install import commands

    with connection(dsn) as conn:
        paths = commands.write(conn, folder, with_search_path=not no_search_path)
    if not paths:
        out.print(UP_TO_DATE)
    for path in paths:
        out.print(f"psql -v ON_ERROR_STOP=1 -f {path}", markup=False)


@guarded
def uninstall(
    dsn: Dsn = "",
    plan: Annotated[bool, typer.Option("--plan", metavar="", help="Show the SQL and what stays.")] = False,
    yes: Yes = False,
) -> None:
    """Remove everything that init made, and nothing else. The events in ubp.events go too."""
    from ubp_sql.install import commands

    if plan == yes:
        raise BadInput("say --plan or --yes", "--plan shows what would go and what stays")
    with connection(dsn) as conn:
        steps, kept = commands.uninstall(conn, run=yes)
        if not yes:
            show(steps)
            show_rows(commands.rows_that_go(conn, steps))
        for line in kept:
            out.print(f"stays: {line}", markup=False)
        out.print(f"{len(steps)} steps run; ubp_sql is gone" if yes else "-- nothing was run: use --yes to run it")


@guarded
def doctor(
    dsn: Dsn = "",
    fix: Annotated[bool, typer.Option("--fix", metavar="", help="Do what can be done from here.")] = False,
    json: AsJson = False,
) -> None:
    """Say in plain words what is missing on server and client, and the one thing that mends each."""
    from ubp_sql.install.doctor import examine

    findings = examine(dsn, fix=fix)
    if json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]ok[/green]  " if finding.ok else "[red]no[/red]  "
            out.print(mark + finding.text.replace("[", "\\["))
            if not finding.ok and finding.way_out:
                out.print(f"    {finding.way_out}", markup=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(6)
