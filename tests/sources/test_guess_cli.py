"""`ubp-sql source guess`, as a person and a script meet it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.cli.running import document, refusal, told, ubp_sql
from tests.sources.test_guess_files import ZOO
from ubp_sql.cli import guess
from ubp_sql.cli.main import app
from ubp_sql.sources.load_map import LoadMap


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    path = tmp_path / "usual.csv"
    path.write_bytes(ZOO["usual.csv"].content)
    return path


def test_the_map_alone_is_on_stdout(usual: Path, tmp_path: Path) -> None:
    text = told("source", "guess", usual)
    assert LoadMap.from_text(text, Path("map")).user == "customer_id"


def test_writes_a_map_and_overwrites_none(usual: Path, tmp_path: Path) -> None:
    target = tmp_path / "map.yaml"
    assert told("source", "guess", usual, "--write", target) == ""
    assert LoadMap.from_file(target).item == "product_id"
    target.write_text("mine")
    assert refusal("source", "guess", usual, "--write", target)[0] == 2
    assert target.read_text() == "mine"
    told("source", "guess", usual, "--write", target, "--force")
    assert "customer_id" in target.read_text()


def test_for_machines(usual: Path) -> None:
    found = document("source", "guess", usual)
    parts = {part["name"]: part for part in found["parts"]}
    assert parts["user"]["value"] == "customer_id"
    assert parts["user"]["sure"] == "sure"
    assert found["open"] == []
    assert found["map"].startswith("# proposed from 400 rows")


def test_what_is_open_is_status_3_and_a_place_in_the_map(tmp_path: Path) -> None:
    path = tmp_path / "no_kind.csv"
    path.write_bytes(ZOO["no_kind.csv"].content)
    result = ubp_sql("source", "guess", path)
    assert result.exit_code == 3
    assert "#   kind: {constant: purchase}" in result.stdout
    assert "error UB012: cannot tell kind from the data" in result.stderr
    assert ubp_sql("source", "guess", path, "--json").exit_code == 3


def test_refusals(tmp_path: Path) -> None:
    assert refusal("source", "guess", tmp_path / "nothing.csv")[:2] == (3, "UB012")
    assert refusal("source", "guess", tmp_path)[:2] == (3, "UB012")


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.csv"
    path.write_text("user,date,event\x1b[31m\n" + "u\x1b]0;x\x07,2024-01-02,view\n" * 20)
    result = ubp_sql("source", "guess", path)
    assert "\x1b" not in result.stdout + result.stderr
    assert "\x07" not in result.stdout + result.stderr


def answered(monkeypatch: pytest.MonkeyPatch, path: Path, *answers: str) -> Result:
    """The runner echoes the answers to stdout, before the map."""
    monkeypatch.setattr(guess, "at_a_terminal", lambda: True)
    return CliRunner().invoke(app, ["source", "guess", str(path)], input="\n".join(answers) + "\n")


def test_a_person_confirms(monkeypatch: pytest.MonkeyPatch, usual: Path) -> None:
    assert "user: customer_id" in answered(monkeypatch, usual, "yes").stdout
    declined = answered(monkeypatch, usual, "no")
    assert declined.exit_code == 1
    assert "source:" not in declined.stdout


def test_a_person_changes_a_line(monkeypatch: pytest.MonkeyPatch, usual: Path) -> None:
    """A wrong expression is refused and asked for again; Enter keeps the others."""
    answers = [
        "edit",
        "lower(customer_id",
        "lower(customer_id)",
        "",
        "{constant: view}",
        "-",
        "",
        "",
        "",
        "",
        "",
        "yes",
    ]
    result = answered(monkeypatch, usual, *answers)
    assert result.exit_code == 0, result.stderr
    assert "not taken: map the map line" in result.stderr
    made = LoadMap.from_text(result.stdout[result.stdout.index("# proposed") :], Path("map"))
    assert (made.user, made.event_time, made.item) == ("lower(customer_id)", "event_time", None)
    assert made.kind.constant == "view"  # type: ignore[union-attr]


def test_a_person_picks_one_of_two_readings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "untold_dates.csv"
    path.write_bytes(ZOO["untold_dates.csv"].content)
    result = answered(monkeypatch, path, "edit", "", "2", *[""] * 7, "yes")
    assert result.exit_code == 0, result.stderr
    assert "event_time: to_timestamp(Date, 'MM/DD/YYYY HH24:MI')" in result.stdout
