"""A load commits in parts: what a rerun, a grown file and an undo find; ids that do not depend on where it was cut."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write
from ubp_sql.errors import BadInput, InstallError, NotReady, SourceError, UbpError
from ubp_sql.sources.load import LoadResult, Progress, load_file
from ubp_sql.sources.undo import undo_load

HEADER = "who,at,what,item,nr\n"
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "events.csv": bytes,
    "events.csv.gz": gzip.compress,
    "events.csv.zst": zstandard.compress,
}


def rows(low: int, high: int) -> str:
    """Text keys in an order of their own; every ninth row has no user, every eleventh no time."""
    found = []
    for n in range(low, high):
        user = "" if n % 9 == 4 else f"u{n * 7 % 53}"
        at = "" if n % 11 == 5 else f"2024-01-{n % 28 + 1:02}"
        found.append(f"{user},{at},v,i{n % 17},{n}\n")
    return "".join(found)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ten parts of a file of 500 rows."""
    monkeypatch.setattr("ubp_sql.sources.lines.BLOCK", 500)
    monkeypatch.setattr("ubp_sql.sources.rows.BATCH_ROWS", 17)
    monkeypatch.setattr("ubp_sql.sources.rows.PART_ROWS", 40)


def state(db: Database) -> dict[str, Any]:
    """All that a load writes, less numbers and times that another run would give it."""
    queries = {
        "events": "select user_id, event_time, kind, item_id, ingested_at, source from ubp.events order by event_id",
        "anonymous": "select event_time, kind, item_id, source from ubp.anonymous_events order by event_id",
        "rejected": "select file, line, reason, raw from ubp.rejected_events order by rejected_id",
        "users": "select user_id, user_key from ubp.users order by user_id",
        "items": "select item_id, item_key from ubp.items order by item_id",
        "keys": "select source_id, event_key from ubp.event_keys order by event_key",
        "loads": "select content_sha256, rows_read, rows_loaded, rows_rejected, rows_already, rows_anonymous,"
        " finished_at is null as open from ubp.loads order by load_id",
    }
    return {name: [tuple(row.values()) for row in db.rows(query)] for name, query in queries.items()}


def broken_off(db: Database, path: Path, load_map: Any, at_row: int) -> None:
    """A load whose server process ends at a row."""
    conn = db.connect()

    def kill(step: Progress) -> None:
        if step.kept >= at_row:
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
                db.name,
            )

    with pytest.raises(UbpError) as caught:
        load_file(conn, path, load_map, progress=kill)
    conn.close()
    if at_row > 100:
        assert "are in, and a rerun goes on behind them" in f"{caught.value.message}{caught.value.hint}"


def undisturbed(db: Database, path: Path, load_map: Any) -> dict[str, Any]:
    """What a load leaves when nothing happens to it; the tables are empty afterwards."""
    load(db, path, load_map)
    found = state(db)
    wipe(db)
    return found


def wipe(db: Database) -> None:
    db.execute(
        "truncate ubp.events, ubp.anonymous_events, ubp.rejected_events, ubp.users, ubp.items, ubp.event_keys,"
        " ubp.load_parts, ubp.loads restart identity cascade"
    )
    db.execute("delete from ubp.sources where source_id > 0")
    db.execute("alter table ubp.sources alter source_id restart")


@pytest.mark.parametrize(
    ("name", "fields"),
    [("events.csv", {}), ("events.csv.gz", {"keys": ["nr"]}), ("events.csv.zst", {"anonymous": "keep"})],
)
def test_a_load_that_was_broken_off_goes_on(db: Database, tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[name]((HEADER + rows(0, 500)).encode()))
    load_map = make_map(tmp_path, item="item", **fields)
    whole = undisturbed(db, path, load_map)
    for at_row in (0, 150, 400):
        broken_off(db, path, load_map, at_row)
    counts = "select sum(rows_read), sum(rows_loaded + rows_rejected + rows_already) from ubp.loads"
    assert len(set(db.rows(counts)[0].values())) == 1
    steps: list[Progress] = []
    result = load(db, path, load_map, progress=steps.append)
    assert max(step.position for step in steps) <= path.stat().st_size, "of this reading alone"
    assert result.continued_line > 300
    assert (result.read, result.loaded + result.already) == (500, len(whole["events"]) + len(whole["anonymous"]))
    assert state(db) == whole


