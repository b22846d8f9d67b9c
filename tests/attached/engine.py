"""Relations of others as events, and the same events in ubp.events of a second database: what both compute is compared.

What a row means is said here a second time, in Python, from the rows as the relation has them.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import numpy as np
import psycopg

from tests.refresh.helpers import KINDS, START, refresh, state
from ubp_sql.features.definition import FeatureSetDefinition

Connection = psycopg.Connection[Any]
Row = dict[str, Any]
VECTORS = "select u, ubp.feature_vector(u, %s, 'default') from unnest(%s::bigint[]) u"
INSERT = """
insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at, source, event_id)
values (%s, %s, %s, %s, %s, %s, %s, %s)"""
ATTACH = """
select ubp.attach_source(%(relation)s, %(user_id)s, %(event_time)s, %(kind)s, %(item_id)s, %(value)s, %(ingested_at)s,
                         %(event_id)s, %(time_zone)s, %(filter)s)"""


class Attached(NamedTuple):
    """A relation of schema shop, and what its rows mean: the arguments of ubp.attach_source."""

    name: str
    columns: str
    user_id: str
    item_id: str | None = None
    value: str | None = None
    ingested_at: str | None = None
    event_id: str | None = None
    time_zone: str | None = None
    filter: str | None = None
    event_time: str = "at"
    kind: str = "what"


ORDERS = Attached(
    "orders",
    "id integer primary key, customer integer, at timestamptz, what text, sku smallint, price numeric(9, 2),"
    " seen timestamptz, state text",
    "customer",
    "sku",
    "price",
    "seen",
    "id",
    "Europe/Berlin",
    "state <> 'draft'",
)
CLICKS = Attached(
    "clicks",
    "id uuid primary key, visitor uuid, at timestamp, what text, sku text, amount double precision",
    "visitor",
    "sku",
    "amount",
    event_id="id",
    time_zone="Asia/Tokyo",
)
VISITS = Attached("visits", "person bigint, at timestamptz, what text, amount real", "person", value="amount")
PARTITIONED = ORDERS._replace(name="sales", columns=ORDERS.columns.replace(" primary key", " not null"))


def create(conn: Connection, of: Attached) -> None:
    """The relation, not attached yet."""
    conn.execute("create schema if not exists shop")
    how = " partition by range (at)" if of.name == "sales" else ""
    conn.execute(f"create table shop.{of.name} ({of.columns}){how}".encode())


def attach(conn: Connection, of: Attached) -> int:
    """Returns the source's number."""
    conn.execute(ATTACH, {"relation": f"shop.{of.name}", **of._asdict()})
    row = conn.execute("select source_id from ubp.attached_sources where relation_name = %s", [of.name]).fetchone()
    assert row is not None
    return int(row[0])


class Event(NamedTuple):
    """As Python reads a row; keys as they stand."""

    user: Any
    time: datetime
    kind: str
    item: Any
    value: float | None
    ingested: datetime
    order: int  # where events happen at one moment


def events_of(conn: Connection, of: Attached) -> Iterator[Event]:
    """The relation's rows that can be used."""
    from zoneinfo import ZoneInfo

    from psycopg.rows import dict_row

    rows = conn.cursor(row_factory=dict_row).execute(f"select * from shop.{of.name}".encode()).fetchall()
    for number, row in enumerate(rows):
        user = row.get("customer", row.get("visitor", row.get("person")))
        if user is None or row["at"] is None or not row["what"] or row.get("state", "paid") in (None, "draft"):
            continue
        time = row["at"] if row["at"].tzinfo else row["at"].replace(tzinfo=ZoneInfo("Asia/Tokyo"))
        value = row.get("price", row.get("amount"))
        yield Event(
            user if isinstance(user, int) else str(user),
            time.astimezone(UTC),
            row["what"],
            row.get("sku"),
            None if value is None else float(value),
            (row.get("seen") or time).astimezone(UTC),
            row["id"] if isinstance(row.get("id"), int) else number,
        )


