"""What ubp.attach_source is given, checked by the server itself and made fit to be read anywhere.

An expression is parsed over the relation, its functions are looked at before anything is evaluated, and then it
becomes a generated column of a temporary table: that refuses aggregates, sub-selects, sets, and what is not immutable,
so that a trigger, a refresh and every session read the same event. What is kept is the server's own text of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ubp_sql.api.attach_relation import REPLACEABLE, Relation
from ubp_sql.api.session import Row, single, sqlstate
from ubp_sql.errors import BadInput, MapError
from ubp_sql.expressions import check_text, has_unicode_name, is_name, portable, qualified, refuse_silent_words, words

INTEGERS = {"smallint", "integer", "bigint"}
NUMBERS = INTEGERS | {"numeric", "real", "double precision"}
TEXTS = {"text", "character varying", "character", "name", "uuid", "citext"}
ROWS_TRIED = 1_000
MOST_CHARS = 2_000
VIEW, TABLE, COLUMN = "pg_temp.ubp_expression", "pg_temp.ubp_row", "ubp_expression_value"
# What the expression calls that is not PostgreSQL's own, with who could replace it.
CALLED = f"""
select x.what, pg_get_userbyid(x.owner) as owner
  from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                                    and r.ev_class = 'pg_temp.ubp_expression'::regclass
 {REPLACEABLE}"""  # noqa: S608 - constants only
# Types whose literals run code of theirs: what reads a domain's array or a row type checks the domain. Without a schema
# a name means one of pg_catalog or pg_temp.
STRANGE = """
select t.oid::regtype::text as what, pg_get_userbyid(t.typowner)::text as owner
  from pg_type t left join pg_type e on e.oid = t.typelem
 where (t.typname = any ($1) or t.typnamespace = pg_my_temp_schema() and t.typname = any ($2)
        or exists (select from pg_attribute a where a.attrelid = $3::oid and a.atttypid = t.oid
                      and a.attname = any ($2) and t.typtype <> 'd'))
   and coalesce(e.typtype, t.typtype) <> 'e'
   and not exists (select from pg_roles o where o.oid = t.typowner and o.rolsuper)
 order by 1 limit 1"""
# The stored form of a query numbers the functions in it, PostgreSQL's own too.
UNSTEADY = """
select string_agg(distinct p.oid::regprocedure::text, ', ') as what
  from pg_rewrite r
  cross join lateral regexp_matches(r.ev_action::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') m
  join pg_proc p on p.oid = m[1]::oid
 where r.ev_class = 'pg_temp.ubp_expression'::regclass and p.provolatile <> 'i'"""
TYPE = """
select format_type(a.atttypid, a.atttypmod) as type, t.typtype, t.typcategory,
       format_type(case t.typtype when 'd' then t.typbasetype else t.oid end, null) as base
  from pg_attribute a join pg_type t on t.oid = a.atttypid
 where a.attrelid = 'pg_temp.ubp_expression'::regclass and a.attnum = 1"""
STORED = """
select pg_get_expr(d.adbin, d.adrelid) as text,
       array(select c.attname::text from pg_depend p
               join pg_attribute c on c.attrelid = p.refobjid and c.attnum = p.refobjsubid
              where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid and p.refclassid = 'pg_class'::regclass
                and p.refobjid = d.adrelid and c.attname <> 'ubp_expression_value'
              order by c.attnum) as columns
  from pg_attrdef d where d.adrelid = 'pg_temp.ubp_row'::regclass"""
ZONE = "select 1 as found from pg_timezone_names where name = $1"
UNIQUE = """
select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                where i.indrelid = $1::oid and quote_ident(a.attname) = $2 and a.attnotnull and i.indisunique
                  and i.indisvalid and i.indpred is null and (i.indnkeyatts = 1 or $3 = 'p')) as found"""
# What a function that depends on the session's settings can be replaced by.
INSTEAD = (
    ("to_timestamp(text", "ubp.to_time(column, 'DD/MM/YYYY', 'Europe/London') reads a text as a time in one zone"),
    ("to_date(text", "ubp.to_time(column, 'DD/MM/YYYY', 'Europe/London') reads a text as a time in one zone"),
    ("concat(", "write a || b in place of concat(a, b)"),
    ("concat_ws(", "write a || b in place of concat_ws"),
    ("format(", "write a || b in place of format"),
    ("now()", "an expression must have the same value at any time"),
    ("date_trunc(", "date_trunc('day', column at time zone 'Europe/London') has the same value for everybody"),
    ("timestamptz_pl_interval", "(column at time zone 'UTC' + interval '1 day') at time zone 'UTC' does not"),
    ("anytextcat", "cast to text first: a || b::text"),
    ("textanycat", "cast to text first: a || b::text"),
)
READ_TIME = "a text is read as a time by ubp.to_time(column, 'DD/MM/YYYY', 'Europe/London')"


class Expression(NamedTuple):
    """What is kept of one; `type` is integer, text, or that of the event's column. `bare`: a column's name alone.

    columns  that it reads
    """

    text: str
    type: str
    bare: str | None
    columns: tuple[str, ...]


class Compiled(NamedTuple):
    """All of a source."""

    user: Expression
    event_time: Expression
    kind: Expression
    item: Expression | None
    value: Expression | None
    ingested_at: Expression | None
    event_id: Expression | None
    filter: Expression | None
    time_zone: str
    ascending: bool

    @property
    def columns(self) -> set[str]:
        """Names of all columns that are read."""
        return {name for part in self if isinstance(part, Expression) for name in part.columns}


class _Undo(Exception):
    """Takes back what was made to look at."""


@contextmanager
def undone(plpy: Any) -> Iterator[None]:
    """What happens inside leaves no trace in the database."""
    try:
        with plpy.subtransaction():
            yield
            raise _Undo
    except _Undo:
        pass


def compiled(plpy: Any, memory: dict[str, Any], relation: Relation, given: dict[str, str | None]) -> Compiled:
    """`given`: the arguments of ubp.attach_source by their names. Raises BadInput (UB003) naming the argument."""
    for name in ("user_id", "event_time", "kind"):
        if given[name] is None:
            raise BadInput(f"{name} is NULL", "a column of the relation, or one SQL expression over its columns")
    zone = given["time_zone"]
    if zone is not None and single(plpy, memory, ZONE, ["text"], [zone]) is None:
        raise BadInput(f"unknown time zone {zone!r}", "select name from pg_timezone_names lists them")
    with undone(plpy):
        plpy.execute(f"create temporary table ubp_row (like {relation.name})")
        found = Compiled(
            _key(*_parsed(plpy, memory, relation, "user_id", given["user_id"])),
            _time(plpy, zone, *_parsed(plpy, memory, relation, "event_time", given["event_time"])),
            _text(*_parsed(plpy, memory, relation, "kind", given["kind"])),
            _optional(plpy, memory, relation, given, "item_id", _key),
            _optional(plpy, memory, relation, given, "value", _number),
            _optional(plpy, memory, relation, given, "ingested_at", lambda *of: _time(plpy, zone, *of)),
            _optional(plpy, memory, relation, given, "event_id", _event_id),
            _optional(plpy, memory, relation, given, "filter", _condition),
            zone or "UTC",
            False,
        )
        _tried(plpy, relation, found)
    key = found.event_id
    if key is None or key.type != "integer" or key.bare is None:
        return found
    unique = single(plpy, memory, UNIQUE, ["bigint", "text", "text"], [relation.oid, key.bare, relation.kind])
    return found._replace(ascending=bool(unique and unique["found"]) and relation.watched)


def condition(plpy: Any, memory: dict[str, Any], relation: Relation, name: str, text: str) -> str:
    """A condition on a relation's rows, as the server writes it. Raises BadInput (UB003), which begins with `name`."""
    with undone(plpy):
        plpy.execute(f"create temporary table ubp_row (like {relation.name})")
        found = _condition(*_parsed(plpy, memory, relation, name, text))
    return found.text


