"""Models behind a preparation through SQL and the command line: one value, trained, moved, deployed and undone."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.api.helpers import feature_names, packed_rows, refused
from tests.api.test_onnx_models import network
from tests.cli.running import document, refusal, told
from tests.fix_database import Database, create, drop
from tests.models import reference_preparation
from ubp_sql.embedded import Cluster
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.preparation_document import split, together

STEPS = """prepare:
  - {step: indicator, columns: "mean_value_*"}
  - {step: impute, with: interpolate}
  - {step: impute, with: median}
  - {step: clip, quantiles: [0.01, 0.99]}
  - {step: log1p, columns: ["*", "!*_missing"]}
  - {step: standardise}
  - {step: pca, columns: "trend_*", components: 2, name: trend}
"""


@pytest.fixture(scope="module")
def trained(shop: Database, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The shop, and a logistic regression behind a preparation as version 2, which answers."""
    made = create(cluster, shop.name)
    path = tmp_path_factory.mktemp("prepare") / "prep.yaml"
    path.write_text(STEPS)
    shown = told("train", "purchase", "--model", "linear", "--prepare", path, "--dsn", made.dsn)
    assert "purchase version 2 is deployed" in shown
    yield made
    drop(made)


def everybody(conn: psycopg.Connection[Any], query: str) -> list[Any]:
    return [value for (value,) in conn.execute(query, binary=True).fetchall()]


def test_every_way_to_a_score_has_the_same_bits(trained: Database) -> None:
    with trained.connect() as conn:
        one = everybody(conn, "select ubp.predict('purchase', user_id) from ubp.feature_rows order by user_id")
        assert len({score for score in one if score is not None}) > 100
        conn.execute("select ubp.score_users('purchase')")
        ways = {
            "stored": "select score from ubp.user_scores where task = 'purchase' order by user_id",
            "many": """select score from ubp.predict_many('purchase', (select array_agg(user_id order by user_id)
                         from ubp.feature_rows))""",
            "row": """select case when r.score is not null then ubp.score('purchase', f.features::float8[]) end
                        from ubp.feature_rows f join ubp.user_scores r using (user_id) order by user_id""",
            "all": """select case when r.score is not null then (ubp.score_all('purchase', f.features::float8[]))[1] end
                        from ubp.feature_rows f join ubp.user_scores r using (user_id) order by user_id""",
            "blob": """select case when r.score is not null then ubp.score_blob(m.compiled, f.features::float8[]) end
                         from ubp.feature_rows f join ubp.user_scores r using (user_id), ubp.models m
                        where m.version = 2 order by user_id""",
        }
        for name, query in ways.items():
            assert everybody(conn, query) == one, name
        alone = "select ubp.predict('purchase', %s)"
        for user, score in conn.execute("select user_id, score from ubp.user_scores limit 5").fetchall():
            assert conn.execute(alone, [user], binary=True).fetchone() == (score,)
        source = bytes(conn.execute("select source from ubp.models where version = 2").fetchone()[0])  # type: ignore[index]
        rows = packed_rows(conn)
    content, model = split(source)
    weights = json.loads(model)
    names = feature_names(trained)
    moved = [names.index(name) for name in json.loads(content)["features"]]
    users = sorted(rows)
    for user, score in list(zip(users, one, strict=True))[:40]:
        if score is None:
            continue
        prepared = reference_preparation.prepare(json.loads(content), [float(rows[user][i]) for i in moved])
        total = weights["bias"][0]
        for x, weight in zip(prepared, weights["weights"][0], strict=True):
            total += weight * x
        assert score == 1 / (1 + math.exp(-total))


def test_metrics_are_those_of_the_scores_that_the_server_gives(trained: Database) -> None:
    found = {row["metric"]: row["value"] for row in trained.rows(
        "select metric, value from ubp.model_metrics join ubp.models using (model_id) where version = 2"
    )}  # fmt: skip
    trees = trained.one("select auc from ubp.model_versions where version = 1")
    assert abs(found["auc"] - trees) < 0.1
    settings = trained.one("select settings from ubp.model_versions where version = 2")
    assert [step["step"] for step in settings["prepare"]][:3] == ["indicator", "impute", "impute"]
    assert "lightgbm" not in settings


def test_what_was_learnt_is_shown(trained: Database) -> None:
    shown = told("model", "show", "purchase", "2", "--dsn", trained.dsn)
    assert "preparation" in shown
    assert "standardise" in shown
    assert len(shown) < 10_000  # the steps, not their numbers
    content = document("model", "show", "purchase", "2", "--dsn", trained.dsn)["preparation"]
    stored = trained.one("select preparation from ubp.model_versions where version = 2")
    assert content == stored
    assert stored["steps"][-1]["name"] == "trend"
    assert trained.one("select preparation is null from ubp.model_versions where version = 1")


