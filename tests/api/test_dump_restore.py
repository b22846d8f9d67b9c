"""docs/backup.md, run as it stands: another cluster gives the same scores to the same people."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fix_database import Database
from tests.make_shop import AS_OF
from ubp_sql.embedded import Cluster
from ubp_sql.embedded.binaries import find_binaries

GUIDE = Path(__file__).parents[2] / "docs" / "backup.md"
ANALYST, NOBODY = "restored_analyst", "restored_nobody"
BY_ROLE = """
select r.rolname, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' collate "C" as object,
       has_function_privilege(r.oid, p.oid, 'execute') as may
  from pg_roles r, pg_proc p where p.pronamespace = 'ubp'::regnamespace and r.rolname ~ '^(ubp|restored)_'
union all
select r.rolname, c.relname || ' ' || v.what, has_table_privilege(r.oid, c.oid, v.what)
  from pg_roles r, pg_class c, unnest(array['select', 'insert', 'update', 'delete']) as v(what)
 where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v') and r.rolname ~ '^(ubp|restored)_'
 order by 1, 2"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def restored(shop: Database, cluster: Cluster) -> Iterator[Database]:
    """The shop, moved to a second cluster by the guide's own commands."""
    directory = Path(tempfile.mkdtemp(prefix="ubp-test-"))
    directory.chmod(0o711)
    other = Cluster(directory / "c", fast=True)
    try:
        other.start()
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
            conn.execute(f"create role {ANALYST} login in role ubp_analyst; create role {NOBODY} login".encode())
        try:
            move(shop, other, directory)
        finally:
            with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
                conn.execute(f"drop role {ANALYST}; drop role {NOBODY}".encode())
        yield Database(other, "moved_shop")
    finally:
        other.remove()
        shutil.rmtree(directory, ignore_errors=True)


def move(shop: Database, other: Cluster, directory: Path) -> None:
    programs = f"{find_binaries().bindir}:{Path(sys.executable).parent}"
    environment = os.environ | {
        "OLD": shop.dsn,
        "NEW": other.dsn("moved_shop"),
        "NEW_SERVER": other.dsn("postgres"),
        "NAME": "moved_shop",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    for block in blocks("sh"):
        done = subprocess.run(
            ["bash", "-e", "-c", block], env=environment, cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        assert all('role "postgres" already exists' in line for line in errors), errors


def test_the_same_scores_to_the_bit(shop: Database, restored: Database) -> None:
    (comparison,) = blocks("sql")
    for query in (
        comparison,
        "select user_id, score, percentile, reason, version from ubp.user_scores order by user_id",
        "select user_id, features::text, anchors::text, valid_until::text from ubp.feature_rows order by user_id",
        f"select ubp.predict_purchase(user_id, '{AS_OF}') from ubp.user_scores where user_id % 50 = 0 order by user_id",
        "select compiled_sha256, md5(source), md5(compiled), version, settings from ubp.models",
    ):
        before, after = (db.rows(query) for db in (shop, restored))
        assert before == after, query
        assert before, query
    assert shop.rows(comparison)[0]["count"] > 500


def test_everything_works_on(restored: Database) -> None:
    """Refreshed and scored again in the new cluster, the bits are those that came in the dump."""
    rows = "select user_id, ubp.array_image(features) as packed from ubp.feature_rows order by user_id"
    scores = "select user_id, score, percentile from ubp.user_scores order by user_id"
    packed, scored = restored.rows(rows), restored.rows(scores)
    restored.execute("select * from ubp.refresh_features(%s)", AS_OF)
    restored.execute("select * from ubp.score_users('purchase')")
    assert restored.rows(rows) == packed
    assert restored.rows(scores) == scored
    newest = restored.one("select max(event_id) from ubp.events")
    insert = "insert into ubp.events (user_id, event_time, kind) values (1, now(), 'view') returning event_id"
    assert restored.one(insert) > newest
    assert restored.one("show search_path").startswith('"$user", public, ubp')


def test_rights_are_as_before(shop: Database, restored: Database) -> None:
    rights = restored.rows(BY_ROLE)
    assert [row for row in shop.rows(BY_ROLE) if row["rolname"].startswith("ubp")] == [
        row for row in rights if row["rolname"].startswith("ubp")
    ]
    assert {row["may"] for row in rights if row["rolname"] == NOBODY} == {False}
    owners = """
        select proname, pg_get_userbyid(proowner) as owner from pg_proc
         where pronamespace = 'ubp'::regnamespace order by 1, 2"""
    assert shop.rows(owners) == restored.rows(owners)
    with restored.connect(user=ANALYST) as conn:
        assert conn.execute("select count(ubp.predict_purchase(user_id)) > 500 from ubp.user_features").fetchone() == (
            True,
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select * from ubp.events")
    with restored.connect(user=NOBODY) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select ubp.predict_purchase(1)")