def _tried(plpy: Any, relation: Relation, found: Compiled) -> None:
    """Evaluates everything for some rows. Raises BadInput (UB003) where that fails: no refresh could read the others.

    Not of a view or a foreign table, whose first rows may take as long as all.
    """
    if relation.kind not in ("r", "p", "m"):
        return
    parts = ", ".join(f"({part.text})" for part in found if isinstance(part, Expression))
    try:
        plpy.execute(f"select count(x.*) from (select {parts} from {relation.name} limit {ROWS_TRIED}) x")  # noqa: S608
    except plpy.SPIError as error:
        if sqlstate(error)[:2] != "22":
            raise
        said = str(error).splitlines()[0]
        raise BadInput(f"a row of {relation.name}: {said}", "case when ... end keeps such rows out") from None


def _optional(
    plpy: Any, memory: dict[str, Any], relation: Relation, given: dict[str, str | None], name: str, of_type: Any
) -> Expression | None:
    text = given[name]
    found: Expression | None = None if text is None else of_type(*_parsed(plpy, memory, relation, name, text))
    return found


def _parsed(
    plpy: Any, memory: dict[str, Any], relation: Relation, name: str, text: str | None
) -> tuple[str, Row, Expression]:
    """(name, type, expression as the server writes it) of one argument."""
    text = text or ""
    wrong = check_text(text) if len(text) <= MOST_CHARS else f"an expression of {len(text):,} characters is too long"
    if wrong is not None:
        raise BadInput(f"{name}: {wrong}", "one SQL expression over the relation's columns")
    try:
        refuse_silent_words(text, relation.columns, name)
    except MapError as error:
        raise BadInput(error.message, error.hint) from None
    _refuse_types(plpy, memory, relation, name, text)
    with _named(plpy, name, text, relation):
        query = f"select ({text}) as value from {relation.name} as ubp_row"  # noqa: S608 - checked above
        plpy.execute(f"create temporary view ubp_expression as {query}")
    called = single(plpy, memory, CALLED, [], [])
    if called is not None:
        raise BadInput(
            f"{name}: {called['what']} belongs to {called['owner']}, who could replace it by anything",
            f"functions of a superuser may be called; else a generated column or a view of {relation.name} can hold it",
        )
    kind = single(plpy, memory, TYPE, [], []) or {}
    unsteady = (single(plpy, memory, UNSTEADY, [], []) or {})["what"]
    with _named(plpy, name, text, relation, unsteady):
        plpy.execute(
            f"alter table {TABLE} add column {COLUMN} {kind['type']} generated always as ({text}) stored",
        )
    stored = single(plpy, memory, STORED, [], []) or {}
    plpy.execute(f"alter table {TABLE} drop column {COLUMN}")
    plpy.execute(f"drop view {VIEW}")
    compiled_text = portable(stored["text"])
    bare = compiled_text if is_name(compiled_text) and stored["columns"] else None
    return name, kind, Expression(compiled_text, kind["base"], bare, tuple(stored["columns"]))


