"""What the commands of a DBA do, for the CLI, the demo and the tests."""

from pathlib import Path
from typing import Any

import ubp_sql
from ubp_sql.errors import BadInput, InstallError
from ubp_sql.install import render, server_python, steps
from ubp_sql.install.remove import lost_rows, removal
from ubp_sql.install.run import execute, write_scripts
from ubp_sql.install.state import Connection, State, catalogue_path, database_search_path, inspect
from ubp_sql.install.steps import Step
from ubp_sql.schema.roles import OWNER


def _search_path(conn: Connection, state: State) -> list[Step]:
    with catalogue_path(conn):
        present = database_search_path(conn)
    if any(part.strip() in ("ubp", '"ubp"') for part in present.split(",")):
        return []
    return [steps.search_path(state, present)]


def _first_search_path(conn: Connection, state: State, wanted: bool) -> list[Step]:
    """The search_path is part of a first installation; an upgrade leaves it as somebody may have set it since."""
    return _search_path(conn, state) if wanted and not state.installed else []


def _run(conn: Connection, state: State, todo: list[Step]) -> list[Step]:
    if state.superuser:  # others are refused with the list of the steps that need one
        server_python.require(conn, language=state.language)
    execute(conn, todo, state.superuser)
    return todo


def plan(conn: Connection, *, with_search_path: bool = True) -> list[Step]:
    """What `apply` has to do, and `write` writes; empty when nothing is missing."""
    state = inspect(conn)
    return steps.plan(state) + _first_search_path(conn, state, with_search_path)


def init(conn: Connection, *, with_search_path: bool = True) -> list[Step]:
    """Applies what is missing and applies the functions again; returns the steps that ran.

    Raises InstallError (UB011) before anything is changed where the server's Python does not see the package.
    """
    state = inspect(conn)
    return _run(conn, state, steps.reapply(state) + (_search_path(conn, state) if with_search_path else []))


def ensure_search_path(conn: Connection) -> list[Step]:
    """Adds ubp to the database's search_path where it is missing; returns the step that ran."""
    state = inspect(conn)
    todo = _search_path(conn, state)
    execute(conn, todo, state.superuser)
    return todo


def apply(conn: Connection, *, with_search_path: bool = True) -> list[Step]:
    """The steps of `plan`; where there are none, the functions again. Raises as `init`."""
    state = inspect(conn)
    return _run(conn, state, steps.reapply(state) + _first_search_path(conn, state, with_search_path))


def downgrade(conn: Connection, revision: str, *, run: bool) -> list[Step]:
    """Steps back to `revision` (or base), none if it is there already; run only if asked."""
    state = inspect(conn)
    if revision == (state.revision or ("base" if state.schema_owner == OWNER else None)):
        return []
    todo = steps.downgrade(state, None if revision == "base" else revision)
    if run:
        execute(conn, todo, state.superuser)
    return todo


def write(conn: Connection, folder: Path, *, with_search_path: bool = True) -> list[Path]:
    """The scripts of `plan`."""
    return write_scripts(plan(conn, with_search_path=with_search_path), ubp_sql.__version__, folder)


def status(conn: Connection) -> dict[str, Any]:
    """Versions and revisions of database and package; `pending`: the titles of `plan`, one a line."""
    state = inspect(conn)
    pending = [step.title for step in plan(conn)]
    found = {
        "database": state.database,
        "server": f"PostgreSQL {state.server_version // 10000}.{state.server_version % 10000}",
        "installed_version": state.package_version or "none",
        "package_version": ubp_sql.__version__,
        "revision": state.revision or "none",
        "newest_revision": render.head(),
        "pending": "\n".join(pending) or "nothing",
    }
    return found | ({"still_there": left} if (left := state.left_over) else {})


def rows_that_go(conn: Connection, todo: list[Step]) -> list[str]:
    """A line for each table that `todo` drops with rows in it: `ubp.events: 160,067 rows`."""
    return lost_rows(conn, "\n".join(step.sql for step in todo))


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
