"""`ubp-sql embedded`: start, stop, look at and talk to a private PostgreSQL cluster."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ubp_sql.cli.shared import AsJson, Directory, err, guarded, out, print_json
from ubp_sql.embedded import Cluster, Status

NOT_RUNNING = 3  # the exit status of `pg_ctl status` and of init scripts

app = typer.Typer(no_args_is_help=True, help="A private PostgreSQL cluster in one directory, without any set-up.")

DEFAULT = Path(".ubp")


@app.command()
@guarded
def start(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """Make the cluster if there is none, start it, wait until it is ready."""
    cluster = Cluster(directory)
    if as_json:
        status = cluster.start()
    else:
        with err.status("starting PostgreSQL"):
            status = cluster.start()
    _show(status, as_json)


@app.command()
@guarded
def stop(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """Stop the server; its data stay. Nothing happens if it is not running."""
    _show(Cluster(directory).stop(), as_json)


@app.command()
@guarded
def status(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """Show whether it runs and how to connect. Exit status 0 if it runs, 3 if not."""
    found = Cluster(directory).status()
    _show(found, as_json)
    if not found.running:
        raise typer.Exit(NOT_RUNNING)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@guarded
def psql(
    context: typer.Context,
    directory: Directory = DEFAULT,
    database: Annotated[str, typer.Option("--database", help="Database; the demo's is ubp_demo.")] = "ubp",
) -> None:
    """Open psql on the cluster's database; other arguments are psql's: `embedded psql -c 'select 1'`."""
    argv = Cluster(directory).psql_argv(*context.args, database=database)
    os.execv(argv[0], argv)  # noqa: S606  (no shell is wanted)


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(status))
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
    for name, value in rows.items():
        colour = ("green" if status.running else "yellow") if name == "state" else ""
        out.print(Text(f"{name:<13}", "dim"), Text(value, colour), sep="")
