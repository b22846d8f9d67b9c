"""The catalogue after an installation, line by line, beside tests/golden/. UBP_GOLDEN=write writes those files anew."""

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.fix_database import Database
from tests.install import catalogue
from ubp_sql.schema.database import SCHEMA, metadata

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(("name", "listing"), [("objects", catalogue.objects), ("grants", catalogue.grants)])
def test_catalogue_equals_golden_file(db: Database, name: str, listing: Callable[[str], str]) -> None:
    path = GOLDEN / f"{name}.txt"
    found = listing(db.dsn)
    if os.environ.get("UBP_GOLDEN") == "write":
        path.write_text(found)
    assert found.splitlines() == path.read_text().splitlines()


def test_golden_comparison_sees_a_change(db: Database) -> None:
    db.execute("alter function ubp.score_blob(bytea, double precision[]) parallel restricted")
    assert catalogue.objects(db.dsn) != (GOLDEN / "objects.txt").read_text()
    db.execute("grant select on ubp.events to ubp_analyst")
    assert catalogue.grants(db.dsn) != (GOLDEN / "grants.txt").read_text()


def _differences(db: Database) -> list[object]:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(db.dsn))

    def ours(found: object, name: str | None, kind: str, reflected: bool, _: object) -> bool:
        schema = getattr(found, "schema", SCHEMA)
        return schema == SCHEMA and not (kind == "table" and reflected and str(name).startswith("events_"))

    options = {
        "include_schemas": True,
        "include_object": ours,
        "version_table_schema": SCHEMA,
        "compare_type": True,
        "compare_server_default": True,
    }
    try:
        with engine.connect() as conn:
            return list(compare_metadata(MigrationContext.configure(conn, opts=options), metadata))
    finally:
        engine.dispose()


def test_migrated_database_equals_metadata(db: Database) -> None:
    assert _differences(db) == []


@pytest.mark.parametrize(
    "change",
    [
        "alter table ubp.items add column extra text",
        "alter table ubp.items alter column title type varchar(10)",
        "comment on column ubp.items.title is 'changed'",
        "drop index ubp.events_user_id_event_time_idx",
        "alter table ubp.events alter column tenant set default 1",
    ],
)
def test_metadata_comparison_sees_a_change(db: Database, change: str) -> None:
    db.execute(change)
    assert _differences(db)


UNCOMMENTED = """
select 'schema ' || nspname from pg_namespace
 where nspname = 'ubp' and obj_description(oid, 'pg_namespace') is null
union all
select 'relation ' || relname from pg_class
 where relnamespace = 'ubp'::regnamespace and relkind in ('r', 'p', 'v')
   and obj_description(oid, 'pg_class') is null
union all
select format('column %s.%s', c.relname, a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
 where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition and a.attnum > 0
   and not a.attisdropped and col_description(c.oid, a.attnum) is null
union all
select 'function ' || oid::regprocedure from pg_proc
 where pronamespace = 'ubp'::regnamespace and obj_description(oid, 'pg_proc') is null
union all
select 'role ' || rolname from pg_roles where rolname like 'ubp\\_%' and shobj_description(oid, 'pg_authid') is null
"""


def test_every_object_explains_itself(db: Database) -> None:
    db.execute("select ubp.ensure_event_partitions('2011-01-15', '2011-03-01')")
    assert catalogue.listing(db.dsn, UNCOMMENTED) == []
    db.execute("comment on function ubp.version() is null")
    assert catalogue.listing(db.dsn, UNCOMMENTED) == ["function ubp.version()"]


def _flags(db: Database) -> list[dict[str, object]]:
    return db.rows(
        "select p.oid::regprocedure::text as name, l.lanname as language, p.prosecdef as definer,"
        " p.proparallel as parallel, p.proowner::regrole::text as owner, p.prosqlbody is not null as bound,"
        " coalesce(array_to_string(p.proconfig, ' '), '') as config,"
        " has_function_privilege('pg_monitor', p.oid, 'execute') as anybody"
        " from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = 'ubp'::regnamespace"
    )


def test_functions_cannot_be_misled(db: Database) -> None:
    found = _flags(db)
    assert len(found) > 20
    for f in found:
        # A function in C of the server's own looks up no name.
        by_name = not f["bound"] and f["language"] != "internal"
        # With a setting the planner could not put it in place of its call; it runs with the rights of whoever asks.
        if f["name"] == "ubp.event_rows()":
            assert not f["definer"]
            by_name = False
        assert not by_name or "search_path=pg_catalog, pg_temp" in str(f["config"]), f
        assert f["owner"] in ("ubp_owner", "ubp_reader"), f
        assert not f["anybody"], f
        assert f["parallel"] == (
            "s" if str(f["name"]).split(".")[-1].startswith(("score_blob(", "score_blob_all(")) else "u"
        ), f


def test_the_reader_owns_no_table(db: Database) -> None:
    assert db.one("select count(*) from pg_class where relowner = 'ubp_reader'::regrole") == 0
