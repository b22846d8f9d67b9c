"""Downgrades with data in the tables, and the way up again."""

import json

import pytest

from tests.fix_database import Database
from tests.install import catalogue
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
