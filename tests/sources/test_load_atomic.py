"""All or nothing: kills, interrupts, dry runs, rights, a database without the schema."""

from pathlib import Path

import psycopg
import pytest

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, write
from ubp_sql.errors import InstallError, MapError, NotReady, UbpError
from ubp_sql.sources.load import Progress, load_file

CONTENT = "who,at,what\n" + "".join(f"{n},2024-01-{n % 28 + 1:02},view\n" for n in range(500)) + ",x,y\n"
TABLES = ("sources", "loads", "events", "rejected_events", "users", "items", "event_keys")


def sizes(db: Database) -> dict[str, int]:
    return {table: db.one(f"select count(*) from ubp.{table}") for table in TABLES}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.sources.rows.BATCH_ROWS", 50)


@pytest.mark.parametrize("phase", ["reading", "writing events"])
def test_a_killed_load_leaves_nothing_and_runs_again(db: Database, tmp_path: Path, phase: str) -> None:
    path, load_map = write(tmp_path, CONTENT), make_map(tmp_path)
    before = sizes(db)

    def kill(step: Progress) -> None:
        if step.phase == phase and step.rows > 100:
            db.execute("select pg_terminate_backend(%s)", pid)

    conn = db.connect()
    pid = conn.info.backend_pid
    with pytest.raises(UbpError) as caught:
        load_file(conn, path, load_map, progress=kill)
    conn.close()
    assert "nothing was loaded" in (caught.value.hint or "")
    assert sizes(db) == before
    result = load(db, path, load_map)
    assert (result.loaded, result.rejected) == (500, 1)


def test_an_interrupt_rolls_back_and_leaves_the_connection_usable(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, CONTENT), make_map(tmp_path)
    before = sizes(db)

    def interrupt(step: Progress) -> None:
        if step.rows > 100:
            raise KeyboardInterrupt

    with db.connect() as conn:
        with pytest.raises(KeyboardInterrupt):
            load_file(conn, path, load_map, progress=interrupt)
        assert sizes(db) == before
        assert load_file(conn, path, load_map).loaded == 500


def test_a_dry_run_counts_and_keeps_nothing(db: Database, tmp_path: Path) -> None:
    before = sizes(db)
    result = load_csv(db, tmp_path, CONTENT)
    with db.connect() as conn:
        dry = load_file(conn, write(tmp_path, CONTENT, "b.csv"), make_map(tmp_path, source="t"), dry_run=True)
    assert (dry.read, dry.loaded, dry.rejected) == (result.read, result.loaded, result.rejected)
    assert db.one("select count(*) from ubp.sources") == before["sources"] + 1
    assert len(events(db)) == 500


def test_inside_a_transaction_the_caller_commits(db: Database, tmp_path: Path) -> None:
    path, load_map = write(tmp_path, CONTENT), make_map(tmp_path)
    with psycopg.connect(db.dsn) as conn:
        conn.execute("set local TimeZone = 'Asia/Tokyo'")
        load_file(conn, path, load_map)
        assert conn.execute("show TimeZone").fetchone() == ("Asia/Tokyo",)
        conn.rollback()
    assert events(db) == []
    with psycopg.connect(db.dsn) as conn:  # two in one transaction: the temporary tables do not get in each other's way
        load_file(conn, path, load_map)
        load_file(conn, path, make_map(tmp_path, source="t"))
    assert len(events(db)) == 1000


def test_a_connection_that_is_not_autocommit(db: Database, tmp_path: Path) -> None:
    with psycopg.connect(db.dsn) as conn:
        load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert len(events(db)) == 500


def test_nothing_temporary_stays_behind(db: Database, tmp_path: Path) -> None:
    with db.connect() as conn:
        load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))
        left = conn.execute("select relname from pg_class where relnamespace = pg_my_temp_schema()").fetchall()
        assert left == []
        assert conn.execute("select proname from pg_proc where pronamespace = pg_my_temp_schema()").fetchall() == []


def test_a_trigger_that_drops_rows_is_noticed(db: Database, tmp_path: Path) -> None:
    db.execute(
        "create function public.skip() returns trigger language plpgsql as"
        " $$ begin return case when new.user_id = 7 then null else new end; end $$"
    )
    db.execute("create trigger skip before insert on ubp.events for each row execute function public.skip()")
    before = sizes(db)
    with pytest.raises(UbpError, match="loaded 499 \\+ rejected 1 \\+ already there 0 is not read 501"):
        load_csv(db, tmp_path, CONTENT)
    assert sizes(db) == before


def test_a_trigger_that_raises(db: Database, tmp_path: Path) -> None:
    db.execute("create function public.no() returns trigger language plpgsql as $$ begin raise 'not today'; end $$")
    db.execute("create trigger no before insert on ubp.events for each row execute function public.no()")
    with pytest.raises(UbpError, match="not today"):
        load_csv(db, tmp_path, CONTENT)


