"""`ubp-sql doctor`: each fault is made, found, named in plain words, and mended where that can be done from here."""

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

import ubp_sql
from tests.fix_database import Database, create, drop
from tests.install import catalogue
from tests.install.conftest import Cli, Login
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.account import NEUTRAL_ENVIRONMENT, Account
from ubp_sql.install import commands, doctor, server_python
from ubp_sql.install.doctor import Finding, examine

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mends only as root")


@pytest.fixture
def db(db: Database) -> Database:
    """A clone of a database does not take over its settings."""
    db.execute(f'alter database {db.name} set search_path = "$user", public, ubp')
    return db


def finding(name: str, dsn: str, *, fix: bool = False) -> Finding:
    """The one finding of that name; the names are unique."""
    [found] = [f for f in examine(dsn, fix=fix) if f.name == name]
    return found


def faults(dsn: str, *, fix: bool = False) -> list[str]:
    return [f.name for f in examine(dsn, fix=fix) if not f.ok]


def test_nothing_is_wrong(db: Database, cli: Cli) -> None:
    found = examine(db.dsn, fix=False)
    assert [f for f in found if not f.ok] == []
    assert len({f.name for f in found}) == len(found)
    text = "\n".join(f.text for f in found)
    for part in ("this client: ubp_sql", "LightGBM", "PostgreSQL", "on this machine", "UTF8", "numba", "superuser"):
        assert part in text
    assert cli("doctor", "--dsn", db.dsn).exit_code == 0
    shown = cli("doctor", "--dsn", db.dsn, "--json")
    assert [f["name"] for f in json.loads(shown.stdout)] == [f.name for f in found]


def test_no_server(cli: Cli) -> None:
    assert faults("host=/nowhere dbname=x") == ["connection", "the rest"]
    done = cli("doctor", "--dsn", "host=/nowhere dbname=x")
    assert done.exit_code == 6
    assert "cannot connect" in done.stdout
    assert "Traceback" not in done.output


def test_looking_leaves_nothing(empty_db: Database) -> None:
    before = catalogue.everything(empty_db.dsn)
    for fix in (False, True):
        found = finding("installation", empty_db.dsn, fix=fix)
        assert not found.ok
        assert "ubp-sql init" in found.way_out
        assert catalogue.everything(empty_db.dsn) == before
    assert finding("server's Python", empty_db.dsn).ok, "asked without leaving the language behind"
    assert "init` creates it" in finding("language", empty_db.dsn).text


def test_a_language_that_was_dropped(db: Database) -> None:
    objects = catalogue.objects(db.dsn)
    db.execute("drop extension plpython3u cascade")
    found = finding("installation", db.dsn)
    assert not found.ok
    assert "language plpython3u" in found.text
    assert "mended: `migrate apply` ran" in finding("installation", db.dsn, fix=True).text
    assert catalogue.objects(db.dsn) == objects
    assert faults(db.dsn) == []


