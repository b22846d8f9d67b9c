"""Every reason for which a row is rejected, with its line and raw text; the rows around it are loaded."""

from pathlib import Path
from typing import Any

import pytest

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write

HEADER = "who,at,what,item,n\n"
GOOD = "1,2024-01-01 10:00:00,view,A,1\n"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",2024-01-01,view,A,1", "no user key"),
        ("   ,2024-01-01,view,A,1", "no user key"),
        ("x" * 1001 + ",2024-01-01,view,A,1", "user key is longer than 1000 bytes"),
        ("1,,view,A,1", "no event time"),
        ("1,infinity,view,A,1", "event time is not finite"),
        ("1,-infinity,view,A,1", "event time is not finite"),
        ("1,1899-12-31 23:59:59,view,A,1", "event time is outside 1900..2300"),
        ("1,2300-01-01,view,A,1", "event time is outside 1900..2300"),
        ("1,294276-12-31,view,A,1", "event time is outside 1900..2300"),
        ("1,2299-12-31,view,A,1", "event time is in the future"),
        ("1,2024-02-30,view,A,1", 'event_time: date/time field value out of range: "2024-02-30"'),
        ("1,01/02/2024 x,view,A,1", "event_time: invalid input syntax for type timestamp with time zone"),
        ("1,yesterday at noon,view,A,1", "event_time: invalid input syntax"),
        ("1,2024-01-01,,A,1", "no kind"),
        ("1,2024-01-01,view," + "A" * 1001 + ",1", "item key is longer than 1000 bytes"),
        ("1,2024-01-01,view,A,NaN", "quantity is NaN or infinite"),
        ("1,2024-01-01,view,A,-Infinity", "quantity is NaN or infinite"),
        ("1,2024-01-01,view,A,many", 'quantity: invalid input syntax for type real: "many"'),
        ("1,2024-01-01,view,A,1e39", "out of range for type real"),
        ("1,2024-01-01,view,A", "wrong number of columns (5 expected, 4 found)"),
        ("1,2024-01-01,view,A,1,", "wrong number of columns (5 expected, 6 found)"),
        (" ", "wrong number of columns (5 expected, 1 found)"),
    ],
)
def test_reasons(db: Database, tmp_path: Path, row: str, reason: str) -> None:
    result = load_csv(db, tmp_path, HEADER + GOOD + row + "\n" + GOOD, item="item", quantity="n")
    assert (result.read, result.loaded, result.rejected) == (3, 2, 1)
    [(line, found, raw)] = rejected(db)
    assert (line, raw) == (3, row)
    assert reason in found
    assert sum(result.rejected_by_reason.values()) == 1
    assert len(events(db)) == 2


def test_value_and_duration(db: Database, tmp_path: Path) -> None:
    content = HEADER + "1,2024-01-01,view,NaN,1\n1,2024-01-01,view,1,inf\n1,2024-01-01,view,2,3\n"
    load_csv(db, tmp_path, content, value="item", duration_s="n")
    assert [(line, reason) for line, reason, _ in rejected(db)] == [
        (2, "value is NaN or infinite"),
        (3, "duration_s is NaN or infinite"),
    ]
    assert events(db, "value, duration_s") == [(2.0, 3.0)]


def test_no_rule_of_kind_matches(db: Database, tmp_path: Path) -> None:
    rules = [{"big": "n::int > 5"}, {"small": "n::int > 2"}]
    content = HEADER + "".join(f"1,2024-01-01,x,A,{n}\n" for n in ("9", "3", "1", ""))
    result = load_csv(db, tmp_path, content, kind=rules)
    assert [kind for _, kind in events(db)] == ["big", "small"]
    assert result.rejected_by_reason == {"no rule of kind matches": 2}


def test_future_is_allowed_where_the_map_says_so(db: Database, tmp_path: Path) -> None:
    assert load_csv(db, tmp_path, HEADER + "1,2299-12-31,view,A,1\n", allow_future=True).loaded == 1


def test_a_day_ahead_is_a_clock_not_the_future(db: Database, tmp_path: Path) -> None:
    ahead = db.one("select (now() + interval '23 hours')::text")
    assert load_csv(db, tmp_path, HEADER + f"1,{ahead},view,A,1\n").loaded == 1


def test_not_valid_utf8_and_nul(db: Database, tmp_path: Path) -> None:
    rows = b"1,2024-01-01,caf\xe9,A,1\n1,2024-01-01,vi\x00ew,A,1\n1,2024-01-01,caf\xc3\xa9,A,1\n"
    result = load_csv(db, tmp_path, HEADER.encode() + rows)
    assert rejected(db) == [
        (2, "not valid utf-8", "1,2024-01-01,caf\\xe9,A,1"),
        (3, "contains a NUL character", "1,2024-01-01,vi\\x00ew,A,1"),
    ]
    assert result.loaded == 1
    assert [kind for _, kind in events(db)] == ["café"]


def test_not_valid_in_another_encoding(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, HEADER.encode() + b"1,2024-01-01,\x81,A,1\n1,2024-01-01,\xe9,A,1\n", encoding="cp1252")
    assert rejected(db) == [(2, "not valid cp1252", "1,2024-01-01,\\x81,A,1")]
    assert [kind for _, kind in events(db)] == ["é"]


