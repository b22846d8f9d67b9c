"""A PostgreSQL cluster of one's own in one directory: made, started and stopped without any set-up by hand."""

import os
from dataclasses import dataclass
from pathlib import Path

from ubp_sql.embedded import place
from ubp_sql.embedded.account import Account, server_account
from ubp_sql.embedded.binaries import find_binaries
from ubp_sql.embedded.marker import Record, locked, read_record, register, write_record
from ubp_sql.embedded.postmaster import Postmaster, find_postmaster, settled_postmaster, stop_postmaster
from ubp_sql.embedded.pythonpath import server_path
from ubp_sql.embedded.server import connection_string, ensure_database, initialise, launch
from ubp_sql.errors import ClusterError

DATABASE = "ubp"
FIRST_PORT = 54320
STOP_PATIENCE = 30.0  # seconds until sessions that do not end are cut off


@dataclass(frozen=True)
class Status:
    """How a cluster is: `state` is running, starting, stopped or absent (never started, or removed)."""

    state: str
    dsn: str | None = None
    port: int | None = None
    socket_dir: str | None = None
    pid: int | None = None
    data_dir: str | None = None
    log_file: str | None = None
    version: str | None = None
    python_path: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Ready for connections."""
        return self.state == "running"


class Cluster:
    """The cluster of `directory`. All methods raise ClusterError (UB013) with a way out as the hint.

    `fast` gives up durability (fsync off): for tests, whose data may be lost.
    Started by root, the server runs as an unprivileged account, and its files lie outside `directory` if that account
    cannot reach it. Nobody but that account, and root, can connect.
    """

    def __init__(self, directory: Path, *, fast: bool = False) -> None:
        self.directory = Path(directory).resolve()
        self.fast = fast
        if any(ord(letter) < 32 for letter in str(self.directory)):
            raise ClusterError("the cluster directory's name has control characters", hint="choose another --dir")

    def start(self, *, timeout: float = 120) -> Status:
        """Makes what is missing, starts the server, waits until it is ready, creates the database. Idempotent.

        A server that was started with another path to the package is restarted.
        """
        try:
            if read_record(self.directory) is None and not self.directory.exists():
                # root's lets the server's account through to its own parts, which are 0700
                self.directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            with locked(self.directory):
                self._start(timeout)
        except OSError as error:
            raise ClusterError(f"cannot make a cluster in {self.directory}: {error}") from error
        return self.status()

    def stop(self) -> Status:
        """Ends the server; sessions are cut off after 30 s. A stopped cluster stays as it is."""
        record = read_record(self.directory)
        if record is not None:
            with locked(self.directory):
                stop_postmaster(self._home(record) / "data", STOP_PATIENCE)
        return self.status()

    def status(self) -> Status:
        """Looks, and changes nothing."""
        record = read_record(self.directory)
        if record is None or not record.initialised:
            return Status("absent")
        home = self._home(record)
        server = find_postmaster(home / "data")
        return Status(
            state="stopped" if server is None else "running" if server.ready else "starting",
            dsn=connection_string(record, DATABASE),
            port=record.port,
            socket_dir=record.socket_dir,
            pid=server.pid if server else None,
            data_dir=str(home / "data"),
            log_file=str(home / "log" / "server.log"),
            version=record.version,
            python_path=tuple(record.python_path),
        )

    def dsn(self, database: str = DATABASE) -> str:
        """libpq's keyword form, for a cluster that has been started before."""
        return connection_string(self._made(), database)

    def psql_argv(self, *arguments: str, database: str = DATABASE) -> list[str]:
        """The command line of this server's own psql on a database of the cluster."""
        record = self._made()
        if not self.status().running:
            raise ClusterError(f"the cluster in {self.directory} is not running", hint=self._start_hint())
        return [
            find_binaries(record.major).program("psql"),
            f"--dbname={connection_string(record, database)}",
            *arguments,
        ]

    def remove(self) -> None:
        """Stops the server and deletes the cluster with all its data, wherever it lies."""
        record = read_record(self.directory)
        if record is None:
            return
        self.stop()
        place.remove_tree(Path(record.socket_dir))
        place.remove_tree(self._home(record))
        place.remove_tree(self.directory)

    def _home(self, record: Record) -> Path:
        return Path(record.home) if record.home else self.directory

    def _made(self) -> Record:
        record = read_record(self.directory)
        if record is None or not record.initialised:
            raise ClusterError(f"there is no cluster in {self.directory}", hint=self._start_hint())
        return record

    def _start_hint(self) -> str:
        return f"ubp-sql embedded start --dir {self.directory}"

    def _start(self, timeout: float) -> None:
        record = read_record(self.directory)
        account = server_account(record.account if record else None)
        record = record or self._new_record(account)
        if record.account != account.name:
            raise ClusterError(
                f"the files in {self._home(record)} are {record.account}'s, this server would run as {account.name}",
                hint=f"remove {self.directory} to begin anew",
            )
        home = self._home(record)
        data = home / "data"
        if record.initialised and not (data / "PG_VERSION").exists():
            raise ClusterError(f"the cluster's data in {data} are gone", hint=f"remove {self.directory} to begin anew")
        binaries = find_binaries(record.major)
        for name in ("log", "cache"):
            place.private_directory(home / name, account)
        path = server_path(home, account)
        server = settled_postmaster(data, timeout)
        if server and (record.python_path != path or not _reachable(server, data, record)):
            stop_postmaster(data, STOP_PATIENCE)
            server = None
        if server is None:
            if not record.initialised:
                initialise(home, account, binaries, fast=self.fast)
            record.initialised, record.version, record.python_path = True, binaries.version, path
            record.socket_dir = str(place.choose_socket_dir(home, account))
            place.private_directory(Path(record.socket_dir), account)
            write_record(self.directory, record)
            if record.home:
                register(home, self.directory)
            launch(home, record, account, binaries, fast=self.fast, timeout=timeout)
        ensure_database(DATABASE, record, account, binaries)

    def _new_record(self, account: Account) -> Record:
        home = place.choose_home(self.directory, account)
        data = home / "data"
        if data.exists():  # an outside home whose directory was removed: begin anew, but keep what was there once more
            stop_postmaster(data, STOP_PATIENCE)
            place.remove_tree(home / "data.old")
            data.rename(home / "data.old")
        port = FIRST_PORT + int(place.short_hash(home), 16) % 10_000
        socket_dir = place.choose_socket_dir(home, account)
        record = Record("" if home == self.directory else str(home), account.name, port, str(socket_dir))
        write_record(self.directory, record)
        return record


def _reachable(server: Postmaster, data: Path, record: Record) -> bool:
    """Whether the server knows its present place (the directory may have been moved) and still has its socket."""
    socket = Path(record.socket_dir) / f".s.PGSQL.{record.port}"
    return server.data_dir == os.path.realpath(data) and socket.exists()
