"""Churn, next purchase and spend on the real log: learnt before a cut, tested there, deployed, scored."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fix_database import Database
from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.training.train import train

CUT = datetime(2011, 9, 10, tzinfo=UTC)
# Task: label, horizon, metric, and what the model reaches at the cut, less a little (bench CASE=tasks has the figures).
TASKS = {
    "churn": ('{"none": "purchase"}', "90 days", "auc", 0.73),
    "next_purchase": ('{"days_until": "purchase"}', "90 days", "spearman", 0.44),
    "spend": ('{"sum": "value", "kinds": ["purchase"]}', "30 days", "spearman", 0.36),
}


@pytest.mark.slow
def test_tasks_end_to_end(db: Database, online_retail: Path) -> None:
    with db.connect() as conn:
        load_file(conn, online_retail, LoadMap.from_file("online_retail"))
        conn.execute("select ubp.define_feature_set('default')")
        conn.execute("select * from ubp.refresh_features()")
        for task, (label, horizon, metric, least) in TASKS.items():
            conn.execute("select ubp.define_task(%s, label => %s, horizon => %s)", [task, label, horizon])
            [tested] = train(conn, task, test_cuts=[CUT], threads=1).tested
            assert len(tested.rows.labels) == 3370
            assert tested.metrics[metric] > least
            assert tested.metrics.get("mae", 0) <= tested.baseline.get("baseline_mae", 0)
            conn.execute("select * from ubp.score_users(%s)", [task])
            served = conn.execute(
                "select count(*) from ubp.user_scores where task = %s"
                f" and score = ubp.predict_{task}(user_id)".encode(),
                [task],
            ).fetchone()
            assert served is not None
            assert served[0] > 4_000
