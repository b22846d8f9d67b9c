"""Triggers of an attached table: generated for its columns, so that plans are kept and nothing is looked up.

A statement costs a scan of its rows and a narrow row in ubp.event_log. What is evaluated stands in a block of its own:
whatever becomes of the table's columns, those who write it never fail because of us; everything counts as changed then.
Such a block takes no transaction number as long as nothing is written in it (no measurable time; writing in it would).
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ubp_sql.api.attach_compile import Compiled

# Without SET clause a call is 2 µs shorter, a tenth of a single INSERT: where an expression is a column, the body
# names everything with its schema, so that no search_path can change what it calls.
PATH = " set search_path = pg_catalog, pg_temp"
COLUMN = re.compile(r"""\(?((?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"))\)?(::bigint|::text)?""")
MOST_USERS = 1_000_000
"""A statement that touches more is not told apart: everybody is computed anew."""
EARLIEST, LATEST = "'1900-01-01 00:00+00'", "'2300-01-01 00:00+00'"
FUNCTION = """create or replace function ubp.{name}() returns trigger
language plpgsql volatile parallel unsafe security definer{path}
as $ubp$
#variable_conflict use_column
{body}
$ubp$"""
# Ids that lie close together are logged as their range; a quarter of them cannot overflow.
BY_RANGE = """declare
  n bigint;
  low bigint;
  high bigint;
  earliest timestamp with time zone;
  latest timestamp with time zone;
  touched {array};
begin
  begin
    select pg_catalog.count(*), pg_catalog.min({key}), pg_catalog.max({key}), {times}
      into n, low, high, earliest, latest from fresh;
    if high operator(pg_catalog./) 4 operator(pg_catalog.-) (low operator(pg_catalog./) 4)
       operator(pg_catalog.>) (n operator(pg_catalog.+) 250) then
      touched := array(select distinct {user} from fresh where {user} is not null);
      n := 0;
    end if;
  exception when others then
    insert into ubp.event_log (op, origin) values ('T', {origin});
    return null;
  end;
  if n operator(pg_catalog.>) 0 then
    insert into ubp.event_log (op, origin, min_id, max_id, min_time, max_time)
    values ('I', {origin}, low, high, earliest, latest);
  elsif pg_catalog.cardinality(touched) operator(pg_catalog.>) {most} then
    insert into ubp.event_log (op, origin) values ('T', {origin});
  elsif touched is not null then
    insert into ubp.event_log (op, origin, {column}) values ('I', {origin}, touched);
  end if;
  return null;
end"""
BY_USERS = """declare
  touched {array};
begin
  begin
    touched := array({users});
  exception when others then
    insert into ubp.event_log (op, origin) values ('T', {origin});
    return null;
  end;
  if pg_catalog.cardinality(touched) operator(pg_catalog.>) {most} then
    insert into ubp.event_log (op, origin) values ('T', {origin});
  elsif pg_catalog.cardinality(touched) operator(pg_catalog.>) 0 then
    insert into ubp.event_log (op, origin, {column}) values ('{op}', {origin}, touched);
  end if;
  return null;
end"""
TRUNCATED = """begin
  insert into ubp.event_log (op, origin) values ('T', {origin});
  return null;
end"""
USERS = {
    "insert": "select distinct {user} from fresh where {user} is not null",
    "update": "select {user} from gone where {user} is not null"
    " union select {user} from fresh where {user} is not null",
    "delete": "select distinct {user} from gone where {user} is not null",
    "row": "select {user} from (select new.* union all select old.*) of_row where {user} is not null",
}
EVENTS = {
    "insert": "after insert on {relation} referencing new table as fresh for each statement",
    "update": "after update on {relation} referencing old table as gone new table as fresh for each statement",
    "delete": "after delete on {relation} referencing old table as gone for each statement",
    "truncate": "after truncate on {relation} for each statement",
    "row": "after insert or update or delete on {relation} for each row",
}
STATEMENTS = ("insert", "update", "delete", "truncate")


class Function(NamedTuple):
    """One that a trigger calls: its name without schema, and the statement that makes it."""

    name: str
    statement: str


def function_name(source_id: int, event: str) -> str:
    return f"source_{source_id}_{event}"


def functions(source_id: int, of: Compiled) -> Iterator[Function]:
    """The trigger functions of a source; all of them, though `row` is called only where a subscription writes."""
    user, named = _named(of.user.text)
    parts = {
        "origin": source_id,
        "user": user,
        "array": "bigint[]" if of.user.type == "integer" else "pg_catalog.text[]",
        "column": "users" if of.user.type == "integer" else "keys",
        "most": MOST_USERS,
    }
    for event in (*STATEMENTS, "row"):
        path = "" if named else PATH
        if event == "truncate":
            body, path = TRUNCATED.format(**parts), ""
        elif event == "insert" and of.ascending and of.event_id is not None:
            time = of.event_time.bare
            times = f"pg_catalog.min({time}), pg_catalog.max({time})" if time else f"{EARLIEST}, {LATEST}"
            body = BY_RANGE.format(key=of.event_id.bare, times=times, **parts)
        else:
            op = "I" if event == "insert" else "U"
            body = BY_USERS.format(users=USERS[event].format(user=user), op=op, **parts)
        name = function_name(source_id, event)
        yield Function(name, FUNCTION.format(name=name, path=path, body=body))


def _named(expression: str) -> tuple[str, bool]:
    """The expression, and whether it calls nothing that a search_path could change."""
    found = COLUMN.fullmatch(expression)
    if found is None:
        return f"({expression})", False
    return {None: found[1], "::bigint": f"{found[1]}::bigint", "::text": f"{found[1]}::pg_catalog.text"}[found[2]], True


def trigger_statements(source_id: int, relation: str, events: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(trigger, statement) of those that listen to a table; `relation` is quoted.

    ALWAYS: a session that replays changes with session_replication_role = replica is heard as well. The apply worker of
    a subscription fires triggers of rows alone; these are for it, and cost other sessions nothing.
    """
    for event in events:
        trigger = f"ubp_{event}"
        on = EVENTS[event].format(relation=relation)
        enable = "replica" if event == "row" else "always"
        yield trigger, f"create trigger {trigger} {on} execute function ubp.{function_name(source_id, event)}()"
        yield trigger, f"alter table {relation} enable {enable} trigger {trigger}"


def drop_statement(source_id: int, names: list[str], ident: Any) -> str:
    """Drops a source's functions, and with them its triggers, whoever owns the tables."""
    listed = ", ".join(f"ubp.{ident(name)}()" for name in names)
    return f"drop function {listed} cascade"
