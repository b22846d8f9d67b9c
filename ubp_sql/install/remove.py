"""Removes everything that the installation made, by name, and nothing else."""

import re

from psycopg import sql

from ubp_sql.install.state import ROLE_MARK, Connection, State, catalogue_path, database_search_path, one, rows
from ubp_sql.install.steps import SUPERUSER, Step
from ubp_sql.schema.roles import LISTENER, OWNER, READER, ROLES

OURS = [OWNER, READER, LISTENER]
# One statement a kind: PostgreSQL finds the order among views, and among SQL-standard bodies that call each other.
ROUTINES = """
select 'drop view ' || string_agg(c.oid::regclass::text, ', ' order by c.oid) || ';' as statement
  from pg_class c
 where c.relnamespace = 'ubp'::regnamespace and c.relkind = 'v' and pg_get_userbyid(c.relowner) = any (%s)
union all
select 'drop routine ' || string_agg(p.oid::regprocedure::text, ', ' order by p.oid) || ';'
  from pg_proc p where p.pronamespace = 'ubp'::regnamespace and pg_get_userbyid(p.proowner) = any (%s)
   and p.prorettype <> 'trigger'::regtype"""
# Triggers hold on to these until their tables are gone.
TRIGGER_ROUTINES = """
select 'drop routine ' || string_agg(p.oid::regprocedure::text, ', ' order by p.oid) || ';' as statement
  from pg_proc p where p.pronamespace = 'ubp'::regnamespace and pg_get_userbyid(p.proowner) = any (%s)
   and p.prorettype = 'trigger'::regtype"""
# Attached tables keep what our functions listened with, and the rights to read them.
ATTACHED = """
select format('drop trigger %%I on %%s;', g.tgname, g.tgrelid::regclass) as statement
  from pg_trigger g join pg_proc p on p.oid = g.tgfoid join pg_class c on c.oid = g.tgrelid
 where p.pronamespace = 'ubp'::regnamespace and pg_get_userbyid(p.proowner) = any (%s)
   and c.relnamespace <> 'ubp'::regnamespace and g.tgparentid = 0
union all
select format('revoke select on %%s from %%s;', c.oid::regclass, a.grantee::regrole)
  from pg_class c cross join lateral aclexplode(c.relacl) a
 where c.relnamespace <> 'ubp'::regnamespace and a.privilege_type = 'SELECT' and pg_get_userbyid(a.grantee) = any (%s)
   and exists (select from ubp.attached_sources s join pg_database d on d.oid = s.database
                where d.datname = current_database() and s.relation = c.oid
                  and s.granted -> 'relation' ? pg_get_userbyid(a.grantee))
union all
select format('revoke usage on schema %%I from %%s;', n.nspname, a.grantee::regrole)
  from pg_namespace n cross join lateral aclexplode(n.nspacl) a
 where n.nspname <> 'ubp' and a.privilege_type = 'USAGE' and pg_get_userbyid(a.grantee) = any (%s)
   and exists (select from ubp.attached_sources s where s.schema_name = n.nspname
                  and s.granted -> 'schema' ? pg_get_userbyid(a.grantee))
 order by 1"""
HAS_ATTACHED = "select to_regclass('ubp.attached_sources') is not null"
TABLES = """
select format('ubp.%%I', c.relname) as name from pg_class c
 where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
   and pg_get_userbyid(c.relowner) = any (%s) order by c.oid desc"""
MARKED = """
select r.rolname as name, exists (
         select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
            and d.dbid not in (0, (select oid from pg_database where datname = current_database()))) as elsewhere
  from pg_roles r
 where r.rolname = any (%s) and shobj_description(r.oid, 'pg_authid') like %s order by r.rolname"""
# What a role of ours still holds in this database but in objects of ours: grants that somebody gave it by hand.
HELD = """
select r.rolname as role, min(pg_describe_object(d.classid, d.objid, d.objsubid)) as object
  from pg_shdepend d join pg_roles r on r.oid = d.refobjid
 where d.refclassid = 'pg_authid'::regclass and r.rolname = any (%s)
   and d.dbid in (0, (select oid from pg_database where datname = current_database()))
   and not (d.classid = 'pg_namespace'::regclass and d.objid = 'ubp'::regnamespace and d.dbid <> 0)
   and not exists (select from pg_class c where d.classid = 'pg_class'::regclass and c.oid = d.objid
                      and c.relnamespace = 'ubp'::regnamespace and pg_get_userbyid(c.relowner) = any (%s))
   and not exists (select from pg_proc p where d.classid = 'pg_proc'::regclass and p.oid = d.objid
                      and p.pronamespace = 'ubp'::regnamespace and pg_get_userbyid(p.proowner) = any (%s))
   and not exists (select from pg_type t where d.classid = 'pg_type'::regclass and t.oid = d.objid
                      and t.typnamespace = 'ubp'::regnamespace and pg_get_userbyid(t.typowner) = any (%s))
 group by r.rolname"""
PLPYTHON_USERS = """
select count(*) from pg_proc p join pg_language l on l.oid = p.prolang
 where l.lanname = 'plpython3u'
   and not (p.pronamespace = 'ubp'::regnamespace and pg_get_userbyid(p.proowner) = any (%s))"""

