"""Fixtures of the installation's tests: login roles, a cluster with nothing in it, psql."""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from psycopg import sql
from typer.testing import CliRunner, Result

from tests.fix_database import Database, create, drop
from ubp_sql.cli import install
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.binaries import find_binaries

Login = Callable[..., str]
Cli = Callable[..., Result]
Psql = Callable[..., "subprocess.CompletedProcess[str]"]
_numbers = itertools.count(1)


@pytest.fixture
def login(cluster: Cluster) -> Iterator[Login]:
    """Makes login roles that are members of the roles named; they go after the test."""
    made: list[str] = []

    def make(*groups: str) -> str:
        name = f"login_{next(_numbers)}"
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
            made.append(name)
            for group in groups:
                conn.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(name)))
        return name

    yield make
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def lone_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A second cluster, in which no other database holds on to the roles."""
    directory = tmp_path_factory.mktemp("lone")
    made = Cluster(directory / "c", fast=True)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def lone_db(lone_cluster: Cluster) -> Iterator[Database]:
    """An empty database of the second cluster; the roles go with it."""
    made = create(lone_cluster, "template0")
    yield made
    drop(made)
    with psycopg.connect(lone_cluster.dsn("postgres"), autocommit=True) as conn:
        for (name,) in conn.execute("select rolname from pg_roles where rolname like 'ubp\\_%'").fetchall():
            conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def psql() -> Psql:
    """Runs a file through the server's own psql, as a DBA would."""

    def run(database: Database, file: Path, user: str = "postgres") -> "subprocess.CompletedProcess[str]":
        major = database.one("select current_setting('server_version_num')::int / 10000")
        program = find_binaries(str(major)).program("psql")
        argv = [program, "-X", "-v", "ON_ERROR_STOP=1", "-d", f"{database.dsn} user={user}", "-f", str(file)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Runs a command of the DBA's part of the command line: cli("migrate", "plan", "--dsn", dsn)."""
    app = typer.Typer()
    app.command("init")(install.init)
    app.command("doctor")(install.doctor)
    app.command("uninstall")(install.uninstall)
    app.add_typer(install.migrate, name="migrate")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run