def _refuse_types(plpy: Any, memory: dict[str, Any], relation: Relation, name: str, text: str) -> None:
    """Raises BadInput (UB003) before the server reads literals of a type that somebody made, by code of his."""
    if has_unicode_name(text):
        raise BadInput(f'{name}: U&"..." is not allowed', "write the name's letters themselves")
    types = ["text[]", "text[]", "bigint"]
    found = single(plpy, memory, STRANGE, types, [sorted(qualified(text)), sorted(words(text)), relation.oid])
    if found is not None:
        raise BadInput(
            f"{name}: type {found['what']} belongs to {found['owner']}, whose code would check its values",
            f"enums may be named; else a generated column or a view of {relation.name} can hold the value",
        )


@contextmanager
def _named(plpy: Any, name: str, text: str, relation: Relation, unsteady: str | None = None) -> Iterator[None]:
    """The server's errors about an expression, with the argument's name and a way out."""
    try:
        yield
    except plpy.SPIError as error:
        code = sqlstate(error)
        if code[:2] not in ("42", "22", "0A", "54", "2B", "38", "P0"):
            raise
        said = str(error).splitlines()[0]
        hint = error.spidata[2] if getattr(error, "spidata", None) else None
        if code == "42P17":
            said = "it may have another value in another session or at another time"
            said += f": {unsteady}" if unsteady else ""
            hints = [way for word, way in INSTEAD if unsteady and word in unsteady]
            if not unsteady and name in ("event_time", "ingested_at"):
                hints = [READ_TIME]
            hint = hints[0] if hints else f"a generated column or a view of {relation.name} can hold it"
        elif code == "42703":
            listed = ", ".join(relation.columns[:30]) + (", ..." if len(relation.columns) > 30 else "")
            hint = f"columns are: {listed}"
            if name in ("kind", "item_id"):
                hint += f"; a constant is written {name} => '''{text.strip()[:40]}'''"
        elif code == "42P01":
            hint = "columns are written without the name of their table; other tables take a view"
        raise BadInput(f"{name}: {said}", hint or "one SQL expression over the relation's columns") from None


