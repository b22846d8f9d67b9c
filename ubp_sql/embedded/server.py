"""Runs PostgreSQL's programs on a cluster's files, under the server's account: initdb, pg_ctl, psql."""

import shutil
from pathlib import Path

from ubp_sql.embedded.account import Account
from ubp_sql.embedded.binaries import Binaries
from ubp_sql.embedded.marker import Record
from ubp_sql.embedded.place import private_directory, remove_tree
from ubp_sql.embedded.postmaster import clear_leftovers
from ubp_sql.embedded.pythonpath import server_environment
from ubp_sql.embedded.settings import PG_HBA, configuration
from ubp_sql.errors import ClusterError

SUPERUSER = "postgres"
NEEDED_SPACE = 200 << 20  # bytes: a new cluster takes 40 MB, its first WAL segments up to 80
LONGEST_LOG = 10 << 20  # bytes, then a new file is begun and one old one kept


def initialise(home: Path, account: Account, binaries: Binaries, *, fast: bool) -> None:
    """A new data directory; one that a killed initdb left half-made is redone."""
    data = home / "data"
    if data.exists():
        clear_leftovers(data, home / "run")
        remove_tree(data)
    free = shutil.disk_usage(home).free
    if free < NEEDED_SPACE:
        raise ClusterError(
            f"{home} has {free >> 20} MB of free disk space, a cluster needs {NEEDED_SPACE >> 20} MB to begin with",
            hint="free some space, or choose another --dir",
        )
    private_directory(data, account)
    argv = [binaries.program("initdb"), "-D", "data", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"]
    made = account.run([*argv, "--auth=trust", *(["--no-sync"] if fast else [])], cwd=home, timeout=300)
    if made.returncode != 0:
        raise ClusterError(f"initdb failed: {' '.join(made.stderr.split()) or made.returncode}")


def launch(home: Path, record: Record, account: Account, binaries: Binaries, *, fast: bool, timeout: float) -> None:
    """Writes the configuration, starts the server, waits until it accepts connections."""
    text = configuration(port=record.port, socket_dir=Path(record.socket_dir), fast=fast)
    for name, content in (("ubp.conf", text), ("pg_hba.conf", PG_HBA)):
        (home / name).write_text(content)
        (home / name).chmod(0o644)
    clear_leftovers(home / "data", Path(record.socket_dir))
    log = home / "log" / "server.log"
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    begin = log.stat().st_size if log.exists() else 0
    # Relative names, because pg_ctl hands them to a shell: a directory's name may hold anything.
    argv = [binaries.program("pg_ctl"), "start", "-D", "data", "-l", "log/server.log", "-w", "-s"]
    options = "-c config_file=ubp.conf -c hba_file=pg_hba.conf"
    started = account.run(
        [*argv, "-t", str(int(timeout)), "-o", options],
        cwd=home,
        environment=server_environment(record.python_path, home / "cache"),
        timeout=timeout + 30,
    )
    if started.returncode != 0:
        raise ClusterError(
            f"PostgreSQL {binaries.version} did not start: {_last_words(log, begin) or started.stderr.strip()}",
            hint=f"the whole log: {log}",
        )


def ensure_database(name: str, record: Record, account: Account, binaries: Binaries) -> None:
    """Creates the database if it is not there; proves that the server can be used."""
    psql = [binaries.program("psql"), "-XAtq", f"--dbname={connection_string(record, 'postgres')}", "-c"]
    found = account.run([*psql, f"select 1 from pg_database where datname = '{name}'"])  # noqa: S608  (our constant)
    if found.returncode == 0 and found.stdout.strip() != "1":
        found = account.run([*psql, f"create database {name}"])
    if found.returncode != 0:
        raise ClusterError(f"the cluster runs but cannot be used: {' '.join(found.stderr.split())}")


def connection_string(record: Record, database: str) -> str:
    """libpq's keyword form; the socket directory's name never needs quotes (see place.choose_socket_dir)."""
    return f"host={record.socket_dir} port={record.port} user={SUPERUSER} dbname={database}"


def _last_words(log: Path, begin: int) -> str:
    """What the server wrote since `begin`: its FATAL and PANIC lines, else the last three."""
    try:
        with log.open(errors="replace") as file:
            file.seek(begin)
            lines = [line.strip() for line in file if line.strip()]
    except OSError:
        return ""
    return " | ".join([line for line in lines if "FATAL:" in line or "PANIC:" in line][-3:] or lines[-3:])
