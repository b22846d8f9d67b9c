"""Downgrades with data in the tables, and the way up again."""

import json

import pytest

from tests.fix_database import Database
from tests.install import catalogue
from tests.install.conftest import Cli
from ubp_sql.errors import BadInput
from ubp_sql.install import commands, render

TABLES_WITH_ROWS = (
    "insert into ubp.events (user_id, event_time, kind) values (1, '2011-01-05 00:00+00', 'view'),"
    " (1, '2011-02-05 00:00+00', 'purchase'), (2, '2011-02-06 00:00+00', 'purchase')",
    "insert into ubp.users (user_key) values ('a')",
    "insert into ubp.items (item_key) values ('a')",
    "insert into ubp.sources (name) values ('shop')",
    "insert into ubp.loads (source_id, file, content_sha256, rows_read, rows_loaded, rows_rejected, rows_already)"
    " values (0, 'f', 'h', 1, 1, 0, 0)",
    "insert into ubp.event_keys values (0, '00000000-0000-0000-0000-000000000000')",
    "insert into ubp.rejected_events (load_id, source_id, file, line, reason) values (1, 0, 'f', 1, 'why')",
)


def fill(database: Database) -> None:
    """Rows in every table that can have some without a model, a partition and a generated view."""
    database.execute("select ubp.ensure_event_partitions('2011-01-01', '2011-01-31')")
    for statement in TABLES_WITH_ROWS:
        database.execute(statement)
    database.execute("select ubp.define_feature_set('default', array['purchase', 'view'])")
    database.execute("select * from ubp.refresh_features()")
    database.execute("select ubp.define_task('purchase', 'purchase')")


def test_to_base_and_up_again(db: Database) -> None:
    objects, grants, bodies = (f(db.dsn) for f in (catalogue.objects, catalogue.grants, catalogue.bodies))
    fill(db)
    assert db.one("select count(*) from ubp.user_features") == 2
    with db.connect() as conn:
        shown = commands.downgrade(conn, "base", run=False)
        assert db.one("select count(*) from ubp.events") == 3, "shown, not run"
        assert commands.downgrade(conn, "base", run=True) == shown
        assert db.one("select count(*) from pg_class where relnamespace = 'ubp'::regnamespace") == 0
        assert db.one("select count(*) from pg_proc where pronamespace = 'ubp'::regnamespace") == 0
        assert commands.status(conn)["revision"] == "none"
        commands.apply(conn)
    assert (catalogue.objects(db.dsn), catalogue.grants(db.dsn)) == (objects, grants)
    assert catalogue.bodies(db.dsn) == bodies, "what init made outside the schema is still known"


def test_what_an_upgrade_adds_to_the_catalogue_is_filled_in(db: Database) -> None:
    fill(db)
    db.execute(
        """select ubp.define_feature('views_36h', 'count', array['view'], "window" => '36h', feature_set => 'own')"""
    )
    rows = "select * from ubp.feature_catalogue order by feature_set, position"
    before = db.rows(rows)
    with db.connect() as conn:
        commands.downgrade(conn, "0002", run=True)
        commands.apply(conn)
    assert db.rows(rows) == before
    assert all(row["spec"] and row["sql_oracle"] and row["edge_rule"] for row in before)


def test_where_it_is_already(db: Database, cli: Cli) -> None:
    before = catalogue.everything(db.dsn)
    done = cli("migrate", "downgrade", render.head(), "--yes", "--dsn", db.dsn)
    assert done.exit_code == 0
    assert done.stdout == f"the database is at {render.head()} already: nothing was dropped\n"
    assert catalogue.everything(db.dsn) == before, "the functions too"
    cli("migrate", "downgrade", "base", "--yes", "--dsn", db.dsn)
    assert "is at base already" in cli("migrate", "downgrade", "base", "--yes", "--dsn", db.dsn).stdout


def test_base_says_what_is_still_there(db: Database, cli: Cli) -> None:
    assert "still_there" not in cli("migrate", "status", "--json", "--dsn", db.dsn).stdout
    for done in (
        cli("migrate", "downgrade", "base", "--yes", "--dsn", db.dsn),
        cli("migrate", "status", "--dsn", db.dsn),
        cli("doctor", "--dsn", db.dsn),
    ):
        [line] = [line for line in done.stdout.splitlines() if "still there" in line]
        assert "schema ubp, search_path of the database, language plpython3u, roles ubp_" in line


def test_plans_tell_the_rows_that_go(db: Database, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(db)
    db.execute("insert into ubp.event_keys select 0, gen_random_uuid() from generate_series(1, 1999)")
    plans = (["migrate", "downgrade", "base"], ["uninstall", "--plan"])
    for plan in plans:
        shown = cli(*plan, "--dsn", db.dsn).stdout
        for line in ("ubp.events: 3 rows", "ubp.users: 1 row", "ubp.event_keys: 2,000 rows"):
            assert f"-- goes with its table: {line}\n" in shown
        assert "ubp.deployments:" not in shown, "empty"
    monkeypatch.setattr("ubp_sql.install.remove.COUNTED_UP_TO", 0)
    assert "ubp.event_keys: 2,000 rows" in cli(*plans[1], "--dsn", db.dsn).stdout, "nothing to estimate from"
    db.execute("analyze ubp.event_keys, ubp.events")
    db.execute("insert into ubp.event_keys select 0, gen_random_uuid() from generate_series(1, 5)")
    for plan in plans:
        assert "ubp.event_keys: about 2,000 rows" in cli(*plan, "--dsn", db.dsn).stdout


def test_each_step_down_and_up(db: Database) -> None:
    """From the second migration on: every downgrade runs on its own, with rows in the tables."""
    fill(db)
    for revision in reversed([migration.revision for migration in render.upgrades(None)][:-1]):
        with db.connect() as conn:
            commands.downgrade(conn, revision, run=True)
            assert commands.status(conn)["revision"] == revision
            commands.apply(conn)
            assert commands.status(conn)["revision"] == render.head()


def test_uninstall_after_downgrade_to_base(lone_db: Database) -> None:
    before = catalogue.everything(lone_db.dsn)
    with lone_db.connect() as conn:
        commands.init(conn)
        commands.downgrade(conn, "base", run=True)
        comment = lone_db.one("select obj_description('ubp'::regnamespace, 'pg_namespace')")
        assert json.loads(comment.partition("made: ")[2]) == {"extension": True, "search_path": True}
        _, kept = commands.uninstall(conn, run=True)
    assert kept == []
    assert catalogue.everything(lone_db.dsn) == before


def test_refusals(db: Database, empty_db: Database) -> None:
    with db.connect() as conn, pytest.raises(BadInput, match="unknown revision 9999"):
        commands.downgrade(conn, "9999", run=True)
    with empty_db.connect() as conn, pytest.raises(BadInput, match="nothing is installed"):
        commands.downgrade(conn, "base", run=True)
