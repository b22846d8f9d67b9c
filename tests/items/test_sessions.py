"""Two sessions: a transaction that speaks of items while others insert events and fold."""

import re
from itertools import permutations
from random import Random

import psycopg
import pytest

from tests.items.helpers import seen
from tests.mirror.helpers import Connection, Log

SAY = "insert into ubp.item_attributes (item_id, name, value, valid_from) values (1, 'unit price', {}, '-infinity')"
HAPPEN = "insert into ubp.events (user_id, event_time, kind, item_id) values ({}, now(), 'view', 1)"
DIRTY = "select user_id from ubp.dirty_users order by user_id"


@pytest.fixture
def folded(log: Log) -> Log:
    log.run("insert into ubp.feature_sets (name, hash, definition) values ('s', 'h', '{}')")
    log.run(SAY.format(1))
    log.run(HAPPEN.format(1))
    log.fold()
    log.run("delete from ubp.dirty_users")
    return log


def prices(log: Log, way: str) -> list[float]:
    return seen(log, way)["price"]


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
@pytest.mark.parametrize("compact", [False, True])
def test_said_before_known_after(folded: Log, level: str, compact: bool) -> None:
    """Events were folded while a transaction that began before they came, and tells of their item, was under way."""
    with folded.db.connect() as other:
        other.execute(f"begin isolation level {level}".encode())
        other.execute(SAY.format(2).encode())
        for user in (2, 3):
            folded.run(HAPPEN.format(user))
        folded.fold()
        if compact:
            folded.run("select ubp.compact_mirror()")
        assert prices(folded, "mirror") == [1, 1, 1]
        folded.equal()
        folded.run("delete from ubp.dirty_users")
        other.execute("commit")
    folded.run(HAPPEN.format(4))
    assert prices(folded, "rows") == prices(folded, "mirror") == [1, 2, 2, 2]
    folded.equal()
    folded.fold()
    assert prices(folded, "mirror") == [1, 2, 2, 2]
    folded.equal()
    assert folded.rows(DIRTY) == [(2,), (3,), (4,)], "user 1 was known before: his rows stay"


def test_a_reader_in_a_snapshot_of_before(folded: Log) -> None:
    with folded.db.connect() as reader:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select count(*) from ubp.mirror_state")
        folded.run("update ubp.item_attributes set value = 5")
        folded.fold()
        old = Log.__new__(Log)
        old.db, old.conn = folded.db, reader
        assert prices(old, "mirror") == prices(old, "rows") == [1]
        assert reader.execute("select * from ubp.verify_mirror()").fetchall() == []
        reader.execute("commit")
    assert prices(folded, "mirror") == [5]


def test_a_column_that_is_declared_meanwhile(folded: Log) -> None:
    """Its values are of what had been said by then, and of what is committed later."""
    with folded.db.connect() as other:
        other.execute("begin")
        other.execute(b"insert into ubp.item_attributes select 1, 'cost', 3, null, '-infinity', '-infinity'")
        folded.run("select ubp.define_event_column('cost', 'cost', 'number', 'item')")
        folded.fold()
        folded.equal()
        other.execute("commit")
    folded.equal()
    folded.fold()
    folded.equal()
    assert folded.read("mirror", ["view"], numbers=["cost"], keys=[])["cost"].tolist() == [3]


# `a`, `e`: a transaction says an attribute, another an event; `A`, `E`: their commits; `f` a fold, `c` a look.
ORDERS = sorted(
    order
    for order in {"".join(letters) for letters in permutations("aAeEffcc")}
    if order.index("a") < order.index("A") and order.index("e") < order.index("E")
)
# The event is folded before what was to be known of it is committed.
LATE = [order for order in ORDERS if re.search("a.*e.*E.*f.*A", order)]


def test_there_are_orders_in_which_it_matters() -> None:
    assert 0 < len(LATE) < len(ORDERS)


@pytest.mark.parametrize("part", range(3))
def test_some_orders_of_two_transactions_and_folds(folded: Log, part: int) -> None:
    for order in [*Random(part).sample(LATE, 6), *Random(part).sample(ORDERS, 4)]:
        _run(folded, order)


@pytest.mark.slow
def test_every_order_in_which_it_matters(folded: Log) -> None:
    for order in LATE:
        _run(folded, order)


def _run(log: Log, order: str) -> None:
    user = 1 + log.one("select max(user_id) from ubp.events")
    open_now: dict[str, Connection] = {}
    try:
        for letter in order:
            if letter in "ae":
                conn = open_now[letter.upper()] = log.db.connect()
                conn.execute("begin")
                conn.execute((SAY.format(user) if letter == "a" else HAPPEN.format(user)).encode())
            elif letter in "AE":
                with open_now.pop(letter) as conn:
                    conn.execute("commit")
            elif letter == "f":
                log.fold()
            else:
                assert prices(log, "mirror") == prices(log, "rows"), order
    finally:
        for conn in open_now.values():
            conn.close()
    log.fold()
    log.equal()
    assert prices(log, "mirror")[-1] == (user if order.index("a") < order.index("e") else user - 1), order


def test_set_twice_in_one_transaction(folded: Log) -> None:
    """The last word counts, also for an event between the two that was folded in the same transaction."""
    folded.run("select ubp.define_event_column('cost', 'cost', 'number', 'item')")
    with folded.conn.transaction():
        folded.run("select ubp.set_item_attribute(1, 'cost', 7)")
        folded.run(HAPPEN.format(2))
        folded.fold()
        folded.run("select ubp.set_item_attribute(1, 'cost', '8')")
    assert folded.rows("select value, text from ubp.item_attributes where name = 'cost'") == [(8, "8")]
    for _ in range(2):
        assert folded.read("mirror", ["view"], numbers=["cost"], keys=[], users=[2])["cost"].tolist() == [8]
        folded.equal()
        folded.fold()
    same = "insert into ubp.item_attributes (item_id, name, value) values (1, 'x', 1)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        folded.run(f"do $$ begin {same}; {same}; end $$")
