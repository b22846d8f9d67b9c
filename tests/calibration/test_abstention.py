"""Tasks that say nothing of users with too little history, or from stale features: on every path, with the reason."""

from datetime import timedelta

import pytest

from tests.api.helpers import Connection, Event, insert
from tests.serving_shop import AS_OF, said, scan

REASONS = "select user_id, reason from ubp.predict_many('purchase', array[1, 3, 5, 900, 901]::bigint[])"
DETAIL = "select score, reason, percentile from ubp.predict_detail('purchase', %s::bigint)"
STORED = "select user_id, score, reason from ubp.user_scores"
FEW = "abstained: fewer than 3 events of the task's population kind"
FRESH = "update ubp.feature_sets set as_of = now() - interval '%s hours'"


@pytest.fixture
def shop(serving: Connection) -> Connection:
    """Users 1, 2, ... have three purchases, 900 has two, 901 only views."""
    day = AS_OF - timedelta(days=3)
    insert(serving, [Event(900, day, "purchase", 1, 2.0), Event(900, day, "purchase", 2, 3.0), Event(901, day, "view")])
    serving.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    return serving


def everything(conn: Connection) -> dict[int, float | None]:
    """What is said of everybody, the same on each path."""
    found = said(conn)
    assert scan(conn) == found
    conn.execute("do $$ import ubp_sql.api.ahead as a; a.BATCH = 1 $$ language plpython3u")
    assert scan(conn) == found
    conn.execute("do $$ import ubp_sql.api.ahead as a; a.BATCH = 1000 $$ language plpython3u")
    for user in (1, 3, 900, 901):
        asked = "select ubp.predict('purchase', %(u)s::bigint), ubp.predict('purchase', %(u)s::text)"
        row = conn.execute(asked, {"u": user}).fetchone()
        known = conn.execute("select score from ubp.predict_many('purchase', array[%s::bigint])", [user]).fetchone()
        assert row is not None
        assert (row[0], row[0]) == (row[1], known and known[0])
        detail = conn.execute(DETAIL, [user]).fetchone()
        assert detail is not None
        assert detail[0] == row[0]
    conn.execute("select * from ubp.score_users('purchase')")
    stored = {user: score for user, score, _ in conn.execute(STORED).fetchall()}
    assert {user: found[user] for user in stored if user in found} == {u: s for u, s in stored.items() if u in found}
    return found


def test_off_by_default_and_off_again(shop: Connection) -> None:
    before = everything(shop)
    assert sum(score is not None for score in before.values()) > 200
    shop.execute("select ubp.set_abstention('purchase', 3, interval '1 hour')")
    assert set(everything(shop).values()) == {None}
    shop.execute("select ubp.set_abstention('purchase')")
    assert everything(shop) == before


def test_too_few_events(shop: Connection) -> None:
    before = everything(shop)
    shop.execute("select ubp.set_abstention('purchase', 3)")
    assert everything(shop) == before  # they have three
    reasons = dict(shop.execute(REASONS).fetchall())
    assert reasons == {
        1: None,
        3: None,
        5: None,
        900: FEW,
        901: "no features: the user is unknown or had no event before as_of",
    }
    assert shop.execute(DETAIL, [900]).fetchone() == (None, FEW, None)
    at = "select score, reason from ubp.predict_detail('purchase', %s::bigint, %s)"
    assert shop.execute(at, [900, AS_OF]).fetchone() == (None, FEW)
    stored = {user: (score, reason) for user, score, reason in shop.execute(STORED).fetchall()}
    assert stored[900] == (None, FEW)
    assert stored[1] == (before[1], None)
    shop.execute("select ubp.set_abstention('purchase', 4)")
    assert set(everything(shop).values()) == {None}


def test_stale_features(shop: Connection) -> None:
    shop.execute("select ubp.set_abstention('purchase', null, interval '9 days')")
    assert set(everything(shop).values()) == {None}
    (reason,) = {reason for _, reason in shop.execute("select user_id, reason from ubp.user_scores").fetchall()}
    assert reason.startswith("abstained: features are ")
    assert reason.endswith(" days old")
    assert shop.execute(DETAIL, [1]).fetchone() == (None, reason, None)
    at = "select ubp.predict('purchase', 1::bigint, %s)"
    row = shop.execute(at, [AS_OF]).fetchone()  # a moment of the past has no age
    assert row is not None
    assert row[0] is not None
    shop.execute((FRESH % 300).encode())
    assert "12 days old" in str(shop.execute(DETAIL, [1]).fetchone())
    shop.execute((FRESH % 5).encode())
    assert sum(score is not None for score in everything(shop).values()) > 200
    shop.execute("select ubp.set_abstention('purchase', null, interval '4 hours 30 minutes')")
    assert "abstained: features are 5 hours old" in str(shop.execute(DETAIL, [1]).fetchone())


def test_features_get_stale_between_two_statements(shop: Connection) -> None:
    """Nothing changes but the clock."""
    query = "select ubp.predict('purchase', 1::bigint)"
    assert shop.execute(query).fetchone() != (None,)  # and the session has loaded what it needs
    shop.execute("select ubp.set_abstention('purchase', null, interval '4 seconds')")
    shop.execute((FRESH % 0).encode())
    for _ in range(3):
        assert shop.execute(query).fetchone() != (None,)
    shop.execute("select pg_sleep(4.1)")
    assert shop.execute(query).fetchone() == (None,)
    assert set(scan(shop).values()) == {None}


def test_an_abstention_is_undone_with_its_transaction(shop: Connection) -> None:
    before = said(shop)
    with shop.transaction(force_rollback=True):
        assert scan(shop) == before
        shop.execute("select ubp.set_abstention('purchase', 4)")
        assert set(scan(shop).values()) == {None}
    assert scan(shop) == before


def test_challengers_abstain_too(shop: Connection) -> None:
    shop.execute("select ubp.challenge_model('purchase', 2, 0.5)")
    everything(shop)
    shop.execute("select ubp.set_abstention('purchase', 4)")
    assert set(everything(shop).values()) == {None}
