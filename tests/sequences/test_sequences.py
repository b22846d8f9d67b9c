"""Sequences: against plain SQL over the events, what they do at their edges, and the packed form."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.helpers import refused
from tests.features.spec_cases import AS_OF, log
from tests.fix_database import Database, create, drop
from tests.live.helpers import insert, loaded, prepare
from ubp_sql.embedded import Cluster
from ubp_sql.errors import BadInput
from ubp_sql.features.events import NO_KEY, Events
from ubp_sql.features.sequences import COLUMNS, MAX_LENGTH, item_code, sequences

N = 7
USERS = list(range(1, 17))
F32_MAX = float(np.finfo(np.float32).max)
# The whole definition in SQL, written from docs/sequences.md: numbers modulo 2^64 as numeric.
ORACLE = """
with mine as (
  select e.user_id, e.event_time, array_position(%(kinds)s::text[], e.kind) as kind, e.item_id, e.value,
         row_number() over (partition by e.user_id
                            order by e.event_time desc, e.ingested_at desc, e.event_id desc) as r,
         extract(epoch from e.event_time - lag(e.event_time)
                 over (partition by e.user_id order by e.event_time, e.ingested_at, e.event_id)) as gap_s
    from ubp.events e
   where e.kind = any (%(kinds)s) and e.event_time < %(as_of)s and e.ingested_at <= %(as_of)s
), one as (
  select *, pg_temp.times(pg_temp.folded(item_id, 30), 13787848793156543929) as h from mine
), two as (
  select *, pg_temp.times(pg_temp.folded(h, 27), 10723151780598845931) as g from one
)
select user_id, r, kind::real as kind, coalesce(1 + (pg_temp.folded(g, 31) & 1048575), 0)::real as item,
       coalesce((gap_s * 1000000)::double precision / 86400000000, 0)::real as gap_days,
       least(greatest(coalesce(nullif(value, 'NaN'), 0), -3.4028234663852886e38), 3.4028234663852886e38)::real as value,
       (value is not null and value <> 'NaN')::integer::real as has_value
  from two where r <= %(n)s"""
HELPERS = """
create function pg_temp.folded(h bigint, bits integer) returns bigint language sql immutable as
  'select h # ((h >> bits) & ((1::bigint << (64 - bits)) - 1))';
create function pg_temp.times(h bigint, factor numeric) returns bigint language sql immutable as
  'select (case when x.m >= w.n / 2 then x.m - w.n else x.m end)::bigint
     from (select 18446744073709551616::numeric as n) w, lateral (select mod(mod(h * factor, w.n) + w.n, w.n) as m) x'
