"""Each case once: its name, what it measures, and the function that runs it."""

from collections.abc import Callable
from typing import Any

from bench import (
    accuracy,
    calibration,
    cancel,
    coverage,
    demo,
    explain,
    first_call,
    forest,
    gpu,
    incremental,
    insert,
    live,
    load,
    point_in_time,
    population,
    predict,
    profit,
    read_column,
    report_page,
    scale,
    scan,
    snapshot,
    sql_tier,
    tasks,
)

CASES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "accuracy": (
        "three held-out cuts of Online Retail, with bootstrap intervals, beside a hand-written script",
        accuracy.run,
    ),
    "calibration": (
        "calibration error at three held-out cuts of Online Retail, before and after the map fitted by then",
        calibration.run,
    ),
    "predict": ("latency of predict_purchase(user_id) beside a primary-key SELECT", predict.run),
    "first_call": (
        "first call of a new connection and its memory, beside an empty PL/Python function [ROUNDS]",
        first_call.run,
    ),
    "explain": (
        "latency of explain_purchase(user_id), top 5, beside a primary-key SELECT and LightGBM's pred_contrib [ROUNDS]",
        explain.run,
    ),
    "forest": (
        "50 k rows by forests of ten shapes, beside LightGBM, lleaves, tl2cgen and ONNX Runtime, one thread",
        forest.run,
    ),
    "population": (
        "100 k users' stored features to stored scores by score_users, beside Booster.predict on a ready matrix",
        population.run,
    ),
    "scan": ("predict_purchase over a million users in one statement, beside score_users", scan.run),
    "load": ("seconds to load Online Retail", load.run),
    "load_many": ("simulated events from CSV and Parquet, beside a bare binary COPY [EVENTS, ROUNDS]", load.run_many),
    "demo": ("`make demo DATA=...` as a whole process, second run", demo.run),
    "snapshot": (
        "25 features of 100 k users from 5 M events, arrays and table, beside SQL, DuckDB and Polars [EVENTS, USERS]",
        snapshot.run,
    ),
    "point_in_time": (
        "the same at 200 k (user, moment) pairs and at every one of 5 M events, beside SQL and DuckDB [EVENTS]",
        point_in_time.run,
    ),
    "scale": ("time and memory over ten times the events; EVENTS=50 for the long form [EVENTS]", scale.run),
    "incremental": (
        "refresh after few or many fresh events and after as_of moved, beside everybody",
        incremental.run,
    ),
    "insert": (
        "INSERTs into a plain table and into its watched twin, in statements of 1,000 rows and of one",
        insert.run,
    ),
    "live": ("features of one user at now() from mirror and delta, beside a primary-key SELECT", live.run),
    "cancel": ("how soon cancel and statement_timeout end the long functions", cancel.run),
    "sql_tier": (
        "features and scores by exported SQL, in a database without PL/Python, beside the first tier [USERS, ROUNDS]",
        sql_tier.run,
    ),
    "read_column": ("a column of ubp.user_features over 1 M users, beside a plain table", read_column.run),
    "coverage": (
        "coverage of 90 % intervals of spend and sets of purchase at ten moments of Online Retail",
        coverage.run,
    ),
    "profit": (
        "profit of `decide` on simulated shops, by true chances, beside oracles and fixed rules [USERS, ROUNDS]",
        profit.run,
    ),
    "report": (
        "`ubp-sql report` of 4,000 users of Online Retail, a whole process [ROUNDS]",
        report_page.run,
    ),
    "gpu": (
        "features of 100 M events and 10 M scores on this machine's GPU, beside one core [EVENTS, USERS, ROUNDS]",
        gpu.run,
    ),
    "tasks": (
        "purchase, churn, next purchase and spend on Online Retail at later cuts, beside one feature and a baseline",
        tasks.run,
    ),
}
