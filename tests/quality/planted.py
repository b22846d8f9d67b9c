"""A simulated log, faults that are put into it, and what a check must say of them."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate

Connection = psycopg.Connection[Any]
COLUMNS = "user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source"
SOURCE = "select source_id from ubp.sources where name = 'simulated_shop'"
FLAGGED = """
select q.rule, f.event_id from ubp.flagged_events f join ubp.quality_findings q using (finding_id)"""
OPEN = "select rule, count(*) from ubp.quality_findings where resolved_at is null group by rule"


@dataclass
class Planted:
    """Events by the rule that must flag them, and the silence."""

    events: dict[str, set[int]] = field(default_factory=dict)
    silence: tuple[datetime, datetime] | None = None


def fill(conn: Connection, folder: Path, users: int, days: int, seed: int) -> int:
    """A shop's log, as `ubp-sql load` brings it; returns its number of events."""
    shop = simulate(folder, users=users, days=days, seed=seed, cuts=[date(2025, 3, 1)])
    load_file(conn, shop.events, LoadMap.from_file("simulated_shop"))
    row = conn.execute("select count(*) from ubp.events").fetchone()
    assert row is not None
    return int(row[0])


def plant(conn: Connection, seed: int) -> Planted:
    """1 % duplicates, a bot at 50 events a second for a minute, a gap of two days, three outliers, a swapped date."""
    random = Random(seed)
    ids = [row[0] for row in conn.execute("select event_id from ubp.events order by event_id").fetchall()]
    begin, end = conn.execute("select min(event_time), max(event_time) from ubp.events").fetchone() or (None, None)
    assert begin is not None
    assert end is not None
    days = (end - begin).days
    made = Planted()
    # 02:00: the shop sleeps, so the silence begins with the last event before, and ends with the first one after.
    silence = begin.replace(hour=2, minute=0, second=0) + timedelta(days=random.randrange(35, days - 35))
    made.silence = (silence, silence + timedelta(days=2))
    gone = conn.execute(
        "delete from ubp.events where event_time >= %s and event_time < %s returning event_id", [*made.silence]
    ).fetchall()
    left = sorted(set(ids) - {row[0] for row in gone})
    made.events["swapped_dates"] = {swap(conn, random, left)}
    again = random.sample(sorted(set(left) - made.events["swapped_dates"]), len(left) // 100)
    made.events["duplicates"] = _insert(
        conn,
        f"select {COLUMNS} from ubp.events where event_id = any (%s) order by md5(event_id::text)",
        again,
    )
    made.events["outliers"] = outliers(conn, random, set(again) | made.events["swapped_dates"])
    moment = begin + timedelta(days=random.randrange(3, days - 3), hours=12)
    while made.silence[0] - timedelta(hours=1) < moment < made.silence[1]:
        moment += timedelta(days=3)
    made.events["bots"] = bot(conn, moment, 7, rate=50, seconds=60)
    return made


def _insert(conn: Connection, query: str, *arguments: Any) -> set[int]:
    text = f"insert into ubp.events ({COLUMNS}) {query} returning event_id"
    return {row[0] for row in conn.execute(text.encode(), arguments).fetchall()}


def swap(conn: Connection, random: Random, ids: list[int]) -> int:
    """Gives one event the time that its day and month say the other way round."""
    query = """
        update ubp.events set event_time = make_timestamptz(2025, extract(day from event_time)::integer,
                                                            extract(month from event_time)::integer, 12, 30, 0, 'UTC')
         where event_id = %s and extract(day from event_time) <= 12
           and extract(day from event_time) <> extract(month from event_time) returning event_id"""
    while True:
        row = conn.execute(query, [random.choice(ids)]).fetchone()
        if row is not None:
            return int(row[0])


def outliers(conn: Connection, random: Random, but_for: set[int]) -> set[int]:
    """Three purchases with a value that nobody pays."""
    rows = conn.execute("select event_id from ubp.events where kind = 'purchase' order by event_id").fetchall()
    chosen = random.sample([row[0] for row in rows if row[0] not in but_for], 3)
    for event, factor in zip(chosen, (1_000, 5_000, 100_000), strict=True):
        conn.execute("update ubp.events set value = value * %s where event_id = %s", [factor, event])
    return set(chosen)


def bot(conn: Connection, moment: datetime, user: int, rate: int, seconds: int) -> set[int]:
    """A user who views an item `rate` times a second."""
    query = (
        """
        select %s, %s::timestamptz + g * interval '1 second' / %s, 'view', 1000 + g %% 97, null, null, 1, null,
               %s::timestamptz + g * interval '1 second' / %s, ("""
        + SOURCE
        + ") from generate_series(0, %s) g"
    )
    return _insert(conn, query, user, moment, rate, moment, rate, rate * seconds - 1)


def check(conn: Connection) -> dict[str, int]:
    """Open findings of each rule that has some, after a check."""
    conn.execute("select * from ubp.check_quality()")
    return {str(rule): int(n) for rule, n in conn.execute(OPEN).fetchall()}


def flagged(conn: Connection) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for rule, event in conn.execute(FLAGGED).fetchall():
        found.setdefault(rule, set()).add(event)
    return found
