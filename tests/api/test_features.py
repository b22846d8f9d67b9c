"""Features in the database: against plain SQL, at any moment, in every form they are shown in."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from tests.api.helpers import (
    ODD_KINDS,
    ZONES,
    Connection,
    Event,
    add_sources,
    feature_names,
    insert,
    odd_events,
    packed_rows,
    refused,
    same_bits,
)
from tests.fix_database import Database, create, drop
from tests.make_shop import AS_OF
from ubp_sql.embedded import Cluster
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.sql import OF_SET, oracle
from ubp_sql.training.rows import fetch

F32_MAX = float(np.finfo(np.float32).max)
EDGE = datetime(2024, 3, 31, 1, tzinfo=UTC)  # the hour in which Berlin's clock changes
SETS = {
    "default": (FeatureSetDefinition(ODD_KINDS, (1, 7, 30)), "Europe/Berlin"),
    "reversed": (FeatureSetDefinition(ODD_KINDS[::-1], (3, 45, 180)), "America/New_York"),
}


@pytest.fixture(scope="module")
def odd_db(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    with made.connect() as conn:
        add_sources(conn, ZONES)
        insert(conn, odd_events())
        main = ODD_KINDS[0]
        at_edges = [EDGE, EDGE - timedelta(days=7), EDGE - timedelta(days=30), EDGE - timedelta(microseconds=1)]
        insert(conn, [Event(20, time, main, 1, 5.0) for time in at_edges])
        insert(conn, [Event(21, EDGE - timedelta(days=d), main, None, math.nan) for d in (1, 2, 4)])
        insert(conn, [Event(22, EDGE - timedelta(days=2), main, 1, 1e308)])
        insert(conn, [Event(23, EDGE - timedelta(days=2), "a kind that no set names")])
        insert(conn, [Event(24, EDGE - timedelta(days=2), main, ingested_at=EDGE + timedelta(seconds=1))])
        for name, (definition, zone) in SETS.items():
            arguments = [name, list(definition.kinds), list(definition.windows_days), zone]
            conn.execute("select ubp.define_feature_set(%s, %s, %s, %s)", arguments)
    yield made
    drop(made)


@pytest.fixture(scope="module")
def odd(odd_db: Database) -> Iterator[Connection]:
    """One session for the module: each new one would import Numba anew."""
    with odd_db.connect() as conn:
        yield conn


def refresh(conn: Connection, as_of: datetime, feature_set: str = "default") -> None:
    conn.execute("select * from ubp.refresh_features(%s, %s)", [as_of, feature_set])


@pytest.mark.parametrize(
    ("feature_set", "as_of"),
    [
        ("default", EDGE),
        ("default", datetime(2023, 11, 5, 6, tzinfo=UTC)),  # New York's clock goes back
        ("reversed", datetime(2024, 2, 10, 12, 34, 56, 789_000, tzinfo=UTC)),
    ],
)
def test_every_feature_equals_plain_sql(odd: Connection, feature_set: str, as_of: datetime) -> None:
    definition, _ = SETS[feature_set]
    refresh(odd, as_of, feature_set)
    stored = packed_rows(odd, feature_set)
    having = odd.execute(
        "select distinct user_id from ubp.events where kind = any (%s) and event_time < %s and ingested_at <= %s",
        [list(definition.kinds), as_of, as_of],
    ).fetchall()
    assert set(stored) == {user for (user,) in having}
    wrong = []
    for place, feature in enumerate(definition.features):
        query = oracle(definition, feature, OF_SET.format(name=f"'{feature_set}'"))
        found = odd.execute(query.encode()).fetchall()
        expected = {user: math.nan if value is None else value for user, value in found}
        for user, row in stored.items():
            want = min(max(expected[user], -F32_MAX), F32_MAX) if expected[user] == expected[user] else math.nan
            if not np.isclose(row[place], np.float32(want), rtol=1e-5, atol=1e-6, equal_nan=True):
                wrong.append((feature.name, user, float(row[place]), want))
    assert wrong == []


def test_edges_and_ignorance(odd: Connection) -> None:
    """[as_of - width, as_of), known at as_of, by hand."""
    refresh(odd, EDGE)
    rows, names = packed_rows(odd), [f.name for f in SETS["default"][0].features]
    counts = {name: float(value) for name, value in zip(names, rows[20], strict=True) if "_wunsch_zettel_" in name}
    assert [counts[f"count_wunsch_zettel_{w}"] for w in ("1d", "7d", "30d", "all")] == [1, 2, 3, 3]
    assert 23 not in rows  # only a kind of no set
    assert 24 not in rows  # not known yet
    assert rows[21][names.index("count_wunsch_zettel_7d")] == 3
    assert rows[21][names.index("sum_value_wunsch_zettel_7d")] == 0
    assert np.isnan(rows[21][names.index("mean_value_wunsch_zettel_7d")])
    assert rows[21][names.index("distinct_items_wunsch_zettel_7d")] == 0


def test_the_view_is_named_typed_and_equal_to_the_rows(odd: Connection, odd_db: Database) -> None:
    refresh(odd, EDGE)
    columns = odd_db.rows(
        """select a.attname as name, format_type(a.atttypid, null) as type,
                  col_description(a.attrelid, a.attnum) as comment
             from pg_attribute a where a.attrelid = 'ubp.user_features'::regclass and a.attnum > 0 order by a.attnum"""
    )
    features = SETS["default"][0].features
    assert [c["name"] for c in columns] == ["user_id", "as_of", *(f.name for f in features)]
    assert [c["type"] for c in columns[2:]] == [f.sql_type for f in features]
    assert {f.sql_type for f in features} == {"integer", "real"}
    assert all(f.meaning in c["comment"] and f.unit in c["comment"] for f, c in zip(features, columns[2:], strict=True))
    shown = odd.execute("select * from ubp.user_features order by user_id", binary=True).fetchall()
    stored = packed_rows(odd)
    assert [row[0] for row in shown] == sorted(stored)
    for user, as_of, *values in shown:
        assert as_of == EDGE
        assert not any(value != value for value in values)
        as_floats = np.array([np.nan if value is None else value for value in values], np.float32)
        assert same_bits(as_floats, stored[user]), user


def test_features_of_a_user_stored_and_at_a_moment(odd: Connection) -> None:
    refresh(odd, EDGE)
    catalogue = odd.execute(
        "select feature, unit, meaning from ubp.feature_catalogue where feature_set = 'default' order by position"
    ).fetchall()
    for user, row in packed_rows(odd).items():
        values = [None if np.isnan(value) else float(value) for value in row]
        expected = [
            (name, value, unit, meaning) for (name, unit, meaning), value in zip(catalogue, values, strict=True)
        ]
        stored = odd.execute("select * from ubp.features(%s::bigint)", [user], binary=True).fetchall()
        live = odd.execute("select * from ubp.features(%s::bigint, %s)", [user, EDGE], binary=True).fetchall()
        assert stored == live == expected
    for unknown in (-5, 23, 2**63 - 1):
        assert odd.execute("select * from ubp.features(%s::bigint)", [unknown]).fetchall() == []
        assert odd.execute("select * from ubp.features(%s::bigint, %s)", [unknown, EDGE]).fetchall() == []


def test_one_users_strange_numbers_touch_nobody_else(odd: Connection) -> None:
    refresh(odd, EDGE)
    before = packed_rows(odd)
    with odd.transaction(force_rollback=True):
        strange = [math.inf, -math.inf, math.nan, 1e308, 1e308, -1e308, 5e-324]
        insert(odd, [Event(7, EDGE - timedelta(hours=n + 1), ODD_KINDS[0], 1, x) for n, x in enumerate(strange)])
        refresh(odd, EDGE)
        after = packed_rows(odd)
        assert odd.execute("select count(*) from ubp.user_features where user_id = 7").fetchone() == (1,)
    assert [user for user in before if not same_bits(before[user], after[user])] == [7]
    assert np.isfinite(after[7][~np.isnan(after[7])]).all()


def test_a_refresh_does_not_depend_on_the_session(odd: Connection) -> None:
    refresh(odd, EDGE)
    before = packed_rows(odd)
    with odd.transaction(force_rollback=True):
        for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'", "extra_float_digits = -9"):
            odd.execute(f"set local {setting}".encode())
        odd.execute("set local search_path = pg_temp")
        odd.execute("select * from ubp.refresh_features(timestamptz '2024-03-31 01:00:00+00')")
        after = packed_rows(odd)
    assert before.keys() == after.keys()
    assert all(same_bits(before[user], after[user]) for user in before)


def test_readers_see_the_old_moment_and_a_second_refresh_waits(odd: Connection, odd_db: Database) -> None:
    refresh(odd, EDGE)
    seen = "select count(*), min(as_of), max(as_of) from ubp.user_features"
    with odd_db.connect() as other:
        before = other.execute(seen).fetchone()
        with odd.transaction(force_rollback=True):
            refresh(odd, datetime(2023, 10, 20, tzinfo=UTC))
            assert odd.execute(seen).fetchone() != before
            assert other.execute(seen).fetchone() == before
            other.execute("set statement_timeout = 200")
            with pytest.raises(psycopg.errors.QueryCanceled):
                refresh(other, EDGE)
        assert other.execute(seen).fetchone() == before


def test_chunks_change_nothing(odd: Connection) -> None:
    refresh(odd, EDGE)
    whole = packed_rows(odd)
    modules = "import ubp_sql.api.events as e, ubp_sql.api.refresh_rows as r"
    size = f"do $$ {modules}; e.BATCH_EVENTS, r.STATEMENT_BYTES, r.LEAST_ROWS = {{}} $$"
    odd.execute("update ubp.feature_sets set stale = true")
    try:
        odd.execute((size + " language plpython3u").format("30, 1, 3").encode())
        refresh(odd, EDGE)
    finally:
        odd.execute((size + " language plpython3u").format("1_000_000, 8 << 20, 1_000").encode())
    parts = packed_rows(odd)
    assert whole.keys() == parts.keys()
    assert all(same_bits(whole[user], parts[user]) for user in whole)


def test_back_in_time_again_and_without_those_who_went(odd: Connection) -> None:
    early = datetime(2023, 10, 20, tzinfo=UTC)
    refresh(odd, EDGE)
    late = packed_rows(odd)
    refresh(odd, early)
    first = packed_rows(odd)
    assert 0 < len(first) < len(late)
    assert first.keys() < late.keys()
    moved = odd.execute("select as_of, users from ubp.feature_sets where name = 'default'").fetchone()
    assert moved == (early, len(first))
    assert odd.execute("select distinct as_of from ubp.user_features").fetchall() == [(early,)]
    refresh(odd, EDGE)
    again = packed_rows(odd)
    assert again.keys() == late.keys()
    assert all(same_bits(late[user], again[user]) for user in late)
    with odd.transaction(force_rollback=True):
        odd.execute("delete from ubp.events where user_id = 20")
        refresh(odd, EDGE)  # the same moment: the row that went is not told apart by its as_of
        assert packed_rows(odd).keys() == late.keys() - {20}


def test_a_refresh_tells_what_it_did(odd: Connection) -> None:
    odd.execute("update ubp.feature_sets set stale = true")
    row = odd.execute("select * from ubp.refresh_features(%s)", [EDGE]).fetchone()
    assert row is not None
    definition = SETS["default"][0]
    events = odd.execute("select count(*) from ubp.events where kind = any (%s)", [list(definition.kinds)]).fetchone()
    users = len(packed_rows(odd))
    assert row[:4] == ("default", EDGE, users, len(definition.features))
    assert events is not None
    assert row[4] >= events[0]  # events of other kinds may be read with them
    assert row[6:8] == (users, 0)
    logged = odd.execute("select job, state, rows from ubp.job_runs order by job_id desc limit 1").fetchone()
    assert logged == ("refresh_features", "done", users)


@pytest.mark.parametrize(
    ("sqlstate", "query"),
    [
        ("UB003", "select * from ubp.refresh_features(null)"),
        ("UB003", "select * from ubp.refresh_features('infinity')"),
        ("UB003", "select * from ubp.refresh_features('-infinity')"),
        ("UB003", "select * from ubp.refresh_features('294276-12-31')"),
        ("UB003", "select * from ubp.refresh_features('0001-01-01')"),
        ("UB005", "select * from ubp.refresh_features('2000-01-01')"),
        ("UB005", "select * from ubp.refresh_features(now(), 'no such set')"),
        ("UB005", "select * from ubp.refresh_features(now(), null)"),
        ("UB003", "select * from ubp.features(1, null)"),
        ("UB003", "select * from ubp.features(1, 'infinity')"),
        ("UB003", "select ubp.define_feature_set('default', array['view'])"),
        ("UB003", "select ubp.define_feature_set('Upper', array['view'])"),
        ("UB003", "select ubp.define_feature_set(null, array['view'])"),
        ("UB003", "select ubp.define_feature_set(repeat('a', 50), array['view'])"),
        ("UB003", "select ubp.define_feature_set('x', array['view', null])"),
        ("UB003", "select ubp.define_feature_set('x', array['view'], array[0])"),
        ("UB003", "select ubp.define_feature_set('x', array['view'], array[7, null])"),
        ("UB003", "select ubp.define_feature_set('x', array['view'], time_zone => 'Mars/Base')"),
        ("UB003", "select ubp.define_feature_set('x', array[]::text[])"),
        ("UB003", "select ubp.define_feature_set('x', array['a b', 'a-b'])"),
    ],
)
def test_bad_arguments(odd: Connection, sqlstate: str, query: str) -> None:
    before = odd.execute("select count(*), max(as_of) from ubp.feature_sets").fetchone()
    refused(odd, sqlstate, query)
    assert odd.execute("select count(*), max(as_of) from ubp.feature_sets").fetchone() == before


def test_longest_names_of_sets_keep_their_own_views(odd: Connection) -> None:
    with odd.transaction(force_rollback=True):
        for last in "ab":
            odd.execute("select ubp.define_feature_set(repeat('s', 48) || %s, array['view'], array[7])", [last])
        views = odd.execute("select count(*) from pg_views where viewname like 'user\\_features\\_ssss%%'").fetchone()
        assert views == (2,)


def test_without_events_and_without_a_set(db: Database) -> None:
    with db.connect() as conn:
        refused(conn, "UB005", "select * from ubp.refresh_features()")
        refused(conn, "UB005", "select * from ubp.features(1)")
        refused(conn, "UB005", "select * from ubp.features(1, now())")
        refused(conn, "UB005", "select ubp.define_feature_set('default')")


def test_the_catalogue_says_everything(db: Database) -> None:
    db.execute("select ubp.define_feature_set('default', array['purchase'])")
    rows = db.rows("select * from ubp.feature_catalogue order by position")
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
    columns = ("feature", "family", "kind", "unit", "meaning", "null_rule", "sql_type")
    for column in (*columns, "time_window", "edge_rule", "cost", "spec", "sql_oracle"):
        assert all(row[column] for row in rows), column
    assert len({row["feature"] for row in rows}) == len(rows)
    assert max(len(row["feature"].encode()) for row in rows) <= 63
    windowed = [row for row in rows if row["window_days"] is not None]
    assert len(windowed) >= 40
    assert {7, 30, 90, 180} <= {row["window_days"] for row in windowed}
    once = {"tenure", "recency", "gap_last", "overdue"}
    for family in {row["family"] for row in rows} - once:
        assert len({row["window_days"] for row in rows if row["family"] == family}) >= 3, family


@pytest.mark.parametrize(
    ("counts", "kinds"),
    [
        ({"view": 300, "cart": 30, "purchase": 3, "noise": 1}, ["purchase", "view", "cart"]),
        ({"b": 10, "a": 10, "c": 20}, ["c", "a", "b"]),
    ],
)
def test_kinds_that_are_found(db: Database, counts: dict[str, int], kinds: list[str]) -> None:
    """Purchase first, else the most frequent; what is under half a per cent is left out."""
    day = datetime(2024, 1, 1, tzinfo=UTC)
    with db.connect() as conn:
        insert(conn, [Event(1, day + timedelta(minutes=m), kind) for kind, n in counts.items() for m in range(n)])
        refresh(conn, datetime(2024, 2, 1, tzinfo=UTC))
        found = conn.execute("select definition->'kinds' from ubp.feature_sets where name = 'default'").fetchone()
        assert found == (kinds,)


def test_plain_inserts_are_known_from_now_on(db: Database) -> None:
    with db.connect() as conn:
        row = conn.execute(
            "insert into ubp.events (user_id, event_time, kind) values (3, '2024-01-01 00:00+00', 'view')"
            " returning source, tenant, ingested_at <= now() and ingested_at > now() - interval '1 minute'"
        ).fetchone()
        assert row == (0, 0, True)
        conn.execute("select ubp.define_feature_set('default', array['view'], array[7])")
        refused(conn, "UB005", "select * from ubp.refresh_features('2024-02-01')")  # learnt of it only today
        refresh(conn, datetime.now(UTC) + timedelta(minutes=1))
        assert list(packed_rows(conn)) == [3]


def test_training_row_is_stored_row_is_live_row(shop: Database) -> None:
    earlier = AS_OF - timedelta(days=47)
    names = feature_names(shop)
    with shop.connect() as conn:
        past, present = fetch(conn, "purchase", [earlier, AS_OF])
        assert (past.matured, present.matured) == (True, False)
        stored = packed_rows(conn)
        assert len(present.user_ids) > 500
        buys = names.index("count_purchase_all")
        assert set(present.user_ids.tolist()) == {user for user, row in stored.items() if row[buys] >= 1}
        assert all(
            same_bits(row, stored[int(user)]) for user, row in zip(present.user_ids, present.features, strict=True)
        )
        for k in range(0, len(past.user_ids), len(past.user_ids) // 12):
            query = "select value from ubp.features(%s::bigint, %s)"
            found = conn.execute(query, [int(past.user_ids[k]), earlier], binary=True).fetchall()
            live = np.array([np.nan if value is None else value for (value,) in found], np.float32)
            assert same_bits(live, past.features[k])


def test_no_row_sees_its_future(shop_copy: Database) -> None:
    cut = AS_OF - timedelta(days=60)
    with shop_copy.connect() as conn:
        (before,) = fetch(conn, "purchase", [cut])
        assert before.labels.any()
        conn.execute(  # known only after the cut, though it happened before
            """insert into ubp.events (user_id, event_time, kind, value, ingested_at)
               select user_id, event_time, kind, 1000, %s from ubp.events where event_time < %s limit 500""",
            [cut + timedelta(seconds=1), cut],
        )
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind) values (1, %s, 'purchase')", [cut - timedelta(1)]
        )
        (late,) = fetch(conn, "purchase", [cut])
        assert np.array_equal(before.user_ids, late.user_ids)
        assert same_bits(before.features, late.features)
        conn.execute("delete from ubp.events where event_time >= %s or ingested_at > %s", [cut, cut])
        (blind,) = fetch(conn, "purchase", [cut])
    assert np.array_equal(before.user_ids, blind.user_ids)
    assert same_bits(before.features, blind.features)
    assert not blind.labels.any()
    assert not blind.matured


def test_the_first_set_takes_the_zone_of_the_source_with_most_events(db: Database) -> None:
    db.execute("insert into ubp.sources (name, time_zone) values ('shop', 'America/New_York')")
    db.execute("""
        insert into ubp.events (user_id, event_time, kind, source, ingested_at)
        select 1, t, 'purchase', (select source_id from ubp.sources where name = 'shop'), t
          from (values (timestamptz '2025-07-03 04:30+00'), ('2025-06-26 05:00+00')) v(t)""")
    # Thursday in New York, Friday in UTC; both purchases were on Thursdays there
    db.execute("select * from ubp.refresh_features('2025-07-11 02:00+00')")
    assert db.one("select time_zone from ubp.feature_sets") == "America/New_York"
    assert db.one("select same_weekday_share_purchase_30d from ubp.user_features") == 1


def test_an_unusable_kind_does_not_keep_everybody_from_features(db: Database) -> None:
    db.execute(
        """
        insert into ubp.events (user_id, event_time, kind, ingested_at)
        select n, '2025-01-01', (array['purchase', 'user', 'Add to cart', 'add_to_cart'])[1 + n %% 4], '2025-01-01'
          from generate_series(1, 40) n""".replace("%%", "%")
    )
    with db.connect() as conn:
        notices: list[str] = []
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        conn.execute("select * from ubp.refresh_features('2025-02-01')")
    assert len(notices) == 2
    assert all("left out" in notice for notice in notices)
    kinds = db.one("select definition -> 'kinds' from ubp.feature_sets")
    assert kinds[0] == "purchase"
    assert len(kinds) == 2


def test_the_lowest_and_highest_user_ids_are_refreshed(db: Database) -> None:
    db.execute("""
        insert into ubp.events (user_id, event_time, kind, ingested_at)
        select id, '2025-01-01', 'purchase', '2025-01-01'
          from unnest(array[-9223372036854775808, 0, 9223372036854775807]::bigint[]) id""")
    db.execute("select * from ubp.refresh_features('2025-02-01')")
    assert db.one("select count(*) from ubp.user_features") == 3


def test_a_moment_in_the_future_is_said_to_be_one(db: Database) -> None:
    db.execute("insert into ubp.events (user_id, event_time, kind) values (1, now() - interval '1 hour', 'purchase')")
    with db.connect() as conn:
        notices: list[str] = []
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
        conn.execute("select * from ubp.refresh_features()")
        assert notices == []
        conn.execute("select * from ubp.refresh_features('2299-01-01')")
    assert len(notices) == 1
    assert "future" in notices[0]
