"""What was loaded before: the record of a content in ubp.loads, and its parts in ubp.load_parts."""

from dataclasses import astuple, dataclass

import psycopg

from ubp_sql.sources.rows import PartEnd

Cursor = psycopg.Cursor[tuple[object, ...]]

_AT = """to_char(coalesce(l.finished_at, l.started_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
_FIND = f"""select l.load_id, l.rows_read, l.rows_loaded, l.rows_rejected, l.rows_already, l.rows_anonymous,
  l.finished_at is not null, {_AT}
from ubp.loads l join ubp.sources s using (source_id) where s.name = %s and l.content_sha256 = %s"""  # noqa: S608 - constants
_ENDS = """select p.position, p.content_sha256 from ubp.load_parts p
join ubp.loads l using (load_id) join ubp.sources s using (source_id)
where s.name = %s and p.all_loaded + p.all_already > 0"""
# Of parts that end alike, the newest: its counts are those of the last run.
_PART = f"""select p.all_read, p.all_loaded, p.all_rejected, p.all_already, p.all_anonymous, p.load_id, p.last_line,
  p.rows_loaded + p.rows_already, l.finished_at is not null,
  p.part = (select max(o.part) from ubp.load_parts o where o.load_id = p.load_id), {_AT}
from ubp.load_parts p join ubp.loads l using (load_id) join ubp.sources s using (source_id)
where s.name = %s and p.position = %s and p.content_sha256 = %s and p.all_loaded + p.all_already > 0
order by p.load_id desc, p.part desc limit 1"""  # noqa: S608 - constants
_OPEN = """insert into ubp.loads (source_id, file, content_sha256, continues, rows_read, rows_loaded, rows_rejected,
  rows_already, started_at) values (%s, %s, %s, %s, 0, 0, 0, 0, clock_timestamp()) returning load_id"""
_AGAIN = """update ubp.loads set rows_read = 0, rows_loaded = 0, rows_rejected = 0, rows_already = 0,
  rows_anonymous = 0, finished_at = null where load_id = %s"""
_COUNT = """update ubp.loads set rows_read = rows_read + %s, rows_loaded = rows_loaded + %s,
  rows_rejected = rows_rejected + %s, rows_already = rows_already + %s, rows_anonymous = rows_anonymous + %s
where load_id = %s"""
_FINISH = "update ubp.loads set finished_at = clock_timestamp() where load_id = %s"
_WRITE = """insert into ubp.load_parts (load_id, part, first_line, last_line, position, content_sha256,
  rows_read, rows_loaded, rows_rejected, rows_already, rows_anonymous,
  all_read, all_loaded, all_rejected, all_already, all_anonymous, ids, anonymous_ids)
values (%s, (select coalesce(max(part), 0) + 1 from ubp.load_parts where load_id = %s), %s, %s, %s, %s,
  %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, int8range(%s, %s), int8range(%s, %s))"""
_EXAMPLES = """select reason, line, raw from (
    select short as reason, line, raw, row_number() over (partition by short order by line, rejected_id) as place
    from (select *, regexp_replace(reason, '"[^"]*"', '"..."', 'g') as short from ubp.rejected_events
          where load_id = %s) r) numbered
where place <= 3 order by reason, line"""


@dataclass(frozen=True)
class Counts:
    """Rows: loaded + rejected + already = read; anonymous ones are among the loaded."""

    read: int = 0
    loaded: int = 0
    rejected: int = 0
    already: int = 0
    anonymous: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def known(self) -> "Counts":
        """The same rows, met again."""
        return Counts(self.read, 0, self.rejected, self.loaded + self.already, 0)


@dataclass(frozen=True)
class Record:
    """An earlier load of the same content; `at`: when it ended, as ISO text in UTC."""

    load_id: int
    counts: Counts
    finished: bool
    at: str


@dataclass(frozen=True)
class Part:
    """Where a known beginning ends: counts of all up to there, and of which load it is.

    usable  rows of this part alone that are in the database
    open    the load was broken off behind it
    """

    counts: Counts
    load_id: int
    line: int
    usable: int
    open: bool
    at: str


def find_record(cursor: Cursor, source: str, sha256: str) -> Record | None:
    """The record of this content in this source."""
    found = cursor.execute(_FIND, (source, sha256)).fetchone()
    if found is None:
        return None
    load_id, *counts = (int(str(number)) for number in found[:6])
    return Record(load_id, Counts(*counts), bool(found[6]), str(found[7]))


def known_ends(cursor: Cursor, source: str) -> dict[int, set[str]]:
    """Position -> hashes: where parts of this source's files end, of files of which rows were loaded."""
    ends: dict[int, set[str]] = {}
    for position, sha256 in cursor.execute(_ENDS, (source,)).fetchall():
        ends.setdefault(int(str(position)), set()).add(str(sha256))
    return ends


def find_part(cursor: Cursor, source: str, position: int, sha256: str) -> Part:
    """The part that `known_ends` spoke of."""
    found = cursor.execute(_PART, (source, position, sha256)).fetchone()
    assert found is not None  # noqa: S101 - the source is locked
    *counts, load_id, line, usable = (int(str(number)) for number in found[:8])
    return Part(Counts(*counts), load_id, line, usable, not found[8] and bool(found[9]), str(found[10]))


def open_record(cursor: Cursor, source_id: int, file: str, sha256: str, continues: int | None) -> int:
    """A new record without counts; its load_id."""
    row = cursor.execute(_OPEN, (source_id, file, sha256, continues)).fetchone()
    return int(str(row[0])) if row else 0


def begin_again(cursor: Cursor, load_id: int) -> None:
    """Forget the parts of a load of which no row is in the database."""
    cursor.execute("delete from ubp.load_parts where load_id = %s", (load_id,))
    cursor.execute(_AGAIN, (load_id,))


def write_part(
    cursor: Cursor, load_id: int, first: int, end: PartEnd, counts: Counts, total: Counts, ids: list[int | None]
) -> None:
    """Record a part and add it to its load.

    ids  event_ids from, until (exclusive), of ubp.events and of ubp.anonymous_events
    """
    cursor.execute(
        _WRITE,
        (load_id, load_id, first, end.line, end.position, end.sha256, *astuple(counts), *astuple(total), *ids),
    )
    cursor.execute(_COUNT, (*astuple(counts), load_id))


def finish_record(cursor: Cursor, load_id: int) -> None:
    """The load has come to its file's end."""
    cursor.execute(_FINISH, (load_id,))


def rejected_examples(cursor: Cursor, load_id: int) -> dict[str, list[tuple[int, str]]]:
    """The first three rejected rows of each reason as (line, raw text); quoted values in reasons are shortened."""
    cursor.execute(_EXAMPLES, (load_id,))
    found: dict[str, list[tuple[int, str]]] = {}
    for reason, line, raw in cursor.fetchall():
        found.setdefault(str(reason), []).append((int(str(line)), str(raw)))
    return found
