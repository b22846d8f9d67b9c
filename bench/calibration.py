"""Calibration on Online Retail: error at three held-out cuts, before and after the map that could be fitted by then.

Every moment has a model of its own, trained on outcomes known by then; a map is fitted on scores of earlier moments
whose outcomes were known by then too. Settings were chosen on cuts before 2011-08-01: docs/adr/0020-calibration.md.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from bench.server import purchases
from ubp_sql.models.calibration import AUTO, ISOTONIC, PLATT, batch
from ubp_sql.models.calibration_error import Measured, drift_of, measured
from ubp_sql.models.calibration_fit import Outcomes, fitted
from ubp_sql.training.backtest import HeldOut, backtest

CUTS = [datetime(2011, 9, 10, tzinfo=UTC), datetime(2011, 10, 10, tzinfo=UTC), datetime(2011, 11, 9, tzinfo=UTC)]
EARLIEST = datetime(2011, 3, 14, tzinfo=UTC)
STEP, HORIZON = timedelta(days=10), timedelta(days=30)
MOST = 0.02


def run() -> dict[str, Any]:
    """Error, its interval, and what error chance alone gives: of users drawn anew, and of moments that drift apart."""
    conn = purchases("bench_calibration")
    moments = [CUTS[-1] - k * STEP for k in range(1 + (CUTS[-1] - EARLIEST) // STEP)]
    found = backtest(conn, "purchase", moments)
    conn.close()
    rows, bars = [], {}
    for test in found:
        if test.cut not in CUTS:
            continue
        known = [one for one in found if one.cut + HORIZON <= test.cut]
        drift = drift_of([_pair(one) for one in known])
        row: dict[str, Any] = {"cut": f"{test.cut:%Y-%m-%d}", "users": len(test.users)}
        row["share"], row["mean score"] = float(test.labels.mean()), float(test.scores.mean())
        row["before"] = measured(*_pair(test), drift).error
        for method in (PLATT, ISOTONIC, AUTO):
            chosen, after = _after(test, known, method, drift)
            row[method] = after.error
        row |= {"auto took": chosen, "low": after.low, "high": after.high, "by chance": after.by_chance}
        row |= {"by chance and drift": after.with_drift, "drift, log odds": drift}
        rows.append(row)
        bars[_words(row)] = after.error <= MOST or after.low == 0
    return {"rows": rows, "bars": bars, "every held-out moment": [_every(one, found) for one in found]}


def _pair(one: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    return one.labels.astype(np.float64), one.scores


def _after(test: HeldOut, known: list[HeldOut], method: str, drift: float | None) -> tuple[str, Measured]:
    map_ = fitted([Outcomes(0, one.scores, one.labels.astype(np.float64)) for one in known], method).map
    values = test.scores if map_ is None else batch(map_, test.scores)
    return "none" if map_ is None else map_.method, measured(test.labels.astype(np.float64), values, drift)


def _every(test: HeldOut, found: list[HeldOut]) -> dict[str, Any]:
    """One held-out moment in short: whether the error is within what drift as it was before gives."""
    known = [one for one in found if one.cut + HORIZON <= test.cut]
    row: dict[str, Any] = {"cut": f"{test.cut:%Y-%m-%d}", "before": measured(*_pair(test), None, rounds=50).error}
    if known:
        drift = drift_of([_pair(one) for one in known])
        row["auto took"], after = _after(test, known, AUTO, drift)
        row |= {"after": after.error, "by chance and drift": after.with_drift}
    return row


def _words(row: dict[str, Any]) -> str:
    interval = f"interval of users drawn anew {row['low']:.4f}-{row['high']:.4f}"
    return f"{row['cut']}: error {row[AUTO]:.4f} <= {MOST}, or 0 within its {interval}"
