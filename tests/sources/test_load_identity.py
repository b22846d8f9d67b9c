"""Nothing is counted twice: files without keys, rows with keys, two loads at once."""

import gzip
import re
import threading
from pathlib import Path

import psycopg

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write
from ubp_sql.sources.load import LoadResult, Progress, load_file

HEADER = "who,at,what,nr\n"


def rows(*numbers: int | str) -> str:
    return "".join(f"{str(n)[-1] or 0},2024-01-01,v,{n}\n" for n in numbers)


def record(db: Database) -> list[int]:
    """The counts of the only record in ubp.loads."""
    [row] = db.rows("select rows_read, rows_loaded, rows_rejected, rows_already from ubp.loads")
    return list(row.values())


def counts(result: LoadResult) -> tuple[int, int, int, int]:
    return result.read, result.loaded, result.rejected, result.already


def test_without_keys_the_same_bytes_are_loaded_once(db: Database, tmp_path: Path) -> None:
    content = HEADER + rows(1, 2) + ",2024-01-01,v,3\n"
    first = load_csv(db, tmp_path, content)
    assert counts(first) == (3, 2, 1, 0)
    again = load(db, write(tmp_path, content, "other_name.csv"), make_map(tmp_path))
    assert counts(again) == (3, 0, 1, 2)
    assert again.load_id == first.load_id
    assert len(events(db)) == 2
    assert len(rejected(db)) == 1
    assert record(db) == [3, 2, 1, 0]


def test_without_keys_true_duplicates_stay(db: Database, tmp_path: Path) -> None:
    assert counts(load_csv(db, tmp_path, HEADER + rows(1, 1, 1))) == (3, 3, 0, 0)


def test_the_same_log_packed_or_plain_is_the_same_content(db: Database, tmp_path: Path) -> None:
    content, load_map = HEADER + rows(1, 2), make_map(tmp_path)
    first = load(db, write(tmp_path, content), load_map)
    for mtime in (0, 1_700_000_000):
        path = write(tmp_path, gzip.compress(content.encode(), mtime=mtime), f"{mtime}.packed")
        again = load(db, path, load_map)
        assert (again.loaded, again.already, again.load_id) == (0, 2, first.load_id)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", again.known_since or "")
    assert first.known_since is None


def test_content_of_which_nothing_could_be_loaded_does_not_block(db: Database, tmp_path: Path) -> None:
    content = "who,at,what,nr\n1,31.01.2024,v,1\n2,01.02.2024,v,2\n"
    wrong = load_csv(db, tmp_path, content)
    assert counts(wrong) == (2, 0, 2, 0)
    mended = load_csv(db, tmp_path, content, event_time="to_timestamp(at, 'DD.MM.YYYY')")
    assert counts(mended) == (2, 2, 0, 0)
    assert len(rejected(db)) == 2
    assert record(db) == [2, 2, 0, 0]
    assert counts(load_csv(db, tmp_path, content)) == (2, 0, 0, 2)


def test_another_source_may_load_the_same_bytes(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, HEADER + rows(1))
    assert load_csv(db, tmp_path, HEADER + rows(1), source="other").loaded == 1


def test_with_keys_each_key_is_loaded_once(db: Database, tmp_path: Path) -> None:
    assert counts(load_csv(db, tmp_path, HEADER + rows(1, 2, 1), keys=["nr"])) == (3, 2, 0, 1)
    grown = HEADER + rows(1, 2, 1, 3)
    assert counts(load_csv(db, tmp_path, grown, keys=["nr"])) == (4, 1, 0, 3)
    assert counts(load_csv(db, tmp_path, grown, keys=["nr"])) == (4, 0, 0, 4)
    assert [user for user, _ in events(db)] == [1, 2, 3]
    assert db.one("select count(*) from ubp.event_keys") == 3


def test_the_first_row_of_a_key_counts(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, HEADER + "5,2024-01-01,first,1\n6,2024-01-01,second,1\n", keys=["nr"])
    assert events(db) == [(5, "first")]
    assert db.one("select count(*) from ubp.users") == 1


def test_keys_of_several_columns_are_kept_apart(db: Database, tmp_path: Path) -> None:
    content = (
        'who,at,what,a,b\n1,2024-01-01,v,"x,y",z\n1,2024-01-01,v,x,"y,z"\n1,2024-01-01,v,NULL,z\n1,2024-01-01,v,,z\n'
    )
    assert counts(load_csv(db, tmp_path, content, keys=["a", "b"])) == (4, 4, 0, 0)
    assert counts(load_csv(db, tmp_path, content, source="t", keys=["a || b"])) == (4, 3, 1, 0)
    assert rejected(db)[0][1] == "no key: every key column is empty"


