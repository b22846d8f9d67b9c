"""What the mirror gives is what the rows give, to the bit, whatever statements came in between."""

from datetime import timedelta
from random import Random

import pytest

from tests.mirror.helpers import START, Log, events, sources


@pytest.fixture
def filled(log: Log) -> Log:
    """300 events in three months and the default partition, mirrored."""
    sources(log)
    log.run("select ubp.ensure_event_partitions('2024-01-01', '2024-02-28')")
    log.insert(events(Random(1), 300))
    log.fold()
    return log


def both(log: Log) -> None:
    """Before the fold the log is looked at, after it the mirror is."""
    log.check()
    log.equal()
    log.fold()
    assert log.one("select count(*) from ubp.event_log") == 0
    log.check()
    log.equal()


def test_everything(filled: Log) -> None:
    filled.check()
    filled.check(kinds=["purchase"])
    filled.check(kinds=["nobody did this", "cancel"])
    filled.check(kinds=["nobody did this"])
    filled.check(numbers=(), keys=())
    filled.check(numbers=["quantity"], keys=["order"])
    filled.equal()
    assert filled.one("select count(*) from ubp.mirror_chunks where part > 0") > 0, "some users fill several chunks"


STATEMENTS = {
    "insert": "insert into ubp.events (user_id, event_time, kind)"
    " values (3, '2024-01-20', 'view'), (50, now(), 'view')",
    "insert into a partition": "insert into ubp.events_2024_01 (event_id, user_id, event_time, kind)"
    " values (900000, 4, '2024-01-03 00:00+00', 'purchase')",
    "late": "insert into ubp.events (user_id, event_time, kind, ingested_at)"
    " select u, '2024-01-01', 'cancel', '2024-06-01' from generate_series(0, 5) u",
    "far ids": "insert into ubp.events (event_id, user_id, event_time, kind)"
    " values (5, 1, '2024-03-01', 'view'), (9000000000, 2, '2024-03-01', 'view')",
    "lowest and highest id": "insert into ubp.events (event_id, user_id, event_time, kind)"
    " values (-9223372036854775808, 1, '2024-03-01', 'view'), (9223372036854775807, 2, '2024-03-01', 'view')",
    "lowest and highest user": "insert into ubp.events (user_id, event_time, kind)"
    " values (-9223372036854775808, now(), 'view'), (9223372036854775807, now(), 'view')",
    "first and last time": "insert into ubp.events (user_id, event_time, kind)"
    " values (1, '1900-01-01 00:00+00', 'view'), (1, '2299-12-31 23:59:59.999999+00', 'view')",
    "new kind": "insert into ubp.events (user_id, event_time, kind)"
    " values (3, now(), 'never seen'), (3, now(), 'view')",
    "update": "update ubp.events set value = 7.5, item_id = null where user_id in (2, 3)",
    "update of the user": "update ubp.events set user_id = user_id + 40 where user_id in (0, 5)",
    "update to another partition": "update ubp.events"
    " set event_time = event_time + interval '1 month' where user_id < 4",
    "update of a partition": "update ubp.events_2024_01 set kind = 'cancel' where user_id = 6",
    "update of nothing": "update ubp.events set kind = 'cancel' where user_id = 7777",
    "delete": "delete from ubp.events where user_id in (1, 2) or value = 1e308",
    "delete of a partition": "delete from ubp.events_2024_02",
    "delete of all": "delete from ubp.events",
    "on conflict": "insert into ubp.events (event_id, user_id, event_time, kind)"
    " select event_id, user_id, event_time, 'view' from ubp.events where user_id < 3"
    " on conflict (event_id, event_time) do update set kind = 'purchase', value = 3",
    "merge": "merge into ubp.events e using (select 1 as one) x on e.user_id in (4, 5)"
    " when matched and e.kind = 'view' then update set value = 9 when matched then delete",
    "same time": "insert into ubp.events (user_id, event_time, kind, ingested_at, value)"
    " select 3, '2024-01-15', 'view', '2024-01-15', g from generate_series(1, 40) g",
    "nothing but what must be": "insert into ubp.events (user_id, event_time, kind, ingested_at)"
    " select 60 + g, '2024-01-15', 'view', '2024-01-15' from generate_series(1, 30) g",
    "new partition": "select ubp.ensure_event_partitions('2024-03-01', '2024-03-31')",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_after_a_statement(filled: Log, name: str) -> None:
    filled.run(STATEMENTS[name])
    both(filled)


@pytest.mark.parametrize(
    "name", ["truncate ubp.events", "truncate ubp.events_2024_01", "truncate only ubp.events_default"]
)
def test_after_truncate(filled: Log, name: str) -> None:
    filled.run(name)
    filled.insert(events(Random(5), 20))
    assert filled.one("select rebuild_due from ubp.mirror_status")
    assert filled.read("usual").keys(), "rows are read"
    filled.fold()
    filled.check()
    filled.equal()


def test_copy(filled: Log) -> None:
    filled.insert(events(Random(9), 100), copy=True)
    both(filled)


def test_a_partition_by_copy(filled: Log) -> None:
    filled.insert(
        [(3, START, "view", 5, 1.5, None, None, None, START, 0, 800_000 + number) for number in range(30)],
        "ubp.events_2024_01",
        copy=True,
    )
    both(filled)


def test_rolled_back(filled: Log) -> None:
    with filled.conn.transaction(force_rollback=True):
        filled.run("update ubp.events set value = 1")
        filled.fold()
        filled.check()
    filled.check()
    filled.equal()
    filled.run("delete from ubp.events where user_id = 4")
    both(filled)


def test_many_statements_in_the_log(filled: Log) -> None:
    """More ranges than are read one by one, and users of both kinds."""
    for number in range(25):
        filled.run("select setval('ubp.events_event_id_seq', nextval('ubp.events_event_id_seq') + 5000)")
        filled.insert([(number % 9, START + timedelta(hours=number), "view")])
    filled.run("update ubp.events set value = 5 where user_id = 3")
    assert filled.one("select count(*) from ubp.event_log") == 26
    both(filled)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history(filled: Log, seed: int) -> None:
    """Statements, folds and compactions in random order."""
    random = Random(seed)
    names = [name for name in STATEMENTS if "ids" not in name and "id" not in name.split() and name != "delete of all"]
    for _ in range(14):
        match random.randrange(5):
            case 0 | 1:
                filled.insert(events(random, random.choice([1, 5, 60])), copy=random.random() < 0.3)
            case 2:
                name = random.choice(names)
                if name not in ("insert into a partition", "on conflict"):
                    filled.run(STATEMENTS[name])
            case 3:
                filled.fold()
            case 4:
                filled.run("select ubp.compact_mirror()") if random.random() < 0.3 else filled.fold()
        filled.check()
    filled.equal()
    both(filled)
    filled.run("select ubp.compact_mirror()")
    assert filled.one("select runs from ubp.mirror_status") == 1
    filled.check()
    filled.equal()
