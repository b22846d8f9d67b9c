"""A tiny form of each bench: our answers and the rivals' are equal. Nothing is timed here."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from bench import agree, event_log, features25, fresh_events, incremental, live, ours
from bench.event_log import DAY_US, END_US, F64, I64, Log
from bench.features25 import FEATURES
from bench.rivals.duckdb_engine import DuckDB
from bench.rivals.polars_engine import Polars
from bench.rivals.postgres import PlainSQL
from bench.stored import MADE, Size, add_rival, fill
from tests.fix_database import Database, clone, create, drop

SIZE = Size(4_000, 80, 5)
NAMES = [feature.name for feature in FEATURES]
AS_OF = f"to_timestamp({END_US // 1_000_000})"


@pytest.fixture(scope="module")
def log() -> Log:
    return event_log.make(SIZE.events, SIZE.users, SIZE.seed)


@pytest.fixture(scope="module")
def made(cluster: Any, installed: str, log: Log) -> Iterator[Database]:
    """A database with the log, its mirror, the 25 features and the rivals' table. Read only."""
    database = create(cluster, installed)
    with database.connect() as conn:
        conn.execute(MADE)
        fill(conn, log)
        add_rival(conn, log)
        ours.prepare(conn)
        ours.refresh_everybody(conn, AS_OF)
    yield database
    drop(database)


@pytest.fixture
def conn(made: Database) -> Iterator[psycopg.Connection[Any]]:
    with made.connect() as conn:
        yield conn


@pytest.fixture
def own(made: Database, cluster: Any) -> Iterator[psycopg.Connection[Any]]:
    """A copy that a test may change."""
    with clone(cluster, made.name) as database, database.connect() as conn:
        yield conn


@pytest.fixture
def expected(conn: psycopg.Connection[Any]) -> tuple[I64, F64]:
    """By the query that an analyst would write."""
    return PlainSQL(conn).answer("filter", END_US)


def test_there_are_25_features_of_distinct_names() -> None:
    assert len(FEATURES) == 25
    assert len(set(NAMES)) == 25


def test_snapshot_of_plain_sql_in_both_forms(conn: psycopg.Connection[Any], expected: tuple[I64, F64]) -> None:
    _same("split", PlainSQL(conn).answer("split", END_US), expected)


@pytest.mark.parametrize("form", ["filter", "split"])
def test_snapshot_of_duckdb(form: str, log: Log, expected: tuple[I64, F64]) -> None:
    rival = DuckDB(log, 1)
    rival.snapshot(form, END_US)
    _same("DuckDB", rival.answer(), expected)


@pytest.mark.parametrize("form", ["in-memory", "streaming"])
def test_snapshot_of_polars(form: Any, log: Log, expected: tuple[I64, F64]) -> None:
    rival = Polars(log, pl.thread_pool_size())
    rival.snapshot(form, END_US)
    _same("Polars", rival.answer(), expected)


def test_our_snapshot_in_memory(conn: psycopg.Connection[Any], expected: tuple[I64, F64]) -> None:
    conn.execute(f"select bench.snapshot({END_US})")
    _same("ours", ours.snapshot_answer(conn), expected)


def test_our_stored_rows(conn: psycopg.Connection[Any], expected: tuple[I64, F64]) -> None:
    _same("stored", ours.stored_rows(conn), expected)


def test_pairs(conn: psycopg.Connection[Any], log: Log) -> None:
    draw = np.random.default_rng(3)
    users = np.sort(draw.choice(np.unique(log.user[log.kind < 2]), 300))
    moments = END_US - draw.integers(0, 400 * DAY_US, 300)
    moments[:100] = log.t_us[draw.integers(0, len(log), 100)]
    order = np.lexsort((moments, users))
    _pairs(conn, log, users[order], moments[order])


def test_every_event(conn: psycopg.Connection[Any], log: Log) -> None:
    table = _pairs(conn, log, log.user, log.t_us)
    rival = DuckDB(log, 1)
    rival.every_event()
    agree.require("frames", rival.answer_pairs(), table, NAMES, range(len(log)))


def test_fresh_events_and_moved_moments_as_a_full_recompute(own: psycopg.Connection[Any]) -> None:
    fresh_events.insert(own, fresh_events.drawn_users(SIZE, 20, 1), 1)
    _, recomputed = incremental.refresh(own, AS_OF)
    assert 0 < recomputed <= 20
    before = ours.fingerprint(own)
    ours.refresh_everybody(own, AS_OF)
    assert ours.fingerprint(own) == before
    later = f"to_timestamp({END_US // 1_000_000 + 86400})"
    incremental.refresh(own, later)
    before = ours.fingerprint(own)
    ours.refresh_everybody(own, later)
    assert ours.fingerprint(own) == before


def test_features_of_one_user_as_stored(conn: psycopg.Connection[Any]) -> None:
    for user in range(1, 20):
        live.check(conn, user)


def test_a_column_of_the_view_sums_to_the_expected(conn: psycopg.Connection[Any], expected: tuple[I64, F64]) -> None:
    found = conn.execute("select sum(count_purchase_90d)::float8 from ubp.user_features").fetchone()
    assert found == (expected[1][:, NAMES.index("count_purchase_90d")].sum(),)


def test_a_difference_is_told() -> None:
    table = np.zeros((3, 25))
    other = table.copy()
    other[1, NAMES.index("count_view_7d")] = 1
    with pytest.raises(SystemExit, match=r"count_view_7d at 8: 1\.0, not 0\.0 \(1 rows differ\)"):
        agree.require("somebody", other, table, NAMES, [7, 8, 9])


def test_arguments_name_every_feature() -> None:
    assert [features25.arguments(feature)[0] for feature in FEATURES] == NAMES


def _same(name: str, found: tuple[I64, F64], expected: tuple[I64, F64]) -> None:
    assert found[0].tolist() == expected[0].tolist()
    agree.require(name, found[1], expected[1], NAMES, expected[0].tolist())


def _pairs(conn: psycopg.Connection[Any], log: Log, users: I64, moments: I64) -> F64:
    sql, rival = PlainSQL(conn), DuckDB(log, 1)
    sql.load_pairs(users, moments)
    expected, labels = sql.answer_pairs(), list(zip(users.tolist(), moments.tolist(), strict=True))
    rival.load_pairs(users, moments)
    rival.pairs()
    agree.require("join", rival.answer_pairs(), expected, NAMES, labels)
    ours.load_pairs(conn, users, moments)
    conn.execute("select bench.pairs()")
    agree.require("ours", ours.features(conn), expected, NAMES, labels)
    return expected
