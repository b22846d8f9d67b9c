"""Funnels, sessions, dwell and words as plain SQL against the kernel, over users whose events lie on every edge."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np

from tests.features.behaviour_kernel import Wanted, definition, rows
from tests.fix_database import Database
from tests.reference_behaviour import Event
from ubp_sql.features.hashing import text_key
from ubp_sql.features.sql import oracle

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AS_OF = 1_320_000_000_000_000
MINUTE = 60_000_000
VOCABULARY = ("red", "Shoes", "été", "x9", "WOOL-hat", "", "100%")
# Of each text, what the document says its words are.
WORDS = {"": [], "100%": ["100"], "WOOL-hat": ["wool", "hat"]} | {w: [w.lower()] for w in ("red", "Shoes", "été", "x9")}

INSERT = """
    insert into ubp.events (event_id, user_id, event_time, ingested_at, kind, attributes)
    values (%s, %s, %s, %s, %s, %s)"""


def wanted() -> Iterator[Wanted]:
    """Every aggregate of sql_behaviour over several forms of window, limits that events meet to the microsecond."""
    for window in ("20m", "all", "3 x 15m"):
        for steps in (["a", "b", "c"], ["a", "a"], ["b", "a", "a", "b"]):
            for bound in ("10m", "55m"):
                limit = {"steps": steps, "bound": bound}
                yield "funnel_depth", limit, window
                yield "funnel_reached", limit | {"step": 2}, window
                yield "funnel_rate", limit, window
        for kinds in (["a"], ["a", "b"]):
            limit = {"kinds": kinds, "timeout": "5m"}
            for aggregate in ("sessions", "session_events", "session_length", "bounce_share"):
                yield aggregate, limit, window
            for aggregate in ("dwell_count", "dwell_mean", "dwell_sum"):
                yield aggregate, limit, window
                yield aggregate, limit | {"timeout": "10m", "until": ["c", "b"]}, window
    for name in ("age", "length", "events"):
        yield f"last_session_{name}", {"kinds": ["a", "b"], "timeout": "5m"}, "all"
    for buckets in (1, 7, 64):
        yield "words", {"kinds": ["a", "b"], "buckets": buckets}, "1h"


def users() -> dict[int, list[tuple[Event, str]]]:
    """Events with their text: ties in time and ingestion, pauses on and beside the limits, late arrivals."""
    found: dict[int, list[tuple[Event, str]]] = {}
    random, number = Random(11), 0
    for user in range(1, 300):
        found[user] = []
        for _ in range(random.randrange(1, 18)):
            t = AS_OF - random.randrange(random.choice([5, 16])) * 5 * MINUTE + random.choice([0, 0, 0, 1, -1])
            known = t + random.choice([0, 0, 0, 0, MINUTE, 100 * MINUTE])
            words = random.choices(VOCABULARY, k=random.randrange(4))
            number += 1
            hashes = frozenset(text_key(word) & 63 for text in words for word in WORDS[text])
            event = Event(t, known, 10_000 - number, random.choice("aabbccd"), None, hashes)
            found[user].append((event, " ".join(words)))
    return found


def row(user: int, e: Event, text: str) -> tuple[object, ...]:
    times = (EPOCH + timedelta(microseconds=us) for us in (e.t, e.ingested))
    return (e.event_id, user, *times, e.kind, json.dumps({"q": text}))


def test_sql_and_kernel_agree(db: Database) -> None:
    log, features = users(), list(wanted())
    moment = EPOCH + timedelta(microseconds=AS_OF)
    made = definition(features)
    given = f"select timestamptz '{moment.isoformat()}' as as_of, 'UTC'::text as zone"
    with db.connect() as conn:
        conn.cursor().executemany(INSERT, [row(user, *said) for user, events in log.items() for said in events])
        by_sql = {f.name: dict(conn.execute(oracle(made, f, given).encode()).fetchall()) for f in made.features}
    numbers = sorted(log)
    found = rows(
        [[e for e, _ in log[user]] for user in numbers], features, [(i, AS_OF, AS_OF) for i in range(len(log))]
    )
    seen = by_sql[made.features[0].name]
    assert len(seen) > 100
    for f, column in zip(made.features, found.T, strict=True):
        sql = [by_sql[f.name][user] for user in sorted(seen)]
        kernel = [x for user, x in zip(numbers, column.tolist(), strict=True) if user in seen]
        if f.spec.window.form == "all":
            assert np.nanmin(kernel) < np.nanmax(kernel), f"it says nothing: {f.meaning}"
        np.testing.assert_allclose(kernel, [np.nan if x is None else x for x in sql], rtol=1e-6, err_msg=f"{f.spec}")
