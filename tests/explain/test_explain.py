"""ubp.explain, ubp.explain_many and ubp.explain_<task> in a small database that serves."""

import math
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import lightgbm
import numpy as np
import psycopg
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import dict_row

from tests.api.helpers import Connection, feature_names, packed_rows, refused, tiny_model
from tests.fix_database import Database, clone, clone_filled
from tests.serving_shop import AS_OF, fill
from ubp_sql.embedded import Cluster

USER, NOBODY, WITHOUT = 17, 4711, 10
PATIENCE_S = 1.5  # D8 wants 150 ms; a machine that runs other things too is given this many seconds
Row = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    with clone_filled(cluster, installed, fill) as made:
        yield made


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `prepared` that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made


@pytest.fixture(scope="module")
def session(prepared: Database, cluster: Cluster) -> Iterator[Connection]:
    """In a clone of its own, which is only read: nobody else may be in a database that is cloned."""
    with clone(cluster, prepared.name) as made, made.connect() as conn:
        yield conn


def asked(conn: Connection, query: str, *arguments: object) -> list[Row]:
    return conn.cursor(row_factory=dict_row, binary=True).execute(query.encode(), arguments or None).fetchall()


def noticed(conn: Connection, query: str, *arguments: object) -> tuple[list[Row], list[str]]:
    """The rows, and what is said beside them."""
    said: list[str] = []

    def take(found: psycopg.errors.Diagnostic) -> None:
        said.append(str(found.message_primary))

    conn.add_notice_handler(take)
    rows = asked(conn, query, *arguments)
    conn.remove_notice_handler(take)
    return rows, said


def of_lightgbm(conn: Connection, version: int, user: int, at: object = AS_OF) -> tuple[Any, float]:
    """Contributions and base, and the raw score, of a user's row of a moment."""
    (model,) = asked(conn, "select source from ubp.models where version = %s", version)
    booster = lightgbm.Booster(model_str=bytes(model["source"]).decode())
    (vector,) = asked(conn, "select ubp.feature_vector(%s::bigint, %s::timestamptz) as row", user, at)
    row = np.array([vector["row"]], np.float32)
    raw: Any = booster.predict(row, raw_score=True)
    contributions: Any = booster.predict(row, pred_contrib=True)
    return contributions[0], float(raw[0])


def test_reasons_are_the_librarys_and_sum_to_its_raw_score(session: Connection, prepared: Database) -> None:
    names = feature_names(prepared)
    expected, raw = of_lightgbm(session, 1, USER)
    rows = asked(session, "select * from ubp.explain('purchase', %s, 1000)", USER)
    assert rows[0]["feature"] == "(base)"
    assert [row["rank"] for row in rows] == list(range(len(rows)))
    found = {row["feature"]: row["contribution"] for row in rows}
    assert found.pop("(base)") == pytest.approx(expected[-1], abs=1e-12)
    assert "(others)" not in found
    for name, contribution in zip(names, expected[:-1], strict=True):
        assert found.pop(name, 0.0) == pytest.approx(contribution, abs=1e-12)
    assert not found
    by_size = [abs(row["contribution"]) for row in rows[1:]]
    assert by_size == sorted(by_size, reverse=True)
    packed = packed_rows(session)[USER]
    for row in rows[1:]:
        value = packed[names.index(row["feature"])]
        assert (row["value"] is None) == bool(np.isnan(value))
        assert row["value"] is None or np.float32(row["value"]) == value
        assert ("(missing)" in row["meaning"]) == bool(np.isnan(value))
    assert sum(row["contribution"] for row in rows) == pytest.approx(raw, abs=1e-12)


@pytest.mark.parametrize("top", [1, 3, 5, 12])
def test_the_rest_is_one_row(session: Connection, top: int) -> None:
    _, raw = of_lightgbm(session, 1, USER)
    rows = asked(session, "select * from ubp.explain('purchase', %s, %s)", USER, top)
    assert len(rows) == top + 2
    assert (rows[-1]["feature"], rows[-1]["rank"]) == ("(others)", top + 1)
    assert rows[-1]["value"] is rows[-1]["typical"] is None
    total = 0.0
    for row in rows:
        total += row["contribution"]
    assert total == pytest.approx(raw, rel=1e-15)


