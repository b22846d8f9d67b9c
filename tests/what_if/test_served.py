"""Who answers is who answers predict(): challengers, calibration, abstention; attached sources beside ubp.events."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.api.helpers import Connection, refused
from tests.fix_database import Database, clone_filled
from tests.serving_shop import AS_OF, fill
from ubp_sql.embedded import Cluster

SCORES = "select u, ubp.predict_if('purchase', u, %s) from generate_series(1::bigint, 30) u order by u"
PREDICTED = "select u, ubp.predict('purchase', u) from generate_series(1::bigint, 30) u order by u"
AT = "select u, ubp.predict('purchase', u, %s) from generate_series(1::bigint, 30) u order by u"
NOTHING = json.dumps({"as_of": AS_OF.isoformat()})
ONE = '{"events": [{"kind": "purchase", "value": 7, "item_id": 3}]}'
ATTACH = """
create table public.orders (id bigint primary key, who bigint, at timestamptz, amount float8);
insert into public.orders
values (1, 3, '2025-06-20 00:00+00', 7), (2, 3, '2025-06-20 00:00+00', 9), (3, 900, '2025-06-21', 1);
select ubp.attach_source('public.orders', 'who', 'at', '''purchase''', value => 'amount')"""


@pytest.fixture(scope="module")
def served_database(cluster: Cluster, installed: str) -> Iterator[Database]:
    with clone_filled(cluster, installed, fill) as made:
        yield made


@pytest.fixture
def conn(served_database: Database) -> Iterator[Connection]:
    """In a transaction that is rolled back."""
    with served_database.connect() as made, made.transaction(force_rollback=True):
        yield made


def test_a_moment_alone_is_predict_at_it(conn: Connection) -> None:
    assert conn.execute(SCORES, [NOTHING]).fetchall() == conn.execute(PREDICTED).fetchall()


def test_a_challenger_answers_for_its_users(conn: Connection) -> None:
    before, alone = conn.execute(SCORES, [ONE]).fetchall(), conn.execute(PREDICTED).fetchall()
    conn.execute("select ubp.challenge_model('purchase', 2, 0.5)")
    after, shared = conn.execute(SCORES, [ONE]).fetchall(), conn.execute(PREDICTED).fetchall()
    others = {u for (u, one), (_, other) in zip(alone, shared, strict=True) if one != other}
    assert 3 < len(others) < 27
    assert any(one != other for (_, one), (_, other) in zip(before, after, strict=True))
    assert conn.execute(SCORES, [NOTHING]).fetchall() == shared
    conn.execute(
        "insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at)"
        " select u, %(at)s, 'purchase', 3, 7, %(at)s from generate_series(1, 30) u",
        {"at": AS_OF - timedelta(microseconds=1)},
    )
    assert conn.execute(AT, [AS_OF]).fetchall() == after


def test_the_value_is_calibrated(conn: Connection) -> None:
    raw = conn.execute(SCORES, [ONE]).fetchall()
    made = conn.execute("select ubp.add_calibration_map('purchase', 1, 'isotonic', array[0, 1], array[0.1, 0.3])")
    conn.execute("select ubp.use_calibration('purchase', %s)", made.fetchone())
    mapped = conn.execute(SCORES, [ONE]).fetchall()
    assert [value for _, value in mapped] == pytest.approx([0.1 + 0.2 * value for _, value in raw])
    detail = conn.execute("select score, before from ubp.predict_if_detail('purchase', 3, %s)", [ONE]).fetchone()
    assert detail == (mapped[2][1], conn.execute("select ubp.predict('purchase', 3)").fetchone()[0])  # type: ignore[index]


def test_a_task_that_abstains(conn: Connection) -> None:
    """Users have three purchases."""
    reasons = "select reason, before from ubp.predict_if_detail('purchase', 3, %s)"
    conn.execute("select ubp.set_abstention('purchase', 4)")
    assert conn.execute(reasons, [ONE]).fetchone() == (None, None), "the fourth"
    for few in ('{"count_purchase_7d": 1}', NOTHING):
        found = conn.execute(reasons, [few]).fetchone()
        assert found is not None
        assert found[0].startswith("abstained: fewer than 4")
    conn.execute("select ubp.set_abstention('purchase', null, '1 day')")
    assert conn.execute(reasons, [ONE]).fetchone()[0].startswith("abstained: features are")  # type: ignore[index]
    assert conn.execute(reasons, [NOTHING]).fetchone() == (None, None), "a moment that is named is of no age"


def test_events_of_an_attached_source(conn: Connection) -> None:
    """A hypothetical event stands where a row of ubp.events would: before those of attached relations at its time."""
    conn.execute(ATTACH)
    event = {"kind": "purchase", "value": 1000, "event_time": "2025-06-20 00:00+00"}
    changes = json.dumps({"events": [event], "as_of": AS_OF.isoformat()})
    said = conn.execute("select features from ubp.predict_if_detail('purchase', 3, %s)", [changes]).fetchone()
    names = conn.execute("select array_agg(feature order by position) from ubp.feature_catalogue").fetchone()
    with conn.transaction(force_rollback=True):
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind, value, ingested_at)"
            " values (3, '2025-06-20 00:00+00', 'purchase', 1000, '2025-06-20 00:00+00')"
        )
        live = conn.execute("select ubp.feature_vector(3, %s)", [AS_OF]).fetchone()
    assert said is not None
    assert names is not None
    assert live is not None
    vector = dict(zip(names[0], live[0], strict=True))
    assert said[0]["sum_value_purchase_30d"][1] > 1000
    assert {name: after for name, (_, after) in said[0].items()} == {name: vector[name] for name in said[0]}
    query = "select value from ubp.explain_events('purchase', 3, 'sum_value_purchase_30d')"
    assert conn.execute(f"{query} where event_id >= 2::bigint ^ 48").fetchall() == [(9.0,), (7.0,)]
    conn.execute("alter table public.orders rename to those; create table public.orders (like public.those)")
    refused(conn, "UB015", query)
