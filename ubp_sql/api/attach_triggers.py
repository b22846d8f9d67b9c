"""Triggers of an attached table: generated for its columns, so that plans are kept and nothing is looked up.

A statement costs a scan of its rows and a narrow row in ubp.event_log. What is evaluated stands in a block of its own:
whatever becomes of the table's columns, those who write it never fail because of us; everything counts as changed then.
Such a block takes no transaction number as long as nothing is written in it (no measurable time; writing in it would).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ubp_sql.api.attach_compile import Compiled

# Without SET clause a call is 2 µs shorter, a tenth of a single INSERT: where an expression is a column, the body
# names everything with its schema, so that no search_path can change what it calls.
PATH = " set search_path = pg_catalog, pg_temp"
COLUMN = re.compile(r"""\(?((?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"))\)?(::bigint|::text)?""")
MOST_USERS = 1_000_000
"""A statement that touches more is not told apart: everybody is computed anew."""
AHEAD = 1_000
"""Ids that a transaction is taken to insert next, when it inserts the second row by a statement of its own."""
EARLIEST, LATEST = "'1900-01-01 00:00+00'", "'2300-01-01 00:00+00'"
FUNCTION = """create or replace function ubp.{name}() returns trigger
language plpgsql volatile parallel unsafe security definer{path}
as {body}"""
# One row is told from many by an error: that costs many 10 µs, and an aggregate would cost one row 4 µs. The second
# row of about now that a transaction inserts by a statement of its own is logged as the first of a thousand ids to
# come; a setting of the transaction says so to those after it. Undone to a savepoint, row and setting go together.
BY_RANGE = """declare
  n bigint := 1;
  low bigint;
  high bigint;
  setting pg_catalog.text;
  earliest timestamp with time zone;
  latest timestamp with time zone;
  from_time timestamp with time zone;
  until_time timestamp with time zone;
  touched {array};
begin
  begin
    select {key}, {time}, pg_catalog.current_setting('ubp.source_{origin}', true)
      into strict low, earliest, setting from fresh;
    if (case when pg_catalog.length(setting) operator(pg_catalog.>) 0
            then low operator(pg_catalog.<=) setting::bigint
                 and low operator(pg_catalog.>=) (setting::bigint operator(pg_catalog.-) {ahead})
                 and earliest operator(pg_catalog.<=) (pg_catalog.now() operator(pg_catalog.+) interval '1 hour')
                 and earliest operator(pg_catalog.>=) (pg_catalog.now() operator(pg_catalog.-) interval '1 hour') end)
    then
      return null;
    end if;
  exception
    when no_data_found then
      return null;
    when others then
      n := 0;
  end;
  if n operator(pg_catalog.=) 1 then
    from_time := pg_catalog.now() operator(pg_catalog.-) interval '1 hour';
    until_time := pg_catalog.now() operator(pg_catalog.+) interval '1 hour';
    if pg_catalog.length(setting) operator(pg_catalog.>) 0 and low operator(pg_catalog.<=) {highest}
       and earliest operator(pg_catalog.>=) from_time and earliest operator(pg_catalog.<=) until_time then
      high := low operator(pg_catalog.+) {ahead};
      perform pg_catalog.set_config('ubp.source_{origin}', high::pg_catalog.text, true);
    else
      high := low;
      from_time := coalesce(earliest, {earliest});
      until_time := coalesce(earliest, {latest});
      if setting is null or pg_catalog.length(setting) operator(pg_catalog.=) 0 then
        perform pg_catalog.set_config('ubp.source_{origin}', '{lowest}', true);
      end if;
    end if;
    if low is null then
      insert into ubp.event_log (op, origin) values ('T', {origin});
    else
      insert into ubp.event_log (op, origin, min_id, max_id, min_time, max_time)
      values ('I', {origin}, low, high, from_time, until_time);
    end if;
    return null;
  end if;
  begin
    select pg_catalog.count(*), pg_catalog.min({key}), pg_catalog.max({key}), {times}
      into n, low, high, earliest, latest from fresh;
    if high operator(pg_catalog./) 4 operator(pg_catalog.-) (low operator(pg_catalog./) 4)
       operator(pg_catalog.>) (n operator(pg_catalog.+) 250) then
      touched := array(select distinct {user} from fresh where {user} is not null);
    end if;
  exception when others then
    insert into ubp.event_log (op, origin) values ('T', {origin});
    return null;
  end;
  if low is null then
    insert into ubp.event_log (op, origin) values ('T', {origin});
  elsif touched is null then
    insert into ubp.event_log (op, origin, min_id, max_id, min_time, max_time)
    values ('I', {origin}, low, high, coalesce(earliest, {earliest}), coalesce(latest, {latest}));
  elsif pg_catalog.cardinality(touched) operator(pg_catalog.>) {most} then
    insert into ubp.event_log (op, origin) values ('T', {origin});
  else
    insert into ubp.event_log (op, origin, {column}) values ('I', {origin}, touched);
  end if;
  return null;
end"""
BY_USERS = """declare
  one {type};
  n bigint := 1;
  touched {array};
begin
  begin
    {one}
  exception
    when no_data_found then
      return null;
    when others then
      n := 0;
  end;
  if n operator(pg_catalog.=) 1 then
    if one is not null then
      insert into ubp.event_log (op, origin, {column}) values ('{op}', {origin}, array[one]);
    end if;
    return null;
  end if;
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
# Of a statement that touched one row, and of one user.
ONE = {
    "insert": "select {user} into strict one from fresh;",
    "update": "select {user} into strict one from fresh;\n"
    "    if (one operator(pg_catalog.=) (select {user} from gone)) is not true then\n      n := 0;\n    end if;",
    "delete": "select {user} into strict one from gone;",
    "row": "n := 0;",
}
EVENTS = {
    "insert": "after insert on {relation} referencing new table as fresh for each statement",
    "update": "after update on {relation} referencing old table as gone new table as fresh for each statement",
    "delete": "after delete on {relation} referencing old table as gone for each statement",
    "truncate": "after truncate on {relation} for each statement",
    "row": "after insert or update or delete on {relation} for each row",
}
STATEMENTS = ("insert", "update", "delete", "truncate")


# A definer's code may call what the table's owner makes of his columns, by casts of his own: whoever that runs as may
# do nothing but log. To own a function there, a role must be one that could make it.
OWNED = """
revoke all on function {names} from public;
grant execute on function {names} to ubp_admin;
grant create on schema ubp to ubp_listener;
{owned}
revoke create on schema ubp from ubp_listener"""


class Function(NamedTuple):
    """One that a trigger calls: its name without schema, and the statement that makes it."""

    name: str
    statement: str


def owned_statements(made: Iterable[Function]) -> str:
    """Gives functions of `functions` to ubp_listener, and ubp_admin the right to make triggers of them."""
    names = [f"ubp.{one.name}()" for one in made]
    owned = "\n".join(f"alter function {name} owner to ubp_listener;" for name in names)
    return OWNED.format(names=", ".join(names), owned=owned)


def function_name(source_id: int, event: str) -> str:
    return f"source_{source_id}_{event}"


def functions(source_id: int, of: Compiled, quoted: Callable[[str], str]) -> Iterator[Function]:
    """The trigger functions of a source; all of them, though `row` is called only where a subscription writes."""
    user, named = _named(of.user.text)
    parts = {
        "type": "bigint" if of.user.type == "integer" else "pg_catalog.text",
        "ahead": AHEAD,
        "highest": 2**63 - 1 - AHEAD,
        # Before every id that has one before it.
        "lowest": -(2**63) + AHEAD,
        "earliest": EARLIEST,
        "latest": LATEST,
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
            # What is more than a column might fail: then any time is taken to be in it.
            time = of.event_time.bare
            times = f"pg_catalog.min({time}), pg_catalog.max({time})" if time else "null, null"
            body = BY_RANGE.format(key=of.event_id.bare, time=time or "null", times=times, **parts)
        else:
            op = "I" if event == "insert" else "U"
            body = BY_USERS.format(
                users=USERS[event].format(user=user), one=ONE[event].format(user=user), op=op, **parts
            )
        name = function_name(source_id, event)
        text = quoted(f"\n#variable_conflict use_column\n{body}\n")
        yield Function(name, FUNCTION.format(name=name, path=path, body=text))


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
        create = f"create trigger {trigger} {on} execute function ubp.{function_name(source_id, event)}()"
        yield trigger, f"{create}; alter table {relation} enable {enable} trigger {trigger}"


def drop_statement(source_id: int, names: list[str], ident: Any) -> str:
    """Drops a source's functions, and with them its triggers, whoever owns the tables."""
    listed = ", ".join(f"ubp.{ident(name)}()" for name in names)
    return f"drop function {listed} cascade"
