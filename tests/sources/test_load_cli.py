"""`ubp-sql load` as a person and a script meet it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.fix_database import Database
from tests.sources.loading import CSV, events, write
from ubp_sql.cli.load import load

app = typer.Typer(pretty_exceptions_enable=False)
app.command("load")(load)

TEXT = "who,at,what\n1,2024-01-01,view\n,2024-01-02,cart\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    path = tmp_path / "map.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in CSV.items()))
    return path


def first_day(db: Database) -> str:
    return str(db.one("select (finished_at at time zone 'UTC')::date::text from ubp.loads"))


def test_what_a_person_sees(db: Database, tmp_path: Path, map_file: Path) -> None:
    path = write(tmp_path, TEXT)
    first = run(path, "--map", map_file, "--dsn", db.dsn)
    assert first.exit_code == 0
    assert "1 loaded + 1 rejected + 0 already there = 2 read" in first.stdout
    assert "rejected 1: no user key" in first.stdout
    again = run(path, "--map", map_file, "--dsn", db.dsn)
    assert f"this content was loaded by load 1 on {first_day(db)}" in again.stdout
    assert "nothing was added (0 loaded + 1 rejected + 1 already there = 2)" in again.stdout
    assert "rows/s" not in again.stdout
    assert again.exit_code == 0


def test_what_a_script_sees(db: Database, tmp_path: Path, map_file: Path) -> None:
    result = run(write(tmp_path, TEXT), "--map", map_file, "--dsn", db.dsn, "--json")
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert (found["read"], found["loaded"], found["rejected"], found["already"]) == (2, 1, 1, 0)
    assert found["rejected_by_reason"] == {"no user key": 1}
    assert found["seconds"] >= 0


def test_a_dry_run_says_so(db: Database, tmp_path: Path, map_file: Path) -> None:
    result = run(write(tmp_path, TEXT), "--map", map_file, "--dsn", db.dsn, "--dry-run")
    assert "1 loaded" in result.stdout
    assert "nothing was kept" in result.stdout
    assert events(db) == []


def test_a_dry_run_shows_the_first_rejected_rows_of_each_reason(db: Database, tmp_path: Path, map_file: Path) -> None:
    bad = "".join(f"{n},{n} o'clock,view [{n}]\n" for n in range(5)) + ",2024-01-01," + "x" * 500 + "\n"
    result = run(write(tmp_path, TEXT + bad), "--map", map_file, "--dsn", db.dsn, "--dry-run")
    assert result.exit_code == 0
    assert [line.strip() for line in result.stdout.splitlines()[1:-1]] == [
        'rejected 5: event_time: invalid input syntax for type timestamp with time zone: "..."',
        "line 4: 0,0 o'clock,view [0]",
        "line 5: 1,1 o'clock,view [1]",
        "line 6: 2,2 o'clock,view [2]",
        "rejected 2: no user key",
        "line 3: ,2024-01-02,cart",
        "line 9: ,2024-01-01," + "x" * 188 + "...",
    ]


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_nothing_loaded_and_something_rejected_is_an_error(
    db: Database, tmp_path: Path, map_file: Path, json_option: list[str]
) -> None:
    path = write(tmp_path, "who,at,what\n,2024-01-01,view\n")
    result = run(path, "--map", map_file, "--dsn", db.dsn, *json_option)
    assert result.exit_code == 3
    assert ("hint: no row could be loaded" in result.stderr) == (not json_option)


def test_a_superuser_with_a_map_that_did_not_ship_is_warned(db: Database, tmp_path: Path, map_file: Path) -> None:
    path = write(tmp_path, TEXT)
    assert "warning: the map's expressions ran with all rights" in run(path, "--map", map_file, "--dsn", db.dsn).stderr
    role = f"cli_of_{db.name}"
    db.execute(f"create role {role} login in role ubp_loader")
    try:
        assert run(path, "--map", map_file, "--dsn", f"{db.dsn} user={role}").stderr == ""
    finally:
        db.execute(f"drop role {role}")


def test_a_doubtful_encoding_is_a_warning(db: Database, tmp_path: Path, map_file: Path) -> None:
    map_file.write_text(map_file.read_text() + "encoding: latin-1\n")
    result = run(write(tmp_path, TEXT + "1,2024-01-01,café\n"), "--map", map_file, "--dsn", db.dsn)
    assert "is valid UTF-8, read as iso8859-1: is encoding right?" in result.stderr


def test_late_data(db: Database, tmp_path: Path, map_file: Path) -> None:
    assert run(write(tmp_path, TEXT), "--map", map_file, "--dsn", db.dsn, "--ingested", "now").exit_code == 0
    assert db.one("select ingested_at > now() - interval '1 hour' from ubp.events")
    assert run(write(tmp_path, TEXT), "--map", map_file, "--dsn", db.dsn, "--ingested", "later").exit_code == 2


@pytest.mark.parametrize(
    ("file", "map_name", "code", "sqlstate"),
    [
        ("missing.csv", "map.yaml", 3, "UB012"),
        ("events.csv", "missing.yaml", 2, "UB008"),
        ("events.csv", "online_retail", 2, "UB008"),
    ],
)
def test_errors_are_one_line_a_hint_and_an_exit_code(
    db: Database, tmp_path: Path, map_file: Path, file: str, map_name: str, code: int, sqlstate: str
) -> None:
    write(tmp_path, TEXT)
    named = map_name if map_name == "online_retail" else str(tmp_path / map_name)
    result = run(tmp_path / file, "--map", named, "--dsn", db.dsn)
    assert result.exit_code == code
    first, second = result.stderr.strip().split("\n")
    assert first.startswith(f"error {sqlstate}: ")
    assert second.startswith("hint: ")


def test_a_database_that_is_not_there(tmp_path: Path, map_file: Path) -> None:
    result = run(write(tmp_path, TEXT), "--map", map_file, "--dsn", f"host={tmp_path} connect_timeout=2")
    assert result.exit_code not in (0, 1)
    assert result.stderr.startswith("error ")


def test_ctrl_c_says_what_is_in(db: Database, tmp_path: Path, map_file: Path) -> None:
    path = write(tmp_path, "who,at,what\n" + "".join(f"{n},2024-01-01,view\n" for n in range(400_000)))
    code = "from tests.sources.test_load_cli import app; app()"
    command = [sys.executable, "-c", code, str(path), "--map", str(map_file), "--dsn", db.dsn]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    for _ in range(600):
        if db.one(
            "select count(*) from pg_stat_activity where datname = %s and query like 'insert into pg_temp.ubp_typed%%'",
            db.name,
        ):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    kept = db.one("select coalesce(sum(rows_loaded), 0) from ubp.loads")
    assert len(events(db)) == kept
    assert not kept or f"{kept:,} rows of {path} up to line" in stderr
