"""Databases with a seeded log: made once, kept in the bench cluster, used again while seed, size and tables agree."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import psycopg

from bench import event_log, ours
from bench.event_log import I64, KINDS, Log
from bench.server import ROOT, cluster, fresh
from ubp_sql.install import commands

_COPY_ROWS = 200_000
_POSTGRES_EPOCH_US = 946_684_800_000_000
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(part for name in ("user", "t") for part in ((f"{name}_size", ">i4"), (name, ">i8"))),
        ("kind_size", ">i4"),
        ("kind", "S8"),
        *(part for name in ("item", "value", "known") for part in ((f"{name}_size", ">i4"), (name, ">i8"))),
    ]
)
_COLUMNS = "(user_id, event_time, kind, item_id, value, ingested_at)"
# What an expert would give the rivals' SQL: only the columns in question, rows in the order they are read, an index
# that covers them, and no partitions to merge.
_RIVAL = """
create table bench.events (user_id bigint not null, event_time timestamptz not null, kind text not null,
                           item_id bigint, value double precision, ingested_at timestamptz not null)"""
_RIVAL_INDEX = """
create index events_covering_idx on bench.events (user_id, kind, event_time) include (item_id, value)
 where kind in ('view', 'purchase')"""
_MADE_ANEW: set[str] = set()
"""Databases that FRESH made anew in this process: once is enough."""
MADE = "create schema bench; create table bench.made (what text primary key, value text not null)"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a log is, and its seed."""

    events: int
    users: int
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.events:,} events of {self.users:,} users, seed {self.seed}"

    @property
    def name(self) -> str:
        """Name of its database."""
        return f"bench_log_{self.events}_{self.users}_{self.seed}"


@cache
def log_of(size: Size) -> Log:
    """The log's events, made once a process."""
    return event_log.make(size.events, size.users, size.seed)


def stored(size: Size, *, rival: bool = False, suffix: str = "") -> psycopg.Connection[Any]:
    """A connection to a database whose ubp.events holds the log; with `rival`, bench.events too, for plain SQL.

    `suffix` keeps apart the databases that a case writes to.
    """
    server, name = cluster(), size.name + suffix
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as conn:
        known = conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
    conn = psycopg.connect(server.dsn(name), autocommit=True) if known else fresh(server, name)
    if not known or _note(conn, "log") != _fingerprint(size) or (os.environ.get("FRESH") and name not in _MADE_ANEW):
        _MADE_ANEW.add(name)
        conn.close()
        conn = fresh(server, name)
        conn.execute(MADE)
        fill(conn, log_of(size))
        _write_note(conn, "log", _fingerprint(size))
    commands.init(conn)  # functions may have changed since
    if rival and _note(conn, "rival") is None:
        add_rival(conn, log_of(size))
        _write_note(conn, "rival", "made")
    return conn


def add_rival(conn: psycopg.Connection[Any], log: Log) -> None:
    """bench.events, for plain SQL."""
    conn.execute(_RIVAL)
    copy(conn, "bench.events", log, np.arange(len(log)))
    conn.execute(_RIVAL_INDEX)
    conn.execute("vacuum (analyze, freeze) bench.events")


@contextmanager
def copied(size: Size) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a copy of the log's database, with mirror and feature rows, that a case may write to."""
    conn = stored(size)
    ours.prepare(conn)
    conn.close()
    name = f"{size.name}_copy"
    with psycopg.connect(cluster().dsn("postgres"), autocommit=True) as conn:
        drop = f"drop database if exists {name} with (force)"
        conn.execute(drop)
        conn.execute(f"create database {name} template {size.name} strategy file_copy")
        try:
            with psycopg.connect(cluster().dsn(name), autocommit=True) as copy_conn:
                yield copy_conn
        finally:
            conn.execute(drop)


def fill(conn: psycopg.Connection[Any], log: Log) -> None:
    """The log into ubp.events in order of time, as it would have come; no trigger fires: the mirror is built later."""
    conn.execute(
        "select ubp.ensure_event_partitions(to_timestamp(%s), to_timestamp(%s))",
        [event_log.BEGIN_US / 1e6, event_log.END_US / 1e6 - 1],
    )
    conn.execute("set session_replication_role = replica")
    copy(conn, "ubp.events", log, np.argsort(log.t_us, kind="stable"))
    conn.execute("reset session_replication_role")
    conn.execute("vacuum (analyze, freeze) ubp.events")


def copy(conn: psycopg.Connection[Any], table: str, log: Log, order: I64) -> None:
    """COPY of the events at the places `order`, in that order; each was known at its own time."""
    with conn.cursor() as cursor, cursor.copy(f"copy {table} {_COLUMNS} from stdin (format binary)") as target:
        target.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for block in _blocks(log, order):
            target.write(block)
        target.write(b"\xff\xff")


def _blocks(log: Log, order: I64) -> Iterator[bytes]:
    """Rows in COPY's binary form: laid out at full width, then without the bytes that a row does not have."""
    names = np.array([kind.encode() for kind in KINDS], "S8")
    sizes = np.array([len(kind) for kind in KINDS])
    for low in range(0, len(order), _COPY_ROWS):
        part = log.taken(order[low : low + _COPY_ROWS])
        rows = np.zeros(len(part), _ROW)
        rows["fields"] = 6
        for name in ("user", "t", "item", "value", "known"):
            rows[f"{name}_size"] = 8
        rows["user"], rows["item"] = part.user, part.item
        rows["t"] = rows["known"] = part.t_us - _POSTGRES_EPOCH_US
        rows["kind"], rows["kind_size"] = names[part.kind], sizes[part.kind]
        rows["value"] = part.value.astype(">f8").view(">i8")
        missing = np.isnan(part.value)
        rows["value_size"][missing] = -1
        there = np.ones((len(part), _ROW.itemsize), bool)
        kind_at, value_at = _offset("kind"), _offset("value")
        there[:, kind_at : kind_at + 8] = np.arange(8) < sizes[part.kind][:, None]
        there[:, value_at : value_at + 8] = ~missing[:, None]
        yield rows.view(np.uint8).reshape(len(part), -1)[there].tobytes()


def _offset(name: str) -> int:
    assert _ROW.fields is not None
    return int(_ROW.fields[name][1])


def _fingerprint(size: Size) -> str:
    """What a database must agree with to be used again: maker, size, seed and the migrations."""
    digest = hashlib.sha256(f"{event_log.MAKER} {size}".encode())
    for path in sorted((ROOT / "migrations" / "versions").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _note(conn: psycopg.Connection[Any], what: str) -> str | None:
    known = conn.execute("select to_regclass('bench.made')").fetchone()
    if known is None or known[0] is None:
        return None
    found = conn.execute("select value from bench.made where what = %s", [what]).fetchone()
    return None if found is None else str(found[0])


def _write_note(conn: psycopg.Connection[Any], what: str, value: str) -> None:
    conn.execute("insert into bench.made values (%s, %s)", [what, value])
