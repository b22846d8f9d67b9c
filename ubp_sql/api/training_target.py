"""The table of a training set: its name, who may have it where, and how it takes the place of an older one.

The function that writes it runs with the rights of ubp_owner, so every name is looked at first: only a table that is
marked as a training set and belongs to ubp_owner is ever replaced. The mark is the table's comment, which nobody but
the owner can set and which dumps keep.
"""

from typing import Any, NamedTuple

from ubp_sql.api.session import run, single
from ubp_sql.errors import BadInput

LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.training_set ' || $1, 0))"
PARTS = "select parse_ident($1) as parts"
# The role whose rights count: SET ROLE's, else the login's. Inside a SECURITY DEFINER function current_user is ours.
CALLER = "select coalesce(nullif(current_setting('role'), 'none'), session_user) as name, pg_backend_pid() as pid"
PLACE = """
select c.oid as table_id,
       has_schema_privilege($3, n.oid, 'CREATE') and has_schema_privilege($3, n.oid, 'USAGE') as caller_may,
       has_schema_privilege(n.oid, 'CREATE') and has_schema_privilege(n.oid, 'USAGE') as owner_may,
       coalesce(c.relkind = 'r' and not c.relispartition and c.relowner = current_user::regrole
                and starts_with(obj_description(c.oid, 'pg_class'), $4), false) as ours,
       exists (select from pg_type t where t.typnamespace = n.oid and t.typname = $2) as type_there,
       (select min(regexp_replace(pg_describe_object(d.classid, d.objid, 0), '^rule .* on ', '')) from pg_depend d
         where d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.deptype = 'n') as dependent
  from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relname = $2
 where n.nspname = $1 and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'"""
READERS = """
select distinct coalesce(quote_ident(r.rolname), 'public') as name
  from pg_class c, aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
 where c.oid = $1 and a.privilege_type = 'SELECT' and a.grantee <> c.relowner"""
MARK = "Training set of ubp_sql: "
# In our own schema only names that no table of ours has or will have.
OWN_SCHEMA, OWN_PREFIX = "ubp", "training_"
# <name>_pkey must fit the 63 bytes that PostgreSQL keeps of an identifier.
LONGEST_NAME = 58
COLUMNS = {
    "user_id": "user",
    "cut": "moment of the row: its features look strictly before it",
    "label": "what happened within the horizon after the cut, as known when the set was made: 1 or 0, or an amount",
    "matured": "all of the horizon lies before the newest event: the label is final",
    "weight": "how many pairs of user and cut the row stands for; above 1 where negatives were sampled",
    "features": "values in the order of ubp.feature_catalogue.position; NaN = NULL",
}


class Target(NamedTuple):
    """Where rows go. `table_id`: the training set that is there now; `making`: the new one's name until it is done."""

    schema: str
    name: str
    table_id: int | None
    caller: str
    making: str


