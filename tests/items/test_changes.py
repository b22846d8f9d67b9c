"""What is said of items after their events were folded: who is read again, and that nobody is forgotten."""

import math
from collections.abc import Iterator
from random import Random

import psycopg
import pytest

from tests.items.helpers import ALWAYS, Event, Said, bits_of, expected, happen, happenings, say, seen, statements
from tests.items.test_values import same
from tests.mirror.helpers import Log
from ubp_sql.install import commands

DIRTY = "select user_id from ubp.dirty_users order by user_id"
ROWS = [Said(item, "unit price", 10.0 * (1 + item), None, 0, 0) for item in range(3)]
# Users 0, 1 and 2 with item 0 at 1, 11 and 21; user 3 with item 1, user 4 with item 2, user 5 with none; known at once.
EVENTS = [Event(user, 1 + 10 * user, 1 + 10 * user, 0) for user in range(3)]
EVENTS += [Event(3, 5, 5, 1), Event(4, 5, 5, 2), Event(5, 5, 5, None)]
MOMENT = "timestamptz '2024-01-10 00:00+00' + interval '{} minutes'"


@pytest.fixture
def folded(log: Log) -> Iterator[Log]:
    """ROWS and EVENTS in the mirror, a feature set that nothing makes stale."""
    say(log, ROWS)
    happen(log, EVENTS)
    log.run("insert into ubp.feature_sets (name, hash, definition) values ('s', 'h', '{}')")
    log.fold()
    log.run("delete from ubp.dirty_users")
    log.run("update ubp.feature_sets set stale = false")
    yield log
    log.equal()


def prices(log: Log, way: str) -> list[float]:
    return [-1.0 if math.isnan(price) else price for price in seen(log, way)["price"]]


def changed(log: Log, query: str, users: list[int], found: list[float]) -> None:
    """The statement concerns these users and no other; readers see it before the fold and after it."""
    log.run(query)
    assert log.one("select array_agg(op) from ubp.event_log") == ["A"]
    assert prices(log, "mirror") == prices(log, "rows") == found
    log.equal()
    assert log.rows("select * from ubp.verify_mirror()") == []
    log.fold()
    assert prices(log, "mirror") == found
    assert [user for (user,) in log.rows(DIRTY)] == users
    assert not log.one("select stale from ubp.feature_sets")


def test_what_is_said_today_changes_nothing(folded: Log) -> None:
    query = "insert into ubp.item_attributes (item_id, name, value, valid_from) values (0, 'unit price', 99, {})"
    changed(folded, query.format(MOMENT.format(0) + " + interval '1 s'"), [], [10, 10, 10, 20, 30, -1])
    events = folded.one("select count(*) from ubp.mirror_runs")
    assert events == 1, "nothing was read again"


@pytest.mark.parametrize(
    ("valid_from", "ingested", "users"),
    [(0, 11, [1, 2]), (12, 0, [2]), (0, 22, []), (ALWAYS, ALWAYS, [0, 1, 2]), (30, 0, [])],
)
def test_what_was_known_before(folded: Log, valid_from: int, ingested: int, users: list[int]) -> None:
    """Of the item's users those with an event of then: it happened, and was known, no earlier."""
    rows = [*ROWS, Said(0, "unit price", 99.0, None, valid_from, ingested)]
    say(folded, rows[-1:])
    want = [-1.0 if math.isnan(x) else x for x in expected(rows, EVENTS, {})["price"]]
    assert prices(folded, "mirror") == want
    folded.fold()
    assert prices(folded, "mirror") == want
    assert [user for (user,) in folded.rows(DIRTY)] == users


@pytest.mark.parametrize(
    ("query", "users", "found"),
    [
        ("update ubp.item_attributes set value = 7 where item_id = 1", [3], [10, 10, 10, 7, 30, -1]),
        ("update ubp.item_attributes set item_id = 0, valid_from = valid_from + interval '15 min' where item_id = 2",
         [0, 1, 2, 4], [10, 10, 30, 20, -1, -1]),
        ("update ubp.item_attributes set name = 'none' where item_id = 2", [4], [10, 10, 10, 20, -1, -1]),
        ("delete from ubp.item_attributes where item_id = 0", [0, 1, 2], [-1, -1, -1, 20, 30, -1]),
        ("truncate ubp.item_attributes", [0, 1, 2, 3, 4], [-1, -1, -1, -1, -1, -1]),
        ("insert into ubp.item_attributes select item_id, name, 5, null, valid_from, ingested_at"
         " from ubp.item_attributes where item_id > 0 on conflict (item_id, name, valid_from, ingested_at)"
         " do update set value = excluded.value", [3, 4], [10, 10, 10, 5, 5, -1]),
    ],
)  # fmt: skip
def test_a_change(folded: Log, query: str, users: list[int], found: list[float]) -> None:
    changed(folded, query, users, found)


@pytest.mark.parametrize(
    "query",
    [
        "update ubp.item_attributes set value = 7 where item_id = 77",
        "delete from ubp.item_attributes where name = 'none'",
        "insert into ubp.item_attributes select * from ubp.item_attributes where item_id = 77",
    ],
)
def test_nothing_is_logged_for_nothing(folded: Log, query: str) -> None:
    folded.run(query)
    assert folded.one("select count(*) from ubp.event_log") == 0


