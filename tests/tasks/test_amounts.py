"""Amounts and churn on the simulated shop: trained, tested beside a baseline, deployed, scored, shown in ubp.tasks."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.api.helpers import refused
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster
from ubp_sql.errors import NotReady, TrainingError
from ubp_sql.training import fit
from ubp_sql.training.evaluate import amount_metrics
from ubp_sql.training.export import export
from ubp_sql.training.rows import Question, fetch
from ubp_sql.training.train import Trained, train

NEWEST = datetime(2025, 6, 19, tzinfo=UTC)
DEFINE = "select ubp.define_task(%s, label => %s, population_kind => 'purchase', horizon => %s)"
TASKS = {
    "spend": ('{"sum": "value", "kinds": ["purchase"]}', timedelta(days=30)),
    "churn": ('{"none": "purchase"}', timedelta(days=30)),
    "next_purchase": ('{"days_until": "purchase"}', timedelta(days=30)),
}


@pytest.fixture(scope="module")
def trained(shop: Database, cluster: Cluster) -> Iterator[tuple[Database, dict[str, Trained]]]:
    """Every task trained and deployed once."""
    made = create(cluster, shop.name)
    with made.connect() as conn:
        found = {}
        for task, (label, horizon) in TASKS.items():
            conn.execute(DEFINE, [task, label, horizon])
            found[task] = train(conn, task, test_cuts=[NEWEST], threads=1, calibration="none")
    yield made, found
    drop(made)


def test_better_than_without_a_model(trained: tuple[Database, dict[str, Trained]]) -> None:
    _, found = trained
    spend, days = found["spend"].tested[0], found["next_purchase"].tested[0]
    for test in (spend, days):
        assert test.rows.labels.dtype == np.float64
        assert test.metrics["mae"] < test.baseline["baseline_mae"]
        assert test.metrics["spearman"] > 0.2
        assert test.scores.min() >= 0
    assert abs(spend.metrics["bias"]) < 0.4 * spend.rows.labels.mean()
    assert found["churn"].tested[0].metrics["auc"] > 0.6


def test_the_baseline_is_the_users_own_past(trained: tuple[Database, dict[str, Trained]]) -> None:
    made, found = trained
    test = found["spend"].tested[0]
    past = {
        row["user_id"]: row["spent"]
        for row in made.rows(
            "select user_id, sum(value)::double precision as spent from ubp.all_events"
            " where kind = 'purchase' and event_time >= %s - interval '30 days' and event_time < %s group by user_id",
            NEWEST, NEWEST,
        )
    }  # fmt: skip
    want = amount_metrics(test.rows.labels, np.array([past.get(int(user), 0.0) for user in test.rows.user_ids]))
    assert {f"baseline_{name}": pytest.approx(value, rel=1e-3) for name, value in want.items()} == test.baseline
    stored = made.rows(
        "select x.metric, x.protocol, x.positives, x.n from ubp.model_metrics x join ubp.models m using (model_id)"
        " where m.task = 'spend'"
    )
    assert {row["metric"] for row in stored} == set(test.metrics) | set(test.baseline)
    assert {row["positives"] for row in stored} == {int((test.rows.labels > 0).sum())}
    assert {row["protocol"] for row in stored if row["metric"].startswith("baseline")} == {
        "baseline: the user's own past, sum_value_purchase_30d"
    }


def test_served(trained: tuple[Database, dict[str, Trained]]) -> None:
    """Stored scores and predictions are the model's amounts."""
    made, _ = trained
    with made.connect() as conn:
        for task in TASKS:
            conn.execute("select * from ubp.score_users(%s)", [task])
            wrong = conn.execute(
                f"select count(*) filter (where ubp.predict_{task}(user_id) is distinct from score), count(score)"
                " from (select * from ubp.user_scores where task = %s order by user_id limit 300) s".encode(),
                [task],
            ).fetchone()
            assert wrong is not None
            assert wrong[0] == 0
            assert wrong[1] > 100
        assert conn.execute(
            "select max(score) > 1.5, min(score) >= 0 from ubp.user_scores where task = 'spend'"
        ).fetchone() == (True, True)


