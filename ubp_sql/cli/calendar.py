"""`ubp-sql calendar`: holidays and seasons into ubp.calendar, and out of it."""

from typing import Annotated, Any

import typer

from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, guarded, out
from ubp_sql.errors import BadInput
from ubp_sql.install import state

app = typer.Typer(no_args_is_help=True, help="Holidays and seasons: fill | remove | list.")
Country = Annotated[str | None, typer.Option("--country", help="Two letters of ISO 3166: GB.")]
Part = Annotated[str | None, typer.Option("--subdivision", help="A part of it: ENG.")]
Seasons = Annotated[str | None, typer.Option("--seasons", help="Each day's season: north or south.")]
Region = Annotated[
    str, typer.Option("--region", help="Time zone of the feature sets that they count for; without: all.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")]
MADE = """
select source, region, kind, min(day) as first, max(day) as last, count(*) as days from ubp.calendar
 group by source, region, kind order by source, region, kind"""


@app.command()
@guarded
def fill(
    years: Annotated[str, typer.Option("--years", help="2011, or 2010-2012.")],
    country: Country = None,
    subdivision: Part = None,
    seasons: Seasons = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", help="Other days than the public ones: bank, unofficial, ...")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of the names: en_US; without: the own.")] = None,
    region: Region = "",
    dry_run: DryRun = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Add a country's holidays, or seasons. A second run adds nothing; after new days the next refresh computes all."""
    from ubp_sql.sources import calendar_days

    span = calendar_days.years_of(years)
    some = [calendar_days.holidays_of(country, subdivision, span, category or (), language)] if country else []
    some += [calendar_days.seasons_of(seasons, span)] if seasons else []
    if not some or (not country and (subdivision or category or language)):
        raise BadInput("which days?", "--country GB, --seasons north, or both")
    with connection(dsn) as conn, conn.transaction():
        rows: list[dict[str, Any]] = []
        for days in some:
            new = calendar_days.fill(conn, days, region, dry_run=dry_run)
            if not json and days.kind == "holiday":
                for day, name in new:
                    out.print(f"+ {day}  {name}", markup=False)
            rows.append({"source": days.source, "region": region, "days": len(days.days), "new": len(new)})
    if json:
        print_rows([{**row, "dry_run": dry_run} for row in rows], True)
        return
    for row in rows:
        verb = "would be" if dry_run else "are"
        out.print(f"{row['source']}: {row['days']} days, {row['new']} of them {verb} new", markup=False)


@app.command()
@guarded
def remove(
    country: Country = None,
    subdivision: Part = None,
    seasons: Seasons = None,
    years: Annotated[str | None, typer.Option("--years", help="2011, or 2010-2012; without: all.")] = None,
    region: Region = "",
    dry_run: DryRun = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Take out what `fill` added; days that were put in by hand stay."""
    from ubp_sql.sources import calendar_days

    sources = [calendar_days.source_of(country, subdivision)] if country else []
    sources += [f"seasons {seasons}"] if seasons else []
    if not sources:
        raise BadInput("which days?", "--country GB, --seasons north, or both; `ubp-sql calendar list` shows them")
    span = None if years is None else calendar_days.years_of(years)
    with connection(dsn) as conn, conn.transaction():
        rows = [
            {"source": source, "days": calendar_days.remove(conn, source, region, span, dry_run=dry_run)}
            for source in sources
        ]
    if json:
        print_rows([{**row, "dry_run": dry_run} for row in rows], True)
        return
    for row in rows:
        out.print(f"{row['source']}: {row['days']} days {'would go' if dry_run else 'went'}", markup=False)


@app.command("list")
@guarded
def listed(dsn: Dsn = "", json: AsJson = False) -> None:
    """What is in the calendar, by what put it there."""
    with connection(dsn) as conn:
        rows = state.rows(conn, MADE)
    print_rows([{**row, "source": row["source"] or "by hand"} for row in rows], json)
