"""The relation that is to be attached: what it is, who may read and watch it, and why it may not be attached."""

from typing import Any, NamedTuple

from ubp_sql.api.session import run, single
from ubp_sql.errors import BadInput, InstallError
from ubp_sql.features.columns import quoted

OURS = ("ubp_owner", "ubp_reader", "ubp_listener")
"""Who needs rights: refreshes read as the owner, scores and live features as the reader; the listener runs triggers."""
# The option is stored as it was written: on, t, Yes.
_INVOKER = """coalesce((select bool_or(case when o like 'security_invoker=%' then split_part(o, '=', 2)::boolean end)
                   from unnest(c.reloptions) o), false)"""
DESCRIBE = """
select c.oid::bigint as oid, n.nspname::text as schema_name, c.relname::text as relation_name, c.relkind::text as kind,
       format('%I.%I', n.nspname, c.relname) as name, quote_ident(n.nspname) as schema,
       pg_get_userbyid(c.relowner)::text as owner, pg_has_role(c.relowner, 'usage') as may,
       c.relpersistence = 't' as temporary, c.relispartition as is_partition,
       (select i.inhparent::regclass::text from pg_inherits i where i.inhrelid = c.oid limit 1) as parent,
       exists (select from pg_inherits i where i.inhparent = c.oid) as has_children,
       (select min(t.relid::regclass::text) from pg_partition_tree(c.oid) t join pg_class x on x.oid = t.relid
         where x.relkind = 'f') as foreign_partition,
       n.nspname in ('ubp', 'pg_catalog', 'information_schema') or n.nspname like 'pg\\_%' as system,
       c.relrowsecurity and exists (select from pg_roles r where r.rolname in ('ubp_owner', 'ubp_reader')
                                       and not r.rolsuper and not r.rolbypassrls) as secured,
       {invoker} as invoker,
       array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
       exists (select from pg_subscription_rel r join pg_partition_tree(c.oid) t on t.relid = r.srrelid)
         or exists (select from pg_subscription_rel r where r.srrelid = c.oid) as subscribed
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1::oid""".replace("{invoker}", _INVOKER)
NUMBER = "select $1::regclass::oid::bigint as oid"
# What runs when relation c is read: a view's query, and row policies, which are not for all. Views read with the rights
# of their owner (`reader`; NULL: of whoever asks). That he owns the table cannot change while it is locked; that he is
# a member of who does, which excepts him too, can, so it does not count.
_CODE = """(
    select 'pg_rewrite'::regclass as class, w.oid, '' as within,
           case when {invoker} then null else c.relowner end as reader
      from pg_rewrite w where w.ev_class = c.oid and c.relkind = 'v'
    union all
    select 'pg_policy'::regclass, p.oid, format(' (policy %I of %s)', p.polname, c.oid::regclass), r.reader
      from pg_policy p
     where p.polrelid = c.oid and c.relrowsecurity
       and (c.relforcerowsecurity or c.relowner is distinct from r.reader)
       and not exists (select from pg_roles o where o.oid = r.reader and (o.rolsuper or o.rolbypassrls)))""".replace(
    "{invoker}", _INVOKER
)
# The first of what the rows of pg_depend d refer to that somebody could replace by anything, and who.
REPLACEABLE = """cross join lateral (
    select p.oid::regprocedure::text as what, p.proowner as owner from pg_proc p
     where d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
    union all
    select 'operator ' || o.oid::regoperator::text, p.proowner from pg_operator o join pg_proc p on p.oid = o.oprcode
     where d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
    union all
    select 'type ' || t.oid::regtype::text, t.typowner from pg_type t left join pg_type e on e.oid = t.typelem
     where d.refclassid = 'pg_type'::regclass and t.oid = d.refobjid and coalesce(e.typtype, t.typtype) <> 'e') x
 where x.what not like 'ubp.to_time(%' and not exists (select from pg_roles o where o.oid = x.owner and o.rolsuper)
 order by 1 limit 1"""
# Functions that a view calls run with the rights of whoever reads it; so those of views and row policies below it.
CALLED_OF = """
with recursive relations as (
  select {view}::oid as oid, null::oid as reader
  union
  select d.refobjid, s.reader from relations r join pg_class c on c.oid = r.oid cross join lateral {code} s
    join pg_depend d on d.classid = s.class and d.objid = s.oid and d.refclassid = 'pg_class'::regclass)
select x.what || s.within as what, pg_get_userbyid(x.owner)::text as owner
  from relations r join pg_class c on c.oid = r.oid cross join lateral {code} s
  join pg_depend d on d.classid = s.class and d.objid = s.oid
 {replaceable}""".replace("{code}", _CODE).replace("{replaceable}", REPLACEABLE)
CALLED = CALLED_OF.replace("{view}", "$1")
ATTACHED = """
select s.name from ubp.attached_sources a join ubp.sources s using (source_id)
 where (a.schema_name, a.relation_name) = ($1, $2)
    or (a.relation = $3::oid and a.database = (select d.oid from pg_database d where d.datname = current_database()))"""
NAMED = "select kind from ubp.sources where name = $1"
# Partitions and what lies below them, the relation itself first.
TREE = """
with recursive tree as (
  select $1::oid as oid, 0 as depth
  union all
  select i.inhrelid, t.depth + 1 from tree t join pg_inherits i on i.inhparent = t.oid)
select format('%I.%I', n.nspname, c.relname) as name, c.relkind::text as kind
  from tree t join pg_class c on c.oid = t.oid join pg_namespace n on n.oid = c.relnamespace order by t.depth, 1"""