def test_a_native_library_that_is_not_there(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = server_python.probe
    monkeypatch.setattr(server_python, "probe", lambda *a, **k: dataclasses.replace(probe(*a, **k), native=False))
    found = finding("native library", db.dsn)
    assert not found.ok
    for what in ("scores", "live features", "refreshes", "training sets", "same results"):
        assert what in found.text
    assert "doctor --fix" in found.way_out


def test_functions_of_an_older_package(db: Database) -> None:
    db.execute("update ubp.installation set package_version = '0.0.1'")
    assert faults(db.dsn) == ["installation"]
    assert faults(db.dsn, fix=True) == []
    assert db.one("select package_version from ubp.installation") == ubp_sql.__version__


def test_a_newer_database(db: Database) -> None:
    db.execute("update ubp.installation set package_version = '99.0.0'")
    for fix in (False, True):
        found = finding("installation", db.dsn, fix=fix)
        assert not found.ok
        assert "installed by 99.0.0" in found.text
        assert "install ubp_sql 99.0.0" in found.way_out


def test_another_package_on_the_client(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ubp_sql, "__version__", "0.0.1")
    found = finding("package versions", db.dsn)
    assert not found.ok
    assert "this client 0.0.1" in found.text


def test_objects_of_others(db: Database) -> None:
    db.execute("create function ubp.theirs() returns integer language sql as 'select 1'")
    found = finding("installation", db.dsn, fix=True)
    assert not found.ok
    assert "function ubp.theirs()" in found.text


def test_search_path_that_a_dump_lost(empty_db: Database) -> None:
    with empty_db.connect() as conn:
        commands.init(conn)
    assert "without the prefix" in finding("search_path", empty_db.dsn).text
    empty_db.execute(f"alter database {empty_db.name} reset search_path")
    assert not finding("search_path", empty_db.dsn).ok
    assert "mended: alter database" in finding("search_path", empty_db.dsn, fix=True).text
    assert empty_db.one("show search_path") == '"$user", public, ubp'
    assert faults(empty_db.dsn) == []


def test_without_rights(db: Database, login: Login) -> None:
    stranger = f"{db.dsn} user={login()}"
    assert faults(stranger) == faults(stranger, fix=True) == ["rights", "installation"]
    assert "grant ubp_analyst" in finding("rights", stranger).way_out


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("ubp_loader", "ubp_loader: may load, refresh, score;"),
        ("ubp_analyst", "ubp_analyst: may predict and read"),
        ("ubp_auditor", "ubp_auditor: may read every table"),
        ("ubp_admin", "is a member of ubp_admin: may define, train, deploy"),
    ],
)
def test_as_a_member(db: Database, login: Login, cli: Cli, role: str, may: str) -> None:
    dsn = f"{db.dsn} user={login(role)}"
    assert faults(dsn) == faults(dsn, fix=True) == []
    assert f"imports ubp_sql {ubp_sql.__version__}" in finding("server's Python", dsn).text
    assert may in finding("rights", dsn).text
    shown = cli("doctor", "--dsn", dsn)
    assert shown.exit_code == 0
    assert "not looked at: needs a superuser" in shown.stdout
    assert cli("migrate", "status", "--dsn", dsn).exit_code == 0


