"""Features in SQL against the first tier's, to the bit: every aggregate that has a form, and the standard set."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.helpers import F32, Connection, add_sources, packed_rows, register, tiny_model
from tests.features.spec_cases import AS_OF, COLUMNS, KINDS, ZONES, cases, log
from tests.features.test_sql_oracle import HOLIDAYS
from tests.fix_database import Database, create, drop
from tests.live.helpers import insert
from tests.sql_tier.helpers import move, owner, stored
from ubp_sql.embedded import Cluster

STANDING = ("percentile", "item_popularity")
NAMES = "select feature from ubp.feature_catalogue where feature_set = 'default' order by position"


def equal(one: F32, other: F32) -> bool:
    """The same bits, but that any NaN is as good as another."""
    return one.shape == other.shape and bool(
        ((one.view(np.uint32) == other.view(np.uint32)) | (np.isnan(one) & np.isnan(other))).all()
    )


def set_up(conn: Connection, specs: list[dict[str, Any]]) -> None:
    """Zones, columns, a set of these features and a model of it."""
    add_sources(conn, ZONES)
    for column in COLUMNS:
        conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
    conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(specs)])
    conn.execute("select ubp.define_task('buy', %s)", [KINDS[0]])
    names = [name for (name,) in conn.execute(NAMES).fetchall()]
    register(conn, "buy", tiny_model(names))
    conn.execute("select ubp.deploy_model('buy')")


@pytest.fixture(scope="module")
def full(cluster: Cluster, installed: str) -> Iterator[Database]:
    """The first tier, with every feature that has a form in SQL."""
    made = create(cluster, installed)
    counted = {"name": "views_so_far", "aggregate": "count", "kinds": [KINDS[0]]}
    with made.connect() as conn:
        insert(conn, log(users=18))
        conn.execute(HOLIDAYS)
        set_up(conn, [counted, *(spec for spec in cases() if spec["aggregate"] not in STANDING)])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    yield made
    drop(made)


@pytest.fixture(scope="module")
def second(full: Database, shared_tier: Database) -> Database:
    """The second tier of `full`, refreshed at the same moment."""
    with full.connect() as conn, owner(shared_tier) as tier:
        move(conn, tier, "buy")
        tier.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    return shared_tier


def test_every_feature_is_the_kernels(full: Database, second: Database) -> None:
    with full.connect() as conn, owner(second) as tier:
        names = [name for (name,) in conn.execute(NAMES).fetchall()]
        ours, theirs = packed_rows(conn), stored(tier)
    assert len(names) > 550
    assert ours.keys() == theirs.keys()
    wrong = {
        (names[f], user)
        for user, row in ours.items()
        for f in np.flatnonzero(
            (row.view(np.uint32) != theirs[user].view(np.uint32)) & ~(np.isnan(row) & np.isnan(theirs[user]))
        )
    }
    assert wrong == set()
    values = np.array(list(theirs.values()))
    assert sum(len(np.unique(column[~np.isnan(column)])) > 1 for column in values.T) > 400, "features tell users apart"


@pytest.mark.parametrize("days", [-3, 0, 40.123456])
def test_a_user_at_a_moment(full: Database, second: Database, days: float) -> None:
    moment = AS_OF - timedelta(days=days)
    query = "select ubp.feature_vector(%s, %s)"
    with full.connect() as conn, owner(second) as tier:
        for user in (1, 2, 3, 17, 1_000):
            ours = conn.execute(query, [user, moment], binary=True).fetchone()
            theirs = tier.execute(query, [user, moment], binary=True).fetchone()
            assert ours is not None
            assert theirs is not None
            assert (ours[0] is None) == (theirs[0] is None), user
            if ours[0] is not None:
                assert equal(np.array(ours[0], np.float32), np.array(theirs[0], np.float32)), user


def test_features_for_people(full: Database, second: Database) -> None:
    """Values, units and meanings, stored and at a moment, by id and by key."""
    with full.connect() as conn, owner(second) as tier:
        for arguments in ("7", "'7'", "7, '2024-03-01 12:00+00'", "'7'::text, '2024-03-01 12:00+00'::timestamptz"):
            query = f"select * from ubp.features({arguments})".encode()
            found = tier.execute(query).fetchall()
            assert found == conn.execute(query).fetchall()
            assert len(found) > 550
        assert tier.execute("select * from ubp.features(-5)").fetchall() == []
        columns = (
            "feature_set, position, feature, family, kind, unit, meaning, null_rule, sql_type, time_window, edge_rule"
        )
        query = f"select {columns} from ubp.feature_catalogue order by position".encode()
        assert tier.execute(query).fetchall() == conn.execute(query).fetchall()


@pytest.fixture(scope="module")
def standard(cluster: Cluster, installed: str) -> Iterator[tuple[Connection, Connection]]:
    """Both tiers without an event, of the standard set and some more."""
    from tests.sql_tier.helpers import bare

    one, other = create(cluster, installed), bare(cluster)
    more: list[dict[str, Any]] = [
        {"name": "deviation", "aggregate": "std", "kinds": ["view", "cart"], "window": "30d"},
        {"name": "buckets", "aggregate": "std", "kinds": ["view"], "window": "3 x 5d"},
        {"name": "decayed", "aggregate": "decayed_sum", "kinds": ["view"], "settings": {"half_life": "30h"}},
        {"name": "mix", "aggregate": "entropy", "kinds": ["view", "cart"], "window": "60d"},
        {"name": "funnel", "aggregate": "funnel_rate", "settings": {"steps": ["view", "cart", "view"], "bound": "9d"}},
        {"name": "stays", "aggregate": "dwell_mean", "kinds": ["view"], "settings": {"timeout": "2d"}},
        {"name": "bounces", "aggregate": "bounce_share", "kinds": ["view"], "settings": {"timeout": "1d"}},
    ]
    with one.connect() as conn, owner(other) as tier:
        conn.execute("select ubp.define_feature_set('default', array['view', 'cart'], array[7, 30, 90])")
        set_up(conn, more)
        move(conn, tier, "buy")
        yield conn, tier
    drop(one)
    drop(other)


NOW = datetime(2026, 3, 29, 1, tzinfo=UTC)
EDGES = [
    timedelta(0),
    *(timedelta(days=d) for d in (7, 30, 90)),
    timedelta(microseconds=1),
    timedelta(days=7, microseconds=1),
]
AGES = st.one_of(
    st.sampled_from(EDGES),
    st.timedeltas(timedelta(days=-1), timedelta(days=120)),
    st.integers(0, 40).map(lambda hours: timedelta(hours=6 * hours)),  # ties
)
SIZES = st.floats(1e-100, 1e100) | st.sampled_from([0.0, 1.0, 19.99, 0.1, 1e16, float("inf"), float("nan")])
VALUES = st.none() | st.floats(-1e6, 1e6, width=32) | SIZES | SIZES.map(lambda x: -x)
EVENTS = st.lists(
    st.tuples(
        st.integers(1, 3),
        AGES,
        st.sampled_from(["view", "view", "cart", "other"]),
        st.none() | st.integers(1, 3),
        VALUES,
        st.none() | st.sampled_from(["a", "b", ""]),
        st.sampled_from([timedelta(0)] * 4 + [timedelta(days=2), timedelta(days=20)]),
        st.sampled_from(list(ZONES)),
    ),
    max_size=25,
)
PUT = """
insert into ubp.events (event_id, user_id, event_time, kind, item_id, value, attributes, ingested_at, source)
overriding system value values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(EVENTS)
# Known at the very moment; and sums that only one order of additions makes, within a ring and over two.
@example([(1, timedelta(days=2), "view", 1, 5.0, None, timedelta(days=2), 0)])
@example([(1, timedelta(days=d), "view", 1, x, "a", timedelta(0), 0) for d, x in ((1, 1.0), (2, 1e16), (3, -1e16))])
@example([(1, timedelta(days=d), "view", 1, x, None, timedelta(0), 0) for d, x in ((1, 1.0), (8, 1e16), (9, -1e16))])
def test_any_events(standard: tuple[Connection, Connection], events: list[tuple[Any, ...]]) -> None:
    rows = []
    for n, (user, age, kind, item, value, order, late, source) in enumerate(events):
        attributes = None if order is None else json.dumps({"order_id": order})
        rows.append((n, user, NOW - age, kind, item, value, attributes, NOW - age + late, source))
    found = []
    for conn in standard:
        conn.execute("begin")
        conn.cursor().executemany(PUT, rows)
        query = "select u, ubp.feature_vector(u, %s) from generate_series(1::bigint, 3) u"
        found.append(conn.execute(query, [NOW], binary=True).fetchall())
        conn.execute("rollback")
    for (user, ours), (_, theirs) in zip(*found, strict=True):
        assert (ours is None) == (theirs is None), user
        if ours is not None:
            assert equal(np.array(ours, np.float32), np.array(theirs, np.float32)), user


def test_absurd_sizes_stop_nobody(standard: tuple[Connection, Connection]) -> None:
    """Beyond 1e140 and below 1e-120 sizes are held: the rows of all others are right, and there is one for him."""
    _, tier = standard
    tier.execute("begin")
    sizes = [1e308, 1e308, -1e308, 5e-324, 1e-200, 3.0]
    tier.cursor().executemany(
        PUT, [(n, 1 + n // 5, NOW - timedelta(days=n + 1), "view", 1, x, None, NOW, 0) for n, x in enumerate(sizes)]
    )
    tier.execute("select * from ubp.refresh_features(%s)", [NOW])
    rows = stored(tier)
    names = [name for (name,) in tier.execute(NAMES).fetchall()]
    tier.execute("rollback")
    assert rows.keys() == {1, 2}
    assert rows[2][names.index("sum_value_view_all")] == 3.0
    assert rows[1][names.index("sum_value_view_all")] == np.finfo(np.float32).max
