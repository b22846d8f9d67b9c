"""Fills a database with a small simulated shop: events, features, a trained and deployed model, scores."""

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate
from ubp_sql.training.train import Trained, train

if TYPE_CHECKING:
    from tests.fix_database import Database

USERS, DAYS, SEED = 1_500, 200, 11
AS_OF = datetime(2025, 7, 20, tzinfo=UTC)  # 200 days after 2025-01-01


def fill(db: "Database") -> Trained:
    """Task `purchase`, version 1 deployed, stored features and scores as of AS_OF."""
    with tempfile.TemporaryDirectory() as folder:
        shop = simulate(Path(folder), users=USERS, days=DAYS, seed=SEED, cuts=[date(2025, 6, 19)])
        with db.connect() as conn:
            load_file(conn, shop.events, LoadMap.from_file("simulated_shop"))
            conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
            conn.execute("select ubp.define_task('purchase', 'purchase')")
            trained = train(conn, "purchase", threads=1)
            conn.execute("select * from ubp.score_users('purchase')")
    return trained
