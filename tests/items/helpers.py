"""What is known of an item, by plain Python, and logs of events and statements to try it on."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from tests.mirror.helpers import Log
from ubp_sql.features.events import NO_KEY
from ubp_sql.features.hashing import text_key

COLUMNS = (("price", "unit price", "number"), ("category", "it's", "text"), ("tags", "tags", "words"))
START = datetime(2024, 1, 10, tzinfo=UTC)
ALWAYS = -1_000_000
"""Minutes that stand for -infinity."""
WORDS = ("red", "blue", "shoes", "hat")


class Said(NamedTuple):
    """A row of ubp.item_attributes; times are minutes after START."""

    item: int
    name: str
    value: float | None
    text: str | None
    valid_from: int
    ingested: int


class Event(NamedTuple):
    """A row of ubp.events, likewise."""

    user: int
    t: int
    ingested: int
    item: int | None


def known(rows: Sequence[Said], name: str, event: Event) -> tuple[float | None, str | None]:
    """(value, text) that was known of the event's item."""
    there = [row for row in rows if row.item == event.item and row.name == name]
    there = [row for row in there if row.valid_from <= event.t and row.ingested <= event.ingested]
    best = max(there, key=lambda row: (row.valid_from, row.ingested), default=None)
    return (None, None) if best is None else (best.value, best.text)


def number_of(value: float | None, text: str | None) -> float:
    if value is not None:
        return math.nan if math.isnan(value) or abs(value) >= 1e308 else 0.0 if abs(value) < 1e-300 else value
    if text is None or not re.fullmatch(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?", text):
        return math.nan
    read = float(text)
    return math.nan if abs(read) >= 1e308 else read


def text_of(value: float | None, text: str | None) -> str | None:
    """The text that a text column hashes and a words column cuts; values of these tests have few digits."""
    if text is not None:
        return text
    return None if value is None or math.isnan(value) else f"{value:g}"


def key_of(value: float | None, text: str | None) -> int:
    found = text_of(value, text)
    return NO_KEY if found is None else text_key(found)


def expected(rows: Sequence[Said], events: Sequence[Event], bits: dict[str, int]) -> dict[str, list[Any]]:
    """The columns price, category and tags of the events, users' one after the other, in the mirror's order."""
    ordered = sorted(range(len(events)), key=lambda i: (events[i].user, events[i].t, events[i].ingested, i))
    found: dict[str, list[Any]] = {name: [] for name, _, _ in COLUMNS}
    for event in (events[i] for i in ordered):
        found["price"].append(number_of(*known(rows, "unit price", event)))
        found["category"].append(key_of(*known(rows, "it's", event)))
        words = text_of(*known(rows, "tags", event)) or ""
        found["tags"].append(sum({bits[word] for word in re.split(r"[^a-z0-9.]+", words.lower()) if word}))
    return found


def seen(log: Log, way: str, users: Sequence[int] | None = None) -> dict[str, list[Any]]:
    """The same columns as they are read."""
    found = log.read(way, ["view", "purchase"], numbers=["price"], keys=["category", "tags"], users=users)
    return {name: found[name].tolist() for name in ("price", "category", "tags")}


def bits_of(log: Log) -> dict[str, int]:
    return dict(log.rows("select w, 1::bigint << (hashtext(w) & 63) from unnest(%s::text[]) w", list(WORDS)))


def moment(minutes: int) -> str:
    return "-infinity" if minutes == ALWAYS else str(START + timedelta(minutes=minutes))


def say(log: Log, rows: Sequence[Said]) -> None:
    """All rows in one statement."""
    values = [x for row in rows for x in (*row[:4], moment(row.valid_from), moment(row.ingested))]
    query = "insert into ubp.item_attributes (item_id, name, value, text, valid_from, ingested_at) values "
    log.run(query + ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(rows)), *values)


def happen(log: Log, events: Sequence[Event], table: str = "ubp.events") -> None:
    """All events in one statement, their ids in this order."""
    rows = [(e.user, moment(e.t), ("view", "purchase")[e.t % 2], e.item, moment(e.ingested)) for e in events]
    values = [value for row in rows for value in row]
    query = f"insert into {table} (user_id, event_time, kind, item_id, ingested_at) values "
    log.run(query + ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows)), *values)


def statements(random: Random, n: int) -> list[Said]:
    """Random rows: few items, equal times, rows known late and never, neither number nor text."""
    found: dict[tuple[Any, ...], Said] = {}
    for _ in range(n):
        since = random.choice([ALWAYS, *range(0, 60, 5)])
        ingested = random.choice([ALWAYS, since, since, max(since, 0) + random.randrange(30), 500])
        name = random.choice(["unit price", "it's", "tags", "other"])
        text = random.choice([None, "a", "b", "12", "7.5", "", "Red shoes", "shoes, BLUE", "hat", "1e400", "ünï 'x'"])
        if name == "tags":
            text = random.choice([None, "", "Red shoes", "shoes, BLUE", "hat; hat"])
        value = None if name == "tags" else random.choice([None, 3.0, 12.5, -0.25, math.nan, 1e308, 1e-301])
        if name == "it's" and value in (1e308, 1e-301):
            value = 7.0
        row = Said(random.randrange(4), name, value, text, since, ingested)
        found[row.item, row.name, row.valid_from, row.ingested] = row
    return list(found.values())


def happenings(random: Random, n: int) -> list[Event]:
    """Random events: some known late, some without an item, ties."""
    found = []
    for _ in range(n):
        t = random.randrange(60)
        ingested = random.choice([t, t, t + random.randrange(30), ALWAYS])
        found.append(Event(random.randrange(8), t, ingested, random.choice([None, *range(5)])))
    return found
