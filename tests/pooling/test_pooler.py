"""PgBouncer in transaction mode: clients take turns on two server processes, and each sees only what is committed."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.pooling.conftest import SERVERS, Pooler
from tests.pooling.questions import answers
from tests.serving_shop import CHANGE, DIFFER, ONE, SAID, said, scan

CLIENTS, TURNS = 8, 25
PID = "select pg_backend_pid()"


class Client:
    """One of those that come and go; `wrong` says what it saw that cannot be."""

    def __init__(self, conn: Connection, number: int, *, prepares: bool) -> None:
        self.conn, self.random = conn, random.Random(number)
        self.wrong: list[str] = []
        self.pids: Counter[int] = Counter()
        self.ways = ["simple", "extended", "scan", "several", "setting", "mistake"] + ["prepared"] * prepares
        # Two clients write, each its own tables: nobody waits for anybody but for a server.
        self.ways = [["rows"], ["versions"], *[self.ways] * CLIENTS][number]

    def work(self) -> None:
        for _ in range(TURNS):
            way = self.random.choice(self.ways)
            try:
                getattr(self, way)()
            except Exception as error:
                self.wrong.append(f"{way}: {error!r}")
                self.conn.execute("rollback")

    def expect(self, way: str, condition: object) -> None:
        if not condition:
            self.wrong.append(way)

    @contextmanager
    def transaction(self, begin: str = "begin", end: str = "commit") -> Iterator[None]:
        self.conn.execute(begin.encode())
        self.pids[self.conn.execute(PID).fetchone()[0]] += 1  # type: ignore[index]
        yield
        self.conn.execute(end.encode())

    def agrees(self, way: str) -> None:
        self.expect(way, self.conn.execute(DIFFER.encode()).fetchone() == (0,))

    def simple(self) -> None:
        user = self.random.randrange(1, 300)
        text = f"select ubp.predict_purchase({user}) is not distinct from score from ({SAID}) m where user_id = {user}"
        self.expect("simple", psycopg.ClientCursor(self.conn).execute(text.encode()).fetchone() == (True,))

    def extended(self, *, prepare: bool = False) -> None:
        user = self.random.randrange(1, 300)
        text = f"select ubp.predict_purchase(%s) is not distinct from score from ({SAID}) m where user_id = %s"
        found = self.conn.execute(text.encode(), [user, user], prepare=prepare).fetchone()
        self.expect("extended", found == (True,))

    def prepared(self) -> None:
        self.extended(prepare=True)

    def scan(self) -> None:
        self.agrees("scan")

    def several(self) -> None:
        with self.transaction("begin isolation level repeatable read"):
            expected = said(self.conn)
            for user in self.random.sample(range(1, 300), 5):
                found = self.conn.execute(ONE, [user], binary=True).fetchone()
                self.expect("several", found == (user, expected[user]))
            self.expect("several at once", scan(self.conn) == expected)

    def setting(self) -> None:
        with self.transaction("begin", self.random.choice(["commit", "rollback"])):
            now = self.conn.execute("select current_setting('work_mem'), current_setting('role')").fetchone()
            self.expect(f"settings of somebody else: {now}", now == ("32MB", "none"))
            self.conn.execute("set local work_mem = '1MB'; set local role ubp_analyst; set local jit = off")
            self.agrees("as an analyst")

    def mistake(self) -> None:
        with self.transaction("begin", "rollback"):
            try:
                self.conn.execute("select ubp.predict('no_task', 1)")
                self.wrong.append("no error")
            except psycopg.Error as error:
                self.expect("mistake", error.sqlstate == "UB001")
        self.agrees("after a mistake")

    def rows(self) -> None:
        end = self.random.choice(["commit", "rollback"])
        with self.transaction("begin", end):
            for _ in range(2):
                n, value = self.random.randrange(1, 9), self.random.choice(["0", "'NaN'", "40.5"])
                self.conn.execute(CHANGE.format(n=n, value=value, every=self.random.choice([1, 2, 3])).encode())
                self.agrees("own rows")
        self.agrees(f"rows after {end}")

    def versions(self) -> None:
        end = self.random.choice(["commit", "rollback"])
        with self.transaction("begin", end):
            self.conn.execute("select ubp.deploy_model('purchase', %s)", [self.random.randrange(1, 4)])
            self.agrees("own deployment")
            self.conn.execute("savepoint s")
            self.conn.execute("select ubp.challenge_model('purchase', 1 + version % 3, 0.4) from ubp.deployed_versions")
            self.agrees("own challenger")
            self.conn.execute("rollback to s")
            self.agrees("back to the savepoint")
        self.agrees(f"version after {end}")


def test_clients_take_turns(pooler: Pooler, served: Database) -> None:
    connections = [pooler.connect(served) for _ in range(CLIENTS)]
    clients = [Client(c, number, prepares=pooler.keeps_statements) for number, c in enumerate(connections)]
    threads = [threading.Thread(target=client.work) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.wrong for client in clients if client.wrong] == []
    assert len(sum((client.pids for client in clients), Counter())) == SERVERS
    with served.connect() as fresh:
        expected = said(fresh)
        assert all(scan(conn) == expected for conn in connections)
    for conn in connections:
        conn.close()


def test_a_server_connection_is_warm_before_its_first_client(pooler: Pooler, served: Database) -> None:
    with pooler.connect(served) as conn:
        loaded = conn.execute("select task, version, loaded_at < statement_timestamp() from ubp.loaded_models")
        assert loaded.fetchall() == [("purchase", 1, True)]


UNDONE = {
    "rows": CHANGE.format(n=2, value="user_id % 9", every=1),
    "rows gone": "delete from ubp.feature_rows where user_id % 2 = 1",
    "deployment": "select ubp.deploy_model('purchase', 2)",
    "way back": "select ubp.deploy_model('purchase', 3); select ubp.rollback_model('purchase')",
    "challenger": "select ubp.challenge_model('purchase', 3, 0.5)",
    "refresh": "select * from ubp.refresh_features('2025-07-03 00:00+00')",
    "scores": "select * from ubp.score_users('purchase')",
    "feature": "select ubp.define_feature('count_9d', 'count', array['purchase'], \"window\" => '9d')",
    "other set": "select ubp.drop_feature_set('default')",
    "mirror": "select ubp.drop_mirror()",
    "event": "insert into ubp.events (user_id, event_time, kind, value) values (7, '2025-06-30', 'purchase', 1e6)",
    "column": "select ubp.define_event_column('colour', 'colour', 'text')",
    "user attribute": "select ubp.set_user_attribute(7, 'age', 30, '2025-06-01 00:00+00')",
    "functions": "create or replace function ubp.predict_purchase(user_id bigint) returns double precision"
    " language sql stable as 'select 7::double precision'",
}


def test_what_one_client_rolls_back_another_never_sees(pooler: Pooler, served: Database) -> None:
    """On the same server connection, which has answered all questions within that transaction."""
    refused, unseen = set(), set()
    with pooler.connect(served) as one, pooler.connect(served) as other, served.connect() as fresh:
        expected = answers(fresh)
        assert answers(other) == expected
        for name, statement in UNDONE.items():
            one.execute("begin")
            pid = one.execute(PID).fetchone()
            try:
                one.execute(statement.encode())
                if answers(one, savepoints=True) == expected:
                    unseen.add(name)
            except psycopg.Error as error:
                assert str(error.sqlstate).startswith("UB"), name  # noqa: PT017 - others fail the test
                refused.add(name)
            one.execute("rollback")
            assert other.execute(PID).fetchone() == pid
            assert answers(other) == expected, name
    assert refused == {"feature", "other set"}
    assert unseen == {"way back", "mirror"}, "whatever else was rolled back could be seen before"
