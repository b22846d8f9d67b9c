"""A live row is the row that Numba computes, to the bit, whatever the mirror holds and does not hold yet."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.api.helpers import refused
from tests.features.spec_cases import AS_OF, log
from tests.fix_database import Database, clone, create, drop
from tests.live.helpers import MOMENTS, NO_LIBRARY, Connection, insert, loaded, prepare, vectors
from ubp_sql.embedded import Cluster

# 150 ms are wanted; a machine that runs other things too is given this many seconds.
PATIENCE_S = 0.6
LATE = [(row[0], AS_OF.replace(day=3 + n % 20), *row[2:8], AS_OF, *row[9:]) for n, row in enumerate(log(9, 8))]


@pytest.fixture(scope="module")
def log_database(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    with made.connect() as conn:
        prepare(conn, log())
    yield made
    drop(made)


@pytest.fixture
def database(log_database: Database, cluster: Cluster) -> Iterator[Database]:
    with clone(cluster, log_database.name) as made:
        yield made


NOBODY = "select ubp.feature_vector(null::bigint), ubp.feature_vector(-5)"


class Both:
    """A session with the library and one without it."""

    def __init__(self, database: Database) -> None:
        self.native, self.numba = database.connect(), database.connect()
        self.numba.execute(NO_LIBRARY)

    def agree(self, *, some: int = 5) -> None:
        for feature_set in ("default", "small"):
            for moment in MOMENTS:
                one, other = (vectors(conn, moment, feature_set) for conn in (self.native, self.numba))
                assert one == other
                if moment == AS_OF:
                    assert sum(row is not None for row in one.values()) >= some
        assert loaded(self.native) == ""
        assert "numba" in loaded(self.numba)


@pytest.fixture
def both(database: Database) -> Iterator[Both]:
    made = Both(database)
    yield made
    made.native.close()
    made.numba.close()


def test_without_a_mirror(both: Both) -> None:
    both.native.execute("select ubp.drop_mirror()")
    both.agree()


def test_mirror_deltas_and_rows_that_are_in_neither(both: Both, database: Database) -> None:
    """The same session goes through all states: what it kept must not outlive a change."""
    with database.connect() as writer:
        writer.execute("select ubp.build_mirror()")
        both.agree()
        for part in range(3):
            insert(writer, LATE[part * 40 : part * 40 + 40])
            both.agree()
            writer.execute("select ubp.build_mirror()")
            both.agree()
        writer.execute("delete from ubp.events where user_id = 4")
        writer.execute("update ubp.events set value = value + 1 where user_id = 5")
        insert(writer, LATE[120:])
        both.agree(some=4)
        writer.execute("select ubp.build_mirror()")
        both.agree(some=4)
        writer.execute("select ubp.compact_mirror()")
        both.agree(some=4)
        writer.execute("select ubp.rebuild_mirror()")
        both.agree(some=4)


def test_a_user_whose_events_all_went(both: Both, database: Database) -> None:
    with database.connect() as writer:
        writer.execute("select ubp.build_mirror()")
        both.agree()
        writer.execute("delete from ubp.events where user_id in (3, 6)")
        assert vectors(both.native, AS_OF)[3] is None
        writer.execute("select ubp.build_mirror()")
        assert vectors(both.native, AS_OF)[3] is None
        insert(writer, [row for row in log() if row[0] == 6])
        both.agree(some=4)
        writer.execute("select ubp.build_mirror()")
        both.agree(some=4)


@pytest.mark.parametrize(
    "change",
    [
        "insert into ubp.events (user_id, event_time, kind, value, ingested_at)"
        " values (3, '2024-03-01', 'view', 7, '2024-03-01')",
        "update ubp.events set item_id = 4 where user_id = 3",
        "delete from ubp.events where user_id = 3 and kind = 'view'",
        "truncate ubp.events",
        "delete from ubp.events where event_time < '2024-03-01'; insert into ubp.events (user_id, event_time, kind,"
        " ingested_at) values (3, '2024-03-02', 'cart', '2024-03-03')",
        "update ubp.sources set time_zone = 'Asia/Kolkata' where source_id = 10",
    ],
)
def test_a_transaction_sees_its_own_changes(database: Database, change: str) -> None:
    """With the row as other sessions see it unchanged, before it is folded and after."""
    with database.connect() as conn, database.connect() as other:
        conn.execute("select ubp.build_mirror()")
        before = vectors(conn, AS_OF)
        assert vectors(other, AS_OF) == before
        conn.execute("begin")
        conn.execute(change.encode())
        within = vectors(conn, AS_OF)
        assert within != before
        assert vectors(other, AS_OF) == before
        conn.execute("select ubp.build_mirror()")
        assert vectors(conn, AS_OF) == within
        conn.execute("rollback")
        assert vectors(conn, AS_OF) == before


def test_an_older_snapshot_reads_the_older_mirror(database: Database) -> None:
    with database.connect() as old, database.connect() as writer:
        writer.execute("select ubp.build_mirror()")
        old.execute("begin isolation level repeatable read")
        before = vectors(old, AS_OF)
        insert(writer, LATE[:50])
        writer.execute("select ubp.build_mirror()")
        writer.execute("select ubp.compact_mirror()")
        assert vectors(old, AS_OF) == before
        old.execute("commit")
        assert vectors(old, AS_OF) == vectors(writer, AS_OF) != before


def test_row_security_is_obeyed(database: Database) -> None:
    """The mirror knows no policies, so that with one the rows themselves are read."""
    with database.connect() as conn:
        conn.execute("select ubp.build_mirror()")
        assert sum(row is not None for row in vectors(conn, AS_OF).values()) > 8
        conn.execute("create policy mine on ubp.events to ubp_reader using (user_id = 5)")
        conn.execute("alter table ubp.events enable row level security")
        assert [user for user, row in vectors(conn, AS_OF).items() if row is not None] == [5]


def test_a_damaged_plan_is_not_read(database: Database) -> None:
    """The set is compiled anew instead, with the same values."""
    with database.connect() as conn:
        before = vectors(conn, AS_OF)
        plan = bytes(conn.execute("select plan from ubp.feature_sets where name = 'default'").fetchone()[0])  # type: ignore[index]
    for damaged in (plan[:-1], plan[:2000] + b"\1" + plan[2001:], b"", None):
        with database.connect() as conn:
            conn.execute("update ubp.feature_sets set plan = %s where name = 'default'", [damaged])
            assert vectors(conn, AS_OF) == before


def test_a_set_that_grew_in_another_session(database: Database) -> None:
    with database.connect() as conn, database.connect() as other:
        before = vectors(conn, AS_OF, "small")
        other.execute("select ubp.define_feature('more', 'count', array['search'], feature_set => 'small')")
        after = vectors(conn, AS_OF, "small")
    assert {user: row and (after[user] or [])[:-1] for user, row in before.items()} == before
    assert before[2] is None, "searched only"
    assert after[2] is not None


def test_the_three_forms_agree(database: Database) -> None:
    with database.connect() as conn:
        vector = conn.execute("select ubp.feature_vector(3, %s)", [AS_OF]).fetchone()
        rows = conn.execute("select feature, value::real from ubp.features(3, %s)", [AS_OF]).fetchall()
        names = conn.execute(
            "select d.name from ubp.feature_definitions d join ubp.feature_sets s"
            " using (feature_set_id) where s.name = 'default' order by position"
        ).fetchall()
        by_key = conn.execute("select ubp.feature_vector('3', %s)", [AS_OF]).fetchone()
        assert vector == by_key
        assert vector is not None
        assert rows == [(name, value) for (name,), value in zip(names, vector[0], strict=True)]
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        assert conn.execute("select feature, value::real from ubp.features(3)").fetchall() == rows


@pytest.mark.parametrize("call", ["ubp.feature_vector(3, {})", "ubp.features(3, {})", "ubp.feature_vector('3', {})"])
@pytest.mark.parametrize("moment", ["null", "'infinity'", "'-infinity'", "'0001-01-01 00:00+00 BC'", "'20000-01-01'"])
def test_moments_that_are_none(database: Database, call: str, moment: str) -> None:
    with database.connect() as conn:
        refused(conn, "UB003", f"select * from {call.format(moment + '::timestamptz')}")


def test_nobody_and_no_set(database: Database) -> None:
    with database.connect() as conn:
        assert conn.execute("select ubp.feature_vector(null::bigint), ubp.feature_vector(-5)").fetchone() == (
            None,
            None,
        )
        assert conn.execute("select * from ubp.features(-5, now())").fetchall() == []
        refused(conn, "UB005", "select ubp.feature_vector(3, now(), 'no set')")
        refused(conn, "UB003", "select ubp.feature_vector(3, now(), null)")


def test_settings_of_the_session_play_no_part(database: Database) -> None:
    with database.connect() as conn:
        before = vectors(conn, AS_OF)
        conn.execute("set timezone = 'America/St_Johns'; set datestyle = 'German'; set search_path = pg_temp")
        conn.execute("set bytea_output = 'escape'; set extra_float_digits = 0")
        assert vectors(conn, AS_OF) == before


# Counts what the session asks of the server in one call; the second of the same user is warm.
COUNTED = """do $$
from ubp_sql import api
from ubp_sql.api import live

