"""A read-only standby: it says what the primary says, follows it from statement to statement, and refuses to write."""

from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection
from tests.every_function import Function, functions
from tests.fix_database import Database
from tests.replica.conftest import Standby
from tests.serving_shop import AS_OF, CHANGE, DIFFER, ONE, SCAN, Changes, said, scan

READ_ONLY = "25006"
USERS = "(values (7::bigint), (10), (-5)) as asked (x)"
WRITE = {"build_mirror", "deploy_model", "drop_mirror", "rollback_model", "score_users", "set_user_attribute",
         "start_refresh", "training_set"}  # fmt: skip
# Of the statement's own moment, or of the process that is asked.
OWN = {"freshness": "feature_set, as_of", "loaded_models": "1"}


def answer(conn: Connection, query: str) -> Any:
    """The rows as text, or the error's state and words."""
    try:
        return conn.execute(query.encode()).fetchall()
    except psycopg.Error as error:
        return error.sqlstate, error.diag.message_primary


def calls(conn: Connection, *volatility: str) -> list[tuple[Function, str]]:
    return [(function, f"select ({call})::text from {USERS}")
            for function in functions(conn) if function.volatility in volatility for call in function.calls()
            if "now()" not in call]  # fmt: skip


def test_whatever_reads_says_what_the_primary_says(standby: Standby) -> None:
    standby.follow()
    answered = 0
    with standby.connect() as there, standby.primary.connect() as here:
        for _, call in calls(here, "i", "s"):
            expected = answer(here, call)
            assert answer(there, call) == expected, call
            assert isinstance(expected, list) or expected[0].startswith("UB"), call
            answered += isinstance(expected, list)
    assert answered > 60


def test_views_say_what_the_primary_says(standby: Standby) -> None:
    standby.follow()
    query = "select viewname::text from pg_views where schemaname = 'ubp'"
    with standby.connect() as there, standby.primary.connect() as here:
        views = [str(name) for (name,) in here.execute(query).fetchall()]
        assert {"user_features", "tasks", "model_versions", "freshness", "feature_catalogue"} <= {*views}
        for view in views:
            text = f"select {OWN.get(view, '*')} from ubp.{view} as v order by v::text"
            assert answer(there, text) == answer(here, text), view


def test_whatever_writes_is_refused_in_order(standby: Standby) -> None:
    """With PostgreSQL's own words or ours, and the session goes on."""
    with standby.primary.connect() as here:  # what attach_source is given
        here.execute("create table if not exists public.numbers (x double precision)")
    standby.follow()
    first: dict[str, str] = {}
    with standby.connect() as there:
        for function, call in calls(there, "v"):
            found = answer(there, call)
            state = "0" if isinstance(found, list) else str(found[0])
            assert state in ("0", READ_ONLY) or state.startswith("UB"), (call, found)
            first.setdefault(function.name, state)
            assert there.execute("select ubp.predict('purchase', 1) is not null").fetchone() == (True,)
    assert {name: first[name] for name in WRITE if first[name] != READ_ONLY} == {}
    assert first["warm"] == first["held_models"] == first["refresh_features"] == "0", "they only look; it was a dry run"


SEEN = """do $$
from ubp_sql.api import snapshots as s
reader = s.reader(plpy, {})
plpy.notice(reader and reader.moment()[0].hex())
$$ language plpython3u"""


def test_snapshots_of_a_standby_are_understood(standby: Standby) -> None:
    """With transactions of the primary in progress, which a standby lists in another place than a primary."""
    seen: list[bytes] = []
    with standby.connect() as there, standby.primary.connect() as one, standby.primary.connect() as two:
        there.add_notice_handler(lambda notice: seen.append(bytes.fromhex(str(notice.message_primary))))
        for writer in (one, two):
            writer.execute("begin")
            writer.execute(CHANGE.format(n=1, value="features[1]", every=10**6))
            writer.execute("select pg_current_xact_id()")
        for end, writer in ((None, one), ("commit", one), ("rollback", two)):
            if end:
                writer.execute(end)
            standby.follow()
            there.execute(SEEN)
    in_progress = [int.from_bytes(view[40:44], "little") for view in seen]
    assert in_progress[0] >= 2
    assert in_progress[1] >= 1
    assert all(view[24:28] == bytes(4) and view[45] == 1 for view in seen)
    assert len({*seen}) == 3