def logistic(raw: float) -> float:
    return 1 / (1 + math.exp(-raw))


def test_what_a_reason_means(session: Connection) -> None:
    """The change is that of what predict says: with all contributions, less without this one."""
    rows = asked(session, "select * from ubp.explain_purchase(%s)", USER)
    score = asked(session, "select ubp.predict_purchase(%s::bigint) as score", USER)[0]["score"]
    raw = math.log(score / (1 - score))
    base = rows[0]["contribution"]
    assert rows[0]["meaning"] == f"of nobody in particular: a chance of {100 * logistic(base):.1f} %"
    catalogue = dict(session.execute("select feature, meaning from ubp.feature_catalogue").fetchall())
    for row in rows[1:-1]:
        points = 100 * (logistic(raw) - logistic(raw - row["contribution"]))
        how = "raises" if points > 0 else "lowers"
        shown = f"{abs(points):.1f}" if abs(points) >= 1 else f"{abs(points):.2g}"
        assert row["meaning"] == f"{catalogue[row['feature']].rstrip('.')}: {how} the chance by {shown} points"
    assert " other features: " in rows[-1]["meaning"]


def test_the_change_goes_through_the_deployments_map(shop: Database) -> None:
    with shop.connect() as conn:
        plain = asked(conn, "select * from ubp.explain_purchase(%s, 1)", USER)
        found = asked(conn, "select ubp.add_calibration_map('purchase', 1, 'platt', array[2.0, 0.5]) as map")
        conn.execute("select ubp.use_calibration('purchase', %s)", [found[0]["map"]])
        rows = asked(conn, "select * from ubp.explain_purchase(%s, 1)", USER)
        value = asked(conn, "select ubp.predict_purchase(%s::bigint) as v", USER)[0]["v"]
        _, raw = of_lightgbm(conn, 1, USER)
    assert [row["contribution"] for row in rows] == [row["contribution"] for row in plain]
    assert value == pytest.approx(logistic(2 * raw + 0.5))
    base, first = rows[0]["contribution"], rows[1]["contribution"]
    assert rows[0]["meaning"].endswith(f"a chance of {100 * logistic(2 * base + 0.5):.1f} %")
    points = 100 * abs(value - logistic(2 * (raw - first) + 0.5))
    assert rows[1]["meaning"].endswith(f"by {points:.1f} points")


def test_every_way_of_asking_says_the_same(session: Connection) -> None:
    rows = asked(session, "select * from ubp.explain('purchase', %s)", USER)
    for query in ("ubp.explain('purchase', '17')", "ubp.explain('purchase', 17, top => 5)", "ubp.explain_purchase(17)",
                  "ubp.explain_purchase('17', 5)", "ubp.explain_purchase(user_id => 17, top => 5)"):  # fmt: skip
        assert asked(session, f"select * from {query}") == rows, query
    columns = ", ".join(rows[0])
    assert asked(session, f"select {columns} from ubp.explain_many('purchase', array[17])") == rows
    # At the set's as_of, features computed from the raw events are the stored ones.
    for query in ("ubp.explain('purchase', 17, %s::timestamptz)", "ubp.explain('purchase', '17', as_of => %s)"):
        assert asked(session, f"select * from {query}", AS_OF) == rows, query


def test_at_another_moment(session: Connection) -> None:
    at = "2025-06-20 00:00+00"
    rows = asked(session, "select * from ubp.explain('purchase', 17, %s::timestamptz, 99)", at)
    raw = of_lightgbm(session, 1, 17, at)[1]
    assert sum(row["contribution"] for row in rows) == pytest.approx(raw, abs=1e-12)


