"""The demo: a log into a private cluster, features, a model, scores, and the ten users most likely to buy."""

import csv
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ubp_sql.embedded.cluster import Cluster
from ubp_sql.errors import MapError, SourceError
from ubp_sql.install import commands
from ubp_sql.install.state import connect, one, rows
from ubp_sql.sources.load import LoadResult, Progress, load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.training.study import study_unstudied
from ubp_sql.training.train import Trained, train

DATABASE = "ubp_demo"
UNDER_WAY = "ubp_demo_new"
TASK = "purchase"
HORIZON = timedelta(days=30)
# A column that only this log has, in its first line: enough to tell which shipped map is meant.
KNOWN_HEADERS = (("InvoiceNo", "online_retail"), ("search_text", "simulated_shop"), ('"session"', "otto"))
TOP_USERS, TOP_FEATURES = 10, 3

DAY_AFTER = "select date_trunc('day', max(event_time), 'UTC') + interval '1 day' from ubp.events"
BEST = """
select s.user_id, u.user_key, s.score, s.percentile, r.features
  from ubp.user_scores s
  join ubp.tasks t on t.task = s.task
  join ubp.feature_sets f on f.name = t.feature_set
  join ubp.feature_rows r on r.feature_set_id = f.feature_set_id and r.user_id = s.user_id
  left join ubp.users u on u.user_id = s.user_id
 where s.task = %s order by s.score desc nulls last, s.user_id limit %s"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """A user likely to buy: (feature, value, contribution to the log odds) that moved the score most."""

    user_id: int
    user_key: str | None
    score: float
    percentile: float
    reasons: list[tuple[str, float, float]]


@dataclass
class Demo:
    """What the demo did, for people to read and machines to check."""

    dsn: str
    directory: Path
    loaded: LoadResult | None = None
    refreshed: dict[str, Any] = field(default_factory=dict)
    scored: dict[str, Any] = field(default_factory=dict)
    trained: Trained | None = None
    true_auc: float | None = None
    best: list[Candidate] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(
    directory: Path,
    *,
    data: Path | None = None,
    map_name: str | None = None,
    users: int,
    days: int,
    seed: int,
    say: Say = lambda line: None,
    progress: Callable[[Progress], None] | None = None,
) -> Demo:
    """The whole way. Without `data` a shop is simulated. The cluster stays up; only database ubp_demo is made anew.

    It is made beside the earlier one, which it replaces at the end: what fails or is interrupted loses nothing.
    Raises what its parts raise; each is one line with a way out.
    """
    if data is not None and not data.is_file():
        raise SourceError(f"there is no file {data}", "give --data FILE, or leave it out for the simulated shop")
    load_map = LoadMap.from_file(map_name or _guess_map(data)) if data is not None else None
    demo = Demo(dsn="", directory=directory)
    with _timed(demo, "cluster", say, "starting PostgreSQL"):
        cluster = Cluster(directory)
        cluster.start()
        demo.dsn = cluster.dsn(DATABASE)
    simulation = None
    if data is None:
        from ubp_sql.sources.simulator import simulate

        with _timed(demo, "simulate", say, f"simulating {users:,} users over {days} days (seed {seed})"):
            # The day before the last: then the whole horizon of the test cut lies before the newest event.
            cut = datetime(2025, 1, 1).date() + timedelta(days=days - HORIZON.days - 1)
            simulation = simulate(directory / "shop", users=users, days=days, seed=seed, cuts=[cut])
        data, load_map = simulation.events, LoadMap.from_file("simulated_shop")
    assert load_map is not None  # noqa: S101 - set beside `data` in both branches
    _new_database(cluster)
    conn = connect(cluster.dsn(UNDER_WAY))
    try:
        with _timed(demo, "install", say, "installing ubp_sql"):
            commands.init(conn)
        with _timed(demo, "load", say, f"loading {data.name}"):
            demo.loaded = load_file(conn, data, load_map, progress=progress)
        with _timed(demo, "features", say, "computing features"):
            as_of = one(conn, DAY_AFTER)
            demo.refreshed = rows(conn, "select * from ubp.refresh_features(%s)", as_of)[0]
        with _timed(demo, "train", say, "training"):
            conn.execute("select ubp.define_task(%s, %s)", [TASK, TASK])
            cuts = None if simulation is None else [datetime.combine(simulation.last_cut, datetime.min.time(), UTC)]
            demo.trained = train(conn, TASK, test_cuts=cuts, say=say)
        with _timed(demo, "score", say, "scoring everybody"):
            demo.scored = rows(conn, "select * from ubp.score_users(%s)", TASK)[0]
            study_unstudied(conn, TASK, say)
        with _timed(demo, "explain", say, "looking for the reasons"):
            demo.best = _best(conn, demo.trained)
            if simulation is not None:
                demo.true_auc = _true_auc(simulation.truth, demo.trained)
    finally:
        conn.close()
    say(f"putting it in the place of database {DATABASE}")
    _replace_database(cluster)
    return demo


@contextmanager
def _timed(demo: Demo, name: str, say: Say, line: str) -> Iterator[None]:
    say(line)
    started = time.perf_counter()
    yield
    demo.seconds[name] = time.perf_counter() - started


def _guess_map(data: Path) -> str:
    try:
        with data.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(data, "rt", errors="replace") if zipped else data.open(errors="replace") as text:
            first = text.readline(10_000)
    except (OSError, EOFError) as error:
        raise SourceError(f"cannot read {data}: {error}", "is it a CSV or JSONL file, plain or gzip?") from None
    for column, name in KNOWN_HEADERS:
        if column in first:
            return name
    raise MapError(f"no shipped map fits {data.name}", "write one (docs/load-map.md) and give it with --map")


def _new_database(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        name = sql.Identifier(UNDER_WAY)
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        conn.execute(sql.SQL("create database {}").format(name))


def _replace_database(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        old, new = sql.Identifier(DATABASE), sql.Identifier(UNDER_WAY)
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(old))
        conn.execute(sql.SQL("alter database {} rename to {}").format(new, old))


def _best(conn: psycopg.Connection[Any], trained: Trained) -> list[Candidate]:
    import lightgbm

    from ubp_sql.training.fit import main_features

    booster = lightgbm.Booster(model_str=trained.model)
    found = []
    with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        for row in cursor.execute(BEST, [TASK, TOP_USERS]).fetchall():
            values = np.array(row["features"], np.float32)
            reasons = main_features(booster, values, trained.names, TOP_FEATURES)
            found.append(Candidate(row["user_id"], row["user_key"], row["score"], row["percentile"], reasons))
    return found


def _true_auc(truth: Path, trained: Trained) -> float:
    """AUC of the simulator's own probabilities on the users and the cut the model was tested on: no model beats it."""
    from sklearn.metrics import roc_auc_score

    test = trained.tested[-1]
    day = f"{test.cut:%Y-%m-%d}"
    with truth.open(newline="") as file:
        known = {int(row["user"]): float(row["p_true"]) for row in csv.DictReader(file) if row["cut"] == day}
    return float(roc_auc_score(test.rows.labels, [known[int(user)] for user in test.rows.user_ids]))
