"""ubp.attach_source and its kin: relations of others become events where they lie.

Rights and triggers are given by whoever calls, who owns the relation; tables of ours, functions of triggers and the
body of ubp.event_rows() are written by functions that run as ubp_owner and check again what they are given.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ubp_sql.api.attach_compile import Compiled, Expression, compiled
from ubp_sql.api.attach_relation import (
    OURS,
    PRIMARY_KEY,
    Relation,
    describe,
    number,
    refuse_stranger,
    refuse_taken,
)
from ubp_sql.api.attach_steps import (
    Step,
    execute,
    function_steps,
    grant_steps,
    lock_step,
    missing_grants,
    said_steps,
    source_step,
    trigger_steps,
    watermark,
)
from ubp_sql.api.attach_triggers import drop_statement, function_name, functions, owned_statements
from ubp_sql.api.patience import PATIENCE, patience, refuse_old_snapshot
from ubp_sql.api.session import Row, check_version, entry, run, single, sqlstate
from ubp_sql.errors import BadInput, InstallError, NotReady, UbpError

# Two who attach, detach or look after sources do so one after the other.
ALONE = "select pg_advisory_xact_lock(hashtextextended('ubp.sources', 0))"
RECORD = "select ubp.record_source($1, $2) as source_id"
NEXT_ID = """
select coalesce((select max(s.source_id) from ubp.sources s), 0) as highest,
       pg_sequence_last_value(pg_get_serial_sequence('ubp.sources', 'source_id')::regclass) as last"""
NEW_SOURCE = """
insert into ubp.sources (name, kind, time_zone, user_keys, item_keys, map)
values ($1, 'attached', $2, $3, $4, $5) returning source_id"""
NEW_ATTACHED = """
insert into ubp.attached_sources
  (source_id, schema_name, relation_name, relation, database, relkind, user_key, user_type, event_time, kind, item_key,
   item_type, value, ingested_at, event_key, key_type, ascending, filter, columns, watermark, granted, attached_by)
select $1, n.nspname, c.relname, c.oid, d.oid, c.relkind, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
       (select coalesce(jsonb_object_agg(a.attname, jsonb_build_object(
                 'type', format_type(a.atttypid, a.atttypmod), 'number', a.attnum)), '{}') from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attname = any ($15)), $16, $17,
       coalesce(nullif(current_setting('role'), 'none'), session_user)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_database d on d.datname = current_database() where c.oid = $2::oid"""
NEW_TYPES = [
    *("integer", "bigint", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text"),
    *("boolean", "text", "text[]", "text", "jsonb"),
]
CHANGED = "insert into ubp.event_log (op, origin) values ('T', $1)"
WHO = "select current_user::text as who"
# Who called a function that runs as ubp_owner: a function with the caller's rights changes no role.
OUTER = """
select r.rolname::text as who, pg_has_role(r.oid, c.relowner, 'usage') as may
  from pg_roles r, pg_class c
 where r.rolname = coalesce(nullif(current_setting('role'), 'none'), session_user) and c.oid = $1::oid"""
IS_ATTACHED = "select from ubp.attached_sources where source_id = $1"
FIND = """
select a.source_id, s.name, format('%I.%I', f.schema_name, f.relation_name) as relation,
       quote_ident(f.schema_name) as schema, a.granted::text as granted, y.oid is not null as there,
       pg_has_role(y.relowner, 'usage') as may, y.relkind in ('r', 'p') as watched,
       pg_has_role(z.nspowner, 'usage') as may_schema
  from ubp.attached_sources a join ubp.sources s using (source_id)
  left join (pg_class x join pg_namespace n on n.oid = x.relnamespace)
    on x.oid = a.relation and a.database = (select d.oid from pg_database d where d.datname = current_database())
 cross join lateral (select coalesce(n.nspname, a.schema_name) as schema_name,
                            coalesce(x.relname, a.relation_name) as relation_name) f
  left join (pg_class y join pg_namespace z on z.oid = y.relnamespace)
    on (z.nspname, y.relname) = (f.schema_name, f.relation_name)
 where $1 in (s.name, a.relation_name, format('%I.%I', a.schema_name, a.relation_name), x.relname::text,
              format('%I.%I', n.nspname, x.relname))
 order by s.name <> $1, s.name"""
NAMES = "select s.name from ubp.attached_sources a join ubp.sources s using (source_id) order by 1 limit 20"
FUNCTIONS = """
select p.proname::text as name from pg_proc p
 where p.pronamespace = 'ubp'::regnamespace and p.prorettype = 'trigger'::regtype
   and pg_get_userbyid(p.proowner) in ('ubp_owner', 'ubp_listener')
   and p.proname ~ ('^source_' || $1::text || '_[a-z]+$') order by 1"""
HEIR = """
update ubp.attached_sources a set granted = a.granted || jsonb_build_object('schema', g.granted -> 'schema')
  from ubp.attached_sources g
 where g.source_id = $1 and jsonb_array_length(g.granted -> 'schema') > 0 and a.schema_name = g.schema_name
   and a.source_id = (select min(o.source_id) from ubp.attached_sources o
                       where o.schema_name = g.schema_name and o.source_id <> g.source_id)
