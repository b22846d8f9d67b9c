"""Models as rows: what is let in, what answers, since when, for whom, and what is said when something does not fit."""

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import lightgbm
import numpy as np
import psycopg
import pytest

from tests.api.helpers import Connection, Event, feature_names, insert, packed_rows, refused, register, tiny_model
from tests.fix_database import Database, clone, create, drop
from ubp_sql import __version__
from ubp_sql.api import session
from ubp_sql.api.deployments import undone
from ubp_sql.embedded import Cluster
from ubp_sql.errors import StaleSession, UbpError, VersionSkew

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
BUYER, LOOKER = 7, 8
SCORES = "select ubp.predict('purchase', user_id) from ubp.feature_rows order by user_id"


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Twenty buyers, one who only looks, a small feature set, task `purchase`, no model. Read only."""
    made = create(cluster, installed)
    with made.connect() as conn:
        buys = [Event(u, AS_OF - timedelta(days=u + d), "purchase", d, u + d) for u in range(1, 21) for d in (1, 9, 30)]
        insert(conn, [event for event in buys if event.user_id != LOOKER])
        insert(
            conn, [Event(LOOKER, AS_OF - timedelta(days=1), "cancel"), Event(5, AS_OF - timedelta(days=2), "cancel")]
        )
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'cancel'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
    yield made
    drop(made)


@pytest.fixture
def small(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `prepared` that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made


def models(db: Database, n: int) -> list[lightgbm.Booster]:
    names = feature_names(db)
    return [tiny_model(names, seed) for seed in range(n)]


def expected(conn: Connection, model: lightgbm.Booster) -> list[float | None]:
    """LightGBM's own scores in the order of SCORES; nobody without a purchase has one."""
    return [
        None if user == LOOKER else float(model.predict(row.reshape(1, -1))[0])
        for user, row in sorted(packed_rows(conn).items())
    ]


def scores(conn: Connection) -> list[float | None]:
    return [value for (value,) in conn.execute(SCORES, binary=True).fetchall()]


def test_register_deploy_roll_back(small: Database) -> None:
    first, second = models(small, 2)
    with small.connect() as conn, small.connect() as other:
        assert register(conn, "purchase", first) == 1
        refused(conn, "UB004", SCORES)
        assert conn.execute("select ubp.deploy_model('purchase')").fetchone() == (1,)
        one, two = expected(conn, first), expected(conn, second)
        assert one != two
        assert scores(conn) == scores(other) == one
        assert register(conn, "purchase", second) == 2
        assert scores(conn) == one  # registered is not deployed
        assert conn.execute("select ubp.deploy_model('purchase', 2)").fetchone() == (2,)
        assert scores(conn) == scores(other) == two  # the other session follows at its next statement
        assert conn.execute("select ubp.rollback_model('purchase')").fetchone() == (1,)
        assert scores(conn) == scores(other) == one
        history = conn.execute(
            "select version, retired_at = 'infinity' from ubp.deployments order by deployment_id"
        ).fetchall()
        assert history == [(1, False), (2, False), (1, True)]
        shown = conn.execute("select version, deployed from ubp.model_versions order by version").fetchall()
        assert shown == [(1, True), (2, False)]
        for version, wanted in ((1, one), (2, two)):
            row = packed_rows(conn)[BUYER]
            values = [None if np.isnan(value) else float(value) for value in row]
            found = conn.execute("select ubp.score('purchase', %s::float8[], %s)", [values, version], binary=True)
            assert found.fetchone() == (wanted[BUYER - 1],)


def test_a_deploy_belongs_to_its_transaction(small: Database) -> None:
    first, second = models(small, 2)
    with small.connect() as conn, small.connect() as other:
        register(conn, "purchase", first)
        conn.execute("select ubp.deploy_model('purchase')")
        one, two = expected(conn, first), expected(conn, second)
        assert scores(other) == one
        with conn.transaction(force_rollback=True):
            register(conn, "purchase", second)
            conn.execute("select ubp.deploy_model('purchase')")
            assert scores(conn) == two
            assert scores(other) == one
        assert scores(conn) == scores(other) == one
        # the numbers of what was rolled back are not taken again: a session that has met them is not misled
        register(conn, "purchase", tiny_model(feature_names(small), 2))
        conn.execute("select ubp.deploy_model('purchase')")
        assert scores(conn) == scores(other) not in (one, two)


