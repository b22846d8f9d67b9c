"""Models of every format through SQL: registered, deployed, scored one by one and together, the same numbers."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import xgboost
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.api.helpers import F32, Event, feature_names, insert, packed_rows, refused
from tests.cli.running import ubp_sql
from tests.fix_database import Database, create, drop
from tests.models.sklearn_makers import by_runtime, convert
from ubp_sql.embedded import Cluster

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
LOOKER = 8


@pytest.fixture
def shop(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Twenty buyers and one who only looks; some features are missing for some."""
    made = create(cluster, installed)
    with made.connect() as conn:
        buys = [Event(u, AS_OF - timedelta(days=u + d), "purchase", d, u + d) for u in range(1, 21) for d in (1, 9, 30)]
        insert(conn, [event for event in buys if event.user_id != LOOKER])
        insert(conn, [Event(LOOKER, AS_OF - timedelta(days=1), "cancel")])
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'cancel'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'purchase')")
    yield made
    drop(made)


def learnable(rows: F32) -> tuple[F32, Any]:
    rng = np.random.default_rng(1)
    x = np.repeat(rows, 20, axis=0) + rng.normal(0, 0.5, (20 * len(rows), rows.shape[1])).astype(np.float32)
    return x, (np.nan_to_num(x).sum(axis=1) + rng.normal(0, 1, len(x)) > np.nan_to_num(x).sum(axis=1).mean()).astype(
        int
    )


def of_xgboost(x: Any, y: Any, names: list[str], **settings: Any) -> xgboost.Booster:
    data = xgboost.DMatrix(x, y, feature_names=names or None)
    return xgboost.train({"objective": "binary:logistic", "nthread": 1, **settings}, data, 8)


def registered(conn: psycopg.Connection[Any], data: bytes) -> tuple[int, list[str]]:
    """The version, and what was warned of."""
    warned: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        warned.append(f"{notice.severity} {notice.message_primary}")

    conn.add_notice_handler(listen)
    row = conn.execute("select ubp.register_model('purchase', %s)", [data]).fetchone()
    conn.remove_notice_handler(listen)
    assert row is not None
    return int(row[0]), warned


def served(conn: psycopg.Connection[Any], version: int) -> tuple[list[float | None], list[float | None]]:
    """Everybody's score, one by one and by ubp.score_users."""
    conn.execute("select ubp.deploy_model('purchase', %s)", [version])
    one = conn.execute("select ubp.predict('purchase', user_id) from ubp.feature_rows order by user_id", binary=True)
    scores = [value for (value,) in one.fetchall()]
    conn.execute("select ubp.score_users('purchase')")
    stored = conn.execute("select score from ubp.user_scores where task = 'purchase' order by user_id", binary=True)
    return scores, [value for (value,) in stored.fetchall()]


def test_every_format_is_registered_deployed_and_scored(shop: Database) -> None:
    names = feature_names(shop)
    with shop.connect() as conn:
        stored = packed_rows(conn)
        rows = np.stack([stored[user] for user in sorted(stored)])
        x, y = learnable(rows)
        turned = of_xgboost(x[:, ::-1], y, names[::-1])
        line = make_pipeline(SimpleImputer(keep_empty_features=True), LogisticRegression(max_iter=1000)).fit(x, y)
        pipeline = convert(line, x[:1], {id(line): {"zipmap": False}})
        cases = [
            ("xgboost", "binary:logistic", bytes(turned.save_raw("json")), turned.inplace_predict(rows[:, ::-1])),
            ("xgboost", "binary:logistic", bytes(turned.save_raw("ubj")), turned.inplace_predict(rows[:, ::-1])),
            ("onnx", "binary", pipeline, by_runtime(pipeline, rows)[:, 0]),
        ]
        for version, (form, objective, data, expected) in enumerate(cases, 1):
            found, warned = registered(conn, data)
            assert found == version
            assert [re.sub(r"\d+ inputs", "n inputs", line) for line in warned] == (
                []
                if form == "xgboost"
                else ["WARNING the model names no features: its n inputs are taken in the order of set 'default'"]
            )
            one, everybody = served(conn, version)
            assert one == everybody
            who = sorted(stored)
            assert [score is None for score in one] == [user == LOOKER for user in who]
            assert np.allclose([s for s in one if s is not None], expected[[u != LOOKER for u in who]], atol=1e-5)
            kind = conn.execute("select format, objective from ubp.models where version = %s", [version]).fetchone()
            assert kind == (form, objective)
            blob = "select ubp.score_blob(compiled, %s::float8[]) from ubp.models where version = %s"
            row = [None if np.isnan(v) else float(v) for v in rows[0]]
            assert conn.execute(blob, [row, version], binary=True).fetchone() == (one[0],)


