"""The analyst's scan: rows are read ahead within a statement, and each score is what a call by itself would say.

`predict_many` reads every row anew, so it is what `predict` is held against.
"""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from tests.api.helpers import Connection, refused
from tests.fix_database import Database, clone, create, drop
from tests.serving_shop import AS_OF, CHANGE, USERS, Changes, fill, said
from ubp_sql.embedded import Cluster

# Small pages, kernels of many rows and everybody's scores after few calls: each way of reading is gone through.
SMALL = """do $$
import ubp_sql.api.ahead as a
a.FIRST, a.MOST, a.BATCH, a.EVERYBODY_FROM = 4, {most}, {batch}, {everybody}
def _fetch(self, user_id, n, *, down, was=a.Ahead._fetch):
    plpy.notice("read ahead")
    was(self, user_id, n, down=down)
def _consider_everybody(self, was=a.Ahead._consider_everybody):
    was(self)
    if self._everybody: plpy.notice("everybody")
a.Ahead._fetch, a.Ahead._consider_everybody = _fetch, _consider_everybody
$$ language plpython3u"""
WAYS = {"rows": (32, 1000, 10**9), "kernels": (32, 6, 10**9), "everybody": (4, 4, 20)}
ASKED = "select u, ubp.predict('purchase', u) from (select u from generate_series(-5, 310) u order by {order}) x"
BOTH = """select count(*) from (select u, ubp.predict('purchase', u) as score from generate_series(1, 40) u) x
            join ubp.predict_many('purchase', (select array_agg(u) from generate_series(1::bigint, 40) u)) m
              on m.user_id = x.u and m.score is distinct from x.score"""
ORDERS = ("u", "u desc", "md5(u::text)", "u / 7 * 7 desc, u", "u % 2, u")
MINE, OTHERS = "user_id % 4 < 2", "user_id % 4 > 1"


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, installed: str) -> Iterator[Database]:
    made = create(cluster, installed)
    with made.connect() as conn:
        fill(conn, ("purchase", "again"))
    yield made
    drop(made)


@pytest.fixture
def shop(prepared: Database, cluster: Cluster) -> Iterator[Database]:
    with clone(cluster, prepared.name) as made:
        yield made


def scan(conn: Connection, order: str) -> dict[int, float | None]:
    return dict(conn.execute(ASKED.format(order=order).encode(), binary=True).fetchall())


def small(conn: Connection, way: str) -> list[str]:
    """Makes pages small; returns what will be noticed."""
    most, batch, everybody = WAYS[way]
    noticed: list[str] = []
    conn.add_notice_handler(lambda notice: noticed.append(str(notice.message_primary)))
    conn.execute(SMALL.format(most=most, batch=batch, everybody=everybody).encode())
    return noticed


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_and_way_of_reading(shop: Database, order: str, way: str) -> None:
    with shop.connect() as conn:
        expected = said(conn)
        assert len({*expected.values()}) > 20
        assert None in expected.values()
        assert scan(conn, order) == expected
        noticed = small(conn, way)
        assert scan(conn, order) == expected
        assert "read ahead" in noticed
        assert ("everybody" in noticed) == (way == "everybody" and order == "md5(u::text)")
        conn.execute("select ubp.challenge_model('purchase', 2, 0.3), ubp.challenge_model('purchase', 3, 0.2)")
        assert scan(conn, order) == said(conn) != expected


