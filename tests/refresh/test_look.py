"""What tells of refreshes: the row they return, a dry run, ubp.freshness, job_runs, parity_check; and pg_cron."""

from datetime import timedelta

import pytest

from tests.api.helpers import refused
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, define, refresh, state

INSERT = "insert into ubp.events (user_id, event_time, kind, value, ingested_at) values (%s, %s, 'purchase', 1, %s)"
EVERYTHING = """
select (select md5(string_agg(t::text, '' order by t::text)) from ubp.feature_rows t),
       (select md5(string_agg(t::text, '' order by t::text)) from ubp.feature_sets t),
       (select count(*) from ubp.event_log), (select count(*) from ubp.dirty_users),
       (select count(*) from ubp.job_runs),
       (select count(*) from ubp.mirror_chunks)"""
DRY = "select users, recomputed, seconds, detail from ubp.refresh_features(%s, dry_run => true)"


def test_a_dry_run_counts_and_changes_nothing(db: Database) -> None:
    with db.connect() as conn:
        refused(conn, "UB005", "select * from ubp.refresh_features(now(), 'no such set', true)")
        row = conn.execute(DRY, [START]).fetchone()
        assert row is not None
        assert "would define the set" in row[3]
        define(conn)
        Log(conn, 61).insert(START, 60)
        row = conn.execute(DRY, [START]).fetchone()
        assert row is not None
        assert row[1:3] == (12, None)
        assert "everybody: nothing was stored yet" in row[3]
        refresh(conn, START)
        conn.execute(INSERT, [1, START, START])
        conn.execute("update ubp.events set value = 2 where user_id in (3, 4)")
        before = conn.execute(EVERYTHING).fetchone()
        row = conn.execute(DRY, [START]).fetchone()
        assert row is not None
        assert row[1] == 3
        assert row[3].startswith("dry run: at most 3 users: 0 marked as changed, 3 in 2 log rows to fold, 0 at an edge")
        assert "locks until commit" in row[3]
        edge = conn.execute(DRY, [START + timedelta(days=2)]).fetchone()
        assert edge is not None
        assert edge[1] > 3
        back = conn.execute(DRY, [START - timedelta(days=2)]).fetchone()
        assert back is not None
        assert back[1] == 12
        assert back[2] > 0
        assert conn.execute(EVERYTHING).fetchone() == before
        assert refresh(conn, START)["recomputed"] == 3
        conn.execute("truncate ubp.events")
        row = conn.execute(DRY, [START]).fetchone()
        assert row is not None
        assert "everybody: the events were replaced" in row[3]


def test_freshness(db: Database) -> None:
    view = """
        select feature_set, source, newest_event, newest_ingested, as_of, lag > interval '0', pending_log_rows,
               dirty_users, stale, mirror, users, last_seconds > 0, job_under_way
          from ubp.freshness where feature_set = 'default' order by source"""
    with db.connect() as conn:
        assert conn.execute(view).fetchall() == []
        define(conn)
        conn.execute("insert into ubp.sources (name) values ('shop')")
        late = START + timedelta(hours=2)
        conn.execute(INSERT, [1, START, late])
        found = conn.execute(view).fetchall()
        assert found[0] == ("default", "direct", START, late, None, None, 1, 0, True, "not built", None, None, None)
        assert found[1][1:4] == ("shop", None, None)
        refresh(conn, START + timedelta(days=1))
        conn.execute("select ubp.define_feature_set('other', array['purchase'])")
        conn.execute(INSERT, [2, START, START])
        refresh(conn, START + timedelta(days=1), "other")
        found = conn.execute(view).fetchall()
        assert found[0][4:9] == (START + timedelta(days=1), True, 0, 1, False)
        assert found[0][9].startswith("version ")
        assert found[0][10:] == (1, True, None)
        job = conn.execute("select ubp.start_refresh()").fetchone()
        assert job is not None
        assert conn.execute(view).fetchall()[0][12] == job[0]


def test_what_a_run_leaves(db: Database) -> None:
    with db.connect() as conn:
        define(conn)
        Log(conn, 62).insert(START, 40)
        done = refresh(conn, START)
        logged = conn.execute("select job, state, rows, detail, finished_at > started_at from ubp.job_runs").fetchone()
        assert logged is not None
        assert logged[:3] == ("refresh_features", "done", done["recomputed"])
        assert logged[3]["feature_set"] == "default"
        assert logged[3]["events"] == done["events"]
        assert logged[4]
        assert done["users"] == len(state(conn)) == done["recomputed"]


