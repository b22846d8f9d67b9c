"""What commands print of rows: a line a column of one row, a table of several, nothing cut off."""

import io
from typing import Any

import pytest
from rich.console import Console

from tests.cli.running import refusal, told
from tests.fix_database import Database
from ubp_sql.cli import run_jobs

LONG = " ".join(f"word{n}" for n in range(60))
ROW = {"feature_set_name": "default", "seconds": 1.23456, "removed": None, "rows": 12345, "detail": LONG}


def printed(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], **console: Any) -> list[str]:
    file = io.StringIO()
    monkeypatch.setattr(run_jobs, "out", Console(file=file, soft_wrap=True, highlight=False, **console))
    run_jobs.print_rows(rows, False)
    return file.getvalue().splitlines()


def test_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, [ROW])
    assert lines == [
        "feature_set_name  default",
        "seconds           1.235",
        "removed",
        "rows              12345",
        f"detail            {LONG}",
    ]


def test_one_row_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, [ROW], force_terminal=True, width=60, color_system=None)
    assert max(map(len, lines)) <= 60
    assert len(lines) > 9
    assert all(line.startswith(" " * 18 + "word") for line in lines[5:])
    assert " ".join(line[18:] for line in lines[4:]) == LONG


def test_rows_that_hold_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ({}, {"force_terminal": True, "width": 80, "color_system": None}):
        assert printed(monkeypatch, [{"detail": "[bold]x[/bold] [/no]"}], **form) == ["detail  [bold]x[/bold] [/no]"]


def test_several_rows_are_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed(monkeypatch, [ROW, {**ROW, "feature_set_name": "[bold] [/no]"}])
    table = capsys.readouterr().out
    assert table.count(LONG) == 2
    assert "[bold] [/no]" in table
    assert table.count("feature_set_name") == 1


def test_a_dry_run(db: Database) -> None:
    db.execute("insert into ubp.events (user_id, event_time, kind) values (1, '2024-05-05', 'view')")
    lines = told("refresh", "--dry-run", "--dsn", db.dsn).splitlines()
    assert lines[0] == "feature_set_name  default"
    assert lines[-1].startswith("detail            dry run: ")


def test_a_set_that_does_not_exist(db: Database) -> None:
    hint = "hint: there is none yet; ubp.define_feature_set makes one"
    for sets in (["own", "other"], []):
        for command in (["features", "list"], ["features", "export"], ["refresh"], ["train", "view"]):
            code, state, text = refusal(*command, "--feature-set", "nope", "--dsn", db.dsn)
            assert (code, state) == (4, "UB005")
            assert text == f"there is no feature set 'nope' {hint}"
        for name in sets:
            db.execute("select ubp.define_feature_set(%s, array['view'])", name)
        hint = "hint: there are: other, own; ubp.define_feature_set makes one"
