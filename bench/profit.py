"""What `decide` earns on simulated shops whose true chances are known, beside oracles, a bound and fixed rules.

Honest: a shop's log ends at the moment of deciding, the model and its calibration map know nothing later, and profit
is counted with the true chance of each customer and not with what happened.
"""

import csv
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import psycopg
from numpy.typing import NDArray

from bench import settings
from bench.profit_limit import best_chances
from bench.server import cluster, fresh
from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate
from ubp_sql.sources.simulator.shop import START
from ubp_sql.training.rows import fetch
from ubp_sql.training.train import train

USERS, DAYS, SHOPS = 10_000, 395, 3
HORIZON = timedelta(days=30)
CUTS = [START + timedelta(days=DAYS) - k * HORIZON for k in range(1, 7)]  # the first: the moment of deciding
# (gain, cost): an e-mail, a letter, a voucher, a call.
STAKES = ((40.0, 0.4), (40.0, 2.0), (40.0, 4.0), (40.0, 8.0), (40.0, 12.0))
LEAST = 0.97
RULES = ("everyone", "no one", "top decile")
DECIDED = "select user_id from ubp.decide_many('purchase', %s, %s, %s) where act"
BEST = "select user_id from ubp.top_users('purchase', %s)"
# Chances as labels, which carry no noise: what features of this set can tell of them.
ORACLE = {"objective": "cross_entropy", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 100}
ORACLE |= {"feature_fraction": 0.5, "verbosity": -1, "seed": 1, "deterministic": True}
ORACLE_ROUNDS = 400

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Shop(NamedTuple):
    """What was decided in a shop, and what is true of it.

    p         (n,) true chances of the customers at the moment of deciding
    limit     (n,) the best that can be known of them from any log: bench/profit_limit.py
    features  (n, f) what is known of them
    acted     (n,) whom ubp.decide_many acts on, for each of STAKES; best: the top decile
    past      features and true chances of customers at all CUTS
    """

    p: F64
    limit: F64
    features: NDArray[np.float32]
    acted: list[Bools]
    best: Bools
    past: tuple[NDArray[np.float32], F64]


def run() -> dict[str, Any]:
    """Profits of each shop and of all, for each pair of gain and cost; the bars are of all."""
    users = settings.users(USERS)
    seeds = range(settings.seed(), settings.seed() + max(2, settings.count(SHOPS)))
    shops = [_shop(users, seed) for seed in seeds]
    known = [_oracle([other for other in shops if other is not shop], shop) for shop in shops]
    rows, bars, notes = [], {}, []
    for k, (gain, cost) in enumerate(STAKES):
        found = [_profits(shop, shop.acted[k], seen, gain, cost) for shop, seen in zip(shops, known, strict=True)]
        everything = {name: sum(profits[name] for profits in found) for name in found[0]}
        for seed, profits in zip([*map(str, seeds), "all"], [*found, everything], strict=True):
            rows.append({"shop": seed, "gain": gain, "cost": cost, **profits, **_shares(profits)})
        decided, stakes = everything["decide"], f"gain {gain:g}, cost {cost:g}"
        share = decided / everything["oracle"]
        bars[f"{stakes}: {share:.4f} of the oracle's that knows the true chances >= {LEAST}"] = share >= LEAST
        for name in RULES:
            bars[f"{stakes}: {decided:,.0f} more than {name}: {everything[name]:,.0f}"] = decided > everything[name]
        most = everything["limit"] / everything["oracle"]
        notes.append(
            f"{stakes}: {decided / everything['oracle of the log']:.4f} of the oracle's that sees the log alone; "
            f"no policy that does can earn more than {most:.4f} of the one that knows the true chances"
        )
    return {"rows": rows, "bars": bars, "notes": notes, "size": f"{len(shops)} shops of {users:,} users"}


def _profits(shop: Shop, acted: Bools, seen: F64, gain: float, cost: float) -> dict[str, float]:
    worth = shop.p * gain - cost
    policies = {
        "oracle": worth > 0.0,
        "limit": shop.limit * gain > cost,
        "oracle of the log": seen * gain > cost,
        "decide": acted,
        "everyone": np.ones(len(worth), bool),
        "no one": np.zeros(len(worth), bool),
        "top decile": shop.best,
    }
    return {name: float(worth[chosen].sum()) for name, chosen in policies.items()}


def _shares(profits: dict[str, float]) -> dict[str, float]:
    return {f"of {name}": profits["decide"] / profits[name] for name in ("oracle", "limit", "oracle of the log")}


def _oracle(others: Sequence[Shop], shop: Shop) -> F64:
    """The chances given the features, learnt from the true chances of other shops."""
    features, p = (np.concatenate([other.past[k] for other in others]) for k in (0, 1))
    booster = lightgbm.train(ORACLE, lightgbm.Dataset(features, p), ORACLE_ROUNDS)
    return np.asarray(booster.predict(shop.features), np.float64)


def _shop(users: int, seed: int) -> Shop:
    """Simulates, trains on what precedes the last cut, and decides there."""
    moments = [datetime.combine(cut, time(), UTC) for cut in CUTS]
    conn = fresh(cluster(), "bench_profit")
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(Path(folder), users=users, days=DAYS, seed=seed, cuts=CUTS)
        load_file(conn, made.events, LoadMap.from_file("simulated_shop"))
        truth = _truth(made.truth)
    conn.execute("delete from ubp.events where event_time >= %s", [moments[0]])
    conn.execute("select ubp.define_feature_set('default')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    train(conn, "purchase")
    conn.execute("select * from ubp.refresh_features(%s)", [moments[0]])
    conn.execute("select * from ubp.score_users('purchase')")
    parts = fetch(conn, "purchase", moments)
    chances = [
        np.array([truth[cut][user] for user in part.user_ids.tolist()]) for cut, part in zip(CUTS, parts, strict=True)
    ]
    ids = parts[0].user_ids
    if len(ids) != len(truth[CUTS[0]]):
        raise SystemExit("the task has another population than the truth")
    acted = [_chosen(conn, DECIDED, ids, [ids.tolist(), gain, cost]) for gain, cost in STAKES]
    best = _chosen(conn, BEST, ids, [round(len(ids) / 10)])
    conn.close()
    past = np.concatenate([part.features for part in parts]), np.concatenate(chances)
    knowable = best_chances(users, DAYS, seed, (CUTS[0] - START).days)
    limit = np.array([knowable[user] for user in ids.tolist()])
    return Shop(chances[0], limit, parts[0].features, acted, best, past)


def _truth(path: Path) -> dict[date, dict[int, float]]:
    """True chance by cut and user."""
    found: dict[date, dict[int, float]] = {cut: {} for cut in CUTS}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[date.fromisoformat(row["cut"])][int(row["user"])] = float(row["p_true"])
    return found


def _chosen(conn: psycopg.Connection[Any], query: str, ids: NDArray[np.int64], arguments: list[Any]) -> Bools:
    """Which of the customers a query names."""
    return np.isin(ids, [row[0] for row in conn.execute(query.encode(), arguments)])