def find(plpy: Any, memory: dict[str, Any], task: str, into_table: str | None) -> Target:
    """The target, locked against another call for the same name until the end of the transaction.

    Raises BadInput (UB003) unless the name is free, or a training set's, where caller and ubp_owner may create.
    """
    schema, name = (OWN_SCHEMA, f"{OWN_PREFIX}{task}") if into_table is None else _parse(plpy, memory, into_table)
    shown = f"{schema}.{name}"
    if schema == OWN_SCHEMA and not name.startswith(OWN_PREFIX):
        raise BadInput(
            f"into_table is {name!r}, but a training set in schema {OWN_SCHEMA} is called {OWN_PREFIX}...",
            f"{OWN_PREFIX}{name}, or a schema of your own: 'my_schema.{name}'",
        )
    if len(name.encode()) > LONGEST_NAME:
        raise BadInput(f"the name {name!r} is longer than {LONGEST_NAME} bytes", "give into_table a shorter one")
    run(plpy, memory, LOCK, ["text"], [shown])
    session = run(plpy, memory, CALLER, [], [])[0]
    found = single(plpy, memory, PLACE, ["text", "text", "text", "text"], [schema, name, session["name"], MARK])
    if found is None:
        raise BadInput(f"there is no schema {schema!r} for a table", "create it, or leave the schema out")
    if schema != OWN_SCHEMA and not found["caller_may"]:
        raise BadInput(
            f"role {session['name']} may not create tables in schema {schema!r}",
            "name a schema where it may, or leave the schema out",
        )
    if not found["owner_may"]:
        raise BadInput(
            f"role ubp_owner, which writes the table, may not create tables in schema {schema!r}",
            f"grant usage, create on schema {plpy.quote_ident(schema)} to ubp_owner; or leave the schema out",
        )
    if not found["ours"] and (found["table_id"] is not None or found["type_there"]):
        raise BadInput(f"{shown} exists and is no training set", "nothing was changed; give into_table another name")
    if found["dependent"] is not None:
        raise BadInput(f"{found['dependent']} depends on {shown}", "drop it first, or give into_table another name")
    return Target(schema, name, found["table_id"], session["name"], f"{OWN_PREFIX}in_the_making_{session['pid']}")


def _parse(plpy: Any, memory: dict[str, Any], text: str) -> tuple[str, str]:
    """(schema, name) of an identifier as SQL writes it, quoted or not."""
    try:
        parts: list[str] = run(plpy, memory, PARTS, ["text"], [text])[0]["parts"]
    except plpy.spiexceptions.InvalidParameterValue:
        parts = []
    if not 1 <= len(parts) <= 2:
        raise BadInput(f"into_table {text!r:.100} is no name of a table", "for example 'training_mine' or 'mine.rows'")
    return (parts[0], parts[1]) if len(parts) == 2 else (OWN_SCHEMA, parts[0])


def make(plpy: Any, target: Target, label_type: str) -> str:
    """Creates the new table, empty, which nobody sees before the commit; returns its quoted name."""
    table = f"{plpy.quote_ident(target.schema)}.{plpy.quote_ident(target.making)}"
    # Rows are read whole: in line, as they are, up to a page. Statistics of array elements are of use to no query.
    for statement in (
        f"create table {table} (user_id bigint not null, cut timestamptz not null, label {label_type} not null,"
        " matured boolean not null, weight real not null, features real[] not null) with (toast_tuple_target = 8160)",
        f"alter table {table} alter features set storage external, alter features set statistics 0",
    ):
        plpy.execute(statement)
    return table


def replace(plpy: Any, memory: dict[str, Any], target: Target, words: str) -> None:
    """Key, comments and rights of the new table; then it takes the old one's place, and whoever could read it can."""
    readers = {"ubp_auditor"} if target.schema == OWN_SCHEMA else {plpy.quote_ident(target.caller)}
    if target.table_id is not None:
        readers |= {row["name"] for row in run(plpy, memory, READERS, ["oid"], [target.table_id])}
    schema, name, key = (plpy.quote_ident(part) for part in (target.schema, target.name, f"{target.name}_pkey"))
    new, new_key = plpy.quote_ident(target.making), plpy.quote_ident(f"{target.making}_pkey")
    drop = [] if target.table_id is None else [f"drop table {schema}.{name}"]
    for statement in (
        f"alter table {schema}.{new} add constraint {new_key} primary key (user_id, cut)",
        f"comment on table {schema}.{new} is {plpy.quote_literal(MARK + words)}",
        *(f"comment on column {schema}.{new}.{c} is {plpy.quote_literal(text)}" for c, text in COLUMNS.items()),
        *(f"grant select on {schema}.{new} to {reader}" for reader in sorted(readers)),
        f"analyze {schema}.{new}",
        *drop,
        f"alter table {schema}.{new} rename to {name}",
        f"alter index {schema}.{new_key} rename to {key}",
    ):
        plpy.execute(statement)
