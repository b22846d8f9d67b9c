"""`migrate plan`, `sql`, `apply`, `status`, `init`: what is shown is what runs, by whichever hands."""

from pathlib import Path

import psycopg
import pytest

import ubp_sql
from tests.fix_database import Database
from tests.install import catalogue
from tests.install.conftest import Cli, Login, Psql
from ubp_sql.install import commands, render
from ubp_sql.install.steps import BY_OWNER, SUPERUSER


def same(one: Database, other: Database) -> None:
    for listing in (catalogue.objects, catalogue.grants, catalogue.bodies):
        assert listing(one.dsn) == listing(other.dsn)


def test_scripts_by_hand_equal_init(empty_db: Database, db: Database, login: Login, psql: Psql, tmp_path: Path) -> None:
    with empty_db.connect() as conn:
        planned = commands.plan(conn)
        paths = commands.write(conn, tmp_path)
    assert [path.name for path in paths] == ["1_superuser.sql", "2_owner.sql", "3_superuser.sql"]
    text = "".join(path.read_text() for path in paths)
    for step in planned:
        assert step.sql in text, step.title
    owner = login("ubp_owner")
    for path in paths:
        done = psql(empty_db, path, user="postgres" if SUPERUSER in path.name else owner)
        assert done.returncode == 0, done.stderr
    same(empty_db, db)
    with empty_db.connect() as conn:
        assert commands.plan(conn) == []
    assert empty_db.one("show search_path") == '"$user", public, ubp'


def test_locks_are_told_in_comments_of_a_page_s_width(empty_db: Database, cli: Cli, tmp_path: Path) -> None:
    shown = cli("migrate", "plan", "--dsn", empty_db.dsn).stdout
    with empty_db.connect() as conn:
        planned = commands.plan(conn)
        texts = [shown, "".join(path.read_text() for path in commands.write(conn, tmp_path))]
    assert any(len(step.locks) > 120 for step in planned)
    for text in texts:
        comments = [line for line in text.splitlines() if line.startswith("--")]
        told = [line for line in comments if line.startswith(("-- run by: ", "--   "))]
        assert max(map(len, told)) <= 100
        said = " ".join(line.removeprefix("--").strip() for line in told)
        assert all(f"run by: {step.by}; locks: {step.locks}" in said for step in planned)


def test_the_owner_needs_no_more_than_membership(empty_db: Database, login: Login, psql: Psql, tmp_path: Path) -> None:
    with empty_db.connect() as conn:
        paths = commands.write(conn, tmp_path)
    stranger = login()
    for path in paths:
        if SUPERUSER in path.name:
            assert psql(empty_db, path).returncode == 0 or path.name.startswith("3")
        else:
            refused = psql(empty_db, path, user=stranger)
            assert refused.returncode != 0
            assert "permission denied to set role" in refused.stderr
    assert empty_db.one("select to_regclass('ubp.events')") is None, "a script runs whole or not at all"


def test_every_script_is_one_transaction(empty_db: Database, tmp_path: Path) -> None:
    with empty_db.connect() as conn:
        for path in commands.write(conn, tmp_path):
            lines = path.read_text().splitlines()
            assert lines.count("begin;") == lines.count("commit;") == 1
            assert "set local lock_timeout = '10s';" in lines
            assert "set local search_path = pg_catalog, pg_temp;" in lines


def test_plan_changes_nothing_and_apply_runs_it(empty_db: Database, db: Database) -> None:
    before = catalogue.everything(empty_db.dsn)
    with empty_db.connect() as conn:
        planned = commands.plan(conn)
        assert catalogue.everything(empty_db.dsn) == before
        assert {step.by for step in planned} == {SUPERUSER, BY_OWNER}
        assert all(step.locks for step in planned)
        assert not any("not stated" in step.locks for step in planned)
        applied = commands.apply(conn)
        assert applied == planned
        assert commands.plan(conn) == []
    assert catalogue.objects(empty_db.dsn) == catalogue.objects(db.dsn)


def test_plan_sql_and_apply_agree(empty_db: Database, cli: Cli, tmp_path: Path) -> None:
    """What init does to the search_path is in all three; an upgrade leaves it alone; nothing to do is said so."""
    path, dsn = "alter database", ["--dsn", empty_db.dsn]
    for options, wanted in ((["--no-search-path"], False), ([], True)):
        assert (path in cli("migrate", "plan", *options, *dsn).stdout) == wanted
        assert cli("migrate", "sql", "--out", str(tmp_path), *options, *dsn).exit_code == 0
        assert (path in "".join(file.read_text() for file in tmp_path.iterdir())) == wanted
    with empty_db.connect() as conn:
        steps = len(commands.plan(conn))
    assert f"{steps} steps applied" in cli("migrate", "apply", *dsn).stdout
    assert empty_db.one("show search_path") == '"$user", public, ubp'
    empty_db.execute(f"alter database {empty_db.name} reset search_path")
    assert cli("migrate", "plan", *dsn).stdout == "nothing to do: the database is up to date\n"
    assert cli("migrate", "apply", *dsn).stdout == "up to date; the functions were applied again\n"
    assert empty_db.one("show search_path") == '"$user", public'


