"""The steps of an installation, each with its exact SQL, who must run it, and the locks it takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import fill

from psycopg import sql

import ubp_sql
from ubp_sql.errors import BadInput, InstallError, VersionSkew
from ubp_sql.install import render
from ubp_sql.install.resources import function_files
from ubp_sql.install.state import MADE, ROLE_MARK, SCHEMA_COMMENT, State, refuse_newer_database
from ubp_sql.schema.roles import MEMBERSHIPS, OWNER, ROLES

SUPERUSER, BY_OWNER = "superuser", "owner"
DEFAULT_SEARCH_PATH = '"$user", public'
# A migration that cannot get its lock must not queue in front of everybody's queries; and no name in our SQL may be
# taken by an object that somebody made in a schema of the database's search_path.
SETTINGS = "set local lock_timeout = '10s';\nset local search_path = pg_catalog, pg_temp;"


@dataclass(frozen=True)
class Step:
    """One statement group: `by` says who must run it."""

    title: str
    by: str
    sql: str
    locks: str = "none"

    @property
    def comment(self) -> str:
        """Who runs it and what it locks, as comments of SQL no wider than a page."""
        return fill(f"run by: {self.by}; locks: {self.locks}", 100, initial_indent="-- ", subsequent_indent="--   ")


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
        new = [(group, member) for group, member in MEMBERSHIPS if member in missing or group in missing]
        lines += [f"grant {group} to {member};" for group, member in new]
        yield Step("roles (cluster-wide)", SUPERUSER, "\n".join(lines))
    if not state.language:
        yield Step("language plpython3u", SUPERUSER, "create extension plpython3u;")
    if state.schema_owner is None:
        yield Step(
            "schema ubp",
            SUPERUSER,
            f"create schema ubp authorization {OWNER};\ncomment on schema ubp is {_text(SCHEMA_COMMENT)};",
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
        " made = excluded.made, applied_at = now();\n"
        f"comment on schema ubp is {_text(SCHEMA_COMMENT)};",
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
    if steps or state.package_version != ubp_sql.__version__:
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
        title = f"undo {migration.revision}: {migration.title}"
        steps.append(Step(title, BY_OWNER, migration.sql, "access exclusive on what it drops"))
    if target is None:
        # What init made outside the schema stays until uninstall, which must know of it without ubp.installation.
        keep = f"comment on schema ubp is {_text(SCHEMA_COMMENT + MADE + _json(state.made))};"
        steps.append(Step("Alembic's own table", BY_OWNER, f"drop table ubp.alembic_version;\n{keep}"))
    return steps


# Ours are those that our two roles own: nobody can log in as them.
# One statement each, so that the order among views, and among SQL-standard bodies, does not matter.
DROP_ROUTINES = """do $do$
declare
  names text;
begin
  select pg_catalog.string_agg(c.oid::regclass::text, ', ') into names from pg_catalog.pg_class c
   where c.relnamespace = 'ubp'::regnamespace and c.relkind = 'v' and c.relowner = 'ubp_owner'::regrole;
  if names is not null then
    execute 'drop view ' || names;
  end if;
  select pg_catalog.string_agg(p.oid::regprocedure::text, ', ') into names from pg_catalog.pg_proc p
   where p.pronamespace = 'ubp'::regnamespace and p.proowner in ('ubp_owner'::regrole, 'ubp_reader'::regrole)
     and p.prorettype <> 'trigger'::regtype; -- those are the migrations', and tables need them
  if names is not null then
    execute 'drop routine ' || names;
  end if;
end
$do$;"""


def check(state: State) -> None:
    """Refuses what must not be built upon: an old server, a schema of somebody else, a newer database."""
    if state.server_version < 140000:
        old = state.server_version // 10000
        raise InstallError(f"PostgreSQL {old} is too old", "ubp_sql needs PostgreSQL 14 or newer")
    if not state.language and not state.language_available:
        package = f"postgresql-plpython3-{state.server_version // 10000}"
        raise InstallError("this server has no PL/Python", f"on its machine: apt-get install {package}")
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
        unknown = f"the database is at revision {state.revision}, which this package does not know"
        raise VersionSkew(unknown, "install the newer ubp_sql")


def _json(value: object) -> str:
    import json

    return json.dumps(value, sort_keys=True)
