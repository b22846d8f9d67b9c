"""What the mirror's tests share: a session that reads events both ways, and events of every kind."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import psycopg

from tests.fix_database import Database

Connection = psycopg.Connection[Any]
READ = """
create or replace function public.read_events(
  way text, kinds text[], numbers text[], keys text[], users bigint[], low bigint, high bigint, writing boolean)
returns setof bytea language plpython3u {volatility} as $$
import io, numpy as np
import ubp_sql.api.events as e
from ubp_sql.features.columns import Columns
columns = Columns(tuple(numbers), tuple(keys), True)
def pack(x):
    file = io.BytesIO()
    arrays = dict(user_id=x.user_id, first=x.first, t_us=x.t_us, ingested_us=x.ingested_us, offset_s=x.offset_s,
                  kind=x.kind, **x.numbers, **x.keys)
    type(x)(x.user_id, x.first, x.t_us, x.ingested_us, x.offset_s, x.kind, x.numbers, x.keys)
    np.savez(file, **arrays)
    return file.getvalue()
usual = e.mirror_now
try:
    if way == 'rows':
        e.mirror_now = lambda *a: None
    elif way == 'mirror' and e.mirror_now(plpy, SD, kinds) is None:
        plpy.error('there is no mirror to read')
    if users is None:
        return [pack(x) for x in e.read_all(plpy, SD, kinds, columns, low, high)]
    found = e.read_users(plpy, SD, kinds, columns, users)
    return [] if found is None else [pack(found)]
finally:
    e.mirror_now = usual
