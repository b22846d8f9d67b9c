"""Fixture: PgBouncer in transaction mode before the test cluster, with two server connections."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fix_database import Database, clone, clone_filled
from tests.serving_shop import fill
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.account import NEUTRAL_ENVIRONMENT, server_account

SERVERS = 2
SETTINGS = """
[databases]
* = host={host} port={port} connect_query='select ubp.warm()'
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {room}
auth_type = trust
auth_file = {room}/users
pool_mode = transaction
default_pool_size = {servers}
max_prepared_statements = 20
ignore_startup_parameters = extra_float_digits
logfile = {room}/log
"""
KNOWS_STATEMENTS = (1, 21)  # versions before it do not know max_prepared_statements


class Pooler:
    """A running PgBouncer."""

    def __init__(self, room: Path, version: tuple[int, ...]) -> None:
        self.room, self.version = room, version

    def connect(self, database: Database, **options: Any) -> psycopg.Connection[Any]:
        """A client's autocommit connection; psycopg's own prepared statements are off."""
        dsn = f"host={self.room} port=6432 user=postgres dbname={database.name}"
        return psycopg.connect(dsn, autocommit=True, prepare_threshold=None, **options)

    @property
    def keeps_statements(self) -> bool:
        """Whether a client's prepared statements follow it from server connection to server connection."""
        return self.version >= KNOWS_STATEMENTS


def program() -> str:
    """Debian has it where root's programs are."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    return found


@pytest.fixture(scope="package")
def pooler(cluster: Cluster) -> Iterator[Pooler]:
    argv = [program()]
    account = server_account()
    said = account.run([*argv, "--version"]).stdout
    version = tuple(int(part) for part in said.split()[1].split(".")[:2])
    room = Path(tempfile.mkdtemp(prefix="ubp-pool-"))
    status = cluster.status()
    text = SETTINGS.format(host=status.socket_dir, port=status.port, room=room, servers=SERVERS)
    if version < KNOWS_STATEMENTS:
        text = text.replace("max_prepared_statements = 20\n", "")
    (room / "settings").write_text(text)
    (room / "users").write_text('"postgres" ""\n"analyst" ""\n')
    for file in (room, *room.iterdir()):
        shutil.chown(file, account.uid, account.gid)
    drop_to = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen([*argv, "-q", str(room / "settings")], env=dict(NEUTRAL_ENVIRONMENT), cwd=room,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **drop_to)  # type: ignore[call-overload]  # fmt: skip
    try:
        until = time.monotonic() + 10
        while not (room / ".s.PGSQL.6432").exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield Pooler(room, version)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        shutil.rmtree(room, ignore_errors=True)


@pytest.fixture(scope="package")
def filled(cluster: Cluster, installed: str) -> Iterator[Database]:
    with clone_filled(cluster, installed, fill) as made:
        yield made


@pytest.fixture
def served(filled: Database, cluster: Cluster) -> Iterator[Database]:
    """A database that serves, with three versions of a model."""
    with clone(cluster, filled.name) as made:
        yield made
