"""Databases of the second tier: without PL/Python, owned by a role that is no superuser, beside one of the first."""

import psycopg
from psycopg import sql

from tests.api.helpers import F32, Connection
from tests.fix_database import Database, create
from ubp_sql.cli.sql_tier import sql_of
from ubp_sql.embedded import Cluster

OWNER = "tier_owner"
COLUMNS = (
    "event_id, user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source, tenant"
)


def bare(cluster: Cluster) -> Database:
    """An empty database of OWNER's, who may do what the owner of a managed database may."""
    made = create(cluster, "template0")
    name = sql.Identifier(made.name)
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        if not conn.execute("select 1 from pg_roles where rolname = %s", [OWNER]).fetchone():
            conn.execute(sql.SQL("create role {} login nosuperuser").format(sql.Identifier(OWNER)))
        conn.execute(sql.SQL("alter database {} owner to {}").format(name, sql.Identifier(OWNER)))
    with owner(made) as conn:
        languages = {row[0] for row in conn.execute("select lanname from pg_language").fetchall()}
        assert languages == {"internal", "c", "sql", "plpgsql"}
        assert conn.execute("select current_setting('is_superuser')").fetchone() == ("off",)
    return made


def owner(database: Database) -> Connection:
    return database.connect(user=OWNER)


def copy_events(full: Connection, tier: Connection) -> None:
    """The events of one database into the other, numbers and times of knowledge too."""
    with (
        full.cursor().copy(f"copy (select {COLUMNS} from ubp.events) to stdout (format binary)") as rows,
        tier.cursor().copy(f"copy ubp.events ({COLUMNS}) from stdin (format binary)") as into,
    ):
        for row in rows:
            into.write(row)


def move(full: Connection, tier: Connection, *tasks: str) -> None:
    """Tasks of one database into the other as files, and its events."""
    for task in tasks:
        tier.execute(sql_of(full, task, None).encode())
    copy_events(full, tier)


def stored(conn: Connection, feature_set: str = "default") -> dict[int, F32]:
    """user_id to row of the second tier."""
    import numpy as np

    query = "select user_id, features from ubp.feature_rows where feature_set = %s"
    return {user: np.array(row, np.float32) for user, row in conn.execute(query, [feature_set], binary=True)}
