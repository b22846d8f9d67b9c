"""Runs the steps of an installation in one transaction, or writes them as scripts for a DBA."""

from pathlib import Path
from typing import Any

import psycopg

from ubp_sql.errors import InstallError
from ubp_sql.install.state import Connection
from ubp_sql.install.steps import BY_OWNER, SETTINGS, SUPERUSER, Step
from ubp_sql.schema.roles import OWNER

HEADER = "-- Written by ubp-sql {version}. Review, then run: psql -v ON_ERROR_STOP=1 -f {file}\n"


def needs_superuser(steps: list[Step]) -> bool:
    return any(step.by == SUPERUSER for step in steps)


def execute(conn: Connection, steps: list[Step], superuser: bool) -> None:
    """All steps or none. The connection must be in autocommit mode.

    Raises InstallError (UB011) naming the step that failed; the database is then as it was.
    """
    if needs_superuser(steps) and not superuser:
        titles = ", ".join(step.title for step in steps if step.by == SUPERUSER)
        raise InstallError(
            f"role {conn.info.user} is no superuser, which these steps need: {titles}",
            "`ubp-sql migrate sql --out DIR` writes the scripts for the DBA",
        )
    with conn.transaction():
        conn.execute(SETTINGS)
        for step in steps:
            _run(conn, step)


def _run(conn: Connection, step: Step) -> None:
    try:
        conn.execute(f"set local role {OWNER}" if step.by == BY_OWNER else "reset role")
        conn.execute(step.sql)
        conn.execute("reset role")
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error)
        raise InstallError(f"{step.title}: {message}", _way_out(error)) from error


def _way_out(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "somebody holds the lock: try again when the long transaction is over"
    if isinstance(error, psycopg.errors.DependentObjectsStillExist):
        return f"drop or move what depends on it first: {' '.join((error.diag.message_detail or '').split())}"
    return error.diag.message_hint or "nothing was changed; `ubp-sql doctor` looks for the cause"


def scripts(steps: list[Step], version: str) -> dict[str, str]:
    """File name to text: runs of steps of one role become one script each, numbered in the order to run them."""
    groups: list[tuple[str, list[Step]]] = []
    for step in steps:
        if not groups or groups[-1][0] != step.by:
            groups.append((step.by, []))
        groups[-1][1].append(step)
    result = {}
    for number, (by, members) in enumerate(groups, 1):
        name = f"{number}_{by}.sql"
        body = [HEADER.format(version=version, file=name), "begin;", SETTINGS]
        if by == BY_OWNER:
            body.append(f"set local role {OWNER};")
        for step in members:
            body.append(f"\n-- {step.title}\n{step.comment}\n{step.sql}")
        body.append("\ncommit;\n")
        result[name] = "\n".join(body)
    return result


def write_scripts(steps: list[Step], version: str, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in scripts(steps, version).items():
        path = folder / name
        path.write_text(text)
        paths.append(path)
    return paths


def as_json(steps: list[Step]) -> list[dict[str, Any]]:
    return [{"title": s.title, "by": s.by, "locks": s.locks, "sql": s.sql} for s in steps]
