"""Features on columns of the item: stored, live and training rows are equal, and equal to plain SQL."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.fix_database import Database
from tests.items.helpers import COLUMNS, happen, happenings, say, statements
from tests.live.helpers import NO_LIBRARY
from tests.mirror.helpers import Log

BOTH = ["view", "purchase"]
SPECS: list[dict[str, Any]] = [
    {"name": "mean_price", "aggregate": "mean", "kinds": ["view"], "of": "price", "window": "30m"},
    {"name": "max_price", "aggregate": "max", "kinds": BOTH, "of": "price"},
    {"name": "last_price", "aggregate": "last", "kinds": BOTH, "of": "price"},
    {"name": "last_prices", "aggregate": "last_values", "kinds": BOTH, "of": "price", "settings": {"k": 2}},
    {"name": "bands", "aggregate": "bands", "kinds": BOTH, "of": "price", "settings": {"edges": [3, 10]}},
    {"name": "per_category", "aggregate": "sum_per", "kinds": BOTH, "of": "price", "settings": {"per": "category"}},
    {"name": "faded", "aggregate": "decayed_sum", "kinds": BOTH, "of": "price", "settings": {"half_life": "20m"}},
    {"name": "categories", "aggregate": "distinct", "kinds": BOTH, "of": "category", "window": "4 x 20m"},
    {"name": "spread", "aggregate": "entropy", "kinds": BOTH, "of": "category"},
    {"name": "favourite", "aggregate": "top_share", "kinds": BOTH, "of": "category"},
    {"name": "last_category", "aggregate": "last_key", "kinds": BOTH, "of": "category"},
    {"name": "tops", "aggregate": "top_keys", "kinds": BOTH, "of": "category", "settings": {"k": 2}},
    {"name": "in_a", "aggregate": "share", "kinds": BOTH, "where": {"category": "a"}},
    {"name": "dear", "aggregate": "count", "kinds": BOTH, "where": {"price": {"min": 5, "below": 20}}},
    {"name": "seven", "aggregate": "count", "kinds": BOTH, "where": {"category": "7"}},
    {"name": "tagged", "aggregate": "words", "kinds": BOTH, "of": "tags", "settings": {"buckets": 3}},
]
AS_OF, BEFORE = "2024-01-10 01:10+00", "2024-01-10 00:31+00"
USERS = range(9)


def prepare(log: Log, seed: int = 5) -> None:
    random = Random(seed)
    for column in COLUMNS:
        log.run("select ubp.define_event_column(%s, %s, %s, 'item')", *column)
    say(log, statements(random, 150))
    happen(log, [event for event in happenings(random, 250) if event.ingested > -1])
    log.run("select ubp.define_features(%s::jsonb)", json.dumps(SPECS))


@pytest.fixture
def shop(db: Database) -> Iterator[Log]:
    with db.connect() as conn:
        log = Log(db, conn)
        prepare(log)
        yield log


def test_every_feature_equals_its_sql(shop: Log) -> None:
    shop.run("select * from ubp.refresh_features(%s)", AS_OF)
    stored = dict(shop.conn.execute("select user_id, features from ubp.feature_rows", binary=True).fetchall())
    assert len(stored) == 8
    seen = set()
    for place, (name, sql) in enumerate(
        shop.rows("select feature, sql_oracle from ubp.feature_catalogue order by position")
    ):
        found = dict(shop.rows(sql))
        assert found.keys() == stored.keys()
        for user, row in stored.items():
            want = np.nan if found[user] is None else found[user]
            assert np.isclose(row[place], want, rtol=2e-5, atol=1e-6, equal_nan=True), (name, user)
            if found[user]:
                seen.add(name)
    assert len(seen) >= len(SPECS)


def vectors(log: Log, moment: str, users: "range | list[int]" = USERS) -> dict[int, Any]:
    query = "select u, ubp.feature_vector(u, %s) from unnest(%s::bigint[]) u"
    return dict(log.conn.execute(query.encode(), [moment, list(users)], binary=True).fetchall())


CHANGES = [
    "insert into ubp.item_attributes select n, 'unit price', 3.25, null, '-infinity', '2024-01-10 00:20+00'"
    " from generate_series(0, 3) n on conflict do nothing",
    "update ubp.item_attributes set text = 'b', value = null where name = 'it''s' and item_id = 2",
    "delete from ubp.item_attributes where item_id = 3",
    "insert into ubp.item_attributes (item_id, name, text) values (1, 'it''s', 'today')",
]


@pytest.mark.parametrize("library", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_stored_live_and_training_rows_are_equal(shop: Log, library: bool) -> None:
    """Before a fold and after it, with the mirror and without, after each change of what is said of items."""
    if not library:
        shop.run(NO_LIBRARY)
    shop.run("select * from ubp.refresh_features(%s)", AS_OF)
    before = vectors(shop, AS_OF)
    for change in CHANGES:
        shop.run(change)
        live = vectors(shop, AS_OF)
        assert (live == before) == ("today" in change)
        before = live
        [(stale, pending)] = shop.rows(
            "select (select users from ubp.parity_check(100) where what = 'differing'),"
            " (select users from ubp.parity_check(100) where what = 'pending')"
        )
        assert stale == 0
        assert (pending == 0) == ("today" in change)
        recomputed = shop.one("select recomputed from ubp.refresh_features(%s)", AS_OF)
        assert (recomputed == 0) == ("today" in change)
        assert vectors(shop, AS_OF) == live
        assert shop.one("select users from ubp.parity_check(100) where what = 'equal'") == 8
        shop.equal()
    shop.run("select ubp.drop_mirror()")
    assert vectors(shop, AS_OF) == before
    assert shop.one("select users from ubp.parity_check(100) where what = 'equal'") == 8


NOW = "insert into ubp.item_attributes select n, 'unit price', 8, null, '-infinity' from generate_series(0, 4) n"


def test_a_moment_of_the_past_knows_what_was_known_then(shop: Log) -> None:
    """A training row of then is the live row of then; what is said later, even of then, changes neither."""
    shop.run("select * from ubp.refresh_features(%s)", AS_OF)
    live = vectors(shop, BEFORE)
    assert len({str(row) for row in live.values()}) > 5
    shop.run(
        "insert into ubp.item_attributes select n, 'unit price', 8, null, '-infinity' from generate_series(0, 4) n"
    )
    assert vectors(shop, BEFORE) == live
    shop.run("select * from ubp.refresh_features(%s)", AS_OF)
    assert vectors(shop, BEFORE) == live


def test_a_session_that_knows_the_set_hears_of_items(shop: Log) -> None:
    """Another session's statement, pending, folded, and rolled back."""
    shop.run("select * from ubp.refresh_features(%s)", AS_OF)
    first = vectors(shop, AS_OF, [1, 2])
    with shop.db.connect() as other:
        other.execute("begin")
        other.execute("update ubp.item_attributes set value = 99, text = null where name = 'unit price'")
        assert vectors(shop, AS_OF, [1, 2]) == first
        other.execute("commit")
        pending = vectors(shop, AS_OF, [1, 2])
        assert pending != first
        other.execute("select ubp.build_mirror()")
        assert vectors(shop, AS_OF, [1, 2]) == pending
        other.execute("begin")
        other.execute("delete from ubp.item_attributes")
        other.execute("rollback")
    assert vectors(shop, AS_OF, [1, 2]) == pending


