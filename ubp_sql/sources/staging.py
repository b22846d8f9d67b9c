"""One batch at a time: rows into the staging table by binary COPY, then one statement that types or rejects them."""

import re

import psycopg
from psycopg import sql

from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.rows import Bad, Batch
from ubp_sql.sources.statements import CREATE_TYPED, ROW_ERRORS, create_try, erroneous, evaluate, records_path, unusable

Cursor = psycopg.Cursor[tuple[object, ...]]

_CREATE_LINES = "create temporary table ubp_lines (ubp_line bigint, ubp_raw text, ubp_reason text)"

# A line's array becomes rows; `doc` keeps the rest of the line once a row, not the array, which would make a long
# session quadratic. A line without the array is one row with a reason.
_EXPLODE = """insert into pg_temp.ubp_staging (ubp_line, ubp_ord, ubp_reason, doc, record)
select l.ubp_line, r.place, case when not is_array then {no_array} end,
  case when is_array then d.doc #- {path} else d.doc end, case when is_array then r.record end
from (select ubp_line, ubp_raw::jsonb as doc from pg_temp.ubp_lines where ubp_reason is null offset 0) l
cross join lateral (select l.doc, coalesce(jsonb_typeof(l.doc #> {path}) = 'array', false) as is_array) d
cross join lateral jsonb_array_elements(case when is_array then d.doc #> {path} else '[null]' end)
  with ordinality as r (record, place)"""
_WHOLE_LINES = """insert into pg_temp.ubp_staging (ubp_line, ubp_ord, doc, record)
select ubp_line, 1, ubp_raw::jsonb, ubp_raw::jsonb from pg_temp.ubp_lines where ubp_reason is null"""
_UNUSABLE_LINES = "select ubp_line, 1, ubp_reason, ubp_raw from pg_temp.ubp_lines where ubp_reason is not null"
_TRY_JSON = """create function pg_temp.ubp_try_json(line text) returns text language plpgsql as $try$
begin
  perform line::jsonb;
  return null;
exception when data_exception or program_limit_exceeded then
  return 'not valid JSON: ' || sqlerrm;
end $try$"""

_NAME_BAD_ROWS = """update pg_temp.ubp_staging s set ubp_reason = bad.reason
from (select ubp_line, ubp_ord, pg_temp.ubp_try(ubp_staging) as reason
  from pg_temp.ubp_staging where ubp_reason is null) bad
where bad.reason is not null and bad.ubp_line = s.ubp_line and bad.ubp_ord = s.ubp_ord"""

_TYPES = {"bigint": "int8", "double precision": "float8", "real": "float4", "boolean": "bool"}  # as pg_type has them
_LISTED = "select line, reason from ubp.rejected_events where load_id = %s and line between %s and %s"
_REJECT = "copy ubp.rejected_events (load_id, source_id, file, line, reason, raw) from stdin (format binary)"
_REJECT_TYPES = ["int8", "int4", "text", "int8", "text", "text"]


class Rejections:
    """Rows that cannot be used: counted by reason, and written to ubp.rejected_events.

    again  the load has a record already: what it lists is not listed twice
    """

    def __init__(self, load_id: int, source_id: int, file: str, again: bool) -> None:
        self._load_id, self._source_id, self._file, self._again = load_id, source_id, file, again
        self.by_reason: dict[str, int] = {}

    def write(self, cursor: Cursor, rows: list[Bad]) -> None:
        if not rows:
            return
        for row in rows:
            # Errors quote the value: "abc" and "abd" are one reason here, so that the summary stays a summary.
            short = re.sub(r'"[^"]*"', '"..."', row.reason)
            self.by_reason[short] = self.by_reason.get(short, 0) + 1
        if self._again:
            cursor.execute(_LISTED, (self._load_id, rows[0].line, rows[-1].line))
            listed = {(line, reason) for line, reason in cursor.fetchall()}
            rows = [row for row in rows if (row.line, row.reason) not in listed]
        with cursor.copy(_REJECT) as copy:
            copy.set_types(_REJECT_TYPES)
            for row in rows:
                copy.write_row((self._load_id, self._source_id, self._file, *row))


