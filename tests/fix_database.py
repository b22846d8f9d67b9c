"""Fixtures: databases. `db` is a clone of an installed template, `empty_db` an empty one; both go after the test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row, scalar_row

from ubp_sql.embedded import Cluster
from ubp_sql.install import commands

TEMPLATE = "ubp_template"
DATA = Path(__file__).parents[2] / "shared" / "data"
_numbers = itertools.count(1)


class Database:
    """A throw-away database of the test cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.dsn = cluster.dsn(name)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A new autocommit connection as superuser (or as `user`)."""
        return psycopg.connect(self.dsn, autocommit=True, **options)

    def execute(self, query: str, *arguments: object) -> None:
        with self.connect() as conn:
            conn.execute(query, arguments or None)

    def one(self, query: str, *arguments: object) -> Any:
        """First column of the first row."""
        with self.connect() as conn, conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, arguments or None).fetchone()

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        with self.connect() as conn, conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, arguments or None).fetchall()


def create(cluster: Cluster, template: str) -> Database:
    name = f"t{next(_numbers)}"
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
    return Database(cluster, name)


def drop(database: Database) -> None:
    with psycopg.connect(database.cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database.name)))


@contextmanager
def clone(cluster: Cluster, template: str) -> Iterator[Database]:
    """A database of its own, made from another that nobody is connected to; it goes at the end."""
    made = create(cluster, template)
    try:
        yield made
    finally:
        drop(made)


@contextmanager
def clone_filled(
    cluster: Cluster, template: str, fill: Callable[[psycopg.Connection[Any]], object]
) -> Iterator[Database]:
    """A clone that `fill` has filled, for others to be cloned from."""
    with clone(cluster, template) as made:
        with made.connect() as conn:
            fill(conn)
        yield made


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> str:
    """Name of a template database with ubp_sql installed."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(cluster.dsn(TEMPLATE), autocommit=True) as conn:
        commands.init(conn)
    return TEMPLATE


@pytest.fixture
def db(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A fresh installed database."""
    with clone(cluster, installed) as made:
        yield made


@pytest.fixture
def empty_db(cluster: Cluster) -> Iterator[Database]:
    """A fresh database without anything of ubp_sql; the cluster's roles may be there from other databases."""
    made = create(cluster, "template0")
    yield made
    drop(made)


@pytest.fixture(scope="session")
def shop(cluster: Cluster, installed: str) -> Iterator[Database]:
    """A session-wide database with a small simulated log, features, a trained and deployed model. Read only."""
    from tests.make_shop import fill

    made = create(cluster, installed)
    fill(made)
    yield made
    drop(made)


@pytest.fixture
def shop_copy(shop: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `shop` that a test may change."""
    with clone(cluster, shop.name) as made:
        yield made


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The real log beside the checkout."""
    path = DATA / "online_retail.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the checkout")
    return path
