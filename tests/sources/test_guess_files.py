"""What a look at a file proposes: its parts, and what it leaves open."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fix_database import DATA
from tests.sources.guess_zoo import zoo
from ubp_sql.errors import UbpError
from ubp_sql.sources.guess import FileGuess, guess_file
from ubp_sql.sources.load_map import LoadMap

ZOO = {animal.file: animal for animal in zoo()}


def looked_at(directory: Path, content: bytes | str, name: str = "events.csv") -> FileGuess:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return guess_file(path)


def values(guess: FileGuess) -> dict[str, Any]:
    return {part.name: part.value for part in guess.parts} | {"keys": guess.keys}


@pytest.mark.parametrize("file", ZOO)
def test_finds_the_parts_or_leaves_them_open(tmp_path: Path, file: str) -> None:
    animal = ZOO[file]
    guess = looked_at(tmp_path, animal.content, file)
    found = values(guess)
    assert {name: found[name] for name in animal.parts} == animal.parts
    assert guess.settings == animal.settings
    assert guess.format == {"tabs.tsv": "tsv", "ratings.csv": "tsv"}.get(file, "jsonl" if ".jsonl" in file else "csv")
    open_ones = [name for name in ("user", "event_time", "kind") if name in animal.parts and animal.parts[name] is None]
    assert [name for name in guess.open if name in animal.parts] == open_ones
    for name in open_ones:
        assert next(part for part in guess.parts if part.name == name).why
        assert f"# {name}: ?   cannot tell: " in guess.map_text()


def test_otto_as_the_shipped_map() -> None:
    path = DATA / "otto_sample.jsonl"
    if not path.exists():
        pytest.skip("the sample is not beside the checkout")
    guess, shipped = guess_file(path), LoadMap.from_file("otto")
    found = values(guess)
    assert guess.settings == {"records": shipped.records}
    assert (found["user"], found["event_time"], found["item"]) == (shipped.user, shipped.event_time, shipped.item)
    assert found["kind"] == "record->>'type'"  # the shipped map names the same kinds view, cart, purchase


def test_looks_beyond_the_beginning(tmp_path: Path) -> None:
    """The first 4 MB have no day above 12; a place further on has."""
    early = "".join(f"u{n % 50},{1 + n % 12:02}/{1 + n % 12:02}/2024,view\n" for n in range(210_000))
    late = "".join(f"u{n % 50},{13 + n % 10}/05/2024,view\n" for n in range(210_000))
    for name in ("plain.csv", "packed.csv.gz"):
        data = ("user,date,event\n" + early + late).encode()
        guess = looked_at(tmp_path, gzip.compress(data, 1) if name.endswith("gz") else data, name)
        assert values(guess)["event_time"] == "to_timestamp(date, 'DD/MM/YYYY')"
        assert guess.rows < 40_000


def test_dates_that_contradict_each_other_are_left_open(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 9},{13 + n % 9}/02/2024,view\nu{n % 9},02/{13 + n % 9}/2024,view\n" for n in range(50))
    guess = looked_at(tmp_path, "user,date,event\n" + rows)
    assert guess.open == ["event_time"]
    assert "some dates can only be read day first" in guess.map_text()


def test_the_order_of_the_rows_tells_day_from_month(tmp_path: Path) -> None:
    rows = "".join(f"u{day},{day:02}/{month:02}/2024,view\n" for month in (3, 4) for day in range(1, 13))
    guess = looked_at(tmp_path, "user,date,event\n" + rows)
    assert values(guess)["event_time"] == "to_timestamp(date, 'DD/MM/YYYY')"
    assert "in the order of time" in guess.map_text()


def test_a_total_of_the_order_is_not_counted_in_each_of_its_rows(tmp_path: Path) -> None:
    rows = "".join(f"{n // 4},c{n % 9},2024-01-{1 + n % 28:02},s{n},{100 + n // 4}\n" for n in range(100))
    guess = looked_at(tmp_path, "order_id,customer,date,sku,total\n" + rows)
    assert values(guess)["value"] is None
    assert "repeated in each of its rows" in guess.map_text()


def test_people_are_not_copied_into_attributes(tmp_path: Path) -> None:
    rows = "".join(
        f"{n % 9},2024-01-{1 + n % 28:02},view,{n % 3}@example.org,{'GB' if n % 2 else 'DE'}\n" for n in range(99)
    )
    guess = looked_at(tmp_path, "customer,date,event,e-mail,country\n" + rows)
    assert guess.attributes == {"country": "country"}


def test_a_constant_column_and_a_header_alone(tmp_path: Path) -> None:
    assert set(looked_at(tmp_path, "customer,date,event\n").open) == {"user", "event_time", "kind"}
    assert looked_at(tmp_path, "x\n").open


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n\n", "holds no line"),
        (b"PK\x03\x04aaaa", "a zip archive"),
        (bytes(range(256)) * 40, "is not text"),
        (b"\x1f\x8b\x08\x00broken", "is damaged"),
        (b"PAR1 and then nothing", "Parquet"),
        (b'[{"user": 1}, {"user": 2}]', "is one JSON array"),
        (b'{\n "user": 1\n}', "no line of it is a JSON object"),
        (b"a,b\r1,2\r3,4\r", "carriage return alone"),
        (b",".join([b"x"] * 2000) + b"\n", "columns, more than"),
    ],
)
def test_what_is_no_log_is_refused_with_a_way_out(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(UbpError, match=problem) as caught:
        looked_at(tmp_path, content)
    assert caught.value.hint


def test_half_a_file_is_enough(tmp_path: Path) -> None:
    packed = gzip.compress(ZOO["usual.csv"].content * 50)
    guess = looked_at(tmp_path, packed[: len(packed) // 2], "half.csv.gz")
    assert values(guess)["user"] == "customer_id"
    assert any("damaged" in note for note in guess.notes)


FRAGMENTS = [
    *(
        b"user",
        b"user_id",
        b"date",
        b"event",
        b"price",
        b"view",
        b"C1",
        b"1",
        b"-",
        b"1,5",
        b"2024-01-02",
        b"03/04/2024",
    ),
    *(b"NULL", b"NaN", b"1e999", b"99999999999999999999", b"12:30", b"$", b"00", b"+", b"\xff", b"\x00", b"\xc3\xa9"),
    *(b",", b";", b"\t", b"|", b"\n", b"\r\n", b'"', b"'", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"'';"),
    *(b"{", b"}", b"[", b'{"a":', b"#", b": ", b"\\", b'{"user":1,"ts":1700000000,"events":[{"type":"view"}]}\n'),
]
FILES = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map(b"".join))


@settings(deadline=None)
@given(FILES, st.booleans())
def test_no_bytes_make_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(zlib.compress(content, wbits=31) if packed else content)
    try:
        guess = guess_file(path)
    except UbpError:
        return
    text = guess.map_text()
    assert all(line.isprintable() for line in text.splitlines())
    if not guess.open:
        LoadMap.from_text(text, Path("map"))


def test_how_sure_it_is_falls_with_what_speaks_against(tmp_path: Path) -> None:
    def sure(lines: list[str]) -> str:
        guess = looked_at(tmp_path, "\n".join(["customer_id,date,event", *lines]))
        return next(part.sure for part in guess.parts if part.name == "user")

    assert sure([f"{n % 30},2024-01-02,view" for n in range(90)]) == "sure"
    assert sure([f"{n},2024-01-02,view" for n in range(90)]) == "a guess"  # as many customers as rows
    assert sure([f"{n % 5 if n % 3 == 0 else ''},2024-01-02,view" for n in range(90)]) == "likely"  # most have none


def test_a_column_beside_the_event_is_not_taken_for_lack_of_a_better_one(tmp_path: Path) -> None:
    rows = "".join(f"{n % 9},19{60 + n % 40}-03-{13 + n % 9},{1600000000 + n * 7},view\n" for n in range(90))
    guess = looked_at(tmp_path, "customer_id,birth_date,card_no,event\n" + rows)
    assert guess.open == ["event_time"]