returning a.source_id"""
FORGET_ATTACHED = "delete from ubp.attached_sources where source_id = $1"
FORGET = "delete from ubp.sources where source_id = $1 and kind = 'attached'"
FORGET_CALL = "select ubp.forget_source($1) as schema_stays"
STORED = """
select a.source_id, a.user_key, a.user_type, a.event_time, a.kind, a.event_key, a.key_type, a.ascending
  from ubp.attached_sources a where a.relkind in ('r', 'p') order by 1"""


ARGUMENTS = {"user_id", "event_time", "kind", "item_id", "value", "ingested_at", "event_id", "time_zone", "filter"}


def _begin(plpy: Any, memory: dict[str, Any]) -> None:
    check_version(plpy, memory)
    refuse_old_snapshot(plpy, memory)


@entry
def attach_source(
    plpy: Any,
    memory: dict[str, Any],
    relation: str | None,
    user_id: str | None,
    event_time: str | None,
    kind: str | None,
    item_id: str | None,
    value: str | None,
    ingested_at: str | None,
    event_id: str | None,
    time_zone: str | None,
    filter: str | None,
    dry_run: bool | None,
) -> list[Row]:
    """What was done, a row a step; with `dry_run` what would be."""
    _begin(plpy, memory)
    given = {
        "user_id": user_id,
        "event_time": event_time,
        "kind": kind,
        "item_id": item_id,
        "value": value,
        "ingested_at": ingested_at,
        "event_id": event_id,
        "time_zone": time_zone,
        "filter": filter,
    }
    found = describe(plpy, memory, number(plpy, memory, relation))
    refuse_taken(plpy, memory, found)
    who = (single(plpy, memory, WHO, [], []) or {})["who"]
    refuse_stranger(found, who)
    of = compiled(plpy, memory, found, _completed(plpy, memory, found, given))
    missing = missing_grants(plpy, memory, found, of)
    arguments = json.dumps({"relation": found.oid, "given": given, "granted": missing})
    steps = [*lock_step(found), *grant_steps(found, missing)]
    if dry_run:
        source_id = _recorded(plpy, memory, arguments, dry_run=True)
    else:
        with patience(plpy, memory):
            # Before the first grant: PostgreSQL refuses two changes of one schema's rights at a time.
            run(plpy, memory, ALONE, [], [])
            execute(plpy, steps, "caller", _refused)
            _granted(plpy, memory, found, of)
            source_id = _recorded(plpy, memory, arguments, dry_run=False)
    made = list(trigger_steps(plpy, memory, source_id, found))
    if not dry_run:
        with patience(plpy, memory):
            execute(plpy, made, "caller", _refused)
    steps += [source_step(found, of), *function_steps(plpy, source_id, found, of), *made]
    rows = [step.row() for step in (*steps, *said_steps(plpy, memory, found, of, given))]
    for row in rows:
        if row["step"] == "function" and not dry_run:
            row["detail"] = "made; a dry run shows its text"
    return rows


def _granted(plpy: Any, memory: dict[str, Any], relation: Relation, of: Compiled) -> None:
    """Raises InstallError (UB011) where a grant did nothing: PostgreSQL only warns who may not give it."""
    for step in grant_steps(relation, missing_grants(plpy, memory, relation, of)):
        raise InstallError(f"the caller may not give rights on {step.object}", f"as its owner: {step.detail}")


def _recorded(plpy: Any, memory: dict[str, Any], arguments: str, *, dry_run: bool) -> int:
    with ours(plpy):
        row = single(plpy, memory, RECORD, ["jsonb", "boolean"], [arguments, dry_run])
    return int((row or {})["source_id"])


@contextmanager
def ours(plpy: Any) -> Iterator[None]:
    """An error of ours from a function that is called through SQL, as it was raised there."""
    try:
        yield
    except plpy.SPIError as error:
        code = sqlstate(error)
        if not code.startswith("UB"):
            raise
        known = UbpError(str(error).splitlines()[0].removeprefix("ubp: "), error.spidata[2])
        known.sqlstate = code
        raise known from None


@entry
def record_source(plpy: Any, memory: dict[str, Any], attached: str, dry_run: bool) -> int:
    """Writes the source's rows, its trigger functions and ubp.event_rows(), as ubp_owner; returns its number.

    Everybody who may attach may call this: it trusts nothing but which grants to our roles it is told of.
    """
    if dry_run:
        row = single(plpy, memory, NEXT_ID, [], []) or {}
        return int(max(row["highest"], row["last"] or 0)) + 1
    oid, given, granted = _handed_on(attached)
    refuse_old_snapshot(plpy, memory)
    run(plpy, memory, ALONE, [], [])
    found = describe(plpy, memory, oid)
    _refuse_outsider(plpy, memory, found)
    refuse_taken(plpy, memory, found)
    of = compiled(plpy, memory, found, _completed(plpy, memory, found, given))
    _probe(plpy, found)
    kept = json.dumps({"relation": found.source} | {name: text for name, text in given.items() if text is not None})
    item = of.item.type if of.item else None
    values = [found.source, of.time_zone, of.user.type, item, kept]
    made = single(plpy, memory, NEW_SOURCE, ["text", "text", "text", "text", "jsonb"], values)
    source_id = int((made or {})["source_id"])
    key = of.event_id
    run(plpy, memory, NEW_ATTACHED, NEW_TYPES, [
        source_id, found.oid, of.user.text, of.user.type, of.event_time.text, of.kind.text, _text(of.item), item,
        _text(of.value), _text(of.ingested_at), _text(key), key.type if key else "none", of.ascending,
        _text(of.filter), sorted(of.columns), watermark(found, of), json.dumps(granted),
    ])  # fmt: skip
    if found.watched:
        _make_functions(plpy, source_id, of)
        row_function = f"ubp.{function_name(source_id, 'row')}()"
        # Triggers of rows are made for a new partition by whoever makes that.
        plpy.execute(f"grant execute on function {row_function} to {plpy.quote_ident(found.owner)}")
    _everything(plpy, memory, source_id)
    return source_id


def _handed_on(attached: str) -> tuple[int, dict[str, str | None], dict[str, list[str]]]:
    """The relation's oid, the arguments, and who was granted what. Raises BadInput (UB003) on what is no such thing."""
    try:
        found = json.loads(attached)
        oid, given, granted = int(found["relation"]), dict(found["given"]), found["granted"]
        # Who detaches executes these: nothing but our roles is taken.
        roles = {of_what: [role for role in OURS if role in granted[of_what]] for of_what in ("schema", "relation")}
    except (KeyError, TypeError, ValueError):
        raise BadInput("this is not what ubp.attach_source hands on", "call ubp.attach_source") from None
    if given.keys() != ARGUMENTS or any(not isinstance(text, str | None) for text in given.values()):
        raise BadInput("these are not the arguments of ubp.attach_source", "call ubp.attach_source")
    return oid, given, roles