class Staging:
    """The temporary tables of one part and the way through them; `read` and `rejected` count its rows."""

    def __init__(
        self, cursor: Cursor, compiled: Compiled, rejections: Rejections, *, integer_users: bool, check: bool
    ) -> None:
        """Make the tables. `check`: try the map's expressions on them (MapError)."""
        self._cursor, self._compiled, self._rejections = cursor, compiled, rejections
        self._jsonl = compiled.map.format == "jsonl"
        self._functions: list[str] = []
        self._unusable, self._erroneous = unusable(compiled.map), erroneous(compiled.map)
        self.read = self.rejected = self._problems = 0
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.Identifier("pg_catalog", _TYPES.get(kind, kind)))
            for name, kind in zip(compiled.columns, compiled.types, strict=True)
        ]
        cursor.execute(
            sql.SQL(
                "create temporary table ubp_staging (ubp_line bigint, ubp_ord int default 1, ubp_reason text, {})"
            ).format(sql.SQL(", ").join(columns))
        )
        cursor.execute(CREATE_TYPED)
        if self._jsonl:
            cursor.execute(_CREATE_LINES)
        if check:
            compiled.check(cursor)
        self._evaluate = evaluate(compiled, integer_users)

    def add(self, batch: Batch) -> None:
        """Type one batch of rows, or record why not."""
        bad = list(batch.bad)
        self.read += len(bad)
        if batch.rows or batch.data:
            self._copy(batch)
            if self._jsonl:
                self.read += self._explode(bad)
            else:
                self.read += len(batch) - len(batch.bad)
            self._type_rows(bad, batch)
            self._cursor.execute("truncate pg_temp.ubp_staging")
        bad.sort(key=lambda row: row.line)  # stable: rows of one line stay in its order
        self.rejected += len(bad)
        self._rejections.write(self._cursor, bad)

    def _copy(self, batch: Batch) -> None:
        table = "ubp_lines" if self._jsonl else "ubp_staging"
        names = ["ubp_line", *(["ubp_raw"] if self._jsonl else self._compiled.used)]
        target = sql.SQL("copy pg_temp.{} ({}) from stdin (format {})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL("binary" if batch.data is None else "csv, encoding 'UTF8'"),
        )
        with self._cursor.copy(target) as copy:
            if batch.data is not None:
                copy.write(batch.data)
                return
            copy.set_types(["int8"] + ["text"] * (len(names) - 1))
            write = copy.write_row
            for row in batch.rows:
                write(row)

    def _explode(self, bad: list[Bad]) -> int:
        """Lines to rows; the number of rows, of which a line that is not JSON is one."""
        records = self._compiled.map.records
        statement: sql.SQL | sql.Composed = sql.SQL(_WHOLE_LINES)
        if records is not None:
            no_array = sql.Literal(f"no array at {records}")
            statement = sql.SQL(_EXPLODE).format(path=records_path(self._compiled.map), no_array=no_array)
        lines: list[tuple[object, ...]] = []
        try:
            with self._cursor.connection.transaction():
                self._cursor.execute(statement)
        except psycopg.Error as error:
            self._only_row_errors(error)
            self._create("ubp_try_json(text)", sql.SQL(_TRY_JSON))
            self._cursor.execute(
                "update pg_temp.ubp_lines set ubp_reason = pg_temp.ubp_try_json(ubp_raw) where ubp_reason is null"
            )
            lines = self._cursor.execute(_UNUSABLE_LINES).fetchall()
            self._cursor.execute(statement)
        rows = self._cursor.rowcount
        bad.extend(Bad(int(str(line)), str(reason), str(raw)) for line, _, reason, raw in lines)
        self._cursor.execute("truncate pg_temp.ubp_lines")
        return rows + len(lines)

    def _type_rows(self, bad: list[Bad], batch: Batch) -> None:
        """Evaluate the batch as a set; where that raises, find the rows at fault one by one and evaluate the rest."""
        found: list[tuple[object, ...]] = []
        self._cursor.execute("select greatest(pg_relation_size('pg_temp.ubp_typed') / 8192 - 1, 0)")
        block = self._cursor.fetchall()[0][0]
        failed = False
        try:
            with self._cursor.connection.transaction():
                self._cursor.execute(self._evaluate)
        except psycopg.Error as error:
            self._only_row_errors(error)
            failed = True
            self._create("ubp_try(pg_temp.ubp_staging)", create_try(self._compiled, self._cursor.connection))
            self._cursor.execute(_NAME_BAD_ROWS)
            self._cursor.execute(self._evaluate)
        first = batch.rows[0][0] if batch.rows else batch.first
        found += self._cursor.execute(self._unusable, (f"({block},0)", first)).fetchall()
        self._problems += len(found)
        if failed or self._compiled.map.records is not None:
            found += self._cursor.execute(self._erroneous).fetchall()
        found.sort(key=lambda row: (int(str(row[0])), int(str(row[1]))))
        for line, _, reason, raw in found:
            number = int(str(line))
            bad.append(Bad(number, str(reason), batch.raw(number) if raw is None else str(raw)))

    @staticmethod
    def _only_row_errors(error: psycopg.Error) -> None:
        if (error.sqlstate or "")[:2] not in ROW_ERRORS:
            raise error

    def _create(self, name: str, statement: sql.SQL | sql.Composed) -> None:
        if name not in self._functions:
            self._cursor.execute(statement)
            self._functions.append(name)

    def keep_usable(self) -> None:
        """Take the rows with a problem out of ubp_typed: without them the planner guesses its size right."""
        if self._problems:
            self._cursor.execute("delete from pg_temp.ubp_typed where problem is not null")

    def drop(self) -> None:
        """Take the tables and functions away; a rollback does the same."""
        for name in self._functions:
            self._cursor.execute(sql.SQL("drop function pg_temp.") + sql.SQL(name))
        for table in ("ubp_staging", "ubp_typed", *(["ubp_lines"] if self._jsonl else [])):
            self._cursor.execute(sql.SQL("drop table pg_temp.{}").format(sql.Identifier(table)))