def test_another_encoding(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
    database = Database(cluster, "latin")
    found = finding("encoding", database.dsn)
    drop(database)
    assert not found.ok
    assert "LATIN1" in found.text


@root_only
def test_a_cache_that_others_may_write(db: Database) -> None:
    path = Path(finding("cache", db.dsn).text.split(" in ")[1])
    path.chmod(0o777)
    found = finding("cache", db.dsn)
    assert not found.ok
    assert "compiled anew" in found.text
    assert "mended" in finding("cache", db.dsn, fix=True).text
    assert path.stat().st_mode & 0o777 == 0o700


@root_only
@pytest.mark.parametrize("closed", [True, False])
def test_a_cache_that_cannot_be_made(
    db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: bool
) -> None:
    """A HOME that the server's account cannot reach, or a disk that takes nothing: another place is named."""
    probe = server_python.probe
    home = tmp_path / "home" / ".cache" / "ubp_sql"
    home.parents[1].mkdir(mode=0o700 if closed else 0o755)

    def broken(conn: Any, *, language: bool) -> server_python.ServerPython:
        return dataclasses.replace(probe(conn, language=language), cache=None, home=str(home))

    monkeypatch.setattr(server_python, "probe", broken)
    monkeypatch.setattr(server_python, "reachable", lambda account, folder: not closed)
    found = finding("cache", db.dsn, fix=True)
    assert not found.ok
    assert f"cannot use {home}" in found.text
    assert ("tried: gave" in found.text) == home.exists() == (not closed)
    assert str(home) not in found.way_out
    for part in (f" {doctor.CACHE}; then", "UBP_SQL_CACHE_DIR=", "/environment"):
        assert part in found.way_out


@root_only
def test_who_can_be_reached(db: Database, tmp_path: Path) -> None:
    with db.connect() as conn:
        account = server_python.probe(conn, language=True).account
    tmp_path.chmod(0o700)
    assert not server_python.reachable(account, tmp_path / "a" / "b")
    assert server_python.reachable(account, Path("/var/there/is/none"))


def test_a_broken_client(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        if name == "numba":
            raise ImportError("Numba needs NumPy 2.0 or less")
        return sys.modules.get(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    found = finding("client libraries", db.dsn)
    assert not found.ok
    assert "numba (ImportError: Numba needs NumPy 2.0 or less)" in found.text


def test_no_libgomp(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []

    def apt(package: str) -> bool:
        installed.append(package)
        return True

    monkeypatch.setattr(doctor, "_loads", lambda library: bool(installed))
    monkeypatch.setattr(doctor, "_apt", apt)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert finding("libgomp", db.dsn).way_out == "apt-get install libgomp1"
    assert "mended: installed libgomp1" in finding("libgomp", db.dsn, fix=True).text
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert finding("libgomp", db.dsn).ok, "a client without LightGBM needs none"


def test_no_plpython_on_the_server(empty_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor._Server, "_available", lambda self: False)
    monkeypatch.setattr(doctor, "_apt", lambda package: False)
    for fix in (False, True):
        found = finding("language", empty_db.dsn, fix=fix)
        assert not found.ok
        assert "apt-get install postgresql-plpython3-" in found.way_out
        assert "not looked at" in finding("server's Python", empty_db.dsn, fix=fix).text


@pytest.fixture(scope="module")
def bare_server() -> Iterator[Database]:
    """A database of a server whose Python has never heard of the package."""
    directory = Path(tempfile.mkdtemp(prefix="ubp-bare-"))
    directory.chmod(0o711)
    made = Cluster(directory, fast=True)

    start = Account.run

    def without_path(self: Account, argv: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        environment = dict(options.pop("environment", NEUTRAL_ENVIRONMENT))
        environment.pop("PYTHONPATH", None)
        return start(self, argv, environment=environment, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(Account, "run", without_path)
    try:
        made.start()
        database = create(made, "template0")
        yield database
    finally:
        patch.undo()
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


def test_a_package_that_the_server_cannot_import(bare_server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    found = finding("server's Python", bare_server.dsn)
    assert not found.ok
    assert "cannot import ubp_sql: ModuleNotFoundError" in found.text
    if server_python.needed_folders() and os.geteuid() == 0:
        assert "printf" in found.way_out or "cannot read" in found.way_out
        assert "ubp_sql.pth" in found.way_out
    monkeypatch.setattr(doctor, "CLIENT_PYTHON", (3, 99))
    found = finding("server's Python", bare_server.dsn, fix=True)
    assert "this client's Python is 3.99" in found.way_out
    assert f"-m venv {doctor.VENV}" in found.way_out


@pytest.mark.parametrize("command", [["init"], ["migrate", "apply"]])
def test_init_looks_before_it_runs(bare_server: Database, cli: Cli, command: list[str]) -> None:
    before = catalogue.everything(bare_server.dsn)
    done = cli(*command, "--dsn", bare_server.dsn)
    assert done.exit_code == 6
    error, hint = done.stderr.strip().splitlines()
    assert error.startswith("error UB011: the server's Python 3.")
    assert "cannot import the package: ModuleNotFoundError: No module named 'ubp_sql'" in error
    assert str(Path(ubp_sql.__file__).parents[1]) in hint
    assert "ubp-sql doctor --fix" in hint
    assert catalogue.everything(bare_server.dsn) == before


@root_only
def test_the_pth_file(bare_server: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Written elsewhere than in the machine's own Python, so the new session cannot see it: tried, and said so."""
    path = tmp_path / "dist-packages" / "ubp_sql.pth"
    monkeypatch.setattr(server_python, "pth_file", lambda server: path)
    monkeypatch.setattr(server_python, "unreadable", lambda account, folders: [])
    found = finding("server's Python", bare_server.dsn, fix=True)
    assert f"tried: wrote {path}" in found.text
    assert path.stat().st_mode & 0o777 == 0o644
    lines = path.read_text().splitlines()
    assert str(Path(ubp_sql.__file__).parents[1]) in lines
    assert all((Path(line) / "numpy").is_dir() or (Path(line) / "ubp_sql").is_dir() for line in lines)
    assert list(path.parent.iterdir()) == [path], "no draft is left"


@root_only
def test_folders_that_the_server_cannot_read(bare_server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_python, "unreadable", lambda account, folders: folders[:1])
    found = finding("server's Python", bare_server.dsn, fix=True)
    assert not found.ok
    assert "cannot read" in found.way_out
    assert f"{doctor.VENV}/lib/python" in found.way_out
