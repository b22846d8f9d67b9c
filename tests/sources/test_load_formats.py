"""Formats beyond CSV in gzip: TSV, Zstandard, Parquet; folders, the standard input, several files; odd times."""

import io
import json
import sys
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner, Result

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write
from tests.sources.test_load_cli import app, run
from ubp_sql.errors import InstallError, MapError, SourceError
from ubp_sql.sources.packed import unpacked

pa = pytest.importorskip("pyarrow")

TEXT = "who,at,what\n1,2024-01-01,view\n2,2024-01-02,cart\n"
BOTH = [(1, "view"), (2, "cart")]
CLI_MAP = "source: s\nformat: csv\nuser: who\nevent_time: at\nkind: what\n"


def parquet(directory: Path, name: str = "e.parquet", row_group_size: int | None = None, **columns: Any) -> Path:
    """A Parquet file of at least the columns who, at, what."""
    import pyarrow.parquet

    usual = {"who": ["1", "2"], "at": ["2024-01-01", "2024-01-02"], "what": ["view", "cart"]}
    table = pa.table({**usual, **columns})
    pyarrow.parquet.write_table(table, directory / name, row_group_size=row_group_size)
    return directory / name


def parquet_map(directory: Path, **fields: Any) -> Any:
    return make_map(directory, format="parquet", **fields)


def test_tsv(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, 'who\tat\twhat\n1\t2024-01-01\t"a\tb"\n', format="tsv")
    assert events(db) == [(1, "a\tb")]