def test_a_model_moves_to_another_server_with_its_preparation(
    trained: Database, cluster: Cluster, shop: Database, tmp_path: Path
) -> None:
    path, other = tmp_path / "model", create(cluster, shop.name)
    try:
        told("model", "export", "purchase", "2", "--out", path, "--dsn", trained.dsn)
        said = told("model", "import", "purchase", path, "--deploy", "--dsn", other.dsn)
        assert said.startswith(
            "linear, logistic regression, a linear model behind a preparation; features found by their names\n"
        )
        for query in (
            "select compiled_sha256 from ubp.models where version = 2",
            "select array_agg(ubp.predict('purchase', user_id) order by user_id) from ubp.feature_rows",
        ):
            assert other.one(query) == trained.one(query)
        # The document alone, as SQL shows it, before the bare model: the same value again.
        learnt = trained.one("select preparation from ubp.model_versions where version = 2")
        (tmp_path / "prep.json").write_text(json.dumps(learnt))
        (tmp_path / "bare").write_bytes(split(path.read_bytes())[1])
        prepare = ("--prepare", tmp_path / "prep.json")
        told("model", "import", "purchase", tmp_path / "bare", *prepare, "--dsn", other.dsn)
        assert other.one("select count(distinct compiled_sha256) from ubp.models where version > 1") == 1
        told("model", "rollback", "purchase", "--dsn", other.dsn)
        assert other.one("select version from ubp.deployed_versions where role = 'champion'") == 1
    finally:
        drop(other)


def test_a_declared_preparation_that_learns_nothing(trained: Database, tmp_path: Path) -> None:
    names = feature_names(trained)
    (tmp_path / "prep.yaml").write_text("- {step: impute, with: 0}\n- {step: clip, low: -1, high: 1}\n")
    model = {"ubp_linear": 1, "features": names, "weights": [[1.0] * len(names)], "bias": [0.5], "link": "identity"}
    (tmp_path / "model.json").write_text(json.dumps(model))
    arguments: list[str | Path] = ["model", "import", "purchase", tmp_path / "model.json"]
    arguments += ["--prepare", tmp_path / "prep.yaml"]
    found = document(*arguments, "--dsn", trained.dsn)
    assert found["form"] == "a linear model behind a preparation"
    assert found["warnings"] == []
    row = [None, 5.0, -0.25] + [0.0] * (len(names) - 3)
    assert trained.one("select ubp.score('purchase', %s::float8[], %s)", row, found["version"]) == 0.5 + 1 - 0.25
    (tmp_path / "prep.yaml").write_text("- {step: standardise}\n")
    code, state, message = refusal(*arguments, "--dsn", trained.dsn)
    assert (code > 0, state) == (True, "UB006")
    assert "learns from training rows" in message


def test_a_network_behind_a_preparation_has_to_run_first(trained: Database, tmp_path: Path) -> None:
    names = feature_names(trained)
    steps = [{"step": "impute", "columns": names, "values": [0] * len(names)}]
    steps.append({"step": "log1p", "columns": names})
    content = json.dumps({"ubp_preparation": 1, "features": names, "steps": steps}).encode()
    file = together(content, network(names, named=False, fills=False))
    with trained.connect() as conn:
        version = conn.execute("select ubp.register_model('purchase', %s)", [file]).fetchone()[0]  # type: ignore[index]
        refused(conn, "UB005", "select ubp.deploy_model('purchase', %s)", version)
        blob = "select ubp.score_blob(compiled, array_fill(0::float8, array[%s])) from ubp.models where version = %s"
        refused(conn, "UB007", blob, len(names), version)
    assert "is ready" in told("model", "check", "purchase", str(version), "--dsn", trained.dsn)
    with trained.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [version])
        one = everybody(conn, "select ubp.predict('purchase', user_id) from ubp.feature_rows order by user_id")
        assert sum(score is not None for score in one) > 100
        conn.execute("select ubp.score_users('purchase')")
        assert everybody(conn, "select score from ubp.user_scores where task = 'purchase' order by user_id") == one
        conn.execute("select ubp.deploy_model('purchase', 2)")


def test_what_does_not_fit_is_refused(trained: Database) -> None:
    source = bytes(trained.one("select source from ubp.models where version = 2"))
    content, model = split(source)
    found = json.loads(content)
    other = json.dumps({**found, "features": ["x", *found["features"][1:]]}).encode()
    nan = content.replace(b'"values": [', b'"values": [NaN, ', 1)
    with trained.connect() as conn:
        before = conn.execute("select count(*) from ubp.models").fetchone()
        for state, data in (
            ("UB006", together(other, model)),  # a step names the feature that is gone
            ("UB006", together(nan, model)),
            ("UB006", together(b"{}", model)),
            ("UB006", source[:200]),
            ("UB002", model),  # a model of prepared columns alone
            ("UB007", source.replace(b"ubp-prepared-model 1", b"ubp-prepared-model 2", 1)),
        ):
            refused(conn, state, "select ubp.register_model('purchase', %s)", data)
        assert conn.execute("select count(*) from ubp.models").fetchone() == before


def test_trees_without_steps_are_what_they_were(shop: Database) -> None:
    """Not a byte of a preparation is in their value, and no module of it in a session that scores them."""
    row = shop.rows("select source, compiled, preparation from ubp.models where version = 1")[0]
    compiled = bytes(row["compiled"])
    assert compiled.startswith(b"UBPTREES")
    assert row["preparation"] is None
    assert type(open_model(compiled)).__name__ == "TreeModel"
    assert read_model(bytes(row["source"]), tuple(feature_names(shop))).compiled == compiled
