"""Propose the call of ubp.attach_source for a table or view, from its catalogue and a look at its rows."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from ubp_sql.errors import BadInput
from ubp_sql.sources.guess_names import tokens
from ubp_sql.sources.guess_parts import UNTOLD, Part, Parts
from ubp_sql.sources.guess_sample import needs_quotes
from ubp_sql.sources.guess_values import MOMENTS, Column, quoted, shown

FIRST, LATER = 8_000, 2_000  # rows looked at: the first ones, and some from anywhere
ARGUMENTS = {
    "user": "user_id",
    "event_time": "event_time",
    "kind": "kind",
    "item": "item_id",
    "value": "value",
    "ingested_at": "ingested_at",
    "event_key": "event_id",
}
REQUIRED = ("user", "event_time", "kind")
_RELATION = """
select c.oid::bigint as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
       c.reltuples::float8 as rows, has_table_privilege(c.oid, 'select') as readable
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.oid = to_regclass(%s) and c.relkind in ('r', 'p', 'v', 'm', 'f')"""
_COLUMNS = """
select a.attname as name, col_description(a.attrelid, a.attnum) as comment, t.typtype::text as form,
       format_type(case when t.typtype = 'd' then t.typbasetype else t.oid end, null) as type,
       coalesce(pg_get_expr(d.adbin, d.adrelid) in ('now()', 'CURRENT_TIMESTAMP', 'clock_timestamp()'), false) as now,
       (select r.relname from pg_constraint f join pg_class r on r.oid = f.confrelid
         where f.conrelid = a.attrelid and f.contype = 'f' and f.conkey = array[a.attnum] limit 1) as refers_to,
       exists (select from pg_index i
                where i.indrelid = a.attrelid and i.indkey::text = a.attnum::text and i.indisunique
                  and i.indpred is null and i.indisvalid) as unique,
       s.null_frac::float8 as missing, s.n_distinct::float8 as distinct, s.most_common_vals::text::text[] as common
  from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_class c on c.oid = a.attrelid
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  left join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
                      and s.inherited = (c.relkind = 'p')
 where a.attrelid = %s::bigint::oid and a.attnum > 0 and not a.attisdropped order by a.attnum"""
_SETTINGS = "select set_config(name, value, true) from (values ('DateStyle', 'ISO, YMD'), ('TimeZone', 'UTC'), \
('extra_float_digits', '1'), ('statement_timeout', '60s'), ('lock_timeout', '5s')) as settings(name, value)"
_CALL, _INDENT = "select step, object, lock from ubp.attach_source", "\n    "
_TYPED = {"character varying": "text", "character": "text", "citext": "text", "name": "text"}


@dataclass(frozen=True)
class TableGuess:
    """What a table seems to be. `steps`: what ubp.attach_source says that it would do; `problem`: why it would not."""

    relation: str
    rows: int
    parts: list[Part]
    time_zone: str | None
    filter: str | None
    notes: list[str]
    steps: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    @property
    def open(self) -> list[str]:
        """Required parts that could not be told."""
        return [part.name for part in self.parts if part.name in REQUIRED and part.value is None]

    def with_part(self, name: str, value: Any) -> "TableGuess":
        """The same with one part as a person says it."""
        parts = [Part(p.name, value, "you said so", "", p.examples) if p.name == name else p for p in self.parts]
        return replace(self, parts=parts, steps=[], problem=None)

    def arguments(self) -> dict[str, str]:
        """What ubp.attach_source is given, by the names of its arguments."""
        found = {ARGUMENTS[part.name]: expression(part.value) for part in self.parts if part.value is not None}
        if self.time_zone is not None:
            found["time_zone"] = self.time_zone
        if self.filter is not None:
            found["filter"] = self.filter
        return found

    def call_text(self) -> str:
        """The call, ready to paste; what is open is a comment in its place."""
        arguments = [quoted(self.relation), *(f"{name} => {quoted(text)}" for name, text in self.arguments().items())]
        text = f"{_CALL}({f',{_INDENT}'.join(arguments)});\n"
        for part in self.parts:
            if part.value is None and part.sure == UNTOLD:
                name = ARGUMENTS[part.name]
                text += _comment(f"{name}: cannot tell: {part.why}")
                text += "".join(_comment(f"  {name} => {quoted(expression(choice))}") for choice in part.choices)
        return text + "".join(_comment(f"note: {note}") for note in self.notes)


def _comment(text: str) -> str:
    """One line: a line end in a name must not end the comment."""
    return f"-- {shown(text, 1_000)}\n"


def expression(value: Any) -> str:
    """A part's value as SQL: rules become a CASE, a constant a text."""
    if isinstance(value, dict):
        return quoted(value["constant"])
    if isinstance(value, list):
        whens = [f"when {condition} then {quoted(kind)}" for rule in value for kind, condition in rule.items()]
        return f"case {' '.join(whens)} end".replace("when true then", "else")
    return str(value)


