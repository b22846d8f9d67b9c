"""Scores of the second tier against the first's, to the bit: a model of the simulated shop, in every way to ask."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database, create, drop
from tests.make_shop import AS_OF
from tests.sql_tier.helpers import move, owner, stored
from ubp_sql.embedded import Cluster

KEYED = "insert into ubp.users (user_key, user_id) overriding system value values ('ann', 4000000000000007)"


@pytest.fixture(scope="module")
def full(cluster: Cluster, shop: Database) -> Iterator[Database]:
    """The shop with a calibration map, and a user of a key text."""
    made = create(cluster, shop.name)
    with made.connect() as conn:
        conn.execute(
            "select ubp.use_calibration('purchase', ubp.add_calibration_map('purchase', 1, 'platt', array[0.8, -0.3]))"
        )
        conn.execute(KEYED)
        conn.execute(
            "update ubp.events set user_id = 4000000000000007"
            " where user_id = (select min(user_id) from ubp.score_rows where score is not null)"
        )
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select * from ubp.score_users('purchase')")
    yield made
    drop(made)


@pytest.fixture(scope="module")
def conns(full: Database, shared_tier: Database) -> Iterator[tuple[Connection, Connection]]:
    with full.connect() as conn, owner(shared_tier) as tier:
        move(conn, tier, "purchase")
        tier.execute(KEYED.encode())
        assert tier.execute("select ubp.predict_purchase(1)").fetchone() == (None,), "no features yet"
        refused(tier, "UB005", "select * from ubp.score_users('purchase')")
        tier.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        tier.execute("select * from ubp.score_users('purchase')")
        yield conn, tier


def refused(conn: Connection, sqlstate: str, query: str, *arguments: object) -> None:
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(query.encode(), arguments or None)
    assert caught.value.sqlstate == sqlstate, caught.value
    assert str(caught.value.diag.message_primary).startswith("ubp: ")
    assert caught.value.diag.message_hint


def both(conns: tuple[Connection, Connection], query: str, *arguments: object) -> list[Any]:
    """What both tiers say, which is the same."""
    ours, theirs = (conn.execute(query.encode(), arguments or None, binary=True).fetchall() for conn in conns)
    assert theirs == ours
    return theirs


def test_everybody(conns: tuple[Connection, Connection]) -> None:
    scored = conns[1].execute("select users, scored, without_score from ubp.score_users('purchase')").fetchone()
    query = "select task, user_id, score, percentile, reason, version, as_of from ubp.user_scores order by user_id"
    found = both(conns, query)
    assert scored == (len(found), sum(row[2] is not None for row in found), sum(row[2] is None for row in found))
    assert len({row[2] for row in found}) > 100
    assert {row[4] for row in found} > {None}


def test_every_way_to_ask(conns: tuple[Connection, Connection]) -> None:
    users = [row[0] for row in both(conns, "select user_id from ubp.user_scores order by user_id")]
    some = [*users[:3], *users[-3:], -5]
    assert users[-1] == 4_000_000_000_000_007
    asked = "from unnest(%s::bigint[]) u order by u"
    past = AS_OF - timedelta(days=40)
    both(conns, f"select u, ubp.predict('purchase', u), ubp.predict_purchase(u) {asked}", users)
    both(
        conns,
        f"select u, ubp.predict('purchase', u, %s), ubp.predict_purchase(u, %s) {asked}".replace("%s", "%s", 1),
        past,
        past,
        some,
    )
    both(
        conns,
        "select d.* from unnest(%s::bigint[]) u cross join lateral ubp.predict_detail('purchase', u) d",
        users[:40] + some,
    )
    both(
        conns,
        "select d.* from unnest(%s::bigint[]) u cross join lateral ubp.predict_detail('purchase', u, %s) d",
        some,
        past,
    )
    both(conns, "select * from ubp.predict_many('purchase', %s)", [*some, None])
    keys = ["ann", " ann ", str(users[1]), f"{users[1]}.0", "nobody", "-1", "4000000000000000", ""]
    both(
        conns,
        "select k, ubp.resolve_user(k), ubp.predict('purchase', k), ubp.predict_purchase(k) from unnest(%s::text[]) k",
        keys,
    )
    both(conns, "select ubp.predict_purchase(k, %s) from unnest(%s::text[]) k", past, keys)
    both(conns, "select d.* from unnest(%s::text[]) k cross join lateral ubp.predict_detail('purchase', k) d", keys)


def test_score_is_the_models_own(conns: tuple[Connection, Connection]) -> None:
    rows = list(stored(conns[1]).values())[:40]
    found = [both(conns, "select ubp.score('purchase', %s::float8[])", [float(x) for x in row])[0][0] for row in rows]
    width = len(rows[0])
    odd = [[1e300] * width, [-1e300] * width, [1e-300] * width, [None] * width, ["Infinity"] * width, ["NaN"] * width]
    for row in odd:
        found.append(both(conns, "select ubp.score('purchase', %s::float8[], 1)", row)[0][0])
    values = [both(conns, "select score from ubp.user_scores where score is not null order by user_id")]
    assert len(set(found)) > 10
    assert not set(found) & {value for rows_ in values for (value,) in rows_}, "predict gives the value of the map"


def test_refusals(conns: tuple[Connection, Connection]) -> None:
    tier = conns[1]
    refused(tier, "UB001", "select ubp.predict('nothing', 1)")
    refused(tier, "UB004", "select ubp.score('purchase', array[1.0], 9)")
    refused(tier, "UB003", "select ubp.score('purchase', array[1.0])")
    for conn in conns:
        refused(conn, "UB003", "select ubp.score('purchase', null)")
        refused(conn, "UB003", "select ubp.score('purchase', '{}')")
    refused(tier, "UB003", "select ubp.predict('purchase', 1, null)")
    refused(tier, "UB003", "select ubp.predict('purchase', 1, 'infinity')")
    refused(tier, "UB003", "select ubp.refresh_features('-infinity')")
    refused(tier, "UB005", "select ubp.refresh_features(now(), 'no_set')")
    refused(tier, "UB005", "select ubp.feature_vector(1, now(), 'no_set')")
    assert tier.execute("select ubp.predict('purchase', null::bigint)").fetchone() == (None,)


def test_a_model_of_another_set_is_refused(conns: tuple[Connection, Connection]) -> None:
    tier = conns[1]
    tier.execute("begin")
    tier.execute("update ubp.feature_sets set hash = 'another'")
    tier.execute("savepoint s")
    for query in ("select ubp.predict('purchase', 1)", "select * from ubp.score_users('purchase')"):
        refused(tier, "UB002", query)
        tier.execute("rollback to s")
    tier.execute("rollback")
