"""Fixture: a streaming standby of the test cluster, read only, that can be promoted once."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.fix_database import Database, create, drop
from tests.serving_shop import fill
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.account import Account, server_account
from ubp_sql.embedded.binaries import Binaries, find_binaries
from ubp_sql.embedded.marker import Record
from ubp_sql.embedded.place import private_directory
from ubp_sql.embedded.postmaster import stop_postmaster
from ubp_sql.embedded.server import connection_string, launch

PATIENCE = 20.0  # seconds; replay takes milliseconds
REPLICATION = "local replication all trust\n"


class Standby:
    """A second server that replays what the first one writes."""

    def __init__(self, primary: Database, record: Record) -> None:
        self.primary, self.dsn = primary, connection_string(record, primary.name)

    def connect(self) -> psycopg.Connection[Any]:
        """A new autocommit connection to the standby."""
        return psycopg.connect(self.dsn, autocommit=True)

    def follow(self) -> None:
        """Waits until all is replayed that was committed on the primary so far."""
        # The database's commits are synchronous: this one sends all before it along, and is the end of a record.
        position = self.primary.one("select pg_logical_emit_message(true, 'sent', '')")
        self.wait_for("pg_last_wal_replay_lsn() >= %s::pg_lsn", position)

    def wait_for(self, condition: str, *arguments: object) -> None:
        """Waits until the standby says so."""
        with self.connect() as conn:
            until = time.monotonic() + PATIENCE
            while conn.execute(f"select {condition}".encode(), arguments).fetchone() != (True,):
                assert time.monotonic() < until, "the standby does not follow"
                time.sleep(0.005)


@pytest.fixture(scope="package")
def primary(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A small database of the test cluster that serves."""
    made = create(cluster, installed)
    with made.connect() as conn:
        fill(conn)
        # In a cluster without durability a commit is sent along a while after it returns.
        conn.execute(sql.SQL("alter database {} set synchronous_commit = on").format(sql.Identifier(made.name)))
    yield made
    drop(made)


@pytest.fixture(scope="module")
def standby(primary: Database, cluster: Cluster) -> Iterator[Standby]:
    """A copy of the whole test cluster, streaming from it; it is gone before the primary's database is."""
    binaries = find_binaries()
    if not (binaries.bindir / "pg_basebackup").exists():
        pytest.skip("this server was installed without pg_basebackup")
    account = server_account()
    home = Path(tempfile.mkdtemp(prefix="ubp-standby-"))
    home.chmod(0o711)
    try:
        for name in ("data", "log", "cache", "run"):
            private_directory(home / name, account)
        _copy(primary, home, account, binaries)
        port = primary.one("select current_setting('port')::integer") + 1
        record = Record("", account.name, port, str(home / "run"), binaries.version, initialised=True)
        record.python_path = list(cluster.status().python_path)
        launch(home, record, account, binaries, fast=True, timeout=60)
        made = Standby(primary, record)
        made.follow()
        yield made
    finally:
        stop_postmaster(home / "data", 5)
        shutil.rmtree(home, ignore_errors=True)


def _copy(primary: Database, home: Path, account: Account, binaries: Binaries) -> None:
    """A base backup in home/data, with the settings of a standby."""
    rules = Path(primary.one("select current_setting('hba_file')"))
    if not rules.is_absolute():
        rules = Path(primary.one("select current_setting('data_directory')")).parent / rules
    with rules.open("a") as file:
        file.write(REPLICATION)
    assert primary.one("select pg_reload_conf()")
    place = [f"--{name}={primary.one(f'select current_setting({setting!r})')}"
             for name, setting in (("host", "unix_socket_directories"), ("port", "port"))]  # fmt: skip
    argv = [binaries.program("pg_basebackup"), "-D", "data", "-U", "postgres", *place]
    argv += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--no-manifest", "--wal-method=stream"]
    made = account.run(argv, cwd=home)
    assert made.returncode == 0, made.stderr