"""


@pytest.fixture(scope="module")
def database(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    with made.connect() as conn:
        prepare(conn, log())
        conn.execute("update ubp.events set value = 'infinity' where user_id = 5 and value = 0")
        conn.execute("update ubp.events set value = -1e300 where user_id = 6 and value = 0")
        conn.execute("update ubp.events set item_id = -item_id where user_id = 7 and item_id > 2")
    yield made
    drop(made)


def oracle(conn: psycopg.Connection[Any], moment: Any, n: int, feature_set: str) -> dict[int, np.ndarray[Any, Any]]:
    """User to (n, 6) float32; all users of USERS."""
    conn.execute("discard temp")
    conn.execute(HELPERS)
    rows = {user: np.zeros((n, 6), np.float32) for user in USERS}
    found = conn.execute(ORACLE, {"kinds": KINDS[feature_set], "as_of": moment, "n": n}, binary=True)
    for user, r, *numbers in found:
        rows[user][n - r] = [*numbers, 1.0]
    return rows


KINDS = {"small": ["view", "cart"], "default": ["view", "cart", "it's 100%", "search", "attribute:plan"]}


def asked(conn: psycopg.Connection[Any], moment: Any, n: int, name: str) -> dict[int, np.ndarray[Any, Any]]:
    query = "select user_id, length, events from ubp.sequences(%s::bigint[], %s, %s, %s)"
    found = {}
    for user, length, events in conn.execute(query, [USERS, n, moment, name], binary=True):
        found[user] = np.array(events, np.float32)
        assert found[user].shape == (n, 6)
        assert found[user][:, 5].tolist() == [0.0] * (n - length) + [1.0] * length
    return found


@pytest.mark.parametrize("name", ["small", "default"])
@pytest.mark.parametrize("moment", [AS_OF, AS_OF - timedelta(days=40), AS_OF.replace(year=2031)])
def test_equal_to_plain_sql_in_every_state_of_the_mirror(database: Database, name: str, moment: Any) -> None:
    with database.connect() as conn:
        conn.execute("begin")
        conn.execute("select ubp.drop_mirror()")
        for change in ("", "select ubp.build_mirror()", "delete from ubp.events where user_id = 9", "insert"):
            if change == "insert":
                insert(conn, [row for row in log(9, 8) if row[0] > 6])
            elif change:
                conn.execute(change.encode())
            want = oracle(conn, moment, N, name)
            found = asked(conn, moment, N, name)
            for user in USERS:
                assert np.array_equal(found[user].view(np.uint32), want[user].view(np.uint32)), (change, user)
        conn.execute("rollback")


def test_one_user_many_and_packed_are_the_same(database: Database) -> None:
    with database.connect() as conn:
        many = asked(conn, AS_OF, N, "default")
        for user in USERS:
            row = conn.execute("select ubp.sequence(%s, %s, %s)", [user, N, AS_OF]).fetchone()
            by_key = conn.execute("select ubp.sequence(%s::text, %s, %s)", [str(user), N, AS_OF]).fetchone()
            assert row == by_key
            assert row is not None
            assert np.array_equal(np.array(row[0], np.float32), many[user])
        packed = "select users, lengths, events from ubp.sequence_matrix(%s, %s, %s::bigint[])"
        some = [9, 3, 3, -4, 12]
        for users in (None, some):
            rows = conn.execute(packed, [N, AS_OF, users], binary=True).fetchall()
            ids = np.concatenate([np.frombuffer(row[0], "<i8") for row in rows])
            lengths = np.concatenate([np.frombuffer(row[1], "<i4") for row in rows])
            events = np.concatenate([np.frombuffer(row[2], "<f4").reshape(-1, N, 6) for row in rows])
            there = [user for user in USERS if many[user].any()]
            assert ids.tolist() == (there if users is None else some)
            for user, length, one in zip(ids.tolist(), lengths, events, strict=True):
                assert np.array_equal(one, many.get(user, np.zeros((N, 6), np.float32)))
                assert length == one[:, 5].sum()
        assert conn.execute(packed, [N, AS_OF, []]).fetchall() == []


def test_kinds(database: Database) -> None:
    for name, kinds in KINDS.items():
        assert database.one("select ubp.sequence_kinds(%s)", name) == kinds


def test_order_repeats_and_null_of_the_users_asked(database: Database) -> None:
    with database.connect() as conn:
        rows = conn.execute("select * from ubp.sequences(array[5, null, 3, 5, -1], 2, %s)", [AS_OF]).fetchall()
        assert [row[0] for row in rows] == [5, None, 3, 5, -1]
        assert [row[1] for row in rows] == [2, 0, 2, 2, 0]
        assert rows[0] == rows[3]
        assert rows[1][2] == rows[4][2] == [[0.0] * 6] * 2
        assert conn.execute("select * from ubp.sequences('{}', 2, now())").fetchall() == []
        assert conn.execute("select ubp.sequence(null::bigint, 1)").fetchone() == ([[0.0] * 6],)


def test_a_longer_sequence_ends_in_the_shorter(database: Database) -> None:
    with database.connect() as conn:
        long, short = asked(conn, AS_OF, 3 * N, "default"), asked(conn, AS_OF, N, "default")
    assert all(np.array_equal(long[user][-N:], short[user]) for user in USERS)


@pytest.mark.parametrize(
    "call",
    [
        "ubp.sequence(3, 0)",
        "ubp.sequence(3, null)",
        f"ubp.sequence(3, {MAX_LENGTH + 1})",
        "ubp.sequence(3, 5, null)",
        "ubp.sequence(3, 5, 'infinity')",
        "ubp.sequence('3', 5, '-infinity')",
        "ubp.sequence(3, 5, now(), null)",
        "ubp.sequences(array[3], -1)",
        "ubp.sequences(null, 5)",
        "ubp.sequences(array[[3], [4]], 5)",
        "ubp.sequences(array[3], 5, 'infinity')",
        "ubp.sequence_matrix(0)",
        "ubp.sequence_matrix(5, 'infinity')",
        "ubp.sequence_matrix(5, now(), array[3, null])",
    ],
)
def test_refusals(database: Database, call: str) -> None:
    with database.connect() as conn:
        refused(conn, "UB003", f"select * from {call}")


def test_an_unknown_set(database: Database) -> None:
    with database.connect() as conn:
        refused(conn, "UB005", "select ubp.sequence(3, 5, now(), 'no set')")
        assert "numba" not in loaded(conn)


def test_the_longest(database: Database) -> None:
    with database.connect() as conn:
        row = conn.execute("select ubp.sequence(3, %s, %s)", [MAX_LENGTH, AS_OF], binary=True).fetchone()
    assert row is not None
    assert np.array(row[0]).shape == (MAX_LENGTH, len(COLUMNS))


@st.composite
def users(draw: st.DrawFn) -> list[list[tuple[int, int, int, int, float]]]:
    """Events (t, ingested, kind, item, value) of some users, sorted."""
    event = st.tuples(
        st.integers(-3, 12),
        st.integers(-3, 15),
        st.integers(-1, 3),
        st.sampled_from([NO_KEY, 0, -1, 1, 2**63 - 1]),
        st.sampled_from([0.0, -2.5, 1e300, -1e300, float("inf"), float("nan")]),
    )
    found = draw(st.lists(st.lists(event, max_size=8), max_size=4))
    return [sorted(events, key=lambda e: e[:2]) for events in found]


@given(users(), st.integers(1, 5), st.integers(-4, 14))
def test_against_a_loop(log: list[list[tuple[int, int, int, int, float]]], n: int, as_of: int) -> None:
    flat = [e for events in log for e in events]
    day = 86_400_000_000
    events = Events(
        user_id=np.arange(len(log)),
        first=np.cumsum([0, *map(len, log)]),
        t_us=np.array([e[0] * day for e in flat], np.int64),
        ingested_us=np.array([e[1] * day for e in flat], np.int64),
        offset_s=np.zeros(len(flat), np.int32),
        kind=np.array([e[2] for e in flat], np.int32),
        numbers={"value": np.array([e[4] for e in flat], np.float64)},
        keys={"item": np.array([e[3] for e in flat], np.int64)},
    )
    rows, lengths = sequences(events, as_of * day, as_of * day, n)
    for mine, row, length in zip(log, rows, lengths, strict=True):
        seen = [e for e in mine if e[0] < as_of and e[1] <= as_of and e[2] >= 0]
        want = []
        for i, (t, _, kind, item, value) in enumerate(seen):
            code = 0 if item == NO_KEY else 1 + int(item_code(np.array([item]))[0])
            number = 0.0 if np.isnan(value) else min(max(value, -F32_MAX), F32_MAX)
            want.append([kind + 1, code, t - seen[i - 1][0] if i else 0, number, not np.isnan(value), 1])
        assert length == min(n, len(seen))
        assert np.array_equal(row, np.array([[0.0] * 6] * n + want, np.float32)[-n:])


@pytest.mark.parametrize("n", [0, -1, MAX_LENGTH + 1])
def test_lengths_that_are_none(n: int) -> None:
    none = np.empty(0, np.int64)
    events = Events(
        none,
        np.zeros(1, np.int64),
        none,
        none,
        none.astype(np.int32),
        none.astype(np.int32),
        {"value": np.empty(0)},
        {"item": none},
    )
    with pytest.raises(BadInput):
        sequences(events, 0, 0, n)
