"""What a cluster refuses, and that each refusal says what to do."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.embedded.conftest import MakeCluster
from ubp_sql.embedded import Cluster, marker, place
from ubp_sql.embedded.account import server_account
from ubp_sql.embedded.binaries import OVERRIDE, find_binaries
from ubp_sql.errors import ClusterError


def refused(cluster: Cluster, match: str) -> ClusterError:
    with pytest.raises(ClusterError, match=match) as caught:
        cluster.start()
    assert caught.value.sqlstate == "UB013"
    assert caught.value.exit_code != 0
    assert caught.value.hint
    return caught.value


def test_a_directory_with_other_things_in_it(make_cluster: MakeCluster, room: Path) -> None:
    (room / "c").mkdir()
    (room / "c" / "thesis.txt").write_text("three years")
    cluster = make_cluster()
    refused(cluster, "not an embedded cluster and not empty")
    with pytest.raises(ClusterError):
        cluster.stop()
    assert (room / "c" / "thesis.txt").read_text() == "three years"
    assert len(list((room / "c").iterdir())) == 1
    shutil.rmtree(room / "c")


def test_a_file_in_the_directorys_place(room: Path) -> None:
    (room / "f").write_text("")
    with pytest.raises(ClusterError, match="cannot be used"):
        Cluster(room / "f").start()


@pytest.mark.parametrize(
    ("content", "match"), [("{", "damaged"), ('{"no": 1}', "damaged"), (None, "another version of ubp_sql")]
)
def test_a_marker_that_cannot_be_read(room: Path, content: str | None, match: str) -> None:
    (room / "c").mkdir()
    newer = {"home": "", "account": "a", "port": 1, "socket_dir": "/x", "format": marker.FORMAT + 1}
    (room / "c" / marker.MARKER).write_text(json.dumps(newer) if content is None else content)
    refused(Cluster(room / "c"), match)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(room: Path) -> None:
    (room / "c").mkdir()
    os.chown(room / "c", 65534, 65534)
    refused(Cluster(room / "c"), "belongs to")


def test_data_of_another_major_version(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start()
    cluster.stop()
    record = marker.read_record(cluster.directory)
    assert record is not None
    record.version = "9.6"
    marker.write_record(cluster.directory, record)
    refused(cluster, "made by PostgreSQL 9")


def test_data_that_are_gone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    cluster.stop()
    shutil.rmtree(str(status.data_dir))
    refused(cluster, "are gone")


def test_a_server_that_is_still_recovering_is_left_alone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.start()
    pid_file = Path(str(status.data_dir)) / "postmaster.pid"
    content = pid_file.read_text()
    pid_file.write_text(content.replace("ready", "starting"))
    assert cluster.status().state == "starting"
    with pytest.raises(ClusterError, match="has been starting"):
        cluster.start(timeout=0.5)
    pid_file.write_text(content)
    assert cluster.start().pid == status.pid


def test_no_server_installed(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, str(room / "nowhere"))
    assert "apt-get install postgresql postgresql-plpython3" in str(refused(Cluster(room / "c"), "no PostgreSQL").hint)


def test_server_without_plpython_or_for_another_python(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_binaries()
    (room / "bin").mkdir()
    for name in ("postgres", "initdb", "pg_ctl", "psql"):
        (room / "bin" / name).symlink_to(real.bindir / name)
    monkeypatch.setenv(OVERRIDE, str(room / "bin"))
    error = refused(Cluster(room / "c"), "has no PL/Python")
    assert f"postgresql-plpython3-{real.major}" in str(error.hint)
    (room / "lib").mkdir()
    (room / "lib" / "plpython3.so").write_bytes(b"\0libpython3.7m.so.1.0\0")
    refused(Cluster(room / "c"), r"links Python 3\.7, but this is Python 3")


def test_a_full_disk(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 << 30, 10 << 30, 5 << 20))
    refused(make_cluster(), "5 MB of free disk space")


def test_a_socket_directory_made_by_others_first(make_cluster: MakeCluster, room: Path) -> None:
    cluster = make_cluster("d" * 120)
    squatted = place.choose_socket_dir(cluster.directory, server_account())
    assert squatted.parent != cluster.directory
    squatted.mkdir()
    squatted.chmod(0o777)
    try:
        refused(cluster, "must be a directory of")
    finally:
        shutil.rmtree(squatted)


def test_psql_needs_a_running_cluster(room: Path) -> None:
    with pytest.raises(ClusterError, match="no cluster") as caught:
        Cluster(room / "c").psql_argv()
    assert "embedded start" in str(caught.value.hint)
