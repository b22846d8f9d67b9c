"""Training on a database: the same model twice, tests that know nothing of their outcome, and refusals."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import lightgbm
import numpy as np
import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database
from ubp_sql.errors import TrainingError, UnknownTask
from ubp_sql.training import recipe
from ubp_sql.training.fit import fit
from ubp_sql.training.rows import CutRows
from ubp_sql.training.train import Trained, train

HORIZON = timedelta(days=30)
NEWEST = datetime(2025, 6, 19, tzinfo=UTC)  # of the shop, whose last event is of 2025-07-19


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[list[CutRows]]:
    """The rows of each model that is trained."""
    seen: list[list[CutRows]] = []

    def spy(rows: Sequence[CutRows], names: Sequence[str], threads: int = 0) -> lightgbm.Booster:
        seen.append(list(rows))
        return fit(rows, names, threads)

    monkeypatch.setattr(recipe, "fit", spy)
    return seen


def run(db: Database, task: str = "purchase", **options: Any) -> Trained:
    with db.connect() as conn:
        return again(conn, task, **options)


def again(conn: Connection, task: str = "purchase", **options: Any) -> Trained:
    """In a session that has Numba loaded already; no earlier moments are held out."""
    return train(conn, task, deploy=False, threads=1, calibration="none", **options)


def test_deterministic_and_blind_to_the_outcome(shop_copy: Database, fits: list[list[CutRows]]) -> None:
    first = run(shop_copy, test_cuts=[NEWEST])
    stored = bytes(shop_copy.one("select source from ubp.models where version = 1")).decode()
    assert first.model == stored  # trained on the same log when the shop was made
    assert (first.version, first.deployed) == (2, False)
    assert shop_copy.one("select version from ubp.deployments where retired_at = 'infinity'") == 1

    for_test, for_use = fits
    assert [rows.cut + HORIZON <= NEWEST for rows in for_test] == [True] * len(for_test)
    assert max(rows.cut for rows in for_use) == NEWEST
    assert all(rows.matured for rows in (*for_test, *for_use))
    assert first.tested[0].training_rows == sum(len(rows.labels) for rows in for_test)

    shop_copy.execute(  # half of the people buy after the test cut: known to the labels, never to the scores
        """insert into ubp.events (user_id, event_time, kind, value, ingested_at)
           select user_id, %s, 'purchase', 10, %s from ubp.feature_rows where user_id %% 2 = 0""",
        NEWEST + timedelta(days=3),
        NEWEST + timedelta(days=3),
    )
    second = run(shop_copy, test_cuts=[NEWEST])
    before, after = first.tested[0], second.tested[0]
    assert after.rows.labels.sum() > 1.2 * before.rows.labels.sum()
    assert np.array_equal(before.scores, after.scores)
    assert second.model != first.model


def test_what_is_stored_is_what_was_tested(shop: Database) -> None:
    rows = shop.rows("select * from ubp.model_metrics")
    assert {row["metric"] for row in rows} == {"auc", "pr_auc", "log_loss", "brier", "calibration_error", "lift_10"}
    assert {row["cut"] for row in rows} == {NEWEST}
    assert all("before this cut" in row["protocol"] for row in rows)
    known = shop.one(
        """select count(distinct user_id) from ubp.events
            where kind = 'purchase' and event_time < %s and ingested_at <= %s""",
        NEWEST,
        NEWEST,
    )
    buyers = shop.one(
        """select count(distinct user_id) from ubp.events e
            where kind = 'purchase' and event_time >= %s and event_time < %s and exists
              (select 1 from ubp.events o where o.user_id = e.user_id and o.kind = 'purchase' and o.event_time < %s)""",
        NEWEST,
        NEWEST + HORIZON,
        NEWEST,
    )
    assert {(row["n"], row["positives"]) for row in rows} == {(known, buyers)}
    values = {row["metric"]: row["value"] for row in rows}
    assert 0.6 < values["auc"] < 1
    version = shop.rows("select data_from, data_until, settings from ubp.model_versions")[0]
    assert version["data_until"] == NEWEST + HORIZON
    assert version["settings"]["lightgbm"]["deterministic"] is True


def buy(db: Database, *, users: int = 3, days: int = 200, every: int = 5, late_until: int = 0) -> None:
    """Everybody buys every few days; what happened in the first `late_until` days was learnt of at their end."""
    db.execute(
        """insert into ubp.events (user_id, event_time, kind, value, ingested_at)
           select u, t, 'purchase', 1, greatest(t, timestamptz '2024-01-01 00:00+00' + make_interval(days => %s))
             from generate_series(1, %s) u, generate_series(0, %s, %s) d,
                  lateral (select timestamptz '2024-01-01 00:00+00' + make_interval(days => d) as t) x""",
        late_until,
        users,
        days,
        every,
    )


def test_refusals_say_why(db: Database) -> None:
    with db.connect() as conn:
        with pytest.raises(UnknownTask, match="churn"):
            again(conn, "churn")
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7, 30])")
        conn.execute("select ubp.define_task('purchase', 'purchase'), ubp.define_task('look', 'view', 'purchase')")
        with pytest.raises(TrainingError, match="no event of kind 'purchase'"):
            again(conn)
        buy(db)
        for task in ("purchase", "look"):
            with pytest.raises(TrainingError, match="all users have the same label"):
                again(conn, task)
        with pytest.raises(TrainingError, match=r"nobody of the .* training rows"):
            again(conn, "look", test_cuts=[])
        with pytest.raises(TrainingError, match=r"everybody of the .* training rows"):
            again(conn, test_cuts=[])
        with pytest.raises(TrainingError, match="not wholly known"):
            again(conn, test_cuts=[datetime(2024, 7, 1, tzinfo=UTC)])
        with pytest.raises(TrainingError, match="too few to learn from"):
            again(conn, test_cuts=[datetime(2024, 2, 1, tzinfo=UTC)])
        conn.execute("delete from ubp.events where event_time > '2024-02-15'")
        with pytest.raises(TrainingError, match="too few to learn from"):
            again(conn)
        assert conn.execute("select count(*) from ubp.models").fetchone() == (0,)


def test_moments_that_knew_nobody_are_left_out(db: Database) -> None:
    """History that came late: the first cuts have no rows, and that is no reason to fail."""
    buy(db, users=40, late_until=90)
    db.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7, 30])")
    db.execute("select ubp.define_task('purchase', 'purchase')")
    db.execute("delete from ubp.events where user_id % 2 = 0 and event_time > '2024-05-01'")
    trained = run(db, test_cuts=[])
    assert trained.training_rows > 0
    db.execute("update ubp.events set ingested_at = '2024-12-01'")
    with pytest.raises(TrainingError, match="nobody had a known history") as caught:
        run(db, test_cuts=[])
    assert "ingested_at" in str(caught.value.hint)


def test_nothing_is_registered_when_deploying_fails(shop_copy: Database) -> None:
    """One transaction: a model that cannot answer is not left behind as the newest version."""
    shop_copy.execute("alter table ubp.deployments add constraint closed check (version < 2)")
    with shop_copy.connect() as conn, pytest.raises(Exception, match="closed"):
        train(conn, "purchase", test_cuts=[], threads=1)
    assert shop_copy.one("select max(version) from ubp.models") == 1
