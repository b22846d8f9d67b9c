"""Settings of the trainer. Chosen once on cuts before 2011-08-01 of one log (docs/adr/) and then left alone."""

from datetime import timedelta
from typing import Any

from ubp_sql.training.cuts import Protocol

PROTOCOL = Protocol(step=timedelta(days=7), most=20, history=timedelta(days=30))
ROUNDS = 150
LIGHTGBM: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
