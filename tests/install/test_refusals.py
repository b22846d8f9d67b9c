"""What an installation refuses: one line, an SQLSTATE or exit code, a way out, and nothing changed."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

import ubp_sql
from tests.fix_database import Database
from tests.install import catalogue
from tests.install.conftest import Cli, Login
from ubp_sql.errors import InstallError, VersionSkew
from ubp_sql.install import commands, steps

INSTALL_ERROR = 6
SKEW = 5


@contextmanager
def nothing_changes(database: Database) -> Iterator[None]:
    before = catalogue.everything(database.dsn)
    yield
    assert catalogue.everything(database.dsn) == before


def one_line(text: str) -> list[str]:
    """The error line and the hint; no traceback."""
    lines = text.strip().splitlines()
    assert lines[0].startswith("error UB0")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2, text
    return lines


@pytest.mark.parametrize("command", [["init"], ["migrate", "apply"], ["uninstall", "--yes"]])
def test_without_a_superuser(db: Database, login: Login, cli: Cli, command: list[str]) -> None:
    user = login("ubp_admin", "ubp_owner")
    with nothing_changes(db):
        done = cli(*command, "--dsn", f"{db.dsn} user={user}")
    assert done.exit_code == INSTALL_ERROR
    assert "is no superuser" in one_line(done.stderr)[0]


def test_init_by_nobody_in_particular(empty_db: Database, login: Login, cli: Cli) -> None:
    user = login()
    with nothing_changes(empty_db):
        done = cli("init", "--dsn", f"{empty_db.dsn} user={user}")
    assert done.exit_code == INSTALL_ERROR
    assert "is no superuser, which these steps need" in one_line(done.stderr)[0]
    assert "migrate sql" in done.stderr


def test_status_by_a_stranger(db: Database, login: Login, cli: Cli) -> None:
    done = cli("migrate", "status", "--dsn", f"{db.dsn} user={login()}")
    assert done.exit_code == INSTALL_ERROR
    assert "may not read the installation" in one_line(done.stderr)[0]


def test_plan_by_a_stranger_is_allowed(empty_db: Database, login: Login, cli: Cli) -> None:
    done = cli("migrate", "plan", "--dsn", f"{empty_db.dsn} user={login()}")
    assert done.exit_code == 0
    assert "create table ubp.events" in done.stdout.lower()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "create function ubp.predict(text, bigint) returns float8 language sql as 'select 1.0::float8'",
            "function ubp.predict",
        ),
        ("create table ubp.theirs (x integer)", "table ubp.theirs"),
        ("create view ubp.tasks2 as select 1 as x", "view ubp.tasks2"),
        ("create type ubp.mood as enum ('sad')", "type ubp.mood"),
    ],
)
def test_objects_of_others(empty_db: Database, login: Login, statement: str, named: str) -> None:
    """Replacing what somebody else made would leave it his, with a superuser's trust."""
    other = login()
    with empty_db.connect() as conn:
        commands.init(conn)
    empty_db.execute(f"grant create, usage on schema ubp to {other}")
    with empty_db.connect(user=other) as conn:
        conn.execute(statement.replace("ubp.predict(text, bigint)", "ubp.predict(text, integer)").encode())
    with nothing_changes(empty_db), empty_db.connect() as conn, pytest.raises(InstallError, match=named):
        commands.init(conn)
    empty_db.execute(f"drop owned by {other}")


def test_a_schema_of_somebody_else(empty_db: Database) -> None:
    empty_db.execute("create schema ubp")
    with (
        nothing_changes(empty_db),
        empty_db.connect() as conn,
        pytest.raises(InstallError, match="belongs to postgres"),
    ):
        commands.init(conn)


def test_a_newer_database(db: Database, cli: Cli) -> None:
    db.execute("update ubp.installation set package_version = '99.0.0'")
    for command in (["init"], ["migrate", "plan"], ["migrate", "apply"], ["migrate", "downgrade", "base", "--yes"]):
        with nothing_changes(db):
            done = cli(*command, "--dsn", db.dsn)
        assert done.exit_code == SKEW
        assert (
            f"UB010: this package is {ubp_sql.__version__}, the database was installed by 99.0.0"
            in one_line(done.stderr)[0]
        )
    with db.connect() as conn, pytest.raises(psycopg.Error, match=r"installed by 99\.0\.0") as caught:
        conn.execute("select ubp.version()")
    assert caught.value.sqlstate == "UB010"


def test_an_unknown_revision(db: Database) -> None:
    db.execute("update ubp.alembic_version set version_num = '9999'")
    with db.connect() as conn, pytest.raises(VersionSkew, match="revision 9999"):
        commands.init(conn)


def test_an_older_database_is_brought_up(db: Database) -> None:
    db.execute("update ubp.installation set package_version = '0.0.1'")
    with db.connect() as conn:
        assert commands.status(conn)["pending"] != "nothing"
        commands.apply(conn)
        assert commands.status(conn)["pending"] == "nothing"
    assert db.one("select ubp.version()") == ubp_sql.__version__


def test_a_lock_that_does_not_come(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.install.run.SETTINGS", steps.SETTINGS.replace("10s", "100ms"))
    with db.connect() as reader, reader.transaction():
        reader.execute("select * from ubp.events")
        with nothing_changes(db), db.connect() as conn, pytest.raises(InstallError, match="lock timeout") as caught:
            commands.downgrade(conn, "base", run=True)
    assert "try again" in str(caught.value.hint)
    with db.connect() as conn:
        commands.downgrade(conn, "base", run=True)


def test_a_server_that_is_not_there(cli: Cli) -> None:
    done = cli("init", "--dsn", "host=/nowhere dbname=x")
    assert done.exit_code == INSTALL_ERROR
    assert "cannot connect" in one_line(done.stderr)[0]


def test_uninstall_wants_one_of_plan_and_yes(db: Database, cli: Cli) -> None:
    for options in ([], ["--plan", "--yes"]):
        done = cli("uninstall", *options, "--dsn", db.dsn)
        assert done.exit_code == 2
        assert "say --plan or --yes" in one_line(done.stderr)[0]
