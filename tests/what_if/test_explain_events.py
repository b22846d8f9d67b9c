"""The events behind a feature: they alone make the feature what it is, and what each gives adds up to it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, feature_names
from tests.features.spec_cases import AS_OF
from tests.fix_database import Database
from tests.what_if.gives import COPY, EVENTS, GIVES, KEY, MADE, NO_NUMBER, TIME, Row, agree, same, value
from tests.what_if.helpers import VECTOR, events, inserted

FAMILIES = "select feature, family, (row_number() over (order by position))::int - 1 from ubp.feature_catalogue"
USERS = (2, 3, 5, 20)


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


def test_these_events_alone_make_the_feature(logged: Database, explained: dict[tuple[str, int], list[Row]]) -> None:
    """Each answer's events become those of a new user, who then has the same feature to the bit."""
    asked = {1_000 + number: key for number, key in enumerate(explained)}
    places = {name: place for place, name in enumerate(feature_names(logged))}
    with logged.connect() as conn:
        before = stored(conn)
        conn.execute("begin")
        with conn.cursor().copy(COPY) as copy:
            for number, key in asked.items():
                for row in sorted(explained[key], key=lambda row: row[0]):  # ties go by the id, given in this order
                    copy.write_row((number, *row[1:10]))
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        after = stored(conn)
        conn.execute("rollback")
    wrong = []
    for number, (name, user) in asked.items():
        want = before[user][places[name]]
        value = after[number][places[name]] if number in after else None
        if name.startswith("percentile") or same(value, want) or (number not in after and not want):
            continue  # a percentile is among others now, and who has no event has no row
        wrong.append((name, user, want, value))
    assert wrong == []
    assert len(after) > 700, "most features have events"


def test_what_events_give_makes_the_value(logged: Database, explained: dict[tuple[str, int], list[Row]]) -> None:
    with logged.connect() as conn:
        before, catalogue = stored(conn), conn.execute(FAMILIES).fetchall()
    wrong, seen = [], set()
    for name, family, place in catalogue:
        if family in NO_NUMBER:
            continue
        for user in USERS:
            found, want = value(name, family, explained[name, user]), before[user][place]
            if not agree(found, want):
                wrong.append((name, user, want, found))
            seen |= {family} if found else set()
    assert wrong == []
    assert seen == set(MADE), "every aggregate has a value for somebody"


def test_the_events_of_the_key_of_a_rank(explained: dict[tuple[str, int], list[Row]]) -> None:
    for user in USERS:
        for rank in (1, 2, 3):
            rows = explained[f"top_keys_2_{rank}", user]
            counts = Counter(row[KEY] for row in rows)
            newest = {row[KEY]: row[TIME] for row in reversed(rows)}
            ranked = sorted(counts, key=lambda key: (-counts[key], -newest[key].timestamp()))
            mine = {row[KEY] for row in rows if row[GIVES] == 1}
            assert mine == set(ranked[rank - 1 : rank])


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(made=st.lists(events, max_size=9), places=st.sets(st.integers(0, 500), min_size=1, max_size=8))
def test_of_any_events(kept: Connection, names: list[str], made: list[Any], places: set[int]) -> None:
    """The same of events that nobody wrote down, asked of the live row."""
    families = {name: family for name, family, _ in kept.execute(FAMILIES).fetchall()}
    with kept.transaction(force_rollback=True):
        inserted(kept, 555, made, AS_OF)
        vector = live(kept, 555, names)
        for place in sorted(places):
            name = names[place % len(names)]
            rows = kept.execute(EVENTS, [555, name], binary=True).fetchall()
            alone = 1_000 + place
            with kept.cursor().copy(COPY) as copy:
                for row in sorted(rows, key=lambda row: row[0]):
                    copy.write_row((alone, *row[1:10]))
            if families[name] != "percentile":
                assert same(live(kept, alone, names).get(name), vector.get(name)) or not (rows or vector.get(name)), (
                    name
                )
            if families[name] not in NO_NUMBER:
                assert agree(value(name, families[name], rows), vector.get(name)) or not vector, name


def live(conn: Connection, user: int, names: list[str]) -> dict[str, float | None]:
    row = conn.execute(VECTOR, [user, AS_OF], binary=True).fetchone()
    return dict(zip(names, row[0], strict=True)) if row and row[0] else {}
