"""A small log of users with integer and text keys, and all that can be asked of a user."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.api.helpers import Connection, Event, insert, register, tiny_model

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
INTEGERS = ("17850", *map(str, range(1, 25)))
TEXTS = ("ann@home", "ann@work", "bob", "ünï cøde", "k" * 1000)
SET_USERS = "insert into ubp.users (user_key) select k from unnest(%s::text[]) k"


def fill(conn: Connection) -> None:
    """Features as of AS_OF and a task `purchase` with two versions, the first deployed."""
    conn.execute(SET_USERS, [list(TEXTS)])
    insert(conn, [event for key in (*INTEGERS, *TEXTS) for event in events_of(key, member(conn, key))])
    conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7, 30])")
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF - timedelta(days=2)])
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])  # some rows age
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
    for seed in range(2):
        register(conn, "purchase", tiny_model(names, seed))
    conn.execute("select ubp.deploy_model('purchase', 1)")
    conn.execute("select * from ubp.score_users('purchase')")


def events_of(key: str, user_id: int) -> list[Event]:
    """Purchases and views, of two users at the same moments too."""
    random, hour = Random(key), timedelta(hours=1)
    made = [
        Event(user_id, AS_OF - hour * random.randrange(1, 2400), kind, random.randrange(9), random.randrange(90) / 2)
        for kind in ("view", "view", "purchase", "view") * random.randrange(1, 9)
    ]
    return [*made, Event(user_id, AS_OF - 30 * hour, "view", 3)]


def member(conn: Connection, key: str) -> int:
    """The id that a key has by itself."""
    row = conn.execute("select ubp.resolve_member(%s)", [key]).fetchone()
    assert row is not None
    return int(row[0])


def link(conn: Connection, *keys: str) -> int:
    row = conn.execute("select ubp.link_users(%s, %s)", keys).fetchone()
    assert row is not None
    return int(row[0])


def unlink(conn: Connection, *keys: str) -> int:
    row = conn.execute("select ubp.unlink_users(%s, %s)", keys).fetchone()
    assert row is not None
    return int(row[0])


def refresh(conn: Connection) -> None:
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])


ROWS = """
select r.user_id, ubp.array_image(r.features) as features, ubp.array_image(r.anchors) as anchors, r.as_of, r.valid_until
  from ubp.feature_rows r order by r.user_id"""
LIVE = "select u, ubp.feature_vector(u, %s) from unnest(%s::bigint[]) u"


def stored(conn: Connection) -> list[Any]:
    """All stored rows, as bytes."""
    return conn.execute(ROWS, binary=True).fetchall()


def live(conn: Connection, users: Iterable[int]) -> dict[int, Any]:
    """User to live features at AS_OF."""
    return dict(conn.execute(LIVE, [AS_OF, list(users)], binary=True).fetchall())


# Each with a user as bigint in place of {}.
QUESTIONS = (
    "select ubp.predict('purchase', {})",
    "select ubp.predict_purchase({})",
    "select ubp.predict('purchase', {}, '2025-07-01 00:00+00')",
    "select ubp.predict_purchase({}, '2025-06-20 00:00+00')",
    "select score, version, as_of, percentile from ubp.predict_detail('purchase', {})",
    "select score, version, as_of from ubp.predict_detail('purchase', {}, '2025-06-20 00:00+00')",
    "select score from ubp.predict_many('purchase', array[{}])",
    "select feature, value from ubp.features({})",
    "select feature, value from ubp.features({}, '2025-06-20 00:00+00')",
    "select ubp.feature_vector({}, '2025-07-01 00:00+00')",
    "select ubp.sequence({}, 9, '2025-07-01 00:00+00')",
    "select length, events from ubp.sequences(array[{}], 9, '2025-07-01 00:00+00')",
    "select lengths, events from ubp.sequence_matrix(9, '2025-07-01 00:00+00', array[{}])",
    "select * from ubp.user_profile({})",
)


def answers(conn: Connection, user: int) -> list[Any]:
    """What each question says of a user."""
    return [
        conn.execute(question.format(f"({user})::bigint").encode(), binary=True).fetchall() for question in QUESTIONS
    ]
