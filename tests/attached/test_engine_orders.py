"""Two writers of an attached table and two folds in many orders of their steps: nothing is lost, nothing twice."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest

from tests.attached.engine import CLICKS, ORDERS, Attached, attach, create
from tests.fix_database import Database
from tests.mirror.helpers import Log
from tests.mirror.test_interleavings import ORDERS as STEPS
from tests.mirror.test_interleavings import WRITERS, in_order

Step = Callable[[psycopg.Connection[Any]], object]
DRAWN = Random(7).sample(STEPS, 12)
INSERT = {
    "orders": "insert into shop.orders (id, customer, at, what, state) select u, u, '2024-01-20', 'view', 'new' from"
    " unnest(%s::integer[]) u",
    "clicks": "insert into shop.clicks select gen_random_uuid(), lpad(u::text, 32, '0')::uuid, '2024-01-20', 'view'"
    " from unnest(%s::integer[]) u",
}
UPDATE = {
    "orders": "update shop.orders set price = 1 where customer = any (%s)",
    "clicks": "update shop.clicks set amount = 1 where ltrim(replace(visitor::text, '-', ''), '0')::integer = any (%s)",
}
IDS = "select user_id from ubp.users where ltrim(replace(user_key, '-', ''), '0') = any (%s::text[]) order by user_id"


def _writer(of: Attached, users: range) -> list[Step]:
    def insert(conn: psycopg.Connection[Any]) -> None:
        conn.execute("begin")
        conn.execute(INSERT[of.name].encode(), [list(users)])
        conn.execute(UPDATE[of.name].encode(), [list(users)[:2]])

    return [insert, lambda conn: conn.execute("commit")]


def _run(log: Log, of: Attached, number: int, order: str) -> None:
    base = 1000 * (number + 1)
    users = {"a": range(base, base + 5), "b": range(base + 100, base + 105)}
    in_order(log, order, {letter: _writer(of, users[letter]) for letter in WRITERS})
    everyone = [*users["a"], *users["b"]]
    if of is CLICKS:
        everyone = [user for (user,) in log.rows(IDS, [str(user) for user in everyone])]
        assert len(everyone) == 10
    found = log.read("mirror", users=everyone)
    assert found["user_id"].tolist() == everyone, order
    assert found["sizes"].tolist() == [1] * len(everyone), order
    dirty = log.rows("select user_id from ubp.dirty_users where user_id = any (%s) order by user_id", everyone)
    assert [user for (user,) in dirty] == everyone, order


@pytest.fixture
def log(db: Database) -> Iterator[Log]:
    with db.connect() as conn:
        found = Log(db, conn)
        found.small()
        found.run("insert into ubp.feature_sets (name, hash, definition) values ('s', 'h', '{}')")
        for of in (ORDERS, CLICKS):
            create(conn, of)
            attach(conn, of)
        found.fold()
        yield found


@pytest.mark.parametrize("of", [ORDERS, CLICKS], ids=lambda of: of.name)
def test_some_orders(log: Log, of: Attached) -> None:
    for number, order in enumerate(DRAWN):
        _run(log, of, number, order)
    log.equal()


@pytest.mark.slow
@pytest.mark.parametrize("of", [ORDERS, CLICKS], ids=lambda of: of.name)
def test_every_order(log: Log, of: Attached) -> None:
    for number, order in enumerate(STEPS):
        _run(log, of, number, order)
    log.equal()
