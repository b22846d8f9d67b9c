"""Accuracy on Online Retail: our trainer against a hand-written Polars + LightGBM script and a count of orders."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from sklearn.metrics import brier_score_loss, roc_auc_score

from bench.rivals import online_retail_polars as rival
from bench.server import DATA, purchases
from ubp_sql.training.evaluate import bootstrap, calibration_error
from ubp_sql.training.train import train

CUTS = [datetime(2011, 9, 1, tzinfo=UTC), datetime(2011, 10, 1, tzinfo=UTC), datetime(2011, 11, 9, tzinfo=UTC)]
# Published with the data set's description in the project: users with a purchase before the cut, share that buys.
EXPECTED = [(3317, 0.292), (3616, 0.270), (4067, 0.341)]
PUBLISHED_AUC, PUBLISHED_BRIER = (0.7442, 0.7310, 0.7497), (0.1679, 0.1660, 0.1818)
MEAN_AUC, MEAN_BRIER, WORST_GAP = 0.742, 0.172, 0.003


def run() -> dict[str, Any]:
    """Trains once per cut on what was known before it; the settings were chosen on cuts before 2011-08-01."""
    conn = purchases("bench_accuracy")
    trained = train(conn, "purchase", test_cuts=CUTS, deploy=False, calibration="none")
    conn.close()
    rows, ours, briers = [], [], []
    for test, (n, share), published in zip(trained.tested, EXPECTED, PUBLISHED_AUC, strict=True):
        labels = test.rows.labels.astype(np.uint8)
        if len(labels) != n or abs(labels.mean() - share) > 0.0005:
            raise SystemExit(
                f"population at {test.cut:%Y-%m-%d}: {len(labels)} users, {labels.mean():.3f}; expected {n}, {share}"
            )
        interval = bootstrap(labels, test.scores)
        users, rival_labels, rival_scores = rival.scores(test.cut.replace(tzinfo=None), DATA)
        if not np.array_equal(np.sort(users), np.sort(test.rows.user_ids)) or rival_labels.sum() != labels.sum():
            raise SystemExit("the rival has another population or other labels: the comparison would mean nothing")
        orders = test.rows.features[:, trained.names.index("orders_purchase_all")]
        ours.append(test.metrics["auc"])
        briers.append(test.metrics["brier"])
        rows.append(
            {
                "cut": f"{test.cut:%Y-%m-%d}",
                "users": n,
                "positive": float(labels.mean()),
                "AUC": test.metrics["auc"],
                "AUC 95 %": "{:.4f}-{:.4f}".format(*interval["auc"]),
                "AUC rival": float(roc_auc_score(rival_labels, rival_scores)),
                "AUC published": published,
                "AUC orders": float(roc_auc_score(labels, orders)),
                "Brier": test.metrics["brier"],
                "Brier 95 %": "{:.4f}-{:.4f}".format(*interval["brier"]),
                "Brier rival": float(brier_score_loss(rival_labels, rival_scores)),
                "calibration error": test.metrics["calibration_error"],
                "calibration error rival": calibration_error(rival_labels, rival_scores),
            }
        )
    gaps = [mine - theirs for mine, theirs in zip(ours, PUBLISHED_AUC, strict=True)]
    bars = {
        f"mean AUC {np.mean(ours):.4f} >= {MEAN_AUC}": bool(np.mean(ours) >= MEAN_AUC),
        f"mean Brier {np.mean(briers):.4f} <= {MEAN_BRIER}": bool(np.mean(briers) <= MEAN_BRIER),
        f"worst gap to the published script {min(gaps):+.4f} >= -{WORST_GAP}": bool(min(gaps) >= -WORST_GAP),
    }
    return {"rows": rows, "bars": bars, "training rows": trained.training_rows}
