"""Neural networks in a server: registered, run once in a process of its own, deployed, scored."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import psycopg
import pytest

from tests.api.helpers import Connection, Event, feature_names, insert, packed_rows, refused, register, tiny_model
from tests.cli.running import document, refusal, told
from tests.fix_database import Database, clone, create, drop
from tests.models.onnx_makers import Maker
from ubp_sql.embedded import Cluster
from ubp_sql.models.blob import blob_hash
from ubp_sql.training.first_run import check_model

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
USERS = 300
PATIENCE_S = 1.5  # D8 wants 150 ms; a machine that runs other things too is given this many seconds
STATUS = "select status, checked from ubp.models where task = 'purchase' and version = %s"


def network(names: list[str], seed: int = 0, *, named: bool = True, fills: bool = True) -> bytes:
    """Two layers that put 0 in the place of a missing feature."""
    m = Maker(seed, features=len(names))
    x = "x"
    if fills:
        x = m.add("Where", m.add("IsNaN", x), m.put(np.zeros(1, np.float32)), x)
    x = m.add("Relu", m.dense(m.add("Tanh", x), len(names), 8))
    if named:
        m.metadata["feature_names"] = json.dumps(names)
    return m.bytes(m.add("Sigmoid", m.dense(x, 8, 1)))


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Three hundred buyers; version 1 of `purchase` is of trees and answers, 2 is a network that has not run."""
    made = create(cluster, installed)
    with made.connect() as conn:
        days = [Event(u, AS_OF - timedelta(days=1 + u * d % 90), "purchase", d, u + d) for u in range(1, USERS + 1)
                for d in (1, 7, 31)]  # fmt: skip
        insert(conn, days)
        conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
        register(conn, "purchase", tiny_model(feature_names(made)))
        conn.execute("select ubp.deploy_model('purchase')")
        register_network(conn, network(feature_names(made)))
    yield made
    drop(made)


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `prepared` that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made


def register_network(conn: Connection, data: bytes) -> int:
    row = conn.execute("select ubp.register_model('purchase', %s)", [data]).fetchone()
    assert row is not None
    return int(row[0])


def test_what_has_not_run_cannot_answer(shop: Database) -> None:
    with shop.connect() as conn:
        assert conn.execute(STATUS, [2]).fetchone() == ("pending", None)
        for query in (
            "select ubp.deploy_model('purchase')",
            "select ubp.deploy_model('purchase', 2, '2099-01-01')",
            "select ubp.challenge_model('purchase', 2, 0.5)",
            "select ubp.shadow_model('purchase', 2)",
            "select ubp.score('purchase', array_fill(0::float8, array[13]), 2)",
            "select ubp.score_all('purchase', array_fill(0::float8, array[13]), 2)",
        ):
            error = refused(conn, "UB005", query)
            assert error.diag.message_hint == "`ubp-sql model check purchase 2` runs it in a process of its own"
        query = "select ubp.score_blob(compiled, array_fill(0::float8, array[13])) from ubp.models where version = 2"
        refused(conn, "UB007", query)


def test_scores_are_onnx_runtimes(shop: Database) -> None:
    """Stored, together, one by one and by numbers; the features in an order of the network's own."""
    names = feature_names(shop)
    data = network(names[::-1], seed=3)
    with shop.connect() as conn:
        version = register_network(conn, data)
        report = check_model(conn, "purchase", version)
        assert report["ready"]
        assert not report["no_score_if_missing"]
        assert 0 < report["seconds_per_row"] < 0.1
        query = "select status, checked, format, deployed from ubp.model_versions where version = %s"
        row = conn.execute(query, [version]).fetchone()
        assert row is not None
        status, checked, form, deployed = row
        assert (status, form, deployed) == ("ready", "onnx", False)
        assert checked["peak_bytes"] == report["peak_bytes"]
        assert checked["by"] == conn.info.user
        conn.execute("select ubp.deploy_model('purchase', %s)", [version])
        rows = packed_rows(conn)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        own = np.array([row[::-1] for row in rows.values()])
        expected = dict(zip(rows, session.run(None, {"x": own})[0][:, 0].astype(float).tolist(), strict=True))
        query = "select user_id, ubp.predict('purchase', user_id) from ubp.feature_rows"
        assert dict(conn.execute(query, binary=True).fetchall()) == expected
        conn.execute("select * from ubp.score_users('purchase')")
        stored = conn.execute("select user_id, score from ubp.user_scores where version = %s", [version], binary=True)
        assert dict(stored.fetchall()) == expected
        user = next(iter(rows))
        given = [None if value != value else value for value in rows[user].tolist()]
        found = conn.execute("select ubp.score('purchase', %s::float8[])", [given], binary=True).fetchone()
        assert found == (expected[user],)
        live = conn.execute("select ubp.predict('purchase', %s, %s)", [user, AS_OF], binary=True).fetchone()
        assert live == (expected[user],)