def guess_table(conn: psycopg.Connection[Any], name: str) -> TableGuess:
    """Look at the catalogue and at most 10,000 rows, in a transaction that writes nothing.

    Raises BadInput (UB003) for what is no table or view that this role can read.
    """
    with conn.transaction(force_rollback=True), conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set transaction read only")
        cursor.execute(_SETTINGS)
        relation = _relation(cursor, name)
        known = cursor.execute(_COLUMNS, (relation["oid"],)).fetchall()
        try:
            columns = _columns(cursor, relation, known)
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.errors.QueryCanceled) as error:
            why = error.diag.message_primary or str(error)
            raise BadInput(f"{name} cannot be read: {why}", "mend the view, or name the table behind it") from error
    guess = _guess(relation, columns, {c["name"]: c for c in known})
    return guess if guess.open else checked(conn, guess)


def _relation(cursor: psycopg.Cursor[Any], name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] | None = cursor.execute(_RELATION, (name,)).fetchone()
    except (psycopg.DataError, psycopg.ProgrammingError):  # no name at all
        found = None
    if found is None:
        raise BadInput(
            f"there is no table or view {name!r} here", "write schema.table; a file must exist under its path"
        )
    if not found["readable"]:
        raise BadInput(f"this role may not read {name}", f"as its owner: grant select on {name} to the role")
    return found


def _columns(cursor: psycopg.Cursor[Any], relation: dict[str, Any], known: list[dict[str, Any]]) -> list[Column]:
    table = sql.Identifier(relation["schema"], relation["name"])
    texts = sql.SQL(", ").join(sql.SQL("left({}::text, 200)").format(sql.Identifier(c["name"])) for c in known)
    with cursor.connection.cursor(row_factory=tuple_row) as plain:
        plain.execute(sql.SQL("select {} from {} limit {}").format(texts, table, sql.Literal(FIRST)))
        rows = plain.fetchall()
        head = len(rows)
        if head == FIRST and relation["kind"] in "rpm" and relation["rows"] > FIRST:
            share = sql.Literal(min(100.0, 400.0 * LATER / relation["rows"]))
            query = sql.SQL("select {} from {} tablesample system ({}) limit {}")
            plain.execute(query.format(texts, table, share, sql.Literal(LATER)))
            rows += plain.fetchall()
    columns = []
    for place, c in enumerate(known):
        word = _word(c["name"])
        kind = "text" if c["form"] == "e" else _TYPED.get(c["type"], c["type"])
        column = Column(c["name"], word, word, [row[place] or None for row in rows], head, kind)
        column.unique, column.now_by_default = c["unique"], c["now"]
        column.comment, column.refers_to = c["comment"] or "", c["refers_to"] or ""
        columns.append(column)
    return columns


