"""What each role may and may not do, tried by a login role that has nothing but the membership."""

import psycopg
import pytest

from tests.fix_database import Database
from tests.install.conftest import Login

DENIED = "42501"
READS = (
    "select ubp.version()",
    "select ubp.resolve_user('17850')",
    "select ubp.predict('no_task', 1)",
    "select ubp.predict('no_task', 1, now())",
    "select ubp.predict('no_task', '1')",
    "select * from ubp.predict_detail('no_task', 1)",
    "select * from ubp.predict_detail('no_task', 1, now())",
    "select * from ubp.predict_detail('no_task', '1')",
    "select * from ubp.predict_many('no_task', array[1, 2])",
    "select ubp.score('no_task', array[1.0, 2.0])",
    "select ubp.score_blob('\\x00', array[1.0, 2.0])",
    "select ubp.score_all('x', array[1.0, 2.0])",
    "select ubp.score_blob_all('\\x00', array[1.0, 2.0])",
    "select * from ubp.features(1)",
    "select * from ubp.features(1, now())",
    "select * from ubp.features('1')",
    "select * from ubp.tasks",
    "select * from ubp.model_versions",
    "select * from ubp.feature_catalogue",
    "select * from ubp.user_scores",
    "select * from ubp.installation",
    "select * from ubp.alembic_version",
)
JOBS = ("select * from ubp.job_runs",)
RAW = (
    "select * from ubp.events",
    "select * from ubp.events_default",
    "select * from ubp.feature_rows",
    "select * from ubp.models",
    "select * from ubp.users",
    "select * from ubp.items",
    "select * from ubp.rejected_events",
)
LOADS = (
    "insert into ubp.events (user_id, event_time, kind) values (1, '2011-01-05 00:00+00', 'view')",
    "insert into ubp.rejected_events (load_id, source_id, file, line, reason) values (1, 0, 'f', 1, 'why')",
    "insert into ubp.users (user_key) values ('x')",
    "insert into ubp.items (item_key) values ('x')",
    "insert into ubp.event_keys values (0, '00000000-0000-0000-0000-000000000000')",
    "insert into ubp.sources (name) values ('x')",
    "select ubp.ensure_event_partitions('2011-01-01', '2011-02-01')",
    "select * from ubp.refresh_features()",
    "select * from ubp.score_users('no_task')",
    "update ubp.sources set map = '{}', user_keys = 'text', item_keys = 'text'",
    "update ubp.loads set rows_read = 1, rows_loaded = 1, rows_rejected = 0, rows_already = 0, finished_at = now()",
)
MANAGES = (
    "select ubp.define_feature_set('x', array['view'])",
    "select ubp.define_task('x', 'view')",
    "select ubp.register_model('no_task', '\\x00')",
    "select ubp.deploy_model('no_task')",
    "select ubp.rollback_model('no_task')",
    "select ubp.rebuild_generated()",
    "select * from ubp.training_matrix('no_task', array[now()])",
    "select ubp.training_set('no_task')",
)
CHANGES = (
    "delete from ubp.events",
    "update ubp.events set value = 1",
    "truncate ubp.events",
    "drop table ubp.events",
    "update ubp.models set compiled = '\\x00'",
    "insert into ubp.deployments (task) values ('x')",
    "update ubp.installation set package_version = '9'",
    "update ubp.feature_rows set features = '{}'",
    "update ubp.sources set time_zone = 'UTC'",
    "update ubp.sources set name = 'x'",
    "update ubp.loads set file = 'x'",
    "update ubp.loads set content_sha256 = 'x'",
    "update ubp.loads set loaded_by = 'x'",
    "update ubp.users set user_key = 'x'",
    "create table ubp.mine (x integer)",
    "create or replace function ubp.version() returns text language sql as $$ select 'x' $$",
    "alter function ubp.predict(text, bigint) parallel safe",
    "create function pg_temp.f() returns integer language plpython3u as 'return 1'",
    "set role ubp_owner",
    "set role ubp_reader",
)
# Role: what it may do. Everything else it may not.
MAY = {
    None: (),
    "ubp_analyst": READS,
    "ubp_auditor": (*READS, *RAW, *JOBS),
    "ubp_loader": (
        *READS,
        *(r for r in RAW if r.split(".")[1] not in ("feature_rows", "models", "events_default")),
        *LOADS,
        *JOBS,
    ),
    "ubp_admin": (*READS, *RAW, *LOADS, *JOBS, *MANAGES),
}
MAY["ubp_auditor"] = tuple(s for s in MAY["ubp_auditor"] if "events_default" not in s)
MAY["ubp_admin"] = tuple(s for s in MAY["ubp_admin"] if "events_default" not in s)


def _state(database: Database, user: str, statement: str) -> str | None:
    """SQLSTATE of a statement, undone afterwards; None when it went well."""
    with database.connect(user=user) as conn:
        try:
            with conn.transaction(force_rollback=True):
                conn.execute(statement.encode())
        except psycopg.Error as error:
            return error.sqlstate
    return None