class Plan:
    def __init__(self, plan):
        self.plan = plan
    def execute(self, *arguments):
        asked.append(1)
        return self.plan.execute(*arguments)

class Server:
    Error = plpy.Error
    def prepare(self, *arguments):
        return Plan(plpy.prepare(*arguments))

asked, memory, found = [], {}, []
for user in (3, 3, 4, 3, 4):
    asked.clear()
    assert api.feature_vector(Server(), memory, user, "2024-03-31 01:00+00", "small") is not None
    found.append(len(asked))
plpy.notice(" ".join(map(str, found)))
$$ language plpython3u"""


def test_one_query_a_warm_call_and_one_more_a_delta(database: Database) -> None:
    said: list[str] = []
    with database.connect() as conn:
        conn.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        conn.execute("select ubp.build_mirror()")
        conn.execute(COUNTED)
        insert(conn, [row for row in LATE if row[0] == 3][:9])
        conn.execute("select ubp.build_mirror()")
        conn.execute(COUNTED)
    for numbers, delta in zip(said, (0, 1), strict=True):
        first, second, _, fourth, fifth = map(int, numbers.split())
        assert first <= 7 + delta, "version, set, columns, ranges, directories, look, codes, the delta"
        assert (second, fourth, fifth) == (1 + delta, 1 + delta, 1)


def test_scoring_a_live_row_loads_neither_numpy_nor_numba(shop: Database) -> None:
    with shop.connect() as conn:
        user = shop.one("select user_id from ubp.user_scores order by score desc nulls last limit 1")
        value = conn.execute("select ubp.predict('purchase', %s, '2025-06-01 00:00+00')", [user]).fetchone()
        assert value is not None
        assert value[0] is not None
        conn.execute("select * from ubp.predict_detail('purchase', %s, '2025-06-01 00:00+00')", [user]).fetchone()
        conn.execute("select * from ubp.features(%s, now())", [user]).fetchall()
        conn.execute("select ubp.feature_vector(%s)", [user]).fetchall()
        assert loaded(conn) == ""


def test_a_user_of_many_events_can_be_cancelled(database: Database) -> None:
    """60,000 events, which the library takes, and 120,000, which it does not."""
    with database.connect() as conn:
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind, item_id, value)"
            " select 100 + n % 3 / 2, timestamptz '2024-01-01' + n * interval '7 seconds', 'view', n % 50000, n % 91"
            "   from generate_series(1, 180000) n"
        )
        conn.execute("select ubp.build_mirror()")
        for user in (100, 101):
            for _ in range(2):  # the first loads what a session loads once
                started = time.monotonic()
                full = conn.execute("select ubp.feature_vector(%s, %s)", [user, MOMENTS[3]]).fetchone()
                seconds = time.monotonic() - started
            stopped = 0
            for share in (0.02, 0.1, 0.3):
                after = max(0.001, share * seconds)
                conn.execute(f"set statement_timeout = {int(1000 * after)}".encode())
                started = time.monotonic()
                try:
                    conn.execute("select ubp.feature_vector(%s, %s)", [user, MOMENTS[3]])
                except psycopg.errors.QueryCanceled:
                    stopped += 1
                assert time.monotonic() - started < after + PATIENCE_S
                conn.execute("set statement_timeout = 0")
            assert stopped
            assert conn.execute("select ubp.feature_vector(%s, %s)", [user, MOMENTS[3]]).fetchone() == full


def test_connections_without_the_library(database: Database) -> None:
    conn: Connection
    with database.connect() as conn:
        conn.execute(NO_LIBRARY)
        assert conn.execute("select ubp.feature_vector(-5), ubp.feature_vector(null::bigint)").fetchone() == (
            None,
            None,
        )
        conn.execute("select ubp.drop_mirror()")
        assert conn.execute("select ubp.feature_vector(-5), ubp.feature_vector(null::bigint)").fetchone() == (
            None,
            None,
        )
        refused(conn, "UB003", "select ubp.feature_vector(3, 'infinity')")
