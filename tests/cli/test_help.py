"""Help of every command: it is there, says what the command does, and names every option that all commands share."""

from typing import Any

import pytest
import typer

import ubp_sql
from tests.cli.running import told
from tests.cli.running import ubp_sql as run
from ubp_sql.cli.main import app

ROOT = typer.main.get_command(app)
LOCAL = {"embedded", "demo"}  # they run a server of their own and take --dir instead of --dsn


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """The command and all below it, with what is typed to call each."""
    found = [(path, command)]
    for name, child in getattr(command, "commands", {}).items():
        found += commands(child, (*path, name))
    return found


ALL = commands(ROOT)


def test_the_commands_of_the_design_are_there() -> None:
    paths = {" ".join(path) for path, _ in ALL}
    assert paths >= {
        *("init", "doctor", "uninstall", "load", "refresh", "train", "training-set", "score", "demo"),
        *(f"migrate {name}" for name in ("plan", "apply", "downgrade", "status", "sql")),
        *(f"embedded {name}" for name in ("start", "stop", "status", "psql")),
        *(f"model {name}" for name in ("list", "deploy", "rollback", "export")),
    }


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "ubp-sql" for path, _ in ALL])
def test_help(path: tuple[str, ...], command: Any) -> None:
    for flag in ("--help", "-h"):
        shown = told(*path, flag)
        assert "Usage: " in shown
    assert command.help, "a command without a word about itself"
    for parameter in command.params:
        silent = parameter.param_type_name == "option" and not parameter.help
        assert not silent, f"{parameter.name} says nothing"
    names = {name for parameter in command.params for name in parameter.opts}
    if path and not hasattr(command, "commands"):
        assert ("--dir" if path[0] in LOCAL else "--dsn") in names


def test_a_training_set_says_whose_features_it_has() -> None:
    assert "The task names the feature set" in " ".join(told("training-set", "--help").split())


def test_version_and_no_command() -> None:
    assert told("--version") == f"{ubp_sql.__version__}\n"
    assert "Commands" in run().output
    unknown = run("frobnicate")
    assert unknown.exit_code == 2
    assert "frobnicate" in unknown.stderr
