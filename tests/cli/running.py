"""Commands of `ubp-sql`, run in this process, as a person and a script meet them."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from ubp_sql.cli.main import app


def ubp_sql(*arguments: str | Path) -> Result:
    """The command's outcome; an exception that is not an exit fails the test as itself."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(*arguments: str | Path) -> str:
    """What a command that must go well prints."""
    result = ubp_sql(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def document(*arguments: str | Path) -> Any:
    """What a command prints for machines: one JSON document and nothing else on either stream."""
    result = ubp_sql(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def refusal(*arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, SQLSTATE, message with its hint) of a command that must fail: one line of cause, one of way out."""
    result = ubp_sql(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("· ")]
    assert result.exit_code != 0, result.stdout
    assert result.stdout == ""
    assert len(lines) == 2, result.stderr
    head, _, message = lines[0].partition(": ")
    assert head.startswith("error "), lines[0]
    assert lines[1].startswith("hint: "), lines[1]
    assert "Traceback" not in result.stderr
    return result.exit_code, head.removeprefix("error "), f"{message} {lines[1]}"