def test_shown(trained: tuple[Database, dict[str, Trained]]) -> None:
    made, found = trained
    rows = {row["task"]: row for row in made.rows("select * from ubp.tasks")}
    assert rows["spend"]["output"] == rows["next_purchase"]["output"] == "amount"
    assert rows["churn"]["output"] == rows["purchase"]["output"] == "chance"
    assert rows["spend"]["label"] == '{"sum": "value", "kinds": ["purchase"]}'
    assert rows["spend"]["meaning"] == "sum of value over events of kind purchase within the horizon"
    assert rows["spend"]["test_metric"] == "mae"
    assert rows["spend"]["test_value"] == found["spend"].tested[0].metrics["mae"]
    assert rows["spend"]["test_auc"] is None
    assert rows["churn"]["test_metric"] == "auc"
    assert rows["churn"]["test_value"] == rows["churn"]["test_auc"] == found["churn"].tested[0].metrics["auc"]
    assert {row["deployed_version"] for row in rows.values()} == {1}


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not matter how good a model is."""
    monkeypatch.setattr(fit, "ROUNDS", 10)


@pytest.mark.usefixtures("few_trees")
def test_labels_below_zero(shop_copy: Database) -> None:
    """A log link says nothing below 0; squared error does."""
    shop_copy.execute("update ubp.events set value = -value where kind = 'purchase'")
    with shop_copy.connect() as conn:
        conn.execute(DEFINE, ["net", *TASKS["spend"]])
        done = train(conn, "net", test_cuts=[], threads=1, calibration="none")
        assert "objective=regression" in done.model
        conn.execute("select * from ubp.score_users('net')")
        assert conn.execute("select min(score) < 0 from ubp.user_scores where task = 'net'").fetchone() == (True,)


@pytest.mark.usefixtures("few_trees")
def test_what_cannot_be_trained(shop_copy: Database) -> None:
    with shop_copy.connect() as conn:
        conn.execute(DEFINE, ["spend", *TASKS["spend"]])
        with pytest.raises(TrainingError, match="a linear model says chances"):
            train(conn, "spend", model="linear")
        refused(conn, "UB003", "select ubp.training_set('spend', negatives => 0.5)")
        with conn.transaction(force_rollback=True):
            conn.execute("update ubp.events set value = 0")
            with pytest.raises(TrainingError, match=r"the label of all .* rows is 0"):
                train(conn, "spend", test_cuts=[], threads=1, calibration="none")
        with conn.transaction(force_rollback=True):
            conn.execute("update ubp.events set value = 1e200 where kind = 'purchase'")
            with pytest.raises(TrainingError, match="more than a trainer takes"):
                train(conn, "spend", test_cuts=[], threads=1, calibration="none")


TABLE = """
create schema crm;
create table crm.left_us as
  select user_id as customer, min(event_time) + interval '40 days' as at from ubp.events
   where user_id % 3 = 0 and kind = 'purchase' group by user_id;