def test_pending_steps_stand_one_a_line(empty_db: Database, cli: Cli) -> None:
    with empty_db.connect() as conn:
        titles = [step.title for step in commands.plan(conn)]
    lines = cli("migrate", "status", "--dsn", empty_db.dsn).stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("pending"))
    assert [line[22:] for line in lines[first:]] == titles


def test_flags_are_shown_as_flags(cli: Cli) -> None:
    for command in (["init"], ["doctor"], ["uninstall"], ["migrate", "plan"], ["migrate", "downgrade"]):
        shown = cli(*command, "--help").stdout
        assert "<bool>" not in "".join(line for line in shown.splitlines() if "--help" not in line), shown


def test_init_again_changes_nothing(empty_db: Database) -> None:
    with empty_db.connect() as conn:
        commands.init(conn)
        before = catalogue.everything(empty_db.dsn) + catalogue.bodies(empty_db.dsn)
        again = commands.init(conn)
    assert catalogue.everything(empty_db.dsn) + catalogue.bodies(empty_db.dsn) == before
    assert not any("migration" in step.title for step in again)


def test_init_leaves_the_search_path_alone(empty_db: Database) -> None:
    with empty_db.connect() as conn:
        commands.init(conn, with_search_path=False)
        assert commands.uninstall(conn, run=False)[0]
    assert empty_db.one("show search_path") == '"$user", public'


def test_init_keeps_what_the_search_path_held(empty_db: Database) -> None:
    empty_db.execute('create schema "my, own"')
    empty_db.execute(f'alter database {empty_db.name} set search_path = "my, own", public')
    with empty_db.connect() as conn:
        commands.init(conn)
    assert empty_db.one("show search_path") == '"my, own", public, ubp'
    with empty_db.connect() as conn:
        commands.uninstall(conn, run=True)
    assert empty_db.one("show search_path") == '"my, own", public'


def test_status(empty_db: Database) -> None:
    with empty_db.connect() as conn:
        found = commands.status(conn)
        assert (found["installed_version"], found["revision"]) == ("none", "none")
        assert "migration 0001" in found["pending"]
        commands.init(conn)
        found = commands.status(conn)
    assert found["installed_version"] == found["package_version"] == ubp_sql.__version__
    assert found["revision"] == found["newest_revision"] == render.head()
    assert found["pending"] == "nothing"


def test_members_see_the_status(db: Database, login: Login) -> None:
    for group in ("ubp_loader", "ubp_analyst", "ubp_auditor", "ubp_admin"):
        with db.connect(user=login(group)) as conn:
            assert commands.status(conn)["revision"] == render.head()


def test_objects_in_public_do_not_capture_ours(empty_db: Database, db: Database) -> None:
    """An installation by a superuser must not run what somebody put into a schema of the search_path."""
    empty_db.execute("create table public.installation (x integer)")
    empty_db.execute("create schema ubp_trap")
    for name, arguments in (("now", ""), ("format", "text, variadic text[]"), ("lower", "text")):
        empty_db.execute(
            f"create function ubp_trap.{name}({arguments}) returns text language plpgsql as"
            " $$ begin raise exception 'captured'; end $$"
        )
    empty_db.execute(f"alter database {empty_db.name} set search_path = ubp_trap, pg_catalog, public")
    with empty_db.connect() as conn:
        commands.init(conn, with_search_path=False)
        assert catalogue.objects(empty_db.dsn) == catalogue.objects(db.dsn)
        commands.uninstall(conn, run=True)
    assert empty_db.one("select count(*) from pg_namespace where nspname = 'ubp'") == 0


def test_two_databases_side_by_side(empty_db: Database, db: Database) -> None:
    with empty_db.connect() as conn:
        commands.init(conn)
        same(empty_db, db)
        _, kept = commands.uninstall(conn, run=True)
    assert sum("another database of this server uses it" in line for line in kept) == 7
    assert db.one("select ubp.version()") == ubp_sql.__version__
    assert db.one("select has_function_privilege('ubp_analyst', 'ubp.predict(text, bigint)', 'execute')")


def test_a_failing_step_changes_nothing(empty_db: Database) -> None:
    with psycopg.connect(empty_db.dsn, autocommit=True) as conn:
        planned = commands.plan(conn)
    before = catalogue.everything(empty_db.dsn)
    from dataclasses import replace

    from ubp_sql.errors import InstallError
    from ubp_sql.install.run import execute

    broken = [*planned[:-1], replace(planned[-1], sql="select 1/0;")]
    with empty_db.connect() as conn, pytest.raises(InstallError, match="division by zero") as caught:
        execute(conn, broken, superuser=True)
    assert planned[-1].title in caught.value.message
    assert catalogue.everything(empty_db.dsn) == before
