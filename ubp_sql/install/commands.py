"""What the commands of a DBA do, for the CLI, the demo and the tests."""

from pathlib import Path
from typing import Any

import ubp_sql
from ubp_sql.errors import BadInput, InstallError
from ubp_sql.install import render, steps
from ubp_sql.install.remove import removal
from ubp_sql.install.run import execute, write_scripts
from ubp_sql.install.state import Connection, State, catalogue_path, inspect, one
from ubp_sql.install.steps import Step
from ubp_sql.schema.roles import OWNER

PRESENT_PATH = """
select substr(setting, length('search_path=') + 1) from pg_db_role_setting, unnest(setconfig) as setting
 where setdatabase = (select oid from pg_database where datname = current_database()) and setrole = 0
   and setting like 'search_path=%'"""


def _search_path(conn: Connection, state: State) -> list[Step]:
    with catalogue_path(conn):
        present = one(conn, PRESENT_PATH) or ""
    if any(part.strip() in ("ubp", '"ubp"') for part in present.split(",")):
        return []
    return [steps.search_path(state, present)]


def plan(conn: Connection) -> list[Step]:
    return steps.plan(inspect(conn))


def init(conn: Connection, *, with_search_path: bool = True) -> list[Step]:
    """Applies what is missing and applies the functions again; returns the steps that ran."""
    state = inspect(conn)
    todo = steps.reapply(state) + (_search_path(conn, state) if with_search_path else [])
    execute(conn, todo, state.superuser)
    return todo


def ensure_search_path(conn: Connection) -> list[Step]:
    """Adds ubp to the database's search_path where it is missing; returns the step that ran."""
    state = inspect(conn)
    todo = _search_path(conn, state)
    execute(conn, todo, state.superuser)
    return todo


def apply(conn: Connection) -> list[Step]:
    """Migrations and functions up to this package's version."""
    state = inspect(conn)
    todo = steps.reapply(state)
    execute(conn, todo, state.superuser)
    return todo


def downgrade(conn: Connection, revision: str, *, run: bool) -> list[Step]:
    """Steps back to `revision` (or base); run only if asked."""
    state = inspect(conn)
    todo = steps.downgrade(state, None if revision == "base" else revision)
    if run:
        execute(conn, todo, state.superuser)
    return todo


def write(conn: Connection, folder: Path, *, with_search_path: bool = True) -> list[Path]:
    """The scripts of `plan`, with the search_path step of `init`."""
    state = inspect(conn)
    todo = steps.plan(state)
    if todo and with_search_path:
        todo += _search_path(conn, state)
    return write_scripts(todo, ubp_sql.__version__, folder)


def status(conn: Connection) -> dict[str, Any]:
    """Versions and revisions of database and package."""
    state = inspect(conn)
    pending = [step.title for step in steps.plan(state)]
    return {
        "database": state.database,
        "server": f"PostgreSQL {state.server_version // 10000}.{state.server_version % 10000}",
        "installed_version": state.package_version or "none",
        "package_version": ubp_sql.__version__,
        "revision": state.revision or "none",
        "newest_revision": render.head(),
        "pending": ", ".join(pending) or "nothing",
    }


def uninstall(conn: Connection, *, run: bool) -> tuple[list[Step], list[str]]:
    """Steps that remove the installation, and what stays with the reason."""
    state = inspect(conn)
    if state.schema_owner is None:
        raise BadInput("nothing is installed in this database", "`ubp-sql init` installs")
    if state.schema_owner != OWNER:
        raise InstallError(
            f"schema ubp belongs to {state.schema_owner}: it is not an installation of ubp_sql", "nothing was removed"
        )
    if not state.superuser:
        hint = "roles, language and schema need one to be dropped"
        raise InstallError(f"role {conn.info.user} is no superuser", hint)
    todo, kept = removal(conn, state)
    if run:
        execute(conn, todo, state.superuser)
    return todo, kept