FORMS = {
    "1, 'price', 12": (1, 12.0, None),
    "1, 'price', 12.5": (1, 12.5, None),
    "1::bigint, 'price', '12.50'::text": (1, 12.5, "12.50"),
    "1, 'category', 'shoes'": (1, None, "shoes"),
    "'A-1'::text, 'category', 'shoes'::text": (4_000_000_000_000_000, None, "shoes"),
    "'A-1'::text, 'price', 2::float8, '2024-01-01'": (4_000_000_000_000_000, 2.0, None),
    "'17.0'::text, 'price', 2::float8": (17, 2.0, None),
    "1, 'price', 2, valid_from => '-infinity'": (1, 2.0, None),
}


def test_set_item_attribute(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("insert into ubp.items (item_key) values ('A-1')")
        conn.execute("set role ubp_loader")
        for call, row in FORMS.items():
            conn.execute(f"select ubp.set_item_attribute({call})".encode())
            found = conn.execute(
                "select item_id, value, text from ubp.item_attributes order by ingested_at desc limit 1"
            )
            assert found.fetchone() == row
        for call in (
            "null::bigint, 'age', 1",
            "'nobody'::text, 'age', 1",
            "1, 'Age', 1",
            "1, null, 1",
            "1, 'age', null::float8",
            "1, 'age', 'NaN'::float8",
            "1, 'age', repeat('x', 3000)",
            "1, 'age', 1, null",
        ):
            with pytest.raises(psycopg.Error) as error:
                conn.execute(f"select ubp.set_item_attribute({call})".encode())
            assert error.value.sqlstate == "UB003", call


@pytest.mark.parametrize(
    ("role", "may"), [("ubp_loader", True), ("ubp_admin", True), ("ubp_auditor", False), ("ubp_analyst", False)]
)
def test_who_may_say(db: Database, role: str, may: bool) -> None:
    with db.connect() as conn:
        conn.execute(f"set role {role}".encode())
        for query in (
            "insert into ubp.item_attributes (item_id, name, value) values (1, 'x', 1)",
            "select ubp.set_item_attribute(2, 'x', 1)",
        ):
            if may:
                conn.execute(query.encode())
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(query.encode())
        if may:
            with conn.cursor().copy("copy ubp.item_attributes (item_id, name, text) from stdin") as copy:
                copy.write_row((3, "x", "y"))
            assert db.one("select count(*) from ubp.event_log where op = 'A'") == 3
        for query in ("update ubp.item_attributes set value = 2", "delete from ubp.item_attributes"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(query.encode())