def _word(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if needs_quotes(name) else name


def _guess(relation: dict[str, Any], columns: list[Column], statistics: dict[str, dict[str, Any]]) -> TableGuess:
    zones: list[str] = []

    def time_sql(column: Column, template: str) -> str:
        if column.sql_type in MOMENTS:
            if column.sql_type != MOMENTS[2]:
                zones.append(column.name)
            return column.word
        form = column.time
        if column.sql_type == "text" and form is not None and not form.number:
            pattern = re.fullmatch(r"to_timestamp\(\{\}, '(.*)'\)", template)
            if pattern is None:  # the year first: it reads that without a pattern
                return f"ubp.to_time({column.cleaned})"
            return f"ubp.to_time({column.cleaned}, {quoted(pattern[1])}, 'UTC')"
        return template.replace("::numeric / 1000", " / 1000.0").replace("::numeric", "").format(column.word)

    found = Parts(columns, relation["name"], named=True, time_sql=time_sql, without=("order_id", "duration_s"))
    key = found.column_of("event_key")
    parts = [part for part in found.parts if part.name in ARGUMENTS]
    if key is not None:
        parts.append(Part("event_key", key.word, found.keys.sure, found.keys.why, key.examples()))
    notes = [note for note in found.notes if "time_zone" not in note] + _statistics(found, statistics, relation["rows"])
    parts = [_commented(part, found) for part in parts]
    if not columns or not columns[0].values:
        notes.append("it is empty: told by names and types alone")
    zone = "UTC" if zones else None
    if zones:
        notes.append(f"{', '.join(sorted(set(zones)))}: no time zone; name that of the clock that wrote it")
    name = f"{_word(relation['schema'])}.{_word(relation['name'])}"
    return TableGuess(name, len(columns[0].values) if columns else 0, parts, zone, _filter(columns), notes)


def _commented(part: Part, found: Parts) -> Part:
    column = found.column_of(part.name)
    if column is None or not column.comment or part.value is None:
        return part
    return replace(part, why=f"{part.why}; its comment: {shown(column.comment, 80)}")


def _statistics(found: Parts, statistics: dict[str, dict[str, Any]], rows: float) -> list[str]:
    """What ANALYZE knows of the whole table and the sample does not show."""
    notes = []
    user, kind = found.column_of("user"), found.column_of("kind")
    if user is not None and (distinct := statistics[user.name]["distinct"]):
        users = distinct if distinct > 0 else -distinct * max(rows, 0)
        notes.append(f"about {users:,.0f} users in {rows:,.0f} rows")
    missing = max(found.userless, (statistics[user.name]["missing"] or 0) if user is not None else 0)
    if missing > 0.001:
        notes.append(f"{missing:.1%} of the rows have no user: they are no events")
    if kind is not None and (unseen := [w for w in statistics[kind.name]["common"] or [] if w not in kind.counts]):
        notes.append(f"kinds beyond the rows looked at: {', '.join(map(shown, unseen[:10]))}")
    return notes


def _filter(columns: list[Column]) -> str | None:
    """Rows that were deleted by a mark are no events."""
    for column in columns:
        words = tokens(column.name)
        if words in (["deleted", "at"], ["deleted", "on"]) and column.sql_type in MOMENTS:
            return f"{column.word} is null"
        if words in (["is", "deleted"], ["deleted"]) and column.sql_type == "boolean":
            return f"not {column.word}"
    return None


def checked(conn: psycopg.Connection[Any], guess: TableGuess) -> TableGuess:
    """The same with what ubp.attach_source says to it, which is rolled back."""
    arguments = guess.arguments()
    named = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder()) for name in arguments
    )
    query = sql.SQL("select * from ubp.attach_source(%s::regclass, {}, dry_run => true)").format(named)
    try:
        with conn.transaction(force_rollback=True), conn.cursor(row_factory=dict_row) as cursor:
            there = cursor.execute("select to_regproc('ubp.attach_source') is not null as there").fetchone()
            if not there or not there["there"]:
                notes = [*guess.notes, "not checked: ubp_sql is not installed in this database (ubp-sql init)"]
                return replace(guess, notes=notes)
            steps = cursor.execute(query, [guess.relation, *arguments.values()]).fetchall()
    except psycopg.Error as error:
        if conn.closed:
            raise
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        said = (error.diag.message_primary or str(error)).removeprefix("ubp: ")
        return replace(guess, problem=f"ubp.attach_source says: {said}{hint}")
    return replace(guess, steps=steps)