def test_many_in_the_order_asked(session: Connection) -> None:
    rows = asked(session, "select * from ubp.explain_many('purchase', %s, 2)", [USER, None, NOBODY, USER, WITHOUT, 3])
    users = [row["user_id"] for row in rows]
    assert users == [*[USER] * 4, None, NOBODY, *[USER] * 4, WITHOUT, *[3] * 4]
    for place, user in ((4, None), (5, NOBODY), (10, WITHOUT)):
        assert rows[place]["rank"] is rows[place]["feature"] is rows[place]["contribution"] is None
        reason = asked(session, "select reason from ubp.predict_many('purchase', %s)", [user])[0]["reason"]
        assert rows[place]["meaning"] == reason
    assert asked(session, "select * from ubp.explain_many('purchase', '{}')") == []
    square = asked(session, "select * from ubp.explain_many('purchase', %s, 2)", [[USER, 3], [None, NOBODY]])
    assert [row["user_id"] for row in square] == [*[USER] * 4, *[3] * 4, None, NOBODY]


def test_a_user_without_a_score_has_no_reasons(session: Connection) -> None:
    for user in (NOBODY, WITHOUT, -(2**63)):
        rows, said = noticed(session, "select * from ubp.explain_purchase(%s::bigint)", user)
        reason = asked(session, "select reason from ubp.predict_detail('purchase', %s::bigint)", user)[0]["reason"]
        assert (rows, said) == ([], [f"no score to explain: {reason}"])
    for call in ("explain_purchase(null::bigint)", "explain_purchase(null::text)", "explain('purchase', null, 5)",
                 f"explain('purchase', null::bigint, '{AS_OF}'::timestamptz)"):  # fmt: skip
        assert noticed(session, f"select * from ubp.{call}") == ([], ["no score to explain: the user id is NULL"])
    rows, said = noticed(session, "select * from ubp.explain_purchase('no such key')")
    assert (rows, len(said)) == ([], 1)


@pytest.mark.parametrize(
    ("sqlstate", "call"),
    [
        ("UB001", "explain('no_task', 17)"),
        ("UB001", "explain_many('no_task', '{}')"),
        ("UB003", "explain('purchase', 17, 0)"),
        ("UB003", "explain('purchase', 17, -5)"),
        ("UB003", "explain('purchase', 17, null::integer)"),
        ("UB003", "explain('purchase', 17, null::timestamptz)"),
        ("UB003", "explain('purchase', 17, timestamptz 'infinity')"),
        ("UB003", "explain('purchase', 17, timestamptz '2025-06-20', 0)"),
        ("UB003", "explain_many('purchase', null)"),
        ("UB003", "explain_many('purchase', array[17], null)"),
        ("UB003", "explain_purchase(17, 0)"),
        ("UB004", "explain('idle', 17)"),
    ],
)
def test_bad_input(session: Connection, sqlstate: str, call: str) -> None:
    with session.transaction(force_rollback=True):
        session.execute("select ubp.define_task('idle', 'purchase')")
        assert refused(session, sqlstate, f"select * from ubp.{call}").diag.message_hint


@given(user=st.none() | st.integers(-(2**63), 2**63 - 1), top=st.integers(-(2**31), 2**31 - 1))
def test_any_user_and_any_top(session: Connection, user: int | None, top: int) -> None:
    query = "select * from ubp.explain('purchase', %s::bigint, %s::integer)"
    if top < 1:
        refused(session, "UB003", query, user, top)
    else:
        rows, said = noticed(session, query, user, top)
        assert bool(rows) != bool(said)


