"""A table that a logical subscription writes: its apply worker fires triggers of rows alone."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.fix_database import Database
from ubp_sql.embedded import Cluster
from ubp_sql.install import commands

pytestmark = pytest.mark.slow
PATIENCE = 20.0
TABLE = "create table orders (id bigint primary key, customer text, at timestamptz)"
HEARD = "select op, keys from ubp.event_log where origin > 0 and op <> 'T' order by log_id"


@pytest.fixture
def pair() -> Iterator[tuple[Database, Database]]:
    """A publishing database and an installed one that subscribes to it, in a cluster of their own."""
    directory = Path(tempfile.mkdtemp(prefix="ubp-logical-"))
    directory.chmod(0o711)
    cluster = Cluster(directory, fast=True)
    try:
        cluster.start()
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
            conn.execute("alter system set wal_level = logical")
            conn.execute("alter system set max_wal_senders = 4")
            conn.execute("create database there")
            conn.execute("create database here")
        cluster.stop()
        cluster.start()
        there, here = Database(cluster, "there"), Database(cluster, "here")
        there.execute(TABLE)
        there.execute("create publication orders for table orders")
        there.execute("select pg_create_logical_replication_slot('orders', 'pgoutput')")
        with here.connect() as conn:
            commands.init(conn)
            conn.execute(TABLE)
            made = sql.SQL(
                "create subscription orders connection {} publication orders"
                " with (create_slot = false, slot_name = orders, copy_data = false)"
            )
            conn.execute(made.format(sql.Literal(there.dsn)))
        yield there, here
        here.execute("alter subscription orders disable")
    finally:
        cluster.remove()
        shutil.rmtree(directory, ignore_errors=True)


def test_what_a_subscription_writes_is_heard(pair: tuple[Database, Database]) -> None:
    there, here = pair
    steps = here.rows("select * from ubp.attach_source('orders', 'customer', 'at', '''buy''', dry_run => true)")
    assert any("alter table public.orders enable replica trigger ubp_row" in row["detail"] for row in steps)
    here.execute("select * from ubp.attach_source('public.orders', 'customer', 'at', '''buy''')")
    there.execute("insert into orders select g, 'c' || g % 2, now() from generate_series(1, 4) g")
    there.execute("update orders set customer = 'd' where id = 1")
    there.execute("delete from orders where id = 4")
    _until(here, "select count(*) = 3 and bool_or(customer = 'd') from orders")
    heard = [(row["op"], sorted(row["keys"])) for row in here.rows(HEARD)]
    assert {op for op, _ in heard} == {"U"}
    assert [keys for _, keys in heard] == [["c1"], ["c0"], ["c1"], ["c0"], ["c1", "d"], ["c0"]]
    here.execute("select * from ubp.build_mirror()")
    assert here.rows("select * from ubp.verify_mirror()") == []
    here.execute("insert into orders values (100, 'local', now())")
    assert [row["op"] for row in here.rows("select op from ubp.event_log")] == ["I"], (
        "triggers of rows are for the worker"
    )
    there.execute("truncate orders")
    _until(here, "select count(*) = 0 from orders")
    assert here.one("select bool_or(op = 'T') from ubp.event_log where origin > 0")
    here.execute("select * from ubp.build_mirror()")
    assert here.rows("select * from ubp.verify_mirror()") == []
    assert here.rows("select * from ubp.source_problems()") == []


def _until(db: Database, condition: str) -> None:
    until = time.monotonic() + PATIENCE
    while not db.one(condition):
        assert time.monotonic() < until, condition
        time.sleep(0.02)
