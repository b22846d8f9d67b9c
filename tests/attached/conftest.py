"""Fixtures: `shop`, a database with tables of a role that owns them and is in ubp_admin."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fix_database import Database
from ubp_sql.embedded import Cluster

Row = dict[str, Any]
SETUP = """
create schema shop authorization shop_owner;
set role shop_owner;
create type shop.mood as enum ('view', 'buy');
create table shop.orders (
  id integer generated always as identity primary key, customer integer, at timestamptz, amount numeric(9, 2),
  sku text, state text not null default 'paid');
insert into shop.orders (customer, at, amount, sku)
select g % 7, '2024-01-01 00:00+00'::timestamptz + g * interval '1 hour', g, 's' || g % 3 from generate_series(1, 40) g;
create table shop.visits (visitor uuid, at timestamp, what shop.mood, page varchar(40));
insert into shop.visits select md5((g % 5)::text)::uuid, '2024-01-01'::timestamp + g * interval '1 minute', 'view', 'p'
  from generate_series(1, 30) g;
"""
ORDERS = "'shop.orders', 'customer', 'at', '''purchase''', item_id => 'sku', value => 'amount'"
VISITS = "'shop.visits', 'visitor', 'at', 'what', time_zone => 'Europe/Berlin'"


class Shop:
    """A session of the tables' owner, and of a superuser."""

    def __init__(self, db: Database, owner: psycopg.Connection[Any], root: psycopg.Connection[Any]) -> None:
        self.db, self.owner, self.root = db, owner, root

    def run(self, query: str, *arguments: object) -> None:
        self.owner.execute(query.encode(), arguments or None)

    def admin(self, query: str) -> None:
        """As the superuser."""
        self.root.execute(query.encode())

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """As the superuser."""
        return self.root.execute(query.encode(), arguments or None).fetchall()

    def one(self, query: str, *arguments: object) -> Any:
        rows = self.rows(query, *arguments)
        return rows[0][0] if rows else None

    def attach(self, arguments: str = ORDERS, *, dry_run: bool = False) -> list[Row]:
        """What attach_source returns, called by the owner."""
        flag = ", dry_run => true" if dry_run else ""
        query = f"select * from ubp.attach_source({arguments}{flag})"
        return self.owner.cursor(row_factory=dict_row).execute(query.encode()).fetchall()

    def detach(self, source: str = "shop.orders") -> list[Row]:
        query = "select * from ubp.detach_source(%s)"
        return self.owner.cursor(row_factory=dict_row).execute(query, [source]).fetchall()

    def refused(self, arguments: str) -> psycopg.Error:
        """The error of a dry run, which must be one of ours."""
        with pytest.raises(psycopg.Error) as caught:
            self.attach(arguments, dry_run=True)
        assert (caught.value.sqlstate or "").startswith("UB"), caught.value
        return caught.value

    def problems(self) -> list[tuple[str, str, str]]:
        return self.rows("select * from ubp.source_problems()")

    def log(self, since: int = 0) -> list[tuple[Any, ...]]:
        """(op, lowest, highest, users, keys) of what was logged about attached sources, without attaching itself."""
        found = self.rows(
            "select op, min_id, max_id, users, keys, log_id from ubp.event_log where origin > 0 order by log_id"
        )
        return [(op, low, high, sorted(users) if users else None, sorted(keys) if keys else None)
                for op, low, high, users, keys, _ in found][since:]  # fmt: skip

    def fold(self) -> None:
        self.rows("select * from ubp.build_mirror()")

    def equal(self) -> None:
        """Nothing that verify_mirror finds."""
        assert self.rows("select * from ubp.verify_mirror()") == []


@pytest.fixture(scope="session")
def owner(cluster: Cluster, installed: str) -> Iterator[str]:
    """A role that owns tables and is in ubp_admin."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute("create role shop_owner login in role ubp_admin")
        conn.execute("create role stranger login in role ubp_admin")
        yield "shop_owner"
        conn.execute("drop role shop_owner")
        conn.execute("drop role stranger")


@pytest.fixture
def shop(db: Database, owner: str) -> Iterator[Shop]:
    """Tables of shop_owner, nothing attached."""
    with db.connect(user=owner) as conn, db.connect() as root:
        root.execute(SETUP.encode())
        root.execute("reset role")
        yield Shop(db, conn, root)