@pytest.mark.parametrize("content", [TEXT.encode(), TEXT.replace("\n", "\r\n").encode(), TEXT.encode("utf-8-sig")])
def test_zstd(db: Database, tmp_path: Path, content: bytes) -> None:
    frames = zstandard.compress(content[:20]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(content[20:])
    load(db, write(tmp_path, frames, "e.csv.zst"), make_map(tmp_path))
    assert events(db) == BOTH
    assert load(db, write(tmp_path, content), make_map(tmp_path)).known_since  # the same content, plain


LONG = zstandard.ZstdCompressor(write_checksum=True).compress(
    "".join(["who,at,what\n", *(f"{n},2024-01-01,view{n}\n" for n in range(9999))]).encode()
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LONG[:-1], "truncated at line 10001"),
        (LONG[: len(LONG) // 2], "truncated at line "),
        (LONG[:5], "truncated at line 1;"),
        (LONG[:900] + b"\xff" * 900 + LONG[1800:], "damaged after line"),
        (LONG + b"rubbish", "damaged after line 10000"),
        (zstandard.compress(b""), "holds no line"),
        (TEXT.encode(), "is not zstd although its name ends in .zst"),
        (zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=28)).compress(
            bytes(300 << 20)), "damaged after line 0"),
    ],
)  # fmt: skip
def test_zstd_that_is_refused(db: Database, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "e.csv.zst"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        load(db, path, make_map(tmp_path))
    assert message in caught.value.message
    assert caught.value.hint
    assert db.one("select count(*) from ubp.loads") == 0


def test_a_bomb_comes_in_pieces() -> None:
    packed = zstandard.compress(bytes(100 << 20))
    sizes = [len(piece) for piece in unpacked("zstd", io.BytesIO(packed).read, 1 << 20)]
    assert sum(sizes) == 100 << 20
    assert max(sizes) == 1 << 20


def test_parquet_columns_have_their_types(db: Database, tmp_path: Path) -> None:
    at = datetime(2024, 7, 1, 12, 0, 0, 123456)
    path = parquet(
        tmp_path,
        who=pa.array([17850.0, 2.0]),
        at=pa.array([at, at], pa.timestamp("us")),
        ns=pa.array([1_719_835_200_123_456_789] * 2, pa.timestamp("ns", "Europe/London")),
        what=pa.array(["view", "cart"]).dictionary_encode(),
        n=pa.array([2, None], pa.int32()),
        big=pa.array([2**64 - 1, 1], pa.uint64()),
        price=pa.array([Decimal("1.10"), Decimal("2.20")]),
        small=pa.array([0.1, None], pa.float32()),
        half=pa.array([0.5, 1], pa.float32()).cast(pa.float16()),
        day=pa.array([19000, 19001], pa.date32()),
        clock=pa.array([time(1, 2, 3), None]),
        took=pa.array([timedelta(seconds=90), None], pa.duration("ms")),
        tags=pa.array([[1, 2], None]),
        of=pa.array([{"a": "x"}, None]),
        flag=pa.array([True, None]),
        old=pa.array([b"bytes", b""]),
        empty=pa.array(["", None]),
    )
    attributes = {name: name for name in ("big", "half", "day", "clock", "tags", "of", "flag", "old", "empty", "small")}
    load_map = parquet_map(
        tmp_path, value="n * price", quantity="small", duration_s="extract(epoch from took)", time_zone="Europe/London",
        ingested_at="ns", attributes=attributes,
    )  # fmt: skip
    assert load(db, path, load_map).loaded == 2
    got = events(db, "user_id, event_time at time zone 'UTC', value, quantity, duration_s, attributes, ingested_at")
    assert got[0][:5] == (17850, datetime(2024, 7, 1, 11, 0, 0, 123456), 2.2, pytest.approx(0.1), 90.0)
    assert got[0][5] == {
        "big": 2**64 - 1, "half": 0.5, "day": "2022-01-08", "clock": "01:02:03", "tags": [1, 2], "of": {"a": "x"},
        "flag": True, "old": "bytes", "empty": "", "small": 0.1,
    }  # fmt: skip
    assert got[0][6] == datetime(2024, 7, 1, 12, 0, 0, 123457, tzinfo=UTC)
    assert got[1][2] is None
    assert got[1][5] == {"big": 1, "half": 1, "day": "2022-01-09", "old": ""}


def test_parquet_rows_that_cannot_be_used(db: Database, tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        who=["1", "2", "3\0", "4", "5"],
        at=pa.array([0, None, 1, 2**50, 3], pa.timestamp("s")),
        what=pa.array([b"view", b"cart", b"a", b"b", b"\xff"]),
    )
    result = load(db, path, parquet_map(tmp_path))
    assert (result.read, result.loaded) == (5, 1)
    assert [(line, reason) for line, reason, _ in rejected(db)] == [
        (2, "no event time"),
        (3, "who: contains a NUL character"),
        (4, "at: time is outside of the years 1 to 9999"),
        (5, "what: not valid utf-8"),
    ]
    assert json.loads(rejected(db)[3][2])["who"] == "5"


def test_parquet_comes_in_parts(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.sources.rows.BATCH_ROWS", 7)
    monkeypatch.setattr("ubp_sql.sources.rows.PART_ROWS", 20)
    many: dict[str, Any] = {"who": [str(n) for n in range(100)], "at": ["2024-01-01"] * 100, "what": ["v"] * 100}
    path = parquet(tmp_path, row_group_size=30, **many)
    load_map = parquet_map(tmp_path)
    with db.connect() as conn:
        from ubp_sql.sources.load import Progress, load_file

        def stop(step: Progress) -> None:
            if step.kept >= 40:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load_file(conn, path, load_map, progress=stop)
    kept = len(events(db))
    result = load(db, path, load_map)
    assert kept == result.already == result.continued_line > 0
    assert [user for user, _ in events(db)] == list(range(100))
    assert load(db, path, load_map).known_since


@pytest.mark.parametrize("spoil", ["cut", "tail", "middle", "magic", "empty", "text"])
def test_parquet_that_is_refused(db: Database, tmp_path: Path, spoil: str) -> None:
    path = parquet(tmp_path, who=[str(n) for n in range(5000)], at=["2024-01-01"] * 5000, what=["v"] * 5000)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[: len(data) // 2], "tail": data[:-9] + b"\xff" * 9, "magic": data[4:], "empty": b"",
            "middle": data[:100] + b"\xff" * (len(data) // 2) + data[100 + len(data) // 2 :], "text": TEXT.encode(),
        }[spoil]
    )  # fmt: skip
    with pytest.raises(SourceError) as caught:
        load(db, path, parquet_map(tmp_path))
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert events(db) == []


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ubp_sql.sources.parquet import ParquetRows

    path = parquet(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InstallError, match="takes pyarrow, which is not installed") as caught:
        ParquetRows(path, "e.parquet")
    assert "pip install" in (caught.value.hint or "")


def test_a_time_that_is_a_number_is_explained(db: Database, tmp_path: Path) -> None:
    path = parquet(tmp_path, at=[1, 2])
    with pytest.raises(MapError) as caught:
        load(db, path, parquet_map(tmp_path))
    assert "to_timestamp(x / 1000.0)" in (caught.value.hint or "")
    with pytest.raises(SourceError, match=r"is a Parquet file"):
        load(db, path, make_map(tmp_path))


@pytest.mark.parametrize(
    ("expression", "text", "zone", "utc"),
    [
        ("to_timestamp(at::numeric)", "1704067200.5", "UTC", "2024-01-01 00:00:00.5"),
        ("to_timestamp(at::numeric / 1000)", "1704067200025", "UTC", "2024-01-01 00:00:00.025"),
        ("to_timestamp(at::numeric / 1000)", "17040672000250000", "UTC", None),
        ("to_timestamp(at::numeric)", "1e300", "UTC", None),
        ("to_timestamp(at::numeric)", "NaN", "UTC", None),
        ("at", "2024-01-01", "America/New_York", "2024-01-01 05:00:00"),
        ("at", "2024-03-31 01:30", "Europe/London", "2024-03-31 01:30:00"),  # the gap: read as the hour before
        ("at", "2024-10-27 01:30", "Europe/London", "2024-10-27 01:30:00"),  # twice: the second, standard time
        ("at", "294276-12-31", "UTC", None),
        ("at", "294277-01-01", "UTC", None),
        ("at", "-infinity", "UTC", None),
        ("at", "0000-00-00", "UTC", None),
        ("at", "now", "UTC", "now"),
    ],
)
def test_times(db: Database, tmp_path: Path, expression: str, text: str, zone: str, utc: str | None) -> None:
    content = f"who,at,what\n1,{text},view\n"
    result = load_csv(db, tmp_path, content, event_time=expression, time_zone=zone)
    assert (result.loaded, result.rejected) == ((0, 1) if utc is None else (1, 0))
    if utc not in (None, "now"):
        assert db.one("select event_time at time zone 'UTC' = %s::timestamp from ubp.events", utc)


def test_a_folder_and_several_files(db: Database, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(CLI_MAP)
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder, TEXT, "b.csv")
    write(folder, zstandard.compress(b"who,at,what\n3,2024-01-01,v\n"), "a.csv.zst")
    write(folder, "who,at,what\n4,2024-01-01,v\n,2024-01-01,v\n", "c.csv.gz")
    write(folder, "read me", "README.md")
    (folder / "below").mkdir()
    first = run(folder, "--map", tmp_path / "m.yaml", "--dsn", db.dsn)
    assert first.exit_code == 0
    assert [user for user, _ in events(db)] == [3, 1, 2, 4]
    assert "3 files: 4 loaded + 1 rejected + 0 already there = 5 read" in first.stdout
    assert "README.md is left out" in first.stderr
    assert "below is left out" in first.stderr
    assert db.one("select count(*) from ubp.loads") == 3
    (folder / "b2.csv.gz").write_bytes(b"\x1f\x8b broken")
    again = run(folder, folder / "b.csv", "--map", tmp_path / "m.yaml", "--dsn", db.dsn, "--json")
    found = json.loads(again.stdout)
    assert again.exit_code == 3
    assert found["total"] == {"read": 7, "loaded": 0, "rejected": 1, "already": 6}
    assert [file["file"] for file in found["failed"]] == [str(folder / "b2.csv.gz")]
    assert len(found["files"]) == 4
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = run(empty, "--map", tmp_path / "m.yaml", "--dsn", db.dsn)
    assert refused.exit_code == 3
    assert "holds no file of format csv" in refused.stderr


def test_the_standard_input(db: Database, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(CLI_MAP)

    def piped(data: bytes) -> Result:
        return CliRunner().invoke(app, ["-", "--map", str(tmp_path / "m.yaml"), "--dsn", db.dsn], input=data)

    assert "-: 2 loaded" in piped(TEXT.encode()).stdout
    assert events(db) == BOTH
    assert "nothing was added" in piped(zstandard.compress(TEXT.encode())).stdout
    nothing = piped(b"")
    assert nothing.exit_code == 3
    assert "error UB012: - is empty" in nothing.stderr
    assert run("-", tmp_path, "--map", tmp_path / "m.yaml", "--dsn", db.dsn).exit_code == 2
    assert run("--dsn", db.dsn).exit_code == 2


def test_a_load_is_taken_back_from_the_command_line(db: Database, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(CLI_MAP)
    assert run(write(tmp_path, TEXT), "--map", tmp_path / "m.yaml", "--dsn", db.dsn).exit_code == 0
    assert "2 of 2 rows deleted in a dry run" in run("--undo", "1", "--dry-run", "--dsn", db.dsn).stdout
    assert json.loads(run("--undo", "1", "--dsn", db.dsn, "--json").stdout)["deleted"] == 2
    assert run("--undo", "1", "--dsn", db.dsn).exit_code == 2
    assert run("--undo", "1", tmp_path, "--dsn", db.dsn).exit_code == 2
    assert events(db) == []
