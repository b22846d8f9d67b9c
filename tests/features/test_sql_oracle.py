"""Every feature's SQL against the kernel, through the database, on a log with zones, ties and late arrivals."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.api.helpers import add_sources
from tests.features.spec_cases import AS_OF, COLUMNS, ZONES, cases, log
from tests.fix_database import Database, create, drop
from tests.live.helpers import insert
from ubp_sql.embedded import Cluster
from ubp_sql.features.columns import quoted
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.hashing import text_key
from ubp_sql.features.sql import OF_SET, oracle

F32_MAX = float(np.finfo(np.float32).max)
HOLIDAYS = """
insert into ubp.calendar (day, name, region)
select d, 'holiday', (array['', 'Europe/Berlin', 'Asia/Tokyo'])[1 + extract(day from d)::integer % 3]
  from generate_series(date '2023-11-01', '2024-04-01', interval '3 days') d"""


@pytest.fixture(scope="module")
def logged(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A database with the log and the set of all cases, refreshed."""
    made = create(cluster, installed)
    with made.connect() as conn:
        add_sources(conn, ZONES)
        for column in COLUMNS:
            conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
        insert(conn, log())
        conn.execute(HOLIDAYS)
        conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(cases())])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    yield made
    drop(made)


def test_every_feature_equals_its_sql(logged: Database) -> None:
    wrong, seen = [], 0
    with logged.connect() as conn:
        stored = dict(conn.execute("select user_id, features from ubp.feature_rows", binary=True).fetchall())
        query = "select feature, sql_oracle from ubp.feature_catalogue order by position"
        for place, (name, sql) in enumerate(conn.execute(query).fetchall()):
            found = dict(conn.execute(sql.encode()).fetchall())
            assert found.keys() == stored.keys()
            seen += any(found.values())
            for user, row in stored.items():
                value = found[user]
                want = np.nan if value is None else min(max(value, -F32_MAX), F32_MAX)
                if not np.isclose(row[place], np.float32(want), rtol=2e-5, atol=1e-6, equal_nan=True):
                    wrong.append((name, user, row[place], value))
    assert wrong == []
    assert seen > 500, "most features have a value for somebody"


def test_the_view_equals_the_rows(logged: Database) -> None:
    """To the bit, also what ages, at the moment of the rows."""
    with logged.connect() as conn:
        stored = dict(conn.execute("select user_id, features from ubp.feature_rows", binary=True).fetchall())
        for user, _, *shown in conn.execute("select * from ubp.user_features", binary=True):
            values = np.array([np.nan if value is None else value for value in shown], np.float32)
            row = np.array(stored[user], np.float32)
            assert np.array_equal(np.isnan(values), np.isnan(row))
            assert np.array_equal(values[~np.isnan(row)].view(np.uint32), row[~np.isnan(row)].view(np.uint32))


@pytest.mark.parametrize("kinds", [("purchase", "cancel"), ("it's 100%", "ünï \\ x", "x {0}")])
def test_every_feature_of_a_standard_set_has_a_query(kinds: tuple[str, ...]) -> None:
    definition = FeatureSetDefinition(kinds)
    for feature in definition.features:
        query = oracle(definition, feature, OF_SET.format(name=quoted("default")))
        assert all(quoted(kind) in query for kind in kinds)


def test_the_hash_of_a_text_is_the_servers(db: Database) -> None:
    texts = ["", "a", "abc", "abcdefgh", "abcdefghijk", "abcdefghijkl", "x" * 37, "ünïcode ☕", "it's 100%"]
    for text in texts:
        assert text_key(text) == db.one("select hashtextextended(%s, 0)", text), text
