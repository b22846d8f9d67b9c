"""Stored = live = training = the reference, whenever as_of moves and whatever came later."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.live.helpers import NO_LIBRARY, loaded
from tests.standings.helpers import (
    MIDNIGHT,
    NAMES,
    Row,
    define,
    differing,
    events,
    insert,
    live,
    refresh,
    same,
    stored,
    wanted,
)

HOUR = timedelta(hours=1)
MOMENTS = (MIDNIGHT - 30 * HOUR, MIDNIGHT, MIDNIGHT + HOUR, MIDNIGHT + 23 * HOUR, MIDNIGHT + 24 * HOUR)


def assert_rows(found: dict[int, Row], want: dict[int, Row]) -> None:
    assert found.keys() == want.keys()
    for user, row in want.items():
        assert same(found[user], row), (user, found[user], row)


@pytest.mark.parametrize("seed", range(3))
def test_stored_and_live_rows_are_the_reference(db: Database, seed: int) -> None:
    log = events(seed)
    with db.connect() as conn:
        if seed == 2:
            conn.execute("update ubp.mirror_state set enabled = false")
        insert(conn, log)
        define(conn)
        seen: list[Row] = []
        for as_of in MOMENTS:
            refresh(conn, as_of)
            want = wanted(log, as_of)
            seen += want.values()
            assert_rows(stored(conn), want)
            assert differing(conn) == []
            for user in range(26):
                assert same(live(conn, user, as_of), want.get(user))
        for name, some in (("dearest_rank", {None}), ("popularity", {0.0, None})):
            assert some < {row[NAMES.index(name)] for row in seen}


def test_a_refresh_in_steps_stores_the_same(db: Database) -> None:
    log = events(5)
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        for as_of in (MIDNIGHT + HOUR, MIDNIGHT + 30 * HOUR):
            row = conn.execute("select ubp.start_refresh(%s)", [as_of]).fetchone()
            assert row is not None
            while conn.execute("select state from ubp.refresh_step(%s)", [row[0]]).fetchone() == ("running",):
                pass
            assert_rows(stored(conn), wanted(log, as_of))
            assert differing(conn) == []


def test_changes_within_the_day_and_over_midnight(db: Database) -> None:
    """Within a UTC day only changed users are computed; over midnight everybody, also where the zone's day goes on."""
    log = events(1)
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        refresh(conn, MIDNIGHT + HOUR)
        new = [
            e._replace(user=user, t=MIDNIGHT + 2 * HOUR, ingested=MIDNIGHT + 2 * HOUR)
            for user, e in ((3, log[0]), (99, log[9]))
        ]
        insert(conn, new)
        then = log
        log = sorted([*log, *new], key=lambda e: (e.user, e.t, e.ingested))
        as_of = MIDNIGHT + 3 * HOUR
        assert not refresh(conn, as_of).startswith("everybody")
        assert_rows(stored(conn), wanted(log, as_of, then))
        assert differing(conn) == []
        plan = conn.execute(
            "select detail from ubp.refresh_features(%s, dry_run => true)", [MIDNIGHT + 24 * HOUR]
        ).fetchone()
        assert plan is not None
        assert "population of another day" in plan[0]
        assert refresh(conn, MIDNIGHT + 24 * HOUR).endswith("population of another day")
        assert_rows(stored(conn), wanted(log, MIDNIGHT + 24 * HOUR))
        assert differing(conn) == []


def training(conn: Connection, cuts: list[datetime] | None, known_at: str) -> dict[tuple[int, datetime], Row]:
    conn.execute("select ubp.training_set('buys', %s, known_at => %s)", [cuts, known_at])
    found: dict[tuple[int, datetime], Row] = {}
    for user, cut, values in conn.execute("select user_id, cut, features from ubp.training_buys"):
        found[user, cut] = [None if np.isnan(x) else x for x in values]
    matrix = matrix_rows(conn, cuts, known_at)
    assert matrix.keys() == found.keys()
    assert all(same(matrix[key], row) for key, row in found.items())
    return found


def matrix_rows(conn: Connection, cuts: list[datetime] | None, known_at: str) -> dict[tuple[int, datetime], Row]:
    found: dict[tuple[int, datetime], Row] = {}
    query = "select * from ubp.training_matrix('buys', %s, known_at => %s)"
    for users, moments, _, _, _, packed in conn.execute(query, [cuts, known_at], binary=True):
        ids, us = np.frombuffer(users, "<i8"), np.frombuffer(moments, "<i8")
        for user, moment, values in zip(
            ids.tolist(), us.tolist(), np.frombuffer(packed, "<f4").reshape(len(ids), -1), strict=True
        ):
            cut = datetime.fromtimestamp(0, MIDNIGHT.tzinfo) + timedelta(microseconds=moment)
            found[user, cut] = [None if np.isnan(x) else float(x) for x in values]
    return found


@pytest.mark.parametrize("matrix_first", [False, True])
def test_training_at_three_cuts(db: Database, matrix_first: bool) -> None:
    log = events(4)
    cuts = [MIDNIGHT - 20 * HOUR, MIDNIGHT, MIDNIGHT + 5 * HOUR]
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        conn.execute("select ubp.define_task('buys', 'purchase', population_kind => 'view', horizon => '2 days')")
        if matrix_first:
            assert matrix_rows(conn, cuts, "cut")
            assert conn.execute("select count(*) from ubp.standings").fetchone() == (0,), "it may not write"
        found = training(conn, cuts, "cut")
        assert conn.execute("select count(distinct day) from ubp.standings").fetchone() == (2,)
        assert {cut for _, cut in found} == set(cuts)
        for (user, cut), row in found.items():
            assert same(row, wanted(log, cut)[user])
            assert same(row, live(conn, user, cut))
        # What is known today of the user, and of the population what was known then.
        later = training(conn, cuts, "now")
        place = NAMES.index("views_rank")
        for (user, cut), row in later.items():
            by_now = [e._replace(ingested=e.t) for e in log if e.user == user]
            others = [e for e in log if e.user != user]
            day = cut.replace(hour=0)
            want = wanted([*others, *by_now], cut, [e for e in log if e.ingested <= day])[user][place]
            assert row[place] == pytest.approx(want)
        assert later != found


def test_training_at_every_event(db: Database) -> None:
    log = events(6, n=120)
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        conn.execute("select ubp.define_task('buys', 'purchase', population_kind => 'view', horizon => '2 days')")
        found = training(conn, None, "cut")
        assert len(found) > 50
        for user, cut in list(found)[::7]:
            assert same(found[user, cut], live(conn, user, cut))
            assert same(found[user, cut], wanted(log, cut)[user])


def test_a_live_row_of_a_recorded_day_needs_no_numpy(db: Database) -> None:
    log = events(3)
    as_of = MIDNIGHT + 9 * HOUR
    with db.connect() as conn:
        insert(conn, log)
        define(conn)
        refresh(conn, MIDNIGHT + HOUR)
    with db.connect() as native, db.connect() as numba:
        numba.execute(NO_LIBRARY)
        for user in range(26):
            row = live(native, user, as_of)
            assert same(row, wanted(log, as_of).get(user))
            assert row == live(numba, user, as_of)
        assert loaded(native) == ""
        assert "numba" in loaded(numba)


def test_other_sets_pay_nothing(db: Database) -> None:
    """No query names the table of standings."""
    with db.connect() as conn:
        insert(conn, events(3))
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7])")
        conn.execute("drop table ubp.standings")
        live_row: Any = live(conn, 1, MIDNIGHT)
        assert live_row
