"""What a file may look like, and which files are refused as a whole: one line, a way out, nothing loaded."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write
from ubp_sql.errors import SourceError
from ubp_sql.sources import lines as lines_module

TEXT = "who,at,what\n1,2024-01-01,view\n2,2024-01-02,cart\n"
BOTH = [(1, "view"), (2, "cart")]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (TEXT, {}),
        (TEXT.rstrip("\n"), {}),
        (TEXT.replace("\n", "\r\n"), {}),
        ("\n\n" + TEXT.replace("\n", "\n\n"), {}),
        ("\ufeff" + TEXT, {}),
        (TEXT.replace(",", ";"), {"delimiter": ";"}),
        (TEXT.replace(",", "\t"), {"delimiter": "\t"}),
        (TEXT.encode("utf-16"), {"encoding": "utf-16"}),
        (TEXT.encode("utf-32-be"), {"encoding": "utf-32-be"}),
        (TEXT.encode("utf-8-sig"), {"encoding": "utf-8-sig"}),
        (TEXT.encode("latin-1"), {"encoding": "latin-1"}),
        (TEXT.encode("ascii"), {"encoding": "ascii"}),
        (TEXT.partition("\n")[2], {"header": ["who", "at", "what"]}),
        (TEXT.partition("\n")[2], {"header": False, "user": "c1", "event_time": "c2", "kind": "c3"}),
        (TEXT.replace("view", "'view'"), {"quote": "'"}),
        ('"who","at","what"\n"1","2024-01-01","view"\n"2","2024-01-02",cart\n', {}),
        ('"w\nho",at,what\n1,2024-01-01,view\n2,2024-01-02,cart\n', {"user": "w_ho"}),
    ],
)
def test_forms_of_csv(db: Database, tmp_path: Path, content: str | bytes, fields: dict[str, Any]) -> None:
    result = load_csv(db, tmp_path, content, **fields)
    assert (result.read, result.rejected) == (2, 0)
    assert events(db) == BOTH


def test_values_come_through_as_they_are(db: Database, tmp_path: Path) -> None:
    """Quoted delimiters, quotes and line ends; separators of Unicode that are no line ends; an empty value is NULL."""
    values = ["a,b", 'say "x"', "two\nlines", "two\r\nlines", "\u2028\x85\x1c\x0b", "ß漢😀", "back\\slash\t", ""]
    body = "".join(f'1,2024-01-01,"{value.replace(chr(34), chr(34) * 2)}"\n' for value in values)
    load_csv(db, tmp_path, f"who,at,what\n{body}", kind="coalesce(what, 'NULL')")
    assert [kind for _, kind in events(db)] == [*values[:-1], "NULL"]


def test_the_line_is_where_the_record_starts(db: Database, tmp_path: Path) -> None:
    content = 'who,at,what\n1,2024-01-01,"a\nb"\n\n,2024-01-01,"c\n\nd"\n,x,y\n'
    load_csv(db, tmp_path, content)
    assert rejected(db) == [(5, "no user key", ',2024-01-01,"c\n\nd"'), (8, "event_time: invalid input syntax for type"
        ' timestamp with time zone: "x"', ",x,y")]  # fmt: skip


def test_quoting_can_be_off(db: Database, tmp_path: Path) -> None:
    path = write(tmp_path, 'who,at,what\n1,2024-01-01,5" pipe\n2,2024-01-01,"cart\n')
    load_map = make_map(tmp_path).model_copy(update={"quote": None})
    load(db, path, load_map)
    assert events(db) == [(1, '5" pipe'), (2, '"cart')]


def test_blocks_and_batches_meet_anywhere(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few bytes: records, multi-byte characters and bad lines on every boundary."""
    rows = [
        f'{n},2024-01-01,"kä{n}\n{n}"\n'.encode() if n % 3 else f",x{n},\xe9\n".encode("latin-1") for n in range(200)
    ]
    path = write(tmp_path, b"who,at,what\r\n" + b"".join(rows))
    monkeypatch.setattr(lines_module, "BLOCK", 16)
    monkeypatch.setattr("ubp_sql.sources.rows.BATCH_ROWS", 5)
    result = load(db, path, make_map(tmp_path))
    good = [n for n in range(200) if n % 3]
    assert (result.read, result.loaded) == (200, len(good))
    assert events(db) == [(n, f"kä{n}\n{n}") for n in good]
    assert [reason for _, reason, _ in rejected(db)] == ["not valid utf-8"] * (200 - len(good))


def test_gzip_is_told_by_its_bytes(db: Database, tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(TEXT.encode()), "events.csv")
    assert load(db, path, make_map(tmp_path)).loaded == 2


