"""A day's population is recorded once: what came, changed or went later on is seen by later days alone."""

from datetime import timedelta
from json import dumps

import pytest

from tests.api.helpers import refused
from tests.fix_database import Database
from tests.standings.helpers import (
    FEATURES,
    MIDNIGHT,
    define,
    differing,
    events,
    insert,
    live,
    refresh,
    same,
    stored,
    wanted,
)
from tests.standings.reference import Event
from ubp_sql.install import commands

HOUR = timedelta(hours=1)
AS_OF = MIDNIGHT + 5 * HOUR
LATER = AS_OF + 9 * HOUR


def test_late_events_and_changes_touch_no_recorded_day(db: Database) -> None:
    log = events(2)
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        refresh(conn, AS_OF)
        before = conn.execute("select * from ubp.standings order by 1, 2, 3").fetchall()
        late = [Event(50 + n, MIDNIGHT - HOUR, MIDNIGHT - HOUR, "view", 3, None) for n in range(20)]
        insert(conn, late)
        conn.execute("delete from ubp.events where user_id = 7")
        conn.execute("update ubp.events set kind = 'purchase' where user_id = 8")
        now = [e._replace(kind="purchase") if e.user == 8 else e for e in [*log, *late] if e.user != 7]
        now.sort(key=lambda e: (e.user, e.t, e.ingested))
        refresh(conn, AS_OF + HOUR)
        assert conn.execute("select * from ubp.standings order by 1, 2, 3").fetchall() == before
        want = wanted(now, AS_OF + HOUR, log)
        assert all(same(row, want[user]) for user, row in stored(conn).items())
        assert len(want) > 30
        assert differing(conn) == []
        # Whoever deletes the rows has the day recorded anew, and every row computed by it.
        conn.execute("delete from ubp.standings where position = 5")
        assert same(live(conn, 3, AS_OF + HOUR), wanted(now, AS_OF + HOUR)[3][:4] + mixed(now, log, 3)), (
            "the others stay"
        )
        conn.execute("delete from ubp.standings")
        assert refresh(conn, AS_OF + HOUR).startswith("everybody")
        want = wanted(now, AS_OF + HOUR)
        assert all(same(row, want[user]) for user, row in stored(conn).items())
        assert differing(conn) == []


def mixed(now: list[Event], log: list[Event], user: int) -> list[float | None]:
    new, old = (wanted(now, AS_OF + HOUR, then)[user] for then in (now, log))
    return [new[4], *old[5:]]


def test_what_a_session_keeps_of_a_day_that_nobody_recorded(db: Database) -> None:
    """It is what a new session would count: also after changes, a fold, a rollback and a record."""
    log = events(8)
    with db.connect() as conn, db.connect() as other:
        insert(conn, log)
        define(conn)
        assert same(live(conn, 3, AS_OF), wanted(log, AS_OF)[3])
        more = [Event(60 + n, MIDNIGHT - 2 * HOUR, MIDNIGHT - HOUR, "view", 2, None) for n in range(15)]
        with conn.transaction(force_rollback=True):
            insert(conn, more)
            assert same(live(conn, 3, AS_OF), wanted([*log, *more], AS_OF)[3])
        assert same(live(conn, 3, AS_OF), wanted(log, AS_OF)[3])
        insert(other, more)
        log = [*log, *more]
        assert same(live(conn, 3, AS_OF), wanted(log, AS_OF)[3])
        other.execute("select ubp.build_mirror()")
        other.execute("delete from ubp.events where user_id = 60")
        log = [e for e in log if e.user != 60]
        assert same(live(conn, 3, AS_OF), wanted(log, AS_OF)[3])
        refresh(other, AS_OF)
        then = list(log)
        insert(other, [Event(90, MIDNIGHT - HOUR, MIDNIGHT - HOUR, "view", 2, None)])
        log.append(Event(90, MIDNIGHT - HOUR, MIDNIGHT - HOUR, "view", 2, None))
        assert same(live(conn, 3, AS_OF), wanted(log, AS_OF, then)[3]), "a record holds for everybody"


def test_a_growing_set(db: Database) -> None:
    log = events(2)
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        refresh(conn, AS_OF)
        before = conn.execute("select * from ubp.standings order by 1, 2, 3").fetchall()
        insert(conn, [Event(70, MIDNIGHT - HOUR, MIDNIGHT - HOUR, "view", 3, None)])
        conn.execute("select ubp.define_feature('spent_rank', 'percentile', of => 'spent')")
        row = live(conn, 3, AS_OF)
        refresh(conn, AS_OF)
        assert row == live(conn, 3, AS_OF)
        after = conn.execute("select * from ubp.standings order by 1, 2, 3").fetchall()
        assert [one for one in after if one in before] == before
        assert len(after) == len(before) + 1
        assert differing(conn) == []