def test_a_linear_model_without_values_for_missing_ones_says_so(shop: Database) -> None:
    with shop.connect() as conn:
        stored = packed_rows(conn)
        rows = np.stack([stored[user] for user in sorted(stored)])
        x, y = learnable(rows)
        model = LogisticRegression(max_iter=1000).fit(np.nan_to_num(x), y)
        version, warned = registered(conn, convert(model, x[:1], {id(model): {"zipmap": False}}))
        assert any("missing feature (NULL) get no score" in line for line in warned)
        one, everybody = served(conn, version)
        assert one == everybody
        unknown = [user for user in stored if np.isnan(stored[user]).any()]
        assert unknown
        assert [score is None for score in one] == [user in (LOOKER, *unknown) for user in sorted(stored)]
        query = "select ubp.score_all('purchase', features::float8[], %s) from ubp.feature_rows where user_id = %s"
        assert conn.execute(query, [version, unknown[0]]).fetchone() == ([None],)
        blob = """select ubp.score_blob_all(compiled, features::float8[])
                    from ubp.feature_rows, ubp.models where version = %s and user_id = %s"""
        assert conn.execute(blob, [version, unknown[0]]).fetchone() == ([None],)


def test_what_is_not_let_in(shop: Database) -> None:
    names = feature_names(shop)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(100, len(names))), rng.integers(0, 2, 100)
    sound = bytes(of_xgboost(x, y, names).save_raw("json"))
    other = bytes(of_xgboost(x, y, [*names[:-1], "another"]).save_raw("ubj"))
    fewer = bytes(of_xgboost(x[:, 1:], y, []).save_raw("json"))
    hinge = bytes(of_xgboost(x, y, names, objective="binary:hinge").save_raw("json"))
    cases = [
        ("UB002", other),
        ("UB002", fewer),
        ("UB006", sound[: len(sound) // 2]),
        ("UB006", sound.replace(b'"left_children":[', b'"left_children":[7,', 1)),
        ("UB006", json.dumps({"name": "tree", "tree_info": []}).encode()),
        ("UB006", b"\x08\x07:\x7f" + bytes(50)),
        ("UB006", b"PMML"),
        ("UB007", hinge),
    ]
    with shop.connect() as conn:
        for sqlstate, data in cases:
            refused(conn, sqlstate, "select ubp.register_model('purchase', %s)", data)
        assert conn.execute("select count(*) from ubp.models").fetchone() == (0,)


def test_the_command_says_what_it_took(shop: Database, tmp_path: Path) -> None:
    names = feature_names(shop)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(100, len(names))), rng.integers(0, 2, 100)
    path = tmp_path / "model.ubj"
    for settings, known, expected in (
        ({}, names, "xgboost, binary:logistic, 8 trees; features found by their names\n"),
        ({"booster": "gblinear"}, [], f"xgboost, binary:logistic, {len(names)} weights; features taken in the set's"),
    ):
        path.write_bytes(bytes(of_xgboost(x, y, known, **settings).save_raw("ubj")))
        done = ubp_sql("model", "import", "purchase", path, "--dsn", shop.dsn)
        assert done.stdout.startswith(expected)
        assert ("warning: the model names no features" in done.stderr) == (not known)
