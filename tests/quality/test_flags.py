"""Features that leave flagged events out: stored, live and training rows stay equal, nobody else is computed."""

from datetime import UTC, datetime

import pytest

from tests.api.helpers import refused
from tests.fix_database import Database
from tests.quality.logs import Connection, add, check

AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
TWICE = "values ({0}, '2025-02-05 12:00+00', 'view', 1, 5.0), ({0}, '2025-02-05 12:00+00', 'view', 1, 5.0)"


@pytest.fixture
def shop(db: Database) -> Database:
    """Users 1 to 40 with a view each; set `clean` counts views without a flag, `odd` those that repeat another."""
    with db.connect() as conn:
        add(
            conn,
            "select g, timestamptz '2025-02-01' + g * interval '1 minute', 'view', g, 1.0"
            " from generate_series(1, 40) g",
        )
        conn.execute("select ubp.define_event_column('flagged', '*', 'number', 'flag')")
        conn.execute("select ubp.define_event_column('repeated', 'duplicates', 'number', 'flag')")
        for name, condition in (("clean", '{"flagged": {"below": 1}}'), ("odd", '{"repeated": {"min": 1}}')):
            conn.execute(
                "select ubp.define_feature('views', 'count', array['view'], feature_set => %s, settings => %s::jsonb)",
                [name, f'{{"where": {condition}}}'],
            )
    return db


def refresh(conn: Connection, name: str = "clean") -> int:
    row = conn.execute("select recomputed from ubp.refresh_features(%s, %s)", [AS_OF, name]).fetchone()
    assert row is not None
    return int(row[0])


def views(conn: Connection, name: str = "clean") -> dict[int, int]:
    return dict(conn.execute(f"select user_id, views::integer from ubp.user_features_{name}".encode()).fetchall())


def same_everywhere(conn: Connection, name: str) -> None:
    assert conn.execute("select * from ubp.parity_check(1000, %s)", [name]).fetchall() is not None
    stored = views(conn, name)
    for user in (1, 2, 3, 40):
        live = conn.execute("select value from ubp.features(%s, %s, %s)", [user, AS_OF, name]).fetchone()
        assert live == (stored[user],)
    oracle = conn.execute("select sql_oracle from ubp.feature_catalogue where feature_set = %s", [name]).fetchone()
    assert oracle is not None
    assert {row[0]: int(row[1]) for row in conn.execute(oracle[0].encode()).fetchall()}.items() >= stored.items()


@pytest.mark.parametrize("mirrored", [True, False])
def test_what_is_flagged_is_left_out_and_nobody_else_computed(shop: Database, mirrored: bool) -> None:
    with shop.connect() as conn:
        if not mirrored:
            conn.execute("select ubp.drop_mirror()")
        add(conn, TWICE.format(2))
        for name in ("clean", "odd"):
            refresh(conn, name)
        assert (views(conn)[1], views(conn)[2], views(conn, "odd")[2]) == (1, 3, 0), "nobody has looked yet"
        check(conn)
        live = conn.execute("select value from ubp.features(2, %s, 'clean')", [AS_OF]).fetchone()
        assert live == (2.0,), "before any refresh"
        assert refresh(conn) == 1
        refresh(conn, "odd")
        assert (views(conn)[2], views(conn, "odd")[2], views(conn, "odd")[1]) == (2, 1, 0)
        same_everywhere(conn, "clean")
        same_everywhere(conn, "odd")
        check(conn)
        assert refresh(conn) == 0, "flags that stay concern nobody"
        ((number,),) = conn.execute("select finding_id from ubp.quality_findings").fetchall()
        conn.execute("select ubp.dismiss_finding(%s)", [number])
        assert refresh(conn) == 1
        assert views(conn)[2] == 3
        same_everywhere(conn, "clean")
        if mirrored:
            assert conn.execute("select * from ubp.verify_mirror()").fetchall() == []


def test_training_rows_leave_it_out_too(shop: Database) -> None:
    with shop.connect() as conn:
        add(conn, TWICE.format(2))
        add(conn, "values (3, '2025-02-20 12:00+00', 'view', 1, 5.0)")  # so that outcomes are known
        refresh(conn)
        conn.execute("select ubp.define_feature('count_view_all', 'count', array['view'], feature_set => 'clean')")
        conn.execute("select ubp.define_task('again', 'view', feature_set => 'clean', population_kind => 'view')")
        check(conn)
        conn.execute("select ubp.training_set('again', array['2025-02-10 00:00+00'::timestamptz], horizon => '5 days')")
        rows = dict(conn.execute("select user_id, features[1]::integer from ubp.training_again").fetchall())
        assert (rows[1], rows[2]) == (1, 2), "a flag of today speaks of the event, whenever it is asked about"


def test_columns_of_flags_that_cannot_be(db: Database) -> None:
    with db.connect() as conn:
        refused(conn, "UB003", "select ubp.define_event_column('a', '*', 'text', 'flag')")
        refused(conn, "UB003", "select ubp.define_event_column('a', 'no rule', 'number', 'flag')")
        conn.execute("select ubp.define_event_column('a', 'gaps', 'number', 'flag')")


def test_no_column_of_flags_no_work_for_the_refresh(db: Database) -> None:
    with db.connect() as conn:
        add(conn, TWICE.format(2))
        conn.execute("select * from ubp.refresh_features()")
        assert check(conn)
        assert conn.execute("select count(*) from ubp.event_log").fetchone() == (0,)
