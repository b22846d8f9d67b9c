"""Settings of the trainer, chosen once on cuts before 2011-08-01 of one log (docs/adr/) and then left alone."""

from typing import Any

ROUNDS = 160
LIGHTGBM: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 6,
    "lambda_l2": 10.0,
    "feature_fraction_bynode": 0.2,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "max_bin": 63,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
# Amounts: mostly 0 with a heavy tail. On the spend of 30 days and the days until the next purchase of Online Retail,
# at cuts before 2011-08-01, the mean is as unbiased as by squared error, with a lower error (docs/tasks.md).
AMOUNTS: dict[str, Any] = {"objective": "tweedie", "tweedie_variance_power": 1.1}
SIGNED: dict[str, Any] = {"objective": "regression"}
# Rows a leaf needs: one in ROWS_A_LEAF of all, within these bounds. A small log finds nothing to split at 100.
LEAST_IN_LEAF, MOST_IN_LEAF, ROWS_A_LEAF = 20, 100, 300
# Cuts a third of the horizon apart: closer ones repeat each other's labels, and 10 days fall on all weekdays.
CUTS_PER_HORIZON = 3
MOST_CUTS = 40
# Before that nobody has a history long enough to look like the people who are scored (less where the log is short).
HISTORY_HORIZONS = 2.5
# Behaviour drifts: a row counts half as much for each 90 days that its cut is older than the newest one.
HALF_LIFE_DAYS = 90.0
# How many buy drifts with the season: the model's log odds move this share of the way to the newest cut's share.
BASE_RATE_SHIFT = 0.5
# Logistic regression, on columns of mean 0 and spread 1 with weights of mean 1 a row.
LOGISTIC: dict[str, Any] = {"C": 0.01, "max_iter": 1_000}
# Earlier moments at which a model of the same settings is held out, for calibration maps and intervals; each is one
# more fit. With the test they are the four that a map is fitted on. docs/adr/0020-calibration.md
CALIBRATION_CUTS = 3