class Both:
    """A database with attached relations and one with the same events of its own."""

    def __init__(self, conn: Connection, twin: Connection, sources: Sequence[Attached], seed: int = 0) -> None:
        self.conn, self.twin, self.sources, self.random = conn, twin, list(sources), Random(seed)
        self.members: dict[int, int] = {}
        self.since: datetime | None = None
        self.next: dict[str, int] = {}
        self.numbers: dict[str, int] = {}

    def begin(self) -> None:
        """The same set in both, attached to all sources."""
        for one in (self.conn, self.twin):
            one.execute("select ubp.define_feature_set('default', %s, %s, 'Europe/Berlin')", [KINDS, [1, 7, 30]])
        for of in self.sources:
            self.numbers[of.name] = attach(self.conn, of)
            self.twin.execute(
                "insert into ubp.sources (source_id, name, time_zone) values (%s, %s, %s)",
                [self.numbers[of.name], of.name, of.time_zone or "UTC"],
            )

    def copy(self) -> list[int]:
        """The twin's events anew; returns the users."""
        users = dict(self.conn.execute("select user_key, user_id from ubp.users").fetchall())
        items = dict(self.conn.execute("select item_key, item_id from ubp.items").fetchall())
        own = self.conn.execute(
            "select user_id, event_time, kind, item_id, value, ingested_at, source, event_id from ubp.events"
        ).fetchall()
        rows = [(self.members.get(row[0], row[0]), *row[1:]) for row in own]
        for of in self.sources:
            for event in events_of(self.conn, of):
                user = event.user if isinstance(event.user, int) else users.get(event.user)
                if user is None:
                    continue
                item = event.item if not isinstance(event.item, str) else items.get(event.item)
                source = self.numbers[of.name]
                user, number = self.members.get(user, user), (source << 48) + event.order
                rows.append((user, event.time, event.kind, item, event.value, event.ingested, source, number))
        self.twin.execute("truncate ubp.events")
        self.twin.cursor().executemany(INSERT, rows)
        return sorted({row[0] for row in rows} | set(self.members) | {987_654})

    def check_live(self, as_of: datetime) -> None:
        """Single users at a moment, whatever waits in the log."""
        users = self.copy()
        found, wanted = (
            dict(one.execute(VECTORS, [as_of, users], binary=True).fetchall()) for one in (self.conn, self.twin)
        )
        for member, user in self.members.items():
            wanted[member] = wanted[user]
        assert found == wanted, _different(found, wanted)

    def check(self, as_of: datetime, verify: bool = True) -> Row:
        """Refreshed: stored, live and training rows are those of the same events in ubp.events, to the bit."""
        done = refresh(self.conn, as_of)
        self.copy()
        refresh(self.twin, as_of)
        mine, other = state(self.conn), state(self.twin)
        assert mine.keys() == other.keys()
        for user, row in mine.items():
            assert row.finished == other[user].finished, (user, self._names(row.finished, other[user].finished))
            assert row.valid_until == other[user].valid_until, user
        counts = self.conn.execute("select what, users from ubp.parity_check(1000) limit 3").fetchall()
        assert dict(counts) == {"equal": counts[0][1], "differing": 0, "pending": 0}
        assert counts[0][1] >= len(mine)
        if verify and self.conn.execute("select built from ubp.mirror_state").fetchone() == (True,):
            assert self.conn.execute("select * from ubp.verify_mirror()").fetchall() == []
        return done

    def check_oracle(self, every: int = 5) -> None:
        """Stored rows against plain SQL."""
        query = "select feature, sql_oracle from ubp.feature_catalogue order by position"
        queries = self.conn.execute(query).fetchall()
        rows = {user: np.frombuffer(row.finished, np.float32) for user, row in state(self.conn).items()}
        for place in range(0, len(queries), every):
            name, sql = queries[place]
            found = dict(self.conn.execute(sql.encode()).fetchall())
            assert found.keys() == rows.keys()
            mine = np.array([rows[user][place] for user in found], float)
            wanted = np.array([np.nan if value is None else value for value in found.values()])
            assert np.allclose(mine, wanted, rtol=2e-5, atol=1e-6, equal_nan=True), name

    def _names(self, one: bytes, other: bytes) -> list[Any]:
        row = self.conn.execute("select definition::text from ubp.feature_sets").fetchone()
        assert row is not None
        names = [feature.name for feature in FeatureSetDefinition.from_json(row[0]).features]
        a, b = np.frombuffer(one, np.float32), np.frombuffer(other, np.float32)
        return [(names[i], a[i], b[i]) for i in np.flatnonzero(a.view(np.uint32) != b.view(np.uint32))][:8]

    def time(self) -> datetime:
        if self.since is not None:
            return self.since + timedelta(seconds=self.random.randrange(3000))
        edge = self.random.random() < 0.2
        if edge:
            return START - timedelta(days=self.random.choice([0, 1, 7, 30]))
        return START + timedelta(
            seconds=self.random.randrange(-40 * 86_400, 3 * 86_400), microseconds=self.random.randrange(9)
        )

    def insert(self, of: Attached, n: int, table: str | None = None) -> None:
        """One statement of new rows, some of no use."""
        draw = self.random
        rows: list[tuple[Any, ...]] = []
        for _ in range(n):
            number = self.next.get(of.name, 1)
            self.next[of.name] = number + 1
            time, kind = self.time(), draw.choice([*KINDS, "other", None])
            late = time + timedelta(seconds=0 if self.since else draw.choice([0, 0, draw.randrange(5 * 86_400)]))
            value, user = draw.choice([None, 1.5, 20.25]), draw.choice([*range(10), None])
            if of.columns.startswith("id integer"):
                sku, draft = draw.choice([None, 1, 2, 3]), draw.choice(["paid", "paid", "draft", None])
                rows.append((number, user, time, kind, sku, value, draw.choice([late, None]), draft))
            elif of.columns == CLICKS.columns:
                visitor = None if user is None else f"00000000-0000-0000-0000-{user:012d}"
                clock = time.replace(tzinfo=None)
                rows.append(
                    (f"10000000-0000-0000-0000-{number:012d}", visitor, clock, kind, draw.choice("abcd"), value)
                )
            else:
                rows.append((user, time, kind, value))
                if draw.random() < 0.3:
                    rows.append(rows[-1])
        marks = ", ".join(["(" + ", ".join(["%s"] * len(rows[0])) + ")"] * len(rows))
        flat = [value for row in rows for value in row]
        self.conn.execute(f"insert into {table or 'shop.' + of.name} values {marks}".encode(), flat)

    def change(self, of: Attached) -> None:
        """One statement of another sort."""
        user = {"customer": 1, "visitor": 1, "person": 1}
        column = next(name for name in user if name in of.columns)
        literal = "'00000000-0000-0000-0000-{0:012d}'" if column == "visitor" else "{0}"
        one, two = (literal.format(self.random.randrange(10)) for _ in range(2))
        value = "price" if "price" in of.columns else "amount"
        statement = self.random.choice(
            [
                f"delete from shop.{of.name} where {column} = {one}",
                f"update shop.{of.name} set {value} = {value} + 1 where {column} = {one}",
                f"update shop.{of.name} set {column} = {two} where {column} = {one}",
                f"update shop.{of.name} set at = at - interval '2 days' where {column} = {one}",
                f"update shop.{of.name} set what = 'cart' where {column} = {one} and what = 'view'",
                f"delete from shop.{of.name} where at < '{START - timedelta(days=35)}'",
            ]
        )
        self.conn.execute(statement.encode())


def _different(one: dict[int, Any], other: dict[int, Any]) -> list[Any]:
    return [(user, row, other.get(user)) for user, row in one.items() if row != other.get(user)][:2]


Changes = Callable[[], None]
