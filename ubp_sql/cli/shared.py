"""What every command shares: the DSN option, output for people and machines, errors as one line with an exit code."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console

from ubp_sql.errors import BadInput, InstallError, UbpError
from ubp_sql.schema.roles import OWNER, needed_role

Dsn = Annotated[str, typer.Option("--dsn", help="libpq connection string; without it the PG* variables count.")]
# Flags take no value; an empty metavar keeps `<bool>` out of --help.
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document for machines.")]
Directory = Annotated[Path, typer.Option("--dir", help="Directory of the embedded cluster.")]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

INTERRUPTED = 130


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=str, indent=2) + "\n")


def note(line: str) -> None:
    """What is under way, on the way to a result."""
    err.print(f"· {line}", markup=False)


def warn(text: str) -> None:
    err.print(f"warning: {text}", markup=False)


def fail(message: str, hint: str | None, code: int) -> typer.Exit:
    """Prints the error; the caller raises what this returns."""
    err.print(f"[red]error[/red] {message}", markup=True)
    if hint:
        err.print(f"hint: {hint}", markup=False)
    return typer.Exit(code)


def from_server(error: psycopg.Error) -> UbpError:
    """An error that came out of the server, as one of ours: message, SQLSTATE, hint."""
    diag = error.diag
    message = (diag.message_primary or str(error)).strip().splitlines()[0].removeprefix("ubp: ")
    hint = diag.message_hint
    result: UbpError
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        result = InstallError(message, hint or _grant_hint(message))
    elif isinstance(
        error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction | psycopg.errors.InvalidSchemaName
    ):
        result = InstallError(message, hint or "is ubp_sql installed in this database? `ubp-sql init` installs it")
    else:
        result = next(
            (kind(message, hint) for kind in UbpError.__subclasses__() if kind.sqlstate == error.sqlstate),
            UbpError(message, hint),
        )
    if error.sqlstate:
        result.sqlstate = error.sqlstate
    return result


def _grant_hint(message: str) -> str:
    role = needed_role(message)
    if message.endswith("schema ubp"):
        role = "ubp_analyst (predict, read), ubp_loader (load, refresh, score) or ubp_admin (all)"
    if role == OWNER:
        return "only functions of ubp_sql call it: nobody needs the right to"
    if role is None:
        return "connect as a member of ubp_admin, or ask for the role that may"
    return f"as an administrator: grant {role} to the role you connect as"


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turns errors into one line and an exit code; a traceback is only for what we did not foresee."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except UbpError as error:
            code, shown = error.exit_code, error
        except psycopg.Error as error:
            shown = from_server(error)
            code = shown.exit_code
        except OSError as error:
            if error.filename is None:
                raise
            shown = BadInput(f"{error.filename}: {error.strerror}", "look at the path and at the rights on it")
            code = shown.exit_code
        except KeyboardInterrupt:
            raise fail("interrupted; nothing that was under way was kept", None, INTERRUPTED) from None
        text = str(shown.message).replace("[", "\\[")
        raise fail(f"{shown.sqlstate}: {text}", shown.hint, code) from None

    return run


@contextmanager
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection, closed at the end."""
    from ubp_sql.install.state import connect

    try:
        conn = connect(dsn)
    except psycopg.ProgrammingError as error:
        line = " ".join(str(error).split())
        raise BadInput(
            f"--dsn is no connection string: {line}", "for example --dsn 'host=/run/postgresql dbname=shop'"
        ) from None
    try:
        yield conn
    finally:
        conn.close()