$$"""
SMALL = """
do $$
import ubp_sql.api.events, ubp_sql.api.mirror_compact, ubp_sql.api.mirror_rows, ubp_sql.api.mirror_slices
import ubp_sql.mirror.encode, ubp_sql.mirror.pieces, ubp_sql.mirror.spill
ubp_sql.mirror.encode.CHUNK_EVENTS = {chunk}
ubp_sql.mirror.spill.TOGETHER = {chunk} * 4
ubp_sql.mirror.spill.IN_MEMORY = 2000
ubp_sql.api.mirror_rows.PORTION = {chunk} * 3
ubp_sql.api.mirror_rows.FIRST_BLOCKS = 1
ubp_sql.api.mirror_compact.SMALLEST = {chunk}
ubp_sql.api.events.BATCH_EVENTS = {chunk} * 5
ubp_sql.api.mirror_slices.CHUNKS_AT_A_TIME = 5
ubp_sql.api.mirror_slices.FETCH_EVENTS = {chunk} * 6
ubp_sql.api.mirror_slices.KEPT_BYTES = {chunk} * 100
ubp_sql.mirror.pieces.GAP_EVENTS = {chunk} // 3
$$ language plpython3u"""
NUMBERS = ("value", "quantity", "duration_s")
KEYS = ("item", "order")
KINDS = ("view", "purchase", "cancel")
COLUMNS = ["user_id", "event_time", "kind", "item_id", "value", "quantity", "duration_s", "attributes", "ingested_at"]
COLUMNS += ["source", "event_id"]
START = datetime(2024, 1, 10, tzinfo=UTC)


class Log:
    """A session on a database with events."""

    def __init__(self, db: Database, conn: Connection) -> None:
        self.db, self.conn = db, conn
        conn.execute(READ.format(volatility="stable").encode())

    def small(self, chunk: int = 8) -> None:
        """Chunks of so many events in this session, portions and batches alike."""
        self.conn.execute(SMALL.format(chunk=chunk).encode())

    def run(self, query: str, *arguments: object) -> None:
        self.conn.execute(query.encode(), arguments or None)

    def one(self, query: str, *arguments: object) -> Any:
        row = self.conn.execute(query.encode(), arguments or None).fetchone()
        return row and row[0]

    def rows(self, query: str, *arguments: object) -> list[Any]:
        return self.conn.execute(query.encode(), arguments or None).fetchall()

    def fold(self) -> None:
        """What a refresh does first."""
        self.run("select ubp.build_mirror()")

    def insert(self, events: Sequence[Sequence[object]], table: str = "ubp.events", copy: bool = False) -> None:
        """Events in the order of COLUMNS, in one statement."""
        columns = COLUMNS[: len(events[0])]
        if copy:
            with self.conn.cursor().copy(f"copy {table} ({', '.join(columns)}) from stdin".encode()) as into:
                for event in events:
                    into.write_row(event)
            return
        row = f"({', '.join(['%s'] * len(columns))})"
        values = [value for event in events for value in event]
        query = f"insert into {table} ({', '.join(columns)}) values {', '.join([row] * len(events))}"
        self.conn.execute(query.encode(), values)

    def read(
        self,
        way: str,
        kinds: Sequence[str] = KINDS,
        numbers: Sequence[str] = NUMBERS,
        keys: Sequence[str] = KEYS,
        users: Sequence[int] | None = None,
        low: int | None = None,
        high: int | None = None,
    ) -> dict[str, "np.ndarray[Any, Any]"]:
        """All batches as one set of arrays; `sizes` in place of `first`."""
        query = "select read_events from public.read_events(%s, %s, %s, %s, %s, %s, %s, false)"
        arguments = [way, list(kinds), list(numbers), list(keys), users if users is None else list(users), low, high]
        found = [dict(np.load(io.BytesIO(row[0]))) for row in self.conn.execute(query, arguments, binary=True)]
        for batch in found:
            sizes = np.diff(batch.pop("first"))
            assert len(batch["user_id"])
            assert (sizes > 0).all(), "users without an event do not come"
            # Events of other kinds may come along; they count nowhere.
            asked = batch["kind"] >= 0
            ids = batch.pop("user_id")
            owner = np.repeat(np.arange(len(ids)), sizes)[asked]
            for name, column in batch.items():
                batch[name] = column[asked]
            kept = np.bincount(owner, minlength=len(ids))
            batch["user_id"], batch["sizes"] = ids[kept > 0], kept[kept > 0]
        found = [batch for batch in found if len(batch["user_id"])]
        if not found:
            return {}
        return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}

    def check(self, kinds: Sequence[str] = KINDS, **columns: Sequence[str]) -> None:
        """Mirror and rows say the same, to the bit: everybody, a range of users, some users."""
        some = [row[0] for row in self.rows("select distinct user_id from ubp.events order by 1 limit 7")]
        for chosen in ({}, {"low": -1, "high": 3}, {"users": [*some[::2], 987654]}):
            one = self.read("mirror", kinds, **columns, **chosen)  # type: ignore[arg-type]
            other = self.read("rows", kinds, **columns, **chosen)  # type: ignore[arg-type]
            assert one.keys() == other.keys(), chosen
            for name, column in one.items():
                assert column.dtype == other[name].dtype
                assert column.tobytes() == other[name].tobytes(), (name, chosen)

    def equal(self) -> None:
        """Nothing that verify_mirror finds."""
        assert self.rows("select * from ubp.verify_mirror()") == []


def events(random: Random, n: int, users: int = 12) -> list[tuple[object, ...]]:
    """Random events: late ones, ties in time, missing values, NaN and infinities, kinds that nobody asks for."""
    found: list[tuple[object, ...]] = []
    for _ in range(n):
        time = START + timedelta(days=random.randrange(-40, 80), microseconds=random.choice([0, 0, 1, 7_000_001]))
        ingested: object = time + timedelta(days=random.choice([0, 0, 0, 3, 200]))
        if random.random() < 0.03:
            ingested = random.choice(["infinity", "-infinity", "294276-12-31 00:00+00"])
        number = random.choice([None, None, float("nan"), float("inf"), 1e308, -0.0, round(random.uniform(0, 90), 2)])
        small = random.choice([None, None, float("nan"), 1.5, -2.25])
        order = random.choice([None, None, f'{{"order_id": "o{random.randrange(5)}", "channel": "web", "paid": 3.5}}'])
        kind = random.choice([*KINDS, *KINDS, "other", "anöther"])
        item = random.choice([None, *range(4)])
        source = random.choice([0, 0, 0, 10, 11, 99])
        found.append((random.randrange(-2, users), time, kind, item, number, small, small, order, ingested, source))
    return found


def sources(log: Log) -> None:
    """Sources 10 and 11 with clocks of their own; 99 has no row."""
    log.run(
        "insert into ubp.sources (source_id, name, time_zone) values"
        " (10, 'berlin', 'Europe/Berlin'), (11, 'kathmandu', 'Asia/Kathmandu') on conflict do nothing"
    )