@pytest.mark.parametrize("role", list(MAY))
def test_role(db: Database, login: Login, role: str | None) -> None:
    user = login(*([role] if role else []))
    wrong = []
    for statement in (*READS, *RAW, *LOADS, *JOBS, *MANAGES, *CHANGES):
        state = _state(db, user, statement)
        if (state != DENIED) != (statement in MAY[role]):
            wrong.append((state, statement))
    assert wrong == []


def test_the_analyst_scores_without_reading(shop_copy: Database, login: Login) -> None:
    user = login("ubp_analyst")
    with shop_copy.connect(user=user) as conn:
        some = shop_copy.one("select user_id from ubp.user_features limit 1")
        for query in (
            "select ubp.predict_purchase(%s)",
            "select ubp.predict_purchase(%s, (select as_of from ubp.tasks where task = 'purchase'))",
            "select score from ubp.predict_detail('purchase', %s)",
            "select count(*) from ubp.features(%s)",
            "select user_id from ubp.user_features where user_id = %s",
        ):
            row = conn.execute(query.encode(), (some,)).fetchone()
            assert row is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select * from ubp.events")


def test_a_setting_does_not_change_what_runs(shop_copy: Database, login: Login) -> None:
    """A user's own schema in front, with traps under our names and the catalogue's."""
    user = login("ubp_analyst")
    some = shop_copy.one("select user_id from ubp.user_features limit 1")
    shop_copy.execute(f"create schema trap authorization {user}")
    with shop_copy.connect(user=user) as conn:
        expected = conn.execute("select ubp.predict_purchase(%s)", (some,)).fetchone()
        for table in ("deployments", "installation", "feature_sets", "feature_rows", "models"):
            conn.execute(f"create table trap.{table} (x integer)".encode())
            conn.execute(f"create temporary table {table} (x integer)".encode())
        conn.execute("create function trap.array_send(anyarray) returns bytea language sql as 'select null::bytea'")
        conn.execute("set search_path = trap, ubp, pg_catalog")
        assert conn.execute("select predict_purchase(%s)", (some,)).fetchone() == expected
    shop_copy.execute(f"drop owned by {user} cascade")


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("insert into ubp.sources (name, time_zone) values ('x', 'Nowhere/Town')", "22023"),
        ("insert into ubp.sources (name, time_zone) values ('x', 'Europe/London')", None),
        ("insert into ubp.users (user_id, user_key) values (17850, 'mallory')", "23514"),
        ("insert into ubp.users (user_id, user_key) values (17850, '017850')", "23514"),
        ("insert into ubp.users (user_id, user_key) values (17850, '17850')", None),
        ("insert into ubp.users (user_key) values ('17850')", None),
        ("insert into ubp.items (item_id, item_key) values (22423, 'theirs')", "23514"),
        ("insert into ubp.items (item_id, item_key) values (22423, '22423')", None),
    ],
)
def test_a_loader_cannot_spoil_what_all_read(db: Database, login: Login, statement: str, state: str | None) -> None:
    assert _state(db, login("ubp_loader"), statement) == state


def test_the_check_of_zones_survives_a_dump(db: Database) -> None:
    """Its text, as a dump has it, means the same where it is read."""
    definition = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'sources_time_zone_check'"
    with db.connect() as conn:
        conn.execute("set timezone = 'Asia/Tokyo'")
        [(text,)] = conn.execute(definition.encode()).fetchall()
        conn.execute("alter table ubp.sources drop constraint sources_time_zone_check")
        conn.execute(f"alter table ubp.sources add constraint sources_time_zone_check {text}".encode())
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="Nowhere"):
            conn.execute("update ubp.sources set time_zone = 'Nowhere'")


KEYS = {
    "17850": 17850,
    " 17850 ": 17850,
    "17850.0": 17850,
    "999999999999999": 999_999_999_999_999,
    "3999999999999999": 3_999_999_999_999_999,
    "4000000000000000": 4_000_000_000_000_000,
    "4000000000000001": None,  # mary's
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": None,
    "9999999999999999999": None,
    "017850": None,
    "17850.5": None,
    "1e3": None,
    "-1": None,
    "": None,
    "mary": 4_000_000_000_000_001,
    " mary": 4_000_000_000_000_001,
    "8": 4_000_000_000_000_002,
    "8.0": 4_000_000_000_000_002,
    "9.0": 4_000_000_000_000_003,
}


def test_a_key_is_read_as_loads_read_it(db: Database) -> None:
    db.execute(
        "insert into ubp.users (user_id, user_key) values (4000000000000001, 'mary'), (4000000000000002, '8'),"
        " (4000000000000003, '9.0')"
    )
    assert {key: db.one("select ubp.resolve_user(%s)", key) for key in KEYS} == KEYS