def test_without_the_schema(empty_db: Database, tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        load_csv(empty_db, tmp_path, CONTENT)
    assert "ubp-sql init" in (caught.value.hint or "")


def test_a_loader_needs_no_more_than_its_role(db: Database, tmp_path: Path) -> None:
    role = f"loader_of_{db.name}"
    db.execute(f"create role {role} login in role ubp_loader")
    content = "who,at,what,item,nr\n" + "".join(f"u{n},2024-01-01,view,i{n},{n}\n" for n in range(200)) + "1,x,y,z,9\n"
    path, load_map = write(tmp_path, content), make_map(tmp_path, item="item", keys=["nr"])
    try:
        with db.connect(user=role) as conn:
            result = load_file(conn, path, load_map)
            again = load_file(conn, path, load_map)
        assert (result.loaded, result.rejected) == (200, 1)
        assert (again.already, again.rejected) == (200, 1)
    finally:
        db.execute(f"drop owned by {role}")
        db.execute(f"drop role {role}")


def test_without_rights_the_grant_is_named(db: Database, tmp_path: Path) -> None:
    role = f"nobody_of_{db.name}"
    db.execute(f"create role {role} login")
    try:
        with db.connect(user=role) as conn, pytest.raises(InstallError) as caught:
            load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))
        assert f'grant ubp_loader to "{role}"' in (caught.value.hint or "")
        db.execute(f"grant ubp_loader to {role}")
        db.execute(f"revoke temporary on database {db.name} from public")
        with db.connect(user=role) as conn, pytest.raises(InstallError) as caught:
            load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))
        assert "grant temporary on database" in (caught.value.hint or "")
    finally:
        db.execute(f"drop owned by {role}")
        db.execute(f"drop role {role}")


def test_a_read_only_server(db: Database, tmp_path: Path) -> None:
    with db.connect() as conn:
        conn.execute("set default_transaction_read_only = on")
        with pytest.raises(UbpError, match="read-only"):
            load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))


def test_an_id_that_belongs_to_another_key(db: Database, tmp_path: Path) -> None:
    db.execute("insert into ubp.users (user_id, user_key, tenant) values (7, '7', 1)")
    with pytest.raises(UbpError, match=r"the id 7 of ubp\.users belongs to another key"):
        load_csv(db, tmp_path, CONTENT)
    assert events(db) == []


def test_a_zone_that_the_server_does_not_know(db: Database, tmp_path: Path) -> None:
    load_map = make_map(tmp_path).model_copy(update={"time_zone": "Mars/Base"})
    with pytest.raises(MapError, match="the server knows no time zone"):
        load(db, write(tmp_path, CONTENT), load_map)


def test_a_closed_connection(db: Database, tmp_path: Path) -> None:
    conn = db.connect()
    conn.close()
    with pytest.raises(UbpError, match="closed"):
        load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path))


def test_an_object_that_a_function_of_the_map_lacks_is_not_our_schema(db: Database, tmp_path: Path) -> None:
    db.execute(
        "create function public.lookup(text) returns text language plpgsql as"
        " $$ begin return (select x from public.gone where y = $1); end $$"
    )
    with pytest.raises(UbpError, match=r'the database broke off the load: relation "public\.gone"') as caught:
        load_csv(db, tmp_path, CONTENT, kind="public.lookup(what)")
    assert not isinstance(caught.value, NotReady)


def test_an_incomplete_schema(db: Database, tmp_path: Path) -> None:
    db.execute("drop table ubp.loads cascade")
    with pytest.raises(NotReady, match="no complete ubp schema"):
        load_csv(db, tmp_path, CONTENT)


LOCKED = """create function public.locked() returns trigger language plpgsql as $$ begin
  if exists (select from pg_locks where pid = pg_backend_pid() and mode = 'AccessExclusiveLock'
             and relation = 'ubp.events_default'::regclass) then raise 'locked'; end if;
  return new; end $$"""


def test_the_default_partition_is_not_locked_while_rows_are_written(db: Database, tmp_path: Path) -> None:
    db.execute(LOCKED)
    db.execute("create trigger locked before insert on ubp.events for each row execute function public.locked()")
    assert load_csv(db, tmp_path, CONTENT).loaded == 500
    assert db.one("select count(*) from only ubp.events_default") == 0
    assert db.one("select to_regclass('ubp.events_2024_01') is not null")


def test_a_default_partition_in_use_does_not_stop_a_load(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows wait there; the next load of that month moves them into their partition."""
    monkeypatch.setattr("ubp_sql.sources.partitions.LOCK_TIMEOUT", "100ms")
    with psycopg.connect(db.dsn) as other:
        other.execute("lock table ubp.events_default in access share mode")
        assert load_csv(db, tmp_path, CONTENT).loaded == 500
    assert db.one("select count(*) from only ubp.events_default") == 500
    load_csv(db, tmp_path, "who,at,what\n1,2024-01-01,view\n")
    assert db.one("select count(*) from only ubp.events_default") == 0
    assert db.one("select count(*) from ubp.events_2024_01") == 501


def test_without_a_second_connection_partitions_are_made_in_the_load(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, load_map = write(tmp_path, CONTENT), make_map(tmp_path)
    with db.connect() as conn:

        def full(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("too many clients")

        monkeypatch.setattr(psycopg, "connect", full)
        load_file(conn, path, load_map)
        monkeypatch.undo()
    assert db.one("select count(*) from ubp.events_2024_01") == 500


def test_a_dry_run_makes_no_partition(db: Database, tmp_path: Path) -> None:
    load(db, write(tmp_path, CONTENT), make_map(tmp_path), dry_run=True)
    assert db.one("select to_regclass('ubp.events_2024_01')") is None


def test_partitions_are_made_by_the_role_that_loads(db: Database, tmp_path: Path) -> None:
    """The second connection logs in as the first did, and sets the role that it had set."""
    role = f"login_of_{db.name}"
    db.execute(f"create role {role} login noinherit in role ubp_loader")
    try:
        with db.connect(user=role) as conn:
            conn.execute("set role ubp_loader")
            assert load_file(conn, write(tmp_path, CONTENT), make_map(tmp_path)).loaded == 500
    finally:
        db.execute(f"drop owned by {role}")
        db.execute(f"drop role {role}")
