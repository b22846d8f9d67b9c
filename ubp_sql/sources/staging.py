"""One batch at a time: rows into the staging table by binary COPY, then one statement that types or rejects them."""

import re

import psycopg
from psycopg import sql

from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.rows import Row
from ubp_sql.sources.statements import CREATE_TYPED, ROW_ERRORS, Target, create_try, evaluate, records_path

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
_WHOLE_LINES = """insert into pg_temp.ubp_staging (ubp_line, ubp_ord, ubp_raw, doc, record)
select ubp_line, 1, ubp_raw, ubp_raw::jsonb, ubp_raw::jsonb from pg_temp.ubp_lines where ubp_reason is null"""
_UNUSABLE_LINES = """insert into pg_temp.ubp_staging (ubp_line, ubp_ord, ubp_raw, ubp_reason)
select ubp_line, 1, ubp_raw, ubp_reason from pg_temp.ubp_lines where ubp_reason is not null"""
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


class Staging:
    """The temporary tables of one load and the way through them."""

    def __init__(self, cursor: Cursor, compiled: Compiled, target: Target) -> None:
        """Make the tables and check the map's expressions on them (MapError)."""
        self._cursor, self._compiled = cursor, compiled
        self._jsonl = compiled.map.format == "jsonl"
        self._functions: list[str] = []
        self._evaluate = evaluate(compiled, target)
        self.read = 0
        self.rejected: dict[str, int] = {}
        sql_type = "jsonb" if self._jsonl else "text"
        columns = [sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(sql_type)) for c in compiled.columns]
        cursor.execute(
            sql.SQL(
                "create temporary table ubp_staging "
                "(ubp_line bigint, ubp_ord int default 1, ubp_raw text, ubp_reason text, {})"
            ).format(sql.SQL(", ").join(columns))
        )
        cursor.execute(CREATE_TYPED)
        if self._jsonl:
            cursor.execute(_CREATE_LINES)
        compiled.check(cursor)

    def add(self, batch: list[Row]) -> None:
        """Type one batch of rows, or record why not."""
        table = "ubp_lines" if self._jsonl else "ubp_staging"
        names = ["ubp_line", "ubp_raw", "ubp_reason"] + ([] if self._jsonl else self._compiled.used)
        target = sql.SQL("copy pg_temp.{} ({}) from stdin (format binary)").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with self._cursor.copy(target) as copy:
            copy.set_types(["int8"] + ["text"] * (len(names) - 1))
            write = copy.write_row
            for row in batch:
                write(row)
        self.read += self._explode() if self._jsonl else len(batch)
        self._type_rows()
        self._cursor.execute("truncate pg_temp.ubp_staging")

    def _explode(self) -> int:
        """Lines to rows; the number of rows, of which a line that is not JSON is one."""
        records = self._compiled.map.records
        statement: sql.SQL | sql.Composed = sql.SQL(_WHOLE_LINES)
        if records is not None:
            no_array = sql.Literal(f"no array at {records}")
            statement = sql.SQL(_EXPLODE).format(path=records_path(self._compiled.map), no_array=no_array)
        try:
            with self._cursor.connection.transaction():
                self._cursor.execute(statement)
        except psycopg.Error as error:
            self._only_row_errors(error)
            self._create("ubp_try_json(text)", sql.SQL(_TRY_JSON))
            self._cursor.execute(
                "update pg_temp.ubp_lines set ubp_reason = pg_temp.ubp_try_json(ubp_raw) where ubp_reason is null"
            )
            self._cursor.execute(statement)
        rows = self._cursor.rowcount
        self._cursor.execute(_UNUSABLE_LINES)
        rows += self._cursor.rowcount
        self._cursor.execute("truncate pg_temp.ubp_lines")
        return rows

    def _type_rows(self) -> None:
        """Evaluate the batch as a set; where that raises, find the rows at fault one by one and evaluate the rest."""
        try:
            with self._cursor.connection.transaction():
                self._cursor.execute(self._evaluate)
                counts = self._cursor.fetchall()
        except psycopg.Error as error:
            self._only_row_errors(error)
            self._create("ubp_try(pg_temp.ubp_staging)", create_try(self._compiled, self._cursor.connection))
            self._cursor.execute(_NAME_BAD_ROWS)
            self._cursor.execute(self._evaluate)
            counts = self._cursor.fetchall()
        for reason, rows in counts:
            # Errors quote the value: "abc" and "abd" are one reason here, so that the summary stays a summary.
            short = re.sub(r'"[^"]*"', '"..."', str(reason))
            self.rejected[short] = self.rejected.get(short, 0) + int(str(rows))

    @staticmethod
    def _only_row_errors(error: psycopg.Error) -> None:
        if (error.sqlstate or "")[:2] not in ROW_ERRORS:
            raise error

    def _create(self, name: str, statement: sql.SQL | sql.Composed) -> None:
        if name not in self._functions:
            self._cursor.execute(statement)
            self._functions.append(name)

    def drop(self) -> None:
        """Take the tables and functions away; a rollback does the same."""
        for name in self._functions:
            self._cursor.execute(sql.SQL("drop function pg_temp.") + sql.SQL(name))
        for table in ("ubp_staging", "ubp_typed", *(["ubp_lines"] if self._jsonl else [])):
            self._cursor.execute(sql.SQL("drop table pg_temp.{}").format(sql.Identifier(table)))
