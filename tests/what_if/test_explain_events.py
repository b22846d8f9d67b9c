"""The events behind a feature: they alone make the feature what it is, and what each gives adds up to it."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.api.helpers import Connection, feature_names, refused, register, tiny_model
from tests.features.spec_cases import AS_OF, COLUMNS, ZONES, cases, log
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.standing import FAMILIES

INSERT = """
insert into ubp.events
  (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
EVENTS = """
select event_id, event_time, kind, item_id, value, quantity, duration_s, attributes::text, ingested_at, source, role,
       key, gives
  from ubp.explain_events('purchase', %s::bigint, %s, 100000)"""
HOLIDAYS = """
insert into ubp.calendar (day, name) select d, 'holiday'
  from generate_series(date '2023-11-01', '2024-04-01', interval '3 days') d"""
USERS = (1, 2, 3, 5, 8)
Row = tuple[Any, ...]
Rows = Sequence[Row]
ROLE, KEY, GIVES = 10, 11, 12


@pytest.fixture(scope="module")
def logged(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A log with all that a log can have, a set of every aggregate and the standard one, a model of both."""
    made = create(cluster, installed)
    with made.connect() as conn:
        for source, zone in ZONES.items():
            conn.execute(
                "insert into ubp.sources (source_id, name, time_zone) values (%s, %s, %s) on conflict do nothing",
                [source, f"source {source}", zone],
            )
        for column in COLUMNS:
            conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
        conn.cursor().executemany(INSERT, log())
        conn.execute(HOLIDAYS)
        conn.execute("select ubp.define_feature_set('default', array['view', 'it''s 100%'], array[7, 30, 90])")
        conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(cases())])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.define_task('purchase', 'view')")
        register(conn, "purchase", tiny_model(feature_names(made)))
        conn.execute("select ubp.deploy_model('purchase', 1)")
    yield made
    drop(made)


@pytest.fixture(scope="module")
def explained(logged: Database) -> dict[tuple[str, int], list[Row]]:
    """By feature and user the rows, asked once for all tests."""
    names = feature_names(logged)
    with logged.connect() as conn:
        return {
            (name, user): conn.execute(EVENTS, [user, name], binary=True).fetchall() for name in names for user in USERS
        }


def stored(conn: Connection) -> dict[int, list[float | None]]:
    return dict(conn.execute("select user_id, features from ubp.feature_rows", binary=True).fetchall())


COPY = """
copy ubp.events (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
from stdin"""
PLACED = """
select (ubp.feature_vector(q.u, %s))[q.place]
  from unnest(%s::int[], %s::int[]) with ordinality q (u, place, n) order by q.n"""


def test_these_events_alone_make_the_feature(logged: Database, explained: dict[tuple[str, int], list[Row]]) -> None:
    """Each answer's events become those of a new user, who then has the same feature to the bit."""
    names = feature_names(logged)
    of_all = [name for name in names if name.startswith(("percentile", "item_popularity"))]
    asked = [(number, *key) for number, key in enumerate(explained, 1_000) if key[0] not in of_all]
    places = [names.index(name) + 1 for _, name, _ in asked]
    with logged.connect() as conn:
        before = stored(conn)
        conn.execute("begin")
        with conn.cursor().copy(COPY) as copy:
            for number, *key in asked:
                for row in sorted(explained[tuple(key)]):  # ties go by the id, which is given in this order
                    copy.write_row((number, *row[1:10]))
        arguments = [AS_OF, [number for number, *_ in asked], places]
        found = conn.execute(PLACED, arguments, binary=True).fetchall()
        conn.execute("rollback")
    wrong = []
    for (_, name, user), (value,), place in zip(asked, found, places, strict=True):
        want = before[user][place - 1]
        if not same(value, want) and not (value is None and want == 0):  # who has no event has no row
            wrong.append((name, user, want, value))
    assert wrong == []


def same(one: float | None, other: float | None) -> bool:
    """Equal as features are: NULL and NaN are both no value."""
    return (one != one or one is None) if other is None or other != other else one == other