def test_who_answers_explains(shop: Database) -> None:
    """A challenger for its users, the other for an id that was linked to him."""
    with shop.connect() as conn:
        conn.execute("select ubp.challenge_model('purchase', 2, 0.5)")
        versions = set()
        for user in range(1, 40, 4):
            detail = asked(conn, "select version, score from ubp.predict_detail('purchase', %s::bigint)", user)
            if detail and detail[0]["score"] is not None:
                versions.add(detail[0]["version"])
                rows = asked(conn, "select contribution from ubp.explain_purchase(%s, 99)", user)
                raw = of_lightgbm(conn, detail[0]["version"], user)[1]
                assert sum(row["contribution"] for row in rows) == pytest.approx(raw, abs=1e-12)
        assert versions == {1, 2}
        conn.execute("insert into ubp.user_members (member_id, user_id) values (%s, %s)", [NOBODY, USER])
        assert asked(conn, "select * from ubp.explain_purchase(%s)", NOBODY) == asked(
            conn, "select * from ubp.explain_purchase(%s)", USER
        )
        (row,) = asked(conn, "select * from ubp.explain_many('purchase', array[999])")
        assert row["rank"] is None


def test_another_version_explains_from_its_deployment_on(shop: Database) -> None:
    with shop.connect() as conn:
        before = asked(conn, "select * from ubp.explain_purchase(%s)", USER)
        conn.execute("select ubp.deploy_model('purchase', 2)")
        after = asked(conn, "select contribution from ubp.explain_purchase(%s, 99)", USER)
        assert sum(row["contribution"] for row in after) == pytest.approx(of_lightgbm(conn, 2, USER)[1], abs=1e-12)
        conn.execute("select ubp.rollback_model('purchase')")
        assert asked(conn, "select * from ubp.explain_purchase(%s)", USER) == before


def test_a_model_registered_before_explainers_gets_one(shop: Database) -> None:
    """By the next `ubp-sql init`; one that cannot have one stays without, and its trees are explained as any model."""
    with shop.connect() as conn:
        rows = asked(conn, "select * from ubp.explain_purchase(%s)", USER)
        kept = conn.execute("select explainer from ubp.models order by model_id", binary=True).fetchall()
        assert all(explainer for (explainer,) in kept)
        conn.execute("update ubp.models set explainer = null")
    with shop.connect() as conn:
        refused(conn, "UB005", "select * from ubp.explain_purchase(%s)", USER)
        conn.execute("select ubp.rebuild_generated()")
        now = conn.execute("select explainer from ubp.models order by model_id", binary=True).fetchall()
        assert now == [kept[0], (None,), (None,)]  # of a version that was never deployed nobody asks
    with shop.connect() as conn:
        assert asked(conn, "select * from ubp.explain_purchase(%s)", USER) == rows
        conn.execute("update ubp.models set explainer = '\\x00' where version = 1")
    with shop.connect() as conn:
        refused(conn, "UB006", "select * from ubp.explain_purchase(%s)", USER)


def test_trees_that_do_not_say_their_covers_are_sampled(shop: Database) -> None:
    """Exactly enough: sampled values of the model sum to its raw score too."""
    with shop.connect() as conn:
        text = tiny_model(feature_names(shop)).model_to_string()
        bare = "\n".join(line for line in text.split("\n") if not line.startswith("leaf_count="))
        sizes = [str(len(block) + 5) for block in bare.split("end of trees")[0].split("Tree=")[1:]]
        header = next(line for line in bare.split("\n") if line.startswith("tree_sizes="))
        bare = bare.replace(header, f"tree_sizes={' '.join(sizes)}")
        row = conn.execute("select ubp.register_model('purchase', %s)", [bare.encode()]).fetchone()
        assert row is not None
        conn.execute("select ubp.deploy_model('purchase', %s)", [row[0]])
        assert conn.execute("select explainer from ubp.models where version = %s", [row[0]]).fetchone() == (None,)
        refused(conn, "UB005", "select * from ubp.explain_many('purchase', %s::bigint[])", [NOBODY, USER])
        conn.execute("select ubp.study_model('purchase')")
        rows = asked(conn, "select * from ubp.explain_purchase(%s, 99)", USER)
        assert sum(r["contribution"] for r in rows) == pytest.approx(of_lightgbm(conn, row[0], USER)[1], abs=1e-12)


