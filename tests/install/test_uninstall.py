"""`uninstall` leaves the database, and the cluster, as they were; what others made stays and is named."""

import pytest

from tests.fix_database import Database
from tests.install import catalogue
from tests.install.test_downgrade import fill
from ubp_sql.errors import BadInput, InstallError
from ubp_sql.install import commands


def test_nothing_is_left(lone_db: Database) -> None:
    before = catalogue.everything(lone_db.dsn)
    with lone_db.connect() as conn:
        commands.init(conn)
        fill(lone_db)
        shown, kept = commands.uninstall(conn, run=False)
        assert lone_db.one("select count(*) from ubp.events") == 3, "--plan changes nothing"
        assert commands.uninstall(conn, run=True) == (shown, kept)
    assert kept == []
    assert catalogue.everything(lone_db.dsn) == before


def test_a_view_may_read_a_younger_one(lone_db: Database) -> None:
    """`create or replace` lets an old view depend on a new one, as an upgrade may."""
    before = catalogue.everything(lone_db.dsn)
    with lone_db.connect() as conn:
        commands.init(conn)
        for statement in (
            "create view ubp.older as select 1 as x",
            "create view ubp.younger as select 1 as x",
            "create or replace view ubp.older as select x from ubp.younger",
            "alter view ubp.older owner to ubp_owner",
            "alter view ubp.younger owner to ubp_owner",
        ):
            lone_db.execute(statement)
        assert commands.uninstall(conn, run=True)[1] == []
    assert catalogue.everything(lone_db.dsn) == before


def test_what_was_there_before_stays(lone_db: Database) -> None:
    """A language, a role and a search_path that init found are not its own to remove."""
    lone_db.execute("create extension plpython3u")
    lone_db.execute("create role ubp_loader nologin")
    lone_db.execute(f"alter database {lone_db.name} set search_path = ubp, public")
    before = catalogue.everything(lone_db.dsn)
    with lone_db.connect() as conn:
        commands.init(conn)
        assert "ubp_loader" not in "".join(
            step.sql for step in commands.uninstall(conn, run=False)[0] if "drop role" in step.sql
        )
        commands.uninstall(conn, run=True)
    assert catalogue.everything(lone_db.dsn) == before


OTHERS = (
    "create table ubp.mine (x integer)",
    "insert into ubp.mine values (42)",
    "create function ubp.mine() returns integer language plpython3u as 'return 42'",
    "create type ubp.mood as enum ('sad', 'happy')",
    "create operator ubp.=~ (leftarg = integer, rightarg = integer, function = int4eq)",
)


def test_objects_of_others_in_the_schema_stay(lone_db: Database) -> None:
    with lone_db.connect() as conn:
        commands.init(conn)
        for statement in OTHERS:
            lone_db.execute(statement)
        _, kept = commands.uninstall(conn, run=True)
        text = "\n".join(kept)
        for part in (
            "table ubp.mine",
            "function ubp.mine()",
            "type ubp.mood",
            "operator ubp.=~",
            "language plpython3u",
        ):
            assert part in text, kept
        assert lone_db.one("select x from ubp.mine") == lone_db.one("select ubp.mine()") == 42
        assert lone_db.one("select nspowner::regrole::text from pg_namespace where nspname = 'ubp'") == "postgres"
        assert lone_db.one("select count(*) from pg_roles where rolname like 'ubp\\_%'") == 0
        with pytest.raises(InstallError, match="belongs to postgres"):
            commands.uninstall(conn, run=True)
    assert lone_db.one("select x from ubp.mine") == 42


@pytest.mark.parametrize(
    ("grant", "held"),
    [
        ("grant select on public.theirs to ubp_analyst", "theirs"),
        ("grant connect on database {name} to ubp_analyst", "database"),
        ("grant select on ubp.theirs to ubp_analyst", "theirs"),
        ("alter default privileges in schema public grant select on tables to ubp_analyst", "default privileges"),
    ],
)
def test_a_role_with_rights_elsewhere_stays(lone_db: Database, grant: str, held: str) -> None:
    with lone_db.connect() as conn:
        commands.init(conn)
        lone_db.execute(f"create table {'ubp' if 'ubp.theirs' in grant else 'public'}.theirs (x integer)")
        lone_db.execute(grant.format(name=lone_db.name))
        _, kept = commands.uninstall(conn, run=True)
    [line] = [line for line in kept if line.startswith("role")]
    assert line.startswith("role ubp_analyst, because it holds rights on")
    assert held in line
    assert lone_db.one("select array_agg(rolname::text) from pg_roles where rolname like 'ubp\\_%'") == ["ubp_analyst"]
    lone_db.execute("drop owned by ubp_analyst")


def test_what_depends_on_ours_stops_it(lone_db: Database) -> None:
    with lone_db.connect() as conn:
        commands.init(conn)
        lone_db.execute("create view public.report as select * from ubp.events")
        before = catalogue.everything(lone_db.dsn)
        with pytest.raises(InstallError, match="other objects depend on") as caught:
            commands.uninstall(conn, run=True)
        assert "report" in str(caught.value.hint)
        assert catalogue.everything(lone_db.dsn) == before
        lone_db.execute("drop view public.report")
        commands.uninstall(conn, run=True)


def test_nothing_to_remove(empty_db: Database) -> None:
    with empty_db.connect() as conn, pytest.raises(BadInput, match="nothing is installed"):
        commands.uninstall(conn, run=True)


def test_a_schema_of_somebody_else_is_not_ours(empty_db: Database) -> None:
    empty_db.execute("create schema ubp")
    with empty_db.connect() as conn, pytest.raises(InstallError, match="schema ubp belongs to postgres"):
        commands.uninstall(conn, run=True)
    assert empty_db.one("select count(*) from pg_namespace where nspname = 'ubp'") == 1