def _refuse_outsider(plpy: Any, memory: dict[str, Any], relation: Relation) -> None:
    """As refuse_stranger, of the role that called us."""
    row = single(plpy, memory, OUTER, ["bigint"], [relation.oid]) or {}
    refuse_stranger(relation._replace(may=row["may"]), row["who"])


def _everything(plpy: Any, memory: dict[str, Any], source_id: int) -> None:
    """The next fold reads all of it, and ubp.event_rows() is as the sources are now."""
    from ubp_sql.api.event_rows import rebuild_event_rows

    run(plpy, memory, CHANGED, ["integer"], [source_id])
    rebuild_event_rows(plpy, memory)


def _text(of: Expression | None) -> str | None:
    return None if of is None else of.text


def _completed(plpy: Any, memory: dict[str, Any], relation: Relation, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, with the primary key of the table as event_id where none was named."""
    if given["event_id"] is not None or not relation.watched:
        return given
    key = single(plpy, memory, PRIMARY_KEY, ["bigint"], [relation.oid])
    return given | {"event_id": key["name"]} if key else given


def _probe(plpy: Any, relation: Relation) -> None:
    """Raises NotReady (UB005) where ubp_owner may read and cannot, because of what lies behind a view or a server."""
    if relation.watched:
        return
    try:
        plpy.execute(f"select from {relation.name} limit 0")
    except plpy.SPIError as error:
        said = str(error).splitlines()[0]
        hint = "a foreign table takes a user mapping for ubp_owner and ubp_reader, or one for public"
        raise NotReady(f"ubp_owner cannot read {relation.name}: {said}", hint) from None


def _refused(step: Step, error: Any) -> Exception:
    """What PostgreSQL says about a statement of ours, with a way out where there is one."""
    said = str(error).splitlines()[0]
    if sqlstate(error) == "55P03":
        return NotReady(
            f"{step.object} is in use by others: nothing was done",
            f"try again when no long transaction writes it, or wait longer than {PATIENCE}: set lock_timeout = '1min'",
        )
    if sqlstate(error) == "42501":
        return InstallError(
            f"{step.object}: {said}", f"as the owner of the relation, in ubp_admin: {step.detail[:200]}"
        )
    return BadInput(f"{step.object}: {said}", step.detail[:200])


def find_source(plpy: Any, memory: dict[str, Any], source: str | None) -> Row:
    """Row of FIND, by the source's name, or the relation's if only one has it. Raises BadInput (UB003)."""
    rows = run(plpy, memory, FIND, ["text"], [source])
    if len(rows) == 1 or (len(rows) and rows[0]["name"] == source):
        row: Row = rows[0]
        return row
    names = ", ".join(found["name"] for found in rows or run(plpy, memory, NAMES, [], []))
    raise BadInput(
        f"{len(rows) or 'no'} attached source{'s are' if len(rows) else ' is'} called {source!r}",
        f"attached are: {names}" if names else "nothing is attached",
    )


@entry
def detach_source(plpy: Any, memory: dict[str, Any], source: str | None) -> list[Row]:
    """What was taken back, a row a step."""
    _begin(plpy, memory)
    row = find_source(plpy, memory, source)
    granted = json.loads(row["granted"])
    with patience(plpy, memory):
        try:
            if row["may"] and row["watched"]:
                # The whole before its partitions, as writers do: to drop triggers locks them in any order.
                plpy.execute(f"lock table {row['relation']} in access exclusive mode")
            said = single(plpy, memory, FORGET_CALL, ["integer"], [row["source_id"]]) or {}
        except plpy.SPIError as error:
            raise _refused(Step("lock", row["relation"], ""), error) if sqlstate(error) == "55P03" else error from None
    steps = [
        Step("source", row["name"], "its events are gone with the next refresh; users and items keep their ids"),
        Step("trigger", row["relation"], "functions and triggers dropped", f"access exclusive on {row['relation']}"),
    ]
    granted = {what: [role for role in OURS if role in granted.get(what, ())] for what in ("schema", "relation")}
    if row["there"] and granted["relation"]:
        what = f"select on table {row['relation']}"
        steps.append(_revoke(plpy, what, row["relation"], granted["relation"], row["may"]))
    if row["there"] and granted["schema"] and not said["schema_stays"]:
        what = f"usage on schema {row['schema']}"
        steps.append(_revoke(plpy, what, row["schema"], granted["schema"], row["may_schema"]))
    return [step.row() for step in steps]


def _revoke(plpy: Any, what: str, name: str, roles: list[str], may: bool) -> Step:
    """A right of ours taken back; where the caller may not, the line for who may. PostgreSQL would only warn."""
    statement = f"revoke {what} from {', '.join(role for role in OURS if role in roles)}"
    if not may:
        return Step("advice", name, f"as the owner: {statement}")
    plpy.execute(statement)
    return Step("grant", name, statement)


@entry
def forget_source(plpy: Any, memory: dict[str, Any], source_id: int) -> bool:
    """Drops what record_source made, as ubp_owner; returns whether another source needs the schema's usage."""
    run(plpy, memory, ALONE, [], [])
    if single(plpy, memory, IS_ATTACHED, ["integer"], [source_id]) is None:
        raise BadInput(f"source {source_id} is not attached", "select * from ubp.attached_sources")
    names = [row["name"] for row in run(plpy, memory, FUNCTIONS, ["integer"], [source_id])]
    if names:
        plpy.execute(drop_statement(source_id, names, plpy.quote_ident))
    stays = bool(run(plpy, memory, HEIR, ["integer"], [source_id]))
    run(plpy, memory, FORGET_ATTACHED, ["integer"], [source_id])
    run(plpy, memory, FORGET, ["integer"], [source_id])
    _everything(plpy, memory, source_id)
    return stays


def rebuild_source_functions(plpy: Any, memory: dict[str, Any]) -> None:
    """Makes the trigger functions of all sources again, as this version of the package writes them."""
    for row in run(plpy, memory, STORED, [], []):
        _make_functions(plpy, row["source_id"], _stored(row))


def _make_functions(plpy: Any, source_id: int, of: Compiled) -> None:
    made = list(functions(source_id, of, plpy.quote_literal))
    for one in made:
        plpy.execute(one.statement)
    plpy.execute(owned_statements(made))


def _stored(row: Row) -> Compiled:
    """What the trigger functions are made of."""
    from ubp_sql.expressions import is_name

    def part(text: str | None, of_type: str) -> Expression:
        column = (text or "").removesuffix("::bigint").removeprefix("(").removesuffix(")")
        return Expression(text or "", of_type, column if is_name(column) else None, ())

    key = part(row["event_key"], row["key_type"]) if row["event_key"] else None
    user, time = part(row["user_key"], row["user_type"]), part(row["event_time"], "timestamptz")
    return Compiled(user, time, part(row["kind"], "text"), None, None, None, key, None, "UTC", row["ascending"])
