"""A log with all that a log can have, one set that uses every aggregate, and both ways to compute a user of it."""

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from tests.api.helpers import add_sources
from tests.features.spec_cases import AS_OF, COLUMNS, ZONES, cases
from ubp_sql.features.standing import FAMILIES

Connection = psycopg.Connection[Any]
INSERT = """
insert into ubp.events
  (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
HOLIDAYS = """
insert into ubp.calendar (day, name) select d, 'holiday'
  from generate_series(date '2023-11-01', '2024-04-01', interval '3 days') d"""
# In a session that says this first, the library is not there.
NO_LIBRARY = "do $$ from ubp_sql.kernels import native; native.entry = lambda name: None $$ language plpython3u"
LOADED = """do $$
import sys
plpy.notice(" ".join(name for name in ("numpy", "numba", "llvmlite") if name in sys.modules))
$$ language plpython3u"""
USERS = range(1, 16)
MOMENTS = (AS_OF, AS_OF.replace(month=2, day=1), AS_OF.replace(year=2023), AS_OF.replace(year=2031))
VECTORS = "select u, ubp.feature_vector(u, %s, %s) from unnest(%s::bigint[]) u"


def prepare(conn: Connection, events: Sequence[tuple[Any, ...]]) -> None:
    """Sources, declared columns, the calendar, a log, the set `default` of all cases and the set `small`."""
    add_sources(conn, ZONES)
    for column in COLUMNS:
        conn.execute("select ubp.define_event_column(%s, %s, %s)", column)
    insert(conn, events)
    conn.execute(HOLIDAYS)
    # What speaks of all users is tested in tests/standings.
    of_one_user = [case for case in cases() if case["aggregate"] not in FAMILIES]
    conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(of_one_user)])
    conn.execute("select ubp.define_feature_set('small', array['view', 'cart'], array[7, 30])")


def insert(conn: Connection, events: Sequence[tuple[Any, ...]]) -> None:
    conn.cursor().executemany(INSERT, events)


def vectors(conn: Connection, moment: Any, feature_set: str = "default") -> dict[int, list[float | None] | None]:
    """User to features; compared as they are, since equal float4 values have equal text and NaN is no value."""
    return dict(conn.execute(VECTORS, [moment, feature_set, list(USERS)], binary=True).fetchall())


def loaded(conn: Connection) -> str:
    """Which of the heavy modules the session has imported."""
    said: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        said.append(str(notice.message_primary))

    conn.add_notice_handler(listen)
    conn.execute(LOADED)
    conn.remove_notice_handler(listen)
    return said[0]