@pytest.mark.parametrize("block", [16, 64, 1000])
def test_gzip_of_any_block_size(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Long runs of one byte: a few compressed bytes fill many blocks."""
    content = f"who,at,what\n1,2024-01-01,{'v' * 5000}\n2,2024-01-02,cart\n"
    path = write(tmp_path, gzip.compress(content.encode()) + bytes(40), "events.csv.gz.copy")
    monkeypatch.setattr(lines_module, "BLOCK", block)
    load(db, path, make_map(tmp_path))
    assert events(db) == [(1, "v" * 5000), (2, "cart")]


def test_gzip_of_several_members(db: Database, tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(TEXT.encode()) + gzip.compress(b"3,2024-01-03,buy\n"), "events.csv")
    assert load(db, path, make_map(tmp_path)).loaded == 3


def test_a_header_alone_is_a_file_without_rows(db: Database, tmp_path: Path) -> None:
    result = load_csv(db, tmp_path, "who,at,what\n")
    assert (result.read, result.loaded) == (0, 0)


PACKED = gzip.compress("".join(["who,at,what\n", *(f"{n},2024-01-01,view{n}\n" for n in range(9999))]).encode())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", b"", "is empty"),
        ("e.csv", b"\n\n", "holds no line"),
        ("e.csv.gz", gzip.compress(b""), "holds no line"),
        ("e.csv.gz", TEXT.encode(), "is not gzip although its name ends in .gz"),
        ("e.csv.gz", PACKED[: len(PACKED) // 2], "truncated at line "),
        ("e.csv.gz", PACKED[:-4], "truncated at line 10001"),
        ("e.csv.gz", PACKED[:5], "truncated at line 1;"),
        ("e.csv.gz", PACKED[:900] + b"\xff" * 900 + PACKED[1800:], "damaged after line"),
        ("e.csv.gz", PACKED + b"rubbish", "damaged after line 10000"),
        ("e.csv", b"PK\x03\x04" + bytes(500), "is a zip archive"),
        ("e.csv", b"PAR1" + bytes(500), "is a Parquet file"),
        ("e.csv", bytes(range(256)) * 50, "is not text (binary data)"),
        ("e.csv", b"\x80\x81" + bytes(100), "is not text (binary data)"),
        ("e.csv", TEXT.encode("utf-16"), "looks like UTF-16"),
        ("e.csv", b"who\xe9,at,what\n1,2024-01-01,view\n", "the header is unusable: not valid utf-8"),
        ("e.csv", b'who,at,"what\n1,2024-01-01,view\n', "a quote is not closed"),
        ("e.csv", b"who,at,what\r1,2024-01-01,view\r", "the header cannot be read"),
        ("e.csv", b"a," * 1200 + b"b\n", "1201 columns are more than 1000"),
    ],
)
def test_a_file_that_is_refused(db: Database, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        load(db, path, make_map(tmp_path))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    for table in ("events", "loads", "rejected_events", "users"):
        assert db.one(f"select count(*) from ubp.{table}") == 0


def test_missing_files_and_directories(db: Database, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        load(db, tmp_path / "nothing.csv", make_map(tmp_path))
    with pytest.raises(SourceError, match="is a directory"):
        load(db, tmp_path, make_map(tmp_path))
    with pytest.raises(SourceError, match="cannot be read"):
        load(db, tmp_path / "map.yaml" / "x.csv", make_map(tmp_path))


def test_a_line_without_end(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "BLOCK", 1000)
    monkeypatch.setattr(lines_module, "MAX_LINE", 5000)
    with pytest.raises(SourceError, match="line 4 is longer than"):
        load_csv(db, tmp_path, TEXT + "x" * 9000)
    assert events(db) == []


def test_the_wrong_wide_encoding(db: Database, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not valid utf-16"):
        load_csv(db, tmp_path, TEXT.encode("utf-16") + b"\x00", encoding="utf-16")
    assert events(db) == []


@pytest.mark.parametrize(
    ("text", "encoding", "warned"),
    [
        ("café", "latin-1", True),
        ("café", "cp1252", True),
        ("cafe", "latin-1", False),
        ("café", "utf-8", False),
    ],
)
def test_utf8_read_as_something_else_is_noticed(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str, warned: bool
) -> None:
    monkeypatch.setattr(lines_module, "BLOCK", 5)  # characters are cut in two
    result = load_csv(db, tmp_path, f"who,at,what\n1,2024-01-01,{text}\n", encoding=encoding)
    assert [warning.partition(" is ")[2][:11] for warning in result.warnings] == ["valid UTF-8"] * warned


def test_real_latin1_is_not_suspected(db: Database, tmp_path: Path) -> None:
    result = load_csv(db, tmp_path, "who,at,what\n1,2024-01-01,café\n".encode("latin-1"), encoding="latin-1")
    assert result.warnings == []