class Session(Changes):
    """A session that does one thing after another, and another session that commits."""

    def __init__(self, conn: Connection, other: Connection, seed: int) -> None:
        super().__init__(conn, seed)
        self.other = other
        self.savepoints: list[str] = []
        self.refreshed = False
        other.execute("set lock_timeout = '10s'")

    def change_of(self, whose: str) -> bytes:
        return f"{self.change()} and {whose}".encode()

    def own(self) -> None:
        self.conn.execute(self.change_of(MINE))

    def delete(self) -> None:
        self.conn.execute("delete from ubp.feature_rows where user_id = %s", [4 * self.random.randrange(1, USERS // 4)])

    def elsewhere(self) -> None:
        if not self.refreshed:  # which has changed everybody's row, and holds it
            self.other.execute(self.change_of(OTHERS))

    def refresh(self) -> None:
        if self.conn.execute("show transaction_isolation").fetchone() != ("read committed",):
            return
        self.refreshed = True
        later = AS_OF + timedelta(hours=self.random.randrange(1, 60))
        self.conn.execute("select * from ubp.refresh_features(%s)", [later])

    def savepoint(self) -> None:
        self.savepoints.append(f"s{len(self.savepoints)}")
        self.conn.execute(f"savepoint {self.savepoints[-1]}".encode())

    def back(self) -> None:
        if self.savepoints:
            del self.savepoints[self.random.randrange(len(self.savepoints)) + 1 :]
            self.conn.execute(f"rollback to {self.savepoints[-1]}".encode())

    def release(self) -> None:
        if self.savepoints:
            self.conn.execute(f"release {self.savepoints.pop()}".encode())

    def begin_anew(self) -> None:
        self.conn.execute(self.random.choice([b"commit", b"rollback"]))
        self.savepoints.clear()
        self.begin()

    def begin(self) -> None:
        self.refreshed = False
        level = self.random.choice(["read committed", "repeatable read"])
        self.conn.execute(f"begin isolation level {level}".encode())


STEPS = ("own", "own", "delete", "deploy", "challenge", "elsewhere", "savepoint", "back", "release", "begin_anew")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_anything_between_two_scans(shop: Database, way: str, seed: int) -> None:
    """UPDATE, DELETE, deploy, savepoints, other sessions' commits: a scan says what single reads say."""
    with shop.connect() as conn, shop.connect() as other:
        session = Session(conn, other, seed)
        small(conn, way)
        session.begin()
        for number in range(40):
            getattr(session, "refresh" if number == 20 else session.random.choice(STEPS))()
            found = scan(conn, session.random.choice(ORDERS))
            expected = said(conn)
            assert found == expected, number
        conn.execute("rollback")


LOOP = """do $$
declare wrong bigint := 0; n bigint; i integer;
begin
  for i in 1..{times} loop
    {both}
    update ubp.feature_rows set features[1 + i % 9] = i where user_id % 3 = 0;
    {both}
    begin
      update ubp.feature_rows set features[1 + i % 9] = -i where user_id % 2 = 0;
      {both}
      raise division_by_zero;
    exception when division_by_zero then null;
    end;
    {both}
    if i % 5 = 0 then
      perform ubp.deploy_model('purchase', 1 + i % 3);
      {both}
    end if;
  end loop;
  if wrong > 0 then raise 'wrong: %', wrong; end if;
end $$"""


@pytest.mark.parametrize("way", WAYS)
def test_a_loop_within_one_statement(shop: Database, way: str) -> None:
    """All of it is one statement of the client, in which rows change, change back and other sessions commit."""
    stop = threading.Event()

    def commit() -> None:
        with shop.connect() as other:
            n = 0
            while not stop.is_set():
                n += 1
                other.execute(
                    "update ubp.feature_rows set features[2] = %s where user_id in (5, 7, 11, 35)",
                    [n % 50],
                )
                stop.wait(0.002)

    with shop.connect() as conn:
        noticed = small(conn, way)
        both = f"n := (select count(*) from ({BOTH.replace('select count(*)', 'select 1', 1)}) z); wrong := wrong + n;"
        thread = threading.Thread(target=commit)
        conn.execute("set lock_timeout = '5s'")
        thread.start()
        try:
            for _ in range(3):
                conn.execute(f"do $$ declare n bigint; wrong bigint := 0; begin for i in 1..30 loop {both} end loop;"
                             " if wrong > 0 then raise 'wrong: %', wrong; end if; end $$".encode())  # fmt: skip
        finally:
            stop.set()
            thread.join()
        conn.execute(LOOP.format(times=20, both=both).encode())
        assert "read ahead" in noticed


def test_single_calls_in_a_loop(shop: Database) -> None:
    """A function that asks for one user at a time, between its own changes of the next ones."""
    with shop.connect() as conn:
        small(conn, "rows")
        conn.execute("""do $$
declare s double precision; t double precision; u bigint;
begin
  for u in 1..200 loop
    s := ubp.predict('purchase', u);
    select score into t from ubp.predict_many('purchase', array[u]);
    if s is distinct from t then raise 'user %: % instead of %', u, s, t; end if;
    if u % 20 = 0 then
      update ubp.feature_rows set features[1 + u % 7] = u where user_id = u + 1;
    end if;
  end loop;
end $$""")


def test_a_cursor_keeps_to_its_snapshot(shop: Database) -> None:
    with shop.connect() as conn:
        small(conn, "rows")
        expected = said(conn)
        for isolation in ("read committed", "repeatable read"):
            conn.execute(f"begin isolation level {isolation}".encode())
            conn.execute(f"declare c cursor for {ASKED.format(order='u')}".encode())
            found = dict(conn.execute("fetch 60 from c").fetchall())
            conn.execute(CHANGE.format(n=1, value=99, every=1).encode())
            conn.execute(CHANGE.format(n=3, value="'NaN'", every=1).encode())
            after = scan(conn, "u")
            assert after == said(conn) != expected
            found |= dict(conn.execute("fetch 60 from c").fetchall())
            conn.execute("select ubp.deploy_model('purchase', 2)")
            assert scan(conn, "u") == said(conn) != after
            found |= dict(conn.execute("fetch all from c").fetchall())
            assert found == expected
            conn.execute("rollback")


def test_two_tasks_in_one_statement(shop: Database) -> None:
    with shop.connect() as conn:
        small(conn, "kernels")
        conn.execute("select ubp.deploy_model('again', 3)")
        query = "select u, ubp.predict_purchase(u), ubp.predict_again(u) from generate_series(1, 200) u"
        found = conn.execute(query, binary=True).fetchall()
        users = [row[0] for row in found]
        for place, task in ((1, "purchase"), (2, "again")):
            many = conn.execute("select score from ubp.predict_many(%s, %s::bigint[])", [task, users], binary=True)
            assert [row[place] for row in found] == [score for (score,) in many]
        assert [row[1] for row in found] != [row[2] for row in found]


def test_a_switch_over_at_a_set_time_between_two_statements(shop: Database) -> None:
    """Nothing is written when the moment comes: the clock alone says that another version answers."""
    with shop.connect() as conn:
        before = scan(conn, "u")
        conn.execute("select ubp.deploy_model('purchase', 2, clock_timestamp() + interval '3 seconds')")
        calls = "select ubp.predict('purchase', 1)"
        one = conn.execute(calls, binary=True).fetchone()[0]  # type: ignore[index]
        assert one == conn.execute(calls, binary=True).fetchone()[0] == before[1]  # type: ignore[index]
        assert scan(conn, "u") == before
        conn.execute("select pg_sleep(3)")
        assert conn.execute(calls, binary=True).fetchone() == (said(conn)[1],) != (before[1],)
        assert scan(conn, "u") == said(conn) != before


def test_a_row_that_does_not_fit_is_named_by_the_call_that_asks_for_it(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("update ubp.feature_rows set features = array[1, 2]::real[] where user_id = 155")
        for way in ("rows", "kernels"):
            small(conn, way)
            found = conn.execute("select sum(ubp.predict('purchase', u)) from generate_series(1, 154) u").fetchone()
            assert found is not None
            assert found[0] is not None
            refused(conn, "UB002", "select sum(ubp.predict('purchase', u)) from generate_series(1, 200) u")


def test_the_next_transaction_beside_an_older_one(shop: Database) -> None:
    """Own transactions whose ends no snapshot shows, for a later one ended first; the next has the same command ids."""
    with shop.connect() as conn, shop.connect() as older, shop.connect() as later:
        scan(conn, "u")
        older.execute("begin")
        older.execute("select pg_current_xact_id()")
        for version in (2, 3):
            conn.execute("begin")
            conn.execute("select ubp.deploy_model('purchase', %s)", [version])
            if version == 2:
                later.execute("select pg_current_xact_id()")
            calls = [conn.execute("select ubp.predict('purchase', 3)", binary=True).fetchone() for _ in range(2)]
            assert calls == [(said(conn)[3],)] * 2
            conn.execute("rollback")


def test_a_page_that_cannot_be_scored_is_no_error_of_this_call(shop: Database) -> None:
    """A model may fail on a row that nobody asks for; an upgrade may leave a set that many rows cannot be read of."""
    with shop.connect() as conn:
        expected = said(conn)
        conn.execute("""do $$
import ubp_sql.api.ahead as a
from ubp_sql.errors import InvalidModel
def failing(deployed, packed):
    raise InvalidModel("the model fails on these features")
a.was, a.score_row = a.score_row, failing
$$ language plpython3u""")
        assert scan(conn, "u") == expected
        conn.execute("update ubp.feature_sets set hash = 'another'")
        conn.execute("update ubp.deployments set feature_set_hash = 'another'")
        conn.execute("do $$ import ubp_sql.api.ahead as a; a.score_row = a.was $$ language plpython3u")
        small(conn, "kernels")
        assert scan(conn, "u") == expected


def test_a_cancel_ends_a_page_of_a_slow_model(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("""do $$
import time
import ubp_sql.api.ahead as a
def slow(deployed, packed, was=a.score_row):
    time.sleep(0.02)
    return was(deployed, packed)
a.FIRST, a.score_row = 250, slow
$$ language plpython3u""")
        conn.execute("select ubp.predict('purchase', 1)")
        conn.execute("set statement_timeout = '200ms'")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            scan(conn, "u")
        assert time.monotonic() - began < 2.5  # 5.2 where nothing looks


def test_a_server_that_is_not_understood(shop: Database) -> None:
    """Nothing is read ahead, and nothing else changes."""
    with shop.connect() as conn:
        noticed = small(conn, "rows")
        conn.execute("do $$ import ubp_sql.api.snapshots as s; s.LAST_MAJOR = 13 $$ language plpython3u")
        assert scan(conn, "u") == said(conn)
        conn.execute(CHANGE.format(n=1, value=99, every=1).encode())
        assert scan(conn, "u") == said(conn)
        assert not noticed


AGREES = """do $$
import struct
from ubp_sql.api import snapshots as s
reader = s.reader(plpy, {})
assert reader is not None
moment = reader.moment()
said = plpy.execute("select pg_current_snapshot()::text as t, pg_is_in_recovery() as r")[0]
assert s._agrees(moment, said["t"], standby=said["r"]), (moment, said)
for place in range(s.BYTES):
    wrong = bytearray(moment[0]); wrong[place] ^= 1
    field = place < 12 or 24 <= place < 28
    assert s._agrees((bytes(wrong), *moment[1:]), said["t"], standby=said["r"]) != field, place
assert int.from_bytes(moment[0][s.COMMAND], "little") < 1000
listing = s.Reader(prepares=True).moment()[0]
assert listing.startswith(moment[0])
listed = sorted(x for (x,) in struct.iter_unpack("I", listing[s.BYTES:]))
assert listed == [int(x) % 2**32 for x in said["t"].split(":")[2].split(",") if x], listed
$$ language plpython3u"""


def test_what_is_read_of_the_server_is_compared_with_what_it_says(shop: Database) -> None:
    """With transactions in progress below xmax, so that the number of them is one of the fields."""
    with shop.connect() as conn, shop.connect() as one, shop.connect() as two:
        conn.execute(AGREES)
        for other in (one, two):
            other.execute("begin")
            other.execute("select pg_current_xact_id()")
        conn.execute("select pg_current_xact_id()")
        conn.execute(AGREES)


@pytest.mark.parametrize("field", ["xmin", "command", "subtransaction"])
def test_each_part_of_what_is_compared_is_needed(shop: Database, field: str) -> None:
    """Without one of them a scan says what is no longer so: the tests above can fail."""
    blind = {"xmin": "b'', m[1]", "command": "m[0][:48], m[1]", "subtransaction": "m[0], 0"}[field]
    patch = f"""do $$
from ubp_sql.api import snapshots as s
class Blind(s.Reader):
    def __init__(self, **settings):
        super().__init__(**settings)
        see = self.moment
        def moment():
            m = see()
            return {blind}, 0
        self.moment = moment
s.Reader, s._agrees = Blind, lambda *a, **k: True
$$ language plpython3u"""
    with shop.connect() as conn, shop.connect() as other:
        conn.execute(patch)
        small(conn, "rows")
        wrong = 0
        for seed in range(4):
            session = Session(conn, other, seed)
            session.begin()
            for _ in range(30):
                getattr(session, session.random.choice(STEPS))()
                wrong += scan(conn, "u") != said(conn)
            conn.execute("rollback")
        assert wrong