def test_the_ids_do_not_depend_on_the_parts(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is rolled back gives back the ids it took."""
    path, load_map = write(tmp_path, HEADER + rows(0, 500)), make_map(tmp_path, item="item")
    whole = undisturbed(db, path, load_map)
    assert [key for _, key in whole["users"]][:5] == ["u0", "u7", "u14", "u21", "u42"]
    assert [number - 4 * 10**15 for number, _ in whole["users"]] == list(range(len(whole["users"])))
    load(db, path, load_map, dry_run=True)
    monkeypatch.setattr("ubp_sql.sources.rows.PART_ROWS", 10_000)
    monkeypatch.setattr("ubp_sql.sources.lines.BLOCK", 1 << 20)
    load(db, path, load_map)
    again = state(db)
    assert [again[name] for name in ("events", "users", "items")] == [
        whole[name] for name in ("events", "users", "items")
    ]
    db.execute("insert into ubp.users (user_key) values ('by hand')")  # the sequence was moved along
    assert db.one("select max(user_id) - min(user_id) + 1 = count(*) from ubp.users")


@pytest.mark.parametrize("name", ["events.csv", "events.csv.zst"])
def test_a_file_that_has_grown_is_read_on(db: Database, tmp_path: Path, name: str) -> None:
    path, load_map = tmp_path / name, make_map(tmp_path, item="item")
    path.write_bytes(PACKED[name]((HEADER + rows(0, 500)).encode()))
    whole = undisturbed(db, path, load_map)
    found: list[LoadResult] = []
    for high in (120, 121, 300, 300, 500):
        path.write_bytes(PACKED[name]((HEADER + rows(0, high)).encode()))
        found.append(load(db, path, load_map))
    assert [result.read for result in found] == [120, 121, 300, 300, 500]
    assert [result.continued_line for result in found] == [0, 121, 122, 0, 301]
    assert found[3].known_since
    assert sum(result.loaded for result in found) == len(whole["events"])
    after = state(db)
    assert [after[name] for name in ("events", "users", "items")] == [
        whole[name] for name in ("events", "users", "items")
    ]
    assert after["rejected"] == whole["rejected"]
    assert db.rows("select load_id, continues, rows_read from ubp.loads order by 1") == [
        {"load_id": 1, "continues": None, "rows_read": 120}, {"load_id": 2, "continues": 1, "rows_read": 1},
        {"load_id": 3, "continues": 2, "rows_read": 179}, {"load_id": 4, "continues": 3, "rows_read": 200},
    ]  # fmt: skip
    path.write_bytes(PACKED[name]((HEADER + rows(0, 121)).encode()))  # an older state of the file
    assert load(db, path, load_map).loaded == 0


def test_a_file_that_grew_while_a_load_was_broken_off(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, HEADER + rows(0, 500)), make_map(tmp_path, item="item")
    whole = undisturbed(db, path, load_map)
    broken_off(db, write(tmp_path, HEADER + rows(0, 300)), load_map, 200)
    load(db, write(tmp_path, HEADER + rows(0, 500)), load_map)
    after = state(db)
    assert {name: rows for name, rows in after.items() if name != "loads"} == {
        name: rows for name, rows in whole.items() if name != "loads"
    }
    found = db.rows("select continues, finished_at is null as open from ubp.loads order by load_id")
    assert found == [{"continues": None, "open": True}, {"continues": 1, "open": False}]


def test_another_file_that_begins_alike_is_read_from_where_it_differs(db: Database, tmp_path: Path) -> None:
    load_map = make_map(tmp_path, item="item")
    load(db, write(tmp_path, HEADER + rows(0, 200)), load_map)
    one = len(events(db))
    other = load(db, write(tmp_path, HEADER + rows(0, 200)[:-3] + "9\n" + rows(200, 210), "other.csv"), load_map)
    assert 0 < other.continued_line < 200
    assert len(events(db)) == one + other.loaded


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_last_line_without_end_may_get_one(db: Database, tmp_path: Path, end: str) -> None:
    first = HEADER + "a,2024-01-01,v,i,1\nb,2024-01-02,v,i,2"
    load(db, write(tmp_path, first), make_map(tmp_path))
    result = load(db, write(tmp_path, first + end + ("c,2024-01-03,v,i,3\n" if end else "")), make_map(tmp_path))
    assert (result.loaded, result.read) == ((1, 3) if end else (0, 2))


def test_a_last_line_that_was_loaded_too_early_is_not_passed_over(db: Database, tmp_path: Path) -> None:
    """Cut off within its last field, it went in as it stood; the rest would be a row of its own."""
    whole = HEADER + "a,2024-01-01,v,i,1\nb,2024-01-02,v,i,22\n"
    first = load(db, write(tmp_path, whole[:-2]), make_map(tmp_path))
    with pytest.raises(SourceError, match="line 3 was loaded when it had no end yet, and goes on now") as caught:
        load(db, write(tmp_path, whole), make_map(tmp_path))
    assert f"--undo {first.load_id}" in (caught.value.hint or "")
    with db.connect() as conn:
        undo_load(conn, first.load_id)
    assert load(db, write(tmp_path, whole), make_map(tmp_path)).loaded == 2


def test_a_last_line_that_could_not_be_used_is_read_again(db: Database, tmp_path: Path) -> None:
    whole = HEADER + "a,2024-01-01,v,i,1\nb,2024-01-02,v,i,2\n"
    assert load(db, write(tmp_path, whole[:-5]), make_map(tmp_path)).rejected == 1
    result = load(db, write(tmp_path, whole), make_map(tmp_path))
    assert (result.loaded, result.already, result.rejected, result.continued_line) == (1, 1, 0, 2)
    assert len(events(db)) == 2


def test_a_file_that_grows_under_the_load_is_read_to_where_it_ended(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, HEADER + rows(0, 200)), make_map(tmp_path)

    def grow(step: Progress) -> None:
        if step.rows and path.stat().st_size < 10_000:
            with open(path, "a") as file:
                file.write(rows(200, 500))

    assert load(db, path, load_map, progress=grow).read == 200
    assert load(db, path, load_map).read == 500


@pytest.mark.parametrize("change", ["shorter", "other"])
def test_a_file_that_changes_under_the_load(db: Database, tmp_path: Path, change: str) -> None:
    text = HEADER + rows(0, 500)
    path = write(tmp_path, text)

    def spoil(step: Progress) -> None:
        if step.kept >= 40:
            path.write_text(text[:9000] if change == "shorter" else text[:9000] + text[9000:].replace("v", "w"))

    with pytest.raises(SourceError, match=r"changed while it was read; .* rows up to line .* are in") as caught:
        load(db, path, make_map(tmp_path), progress=spoil)
    assert caught.value.hint
    assert db.one("select sum(rows_loaded) from ubp.loads") == len(events(db)) > 0


def test_without_a_second_connection_it_goes_on_alone(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, load_map = write(tmp_path, HEADER + rows(0, 500)), make_map(tmp_path, item="item")
    whole = undisturbed(db, path, load_map)
    with db.connect() as conn:

        def full(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("too many clients")

        monkeypatch.setattr(psycopg, "connect", full)
        load_file(conn, path, load_map)
        monkeypatch.undo()
    assert state(db) == whole


def test_a_key_that_breaks_what_the_first_part_decided(db: Database, tmp_path: Path) -> None:
    content = HEADER + "".join(f"{n},2024-01-01,v,i,{n}\n" for n in range(300)) + "u7,2024-01-01,v,i,301\n"
    result = load_csv(db, tmp_path, content)
    assert (result.loaded, result.rejected) == (300, 1)
    assert "user_keys: text" in result.warnings[0]
    assert load_csv(db, tmp_path, content, source="t", user_keys="text").rejected == 0


def test_anonymous_events(db: Database, tmp_path: Path) -> None:
    content = HEADER + ",2024-01-01,v,i1,1\n u ,2024-01-01,v,i2,2\n  ,2024-01-02,v,,3\n,x,v,i,4\n"
    result = load_csv(db, tmp_path, content, item="item", anonymous="keep")
    assert (result.read, result.loaded, result.anonymous, result.rejected) == (4, 3, 2, 1)
    kept = db.rows(
        "select kind, item_key, source, event_time = ingested_at as then from ubp.anonymous_events a"
        " left join ubp.items using (item_id) order by event_id"
    )
    assert kept == [
        {"kind": "v", "item_key": "i1", "source": 1, "then": True},
        {"kind": "v", "item_key": None, "source": 1, "then": True},
    ]
    assert db.rows("select rows_loaded, rows_anonymous from ubp.loads") == [{"rows_loaded": 3, "rows_anonymous": 2}]
    with db.connect() as conn:
        assert undo_load(conn, 1).deleted == 3
    assert db.one("select count(*) from ubp.anonymous_events") == 0


def test_an_undo_takes_back_one_load_exactly(db: Database, tmp_path: Path) -> None:
    load_map = make_map(tmp_path, item="item", keys=["nr"])
    load(db, write(tmp_path, HEADER + rows(0, 200)), load_map)
    before = state(db)
    second = load(db, write(tmp_path, HEADER + rows(150, 400), "b.csv"), load_map)
    load_csv(db, tmp_path, HEADER + rows(0, 50), source="t")
    db.execute("delete from ubp.events where source = 2")
    db.execute("delete from ubp.rejected_events where source_id = 2")
    db.execute("delete from ubp.load_parts where load_id = 3")
    db.execute("delete from ubp.loads where source_id = 2")
    with db.connect() as conn:
        dry = undo_load(conn, second.load_id, dry_run=True)
        assert undo_load(conn, second.load_id) == dry
    assert dry.deleted == dry.loaded == second.loaded
    after = state(db)
    assert [after[name] for name in before if name not in ("users", "items")] == [
        before[name] for name in before if name not in ("users", "items")
    ]
    assert load(db, write(tmp_path, HEADER + rows(150, 400), "b.csv"), load_map).loaded == second.loaded


def test_an_undo_that_would_not_be_exact_is_refused(db: Database, tmp_path: Path) -> None:
    load_map = make_map(tmp_path)
    first = load(db, write(tmp_path, HEADER + rows(0, 100)), load_map)
    second = load(db, write(tmp_path, HEADER + rows(0, 200)), load_map)
    with db.connect() as conn:
        with pytest.raises(BadInput, match=f"load {second.load_id} went on behind"):
            undo_load(conn, first.load_id)
        with pytest.raises(BadInput, match="there is no load 99"):
            undo_load(conn, 99)
        conn.execute("delete from ubp.load_parts where load_id = 2 and part = 1")
        with pytest.raises(NotReady, match="did not keep which rows"):
            undo_load(conn, second.load_id)
    third = load_csv(db, tmp_path, HEADER + rows(0, 20), source="t")
    role = f"undo_{db.name}"
    db.execute(f"create role {role} login in role ubp_loader")
    try:
        with db.connect(user=role) as conn, pytest.raises(InstallError, match="may not delete"):
            undo_load(conn, third.load_id)
    finally:
        db.execute(f"drop role {role}")


def test_rejected_rows_of_a_load_that_goes_on_are_listed_once(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, HEADER + rows(0, 500)), make_map(tmp_path)
    broken_off(db, path, load_map, 300)
    load(db, path, load_map)
    found = rejected(db)
    assert len({line for line, _, _ in found}) == len(found) == db.one("select rows_rejected from ubp.loads")


def test_a_load_of_an_older_release_is_known_without_parts(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, HEADER + rows(0, 100)), make_map(tmp_path)
    first = load(db, path, load_map)
    db.execute("delete from ubp.load_parts")
    again = load(db, path, load_map)
    assert (again.read, again.loaded, again.already) == (100, 0, first.loaded)


def test_with_keys_an_older_state_of_a_broken_off_load_loses_no_count(db: Database, tmp_path: Path) -> None:
    load_map = make_map(tmp_path, item="item", keys=["nr"])
    old, new = HEADER + rows(0, 300), HEADER + rows(0, 500)
    broken_off(db, write(tmp_path, old), load_map, 150)
    load(db, write(tmp_path, new), load_map)
    assert load(db, write(tmp_path, old), load_map).loaded == 0
    assert db.one("select sum(rows_loaded) from ubp.loads") == len(events(db))


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_row_that_was_cut_within_its_quotes_is_read_again(db: Database, tmp_path: Path, end: str) -> None:
    first = HEADER + 'a,2024-01-01,v,i,1\nb,2024-01-02,v,"one' + end
    whole = HEADER + 'a,2024-01-01,v,i,1\nb,2024-01-02,v,"one\ntwo",2\nc,2024-01-03,v,i,3\n'
    load_map = make_map(tmp_path, item="item")
    begun = load(db, write(tmp_path, first), load_map)
    if end:  # in one part with rows that are in
        with pytest.raises(SourceError, match="line 3 was loaded when it had no end yet, and goes on now"):
            load(db, write(tmp_path, whole), load_map)
        with db.connect() as conn:
            undo_load(conn, begun.load_id)
    assert load(db, write(tmp_path, whole), load_map).rejected == 0
    assert [row["item_key"] for row in db.rows("select item_key from ubp.items order by 1")] == ["i", "one\ntwo"]
    assert len(events(db)) == 3


@pytest.mark.parametrize("rest", ["", 'd,2024-01-04,v,"i",4\n'])
def test_a_quote_that_nothing_closes_does_not_keep_a_file_from_growing(db: Database, tmp_path: Path, rest: str) -> None:
    first = HEADER + 'a,2024-01-01,v,i,1\nb,2024-01-02,v,"one,2\n'
    load(db, write(tmp_path, first), make_map(tmp_path))
    load(db, write(tmp_path, first + "c,2024-01-03,v,i,3\n" + rest), make_map(tmp_path))
    assert len(events(db)) == 2 + bool(rest)
    assert [line for line, _, _ in rejected(db)] == [3]


def test_an_undo_waits_for_a_part_that_a_killed_load_still_commits(db: Database, tmp_path: Path) -> None:
    from ubp_sql.sources.identity import lock_part

    first = load(db, write(tmp_path, HEADER + rows(0, 20)), make_map(tmp_path))
    with db.connect() as other, db.connect() as conn:
        conn.execute("set lock_timeout = '100ms'")
        with other.transaction(), other.cursor() as cursor:
            lock_part(cursor, "s")
            with pytest.raises((UbpError, psycopg.Error), match="lock"):
                undo_load(conn, first.load_id)
        assert undo_load(conn, first.load_id).deleted == first.loaded