@pytest.mark.parametrize("settings", [{"booster": "gblinear"}, {"max_depth": 3}])
def test_models_of_xgboost(shop: Database, settings: dict[str, Any]) -> None:
    """Trees at once; a linear model says that it needs users to compare with, and then has reasons too."""
    names = feature_names(shop)
    rng = np.random.default_rng(3)
    x = rng.normal(2, 3, (200, len(names))).astype(np.float32)
    data = xgboost.DMatrix(x, x[:, 0] + rng.normal(size=200) > 2, feature_names=names)
    source = xgboost.train({"objective": "binary:logistic", "nthread": 1, "seed": 1, **settings}, data, 5).save_raw(
        "json"
    )
    with shop.connect() as conn:
        (row,) = asked(conn, "select ubp.register_model('purchase', %s) as version", bytes(source))
        conn.execute("select ubp.deploy_model('purchase', %s)", [row["version"]])
        if settings.get("booster") == "gblinear":
            assert refused(conn, "UB005", "select * from ubp.explain_purchase(17)").diag.message_hint
            conn.execute("select ubp.study_model('purchase')")
        (row,) = asked(conn, "select ubp.predict_purchase(17::bigint) as score")
        rows = asked(conn, "select * from ubp.explain_purchase(17, 3)")
        assert len(rows) == 5
        assert logistic(sum(found["contribution"] for found in rows)) == pytest.approx(row["score"], abs=1e-12)


def test_typical_values_once_the_model_was_studied(shop: Database) -> None:
    with shop.connect() as conn:
        assert all(row["typical"] is None for row in asked(conn, "select * from ubp.explain_purchase(%s)", USER))
        conn.execute("select ubp.study_model('purchase')")
        names, typical = feature_names(shop), asked(conn, "select typical from ubp.model_backgrounds")[0]["typical"]
        for row in asked(conn, "select * from ubp.explain_purchase(%s)", USER)[1:-1]:
            expected = np.float32(typical[names.index(row["feature"])])
            assert (row["typical"] is None) == bool(np.isnan(expected))
            assert row["typical"] is None or np.float32(row["typical"]) == expected


def test_rights(shop: Database) -> None:
    with shop.connect() as conn:
        for role in ("ubp_analyst", "ubp_auditor", "ubp_loader"):
            conn.execute(f"set role {role}".encode())
            assert asked(conn, "select * from ubp.explain_purchase('17')")
            assert asked(conn, "select * from ubp.explain('purchase', 17)")
            assert asked(conn, "select * from ubp.explain_many('purchase', array[17])")
            conn.execute("reset role")
        conn.execute("drop role if exists nobody_explains")
        conn.execute("create role nobody_explains")
        conn.execute("grant usage on schema ubp to nobody_explains")
        conn.execute("set role nobody_explains")
        for call in ("explain_purchase(17)", "explain('purchase', 17)", "explain_many('purchase', array[17])"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"select * from ubp.{call}".encode())
        conn.execute("reset role")
        conn.execute("revoke all on schema ubp from nobody_explains")
        conn.execute("drop role nobody_explains")


def test_neither_numpy_nor_numba_is_loaded(prepared: Database) -> None:
    loaded = """create function pg_temp.loaded() returns text[] language plpython3u as
                $$ import sys; return [name for name in ('numpy', 'numba', 'llvmlite') if name in sys.modules] $$"""
    with prepared.connect() as conn:
        conn.execute("select * from ubp.explain_purchase(17)")
        conn.execute("select * from ubp.explain('purchase', '17', 99)")
        conn.execute("select * from ubp.explain_many('purchase', array[17, 3])")
        conn.execute(loaded.encode())
        assert conn.execute("select pg_temp.loaded()").fetchone() == ([],)


def test_many_can_be_cancelled(session: Connection) -> None:
    session.execute("set statement_timeout = '200ms'")
    started = perf_counter()
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute(
            "select * from ubp.explain_many('purchase', array(select 1 + n %% 300 from generate_series(1, %s) n))",
            [1_000_000],
        )
    assert perf_counter() - started < 0.2 + PATIENCE_S
    session.execute("reset statement_timeout")
