"""The record of a load in ubp.loads: what became of a file's content, found again when the same content comes back."""

from dataclasses import dataclass

import psycopg

Cursor = psycopg.Cursor[tuple[object, ...]]

# A record sums the runs that added rows. A run that adds none leaves it as it is, unless none has added any so far.
_CLOSE = """update ubp.loads set finished_at = clock_timestamp(),
    rows_read = %(read)s + case when rows_loaded > 0 then rows_read else 0 end,
    rows_loaded = %(loaded)s + rows_loaded,
    rows_rejected = %(rejected)s + case when rows_loaded > 0 then rows_rejected else 0 end,
    rows_already = %(already)s + case when rows_loaded > 0 then rows_already else 0 end
where load_id = %(load_id)s and (rows_loaded = 0 or %(loaded)s > 0)"""
_EXAMPLES = """select reason, line, raw from (
    select short as reason, line, raw, row_number() over (partition by short order by line, rejected_id) as place
    from (select *, regexp_replace(reason, '"[^"]*"', '"..."', 'g') as short from ubp.rejected_events
          where load_id = %s) r) numbered
where place <= 3 order by reason, line"""


@dataclass(frozen=True)
class Record:
    """An earlier load of the same content; `at`: when it ended, as ISO text in UTC."""

    load_id: int
    read: int
    loaded: int
    rejected: int
    already: int
    at: str


def find_record(cursor: Cursor, source_id: int, sha256: str) -> Record | None:
    """The record of this content in this source."""
    cursor.execute(
        "select load_id, rows_read, rows_loaded, rows_rejected, rows_already,"
        " to_char(coalesce(finished_at, started_at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        " from ubp.loads where source_id = %s and content_sha256 = %s",
        (source_id, sha256),
    )
    found = cursor.fetchone()
    if found is None:
        return None
    load_id, read, loaded, rejected, already = (int(str(number)) for number in found[:5])
    return Record(load_id, read, loaded, rejected, already, str(found[5]))


def open_record(cursor: Cursor, source_id: int, file: str, sha256: str) -> int:
    """A new record without counts; its load_id."""
    cursor.execute(
        "insert into ubp.loads (source_id, file, content_sha256, rows_read, rows_loaded, rows_rejected,"
        " rows_already, started_at) values (%s, %s, %s, 0, 0, 0, 0, clock_timestamp()) returning load_id",
        (source_id, file, sha256),
    )
    row = cursor.fetchone()
    return int(str(row[0])) if row else 0


def close_record(cursor: Cursor, load_id: int, read: int, loaded: int, rejected: int, already: int) -> None:
    """Write the counts of a run."""
    counts = {"load_id": load_id, "read": read, "loaded": loaded, "rejected": rejected, "already": already}
    cursor.execute(_CLOSE, counts)


def rejected_examples(cursor: Cursor, load_id: int) -> dict[str, list[tuple[int, str]]]:
    """The first three rejected rows of each reason as (line, raw text); quoted values in reasons are shortened."""
    cursor.execute(_EXAMPLES, (load_id,))
    found: dict[str, list[tuple[int, str]]] = {}
    for reason, line, raw in cursor.fetchall():
        found.setdefault(str(reason), []).append((int(str(line)), str(raw)))
    return found
