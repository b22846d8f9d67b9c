"""Days for ubp.calendar: public holidays by the package `holidays`, and the seasons of meteorology."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import psycopg
from psycopg.rows import dict_row

from ubp_sql.errors import BadInput

FIRST_YEAR, LAST_YEAR = 1900, 2299  # those that events may have
MOST_YEARS = 200
HEMISPHERES = ("north", "south")
# Whole months, as meteorology has it: December begins the northern winter.
NORTH = ("winter", "spring", "summer", "autumn")
SOUTH = ("summer", "autumn", "winter", "spring")
ZONE = "select exists (select from pg_timezone_names where name = %s) as found"
MISSING = """
select g.day, g.name from unnest(%(days)s::date[], %(names)s::text[]) as g (day, name)
 where not exists (select from ubp.calendar c where c.day = g.day and c.region = %(region)s and c.name = g.name)
 order by g.day, g.name"""
INSERT = """
insert into ubp.calendar (day, region, name, kind, source)
select g.day, %(region)s, g.name, %(kind)s, %(source)s
  from unnest(%(days)s::date[], %(names)s::text[]) as g (day, name)
    on conflict (day, region, name) do nothing"""
MADE = """
select count(*) as days from ubp.calendar
 where source = %(source)s and region = %(region)s and day between %(first)s and %(last)s"""
REMOVE = """
delete from ubp.calendar
 where source = %(source)s and region = %(region)s and day between %(first)s and %(last)s"""

Connection = psycopg.Connection[tuple[object, ...]]


class Days(NamedTuple):
    """Named days of one kind, and what made them."""

    kind: str
    source: str
    days: list[tuple[date, str]]


def years_of(text: str) -> range:
    """Years written as 2011 or 2010-2012. Raises BadInput."""
    first, dash, last = text.strip().partition("-")
    if not (first.isascii() and first.isdigit() and (last.isascii() and last.isdigit() if dash else not last)):
        raise BadInput(f"{text!r} are no years", "2011, or 2010-2012 for three")
    low, high = (int(part[:9]) for part in (first, last or first))
    if not (FIRST_YEAR <= low <= LAST_YEAR and FIRST_YEAR <= high <= LAST_YEAR):
        raise BadInput(f"years {text}: events are of {FIRST_YEAR} to {LAST_YEAR}", "2010-2012 for three years")
    if high < low:
        raise BadInput(f"years {text} end before they begin", f"{high}-{low}")
    if high - low >= MOST_YEARS:
        raise BadInput(f"{high - low + 1} years are too many", f"at most {MOST_YEARS} at a time")
    return range(low, high + 1)


def holidays_of(
    country: str, subdivision: str | None, years: range, categories: Sequence[str] = (), language: str | None = None
) -> Days:
    """Public holidays of a country or a part of it, those that move to a working day too.

    categories  kinds of days in place of the public ones, as the package names them

    Raises BadInput on a country, part, category or language that the package does not have.
    """
    try:
        import holidays
    except ModuleNotFoundError:
        raise BadInput("the package `holidays` is not installed here", "pip install 'ubp_sql[calendar]'") from None
    entity = country.strip().upper()
    known = holidays.list_supported_countries(include_aliases=True)
    if entity not in known:
        raise BadInput(f"unknown country {country!r}", "two letters of ISO 3166: GB, DE, US")
    whole = holidays.country_holidays(entity)
    parts = {**{part.upper(): part for part in whole.subdivisions}, **_upper(whole.subdivisions_aliases)}
    part = None if subdivision is None else parts.get(subdivision.strip().upper())
    if subdivision is not None and part is None:
        there = f"it has {', '.join(sorted(whole.subdivisions))}" if parts else "it has none"
        raise BadInput(f"{entity} has no part {subdivision!r}", there)
    for name, wanted, has in (
        ("category", categories, whole.supported_categories),
        ("language", [language] if language else [], whole.supported_languages),
    ):
        other = next((value for value in wanted if value not in has), None)
        if other is not None:
            raise BadInput(
                f"there is no {name} {other!r} for {entity}", f"there is {', '.join(has) or 'only the own one'}"
            )
    found = holidays.country_holidays(
        entity, subdiv=part, years=years, language=language, categories=tuple(categories) or None
    )
    days = {(day, name) for day in found for name in found.get_list(day) if day.year in years}
    if not days:
        raise BadInput(
            f"the package knows no holidays of {entity} in {years.start}-{years.stop - 1}",
            f"it has {found.start_year} to {found.end_year}",
        )
    return Days("holiday", source_of(entity, part), sorted(days))


def source_of(country: str, subdivision: str | None) -> str:
    """How rows of a country's holidays are marked."""
    parts = [part.strip().upper() for part in (country, subdivision) if part]
    return f"holidays {'-'.join(parts)}"


def _upper(aliases: dict[str, str]) -> dict[str, str]:
    return {name.upper(): part for name, part in aliases.items()}


def seasons_of(hemisphere: str, years: range) -> Days:
    """Every day with its season, which begins on the first of March, June, September and December."""
    if hemisphere not in HEMISPHERES:
        raise BadInput(f"--seasons {hemisphere!r} is no hemisphere", "north or south")
    names = NORTH if hemisphere == "north" else SOUTH
    first, last = date(years.start, 1, 1), date(years.stop - 1, 12, 31)
    listed = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return Days("season", f"seasons {hemisphere}", [(day, names[day.month % 12 // 3]) for day in listed])


def fill(conn: Connection, some: Days, region: str, *, dry_run: bool = False) -> list[tuple[date, str]]:
    """Adds the days that are not there, and returns them. The same again adds none and touches nothing.

    Raises BadInput on a region that is no time zone.
    """
    check_region(conn, region)
    parts = {"days": [day for day, _ in some.days], "names": [name for _, name in some.days], "region": region}
    with conn.cursor() as cursor:
        missing: list[tuple[date, str]] = cursor.execute(MISSING, parts).fetchall()  # type: ignore[assignment]
        if missing and not dry_run:  # a statement without a row would have every set computed anew as well
            cursor.execute(INSERT, parts | {"kind": some.kind, "source": some.source})
    return missing


def remove(conn: Connection, source: str, region: str, years: range | None, *, dry_run: bool = False) -> int:
    """Deletes the days that `fill` added from a source; returns how many."""
    check_region(conn, region)
    span = {
        "first": date(years.start if years else FIRST_YEAR, 1, 1),
        "last": date((years.stop - 1) if years else LAST_YEAR, 12, 31),
    }
    parts = {"source": source, "region": region} | span
    with conn.cursor(row_factory=dict_row) as cursor:
        made = cursor.execute(MADE, parts).fetchone()
        days = int(made["days"]) if made else 0
        if days and not dry_run:
            cursor.execute(REMOVE, parts)
    return days


def check_region(conn: Connection, region: str) -> None:
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(ZONE, [region]).fetchone()
    if region and not (row and row["found"]):
        raise BadInput(
            f"unknown time zone {region!r}",
            "a region is the time zone of the feature sets that it counts for, for example Europe/London; "
            "without one it counts for all",
        )
