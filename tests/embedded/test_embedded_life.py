"""A cluster's life: made, started, stopped, moved, and what a killed server leaves behind."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.embedded.conftest import Ask, MakeCluster
from ubp_sql.embedded import marker, place
from ubp_sql.embedded.account import server_account
from ubp_sql.embedded.postmaster import find_postmaster
from ubp_sql.errors import ClusterError

IMPORTS = """do language plpython3u $$
import os, numba, ubp_sql
if "UBP_TEST_SECRET" in os.environ: plpy.error("the caller's environment leaked")
if os.stat(os.environ["UBP_SQL_CACHE_DIR"]).st_mode & 0o777 != 0o700: plpy.error("the cache is open to others")
$$"""


def test_start_stop_and_again(make_cluster: MakeCluster, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UBP_TEST_SECRET", "x")
    cluster = make_cluster()
    assert cluster.status().state == "absent"
    first = cluster.start()
    assert first.running
    assert first.dsn == cluster.dsn()
    assert cluster.start() == first, "starting twice changes nothing"
    assert ask(cluster, "show server_encoding") == "UTF8"
    assert ask(cluster, "show listen_addresses") == ""
    assert ask(cluster, "select current_user || '@' || current_database()") == "postgres@ubp"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("create extension plpython3u")
        connection.execute(IMPORTS.encode())
        connection.execute("create table kept as select 1 as n")
    stopped = cluster.stop()
    assert (stopped.state, stopped.pid, stopped.dsn) == ("stopped", None, first.dsn)
    assert cluster.stop() == stopped
    assert cluster.start().dsn == first.dsn, "the port is remembered"
    assert ask(cluster, "select n from kept") == 1


def test_survives_a_killed_server_and_its_busy_session(make_cluster: MakeCluster, ask: Ask) -> None:
    cluster = make_cluster()
    status = cluster.start()
    assert status.pid is not None
    with psycopg.connect(cluster.dsn(), autocommit=True) as busy:
        busy.execute("create extension plpython3u")
        session = busy.info.backend_pid
        loop = "do language plpython3u $$ \nwhile True: pass\n$$"

        def compute() -> None:
            with pytest.raises(psycopg.OperationalError):
                busy.execute(loop.encode())

        thread = threading.Thread(target=compute)
        thread.start()
        while not ask(cluster, f"select state = 'active' from pg_stat_activity where pid = {session}"):
            time.sleep(0.02)
        os.kill(status.pid, signal.SIGKILL)
        while find_postmaster(Path(str(status.data_dir))):
            time.sleep(0.02)
        assert cluster.status().state == "stopped"
        assert Path(f"/proc/{session}").exists(), "the session must outlive its server for this test to mean anything"
        again = cluster.start()
        thread.join(timeout=10)
    assert again.running
    assert again.pid != status.pid
    assert not Path(f"/proc/{session}/cwd").exists()
    assert ask(cluster, "select 1") == 1


def test_stale_pid_file_with_the_number_of_another_process(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    pid_file = Path(str(status.data_dir)) / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    cluster.stop()
    account = server_account()
    as_server = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    other = subprocess.Popen(["sleep", "60"], **as_server)  # type: ignore[call-overload]
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        lock = Path(str(status.socket_dir)) / f".s.PGSQL.{status.port}.lock"
        lock.write_text(f"{other.pid}\n")
        for file in (pid_file, lock):
            shutil.chown(file, account.uid, account.gid)
        assert cluster.status().state == "stopped"
        assert cluster.stop().state == "stopped", "stop must not kill whoever has the number now"
        assert other.poll() is None
        assert cluster.start().running
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_half_an_initdb_is_redone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    cluster.stop()
    record = marker.read_record(cluster.directory)
    assert record is not None
    record.initialised = False
    marker.write_record(cluster.directory, record)
    (Path(str(status.data_dir)) / "global" / "pg_control").unlink()
    assert cluster.status().state == "absent"
    assert cluster.start().running


def test_two_starts_at_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    pids: list[int | None] = []
    threads = [threading.Thread(target=lambda: pids.append(cluster.start().pid)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 2
    assert len(set(pids)) == 1


def test_two_side_by_side(make_cluster: MakeCluster, ask: Ask) -> None:
    one, other = make_cluster("one"), make_cluster("other")
    assert one.start().dsn != other.start().dsn
    ask(one, "create table only_here as select 1 as n")
    assert ask(other, "select to_regclass('only_here') is null") is True
    one.stop()
    assert other.status().running


@pytest.mark.parametrize("name", ["d" * 120, 'it\'s "odd" $HOME, é'])
def test_long_and_odd_directory_names(make_cluster: MakeCluster, ask: Ask, name: str) -> None:
    cluster = make_cluster(name)
    status = cluster.start()
    assert len(f"{status.socket_dir}/.s.PGSQL.{status.port}") <= place.SOCKET_PATH_LIMIT
    assert ask(cluster, "select 1") == 1
    cluster.remove()
    assert not Path(str(status.socket_dir)).exists()


def test_moved_while_running(make_cluster: MakeCluster, room: Path, ask: Ask) -> None:
    cluster = make_cluster("before")
    cluster.start()
    # the server loses its files' names and is cut off in the end: only what was committed durably must be there
    ask(cluster, "set synchronous_commit = on; create table kept as select 7 as n")
    cluster.directory.rename(room / "after")
    moved = make_cluster("after")
    assert moved.start().running
    assert ask(moved, "select n from kept") == 7


def test_a_lost_socket_is_restored(make_cluster: MakeCluster, ask: Ask) -> None:
    cluster = make_cluster()
    status = cluster.start()
    shutil.rmtree(Path(str(status.socket_dir)))
    assert cluster.start().running
    assert ask(cluster, "select 1") == 1


def test_a_dropped_database_is_made_again(make_cluster: MakeCluster, ask: Ask) -> None:
    cluster = make_cluster()
    cluster.start()
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute("drop database ubp")
    cluster.start()
    assert ask(cluster, "select 1") == 1


def test_a_failed_start_tells_the_servers_reason(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("alter system set shared_preload_libraries = 'no_such_library'")
    cluster.stop()
    with pytest.raises(ClusterError, match="no_such_library") as caught:
        cluster.start()
    assert str(status.log_file) in str(caught.value.hint)


def test_another_package_path_restarts_the_server(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    record = marker.read_record(cluster.directory)
    assert record is not None
    record.python_path = ["/where/the/venv/was"]
    marker.write_record(cluster.directory, record)
    again = cluster.start()
    assert again.pid != status.pid
    assert again.python_path == status.python_path


def test_remove_leaves_nothing(make_cluster: MakeCluster, room: Path) -> None:
    cluster = make_cluster()
    status = cluster.start()
    cluster.remove()
    assert list(room.iterdir()) == []
    assert not Path(f"/proc/{status.pid}/cwd").exists()
    cluster.remove()
