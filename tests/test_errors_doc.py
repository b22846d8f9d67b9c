"""docs/errors.md is the list of errors that users read: it and the code say the same, both ways."""

import re
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from ubp_sql import errors
from ubp_sql.cli.shared import from_server
from ubp_sql.errors import UbpError

ROOT = Path(__file__).parents[1]
HEADER = ["SQLSTATE", "exit code", "meaning", "cause", "way out"]


class Row(NamedTuple):
    sqlstate: str
    exit_code: int
    meaning: str
    cause: str
    way_out: str


def table() -> list[Row]:
    lines = [line for line in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert header == HEADER
    return [Row(row[0], int(row[1]), *row[2:]) for row in rows]


def classes() -> dict[str, type[UbpError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UbpError)]
    assert len({kind.sqlstate for kind in found}) == len(found), "two classes share a code"
    return {kind.sqlstate: kind for kind in found}


def test_every_class_has_its_row_and_every_row_its_class() -> None:
    described = {row.sqlstate: row.exit_code for row in table() if row.sqlstate.startswith("UB")}
    assert described == {code: kind.exit_code for code, kind in classes().items()}


def test_no_row_comes_twice_and_none_is_empty() -> None:
    rows = table()
    assert len({row.sqlstate for row in rows}) == len(rows)
    for row in rows:
        assert all(len(cell) > 15 for cell in (row.meaning, row.cause, row.way_out)), row.sqlstate
        assert re.fullmatch(r"[0-9A-Z]{5}", row.sqlstate)


def test_the_meaning_is_the_docstring() -> None:
    meanings = {row.sqlstate: row.meaning for row in table()}
    for code, kind in classes().items():
        if kind is not UbpError:
            assert meanings[code] == kind.__doc__


@pytest.mark.parametrize(
    "row", [row for row in table() if not row.sqlstate.startswith("UB")], ids=lambda row: row.sqlstate
)
def test_codes_of_postgresql_exit_as_the_table_says(row: Row) -> None:
    shown = from_server(psycopg.errors.lookup(row.sqlstate)("as the server said it"))
    assert (shown.sqlstate, shown.exit_code) == (row.sqlstate, row.exit_code)


def test_codes_named_in_the_sources_exist() -> None:
    known = {row.sqlstate for row in table()}
    for folder, pattern in (("udfs", "*.sql"), ("ubp_sql", "**/*.py"), ("docs", "*.md")):
        for path in (ROOT / folder).glob(pattern):
            named = set(re.findall(r"\bUB\d{3}\b", path.read_text(encoding="utf-8")))
            assert named <= known, path.name


def test_the_table_covers_what_the_package_raises_by_hand() -> None:
    """plpgsql raises by code: `using errcode = 'UB003'`."""
    raised = set()
    for path in (ROOT / "udfs").glob("*.sql"):
        raised |= set(re.findall(r"errcode = '(\w{5})'", path.read_text(encoding="utf-8")))
    assert raised
    assert raised <= {row.sqlstate for row in table()}
