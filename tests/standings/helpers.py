"""A small log of many ties, a set with percentiles and a popularity, and what the reference says of both."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from json import dumps
from random import Random
from typing import Any

from tests.api.helpers import Connection
from tests.standings import reference as ref
from tests.standings.reference import Event

Row = list[float | None]
MIDNIGHT = datetime(2025, 3, 10, tzinfo=UTC)
KINDS = ("view", "purchase")
FEATURES: list[dict[str, Any]] = [
    {"name": "views_all", "aggregate": "count", "kinds": ["view"]},
    {"name": "views_3d", "aggregate": "count", "kinds": ["view"], "window": "3d"},
    {"name": "spent", "aggregate": "sum", "kinds": ["purchase"], "of": "value"},
    {"name": "dearest", "aggregate": "max", "kinds": ["purchase"], "of": "value", "window": "5d"},
    {"name": "views_rank", "aggregate": "percentile", "of": "views_all"},
    {"name": "recent_rank", "aggregate": "percentile", "of": "views_3d"},
    {"name": "dearest_rank", "aggregate": "percentile", "of": "dearest"},
    {"name": "popularity", "aggregate": "item_popularity", "kinds": ["view", "purchase"], "window": "4d"},
    {"name": "tenure", "aggregate": "tenure", "kinds": ["view"]},
]
NAMES = [feature["name"] for feature in FEATURES]


def events(seed: int, n: int = 300, users: int = 25) -> list[Event]:
    """Ten days around MIDNIGHT; some known late, some at the very midnight, few values, few items."""
    random = Random(seed)
    found = []
    for _ in range(n):
        t = MIDNIGHT + timedelta(hours=random.choice([0, 24, -24, *([random.uniform(-190, 60)] * 9)]))
        late = random.choice([timedelta(0)] * 4 + [timedelta(hours=30), timedelta(microseconds=1)])
        item = random.choice([None, 1, 2, 2, 3, 3, 3, 2**40 + 1])
        value = random.choice([None, 5.0, 5.0, 7.5, -2.0])
        found.append(Event(random.randrange(users), t, t + late, random.choice(KINDS), item, value))
    # One without any item, one whose item nobody had seen by MIDNIGHT.
    at = MIDNIGHT + timedelta(minutes=30)
    found = [e for e in found if e.user not in (23, 24)] + [
        Event(24, MIDNIGHT - timedelta(days=2), MIDNIGHT - timedelta(days=2), "view", None, None),
        Event(23, at, at, "view", 9, None),
    ]
    return sorted(found, key=lambda e: (e.user, e.t, e.ingested))


def insert(conn: Connection, log: Sequence[Event]) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into ubp.events (user_id, event_time, ingested_at, kind, item_id, value)"
            " values (%s, %s, %s, %s, %s, %s)",
            log,
        )


def define(conn: Connection, name: str = "default") -> None:
    conn.execute("select ubp.define_features(%s, %s)", [dumps(FEATURES), name])
    conn.execute("update ubp.feature_sets set time_zone = 'Asia/Tokyo' where name = %s", [name])


def refresh(conn: Connection, as_of: datetime) -> str:
    row = conn.execute("select detail from ubp.refresh_features(%s)", [as_of]).fetchone()
    assert row is not None
    return str(row[0])


def stored(conn: Connection) -> dict[int, Row]:
    columns = ", ".join(NAMES)
    return {row[0]: list(row[1:]) for row in conn.execute(f"select user_id, {columns} from ubp.user_features")}


def differing(conn: Connection) -> list[tuple[Any, ...]]:
    """What ubp.parity_check finds beside equal rows."""
    query = "select * from ubp.parity_check(1000) where what <> 'equal' and coalesce(users, 1) > 0"
    return conn.execute(query).fetchall()


def live(conn: Connection, user: int, as_of: datetime) -> Row | None:
    row = conn.execute("select ubp.feature_vector(%s, %s)", [user, as_of]).fetchone()
    return None if row is None else row[0]


def wanted(log: Sequence[Event], as_of: datetime, then: Sequence[Event] | None = None) -> dict[int, Row]:
    """User to row by the reference; `then`: the log as it was when the day's population was looked at."""
    then = log if then is None else then
    day = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = {}
    for user in sorted({e.user for e in ref.known(log, as_of)}):
        mine = [e for e in ref.known(log, as_of) if e.user == user]
        own = ref.own(mine, as_of)
        ranks = [
            ref.percentile(own[name], ref.population(then, day, name)) for name in ("views_all", "views_3d", "dearest")
        ]
        popularity = ref.popularity(mine, ref.known(then, day), day)
        rows[user] = [
            own["views_all"],
            own["views_3d"],
            own["spent"],
            own["dearest"],
            *ranks,
            popularity,
            own["tenure"],
        ]
    return rows


def same(one: Sequence[float | None] | None, other: Sequence[float | None] | None) -> bool:
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(
        a is b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6))
        for a, b in zip(one, other, strict=True)
    )