@pytest.mark.parametrize("mirror", [True, False])
def test_parity(db: Database, mirror: bool) -> None:
    with db.connect() as conn:
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        refused(conn, "UB005", "select * from ubp.parity_check()")
        define(conn)
        refused(conn, "UB005", "select * from ubp.parity_check()")
        Log(conn, 63).insert(START, 80)
        refresh(conn, START)
        refresh(conn, START + timedelta(days=2))
        refused(conn, "UB003", "select * from ubp.parity_check(0)")
        check = "select what, users, user_id, feature, stored, live, training from ubp.parity_check()"
        assert [row[:2] for row in conn.execute(check)] == [("equal", 12), ("differing", 0), ("pending", 0)]
        conn.execute(INSERT, [2, START, START])
        assert [row[:2] for row in conn.execute(check)] == [("equal", 11), ("differing", 0), ("pending", 1)]
        refresh(conn, START + timedelta(days=2))
        conn.execute("update ubp.feature_rows set features[1] = 77 where user_id = 5")
        conn.execute("delete from ubp.feature_rows where user_id = 6")
        rows = conn.execute(check).fetchall()
        assert [row[:2] for row in rows[:3]] == [("equal", 10), ("differing", 2), ("pending", 0)]
        five = [row for row in rows if row[2] == 5]
        assert len(five) == 1
        assert five[0][4] == 77
        assert five[0][5] == five[0][6] != 77
        assert {row[0] for row in rows if row[2] == 6} == {"differs"}


CRON = """
create schema cron;
create table cron.job (jobid bigserial, jobname text, schedule text, command text, username text default current_user);
create function cron.schedule(text, text, text) returns bigint language sql as
  'delete from cron.job where jobname = $1;
   insert into cron.job (jobname, schedule, command) values ($1, $2, $3) returning jobid';
create function cron.unschedule(text) returns boolean language sql as
  'delete from cron.job where jobname = $1 returning true';
"""


def test_schedules(db: Database) -> None:
    with db.connect() as conn:
        for call in ("select ubp.schedule_refresh('*/5 * * * *')", "select ubp.unschedule_refresh()"):
            error = refused(conn, "UB005", call)
            assert "pg_cron" in str(error.diag.message_primary)
            assert error.diag.message_hint
        conn.execute(CRON)
        refused(conn, "UB005", "select ubp.schedule_refresh('*/5 * * * *')")
        define(conn)
        assert conn.execute("select ubp.schedule_refresh('*/5 * * * *')").fetchone() == (1,)
        assert conn.execute("select ubp.schedule_refresh('0 * * * *')").fetchone() == (2,)
        row = conn.execute("select schedule, command, username from cron.job").fetchone()
        assert row == ("0 * * * *", "select * from ubp.refresh_features(feature_set => 'default')", "postgres")
        Log(conn, 64).insert(START, 20)
        conn.execute(row[1].encode())
        assert conn.execute("select ubp.unschedule_refresh()").fetchone() == (True,)
        assert conn.execute("select ubp.unschedule_refresh()").fetchone() == (False,)


def test_images(db: Database) -> None:
    """Both directions, for the types and lengths in use; who may not hand bytes in cannot."""
    with db.connect() as conn:
        for values in (
            "array[1.5, 'NaN', -0.0, 3e38]::real[]",
            "array[1, -2, 9e18]::bigint[]",
            "'{}'::double precision[]",
        ):
            query = f"select ubp.image_array(ubp.array_image(v), v)::text = v::text from (select {values} as v) x"
            assert conn.execute(query.encode()).fetchone() == (True,)
        assert conn.execute("select ubp.image_array(null, '{}'::real[]), ubp.array_image(null::real[])").fetchone() == (
            None,
            None,
        )
        allowed = """
            select r.rolname from pg_roles r
             where has_function_privilege(r.oid, %s, 'execute') and not r.rolsuper order by 1"""
        assert conn.execute(allowed, ["ubp.image_array(bytea, anyarray)"]).fetchall() == [("ubp_owner",)]
        of_the_scorer = conn.execute(allowed, ["ubp.array_bytes(anyarray, integer, boolean)"]).fetchall()
        assert of_the_scorer == [("ubp_owner",), ("ubp_reader",)]
