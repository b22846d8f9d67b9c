"""Whatever the file holds: every row is loaded, rejected or known, and what is rejected can be found."""

import csv
import io
import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fix_database import Database
from tests.sources.loading import load, make_map
from ubp_sql.errors import MapError, SourceError
from ubp_sql.sources.load import LoadResult
from ubp_sql.sources.load_map import LoadMap

NUMBERS = itertools.count(1)
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
USERS = st.sampled_from(["1", "2.0", "17850", " 3 ", ""]) | st.integers(0, 10**17).map(str)
TIMES = st.one_of(
    st.datetimes().map(str), st.sampled_from(["infinity", "2024-02-30", "2024-01-01T00:00Z", "", "25:00"]), TEXT
)
VALUES = st.one_of(st.floats().map(str), st.sampled_from(["", "1e400", "0x10", "١"]), TEXT)
ROW = st.tuples(USERS | TEXT, TIMES, TEXT, VALUES)
ODD_ROW = st.lists(TEXT, max_size=6)


PARTS = [b"1", b",", b'"', b"\n", b"\r", b"\xe9", b"\0", b"2024-01-01", b"x", b" "]


def run(db: Database, directory: Path, content: bytes, load_map: LoadMap) -> tuple[LoadResult, list[dict[str, object]]]:
    path = directory / "f"
    path.write_bytes(content)
    result = load(db, path, load_map)
    found = db.rows(
        "select line, reason, raw from ubp.rejected_events where load_id = %s order by line", result.load_id
    )
    assert len(found) == result.rejected
    assert (
        db.one(
            "select count(*) from ubp.events where source = (select source_id from ubp.sources where name = %s)",
            load_map.source,
        )
        == result.loaded
    )
    return result, found


def fresh_map(directory: Path, **fields: object) -> LoadMap:
    """Each example is a source of its own in the one database."""
    return make_map(directory, source=f"s{next(NUMBERS)}", value="n::float8", **fields)


@pytest.mark.parametrize("keys", [[], ["who", "what"]])
def test_rows_of_any_content(db: Database, keys: list[str]) -> None:
    @SLOW
    @given(st.lists(ROW | ODD_ROW, max_size=12))
    def check(rows: list[tuple[str, ...] | list[str]]) -> None:
        out = io.StringIO(newline="")
        out.write("who,at,what,n\n")
        raws = []
        for row in rows:
            start = out.tell()
            # csv.writer leaves a carriage return unquoted, which is another case (test_load_rejects).
            returns = any("\r" in value for value in row)
            csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerow(row)
            raws.append(out.getvalue()[start:])
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            try:
                result, found = run(db, directory, out.getvalue().encode(), fresh_map(directory, keys=keys))
            except SourceError:  # so full of control characters that it is taken for binary data
                return
            except MapError as error:  # another example made users of text keys, one of them an integer here
                if "of text keys, made it user" not in error.message:
                    raise
                return
        written = [raw.rstrip("\r\n").replace("\0", "\\x00") for raw in raws if raw.rstrip("\r\n")]
        assert result.read == len(written)
        for bad in found:
            assert bad["raw"] in written

    check()


def test_any_bytes(db: Database) -> None:
    """Any file is loaded or refused in one line; a rejected row's raw text is in the file; no line counts twice."""

    @SLOW
    @given(st.lists(st.sampled_from(PARTS), max_size=60).map(b"".join) | st.binary(max_size=60))
    @example(b'1,2024-01-01,"v\n1,2024-01-01,v,1\n')
    @example(b'"\n"\n"')
    def check(body: bytes) -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            try:
                result, found = run(db, directory, b"who,at,what,n\n" + body, fresh_map(directory))
            except SourceError:
                return
        assert result.read <= body.count(b"\n") + 1
        shown = body.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
        for row in found:
            assert str(row["raw"]) in shown

    check()


def test_any_lines_of_json(db: Database) -> None:
    leaf = st.one_of(st.none(), st.booleans(), st.floats(), TEXT, st.datetimes().map(str))
    tree = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
    record = st.fixed_dictionaries({"t": TIMES, "k": TEXT | st.just("view"), "n": leaf}) | tree
    document = st.fixed_dictionaries({"u": USERS | leaf, "events": st.lists(record, max_size=4) | tree}) | tree

    @SLOW
    @given(st.lists(document.map(json.dumps) | TEXT, max_size=6), st.booleans())
    def check(documents: list[str], exploded: bool) -> None:
        content = "\n".join(line.replace("\n", " ").replace("\r", " ") for line in documents)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            load_map = make_map(
                directory, source=f"j{next(NUMBERS)}", format="jsonl", records="events" if exploded else None,
                user="doc->>'u'", event_time="record->>'t'", kind="record->>'k'", value="(record->>'n')::float8",
            )  # fmt: skip
            try:
                result, _ = run(db, directory, content.encode(), load_map)
            except SourceError:  # empty, or so full of control characters that it is taken for binary data
                return
        lines = [line for line in content.split("\n") if line.strip(" \t\r")]
        if not exploded:
            assert result.read == len(lines)

    check()