def test_two_sets_and_the_end_of_one(db: Database) -> None:
    with db.connect() as conn:
        insert(conn, events(2))
        define(conn)
        conn.execute("select ubp.copy_feature_set('default', 'second')")
        for name in ("default", "second"):
            conn.execute("select ubp.refresh_features(%s, %s)", [AS_OF, name])
        assert conn.execute("select count(*) from ubp.standings").fetchone() == (8,)
        conn.execute("select ubp.drop_feature_set('second')")
        assert conn.execute("select count(*) from ubp.standings").fetchone() == (4,)


def test_nobody_was_there(db: Database) -> None:
    """A first day: no percentile, and no event on the item."""
    with db.connect() as conn:
        insert(conn, [Event(1, AS_OF, AS_OF, "view", 3, None), Event(9, LATER, LATER, "purchase", 3, 1.0)])
        define(conn)
        refresh(conn, AS_OF + HOUR)
        assert stored(conn)[1][4:8] == [None, None, None, 0.0]
        assert conn.execute("select position, n from ubp.standings order by 1").fetchall() == [
            (5, 0),
            (6, 0),
            (7, 0),
            (8, 0),
        ]
        assert differing(conn) == []
        assert live(conn, 2, AS_OF) is None


def test_row_security_and_a_day_that_is_not_recorded(db: Database) -> None:
    with db.connect() as conn:
        insert(conn, events(2))
        define(conn)
        refresh(conn, AS_OF)
        conn.execute("alter table ubp.events enable row level security")
        conn.execute("create policy of_a_few on ubp.events for select to ubp_reader using (user_id < 10)")
        assert live(conn, 3, AS_OF + HOUR) is not None
        error = refused(conn, "UB005", "select ubp.feature_vector(3, '2025-03-09 12:00+00')")
        assert "2025-03-09 00:00+00" in str(error.diag.message_primary)
        assert "ubp.refresh_features" in str(error.diag.message_hint)


def test_who_may_read_and_write_them(db: Database) -> None:
    may = db.rows("""
        select r.role, p.privilege
          from unnest(array['ubp_reader', 'ubp_auditor', 'ubp_analyst', 'ubp_loader']) r (role),
               unnest(array['select', 'insert', 'update', 'delete']) p (privilege)
         where has_table_privilege(r.role, 'ubp.standings', p.privilege) order by 1""")
    assert may == [{"role": role, "privilege": "select"} for role in ("ubp_auditor", "ubp_reader")]


def test_a_session_says_when_it_cannot_keep_so_many_days(db: Database) -> None:
    with db.connect() as conn:
        insert(conn, events(2))
        define(conn)
        conn.execute("select ubp.define_task('buys', 'purchase', population_kind => 'view', horizon => '2 days')")
        conn.execute("do $$ from ubp_sql.api import standings; standings.MOST_BYTES = 300 $$ language plpython3u")
        cuts = [MIDNIGHT - n * 24 * HOUR for n in range(4)]
        error = refused(conn, "UB005", "select count(*) from ubp.training_matrix('buys', %s)", cuts)
        assert "ubp.training_set" in str(error.diag.message_hint)
        conn.execute("select ubp.training_set('buys', %s)", [cuts])
        conn.execute("select count(*) from ubp.training_matrix('buys', %s)", [cuts])


@pytest.mark.parametrize("features", [["views_rank"], ["popularity"], ["views_rank", "popularity"]])
def test_after_a_downgrade_older_code_finds_no_plan(db: Database, features: list[str]) -> None:
    """It would take the value for its percentile: without a plan it looks at the definition, and refuses it."""
    with db.connect() as conn:
        insert(conn, events(2))
        some = [feature for feature in FEATURES if feature["name"] in ("views_all", *features)]
        conn.execute("select ubp.define_features(%s)", [dumps(some)])
        conn.execute("select ubp.define_feature_set('plain', array['view'], array[7])")
        refresh(conn, AS_OF)
        shown = commands.downgrade(conn, "0006", run=False)
        assert f"ubp.standings: {len(features)} row{'s' * (len(features) > 1)}" in commands.rows_that_go(conn, shown)
        commands.downgrade(conn, "0006", run=True)
        assert conn.execute("select to_regclass('ubp.standings')").fetchone() == (None,)
        found = conn.execute("select name, plan is null from ubp.feature_sets order by name").fetchall()
        assert found == [("default", True), ("plain", False)]
        commands.apply(conn)
        assert conn.execute("select bool_and(plan is not null) from ubp.feature_sets").fetchone() == (True,)
        assert refresh(conn, AS_OF).startswith("everybody")
        assert differing(conn) == []
