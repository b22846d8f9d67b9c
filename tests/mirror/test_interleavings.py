"""Two writers and two folds in every order of their steps: no event is lost, none comes twice, nobody is forgotten."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from random import Random
from typing import Any

import psycopg
import pytest

from tests.fix_database import Database
from tests.mirror.helpers import Log

# Each process has two steps; a letter is the next step of its process.
WRITERS, FOLDERS = ("a", "b"), ("x", "y")
ORDERS = [
    "".join(order)
    for order in sorted(set(permutations("aabbxxyy")))
    if order.index("a") < order.index("b") and order.index("x") < order.index("y")  # equals by symmetry
]
SHORT = Random(0).sample(ORDERS, 40)
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


class Process:
    """A session that does one step at a time; a step that waits for another session's lock ends later."""

    def __init__(self, db: Database, steps: list[Callable[[psycopg.Connection[Any]], object]]) -> None:
        self.conn, self.steps = db.connect(), iter(steps)
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def step(self, db: Database) -> None:
        self.wait()
        todo = next(self.steps)

        def do() -> None:
            try:
                todo(self.conn)
            except BaseException as error:
                self.error = error

        self.thread = thread = threading.Thread(target=do)
        thread.start()
        until = time.monotonic() + 20
        while thread.is_alive() and not db.one(WAITING) and time.monotonic() < until:
            thread.join(0.002)

    def wait(self) -> None:
        if self.thread is not None:
            self.thread.join(20)
            assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


def _writer(users: range) -> list[Callable[[psycopg.Connection[Any]], object]]:
    def insert(conn: psycopg.Connection[Any]) -> None:
        conn.execute("begin")
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind) select u, '2024-01-20', 'view' from unnest(%s) u",
            [list(users)],
        )
        conn.execute("update ubp.events set value = 1 where user_id = any (%s)", [list(users)[:2]])

    return [insert, lambda conn: conn.execute("commit")]


def folder_steps() -> list[Callable[[psycopg.Connection[Any]], object]]:
    def fold(conn: psycopg.Connection[Any]) -> None:
        conn.execute("begin")
        conn.execute("select ubp.build_mirror()")

    return [fold, lambda conn: conn.execute("commit")]


def possible(order: str) -> Iterator[str]:
    """The order as it can be: a fold that waits for the other one's lock has no second step before that one's."""
    held: str | None = None
    waiting: list[str] = []
    seen = dict.fromkeys("abxy", 0)
    late: list[str] = []
    for letter in order:
        if letter in waiting:
            late.append(letter)
            continue
        seen[letter] += 1
        yield letter
        if letter in FOLDERS and seen[letter] == 1:
            if held is None:
                held = letter
            else:
                waiting.append(letter)
        elif letter in FOLDERS:
            held, waiting = (waiting[0], waiting[1:]) if waiting else (None, [])
            yield from late
            late = []


def in_order(log: Log, order: str, writers: dict[str, list[Callable[[psycopg.Connection[Any]], object]]]) -> None:
    """Takes the steps of writers and of two folds in this order, then folds what is left."""
    processes = {letter: Process(log.db, steps) for letter, steps in writers.items()}
    processes |= {letter: Process(log.db, folder_steps()) for letter in FOLDERS}
    try:
        for letter in possible(order):
            processes[letter].step(log.db)
        for process in processes.values():
            process.wait()
    finally:
        for process in processes.values():
            process.conn.close()
    log.fold()


def _run(log: Log, number: int, order: str) -> None:
    base = 1000 * (number + 1)
    users = {"a": range(base, base + 5), "b": range(base + 100, base + 105)}
    in_order(log, order, {letter: _writer(users[letter]) for letter in WRITERS})
    everyone = [*users["a"], *users["b"]]
    found = log.read("mirror", users=everyone)
    assert found["user_id"].tolist() == everyone, order
    assert found["sizes"].tolist() == [1] * len(everyone), order
    dirty = log.rows("select user_id from ubp.dirty_users where user_id >= %s order by user_id", base)
    assert [user for (user,) in dirty] == everyone, order


@pytest.fixture
def folded(log: Log) -> Log:
    log.run("insert into ubp.feature_sets (name, hash, definition) values ('s', 'h', '{}')")
    log.run("insert into ubp.events (user_id, event_time, kind) values (1, '2024-01-01', 'view')")
    log.fold()
    log.run("delete from ubp.dirty_users")
    return log


def test_there_are_as_many_as_there_must_be() -> None:
    assert len(ORDERS) == 2520 // 4


@pytest.mark.parametrize("part", range(4))
def test_some_orders(folded: Log, part: int) -> None:
    for number, order in enumerate(SHORT[part::4]):
        _run(folded, number, order)
    folded.equal()


@pytest.mark.slow
def test_every_order(folded: Log) -> None:
    for number, order in enumerate(ORDERS):
        _run(folded, number, order)
    folded.equal()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("other_folds", [False, True])
def test_a_snapshot_of_before(folded: Log, level: str, other_folds: bool) -> None:
    """A fold that cannot see what others committed since fails, or leaves it for the next."""
    folded.run("update ubp.events set value = 2 where user_id = 1")
    with folded.db.connect() as late:
        late.execute(f"begin isolation level {level}".encode())
        late.execute("select count(*) from ubp.events")
        folded.run("insert into ubp.events (user_id, event_time, kind) values (2, '2024-01-02', 'view')")
        if other_folds:
            folded.fold()
        try:
            late.execute("select ubp.build_mirror()")
            late.execute("commit")
            assert not other_folds
        except psycopg.errors.SerializationFailure:
            late.execute("rollback")
            assert other_folds
    folded.check()
    folded.fold()
    folded.check()
    folded.equal()
    dirty = folded.rows("select user_id from ubp.dirty_users order by user_id")
    assert dirty == [(1,), (2,)]


def test_a_reader_and_a_compaction(folded: Log) -> None:
    """A statement that began before sees the chunks that a compaction has deleted since."""
    for number in range(3):
        folded.insert([(user, f"2024-02-{number + 1:02}", "view") for user in range(40)])
        folded.fold()
    before = folded.read("mirror")
    with folded.db.connect() as reader:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select count(*) from ubp.mirror_state")
        folded.run("select ubp.compact_mirror()")
        folded.run("delete from ubp.events where user_id = 7")
        folded.fold()
        old = Log.__new__(Log)
        old.db, old.conn = folded.db, reader
        found = old.read("mirror")
        reader.execute("commit")
    assert {name: column.tobytes() for name, column in found.items()} == {
        name: column.tobytes() for name, column in before.items()
    }
    folded.check()


def test_what_a_session_keeps_is_not_used_after_a_rollback(folded: Log) -> None:
    """Chunks are kept by version; a version that was rolled back does not come again."""
    with folded.conn.transaction(force_rollback=True):
        folded.insert([(5, "2024-03-01", "view")])
        folded.fold()
        assert 5 in folded.read("mirror")["user_id"]
    folded.insert([(6, "2024-03-01", "view")])
    folded.fold()
    folded.check()
    assert folded.read("mirror")["user_id"].tolist() == [1, 6]
