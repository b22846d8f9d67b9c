"""A cluster of the benches' own, and databases in it that are made once and kept for the next run."""

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from ubp_sql.embedded import Cluster
from ubp_sql.install import commands
from ubp_sql.sources.load import LoadResult, load_file
from ubp_sql.sources.load_map import LoadMap

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "online_retail.csv.gz"


def cluster() -> Cluster:
    """A running cluster with PostgreSQL's usual durability."""
    made = Cluster(ROOT / ".ubp-bench")
    made.start()
    return made


def fresh(server: Cluster, name: str) -> psycopg.Connection[Any]:
    """A new database with ubp_sql installed; one of that name is dropped."""
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    conn = psycopg.connect(server.dsn(name), autocommit=True)
    commands.init(conn)
    return conn


def purchases(name: str) -> psycopg.Connection[Any]:
    """A new database of the real log, with the standard features and the task `purchase`."""
    conn = fresh(cluster(), name)
    load_online_retail(conn)
    conn.execute("select ubp.define_feature_set('default')")
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    return conn


def load_online_retail(conn: psycopg.Connection[Any]) -> LoadResult:
    """The real log through the shipped map."""
    if not DATA.exists():
        raise SystemExit(f"{DATA.name} is not beside the checkout: this case needs it")
    return load_file(conn, DATA, LoadMap.from_file("online_retail"))
