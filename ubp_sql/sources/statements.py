"""The statements of one load, written from a compiled map.

Its temporary tables:
  ubp_lines    JSONL only: line, raw text, reason
  ubp_staging  one batch of rows: ubp_line, ubp_ord (place in an exploded line, from 1), ubp_raw, ubp_reason, columns
  ubp_typed    every usable row of the file, typed
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.load_map import LoadMap

# Errors that a row can cause by its values: data exceptions, limits (nesting, size), unsupported casts, raised errors.
ROW_ERRORS = ("22", "54", "0A", "P0")
MAX_KEY_BYTES = 1000  # an index entry has room for 2704 bytes

CREATE_TYPED = """create temporary table ubp_typed (ubp_line bigint not null, ubp_ord int not null, user_key text,
    event_time timestamptz, kind text, item_key text, value double precision, quantity real, duration_s real,
    attributes jsonb, ingested_at timestamptz, event_key uuid)"""

# One statement a batch: evaluate, put aside what cannot be used, keep the rest. `{recorded}` keeps a second run of a
# file with keys from listing its rejected rows twice.
_EVALUATE = """with judged as materialized (
    select *, {reason} as problem from (
      select ubp_line, ubp_ord, {carried}, {fields} from pg_temp.ubp_staging where ubp_reason is null offset 0) e),
  unusable as (
    select ubp_line, problem, {raw} as raw from judged where problem is not null
    union all select ubp_line, ubp_reason, {raw} from pg_temp.ubp_staging where ubp_reason is not null),
  rejected as (
    insert into ubp.rejected_events (load_id, source_id, file, line, reason, raw)
    select {load_id}, {source_id}, {file}, ubp_line, problem, raw from unusable u {recorded}),
  kept as (
    insert into pg_temp.ubp_typed ({names}, ubp_line, ubp_ord)
    select {names}, ubp_line, ubp_ord from judged where problem is null)
select problem, count(*) from unusable group by problem"""

_RECORDED = """where not exists (select from ubp.rejected_events r
    where r.load_id = {load_id} and r.line = u.ubp_line and r.reason = u.problem)"""

# Raw text of an exploded row: the line with this record alone. Built for rejected rows only.
_EXPLODED_RAW = """coalesce(ubp_raw, case when record is null then doc::text
    else jsonb_set(doc, {path}, jsonb_build_array(record))::text end)"""

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
IS_INTEGER = INTEGER_KEY.format(key="user_key")


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


@dataclass(frozen=True)
class Target:
    """Which load rows belong to. `again`: the load has a record already, its rejected rows may be listed."""

    load_id: int
    source_id: int
    file: str
    integer_users: bool
    again: bool


def evaluate(compiled: Compiled, target: Target) -> sql.Composed:
    """Statement that turns one staged batch into typed and rejected rows; it returns (reason, rows)."""
    identity = sql.Literal(target.load_id)
    exploded = compiled.map.records is not None
    return sql.SQL(_EVALUATE).format(
        raw=sql.SQL(_EXPLODED_RAW).format(path=records_path(compiled.map)) if exploded else sql.SQL("ubp_raw"),
        carried=sql.SQL("ubp_raw, doc, record" if exploded else "ubp_raw"),
        fields=sql.SQL(", ").join(
            sql.SQL("{} as {}").format(f.expression, sql.Identifier(f.column)) for f in compiled.fields
        ),
        names=sql.SQL(", ").join(sql.Identifier(f.column) for f in compiled.fields),
        reason=_reason(compiled.map, target.integer_users),
        load_id=identity,
        source_id=sql.Literal(target.source_id),
        file=sql.Literal(target.file),
        recorded=sql.SQL(_RECORDED).format(load_id=identity) if target.again else sql.SQL(""),
    )


def _reason(m: LoadMap, integer_users: bool) -> sql.Composed:
    """The first thing that is wrong with an evaluated row, in plain words; NULL where nothing is."""
    infinite = "('NaN', 'Infinity', '-Infinity')"
    checks = [
        ("user_key is null or btrim(user_key) = ''", "no user key"),
        (f"octet_length(user_key) > {MAX_KEY_BYTES}", f"user key is longer than {MAX_KEY_BYTES} bytes"),
        ("event_time is null", "no event time"),
        ("not isfinite(event_time)", "event time is not finite"),
        (
            "event_time < '1900-01-01 00:00+00' or event_time >= '2300-01-01 00:00+00'",
            "event time is outside 1900..2300",
        ),
        ("kind is null or kind = ''", "no rule of kind matches" if m.rules else "no kind"),
    ]
    if integer_users:
        checks.append((f"not ({IS_INTEGER})", "user key is not an integer, as every user key of this source is"))
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
