"""A database that serves two tasks of chances and one of amounts, with held-out tests, and one session for it."""

from collections.abc import Iterator
from datetime import timedelta

import lightgbm
import numpy as np
import pytest

from tests.api.helpers import Connection, packed_rows, register
from tests.fix_database import Database, clone, create, drop
from tests.serving_shop import AS_OF, fill
from ubp_sql.embedded import Cluster

SPEND = '{"sum": "value", "kinds": ["purchase"]}'
RECORD = "select ubp.record_test(%s, %s, %s, %s, %s, %s, %s, 'drawn')"


def record(conn: Connection, task: str, days_ago: int, n: int, part: str = "calibration", seed: int = 0) -> None:
    """A test of version 1 whose outcomes are drawn by the scores: chances that are right, amounts around the score."""
    rng = np.random.default_rng([seed, days_ago])
    scores = rng.random(n) if task != "spend" else rng.gamma(2.0, 30.0, n)
    labels = (rng.random(n) < scores).astype(float) if task != "spend" else scores * rng.exponential(size=n)
    columns = [np.arange(n, dtype="<i8"), scores.astype("<f8"), np.round(labels, 2).astype("<f8")]
    conn.execute(RECORD, [task, 1, AS_OF - timedelta(days=days_ago), part, *(c.tobytes() for c in columns)])


def amounts(conn: Connection, names: list[str]) -> lightgbm.Booster:
    """A model of amounts that tells users apart."""
    rows, rng = np.stack(list(packed_rows(conn).values())), np.random.default_rng(9)
    made = {"objective": "tweedie", "num_leaves": 20, "min_data_in_leaf": 3, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(made, lightgbm.Dataset(rows, rng.gamma(2.0, 30.0, len(rows)), feature_name=names), 8)


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Everybody scored for `purchase` and `spend`; `again` has no stored scores, and nothing was held out for it."""
    made = create(cluster, installed)
    with made.connect() as conn:
        fill(conn, ("purchase", "again"))
        names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
        conn.execute("select ubp.define_task('spend', population_kind => 'purchase', label => %s)", [SPEND])
        register(conn, "spend", amounts(conn, names))
        conn.execute("select ubp.deploy_model('spend')")
        for task in ("purchase", "spend"):
            conn.execute("select * from ubp.score_users(%s)", [task])
            record(conn, task, 30, 1_500)
            conn.execute("select ubp.conform_model(%s, 1)", [task])
    yield made
    drop(made)


@pytest.fixture(scope="module")
def conn(prepared: Database, cluster: Cluster) -> Iterator[Connection]:
    """Of tests that change nothing; in a clone, for nobody may be connected to what others clone."""
    with clone(cluster, prepared.name) as made, made.connect() as opened:
        yield opened


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone that a test may change."""
    with clone(cluster, prepared.name) as made:
        yield made
