"""Features of attached relations are those of the same events in ubp.events, to the bit, whatever becomes of rows."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.attached.engine import CLICKS, ORDERS, PARTITIONED, VISITS, Attached, Both, attach, create
from tests.fix_database import Database, drop
from tests.fix_database import create as clone
from tests.refresh.helpers import START, refresh
from ubp_sql.embedded import Cluster


@pytest.fixture
def twin(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = clone(cluster, installed)
    yield made
    drop(made)


MOVES = (timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=7))


@pytest.mark.parametrize(
    "sources", [(ORDERS,), (CLICKS,), (VISITS,), (ORDERS, CLICKS, VISITS)], ids=lambda s: s[-1].name
)
@pytest.mark.parametrize("mirror", [True, False])
def test_any_changes(db: Database, twin: Database, sources: tuple[Attached, ...], mirror: bool) -> None:
    with db.connect() as conn, twin.connect() as other:
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        for of in sources:
            create(conn, of)
        both = Both(conn, other, sources, seed=len(sources) + mirror)
        both.begin()
        as_of, everybody = START, 0
        for of in sources:
            both.insert(of, 30)
        if len(sources) > 1:
            conn.execute(
                "insert into ubp.events (user_id, event_time, kind, ingested_at) select n %% 4, %s, 'view', %s"
                " from generate_series(1, 9) n",
                [START - timedelta(days=2)] * 2,
            )
        both.check(as_of)
        for _ in range(4):
            for of in sources:
                for _ in range(both.random.randrange(3)):
                    both.change(of) if both.random.random() < 0.5 else both.insert(of, both.random.randrange(1, 5))
            both.check_live(as_of)
            as_of += both.random.choice(MOVES)
            everybody += both.check(as_of)["detail"].startswith("everybody")
        both.check_oracle()
        assert everybody < 4


def test_partitions_that_come_and_go(db: Database, twin: Database) -> None:
    with db.connect() as conn, twin.connect() as other:
        create(conn, PARTITIONED)
        conn.execute("create table shop.early partition of shop.sales for values from (minvalue) to ('2025-02-01')")
        conn.execute("create table shop.rest partition of shop.sales default")
        both = Both(conn, other, [PARTITIONED], seed=3)
        both.begin()
        both.insert(PARTITIONED, 40)
        both.check(START)
        both.insert(PARTITIONED, 5)
        both.check_live(START)
        assert not both.check(START + timedelta(hours=1))["detail"].startswith("everybody")
        # One that is filled under its own name before anybody listens to it, and one that comes with its rows.
        conn.execute("create table shop.future (like shop.sales)")
        conn.execute(
            "alter table shop.sales attach partition shop.future for values from ('2030-01-01') to ('2031-01-01')"
        )
        conn.execute(
            "insert into shop.future (id, customer, at, what, state) values (900, 3, '2030-05-01', 'view', 'new')"
        )
        conn.execute("create table shop.past (like shop.sales)")
        conn.execute(
            "insert into shop.past select 1000 + n, n %% 5, %s + n * interval '1 hour', 'view', 1, 2, null, 'new'"
            " from generate_series(1, 20) n",
            [START - timedelta(days=4)],
        )
        conn.execute("alter table shop.sales detach partition shop.rest")
        both.check(START + timedelta(hours=2))
        low, high = START - timedelta(days=4), START - timedelta(days=2)
        conn.execute(
            f"alter table shop.sales attach partition shop.past for values from ('{low}') to ('{high}')".encode()
        )
        assert not both.check(START + timedelta(hours=3))["detail"].startswith("everybody")
        # What names it is not heard until the owner has it watched: until then each fold reads its users anew.
        conn.execute("insert into shop.past (id, customer, at, what, state) values (2000, 4, %s, 'cart', 'new')", [low])
        assert not both.check(START + timedelta(hours=3))["detail"].startswith("everybody")
        conn.execute("update shop.past set price = 7 where customer = 1")
        conn.execute("select * from ubp.watch_sources()")
        assert not both.check(START + timedelta(hours=3))["detail"].startswith("everybody")
        assert refresh(conn, START + timedelta(hours=3))["recomputed"] == 0
        conn.execute("update shop.past set price = 9 where customer = 2")
        both.check_live(START + timedelta(hours=3))
        assert both.check(START + timedelta(hours=3))["recomputed"] == 1
        conn.execute("drop table shop.past")
        assert both.check(START + timedelta(hours=3))["detail"].startswith("everybody")
        both.check_oracle()


@pytest.mark.parametrize("form", ["id", "text", "nothing"])
@pytest.mark.parametrize("mirror", [True, False])
def test_a_view_is_read_beyond_its_mark(db: Database, twin: Database, form: str, mirror: bool) -> None:
    """By ids, by event times, and by ingestion where only whole users tell rows apart; late ones with an overlap."""
    base = CLICKS if form == "text" else ORDERS
    seen = base._replace(name="seen", event_id=None if form == "nothing" else "id")
    with db.connect() as conn, twin.connect() as other:
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        create(conn, base)
        both = Both(conn, other, [seen], seed=5)
        both.insert(base, 30)
        conn.execute(f"create view shop.seen as select * from shop.{base.name}".encode())
        both.begin()
        both.check(START + timedelta(days=3))
        marks = []
        for hours in range(1, 4):
            both.since = START + timedelta(days=10, hours=hours)
            both.insert(base, 6)
            both.insert(base, 3)
            assert not both.check(START + timedelta(days=11))["detail"].startswith("everybody")
            marks += conn.execute("select watermark_at from ubp.attached_sources").fetchall()
        assert marks == sorted(set(marks))
        near, far = (START + timedelta(days=10, hours=3) - ago for ago in (timedelta(minutes=5), timedelta(days=5)))
        order = "insert into shop.orders values ({}, 1, {}, 'view', 1, 2, null, 'new')"
        click = "insert into shop.clicks select gen_random_uuid(), visitor, %s, 'view' from shop.clicks"
        row: tuple[str, Any, Any] = {
            "id": (order.format("%s", "now()"), -9_000, -11_000),
            "nothing": (order.format("-1", "%s"), near, far),
            "text": (f"{click} where visitor is not null limit 1", near.replace(tzinfo=None), far.replace(tzinfo=None)),
        }[form]
        conn.execute(row[0].encode(), [row[1]])
        both.check(START + timedelta(days=12))
        # Of somebody else: whose events are read by whole users, of him nothing is missed that lies near his new rows.
        other_user = row[0].replace("-1, 1,", "-2, 77,").replace("%s, 1,", "%s, 77,")
        conn.execute(other_user.encode(), [row[2]])
        if mirror:
            with pytest.raises(AssertionError):
                both.check(START + timedelta(days=12))
        conn.execute("select ubp.rebuild_mirror()")
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        both.check(START + timedelta(days=12))
        both.check_oracle()


def test_truncated(db: Database, twin: Database) -> None:
    with db.connect() as conn, twin.connect() as other:
        for of in (ORDERS, VISITS):
            create(conn, of)
        both = Both(conn, other, [ORDERS, VISITS], seed=6)
        both.begin()
        for of in both.sources:
            both.insert(of, 30)
        both.check(START)
        conn.execute("truncate shop.visits")
        both.insert(VISITS, 3)
        both.check_live(START)
        both.check(START)


@pytest.mark.parametrize("mirror", [True, False])
def test_linked_users(db: Database, twin: Database, mirror: bool) -> None:
    """Under one id after the link, in every place where events lie, and as before without it."""
    sources = [ORDERS, CLICKS, VISITS]
    with db.connect() as conn, twin.connect() as other:
        conn.execute("update ubp.mirror_state set enabled = %s", [mirror])
        for of in sources:
            create(conn, of)
        both = Both(conn, other, sources, seed=8)
        both.begin()
        for of in sources:
            both.insert(of, 30)
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind, ingested_at) select n %% 4, %s, 'view', %s"
            " from generate_series(1, 9) n",
            [START - timedelta(days=2)] * 2,
        )
        both.check(START)
        click = conn.execute(
            "select user_key, user_id from ubp.users where user_key like '0%' order by 1 limit 1"
        ).fetchone()
        assert click is not None
        links = [("1", "2", {2: 1}), ("5", click[0], {2: 1, click[1]: 5}), ("1", "5", {2: 1, click[1]: 1, 5: 1})]
        for number, (key, member, members) in enumerate(links):
            conn.execute("select ubp.link_users(%s, %s)", [key, member])
            both.members = members
            both.check_live(START)
            if number != 1:
                both.check(START)
                # The log speaks of the member alone.
                conn.execute("update ubp.events set kind = 'cart', value = %s where user_id = 2", [number])
                assert conn.execute("select users from ubp.event_log").fetchall() == [([2],)]
                both.check_live(START)
            for of in sources:
                both.insert(of, 4)
                both.change(of)
            conn.execute("insert into ubp.events (user_id, event_time, kind) values (2, %s, 'cart')", [START])
            both.check_live(START)
            both.check(START)
        both.check_oracle()
        for (key, member, _), members in zip(reversed(links), ({2: 1, click[1]: 5}, {2: 1}, {}), strict=True):
            conn.execute("select ubp.unlink_users(%s, %s)", [key, member])
            both.members = members
            both.check_live(START)
            both.check(START)


def test_without_attached_sources_nothing_is_read_otherwise(db: Database) -> None:
    """The queries of ubp.events are those of a database that knows of nothing else."""
    with db.connect() as conn:
        conn.execute("insert into ubp.events (user_id, event_time, kind) values (1, now(), 'view')")
        plan = conn.execute("explain (costs off) select * from ubp.event_rows() where user_id = 1").fetchall()
        other = conn.execute("explain (costs off) select * from ubp.events where user_id = 1").fetchall()
        assert [line for (line,) in plan] == [line.replace("events_1", "e_1") for (line,) in other] or len(plan) == len(
            other
        )


def test_installing_again_keeps_what_is_attached(db: Database) -> None:
    from ubp_sql.install import commands

    with db.connect() as conn:
        create(conn, ORDERS)
        attach(conn, ORDERS)
        conn.execute("insert into shop.orders values (1, 1, now(), 'view', 1, 2, null, 'new')")
        commands.init(conn)
        assert conn.execute("select user_id, raw_id from ubp.all_events").fetchall() == [(1, 1)]