delete from crm.left_us where at > {until};
grant usage on schema crm to ubp_owner;
grant select on crm.left_us to ubp_owner"""
LEFT = '{"table": "crm.left_us", "user": "customer", "time": "at"}'


@pytest.mark.usefixtures("few_trees")
def test_a_table_that_is_behind_the_events(shop_copy: Database) -> None:
    """Training ends where outcomes do, and says who is left out."""
    shop_copy.execute(TABLE.format(until="timestamptz '2025-06-10 00:00+00'"))
    said: list[str] = []
    with shop_copy.connect() as conn:
        conn.execute(DEFINE, ["leaves", LEFT, timedelta(days=20)])
        done = train(conn, "leaves", threads=1, calibration="none", say=said.append)
        newest = conn.execute("select ubp.outcomes_until('leaves')").fetchone()
        assert newest is not None
        cut = (newest[0] - timedelta(days=20)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        assert [test.cut for test in done.tested] == [cut]
        assert 0 < done.tested[0].rows.labels.mean() < 0.5
        with pytest.raises(
            TrainingError, match=rf"not wholly known yet, of {len(fetch(conn, 'leaves', [NEWEST])[0].labels):,} users"
        ):
            train(conn, "leaves", test_cuts=[NEWEST], threads=1, calibration="none")
        conn.execute("truncate crm.left_us")
        with pytest.raises(TrainingError, match="has no outcome yet"):
            train(conn, "leaves", calibration="none")


@pytest.mark.usefixtures("few_trees")
def test_a_feature_that_knows_the_label(shop_copy: Database) -> None:
    """A kind that is written for those who will have bought: no rule about time sees it, the warning names it."""
    shop_copy.execute(
        """insert into ubp.events (user_id, event_time, ingested_at, kind)
           select distinct e.user_id, c, c, 'marked'
             from generate_series(timestamptz '2025-01-20 00:00+00', '2025-06-19', '10 days') g,
                  lateral (select g - interval '1 hour' as c) x, ubp.events e
            where e.kind = 'purchase' and e.event_time >= g and e.event_time < g + interval '30 days'"""
    )
    with shop_copy.connect() as conn:
        conn.execute("select ubp.copy_feature_set('default', 'leaky')")
        conn.execute(
            "select ubp.define_feature('marks_2h', 'count', array['marked'], null, '2h', feature_set => 'leaky')"
        )
        conn.execute("select ubp.define_task('leaky', 'purchase', feature_set => 'leaky')")
        done = train(conn, "leaky", test_cuts=[], threads=1, calibration="none")
        [line] = done.warnings
        assert "feature marks_2h alone ranks the label by 1.00000" in line
        conn.execute("select ubp.define_task('sound', 'purchase', horizon => '29 days')")
        assert train(conn, "sound", test_cuts=[], threads=1, calibration="none").warnings == []


def test_the_rows_of_an_amount(shop: Database, shop_copy: Database) -> None:
    with shop_copy.connect() as conn:
        conn.execute(DEFINE, ["spend", *TASKS["spend"]])
        conn.execute("select ubp.training_set('spend', %s)", [[NEWEST]])
        kind = conn.execute("select pg_typeof(label)::text, sum(label) from ubp.training_spend group by 1").fetchone()
        assert kind is not None
        rows = fetch(conn, "spend", [NEWEST])[0]
        assert kind[0] == "double precision"
        assert kind[1] == pytest.approx(float(rows.labels.sum()))
        detail = conn.execute("select detail ->> 'positives' from ubp.job_runs where job = 'training_set'").fetchone()
        assert detail == (str(int((rows.labels > 0).sum())),)


def test_the_file_of_an_amount(shop_copy: Database, tmp_path: Path) -> None:
    later = NEWEST + timedelta(days=3)
    with shop_copy.connect() as conn:
        conn.execute(DEFINE, ["spend", *TASKS["spend"]])
        done = export(conn, Question("spend", [NEWEST, later]), tmp_path / "rows.parquet")
        rows = fetch(conn, "spend", [NEWEST, later])
        with pytest.raises(NotReady, match=r"none of .* rows is matured"):
            export(conn, Question("spend", [later]), tmp_path / "rows.arrow")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert sorted(table["label"].to_pylist()) == sorted(np.concatenate([one.labels for one in rows]).tolist())
    assert done.positives == sum(int((one.labels > 0).sum()) for one in rows)
    assert done.unmatured == {(later - datetime(1970, 1, 1, tzinfo=UTC)).days: len(rows[1].labels)}
    about = json.loads(table.schema.metadata[b"ubp_sql"])
    assert (about["label"], about["output"]) == (json.loads(TASKS["spend"][0]), "amount")
    assert not (tmp_path / "rows.arrow").exists()
