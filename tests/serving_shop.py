"""A small database that serves: users whose stored features differ, tasks with three versions of a model each."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import lightgbm
import numpy as np

from tests.api.helpers import Connection, Event, insert, packed_rows, register

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
USERS, VERSIONS = 300, 3
SAID = """
select user_id, score
  from ubp.predict_many('purchase', (select array_agg(u) from generate_series(-5::bigint, 310) u))"""
SCAN = "select u, ubp.predict('purchase', u) from generate_series(-5::bigint, 310) u"
# Users of whom a scan and predict_many, which reads every row anew, say different things.
DIFFER = f"""
select count(*) from ({SCAN}) x (u, score) join ({SAID}) m on m.user_id = x.u
 where x.score is distinct from m.score"""
ONE = "select u, ubp.predict_purchase(u) from (values (%s::bigint)) as asked (u)"
CHANGE = "update ubp.feature_rows set features[{n}] = {value} where feature_set_id = 1 and user_id % {every} = 0"


def fill(conn: Connection, tasks: Sequence[str] = ("purchase",)) -> None:
    """Features as of AS_OF, every tenth user without any; version 1 of each task is deployed."""
    events = [Event(u, AS_OF - timedelta(days=1 + u * d % 90, hours=u % 24), "purchase", d, u + d)
              for u in range(1, USERS + 1) if u % 10 for d in (1, 7, 31)]  # fmt: skip
    insert(conn, events)
    conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7, 30])")
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF - timedelta(days=1)])
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])  # some rows age
    names = conn.execute("select feature from ubp.feature_catalogue order by position").fetchall()
    for task in tasks:
        conn.execute("select ubp.define_task(%s, 'purchase')", [task])
        for seed in range(VERSIONS):
            register(conn, task, model(conn, [name for (name,) in names], seed))
        conn.execute("select ubp.deploy_model(%s, 1)", [task])
    conn.execute("analyze ubp.feature_rows")


def model(conn: Connection, names: list[str], seed: int) -> lightgbm.Booster:
    """A model that tells users apart; what it says is of no use."""
    rows, rng = np.stack(list(packed_rows(conn).values())), np.random.default_rng(seed)
    settings = {"objective": "binary", "num_leaves": 20, "min_data_in_leaf": 3, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(rows, rng.integers(0, 2, len(rows)), feature_name=names)
    return lightgbm.train(settings, data, num_boost_round=8)


def scan(conn: Connection) -> dict[int, float | None]:
    """Scores by user of one statement, read ahead."""
    return dict(conn.execute(SCAN.encode(), binary=True).fetchall())


def said(conn: Connection) -> dict[int, float | None]:
    """Scores by user, each row read anew."""
    return dict(conn.execute(SAID.encode(), binary=True).fetchall())


class Changes:
    """Changes at random of what answers."""

    def __init__(self, conn: Connection, seed: int) -> None:
        self.conn, self.random = conn, random.Random(seed)

    def change(self) -> str:
        """An UPDATE of features."""
        value = self.random.choice(["0", "9", "-3", "'NaN'", "40.5"])
        return CHANGE.format(n=self.random.randrange(1, 9), value=value, every=self.random.choice([1, 2, 3]))

    def deploy(self) -> None:
        self.conn.execute("select ubp.deploy_model('purchase', %s)", [self.random.randrange(1, 1 + VERSIONS)])

    def challenge(self) -> None:
        self.conn.execute(
            "select ubp.challenge_model('purchase', v, 0.3) from ubp.deployed_versions d, generate_series(1, %s) v"
            " where d.task = 'purchase' and d.role = 'champion' and v <> d.version limit 1",
            [VERSIONS],
        )