def test_models_that_are_not_let_in(small: Database) -> None:
    (sound,) = models(small, 1)
    names, text = feature_names(small), sound.model_to_string()
    cases: list[tuple[str, bytes]] = [
        ("UB002", tiny_model([*names[:-1], "another"]).model_to_string().encode()),
        ("UB002", tiny_model(names[:-1]).model_to_string().encode()),
        ("UB002", tiny_model([*names, "one_more"]).model_to_string().encode()),
        ("UB006", text[: len(text) // 2].encode()),
        ("UB006", text.replace("leaf_value=", "leaf_value=nan ", 1).encode()),
        ("UB006", pickle.dumps(sound)),
        ("UB006", b""),
        ("UB006", b"\x00\xff" * 100),
        ("UB007", text.replace("is_linear=0", "is_linear=1", 1).encode()),
    ]
    with small.connect() as conn:
        for sqlstate, data in cases:
            refused(conn, sqlstate, "select ubp.register_model('purchase', %s)", data)
        for bad in ("3", "[3]", '[{"cut": "2024-01-01"}]', '{"cut": 1}'):
            query = "select ubp.register_model('purchase', %s, metrics => %s)"
            refused(conn, "UB003", query, text.encode(), bad)
        refused(conn, "UB003", "select ubp.register_model('purchase', null)")
        refused(conn, "UB001", "select ubp.register_model('nothing', %s)", text.encode())
        refused(conn, "UB001", "select ubp.register_model(null, %s)", text.encode())
        assert conn.execute("select count(*) from ubp.models").fetchone() == (0,)
        # what is left out is nothing, not an error
        conn.execute("select ubp.register_model('purchase', %s, null, null, null, null)", [text.encode()])


def test_what_is_kept_of_a_model(small: Database) -> None:
    (model,) = models(small, 1)
    measured = {"cut": "2024-02-01", "metric": "auc", "value": 0.7125, "n": 40, "positives": 11, "protocol": "held out"}
    with small.connect() as conn:
        register(conn, "purchase", model, [measured, {**measured, "cut": "2024-01-01", "value": 0.5}])
    assert small.rows("select * from ubp.model_metrics order by cut desc")[0] == {
        **measured,
        "model_id": 1,
        "cut": datetime(2024, 2, 1, tzinfo=UTC),
    }
    (row,) = small.rows("select * from ubp.model_versions")
    assert (row["auc"], row["tested"], row["trees"], row["objective"]) == (0.7125, 40, 3, "binary")
    assert row["code_version"] == __version__
    assert row["feature_set_hash"] == small.one("select hash from ubp.feature_sets")
    assert bytes(small.one("select source from ubp.models")) == model.model_to_string().encode()


UNANSWERED = [
    "select ubp.predict({task}, 7)",
    "select ubp.predict({task}, '7')",
    "select ubp.predict({task}, 7, now())",
    "select * from ubp.predict_detail({task}, 7)",
    "select * from ubp.predict_detail({task}, '7')",
    "select * from ubp.predict_detail({task}, 7, now())",
    "select * from ubp.predict_many({task}, array[7, 8])",
    "select * from ubp.predict_many({task}, array[]::bigint[])",
    "select ubp.score({task}, array[1.0])",
    "select * from ubp.score_users({task})",
    "select ubp.rollback_model({task})",
]


def test_unknown_tasks_and_tasks_without_a_model(small: Database) -> None:
    with small.connect() as conn:
        for query in UNANSWERED:
            unknown = refused(conn, "UB001", query.format(task="'churn'"))
            assert "'churn'" in str(unknown.diag.message_primary)
            assert unknown.diag.message_hint
            missing = refused(conn, "UB004", query.format(task="'purchase'"))
            assert missing.diag.message_hint
        for query in ("select ubp.deploy_model('purchase')", "select ubp.deploy_model('purchase', 3)"):
            assert refused(conn, "UB004", query).diag.message_hint
        refused(conn, "UB001", "select ubp.deploy_model('churn')")
        refused(conn, "UB001", "select * from ubp.training_matrix('churn', array[now()])")
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
        for version in (0, -1, 2, 2**31 - 1):
            refused(conn, "UB004", f"select ubp.score('purchase', array[1.0], {version})")
            refused(conn, "UB004", f"select ubp.deploy_model('purchase', {version})")
        refused(conn, "UB004", "select ubp.rollback_model('purchase')")


@pytest.mark.parametrize(
    ("sqlstate", "arguments"),
    [
        ("UB003", "null, 'purchase'"),
        ("UB003", "'No', 'purchase'"),
        ("UB003", "'many', 'purchase'"),
        ("UB003", "repeat('t', 52), 'purchase'"),
        ("UB003", "'x', 'view'"),
        ("UB003", "'x', null"),
        ("UB003", "'x', 'purchase', 'view'"),
        ("UB003", "'x', 'purchase', null, '0 days'"),
        ("UB003", "'x', 'purchase', null, '-1 days'"),
        ("UB003", "'x', 'purchase', null, '1 month'"),  # 28 to 31 days: label windows would cross the test cut
        ("UB003", "'x', 'purchase', null, '1 year 2 days'"),
        ("UB003", "'x', 'purchase', null, '1000000000 days'"),
        ("UB003", "'x', 'purchase', null, null"),
        ("UB003", "'purchase', 'cancel'"),
        ("UB003", "'purchase', 'purchase', null, '7 days'"),
        ("UB005", "'x', 'purchase', null, '7 days', 'no such set'"),
        ("UB005", "'x', 'purchase', null, '7 days', null"),
    ],
)
def test_bad_tasks(prepared: Database, sqlstate: str, arguments: str) -> None:
    with prepared.connect() as conn:
        refused(conn, sqlstate, f"select ubp.define_task({arguments})")
        conn.execute("select ubp.define_task('purchase', 'purchase')")  # the same again
        assert conn.execute("select count(*) from ubp.tasks").fetchone() == (1,)


def test_a_second_task_with_its_own_functions(small: Database) -> None:
    """Label and population of its own: those who cancelled, within a week."""
    first, second = models(small, 2)
    with small.connect() as conn:
        register(conn, "purchase", first)
        conn.execute("select ubp.deploy_model('purchase')")
        conn.execute("select ubp.define_task('regret', 'purchase', 'cancel', interval '7 days')")
        register(conn, "regret", second)
        assert conn.execute("select to_regproc('ubp.predict_regret') is null").fetchone() == (True,)
        conn.execute("select ubp.deploy_model('regret')")
        rows = packed_rows(conn)
        wanted = {user: float(second.predict(rows[user].reshape(1, -1))[0]) for user in (5, LOOKER)}
        found = conn.execute(
            "select user_id, ubp.predict_regret(user_id) from ubp.feature_rows", binary=True
        ).fetchall()
        assert {user: score for user, score in found if score is not None} == wanted
        for query in (
            "ubp.predict_regret(5)",
            "ubp.predict_regret('5')",
            f"ubp.predict_regret(5, '{AS_OF}')",
            f"ubp.predict_regret('5'::text, '{AS_OF}')",
            "ubp.predict('regret', 5)",
        ):
            assert conn.execute(f"select {query}".encode(), binary=True).fetchone() == (wanted[5],), query
        assert scores(conn) == expected(conn, first)
        assert conn.execute("select score, version from ubp.predict_detail('regret', 1)").fetchone() == (None, 1)
    functions = small.rows(
        """select pg_get_function_identity_arguments(oid) as takes, proparallel::text as parallel,
                  provolatile::text as kind, pg_get_userbyid(proowner) as owner,
                  obj_description(oid, 'pg_proc') as comment,
                  (select array_agg(r order by r) from unnest(array['ubp_analyst', 'ubp_auditor', 'ubp_loader']) r
                    where has_function_privilege(r, oid, 'execute')) as granted,
                  (select count(*) from aclexplode(proacl) where grantee = 0) as public
             from pg_proc where proname = 'predict_regret' order by 1"""
    )
    assert [f["takes"] for f in functions] == [
        "user_id bigint",
        "user_id bigint, as_of timestamp with time zone",
        "user_key text",
        "user_key text, as_of timestamp with time zone",
    ]
    for f in functions:
        assert (f["parallel"], f["kind"], f["owner"], f["public"]) == ("u", "s", "ubp_owner", 0)
        assert f["granted"] == ["ubp_analyst", "ubp_auditor", "ubp_loader"]
        assert "regret" in f["comment"]


def test_scores_of_everybody(small: Database) -> None:
    with small.connect() as conn:
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
        row = conn.execute("select users, scored, without_score from ubp.score_users('purchase')").fetchone()
        assert row == (20, 19, 1)
        table = "select user_id, score, percentile, reason, version, as_of from ubp.user_scores order by user_id"
        stored = conn.execute(table, binary=True).fetchall()
        assert [score for _, score, *_ in stored] == scores(conn)
        given = [score for _, score, *_ in stored if score is not None]
        for user, score, percentile, reason, version, as_of in stored:
            assert (version, as_of) == (1, AS_OF)
            if score is None:
                assert (user, percentile) == (LOOKER, None)
                assert "too little history" in reason
            else:
                assert reason is None
                assert percentile == pytest.approx(100 * sum(other < score for other in given) / len(given))
        detail = "select percentile from ubp.predict_detail('purchase', %s)"
        assert conn.execute(detail, [BUYER], binary=True).fetchone() == (stored[BUYER - 1][2],)
        conn.execute("delete from ubp.feature_rows where user_id = 1")
        conn.execute("select ubp.score_users('purchase')")
        assert conn.execute("select count(*) from ubp.user_scores where user_id = 1").fetchone() == (0,)
        conn.execute("select ubp.define_feature_set('fresh', array['purchase', 'cancel'], array[7, 30])")
        conn.execute("select ubp.define_task('later', 'purchase', null, '9 days', 'fresh')")
        register(conn, "later", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('later')")
        assert "refresh_features" in str(refused(conn, "UB005", "select ubp.score_users('later')").diag.message_hint)
        assert conn.execute("select ubp.predict_later(7)").fetchone() == (None,)


def test_ids_of_every_kind_in_the_middle_of_a_set(small: Database) -> None:
    with small.connect() as conn:
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
        conn.execute("insert into ubp.users (user_id, user_key) values (4000000000000000, 'ключ')")
        ids: list[int | None] = [None, 0, -1, 2**63 - 1, -(2**63), LOOKER, 21, BUYER, BUYER]
        known = [False] * 7 + [True, True]
        for call in ("predict('purchase', id)", f"predict('purchase', id, '{AS_OF}')", "predict_purchase(id)"):
            query = f"select ubp.{call} is not null from unnest(%s::bigint[]) with ordinality as q(id, n) order by n"
            assert [row[0] for row in conn.execute(query.encode(), [ids]).fetchall()] == known
        many = conn.execute("select * from ubp.predict_many('purchase', %s::bigint[])", [ids]).fetchall()
        assert [row[0] for row in many] == ids
        assert [row[1] is not None for row in many] == known
        assert all((score is None) == (reason is not None) for _, score, reason in many)
        assert conn.execute(
            "select count(*) from ubp.predict_many('purchase', array[array[1, 2], array[null, 7]])"
        ).fetchone() == (4,)
        keys = ["", "ключ", "nobody", "0x7", "07", " 7", "7.0", "７", "9" * 40, "a" * 10_000, "'; --", "-7", "7"]
        for call in ("predict('purchase', key)", f"predict_purchase(key, '{AS_OF}')", "predict_purchase(key)"):
            query = f"select key from unnest(%s::text[]) as q(key) where ubp.{call} is not null"
            # written as the loader reads them: spaces around a key and a decimal point without digits do not matter
            assert [row[0] for row in conn.execute(query.encode(), [keys]).fetchall()] == [" 7", "7.0", "7"]
        query = (
            "select key from unnest(%s::text[]) as q(key), ubp.predict_detail('purchase', key) d where d.reason is null"
        )
        assert [row[0] for row in conn.execute(query, [keys]).fetchall()] == [" 7", "7.0", "7"]


def test_a_tampered_feature_set_answers_nothing(small: Database) -> None:
    (model,) = models(small, 1)
    with small.connect() as conn:
        register(conn, "purchase", model)
        conn.execute("select ubp.deploy_model('purchase')")
        score = scores(conn)
    small.execute("update ubp.feature_sets set hash = repeat('0', 64)")
    with small.connect() as conn:
        for query in (
            "select ubp.predict('purchase', 7)",
            "select * from ubp.predict_many('purchase', array[7])",
            "select * from ubp.predict_detail('purchase', 7)",
            "select ubp.predict('purchase', 7, now())",
            "select * from ubp.score_users('purchase')",
            "select * from ubp.refresh_features()",
            "select ubp.deploy_model('purchase')",
            "select * from ubp.training_matrix('purchase', array[now()])",
        ):
            assert refused(conn, "UB002", query).diag.message_hint
        refused(conn, "UB002", "select ubp.register_model('purchase', %s)", model.model_to_string().encode())
    hash_again = "update ubp.feature_sets set hash = definition->>'hash'"
    small.execute(hash_again)
    with small.connect() as conn:
        assert scores(conn) == score


@pytest.mark.parametrize(
    "change",
    [
        """jsonb_set(definition, '{windows_days}', '[7, 31]')""",
        """jsonb_set(definition, '{kinds}', '["cancel", "purchase"]')""",
        """jsonb_set(definition, '{semantics}', '99')""",
        """jsonb_set(definition, '{kinds}', '[["x"], 3]')""",
        """definition - 'windows_days'""",
        """'[]'""",
    ],
)
def test_a_tampered_definition_computes_nothing(small: Database, change: str) -> None:
    """A live call goes by the plan stored with the hash: it is refused, or computes what the hash stands for."""
    live = "select * from ubp.features(7, '2024-03-01 00:00+00')"
    before = small.rows(live)
    assert before
    small.execute(f"update ubp.feature_sets set definition = {change}")
    with small.connect() as conn:
        for query in (
            "select * from ubp.refresh_features()",
            "select * from ubp.training_matrix('purchase', array[now()])",
        ):
            assert refused(conn, "UB002", query).diag.message_hint
        found: object
        try:
            found = conn.execute(live.encode()).fetchall()
        except psycopg.Error as error:
            found = error.sqlstate
        assert found in ("UB002", [tuple(row.values()) for row in before])


def test_rows_of_another_length_are_not_scored(small: Database) -> None:
    """The native scorer checks no bounds, so the length is checked before it."""
    with small.connect() as conn:
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
        for features in ("features || 0::real", "features[2:]", "'{}'"):
            with conn.transaction(force_rollback=True):
                conn.execute(f"update ubp.feature_rows set features = {features}".encode())
                refused(conn, "UB002", "select ubp.predict('purchase', 7)")


def test_package_and_database_of_different_versions(small: Database) -> None:
    with small.connect() as conn:
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
    queries = (
        "select ubp.version()",
        "select ubp.predict('purchase', 7)",
        "select ubp.predict('purchase', 7, now())",
        "select * from ubp.predict_many('purchase', array[7])",
        "select ubp.score('purchase', array[1.0])",
        "select * from ubp.features(7)",
        "select * from ubp.refresh_features()",
        "select * from ubp.score_users('purchase')",
        "select * from ubp.training_matrix('purchase', array[now()])",
        "select ubp.define_task('x', 'purchase')",
        "select ubp.deploy_model('purchase')",
    )
    for installed in ("9.9.9", "0.0.1"):
        small.execute("update ubp.installation set package_version = %s", installed)
        with small.connect() as conn:
            for query in (*queries, *queries):  # not only the first time
                error = refused(conn, "UB010", query)
                assert installed in str(error.diag.message_primary)
                assert "doctor" in str(error.diag.message_hint)
    small.execute("update ubp.installation set package_version = %s", __version__)
    with small.connect() as conn:
        conn.execute("do $$ import ubp_sql; ubp_sql.__version__ = '0.0.1' $$ language plpython3u")
        for query in queries:
            assert refused(conn, "UB009", query).diag.message_hint == "reconnect"


class FakePlpy:
    """As much of plpy as `check_version` touches."""

    Error = RuntimeError

    def __init__(self, installed: str | None) -> None:
        self.rows: list[dict[str, str]] = [{"package_version": installed}] if installed else []

    def prepare(self, query: str, types: list[str]) -> "FakePlpy":
        assert (query, types) == (session.INSTALLED, [])
        return self

    def execute(self, arguments: list[Any]) -> list[dict[str, str]]:
        assert arguments == []
        return self.rows


@pytest.mark.parametrize(
    ("installed", "on_disk", "kind"),
    [
        (__version__, __version__, None),
        (__version__, "9.9.9", None),  # files newer than database and session: the old code still fits the database
        ("9.9.9", "9.9.9", StaleSession),
        ("9.9.9", __version__, VersionSkew),
        ("0.0.1", __version__, VersionSkew),
        (None, __version__, VersionSkew),
    ],
)
def test_which_version_is_behind(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, on_disk: str, kind: type[UbpError] | None
) -> None:
    monkeypatch.setattr(session, "_version_on_disk", lambda: on_disk)
    if kind is None:
        session.check_version(FakePlpy(installed), {})
        return
    with pytest.raises(kind):
        session.check_version(FakePlpy(installed), {})

    @session.entry
    def called(plpy: Any, memory: dict[str, Any]) -> None:
        session.check_version(plpy, memory)

    with pytest.raises(RuntimeError) as caught:  # what the server is given: a plpy.Error that prints as `ubp: ...`
        called(FakePlpy(installed), {})
    assert type(caught.value).__qualname__ == "ubp"
    assert type(caught.value).__module__ == "builtins"
    assert vars(type(caught.value))["sqlstate"] == kind.sqlstate
    assert vars(caught.value)["hint"]


def test_version_on_disk_is_the_packages() -> None:
    assert session._version_on_disk() == __version__


def test_an_error_as_a_client_receives_it(small: Database) -> None:
    with small.connect() as conn:
        error = refused(conn, "UB001", "select ubp.predict('churn', 7)")
    assert error.diag.severity == "ERROR"
    assert error.diag.message_primary == "ubp: unknown task 'churn'"
    assert error.diag.message_hint == "select task from ubp.tasks lists the tasks"
    assert error.diag.message_detail is None


@pytest.mark.parametrize(
    ("deployed", "left"),
    [([], []), ([1], [1]), ([1, 2], [1, 2]), ([1, 2, 1], [1]), ([1, 2, 3, 2], [1, 2]), ([1, 2, 3, 2, 1], [1])],
)
def test_rollbacks_go_back_and_not_in_circles(deployed: list[int], left: list[int]) -> None:
    def answers(versions: list[int]) -> list[tuple[int, int | None]]:
        return [(version, None) for version in versions]

    assert undone(answers(deployed)) == answers(left)
    assert undone(answers([*deployed, 9])) == answers([*left, 9])


def test_another_map_of_a_version_is_another_answer() -> None:
    assert undone([(1, None), (1, 7), (2, 8)]) == [(1, None), (1, 7), (2, 8)]
    assert undone([(1, None), (1, 7), (1, None)]) == [(1, None)]


def test_a_key_means_the_same_user_to_predict_and_to_resolve_user(small: Database) -> None:
    with small.connect() as conn:
        register(conn, "purchase", models(small, 1)[0])
        conn.execute("select ubp.deploy_model('purchase')")
        conn.execute("insert into ubp.users (user_id, user_key) values (4000000000000009, 'x7'), (7, '7')")
        keys = ["7", " 7", "7.00", "007", "x7", "4000000000000000", "nobody", ""]
        query = """
            select key from unnest(%s::text[]) as q(key)
             where ubp.predict('purchase', key) is distinct from ubp.predict('purchase', ubp.resolve_user(key))"""
        assert conn.execute(query, [keys]).fetchall() == []
        assert conn.execute("select ubp.predict('purchase', '7.00') is not null").fetchone() == (True,)