# The leaves of a partitioned table hold its rows (a plain table has no tree); reltuples is -1 before an ANALYZE.
SIZES = """
select c.oid::regclass::text as name, sum(pg_relation_size(f.oid)) as bytes, sum(f.reltuples) as estimate,
       bool_and(f.reltuples >= 0) as analysed, has_table_privilege(c.oid, 'select') as readable
  from pg_class c left join lateral pg_partition_tree(c.oid) leaf on leaf.isleaf
  join pg_class f on f.oid = coalesce(leaf.relid, c.oid)
 where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
 group by c.oid order by c.oid"""
COUNTED_UP_TO = 64 << 20  # bytes; a count of that much takes a tenth of a second


def lost_rows(conn: Connection, statements: str) -> list[str]:
    """`ubp.events: 160,067 rows` for each table that the statements drop and that is not empty.

    Small tables are counted, of large ones the planner's estimate is told (`about`).
    """
    dropped = {
        name for names in re.findall(r"(?i)^drop table ([^;]+);", statements, re.M) for name in names.split(", ")
    }
    result = []
    with catalogue_path(conn):
        for table in rows(conn, SIZES):
            if table["name"] not in dropped:
                continue
            about, number = "about ", max(0, int(table["estimate"]))
            if table["readable"] and (table["bytes"] <= COUNTED_UP_TO or not table["analysed"]):
                count = sql.SQL("select count(*) from {}").format(sql.Identifier(*table["name"].split(".")))
                about, number = "", next(number for (number,) in conn.execute(count))
            if number:
                result.append(f"{table['name']}: {about}{number:,} row{'s' * (number != 1)}")
    return result


def removal(conn: Connection, state: State) -> tuple[list[Step], list[str]]:
    """Steps, and lines that say what stays and why."""
    with catalogue_path(conn):
        return _removal(conn, state)


def _removal(conn: Connection, state: State) -> tuple[list[Step], list[str]]:
    steps: list[Step] = []
    kept: list[str] = []
    routines = [row["statement"] for row in rows(conn, ROUTINES, OURS, OURS) if row["statement"]]
    if routines:
        steps.append(Step("functions and views", SUPERUSER, "\n".join(routines)))
    if one(conn, HAS_ATTACHED):
        attached = [row["statement"] for row in rows(conn, ATTACHED, OURS, OURS, OURS)]
        if attached:
            locks = "access exclusive on each"
            steps.append(Step("triggers and rights on attached tables", SUPERUSER, "\n".join(attached), locks))
    tables = [row["name"] for row in rows(conn, TABLES, OURS)]
    if tables:
        steps.append(
            Step("tables, with their rows", SUPERUSER, f"drop table {', '.join(tables)};", "access exclusive on each")
        )
    triggers = [row["statement"] for row in rows(conn, TRIGGER_ROUTINES, OURS) if row["statement"]]
    if triggers:
        steps.append(Step("functions of triggers", SUPERUSER, "\n".join(triggers)))
    if state.foreign:
        kept.append(f"schema ubp, because it holds what others made: {', '.join(state.foreign)}")
        heir = sql.Identifier(conn.info.user).as_string(None)
        owner = f"alter schema ubp owner to {heir};\ncomment on schema ubp is null;"
        steps.append(Step("schema ubp to its new owner", SUPERUSER, owner))
        steps.append(Step("rights of our roles on it", SUPERUSER, f"revoke all on schema ubp from {', '.join(ROLES)};"))
    else:
        steps.append(Step("schema ubp", SUPERUSER, "drop schema ubp;"))
    steps += _search_path(conn, state)
    if state.made.get("extension"):
        others = one(conn, PLPYTHON_USERS, OURS)
        if others:
            kept.append(f"language plpython3u, because functions of others are written in it: {others}")
        else:
            steps.append(Step("language plpython3u", SUPERUSER, "drop extension plpython3u;"))
    _roles(conn, steps, kept)
    return steps, kept


def _search_path(conn: Connection, state: State) -> list[Step]:
    if not state.made.get("search_path"):
        return []
    present = database_search_path(conn)
    rest = ", ".join(part.strip() for part in present.split(",") if part.strip() not in ("ubp", '"ubp"'))
    database = sql.Identifier(state.database).as_string(None)
    if rest in ("", '"$user", public'):
        return [Step("search_path of the database", SUPERUSER, f"alter database {database} reset search_path;")]
    return [Step("search_path of the database", SUPERUSER, f"alter database {database} set search_path = {rest};")]


def _roles(conn: Connection, steps: list[Step], kept: list[str]) -> None:
    held = {row["role"]: row["object"] for row in rows(conn, HELD, list(ROLES), OURS, OURS, OURS)}
    for row in rows(conn, MARKED, list(ROLES), ROLE_MARK + "%"):
        role = row["name"]
        if row["elsewhere"]:
            kept.append(f"role {role}, because another database of this server uses it")
        elif role in held:
            kept.append(f"role {role}, because it holds rights on {held[role]}")
        else:
            steps.append(Step(f"role {role}", SUPERUSER, f"drop role {role};"))