def test_a_quote_that_is_never_closed_costs_its_line_only(db: Database, tmp_path: Path) -> None:
    content = HEADER + GOOD + '1,2024-01-01,"view,A,1\n' + GOOD * 3
    result = load_csv(db, tmp_path, content)
    assert rejected(db) == [(3, "a quote is not closed", '1,2024-01-01,"view,A,1')]
    assert result.loaded == 4


def test_a_quote_that_is_never_closed_in_a_long_file(db: Database, tmp_path: Path) -> None:
    """The csv module gives up after 128 kB of one field; the lines it swallowed are read again."""
    content = HEADER + GOOD + '1,2024-01-01,"view,A,1\n' + GOOD * 50_000
    result = load_csv(db, tmp_path, content)
    assert result.loaded == 50_001
    [(line, reason, _)] = rejected(db)
    assert (line, reason[:21]) == (3, "a quote is not closed")


def test_a_carriage_return_inside_a_value(db: Database, tmp_path: Path) -> None:
    result = load_csv(db, tmp_path, HEADER + "1,2024-01-01,vi\rew,A,1\n" + GOOD)
    assert result.loaded == 1
    assert rejected(db)[0][:2] == (2, "a carriage return inside a value without quotes")


def test_json_lines(db: Database, tmp_path: Path) -> None:
    lines = [
        '{"u": 1, "events": [{"k": "a", "t": "2024-01-01"}, {"k": "b", "t": "x"}, {"k": "c", "t": "2024-01-03"}]}',
        "{not json}",
        "",
        '{"u": 2}',
        '{"u": 3, "events": {"k": "a"}}',
        "[1, 2]",
        "5",
        '{"u": 4, "events": []}',
        '{"u": 5, "events": [null, {"k": "a\\u0000", "t": "2024-01-01"}]}',
        '{"u": 6, "events": [null]}',
        '{"u": 7, "events": [{"k": "z", "t": "2024-01-02"}]}',
    ]
    fields: dict[str, Any] = {"format": "jsonl", "records": "events", "user": "doc->>'u'"}
    load_map = make_map(tmp_path, **fields, event_time="record->>'t'", kind="record->>'k'")
    result = load(db, write(tmp_path, "\n".join(lines), "e.jsonl"), load_map)
    assert events(db) == [(1, "a"), (1, "c"), (7, "z")]
    found = [(line, reason.partition(":")[0], raw) for line, reason, raw in rejected(db)]
    assert found == [
        (1, "event_time", '{"u": 1, "events": [{"k": "b", "t": "x"}]}'),
        (2, "not valid JSON", "{not json}"),
        (4, "no array at events", '{"u": 2}'),
        (5, "no array at events", '{"u": 3, "events": {"k": "a"}}'),
        (6, "no array at events", "[1, 2]"),
        (7, "no array at events", "5"),
        (9, "not valid JSON", lines[8]),
        (10, "no event time", '{"u": 6, "events": [null]}'),
    ]
    assert result.read == 11


def test_json_lines_without_records(db: Database, tmp_path: Path) -> None:
    lines = '{"u": "a", "t": 1704067200, "k": "view"}\n[' + "[" * 20_000 + "\n{}\n{'a': 1}\n"
    load_map = make_map(
        tmp_path, format="jsonl", user="doc->>'u'", event_time="to_timestamp((doc->>'t')::bigint)", kind="doc->>'k'"
    )
    result = load(db, write(tmp_path, lines, "e.jsonl"), load_map)
    assert result.loaded == 1
    assert [(line, reason.partition(":")[0]) for line, reason, _ in rejected(db)] == [
        (2, "not valid JSON"),
        (3, "no user key"),
        (4, "not valid JSON"),
    ]


def test_user_keys_stay_integers(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, HEADER + GOOD)
    result = load_csv(
        db, tmp_path, HEADER + "abc,2024-01-01,view,A,1\n007,2024-01-01,view,A,1\n 8.0 ,2024-01-01,view,A,1\n"
    )
    assert result.rejected_by_reason == {"user key is not an integer, as every user key of this source is": 2}
    assert [user for user, _ in events(db)] == [1, 8]


def test_a_file_of_bad_rows_alone_ends_soon(db: Database, tmp_path: Path) -> None:
    rows = "".join(f"1,not a date {n},view,A,1\n" for n in range(30_000))
    result = load_csv(db, tmp_path, HEADER + rows)
    assert (result.loaded, result.rejected) == (0, 30_000)
    assert list(result.rejected_by_reason) == [
        'event_time: invalid input syntax for type timestamp with time zone: "..."'
    ]
    assert result.seconds < 30


NAMES = (
    "t u k e s f n l r d bad doc record judged raw line problem reason field place key ubp_row ubp_field ubp_staging"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_a_column_of_any_name_beside_a_bad_row(db: Database, tmp_path: Path, name: str) -> None:
    """No name that the loader uses for itself may hide a column, or be hidden by one."""
    content = f"who,at,what,{name}\n1,2024-01-01,view,5\n1,not a date,view,5\n"
    result = load_csv(db, tmp_path, content, value=name)
    assert (result.loaded, result.rejected) == (1, 1)
    assert events(db, "value") == [(5.0,)]
    assert rejected(db)[0][1].startswith("event_time: invalid input syntax")
