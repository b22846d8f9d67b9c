"""What the tests of the SQL interface share: errors as a client sees them, tiny models, a log of odd events."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from tests.fix_database import Database

Connection = psycopg.Connection[Any]
F32 = NDArray[np.float32]


def refused(conn: Connection, sqlstate: str, query: str, *arguments: object) -> psycopg.Error:
    """The error that `query` ends in: of that SQLSTATE, said by us in one line, with a way out."""
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(query.encode(), arguments or None)
    error = caught.value
    message = str(error.diag.message_primary)
    assert error.sqlstate == sqlstate, message
    assert message.startswith("ubp: "), message
    assert "\n" not in message
    return error


def packed_rows(conn: Connection, feature_set: str = "default") -> dict[int, F32]:
    """user_id to the stored row, as the scorer reads it."""
    query = """
        select r.user_id, substr(ubp.array_image(r.features), 21)
          from ubp.feature_rows r join ubp.feature_sets s using (feature_set_id) where s.name = %s"""
    found = conn.execute(query, [feature_set], binary=True).fetchall()
    return {user: np.frombuffer(packed, "<f4") for user, packed in found}


def same_bits(one: F32, other: F32) -> bool:
    return one.shape == other.shape and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def feature_names(db: Database, feature_set: str = "default") -> list[str]:
    query = "select feature from ubp.feature_catalogue where feature_set = %s order by position"
    return [row["feature"] for row in db.rows(query, feature_set)]


def tiny_model(names: Sequence[str], seed: int = 0, **settings: Any) -> lightgbm.Booster:
    """A model of a few small trees over random rows: what it says is of no use, that it says it is."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(2, 3, (300, len(names))).astype(np.float32)
    labels = (rows[:, seed % len(names)] + rng.normal(0, 1, 300) > 2).astype(int)
    chosen = {"objective": "binary", "num_leaves": 4, "verbosity": -1, "num_threads": 1, "seed": seed, **settings}
    return lightgbm.train(chosen, lightgbm.Dataset(rows, labels, feature_name=list(names)), num_boost_round=3)


def register(conn: Connection, task: str, model: lightgbm.Booster, metrics: Sequence[dict[str, Any]] = ()) -> int:
    arguments = [task, model.model_to_string().encode(), json.dumps(list(metrics))]
    row = conn.execute("select ubp.register_model(%s, %s, metrics => %s)", arguments).fetchone()
    assert row is not None
    return int(row[0])


ZONES = {0: "UTC", 10: "Europe/Berlin", 11: "America/New_York", 12: "Asia/Kolkata"}
ODD_KINDS = ("Wunsch zettel", 'it\'s "100%"', "ünïcode ☕", "x; drop table ubp.events --")
FIRST, LAST = datetime(2023, 10, 1, tzinfo=UTC), datetime(2024, 4, 20, tzinfo=UTC)
COLUMNS = "user_id, event_time, kind, item_id, value, attributes, ingested_at, source"


class Event(NamedTuple):
    user_id: int
    event_time: datetime
    kind: str
    item_id: int | None = None
    value: float | None = None
    attributes: str | None = None
    ingested_at: datetime | None = None
    source: int = 0


def insert(conn: Connection, events: Sequence[Event]) -> None:
    """Events as they are; one without `ingested_at` became known when it happened."""
    rows = [event._replace(ingested_at=event.ingested_at or event.event_time) for event in events]
    conn.cursor().executemany(f"insert into ubp.events ({COLUMNS}) values ({', '.join(['%s'] * 8)})", rows)


def add_sources(conn: Connection, zones: Mapping[int, str]) -> None:
    """Rows of ubp.sources whose clocks are those, by number."""
    for source, zone in zones.items():
        conn.execute(
            "insert into ubp.sources (source_id, name, time_zone) values (%s, %s, %s) on conflict do nothing",
            [source, f"source {source}", zone],
        )


def odd_events(seed: int = 5) -> list[Event]:
    """A dozen users whose events have what a log can have: orders, ties, late arrivals, NULL and NaN, four clocks."""
    random, events = Random(seed), []
    hours = int((LAST - FIRST) / timedelta(hours=1))
    for user in range(1, 13):
        home = random.choice(list(ZONES))
        for _ in range(random.randrange(2, 40)):
            time = FIRST + timedelta(hours=random.randrange(hours), microseconds=random.randrange(3_600_000_000))
            late = timedelta(days=random.choice([0, 0, 0, 0, random.uniform(0, 20)]))
            for _ in range(random.choice([1, 1, 1, 2])):
                order = random.choice([None, None, json.dumps({"order_id": f"o{user}-{random.randrange(6)}"})])
                kind = random.choice([*ODD_KINDS, ODD_KINDS[0], "a kind that no set names"])
                value = random.choice([None, float("nan"), -3.5, 0.0, round(random.uniform(0, 90), 2), 1e9])
                item = random.choice([None, *range(5)])
                source = random.choice([home, home, home, 0])
                events.append(Event(user, time, kind, item, value, order, time + late, source))
    return events
