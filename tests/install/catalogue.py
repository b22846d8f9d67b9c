"""What a database holds, as sorted text: for the golden files and for before-and-after comparisons."""

from typing import Any

import psycopg

SCHEMA_OBJECTS = """
select 'schema ubp owner ' || nspowner::regrole from pg_namespace where nspname = 'ubp'
union all
select format('%s %s owner %s', case c.relkind when 'v' then 'view' when 'p' then 'partitioned table' else 'table' end,
              c.relname, c.relowner::regrole)
       || coalesce(' by ' || pg_get_partkeydef(c.oid), '')
       || case when c.relispartition then ' partition ' || pg_get_expr(c.relpartbound, c.oid) else '' end
  from pg_class c where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v')
union all
select format('column %s.%s %s %s', c.relname, lpad(a.attnum::text, 2, '0'), a.attname,
              format_type(a.atttypid, a.atttypmod))
       || case when a.attnotnull then ' not null' else '' end
       || case a.attidentity when 'd' then ' identity' when 'a' then ' identity always' else '' end
       || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
       || case when a.attstorage <> t.typstorage then ' storage ' || a.attstorage::text else '' end
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v')
union all
select 'index ' || pg_get_indexdef(i.indexrelid)
  from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'ubp'::regnamespace
union all
select format('constraint %s.%s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
  from pg_constraint k where k.connamespace = 'ubp'::regnamespace and k.conrelid <> 0 and k.contype <> 'n'
union all
select format('sequence %s %s from %s', c.relname, format_type(s.seqtypid, null), s.seqstart)
  from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.relnamespace = 'ubp'::regnamespace
union all
select 'trigger ' || pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
 where c.relnamespace = 'ubp'::regnamespace and not t.tgisinternal
union all
select format('function %s(%s) returns %s: %s %s parallel %s', p.proname, pg_get_function_arguments(p.oid),
              pg_get_function_result(p.oid), l.lanname,
              case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
              case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end)
       || case when p.proisstrict then ' strict' else '' end
       || format(' cost %s rows %s', p.procost, p.prorows)
       || case when p.prosecdef then ' security definer' else '' end
       || format(' owner %s', p.proowner::regrole) || coalesce(' set ' || array_to_string(p.proconfig, ' set '), '')
  from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = 'ubp'::regnamespace
"""
GRANTS = """
select format('schema ubp: %s to %s', lower(a.privilege_type), coalesce(r.rolname, 'public'))
  from pg_namespace n, aclexplode(n.nspacl) a left join pg_roles r on r.oid = a.grantee where n.nspname = 'ubp'
union all
select format('%s: %s to %s', c.relname, string_agg(lower(a.privilege_type), ', ' order by a.privilege_type),
              coalesce(r.rolname, 'public')) || case when bool_or(a.is_grantable) then ' with grant option' else '' end
  from pg_class c, aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
 where c.relnamespace = 'ubp'::regnamespace and a.grantee <> c.relowner group by c.relname, r.rolname
union all
select format('%s.%s: %s to %s', c.relname, t.attname, lower(a.privilege_type), coalesce(r.rolname, 'public'))
  from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
  left join pg_roles r on r.oid = a.grantee where c.relnamespace = 'ubp'::regnamespace and not t.attisdropped
union all
select format('%s(%s): execute to %s', p.proname, pg_get_function_identity_arguments(p.oid),
              coalesce(r.rolname, 'public'))
  from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  left join pg_roles r on r.oid = a.grantee
 where p.pronamespace = 'ubp'::regnamespace and a.grantee <> p.proowner
union all
select format('role %s: member of %s', m.rolname, g.rolname) from pg_auth_members x
  join pg_roles m on m.oid = x.member join pg_roles g on g.oid = x.roleid
 where m.rolname like 'ubp\\_%' and g.rolname like 'ubp\\_%'
union all
select format('role %s: %s', rolname, concat_ws(' ', case when rolcanlogin then 'login' else 'nologin' end,
              case when rolsuper then 'superuser' end, case when rolcreaterole then 'createrole' end,
              case when rolcreatedb then 'createdb' end, case when rolbypassrls then 'bypassrls' end))
  from pg_roles where rolname like 'ubp\\_%'
"""
# What the golden files leave out because its text differs between server versions, or is in udfs/ already.
BODIES = """
select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'ubp'::regnamespace
union all
select c.relname || ': ' || pg_get_viewdef(c.oid) from pg_class c
 where c.relnamespace = 'ubp'::regnamespace and c.relkind = 'v'
union all
select format('%s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description) from pg_description d
 where d.objoid >= 16384
union all
select format('installation %s %s', package_version, made) from ubp.installation
union all
select format('source %s %s %s', source_id, name, kind) from ubp.sources
union all
select 'revision ' || version_num from ubp.alembic_version
"""
# Everything in the database and the cluster that is not part of a new database.
EVERYTHING = """
select format('schema %s %s %s', nspname, nspowner::regrole, nspacl) from pg_namespace where nspname not like 'pg_%'
union all
select format('relation %s %s %s %s', oid::regclass, relkind, relowner::regrole, relacl)
  from pg_class where oid >= 16384 and relnamespace <> 'pg_toast'::regnamespace
union all
select format('routine %s %s %s', oid::regprocedure, proowner::regrole, proacl) from pg_proc where oid >= 16384
union all
select format('type %s %s', oid::regtype, typowner::regrole) from pg_type where oid >= 16384
union all
select format('extension %s %s', extname, extversion) from pg_extension
union all
select format('language %s', lanname) from pg_language
union all
select format('role %s %s: %s', oid, rolname, shobj_description(oid, 'pg_authid')) from pg_roles
union all
select format('member %s of %s', member::regrole, roleid::regrole) from pg_auth_members
union all
select format('setting %s %s %s', setdatabase, setrole, setconfig) from pg_db_role_setting
union all
select format('database %s %s %s', datname, datdba::regrole, datacl) from pg_database
union all
select format('default privileges %s %s %s', defaclrole::regrole, defaclnamespace, defaclacl) from pg_default_acl
union all
select format('comment %s %s', classoid::regclass, description) from pg_description where objoid >= 16384
union all
select format('depends %s %s %s', dbid, classid::regclass, refobjid::regrole) from pg_shdepend
 where refclassid = 'pg_authid'::regclass
"""


def listing(dsn: str, query: str) -> list[str]:
    """Sorted lines; names are qualified and texts rendered as under search_path pg_catalog."""
    with psycopg.connect(dsn, options="-c search_path=pg_catalog -c timezone=UTC") as conn:
        found: list[tuple[Any, ...]] = conn.execute(query.encode()).fetchall()
    return sorted(str(row[0]) for row in found)


def objects(dsn: str) -> str:
    """Tables, columns, indexes, constraints, functions with their flags, views."""
    return "\n".join(listing(dsn, SCHEMA_OBJECTS)) + "\n"


def grants(dsn: str) -> str:
    """Who may do what, less what owners may."""
    return "\n".join(listing(dsn, GRANTS)) + "\n"


def bodies(dsn: str) -> list[str]:
    """Function and view definitions, comments, and the rows that an installation writes."""
    return listing(dsn, BODIES)


def everything(dsn: str) -> list[str]:
    """All that is not part of a new cluster's new database."""
    return listing(dsn, EVERYTHING)