class Primary(Changes):
    """Whatever a primary may do meanwhile, some of it in a transaction that stays open for a while."""

    def step(self) -> None:
        getattr(
            self, self.random.choice(["update", "update", "deploy", "challenge", "refresh", "begin", "end", "end"])
        )()

    def update(self) -> None:
        self.conn.execute(self.change().encode())

    def refresh(self) -> None:
        self.conn.execute("select * from ubp.refresh_features(%s::timestamptz + %s * interval '1 hour')",
                          [AS_OF, self.random.randrange(60)])  # fmt: skip

    def begin(self) -> None:
        if self.conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self.conn.execute("begin")

    def end(self) -> None:
        if self.conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.conn.execute(self.random.choice(["commit", "rollback"]))


@pytest.mark.parametrize("seed", range(3))
def test_each_statement_follows_what_is_replayed(standby: Standby, seed: int) -> None:
    """One session with prepared statements: single calls, scans that read ahead, transactions with one snapshot."""
    with standby.connect() as there, standby.primary.connect() as conn, standby.primary.connect() as other:
        primary = Primary(conn, seed)
        moved = 0
        before = said(there)
        for _ in range(25):
            primary.step()
            standby.follow()
            expected = said(other)
            user = primary.random.randrange(1, 300)
            found = there.execute(ONE, [user], prepare=True, binary=True).fetchone()
            assert found == (user, expected[user])
            assert scan(there) == expected
            moved += expected != before
            before = expected
        primary.end()
    assert moved > 2


def test_a_transaction_keeps_to_its_snapshot(standby: Standby, primary: Database) -> None:
    with standby.connect() as there, primary.connect() as conn:
        standby.follow()
        there.execute("begin isolation level repeatable read")
        before = scan(there)
        conn.execute(CHANGE.format(n=2, value=77, every=2))
        conn.execute("select ubp.deploy_model('purchase', 1 + version % 3) from ubp.deployed_versions")
        standby.follow()
        assert scan(there) == before
        assert there.execute(DIFFER.encode()).fetchone() == (0,)
        there.execute("commit")
        assert scan(there) == said(conn) != before


# In one go: a second change would remove what the first left, and wait until the standby's snapshot is gone.
EVERYTHING = "update ubp.feature_rows set " + ", ".join(f"features[{n}] = user_id % {5 + n}" for n in range(1, 9))


def test_a_scan_goes_on_while_rows_are_replayed(standby: Standby, primary: Database) -> None:
    with standby.connect() as there, primary.connect() as conn:
        standby.follow()
        expected = said(there)
        there.execute("begin")
        there.execute(f"declare c cursor for {SCAN}".encode())
        found = dict(there.execute("fetch 60 from c", binary=True).fetchall())
        conn.execute(EVERYTHING)
        standby.follow()
        assert scan(there) == said(conn) != expected
        found |= dict(there.execute("fetch all from c", binary=True).fetchall())
        there.execute("commit")
        assert found == expected


BLIND = """do $$
from ubp_sql.api import snapshots as s
class Blind(s.Reader):
    def __init__(self, see=s.Reader.__init__, **settings):
        see(self, **settings)
        moment = self.moment
        self.moment = lambda: (lambda found: (found[0][:40], *found[1:]))(moment())
s.Reader = Blind
$$ language plpython3u"""


@pytest.mark.parametrize("blind", [False, True])
def test_a_deployment_that_was_in_progress_between_others(standby: Standby, primary: Database, blind: bool) -> None:
    """Neither end of the snapshot moves when it commits: only how many are in progress does."""
    deployed = "select version from ubp.deployed_versions where task = 'purchase' and role = 'champion'"
    with standby.connect() as there, primary.connect() as older, primary.connect() as newer, primary.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', 1)")
        if blind:
            there.execute(BLIND)
        older.execute("begin; select pg_current_xact_id()")
        older.execute(CHANGE.format(n=1, value="features[1]", every=10**6))
        newer.execute("begin; select ubp.deploy_model('purchase', 2)")
        conn.execute(CHANGE.format(n=1, value="features[1]", every=1))
        standby.follow()
        before = scan(there)
        newer.execute("commit")
        standby.wait_for(f"({deployed}) = 2")  # a transaction to wait for would move an end
        assert (scan(there) == said(conn)) is not blind
        assert said(there) == said(conn) != before
        older.execute("rollback")