MISSING = """
select r.role, r.role <> all (array(select x.rolname from pg_roles x where x.rolname = r.role
                                       and has_schema_privilege(x.oid, $1::oid, 'usage'))) as of_schema,
       r.role <> all (array(select x.rolname from pg_roles x where x.rolname = r.role
                                and has_table_privilege(x.oid, $2::oid, 'select'))) as of_relation
  from unnest(array['ubp_owner', 'ubp_reader']) r (role) order by 1"""
# The primary key, where it is one column; of a partitioned table that and columns of the partition's key.
PRIMARY_KEY = """
select quote_ident(a.attname) as name
  from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  left join pg_partitioned_table p on p.partrelid = i.indrelid
 where i.indrelid = $1::oid and i.indisprimary
   and not exists (select from unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
                    where k.place > 1 and (p.partattrs is null or k.attnum <> all (p.partattrs::smallint[])))
   and (i.indnkeyatts = 1 or a.attnum <> all (p.partattrs::smallint[]))
   and format_type(a.atttypid, null) in ('smallint', 'integer', 'bigint', 'text', 'character varying', 'uuid')"""
KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}


class Relation(NamedTuple):
    """Row of DESCRIBE; `name` and `schema` are quoted."""

    oid: int
    schema_name: str
    relation_name: str
    kind: str
    name: str
    schema: str
    owner: str
    may: bool
    temporary: bool
    is_partition: bool
    parent: str | None
    has_children: bool
    foreign_partition: str | None
    system: bool
    secured: bool
    invoker: bool
    columns: list[str]
    subscribed: bool

    @property
    def watched(self) -> bool:
        """Whether triggers tell what changes."""
        return self.kind in ("r", "p")

    @property
    def source(self) -> str:
        """Name of the source."""
        return f"{self.schema_name}.{self.relation_name}"


def number(plpy: Any, memory: dict[str, Any], relation: str | None) -> int | None:
    """The relation's oid; PL/Python hands a regclass on as its name."""
    return None if relation is None else (single(plpy, memory, NUMBER, ["text"], [relation]) or {})["oid"]


def describe(plpy: Any, memory: dict[str, Any], oid: int | None) -> Relation:
    """Raises BadInput (UB003) where there is none, or one that cannot be attached."""
    row = None if oid is None else single(plpy, memory, DESCRIBE, ["bigint"], [oid])
    if row is None:
        raise BadInput("the relation is NULL or gone", "for example ubp.attach_source('public.orders', ...)")
    found = Relation(**row)
    for wrong, hint in _reasons(found):
        raise BadInput(f"{found.name} {wrong}", hint)
    if found.kind == "v":
        called = single(plpy, memory, CALLED, ["bigint"], [found.oid])
        if called is not None:
            raise BadInput(
                f"{found.name} calls {called['what']} of {called['owner']}, who could replace it by anything",
                "functions of a superuser may be called; a materialized view holds what its owner computed",
            )
    return found


def _reasons(found: Relation) -> list[tuple[str, str]]:
    """Why it cannot be attached, with the way out of each."""
    made = []
    if found.kind not in KINDS:
        made.append(("is neither a table nor a view", "attach a table, a view, a materialized view or a foreign table"))
    if found.temporary:
        made.append(("is temporary: other sessions do not see it", "create a table, or load its rows into ubp.events"))
    if found.system:
        made.append(("belongs to ubp_sql or to the system", "rows of ubp.events are events already"))
    if found.is_partition:
        made.append((f"is a partition of {found.parent}", f"attach {found.parent}, with all its partitions"))
    elif found.parent is not None:
        made.append((f"inherits from {found.parent}, whose statements its triggers do not see", "attach a view of it"))
    elif found.kind == "r" and found.has_children:
        made.append(("has tables that inherit from it, which its triggers do not see", "attach a view of it"))
    if found.foreign_partition is not None:
        made.append((f"has a foreign table as partition, {found.foreign_partition}", "attach a view of it"))
    if found.secured:
        made.append(
            (
                "has row security: which rows would count?",
                "attach a view of it whose owner may read the rows that are to count",
            )
        )
    if found.invoker:
        made.append(("reads with the rights of whoever asks", "alter view ... set (security_invoker = off)"))
    return made


def refuse_taken(plpy: Any, memory: dict[str, Any], relation: Relation) -> None:
    """Raises BadInput (UB003) where the relation is attached already, or a load has the source's name."""
    row = single(
        plpy, memory, ATTACHED, ["text", "text", "bigint"], [relation.schema_name, relation.relation_name, relation.oid]
    )
    if row is not None:
        raise BadInput(
            f"{relation.name} is attached already, as source {row['name']}",
            f"ubp.detach_source({quoted(row['name'])}) first: its events come back with the new map",
        )
    row = single(plpy, memory, NAMED, ["text"], [relation.source])
    if row is not None:
        raise BadInput(
            f"there is a source {relation.source} of kind {row['kind']} already",
            "a view of another name can be attached in the relation's place",
        )


def refuse_stranger(relation: Relation, who: str) -> None:
    """Raises InstallError (UB011) where the caller may neither grant nor watch the relation."""
    if not relation.may:
        raise InstallError(
            f"{relation.name} belongs to {relation.owner}: {who} may not grant rights on it",
            f"as a superuser, or as a member of {relation.owner} and of ubp_admin",
        )


def tree(plpy: Any, memory: dict[str, Any], oid: int) -> list[dict[str, str]]:
    """The relation and its partitions, each with its kind."""
    return list(run(plpy, memory, TREE, ["bigint"], [oid]))
