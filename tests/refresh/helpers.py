"""What the tests of refreshes share: a small log that is changed at random, and the whole state a refresh leaves."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.api.helpers import Connection
from ubp_sql.features.compute import age_rows
from ubp_sql.features.definition import FeatureSetDefinition

KINDS = ["purchase", "view", "cart"]
WINDOWS = [1, 7, 30]
START = datetime(2025, 3, 3, 10, tzinfo=UTC)
HEAD = 20
F32 = NDArray[np.float32]


class Stored(NamedTuple):
    """A stored row: as it lies there, and finished at the set's as_of."""

    as_of: datetime
    valid_until: str
    anchors: bytes | None
    features: bytes
    finished: bytes


def define(conn: Connection, name: str = "default") -> None:
    conn.execute("select ubp.define_feature_set(%s, %s, %s, 'Europe/Berlin')", [name, KINDS, WINDOWS])


def definition(conn: Connection, name: str = "default") -> FeatureSetDefinition:
    row = conn.execute("select definition::text from ubp.feature_sets where name = %s", [name]).fetchone()
    assert row is not None
    return FeatureSetDefinition.from_json(row[0])


def refresh(conn: Connection, as_of: datetime, name: str = "default") -> dict[str, Any]:
    """The row of refresh_features."""
    cursor = conn.execute("select * from ubp.refresh_features(%s, %s)", [as_of, name])
    row = cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    return dict(zip([column.name for column in cursor.description], row, strict=True))


def state(conn: Connection, name: str = "default") -> dict[int, Stored]:
    """user_id to the stored row."""
    row = conn.execute(
        "select feature_set_id, as_of, as_of_us, as_of_weekday, users from ubp.feature_sets where name = %s", [name]
    ).fetchone()
    assert row is not None
    number, _, as_of_us, weekday, users = row
    found = conn.execute(
        """select user_id, as_of, valid_until::text, ubp.array_image(anchors), ubp.array_image(features)
             from ubp.feature_rows where feature_set_id = %s order by user_id""",
        [number],
        binary=True,
    ).fetchall()
    assert users in (None, len(found)), "feature_sets.users counts the rows"
    if not found:
        return {}
    features = np.stack([np.frombuffer(image[HEAD:], np.float32) for *_, image in found])
    finished = features
    if found[0][3] is not None:
        anchors = np.stack([np.frombuffer(image[HEAD:], np.float64) for _, _, _, image, _ in found])
        finished = age_rows(definition(conn, name).plan, features.copy(), anchors, as_of_us, weekday)
    return {
        user: Stored(as_of, until, held, row.tobytes(), last.tobytes())
        for (user, as_of, until, held, _), row, last in zip(found, features, finished, strict=True)
    }


def awaited(conn: Connection, name: str = "default") -> dict[int, str]:
    query = """
        select user_id, a.valid_until::text from ubp.awaited_users a join ubp.feature_sets s using (feature_set_id)
         where s.name = %s"""
    return dict(conn.execute(query, [name]).fetchall())


def from_nothing(conn: Connection, name: str = "default") -> tuple[dict[int, Stored], dict[int, str]]:
    """(rows, awaited users) that computing everybody at the set's as_of gives; changes nothing."""
    with conn.transaction(force_rollback=True):
        conn.execute("update ubp.feature_sets set stale = true where name = %s", [name])
        row = conn.execute("select as_of from ubp.feature_sets where name = %s", [name]).fetchone()
        assert row is not None
        done = refresh(conn, row[0], name)
        assert done["detail"].startswith("everybody")
        return state(conn, name), awaited(conn, name)


def assert_exact(conn: Connection, name: str = "default") -> None:
    """What is stored, finished at the set's as_of, is what computing everybody gives: to the bit, and nobody more."""
    rows, waiting = state(conn, name), awaited(conn, name)
    expected, expected_waiting = from_nothing(conn, name)
    assert rows.keys() == expected.keys()
    for user, row in rows.items():
        assert row.finished == expected[user].features, (user, _first_difference(conn, name, row, expected[user]))
        assert row.anchors == expected[user].anchors, user
        assert row.valid_until == expected[user].valid_until, user
    assert waiting == expected_waiting


def _first_difference(conn: Connection, name: str, row: Stored, expected: Stored) -> Any:
    names = [feature.name for feature in definition(conn, name).features]
    one, other = np.frombuffer(row.finished, np.float32), np.frombuffer(expected.features, np.float32)
    different = np.flatnonzero(one.view(np.uint32) != other.view(np.uint32))
    return [(names[k], float(one[k]), float(other[k])) for k in different[:5]]


def versions(conn: Connection) -> dict[int, tuple[str, str]]:
    """user_id to the physical version of the row: another one was written anew."""
    found = conn.execute("select user_id, ctid::text, xmin::text from ubp.feature_rows").fetchall()
    return {user: (ctid, xmin) for user, ctid, xmin in found}


class Log:
    """Events of a few users, drawn and changed at random."""

    def __init__(self, conn: Connection, seed: int, users: int = 12) -> None:
        self.conn, self.random, self.users = conn, Random(seed), users

    def insert(self, around: datetime, n: int) -> None:
        """Events within 40 days before and 3 after the moment; some known later than they happened."""
        rows = []
        for _ in range(n):
            time = around + timedelta(seconds=self.random.randrange(-40 * 86_400, 3 * 86_400))
            if self.random.random() < 0.2:  # on an edge of a window, to the microsecond
                time = around - timedelta(days=self.random.choice([0, *WINDOWS]))
            late = timedelta(seconds=self.random.choice([0, 0, 0, self.random.randrange(5 * 86_400)]))
            order = self.random.choice([None, '{"order_id": "a"}', '{"order_id": "b"}'])
            value = self.random.choice([None, 1.5, 20.25, float("nan")])
            kind = self.random.choice([*KINDS, "other"])
            user, item = self.random.randrange(self.users), self.random.randrange(4)
            rows.append((user, time, kind, item, value, order, time + late))
        self.conn.cursor().executemany(
            """insert into ubp.events (user_id, event_time, kind, item_id, value, attributes, ingested_at)
               values (%s, %s, %s, %s, %s, %s, %s)""",
            rows,
        )

    def change(self) -> None:
        """One statement of another sort."""
        user = self.random.randrange(self.users)
        statement = self.random.choice(
            [
                "delete from ubp.events where user_id = %s",
                "delete from ubp.events where event_id in (select event_id from ubp.events order by event_id limit 1)",
                "update ubp.events set value = value + 1 where user_id = %s",
                "update ubp.events set user_id = user_id + 1 where user_id = %s and event_id %% 3 = 0",
                "update ubp.events set event_time = event_time - interval '2 days' where user_id = %s",
                "update ubp.events set kind = 'cart' where user_id = %s and kind = 'view'",
            ]
        )
        self.conn.execute(statement.encode(), [user] if "%s" in statement else None)