def test_a_status_belongs_to_the_bytes(shop: Database) -> None:
    with shop.connect() as conn:
        again = register_network(conn, network(feature_names(shop)))
        check_model(conn, "purchase", again)
        assert [conn.execute(STATUS, [v]).fetchone()[0] for v in (2, again)] == ["ready", "ready"]  # type: ignore[index]
        third = register_network(conn, network(feature_names(shop)))
        assert conn.execute(STATUS, [third]).fetchone() == conn.execute(STATUS, [2]).fetchone()
        other = register_network(conn, network(feature_names(shop), seed=1))
        assert conn.execute(STATUS, [other]).fetchone() == ("pending", None)


def test_what_a_check_may_say(shop: Database) -> None:
    with shop.connect() as conn:
        row = conn.execute("select compiled_sha256, compiled from ubp.models where version = 2", binary=True).fetchone()
        assert row is not None
        sha256, record = row[0], "select ubp.record_model_check(%s, %s, %s)"
        assert sha256 == blob_hash(row[1])
        trees = conn.execute("select compiled_sha256 from ubp.models where version = 1").fetchone()
        assert trees is not None
        refused(conn, "UB004", record, trees[0], True, "{}")
        refused(conn, "UB004", record, "no hash", True, "{}")
        for arguments in ((None, True, "{}"), (sha256, None, "{}"), (sha256, True, "[]"), (sha256, True, None)):
            refused(conn, "UB003", record, *arguments)
        conn.execute(record, [sha256, False, '{"reason": "it smells"}'])
        error = refused(conn, "UB007", "select ubp.deploy_model('purchase', 2)")
        assert error.diag.message_primary == "ubp: version 2 of 'purchase' was refused: it smells"
        conn.execute(record, [sha256, True, "{}"])
        conn.execute("select ubp.deploy_model('purchase', 2)")
        refused(conn, "UB003", record, sha256, False, '{"reason": "too late"}')
        conn.execute("select ubp.deploy_model('purchase', 1)")
        conn.execute("select ubp.shadow_model('purchase', 2)")
        refused(conn, "UB003", record, sha256, False, '{"reason": "still beside"}')
        conn.execute("select ubp.shadow_model('purchase', 2, false)")
        conn.execute(record, [sha256, False, '{"reason": "now"}'])
        conn.execute("set role ubp_analyst")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(record, [sha256, True, "{}"])


def test_a_missing_feature_has_no_score_and_says_so(shop: Database) -> None:
    names = feature_names(shop)
    with shop.connect() as conn:
        version = register_network(conn, network(names, seed=5, fills=False))
        assert check_model(conn, "purchase", version)["no_score_if_missing"]
        conn.execute("select ubp.deploy_model('purchase', %s)", [version])
        missing = [user for user, row in packed_rows(conn).items() if np.isnan(row).any()]
        if not missing:
            conn.execute("update ubp.feature_rows set features[1] = 'NaN' where user_id = 1")
            missing = [1]
        row = conn.execute("select score, reason from ubp.predict_detail('purchase', %s)", [missing[0]]).fetchone()
        assert row == (None, "the model gives no number for the user's features")


