"""Tasks on Online Retail: each trained, tested at later cuts beside somebody without a model, deployed and scored."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from bench.server import cluster, fresh, load_online_retail
from ubp_sql.training.evaluate import rank_correlation
from ubp_sql.training.train import Tested, Trained, train

# Settings were chosen at cuts before 2011-08-01; the log ends on 2011-12-09.
LATE = [datetime(2011, 9, 10, tzinfo=UTC), datetime(2011, 10, 10, tzinfo=UTC), datetime(2011, 11, 9, tzinfo=UTC)]
EARLY = [datetime(2011, 8, 1, tzinfo=UTC), datetime(2011, 8, 21, tzinfo=UTC), datetime(2011, 9, 10, tzinfo=UTC)]
DEFINE = "select ubp.define_task(%s, label => %s, population_kind => 'purchase', horizon => %s)"
# Task: label, horizon, test cuts, the feature that somebody without a model would go by, and its sign.
TASKS: dict[str, tuple[str, str, list[datetime], str, int]] = {
    "purchase": ('{"any": "purchase"}', "30 days", LATE, "days_since_purchase", -1),
    "churn": ('{"none": "purchase"}', "90 days", EARLY, "days_since_purchase", 1),
    "next_purchase": ('{"days_until": "purchase"}', "90 days", EARLY, "days_since_purchase", 1),
    "spend": ('{"sum": "value", "kinds": ["purchase"]}', "30 days", LATE, "sum_value_purchase_30d", 1),
}
SERVED = """
select count(*), count(score), count(*) filter (where ubp.predict(%s, user_id) is distinct from score)
  from ubp.user_scores where task = %s"""


def run() -> dict[str, Any]:
    """One row a task and cut; the bars hold each to what the one feature alone says."""
    conn = fresh(cluster(), "bench_tasks")
    load_online_retail(conn)
    conn.execute("select ubp.define_feature_set('default')")
    conn.execute("select * from ubp.refresh_features()")
    rows, bars = [], {}
    for task, (label, horizon, cuts, feature, sign) in TASKS.items():
        conn.execute(DEFINE, [task, label, horizon])
        trained = train(conn, task, test_cuts=cuts, calibration="none", threads=1)
        conn.execute("select * from ubp.score_users(%s)", [task])
        users, scored, unequal = conn.execute(SERVED, [task, task]).fetchone() or (0, 0, 1)
        found = [_row(task, test, trained, feature, sign) for test in trained.tested]
        rows += found
        gains = [row["model"] - row["one feature"] for row in found]
        bars[f"{task}: ranks better than {feature}, by {min(gains):+.3f} or more"] = min(gains) > 0
        if "MAE" in found[0]:
            less = max(row["MAE"] / row["MAE baseline"] for row in found)
            bars[f"{task}: {1 - less:.0%} less error than the baseline, or more"] = less < 1
        bars[f"{task}: {scored:,} of {users:,} users scored, predict_{task} says the same"] = unequal == 0 < scored
    conn.close()
    return {"rows": rows, "bars": bars}


def _row(task: str, test: Tested, trained: Trained, feature: str, sign: int) -> dict[str, Any]:
    """How well model and feature rank the users: AUC, or rank correlation; and the error of amounts."""
    labels = test.rows.labels
    column = np.nan_to_num(sign * test.rows.features[:, trained.names.index(feature)].astype(np.float64))
    amount = labels.dtype.kind == "f"
    row = {"task": task, "cut": f"{test.cut:%Y-%m-%d}", "users": len(labels), "mean label": float(labels.mean())}
    row["ranked by"] = "rank correlation" if amount else "AUC"
    row["model"] = test.metrics["spearman" if amount else "auc"]
    row["one feature"] = rank_correlation(labels, column) if amount else float(roc_auc_score(labels, column))
    if amount:
        row |= {"MAE": test.metrics["mae"], "MAE baseline": test.baseline["baseline_mae"]}
        row |= {"R2": test.metrics["r2"], "R2 baseline": test.baseline["baseline_r2"], "bias": test.metrics["bias"]}
    return row
