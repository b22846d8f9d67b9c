"""A load map against one file's columns: its SQL expressions, checked by the server before any row is read."""

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.postgres import types

from ubp_sql.errors import MapError
from ubp_sql.expressions import ascii_lower, refuse_silent_words, words
from ubp_sql.sources.load_map import Constant, LoadMap

# Types that jsonb_build_object makes a string, number or boolean of.
_SCALARS = frozenset(
    types[name].oid for name in ("bool", "int4", "int8", "float4", "float8", "numeric", "text", "date")
)
MOST_CASES = 4
"""Values that may be NULL are told apart by cases, 16 of them for four: 0.9 us a row, 1.5 with jsonb_strip_nulls."""


@dataclass(frozen=True)
class Field:
    """One part of an event: column of ubp_typed, field of the map, expression cast to the column's type."""

    column: str
    name: str
    expression: sql.Composable


class Compiled:
    """The map's expressions over the columns of one file."""

    def __init__(
        self, load_map: LoadMap, columns: list[str], header: list[str], types: list[str] | None = None
    ) -> None:
        """columns: staging columns that hold data; header: the names as the file writes them, in the same order.

        types  their SQL types; all text without

        Raises MapError (UB008) for a bare SQL word that hides a column; unknown columns are found by `check`.
        """
        self.map = load_map
        self.columns, self.types = columns, types or ["text"] * len(columns)
        self._by_header = dict(zip(header, columns, strict=True))
        self._texts: list[str] = []
        self.conditions: list[tuple[str, sql.Composable]] = []
        self.fields = self._compile()
        used = set().union(*map(words, self._texts))
        whole_row = "ubp_staging" in used
        self.used = [name for name in columns if whole_row or name in used]

    def _expression(self, text: str, field: str) -> sql.Composable:
        """The expression in parentheses; a column's name, as the file or as SQL has it, is that column."""
        name = self._by_header.get(text) or (ascii_lower(text) if ascii_lower(text) in self.columns else None)
        if name is not None:
            self._texts.append(name)
            return sql.Identifier(name)
        refuse_silent_words(text, self.columns, self.map.where(field))
        self._texts.append(text)
        return sql.SQL("({})").format(sql.SQL(text))

    def _cast(self, text: str | None, field: str, sql_type: str) -> sql.Composable:
        if text is None:
            return sql.SQL("null::") + sql.SQL(sql_type)
        return sql.SQL("{}::{}").format(self._expression(text, field), sql.SQL(sql_type))

    def _compile(self) -> list[Field]:
        m = self.map
        keys = [self._cast(key, f"keys.{place}", "text") for place, key in enumerate(m.keys)]
        fields = [
            Field("user_key", "user", self._cast(m.user, "user", "text")),
            Field("event_time", "event_time", self._cast(m.event_time, "event_time", "timestamptz")),
            Field("kind", "kind", self._kind()),
            Field("item_key", "item", self._cast(m.item, "item", "text")),
            Field("value", "value", self._cast(m.value, "value", "double precision")),
            Field("quantity", "quantity", self._cast(m.quantity, "quantity", "real")),
            Field("duration_s", "duration_s", self._cast(m.duration_s, "duration_s", "real")),
            Field("attributes", "attributes", self._attributes()),
        ]
        if m.ingested_at is not None:
            fields.append(Field("ingested_at", "ingested_at", self._cast(m.ingested_at, "ingested_at", "timestamptz")))
        if keys:  # an array's text keeps ('a,b') and ('a', 'b') apart, and NULL from 'NULL'
            values = sql.SQL(", ").join(keys)
            key = sql.SQL("case when num_nonnulls({0}) > 0 then md5(array[{0}]::text)::uuid end").format(values)
            fields.append(Field("event_key", "keys", key))
        return fields

    def _kind(self) -> sql.Composable:
        kind = self.map.kind
        if isinstance(kind, Constant):
            return sql.SQL("{}::text").format(sql.Literal(kind.constant))
        if isinstance(kind, str):
            return self._cast(kind, "kind", "text")
        parts = []
        for place, (name, condition) in enumerate(self.map.rules):
            expression = self._expression(condition, f"kind.{place}")
            self.conditions.append((f"kind.{place}", expression))
            parts.append(sql.SQL("when {} is true then {}").format(expression, sql.Literal(name)))
        return sql.SQL("case {} end").format(sql.SQL(" ").join(parts))

    def _attributes(self, types: list[int] | None = None) -> sql.Composable:
        """attributes without its NULLs. types: of its values, once the server has told."""
        m = self.map
        pairs: list[tuple[str, sql.Composable]] = []
        if m.order_id is not None:
            pairs.append(("order_id", self._cast(m.order_id, "order_id", "text")))
        pairs += [(name, self._expression(text, f"attributes.{name}")) for name, text in m.attributes.items()]
        if not pairs:
            return sql.SQL("null::jsonb")
        if len(pairs) <= MOST_CASES and types is not None and _SCALARS.issuperset(types):
            return _cases(pairs, [])
        built = sql.SQL("jsonb_strip_nulls({})").format(_object(pairs))
        return sql.SQL("nullif({}, '{{}}'::jsonb)").format(built)

    def _settle(self, cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
        """Write attributes in the quicker way, where none of its values can hold NULLs of its own."""
        m = self.map
        values = [] if m.order_id is None else [self._cast(m.order_id, "order_id", "text")]
        values += [self._expression(text, f"attributes.{name}") for name, text in m.attributes.items()]
        if values:
            cursor.execute(sql.SQL("select {} from pg_temp.ubp_staging limit 0").format(sql.SQL(", ").join(values)))
            types = [column.type_code for column in cursor.description or []]
            found = Field("attributes", "attributes", self._attributes(types))
            self.fields = [found if field.name == "attributes" else field for field in self.fields]

    def check(self, cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
        """Plan every expression over the empty staging table: MapError naming the field for what is not one.

        A WHERE clause takes no aggregate, window or set-returning function: one row in, one value out.
        """
        parts = [(f"kind.{n.split('.')[1]}", sql.SQL("{} is true").format(e)) for n, e in self.conditions]
        parts += [(f.name, sql.SQL("({}) is null").format(f.expression)) for f in self.fields]
        for name, condition in parts:
            query = sql.SQL("explain select 1 from pg_temp.ubp_staging where {}").format(condition)
            try:
                with cursor.connection.transaction():
                    cursor.execute(query, binary=True)  # by the extended protocol, which takes one statement only
            except psycopg.Error as error:
                if error.diag.message_primary is None:  # not the server's word on the expression: the connection broke
                    raise
                raise MapError(
                    f"{self.map.where(name)}: {error.diag.message_primary}", self._hint(name, error)
                ) from error
        self._settle(cursor)

    def _hint(self, field: str, error: psycopg.Error) -> str:
        listed = ", ".join(self.columns[:40]) + (", ..." if len(self.columns) > 40 else "")
        if len(self.columns) == 1 and re.search(r"[;,|\t]", next(iter(self._by_header))):
            return f"one column only: is delimiter right? columns: {listed}"
        if field == "kind" and isinstance(self.map.kind, str) and self.map.kind.isidentifier():
            return f"for the same kind in every row write kind: {{constant: {self.map.kind}}}; columns: {listed}"
        if field == "event_time" and isinstance(error, psycopg.errors.CannotCoerce):
            return (
                f"of a number: to_timestamp(x) in seconds, to_timestamp(x / 1000.0) in milliseconds; columns: {listed}"
            )
        if self.map.format in ("csv", "tsv") and isinstance(error, psycopg.errors.UndefinedFunction):
            return f"{self.map.format.upper()} columns are text: cast them, for example x::numeric; columns: {listed}"
        return f"columns: {listed}"


def _object(pairs: list[tuple[str, sql.Composable]]) -> sql.Composable:
    both = [sql.SQL("{}, {}").format(sql.Literal(name), value) for name, value in pairs]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(both))


def _cases(pairs: list[tuple[str, sql.Composable]], there: list[tuple[str, sql.Composable]]) -> sql.Composable:
    """The object of those of `there` and `pairs` that are not NULL; NULL where all are."""
    if not pairs:
        return _object(there) if there else sql.SQL("null::jsonb")
    first, *rest = pairs
    return sql.SQL("case when {} is null then {} else {} end").format(
        first[1], _cases(rest, there), _cases(rest, [*there, first])
    )
