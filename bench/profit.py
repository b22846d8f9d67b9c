"""What `decide` earns on simulated shops whose true chances are known, beside an oracle that sees them, and fixed rules.

Honest: a shop's log ends at the moment of deciding, the model and its calibration map know nothing later, and profit
is counted with the true chance of each customer and not with what happened.
"""

import csv
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from bench import settings
from bench.server import cluster, fresh
from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate
from ubp_sql.sources.simulator.shop import START
from ubp_sql.training.train import train

USERS, DAYS, SHOPS = 20_000, 395, 3
STAKES = ((40.0, 2.0), (40.0, 4.0), (40.0, 8.0), (40.0, 12.0))
LEAST = 0.97
DECIDED = "select user_id, act from ubp.decide_many('purchase', %s, %s, %s)"
BEST = "select user_id from ubp.top_users('purchase', %s)"

Connection = psycopg.Connection[Any]
F64 = NDArray[np.float64]


def run() -> dict[str, Any]:
    """Profits of each shop and pair of gain and cost; the bars are of the sums over shops."""
    users = int(os.environ.get("USERS") or USERS)
    first = settings.seed()
    sums: dict[tuple[float, float], dict[str, float]] = {stakes: {} for stakes in STAKES}
    rows = []
    for seed in range(first, first + settings.count(SHOPS)):
        for stakes, profits in _shop(users, seed):
            rows.append(_row(f"seed {seed}", stakes, profits))
            for name, profit in profits.items():
                sums[stakes][name] = sums[stakes].get(name, 0.0) + profit
    rows += [_row("all", stakes, profits) for stakes, profits in sums.items()]
    bars = {}
    for (gain, cost), profits in sums.items():
        share = profits["decide"] / profits["oracle"]
        bars[f"gain {gain:g}, cost {cost:g}: {share:.4f} of the oracle's >= {LEAST}"] = share >= LEAST
        best = max((profit, name) for name, profit in profits.items() if name not in ("decide", "oracle"))
        bars[f"gain {gain:g}, cost {cost:g}: more than {best[1]}"] = profits["decide"] > best[0]
    return {"rows": rows, "bars": bars, "size": f"{users:,} users, {DAYS - 30} days before the decision"}


def _row(shop: str, stakes: tuple[float, float], profits: dict[str, float]) -> dict[str, Any]:
    share = profits["decide"] / profits["oracle"]
    return {"shop": shop, "gain": stakes[0], "cost": stakes[1], **profits, "of the oracle's": share}


def _shop(users: int, seed: int) -> Iterator[tuple[tuple[float, float], dict[str, float]]]:
    """The profits of each policy, for each of STAKES."""
    cut = START + timedelta(days=DAYS - 30)
    moment = datetime.combine(cut, time(), UTC)
    conn = fresh(cluster(), "bench_profit")
    with tempfile.TemporaryDirectory() as folder:
        shop = simulate(Path(folder), users=users, days=DAYS, seed=seed, cuts=[cut])
        load_file(conn, shop.events, LoadMap.from_file("simulated_shop"))
        with open(shop.truth, encoding="utf-8", newline="") as file:
            truth = {int(row["user"]): float(row["p_true"]) for row in csv.DictReader(file)}
    conn.execute("delete from ubp.events where event_time >= %s", [moment])
    conn.execute("select ubp.define_feature_set('default')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    train(conn, "purchase")
    conn.execute("select * from ubp.refresh_features(%s)", [moment])
    conn.execute("select * from ubp.score_users('purchase')")
    ids = np.array(sorted(truth))
    p = np.array([truth[user] for user in ids.tolist()])
    decile = _chosen(conn, BEST, ids, [round(len(ids) / 10)])
    for gain, cost in STAKES:
        worth = p * gain - cost
        acted = _chosen(conn, f"select user_id from ({DECIDED}) d where act", ids, [ids.tolist(), gain, cost])
        profits = {"oracle": float(worth[worth > 0.0].sum()), "decide": float(worth[acted].sum())}
        profits |= {"everyone": float(worth.sum()), "no one": 0.0, "top decile": float(worth[decile].sum())}
        yield (gain, cost), profits
    conn.close()


def _chosen(conn: Connection, query: str, ids: NDArray[np.int64], arguments: list[Any]) -> NDArray[np.bool_]:
    """Which of the customers a query names."""
    return np.isin(ids, [row[0] for row in conn.execute(query.encode(), arguments)])
