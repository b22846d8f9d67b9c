"""The steps of an installation, each with its exact SQL, who must run it, and the locks it takes."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

import ubp_sql
from ubp_sql.errors import BadInput, InstallError, VersionSkew
from ubp_sql.install import render
from ubp_sql.install.resources import function_files
from ubp_sql.install.state import ROLE_MARK, State, refuse_newer_database
from ubp_sql.schema.roles import MEMBERSHIPS, OWNER, ROLES

SUPERUSER, BY_OWNER = "superuser", "owner"
DEFAULT_SEARCH_PATH = '"$user", public'
# A migration that cannot get its lock must not queue in front of everybody's queries.
LOCK_TIMEOUT = "set local lock_timeout = '10s';"


@dataclass(frozen=True)
class Step:
    """One statement group: `by` says who must run it."""

    title: str
    by: str
    sql: str
    locks: str = "none"


def _text(value: str) -> str:
    return sql.Literal(value).as_string(None)


def _name(value: str) -> str:
    return sql.Identifier(value).as_string(None)


def bootstrap(state: State) -> Iterator[Step]:
    """Roles, language and schema, where they are missing."""
    missing = [role for role in ROLES if role not in state.roles]
    if missing:
        lines = []
        for role in missing:
            lines.append(f"create role {role} nologin;")
            lines.append(f"comment on role {role} is {_text(ROLE_MARK + ROLES[role])};")
        lines += [f"grant {group} to {member};" for group, member in MEMBERSHIPS if member in missing or group in missing]
        yield Step("roles (cluster-wide)", SUPERUSER, "\n".join(lines))
    if not state.language:
        yield Step("language plpython3u", SUPERUSER, "create extension plpython3u;")
    if state.schema_owner is None:
        yield Step(
            "schema ubp",
            SUPERUSER,
            f"create schema ubp authorization {OWNER};\ncomment on schema ubp is 'ubp_sql: behaviour features and predictions';",
        )


def migrations(state: State, target: str | None = None) -> Iterator[Step]:
    """Tables: what is missing up to `target` (default: the newest this package knows)."""
    for migration in render.upgrades(state.revision, target):
        yield Step(f"migration {migration.revision}: {migration.title}", BY_OWNER, migration.sql, migration.locks)


def functions(state: State) -> Iterator[Step]:
    """Functions and views: applied again at every install; only a superuser may replace PL/Python."""
    for path in function_files():
        yield Step(f"functions {path.name}", SUPERUSER, path.read_text().strip(), "none (new catalogue rows)")
    made = dict(state.made)
    if not state.language:
        made["extension"] = True
    yield Step(
        "version",
        SUPERUSER,
        "insert into ubp.installation (package_version, made)\n"
        f"values ({_text(ubp_sql.__version__)}, {_text(_json(made))}::jsonb)\n"
        "on conflict (singleton) do update set package_version = excluded.package_version,"
        " made = excluded.made, applied_at = now();",
    )
    yield Step("generated views and functions", SUPERUSER, "select ubp.rebuild_generated();", "the views it replaces")


def search_path(state: State, present: str) -> Step:
    """Appends ubp to the database's search_path; a role's own setting beats it."""
    return Step(
        "search_path of the database (leave out with --no-search-path)",
        SUPERUSER,
        f"alter database {_name(state.database)} set search_path = {present or DEFAULT_SEARCH_PATH}, ubp;\n"
        "update ubp.installation set made = made || '{\"search_path\": true}'::jsonb;",
    )


def plan(state: State, target: str | None = None) -> list[Step]:
    """Everything an upgrade of this database takes, in order; empty when nothing is missing."""
    check(state)
    if target is not None and state.revision is not None and not render.known(target):
        raise BadInput(f"unknown revision {target}", "`ubp-sql migrate status` lists the known ones")
    steps = [*bootstrap(state), *migrations(state, target)]
    if steps or state.package_version != ubp_sql.__version__ or state.foreign:
        return [*steps, *functions(state)]
    return []


def reapply(state: State) -> list[Step]:
    """As `plan`, but the functions are applied again even when nothing is missing."""
    return plan(state) or list(functions(state))


def downgrade(state: State, target: str | None) -> list[Step]:
    """Steps back to `target` (None: no tables at all). The functions go first: they speak of the newer tables."""
    if state.revision is None:
        raise BadInput("nothing is installed in this database", "`ubp-sql init` installs")
    refuse_newer_database(state, ubp_sql.__version__)
    steps = [Step("drop functions and views", SUPERUSER, DROP_ROUTINES, "none that a reader waits for")]
    for migration in render.downgrades(state.revision, target):
        steps.append(Step(f"undo {migration.revision}: {migration.title}", BY_OWNER, migration.sql, "access exclusive on what it drops"))
    if target is None:
        steps.append(Step("Alembic's own table", BY_OWNER, "drop table ubp.alembic_version;"))
    return steps


# Ours are those that our two roles own: nobody can log in as them.
DROP_ROUTINES = """do $do$
declare
  item record;
begin
  for item in
    select 'view' as kind, c.oid::regclass::text as name from pg_catalog.pg_class c
     where c.relnamespace = 'ubp'::regnamespace and c.relkind = 'v' and c.relowner = 'ubp_owner'::regrole
  loop
    execute pg_catalog.format('drop view %s', item.name);
  end loop;
  -- SQL-standard bodies depend on what they call, so the generated predict_<task> go before the rest.
  for item in
    select p.oid::regprocedure::text as name from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
     where p.pronamespace = 'ubp'::regnamespace and p.proowner in ('ubp_owner'::regrole, 'ubp_reader'::regrole)
     order by l.lanname <> 'sql'
  loop
    execute pg_catalog.format('drop function %s', item.name);
  end loop;
end
$do$;"""


def check(state: State) -> None:
    """Refuses what must not be built upon: an old server, a schema of somebody else, a newer database."""
    if state.server_version < 140000:
        raise InstallError(f"PostgreSQL {state.server_version // 10000} is too old", "ubp_sql needs PostgreSQL 14 or newer")
    if not state.language and not state.language_available:
        major = state.server_version // 10000
        raise InstallError("this server has no PL/Python", f"on its machine: apt-get install postgresql-plpython3-{major}")
    if state.schema_owner not in (None, OWNER):
        raise InstallError(
            f"schema ubp exists and belongs to {state.schema_owner}", "rename or drop it, or use another database"
        )
    if state.foreign:
        raise InstallError(
            f"schema ubp holds objects of other owners: {', '.join(state.foreign)}",
            "move them to another schema; replacing what somebody else made could run their code",
        )
    refuse_newer_database(state, ubp_sql.__version__)
    if state.revision is not None and not render.known(state.revision):
        raise VersionSkew(
            f"the database is at revision {state.revision}, which this package does not know", "install the newer ubp_sql"
        )


def _json(value: object) -> str:
    import json

    return json.dumps(value, sort_keys=True)
