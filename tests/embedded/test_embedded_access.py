"""Who may come in, and what the server's account can read: mostly a matter of root's clusters."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import ubp_sql
from tests.embedded.conftest import Ask
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.account import Account, server_account
from ubp_sql.embedded.pythonpath import LIBRARIES, OPTIONAL_LIBRARIES, server_environment, server_path

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose server runs under another account")


class BlindAccount(Account):
    """The server's account as it is when everything of the caller's lies in a closed directory."""

    def can_enter(self, directory: Path) -> bool:
        return False


@pytest.fixture
def blind() -> BlindAccount:
    return BlindAccount(**dataclasses.asdict(server_account()))


@root_only
def test_root_drops_its_rights(cluster: Cluster, ask: Ask) -> None:
    status = cluster.status()
    process = Path(f"/proc/{status.pid}/status").read_text()
    uids = next(line for line in process.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids
    assert Path(str(status.data_dir)).stat().st_uid == int(uids[0])
    assert ask(cluster, "select 1") == 1, "root connects without a password"


@root_only
def test_other_accounts_cannot_connect(cluster: Cluster) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *cluster.psql_argv("-c", "select 1")]
    tried = subprocess.run(as_nobody, capture_output=True, text=True, check=False, cwd="/")
    assert tried.returncode != 0
    assert "Permission denied" in tried.stderr


def test_private_parts_are_private(cluster: Cluster) -> None:
    status = cluster.status()
    data = Path(str(status.data_dir))
    for part in (data, data.parent / "cache", data.parent / "log", Path(str(status.socket_dir))):
        assert part.stat().st_mode & 0o077 == 0, part


@pytest.mark.parametrize("setting", ["dynamic_library_path", "session_preload_libraries"])
def test_a_database_user_cannot_choose_the_code(cluster: Cluster, ask: Ask, setting: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(cluster, f"set role pg_monitor; set {setting} = '/tmp/evil'")


@root_only
def test_a_closed_parent_directory(tmp_path: Path, ask: Ask) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = Cluster(closed / ".ubp", fast=True)
    try:
        status = cluster.start()
        assert not str(status.data_dir).startswith(str(closed))
        assert ask(cluster, "select 1") == 1
        assert closed.stat().st_mode & 0o777 == 0o700, "nobody's directories are opened up"
        ask(cluster, "create table old as select 1 as n")
        shutil.rmtree(closed / ".ubp")
        assert cluster.status().state == "absent"
        assert cluster.start().running
        assert ask(cluster, "select to_regclass('old') is null") is True, "a removed directory means to begin anew"
    finally:
        cluster.remove()
    assert not Path(str(status.data_dir)).parent.exists()


@root_only
def test_a_copied_directory_is_a_cluster_of_its_own(tmp_path: Path) -> None:
    original = Cluster(tmp_path / "one", fast=True)
    copy = Cluster(tmp_path / "two", fast=True)
    try:
        dsn = original.start().dsn
        shutil.copytree(original.directory, copy.directory)
        assert copy.status().state == "absent"
        assert copy.start().dsn != dsn
        copy.remove()
        assert original.status().running
        original.stop()
        original.directory.rename(copy.directory)
        assert copy.start().dsn == dsn, "a moved one is still the same"
    finally:
        copy.remove()
        original.remove()


def test_unreadable_package_and_libraries_are_copied(room: Path, blind: BlindAccount) -> None:
    path = server_path(room, blind)
    assert all(Path(entry).is_relative_to(room) for entry in path)
    libraries = [name for name in LIBRARIES + OPTIONAL_LIBRARIES if importlib.util.find_spec(name)]
    assert libraries[-1] == "onnxruntime", "for the tests it is there"
    imported = ["ubp_sql.errors", *libraries]
    code = f"import {', '.join(imported)}; print({', '.join(f'{name}.__file__' for name in imported)})"
    account = server_account()
    environment = server_environment(path, room)
    tried = account.run(
        [f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}", "-c", code], environment=environment
    )
    assert tried.returncode == 0, tried.stderr
    files = tried.stdout.split()
    assert len(files) == len(imported)
    assert all(file.startswith(str(room)) for file in files)


def test_what_is_optional_may_be_missing(room: Path, blind: BlindAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.embedded.pythonpath.OPTIONAL_LIBRARIES", ("no_such_library",))
    path = server_path(room, blind)
    assert all(Path(entry).is_relative_to(room) for entry in path)
    assert not any((Path(entry) / "onnxruntime").exists() for entry in path)


def test_a_changed_package_is_copied_again(room: Path, blind: BlindAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    package = room / "source" / "ubp_sql"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '1'\n")
    (package / "__init__.py").chmod(0o600)
    monkeypatch.setattr(ubp_sql, "__file__", str(package / "__init__.py"))
    copied = Path(server_path(room, blind)[0])
    assert copied.resolve().is_relative_to(room / "python")
    first = (copied / "ubp_sql" / "__init__.py").stat()
    assert first.st_mode & 0o004
    assert server_path(room, blind)[0] == str(copied)
    assert (copied / "ubp_sql" / "__init__.py").stat().st_ino == first.st_ino, "not copied without need"
    (package / "__init__.py").write_text("__version__ = '2'\n")
    assert server_path(room, blind)[0] == str(copied), "running servers keep their path"
    assert "'2'" in (copied / "ubp_sql" / "__init__.py").read_text()
    assert len(list((room / "python").iterdir())) == 2, "old copies go"