def _key(name: str, kind: Row, found: Expression) -> Expression:
    """Of a user or an item: an integer is the id itself, a text gets one from ubp.users or ubp.items."""
    base = kind["base"]
    if base in INTEGERS:
        return _bigint(base, found)
    if base in NUMBERS:
        e = found.text
        whole = f"({e}) = trunc({e}) and ({e}) >= -9223372036854775808 and ({e}) < 9223372036854775808"
        return Expression(f"case when {whole} then ({e})::bigint end", "integer", None, found.columns)
    return _text(name, kind, found)


def _bigint(base: str, found: Expression) -> Expression:
    text = found.text if base == "bigint" else f"({found.text})::bigint"
    return found._replace(text=text, type="integer")


def _text(name: str, kind: Row, found: Expression) -> Expression:
    base = kind["base"]
    if base == "text":
        return found._replace(type="text")
    # PostgreSQL takes an enum's text for changeable: labels can be renamed.
    if base in TEXTS or base.endswith(".citext") or kind["typtype"] == "e":
        # Only of a varchar is the text the column itself, to an index.
        bare = found.bare if base == "character varying" else None
        return found._replace(text=f"({found.text})::text", type="text", bare=bare)
    hint = "write ->> in place of ->" if base in ("json", "jsonb") else f"for example ({found.text[:60]})::text"
    raise BadInput(f"{name} is of type {kind['type']}, neither a number nor a text", hint)


def _event_id(name: str, kind: Row, found: Expression) -> Expression:
    if kind["base"] in INTEGERS:
        return _bigint(kind["base"], found)
    if kind["base"] == "numeric":
        return Expression(f"({found.text})::text", "text", None, found.columns)
    return _text(name, kind, found)


def _time(plpy: Any, zone: str | None, name: str, kind: Row, found: Expression) -> Expression:
    base, e = kind["base"], found.text
    if base == "timestamp with time zone":
        return found._replace(type=base)
    if base in NUMBERS:
        raise BadInput(
            f"{name} is of type {kind['type']}, not a time",
            f"seconds since 1970: to_timestamp({e[:60]}); milliseconds: to_timestamp({e[:60]} / 1000.0)",
        )
    if base not in ("timestamp without time zone", "date"):
        raise BadInput(f"{name} is of type {kind['type']}, not a time", READ_TIME)
    if zone is None:
        raise BadInput(
            f"{name} is of type {kind['type']}: which hour that was depends on a time zone",
            "time_zone => 'UTC', or the zone of the clock that wrote it, such as 'Europe/London'",
        )
    # The conversion fails at the ends of the calendar, and one row must not stop everybody's refresh.
    inside = f"({e}) >= '1899-12-01'::timestamp and ({e}) < '2300-02-01'::timestamp"
    text = f"case when {inside} then ({e})::timestamp at time zone {plpy.quote_literal(zone)} end"
    return Expression(text, "timestamp with time zone", None, found.columns)


def _number(name: str, kind: Row, found: Expression) -> Expression:
    base, e = kind["base"], found.text
    if base not in NUMBERS:
        way = {"boolean": "::integer", "money": "::numeric", "text": "::numeric"}.get(base, "")
        hint = f"for example ({e[:60]}){way}" if way else "for an interval extract(epoch from ...) is one"
        raise BadInput(f"{name} is of type {kind['type']}, not a number", hint)
    text = f"({e})::double precision"
    if base == "double precision":
        text = e
    elif base == "numeric" and kind["type"] == "numeric":
        # Without a precision it may hold what double precision cannot, and one row must not stop everybody's refresh.
        text = f"case when abs({e}) < 1e308 then case when abs({e}) > 1e-300 then {text} else 0 end end"
    return Expression(text, "double precision", None, found.columns)


def _condition(name: str, kind: Row, found: Expression) -> Expression:
    if kind["base"] != "boolean":
        raise BadInput(
            f"{name} is of type {kind['type']}, not true or false", "for example filter => 'status <> ''draft'''"
        )
    return found
