"""The statements of one part of a load, written from a compiled map.

Its temporary tables:
  ubp_lines    JSONL only: line, raw text, reason
  ubp_staging  one batch of rows: ubp_line, ubp_ord (place in an exploded line, from 1), ubp_reason, columns
  ubp_typed    every row of the part, typed; those with a problem go before it is published
"""

import psycopg
from psycopg import sql

from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.load_map import LoadMap

# Errors that a row can cause by its values: data exceptions, limits (nesting, size), unsupported casts, raised errors.
ROW_ERRORS = ("22", "54", "0A", "P0")
MAX_KEY_BYTES = 1000  # an index entry has room for 2704 bytes

CREATE_TYPED = """create temporary table ubp_typed (ubp_line bigint not null, ubp_ord int not null, problem text,
    user_key text, event_time timestamptz, kind text, item_key text, value double precision, quantity real,
    duration_s real, attributes jsonb, ingested_at timestamptz, event_key uuid)"""

_EVALUATE = """insert into pg_temp.ubp_typed ({names}, ubp_line, ubp_ord, problem)
select {names}, ubp_line, ubp_ord, {reason} from (
  select ubp_line, ubp_ord, {fields} from pg_temp.ubp_staging where ubp_reason is null offset 0) e"""

# What the batch added begins at a block of the table, maybe behind rows of the batch before.
_UNUSABLE = """select t.ubp_line, t.ubp_ord, t.problem, {raw}
from pg_temp.ubp_typed t {staged} where t.problem is not null and t.ctid >= %s::tid and t.ubp_line >= %s"""
_STAGED = "join pg_temp.ubp_staging s on s.ubp_line = t.ubp_line and s.ubp_ord = t.ubp_ord"
ERRONEOUS = """select s.ubp_line, s.ubp_ord, s.ubp_reason, {raw} from pg_temp.ubp_staging s
where s.ubp_reason is not null"""
# Raw text of an exploded row: the line with this record alone.
_EXPLODED_RAW = "case when s.record is not null then jsonb_set(s.doc, {path}, jsonb_build_array(s.record))::text end"

# Called only for a batch that raised: names the field at fault. Reads only, so a failing row costs no transaction id.
_TRY = """#variable_conflict use_column
declare ubp_field text;
begin
  begin
    perform {all_fields} from (select (ubp_row).*) as ubp_staging;
    return null;
  exception when data_exception or program_limit_exceeded or feature_not_supported or raise_exception then null;
  end;
  {each_field}
  return null;
exception when data_exception or program_limit_exceeded or feature_not_supported or raise_exception then
  return ubp_field || ': ' || sqlerrm;
end"""


# 17850 and 17850.0, below the ids that ubp.users assigns; the regular expression is asked only of what looks possible.
INTEGER_KEY = (
    r"""btrim({key}) ~ '^(0|[1-9][0-9]{{0,15}})(\.0+)?$' and split_part(btrim({key}), '.', 1)::numeric < 4e15"""
)
# Digits alone, as most such keys are, need no regular expression: a third of the time.
_IS_INTEGER = (
    "(length(user_key) < 16 and user_key >= '1' and user_key < ':' and translate(user_key, '0123456789', '') = '')"
    f" or ({INTEGER_KEY.format(key='user_key')})"
)


def records_path(load_map: LoadMap) -> sql.Literal:
    """The map's `records` as a jsonb path."""
    return sql.Literal("{" + (load_map.records or "").replace(".", ",") + "}")


def create_try(compiled: Compiled, connection: psycopg.Connection[tuple[object, ...]]) -> sql.Composed:
    """Statement that makes pg_temp.ubp_try(row): the error of a row's expressions as text, NULL where there is none."""
    each = sql.SQL("\n  ").join(
        sql.SQL("ubp_field := {}; perform {} from (select (ubp_row).*) as ubp_staging;").format(
            sql.Literal(f.name), f.expression
        )
        for f in compiled.fields
    )
    all_fields = sql.SQL(", ").join(f.expression for f in compiled.fields)
    body = sql.SQL(_TRY).format(all_fields=all_fields, each_field=each)
    return sql.SQL(
        "create function pg_temp.ubp_try(ubp_row pg_temp.ubp_staging) returns text language plpgsql as {}"
    ).format(sql.Literal(body.as_string(connection)))


def evaluate(compiled: Compiled, integer_users: bool) -> sql.Composed:
    """Statement that turns one staged batch into typed rows, usable or with a problem."""
    return sql.SQL(_EVALUATE).format(
        fields=sql.SQL(", ").join(
            sql.SQL("{} as {}").format(f.expression, sql.Identifier(f.column)) for f in compiled.fields
        ),
        names=sql.SQL(", ").join(sql.Identifier(f.column) for f in compiled.fields),
        reason=_reason(compiled.map, integer_users),
    )


def unusable(load_map: LoadMap) -> sql.Composed:
    """Query of the rows with a problem from a block (tid) and line on: (line, ord, reason, raw text or NULL)."""
    if load_map.records is None:
        return sql.SQL(_UNUSABLE).format(raw=sql.SQL("null"), staged=sql.SQL(""))
    return sql.SQL(_UNUSABLE).format(raw=_raw(load_map), staged=sql.SQL(_STAGED))


def erroneous(load_map: LoadMap) -> sql.Composed:
    """Query of the staged rows whose expressions raised, likewise."""
    return sql.SQL(ERRONEOUS).format(raw=sql.SQL("null") if load_map.records is None else _raw(load_map))


def _raw(load_map: LoadMap) -> sql.Composed:
    return sql.SQL(_EXPLODED_RAW).format(path=records_path(load_map))


def _reason(m: LoadMap, integer_users: bool) -> sql.Composed:
    """The first thing that is wrong with an evaluated row, in plain words; NULL where nothing is."""
    infinite = "('NaN', 'Infinity', '-Infinity')"
    no_user = "user_key is null or btrim(user_key) = ''"
    checks = [
        (f"octet_length(user_key) > {MAX_KEY_BYTES}", f"user key is longer than {MAX_KEY_BYTES} bytes"),
        ("event_time is null", "no event time"),
        ("not isfinite(event_time)", "event time is not finite"),
        (
            "event_time < '1900-01-01 00:00+00' or event_time >= '2300-01-01 00:00+00'",
            "event time is outside 1900..2300",
        ),
        ("kind is null or kind = ''", "no rule of kind matches" if m.rules else "no kind"),
    ]
    if m.anonymous == "reject":
        checks.insert(0, (no_user, "no user key"))
    if integer_users:
        test = f"not ({_IS_INTEGER})" if m.anonymous == "reject" else f"not (({no_user}) or {_IS_INTEGER})"
        checks.append((test, "user key is not an integer, as every user key of this source is"))
    if not m.allow_future:
        checks.append(("event_time > now() + interval '1 day'", "event time is in the future"))
    if m.item is not None:
        checks.append((f"octet_length(item_key) > {MAX_KEY_BYTES}", f"item key is longer than {MAX_KEY_BYTES} bytes"))
    for column in ("value", "quantity", "duration_s"):
        if getattr(m, column) is not None:
            checks.append((f"{column} in {infinite}", f"{column} is NaN or infinite"))
    if m.ingested_at is not None:
        checks.append(("ingested_at is null or not isfinite(ingested_at)", "no ingested_at, or it is not finite"))
    if m.keys:
        checks.append(("event_key is null", "no key: every key column is empty"))
    whens = [sql.SQL("when {} then {}").format(sql.SQL(test), sql.Literal(reason)) for test, reason in checks]
    return sql.SQL("case {} end").format(sql.SQL(" ").join(whens))
