"""Small logs made by SQL, and what a check says of them."""

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]
FEED = """
insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at)
select 1 + i %% 50, t, 'view', i %% 20, 10 + i %% 7, t
  from (select row_number() over () as i, t
          from generate_series(%s::timestamptz, %s::timestamptz, %s::interval) as t
         where extract(hour from t at time zone 'UTC') between %s and %s
           and extract(isodow from t at time zone 'UTC') <= %s) x"""


def feed(
    conn: Connection,
    begin: str = "2025-01-06 00:00+00",
    until: str = "2025-03-30 23:59+00",
    every: str = "12 minutes",
    hours: tuple[int, int] = (0, 23),
    days: int = 7,
) -> None:
    """Views at equal distances, in some hours (UTC), on a week's first days; 50 users, 20 items, values 10 to 16."""
    conn.execute(FEED, [begin, until, every, *hours, days])


def check(conn: Connection, rule: str | None = None, since: str | None = None) -> dict[str, tuple[int, int, int, int]]:
    """Rule to (findings, new, gone, events), of rules with any."""
    query = "select rule_name, findings, new, gone, events from ubp.check_quality(%s, %s)"
    return {row[0]: row[1:] for row in conn.execute(query, [since, rule]).fetchall() if any(row[1:])}


def found(conn: Connection, rule: str) -> list[dict[str, Any]]:
    """Open findings of a rule."""
    query = """
        select severity, sentence, example, way_out, events, user_id, from_time, until_time, source, detail
          from ubp.quality_findings where rule = %s and resolved_at is null order by from_time, subject"""
    cursor = conn.execute(query, [rule])
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def flags(conn: Connection, rule: str) -> list[int]:
    query = """
        select event_id from ubp.flagged_events join ubp.quality_findings using (finding_id)
         where rule = %s order by event_id"""
    return [row[0] for row in conn.execute(query, [rule]).fetchall()]


def add(conn: Connection, rows: str, columns: str = "user_id, event_time, kind, item_id, value") -> list[int]:
    """Inserts what `rows` says (VALUES or SELECT); event ids in order. Ingested when it happened, unless said."""
    known = "" if "ingested_at" in columns else ", ingested_at"
    again = "" if "ingested_at" in columns else ", event_time::timestamptz"
    typed = columns.replace("event_time", "event_time::timestamptz")
    text = f"""
        with given ({columns}) as ({rows})
        insert into ubp.events ({columns}{known}) select {typed}{again} from given returning event_id"""
    return sorted(row[0] for row in conn.execute(text.encode()).fetchall())