def test_a_second_run_with_keys_does_not_list_rejected_rows_twice(db: Database, tmp_path: Path) -> None:
    content = HEADER + rows(1) + ",2024-01-01,v,2\n"
    load_csv(db, tmp_path, content, keys=["nr"])
    assert counts(load_csv(db, tmp_path, content, keys=["nr"])) == (2, 0, 1, 1)
    assert len(rejected(db)) == 1


def test_a_second_run_with_keys_keeps_the_record_of_the_first(db: Database, tmp_path: Path) -> None:
    content = HEADER + rows(1, 2)
    load_csv(db, tmp_path, content, keys=["nr"])
    assert counts(load_csv(db, tmp_path, content, keys=["nr"])) == (2, 0, 0, 2)
    assert record(db) == [2, 2, 0, 0]


def test_a_run_that_adds_rows_is_added_to_the_record(db: Database, tmp_path: Path) -> None:
    content = "who,at,what,nr\n1,01.02.2024,v,1\n2,2024-01-01,v,2\n"
    load_csv(db, tmp_path, content, keys=["nr"])
    assert record(db) == [2, 1, 1, 0]
    time = "case when at like '__.%' then to_timestamp(at, 'DD.MM.YYYY') else at::timestamptz end"
    load_csv(db, tmp_path, content, keys=["nr"], event_time=time)
    assert record(db) == [4, 2, 1, 1]


def test_a_mended_map_with_keys_loads_what_was_rejected(db: Database, tmp_path: Path) -> None:
    content = "who,at,what,nr\n1,01.02.2024 x,v,1\n2,2024-01-01,v,2\n"
    assert load_csv(db, tmp_path, content, keys=["nr"]).rejected == 1
    time = "case when at like '% x' then to_timestamp(at, 'DD.MM.YYYY') else at::timestamptz end"
    assert counts(load_csv(db, tmp_path, content, keys=["nr"], event_time=time)) == (2, 1, 0, 1)


def test_two_loads_of_one_file_at_once(db: Database, tmp_path: Path) -> None:
    """The second waits for the first and then finds everything there."""
    path, load_map = write(tmp_path, HEADER + rows(*range(100))), make_map(tmp_path)
    phases: list[str] = []
    results: list[LoadResult] = []

    def second() -> None:
        with db.connect() as conn:
            results.append(load_file(conn, path, load_map, progress=lambda step: phases.append(step.phase)))

    with psycopg.connect(db.dsn) as conn:
        conn.execute("select 1")  # in a transaction: the load below is not committed until this block ends
        results.append(load_file(conn, path, load_map))
        thread = threading.Thread(target=second)
        thread.start()
        for _ in range(500):
            if phases:
                break
            thread.join(0.02)
    thread.join()
    assert phases == ["waiting for another load of this source"]
    assert [counts(result) for result in results] == [(100, 100, 0, 0), (100, 0, 0, 100)]
    assert len(events(db)) == 100


def test_loads_of_two_sources_at_once_share_new_users(db: Database, tmp_path: Path) -> None:
    """Both name the same new users in opposite order; sorted inserts cannot wait in a circle."""
    names = [f"u{n:03}" for n in range(300)]
    failures: list[BaseException] = []

    def run(source: str, keys: list[str]) -> None:
        directory = tmp_path / source
        directory.mkdir()
        path = write(directory, "who,at,what\n" + "".join(f"{key},2024-01-01,v\n" for key in keys))
        try:
            load(db, path, make_map(directory, source=source))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=("a", names)), threading.Thread(target=run, args=("b", names[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.one("select count(*) from ubp.users") == 300
    assert db.one("select count(distinct user_id) from ubp.events") == 300


def test_progress_counts_up(db: Database, tmp_path: Path) -> None:
    steps: list[Progress] = []
    path = write(tmp_path, HEADER + rows(*range(50)))
    load(db, path, make_map(tmp_path), progress=steps.append)
    assert [step.phase for step in steps] == ["reading", "reading", "writing events"]
    assert steps[-1].rows == 50
    assert max(step.position for step in steps) == steps[-1].position == steps[-1].size == path.stat().st_size


def test_the_undo_of_the_docs(db: Database, tmp_path: Path) -> None:
    content = HEADER + rows(1, 2) + ",2024-01-01,v,3\n"
    load_csv(db, tmp_path, content, source="shop_export", keys=["nr"])
    load_csv(db, tmp_path, content)
    page = (Path(__file__).parents[2] / "docs" / "load-map.md").read_text(encoding="utf-8")
    db.execute(page.partition("```sql\n")[2].partition("```")[0])
    assert len(events(db)) == 2
    assert counts(load_csv(db, tmp_path, content, source="shop_export", keys=["nr"])) == (3, 2, 1, 0)
