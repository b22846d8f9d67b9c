"""Coverage of intervals of spend and of sets of purchase at ten moments of Online Retail, ten days apart.

Honest: at each moment the model, and the one before it whose errors are looked at, have learnt only from outcomes known
by then. How intervals are made was chosen on moments before 2011-08-01: docs/adr/0021-decisions.md.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.server import purchases
from ubp_sql.models.conformal import INTERVAL, OUTCOMES, SET, interval, outcomes, place_of
from ubp_sql.models.conformal_fit import fit_interval, fit_set, newest
from ubp_sql.training.backtest import HeldOut, backtest

HORIZON, STEP = timedelta(days=30), timedelta(days=10)
LAST = datetime(2011, 11, 9, tzinfo=UTC)
CUTS = [LAST - k * STEP for k in range(9, -1, -1)]
BEFORE = [CUTS[0] - k * STEP for k in range(5, 0, -1)]  # held out too: what the first of CUTS are fitted on
COVERAGES = (0.5, 0.8, 0.9, 0.95)
NOMINAL, MOST_OFF = 0.9, 0.02
SPEND = '{"sum": "value", "kinds": ["purchase"]}'

F64 = NDArray[np.float64]


def run() -> dict[str, Any]:
    """Each cut's coverage at 0.9, and the means of all at other coverages too; the bars are of the means at 0.9."""
    conn = purchases("bench_coverage")
    conn.execute("select ubp.define_task('spend', population_kind => 'purchase', label => %s)", [SPEND])
    spend, purchase = (backtest(conn, task, [*BEFORE, *CUTS]) for task in ("spend", "purchase"))
    conn.close()
    amounts = {coverage: [_interval(spend, cut, coverage) for cut in CUTS] for coverage in COVERAGES}
    sets = {coverage: [_set(purchase, cut, coverage) for cut in CUTS] for coverage in COVERAGES}
    rows: list[dict[str, Any]] = [
        {"cut": f"{cut:%Y-%m-%d}", "nominal": NOMINAL, **one, **other}
        for cut, one, other in zip(CUTS, amounts[NOMINAL], sets[NOMINAL], strict=True)
    ]
    means = {coverage: _mean(amounts[coverage]) | _mean(sets[coverage]) for coverage in COVERAGES}
    rows += [{"cut": "mean", "nominal": coverage, **found} for coverage, found in means.items()]
    bars, notes = {}, []
    for name, each in (("interval", amounts[NOMINAL]), ("set", sets[NOMINAL])):
        found, single = means[NOMINAL][name], [one[name] for one in each]
        bars[f"{name}: mean coverage {found:.4f} within {MOST_OFF} of {NOMINAL}"] = abs(found - NOMINAL) <= MOST_OFF
        within = sum(abs(share - NOMINAL) <= MOST_OFF for share in single)
        notes.append(
            f"{name}: {min(single):.4f} to {max(single):.4f}, {within} of {len(single)} cuts within {MOST_OFF}"
        )
    return {"rows": rows, "bars": bars, "notes": notes}


def _known(tests: list[HeldOut], cut: datetime, form: str) -> tuple[F64, F64]:
    """Scores and labels of the newest moments whose outcomes were known by `cut`."""
    known = [(test.scores, test.labels.astype(float)) for test in tests[::-1] if test.cut + HORIZON <= cut]
    used = known[: newest(known, form)]
    return np.concatenate([scores for scores, _ in used]), np.concatenate([labels for _, labels in used])


def _interval(tests: list[HeldOut], cut: datetime, coverage: float) -> dict[str, Any]:
    fitted = fit_interval(*_known(tests, cut, INTERVAL))
    test = next(test for test in tests if test.cut == cut)
    found = [interval(fitted, score, place_of(coverage)) for score in test.scores.tolist()]
    low, high = np.array([ends or (-np.inf, np.inf) for ends in found]).T
    inside = (low <= test.labels) & (test.labels <= high)
    top = test.scores >= np.quantile(test.scores, 0.9)
    return {
        "users": len(test.labels),
        "interval": float(inside.mean()),
        "of the top decile": float(inside[top].mean()),
        "median width": float(np.median(high - low)),
        "low above 0": float((low > 0).mean()),
    }


def _set(tests: list[HeldOut], cut: datetime, coverage: float) -> dict[str, Any]:
    fitted = fit_set(*_known(tests, cut, SET))
    test = next(test for test in tests if test.cut == cut)
    found = [outcomes(fitted, score, place_of(coverage)) for score in test.scores.tolist()]
    inside = np.array([OUTCOMES[int(label)] in kept for label, kept in zip(test.labels, found, strict=True)])
    return {
        "set": float(inside.mean()),
        "of buyers": float(inside[test.labels == 1].mean()),
        "of others": float(inside[test.labels == 0].mean()),
        "of one outcome": float(np.mean([len(kept) == 1 for kept in found])),
    }


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