def test_more_items_than_are_named(folded: Log) -> None:
    """A statement about 10,001 items concerns whoever has an event of some item since."""
    for low, items in ((10, 10_000), (20_000, 10_001)):
        folded.run(
            f"insert into ubp.item_attributes select n, 'x', 1, null, {MOMENT.format(0)}, {MOMENT.format(11)}"
            f" from generate_series({low}, {low} + {items} - 1) n"
        )
        named = folded.one("select cardinality(items) from ubp.event_log")
        assert named == (items if items == 10_000 else None)
        folded.equal()
        folded.fold()
        assert [user for (user,) in folded.rows(DIRTY)] == ([] if named else [1, 2])


def test_without_a_column_of_the_item_nobody_is_concerned(folded: Log) -> None:
    folded.run("delete from ubp.event_columns")
    folded.run("insert into ubp.event_log (op) values ('R')")
    folded.fold()
    folded.run("update ubp.feature_sets set stale = false")
    folded.run("update ubp.item_attributes set value = 1")
    folded.equal()
    folded.fold()
    assert folded.rows(DIRTY) == []
    assert not folded.one("select stale from ubp.feature_sets")


def test_without_a_mirror_everybody_is(folded: Log) -> None:
    folded.run("select ubp.drop_mirror()")
    folded.run("select ubp.define_feature('mean', 'mean', array['purchase'], 'price')")
    folded.run("select * from ubp.refresh_features()")
    folded.run("update ubp.item_attributes set value = 1")
    told = folded.one("select detail from ubp.refresh_features(dry_run => true)")
    assert "everybody: attributes of items changed, and there is no mirror to tell whom" in told
    folded.run("select * from ubp.refresh_features()")
    assert folded.rows("select distinct mean from ubp.user_features order by 1") == [(1.0,), (None,)]
    assert folded.one("select stale from ubp.feature_sets where name = 's'")
    folded.run("update ubp.item_attributes set value = 2")
    folded.run("select ubp.build_mirror()")
    assert folded.one("select stale from ubp.feature_sets where name = 'default'")


@pytest.mark.parametrize("of", ["item", "event"])
def test_a_column_that_is_declared_later(log: Log, of: str) -> None:
    random = Random(3)
    rows, events = statements(random, 60), happenings(random, 60)
    log.run("delete from ubp.event_columns where name = 'price'")
    say(log, rows)
    happen(log, events)
    log.fold()
    say(log, [row._replace(ingested=row.ingested + 1) for row in rows if row.ingested > 0])
    log.run("select ubp.define_event_column('price', 'unit price', 'number', %s)", of)
    log.fold()
    log.equal()
    log.check(["view", "purchase"], numbers=["price"], keys=["category", "tags"])
    assert (seen(log, "mirror")["price"].count(12.5) > 0) == (of == "item")


def test_many_changes_one_after_the_other(log: Log) -> None:
    random = Random(7)
    bits = bits_of(log)
    rows: dict[tuple[object, ...], Said] = {}
    events: list[Event] = []
    for step in range(12):
        new = [row for row in statements(random, 12) if (row.item, row.name, *row[4:]) not in rows]
        if new:
            rows |= {(row.item, row.name, *row[4:]): row for row in new}
            say(log, new)
        more = happenings(random, 20)
        events += more
        happen(log, more)
        if step % 3 == 1:
            item = random.randrange(4)
            log.run("delete from ubp.item_attributes where item_id = %s", item)
            rows = {key: row for key, row in rows.items() if row.item != item}
        want = expected(list(rows.values()), events, bits)
        same(seen(log, random.choice(["rows", "usual"])), want)
        if step % 2:
            log.fold()
            same(seen(log, "mirror"), want)
            log.equal()


def unheard(log: Log, query: str) -> None:
    log.run("set session_replication_role = replica")
    log.run(query)
    log.run("reset session_replication_role")


def test_verify_finds_what_no_trigger_heard(folded: Log) -> None:
    unheard(folded, "update ubp.item_attributes set value = 11 where item_id = 0")
    rows = folded.rows("select user_id, changed from ubp.verify_mirror() where user_id is not null order by user_id")
    assert rows == [(0, 1), (1, 1), (2, 1)]
    folded.run("select ubp.rebuild_mirror()")
    folded.equal()
    folded.run("alter table ubp.item_attributes disable trigger log_delete")
    [(problem,)] = folded.rows("select problem from ubp.verify_mirror()")
    assert problem == "statements on ubp.item_attributes are not logged: a trigger is missing or switched off"
    folded.run("alter table ubp.item_attributes enable trigger log_delete")


def test_a_downgrade_forgets_columns_of_items(folded: Log) -> None:
    folded.run("select ubp.define_event_column('channel', 'channel', 'text')")
    folded.run('update ubp.events set attributes = \'{"channel": "web"}\' where user_id < 3')
    folded.fold()
    folded.run("update ubp.item_attributes set value = 1 where item_id = 1")
    commands.downgrade(folded.conn, "0005", run=True)
    commands.apply(folded.conn)
    assert folded.rows("select name from ubp.event_columns") == [("channel",)]
    folded.fold()
    folded.check(["view", "purchase"], numbers=["value"], keys=["channel"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cost", "x", "number", "user"), "cannot be of 'user'"),
        (("cost", "x", "number", None), "cannot be of None"),
        (("price", "unit price", "number", "event"), "price is 'unit price' of the item as number already"),
        (("value", "x", "number", "item"), "every event has value already"),
    ],
)
def test_refused(log: Log, arguments: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(psycopg.Error, match=words) as error:
        log.run("select ubp.define_event_column(%s, %s, %s, %s)", *arguments)
    assert error.value.sqlstate == "UB003"
