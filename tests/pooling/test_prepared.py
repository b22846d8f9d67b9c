"""Sessions that keep prepared statements while what they speak of changes: each answer is that of other sessions."""

from collections.abc import Callable

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.pooling.questions import MOMENT, answers
from tests.serving_shop import CHANGE, ONE, said
from ubp_sql.install import commands

VIEW = "select count(*), sum(count_purchase_7d) from ubp.user_features where user_id < %s"


def executed(*statements: str) -> Callable[[Connection], None]:
    def change(conn: Connection) -> None:
        for statement in statements:
            conn.execute(statement.encode())

    return change


CHANGES: dict[str, Callable[[Connection], object]] = {
    "rows": executed(CHANGE.format(n=2, value="user_id % 9", every=1)),
    "deployment": executed("select ubp.deploy_model('purchase', 2)"),
    "challenger": executed("select ubp.challenge_model('purchase', 3, 0.5)"),
    "way back": executed("select ubp.rollback_model('purchase')"),
    "refresh": executed("select * from ubp.refresh_features('2025-07-03 00:00+00')"),
    "scores": executed("select * from ubp.score_users('purchase')"),
    "mirror dropped": executed("select ubp.drop_mirror()"),
    "mirror": executed("select ubp.rebuild_mirror()"),
    "installed again": lambda conn: commands.init(conn),
    "generated again": executed("select ubp.rebuild_generated()"),
    "event": executed(
        "insert into ubp.events (user_id, event_time, kind, value) values (7, '2025-06-30', 'purchase', 9)"
    ),
    "column": executed("select ubp.define_event_column('colour', 'colour', 'words')"),
    "functions dropped": executed("drop function ubp.predict_purchase(bigint)", "select ubp.rebuild_generated()"),
    "vacuumed": executed(
        "analyze ubp.deployments",
        "vacuum full ubp.feature_rows",
        "vacuum full ubp.deployments",
        "vacuum full ubp.models",
    ),
}


def test_a_session_keeps_its_statements_over_everything_else(served: Database) -> None:
    """One session lives through all of it, in this order, beside the one that does it, and one that is new."""
    with served.connect() as kept, served.connect() as other:
        before = answers(kept, prepare=True)
        for name, change in CHANGES.items():
            change(other)
            assert answers(kept, prepare=True) == answers(other), name
            found = kept.execute(ONE, [7], prepare=True, binary=True).fetchone()
            assert found == (7, said(other)[7]), name
            counted = kept.execute(VIEW, [100], prepare=True).fetchone()
            assert counted == other.execute(VIEW, [100]).fetchone(), name
        with served.connect() as fresh:
            assert answers(kept, prepare=True) == answers(fresh) != before


OF_A_SET = (
    "select count(*), sum(count_purchase_7d) from ubp.user_features_wider",
    f"select * from ubp.features(7, {MOMENT}, 'wider')",
    f"select ubp.feature_vector(7, {MOMENT}, 'wider')",
    f"select ubp.sequence(7, 3, {MOMENT}, 'wider')",
)
COPY = "select ubp.copy_feature_set('default', 'wider')"
REFRESH = "select * from ubp.refresh_features('2025-07-03 00:00+00', 'wider')"
LIFE_OF_A_SET = {
    "made": COPY,
    "refreshed": REFRESH,
    "grown": "select ubp.define_feature('count_9d', 'count', array['purchase'],"
    " \"window\" => '9d', feature_set => 'wider')",
    "refreshed with more": REFRESH,
    "dropped": "select ubp.drop_feature_set('wider')",
    "made anew": COPY,
}


def test_a_feature_set_that_grows_and_is_made_anew(served: Database) -> None:
    """Its view and functions are asked by statements that were prepared when it was another."""
    with served.connect() as kept, served.connect() as other:
        for name, statement in LIFE_OF_A_SET.items():
            other.execute(statement.encode())
            with served.connect() as fresh:
                expected = answers(fresh, OF_A_SET)
                assert answers(kept, OF_A_SET, prepare=True) == expected, name


def test_a_session_that_is_made_bare(served: Database) -> None:
    """What a pooler in session mode does between two clients, and what goes with it of plans and settings."""
    with served.connect() as conn:
        expected = answers(conn)
        conn.execute("set jit = off; set work_mem = '1MB'; set plan_cache_mode = force_generic_plan")
        assert answers(conn) == expected
        conn.execute("discard all")
        assert answers(conn) == expected
