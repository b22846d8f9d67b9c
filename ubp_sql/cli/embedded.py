"""`ubp-sql embedded`: start, stop, look at and talk to a private PostgreSQL cluster."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ubp_sql.embedded import Cluster, Status

NOT_RUNNING = 3  # the exit status of `pg_ctl status` and of init scripts

app = typer.Typer(no_args_is_help=True, help="A private PostgreSQL cluster in one directory, without any set-up.")

Directory = Annotated[Path, typer.Option("--dir", help="The cluster's directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
DEFAULT = Path(".ubp")


@app.command()
def start(directory: Directory = DEFAULT, as_json: Json = False) -> None:
    """Make the cluster if there is none, start it, wait until it is ready."""
    cluster = Cluster(directory)
    if as_json:
        status = cluster.start()
    else:
        with Console(stderr=True).status("starting PostgreSQL"):
            status = cluster.start()
    _show(status, as_json)


@app.command()
def stop(directory: Directory = DEFAULT, as_json: Json = False) -> None:
    """Stop the server; its data stay. Nothing happens if it is not running."""
    _show(Cluster(directory).stop(), as_json)


@app.command()
def status(directory: Directory = DEFAULT, as_json: Json = False) -> None:
    """Show whether it runs and how to connect. Exit status 0 if it runs, 3 if not."""
    found = Cluster(directory).status()
    _show(found, as_json)
    if not found.running:
        raise typer.Exit(NOT_RUNNING)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context, directory: Directory = DEFAULT) -> None:
    """Open psql on the cluster's database; other arguments are psql's: `embedded psql -c 'select 1'`."""
    argv = Cluster(directory).psql_argv(*context.args)
    os.execv(argv[0], argv)  # noqa: S606  (no shell is wanted)


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(status)))
        return
    rows = {"state": status.state + (f" (pid {status.pid})" if status.pid else "")}
    if status.state != "absent":
        rows |= {
            "server": f"PostgreSQL {status.version}",
            "dsn": str(status.dsn),
            "data": str(status.data_dir),
            "log": str(status.log_file),
            "python path": ":".join(status.python_path),
        }
    console = Console(soft_wrap=True)  # a folded DSN cannot be copied
    for name, value in rows.items():
        colour = ("green" if status.running else "yellow") if name == "state" else ""
        console.print(Text(f"{name:<13}", "dim"), Text(value, colour), sep="")