def test_other_features_are_refused(shop: Database) -> None:
    names = feature_names(shop)
    with shop.connect() as conn:
        for data in (
            network([*names[:-1], "shoe_size"]),
            network(names[:-1]),
            network([*names, "shoe_size"], named=False),
        ):
            refused(conn, "UB002", "select ubp.register_model('purchase', %s)", data)
        register_network(conn, network(names, named=False))


def test_the_command_line_runs_it_first(shop: Database, tmp_path: Path) -> None:
    names = feature_names(shop)
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(network(names, seed=7))
    m = Maker(0, features=len(names))
    bad.write_bytes(m.bytes(m.add("Log", m.add("Neg", m.add("Abs", m.dense("x", len(names), 1))))))
    done = told("model", "import", "purchase", good, "--deploy", "--dsn", shop.dsn)
    assert "a network; features found by their names" in done
    assert done.endswith("purchase is answered by version 3\n")
    code, state, message = refusal("model", "import", "purchase", bad, "--deploy", "--dsn", shop.dsn)
    assert (code, state) == (3, "UB007")
    assert "version 4 of 'purchase' is registered and refused: it gives no number for ordinary features" in message
    assert shop.one(STATUS, 4) == "refused"
    assert shop.one("select version from ubp.deployed_versions where task = 'purchase'") == 3
    assert document("model", "check", "purchase", "2", "--dsn", shop.dsn)["ready"] is True
    assert shop.one(STATUS, 2) == "ready"
    assert "only neural networks need a first run" in told("model", "check", "purchase", "1", "--dsn", shop.dsn)
    assert refusal("model", "check", "purchase", "9", "--dsn", shop.dsn)[:2] == (4, "UB004")
    assert "refused" in told("model", "list", "--dsn", shop.dsn)
    assert document("model", "show", "purchase", "4", "--dsn", shop.dsn)["checked"]["reason"]


def test_no_thread_and_no_signal_is_taken(shop: Database) -> None:
    """A backend has as many threads with the network as without, and a cancel still ends its statement."""
    with shop.connect() as conn:
        check_model(conn, "purchase", 2)
        conn.execute("select ubp.score_users('purchase')")  # what NumPy and Numba start is there
        conn.execute("select ubp.deploy_model('purchase', 2)")
        before = threads(conn)
        conn.execute("select ubp.predict('purchase', 1)")
        assert threads(conn) == before
        masks = {status_of(conn, task)["SigBlk"] for task in before}
        assert status_of(conn, conn.info.backend_pid)["SigBlk"] in masks


def threads(conn: Connection) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{conn.info.backend_pid}/task")}


def status_of(conn: Connection, task: int) -> dict[str, str]:
    text = Path(f"/proc/{conn.info.backend_pid}/task/{task}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_a_cancel_ends_a_heavy_network(shop: Database) -> None:
    """Some milliseconds a row: the statement ends between two of its runs."""
    names = feature_names(shop)
    m = Maker(features=len(names))
    x = m.add("Where", m.add("IsNaN", "x"), m.put(np.zeros(1, np.float32)), "x")
    x = m.add("Tanh", m.dense(x, len(names), 600))
    weights = m.draw(600, 600, scale=0.05)
    for _ in range(60):
        x = m.add("Tanh", m.add("MatMul", x, weights))
    with shop.connect() as conn:
        version = register_network(conn, m.bytes(m.add("Sigmoid", m.dense(x, 600, 1))))
        check_model(conn, "purchase", version)
        conn.execute("select ubp.deploy_model('purchase', %s)", [version])
        conn.execute("select ubp.predict('purchase', 1)")
        conn.execute("""
            insert into ubp.feature_rows (feature_set_id, user_id, features, as_of, anchors)
            select feature_set_id, user_id + 1000 * n, features, as_of, anchors
              from ubp.feature_rows, generate_series(1, 30) n""")
        conn.execute("set statement_timeout = '200ms'")
        started = perf_counter()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("select * from ubp.score_users('purchase')")
        assert perf_counter() - started < 0.2 + PATIENCE_S
