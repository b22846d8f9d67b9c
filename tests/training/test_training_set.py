"""Training sets: every row against loops over the events, features against ubp.features, and nothing leaks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.api.helpers import FIRST, LAST, ODD_KINDS, Connection, Event, insert, odd_events, same_bits
from tests.fix_database import Database
from ubp_sql.api.training_table import BATCHES
from ubp_sql.features.labels import drawn

EDGE = datetime(2024, 3, 31, 1, tzinfo=UTC)  # the hour in which Berlin's clock changes
CUTS = [datetime(2023, 10, 29, 1, tzinfo=UTC), datetime(2024, 1, 10, 17, 30, 1, 7, tzinfo=UTC), EDGE, LAST]
TASKS = {"same": (ODD_KINDS[0], ODD_KINDS[0], timedelta(days=20)), "other": (*ODD_KINDS[1:3], timedelta(hours=36))}
MICROSECOND = timedelta(microseconds=1)


class Row(NamedTuple):
    label: int
    matured: bool
    weight: float
    features: np.ndarray[Any, np.dtype[np.float32]]


Rows = dict[tuple[int, datetime], Row]


def made(conn: Connection, task: str, cuts: list[datetime] | None, **options: Any) -> Rows:
    """The rows of a set that is made and gone again."""
    named = ", ".join(f"{name} => %({name})s" for name in options)
    query = f"select ubp.training_set(%(task)s, %(cuts)s::timestamptz[]{', ' if named else ''}{named})"
    with conn.transaction(force_rollback=True):
        count = conn.execute(query.encode(), {"task": task, "cuts": cuts, **options}).fetchone()
        table = conn.execute(
            f"select user_id, cut, label, matured, weight, features from ubp.training_{task}".encode(), binary=True
        ).fetchall()
    assert count == (len(table),)
    rows = {
        (user, cut): Row(label, matured, weight, np.array(features, np.float32))
        for user, cut, label, matured, weight, features in table
    }
    assert len(rows) == len(table)
    return rows


def expected(
    events: list[Event], task: str, cuts: list[datetime] | None, known_at: str = "cut", horizon: timedelta | None = None
) -> dict[tuple[int, datetime], tuple[int, bool]]:
    """(label, matured) of each pair, by looking at each event for each pair."""
    label, population, usual = TASKS[task]
    horizon = horizon or usual
    newest = max(e.event_time for e in events)
    found = {}
    for user in {e.user_id for e in events}:
        mine = [e for e in events if e.user_id == user]
        for cut in cuts or {e.event_time for e in mine if e.kind in ODD_KINDS}:
            before = [
                e for e in mine if e.event_time < cut and (known_at == "now" or (e.ingested_at or e.event_time) <= cut)
            ]
            if not any(e.kind == population for e in before):
                continue
            start = cut if cuts else cut + MICROSECOND
            after = [e for e in mine if e.kind == label and start <= e.event_time < start + horizon]
            found[user, cut] = (int(bool(after)), cut + horizon <= newest)
    return found


def said(rows: Rows) -> dict[tuple[int, datetime], tuple[int, bool]]:
    return {key: (row.label, row.matured) for key, row in rows.items()}


@pytest.mark.parametrize("known_at", ["cut", "now"])
@pytest.mark.parametrize("cuts", [CUTS, None], ids=["cuts", "every event"])
@pytest.mark.parametrize("task", TASKS)
def test_pairs_labels_and_maturity(odd: Connection, task: str, cuts: list[datetime] | None, known_at: str) -> None:
    rows = made(odd, task, cuts, known_at=known_at)
    want = expected(odd_events(), task, cuts, known_at)
    assert said(rows) == want
    assert {label for label, _ in want.values()} == {0, 1}
    assert {row.weight for row in rows.values()} == {1.0}
    assert {matured for _, matured in want.values()} == {True, False}


def test_a_horizon_of_ones_own(odd: Connection) -> None:
    horizon = timedelta(days=2, seconds=1, microseconds=3)
    assert said(made(odd, "same", CUTS, horizon=horizon)) == expected(odd_events(), "same", CUTS, horizon=horizon)
    assert said(made(odd, "same", None, horizon=horizon)) == expected(odd_events(), "same", None, horizon=horizon)


def features_at(conn: Connection, user: int, cut: datetime) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = conn.execute("select value from ubp.features(%s::bigint, %s)", [user, cut], binary=True).fetchall()
    return np.array([np.nan if value is None else value for (value,) in found], np.float32)


@pytest.mark.parametrize("cuts", [CUTS, None], ids=["cuts", "every event"])
def test_features_are_those_of_the_user_at_the_cut(odd: Connection, cuts: list[datetime] | None) -> None:
    rows = made(odd, "same", cuts)
    for user, cut in Random(3).sample(sorted(rows), 40):
        live = features_at(odd, user, cut)
        stored = rows[user, cut].features
        assert len(live) == len(stored)
        assert np.isnan(live).tolist() == np.isnan(stored).tolist()
        assert same_bits(np.nan_to_num(live), np.nan_to_num(stored)), (user, cut)


def test_known_now_is_as_if_nothing_had_come_late(odd: Connection) -> None:
    now = made(odd, "same", CUTS, known_at="now")
    with odd.transaction(force_rollback=True):
        odd.execute("update ubp.events set ingested_at = event_time")
        at_once = made(odd, "same", CUTS)
    assert equal(now, at_once)
    assert not equal(now, made(odd, "same", CUTS)), "there are late events, and they make a difference"


def equal(one: Rows, other: Rows) -> bool:
    same = said(one) == said(other)
    return same and all(same_bits(one[key].features, other[key].features) for key in one)


def test_every_event_is_a_cut_like_any_other(odd: Connection) -> None:
    """The same features as at that cut for everybody; only the label leaves the moment itself out."""
    rows = made(odd, "same", None)
    user, cut = max(key for key, row in rows.items() if row.matured)
    at_cut = made(odd, "same", [cut])
    assert same_bits(rows[user, cut].features, at_cut[user, cut].features)
    assert at_cut[user, cut].label == 1 >= rows[user, cut].label or ODD_KINDS[0] not in {
        e.kind for e in odd_events() if (e.user_id, e.event_time) == (user, cut)
    }


def test_the_example_of_the_documentation(odd: Connection) -> None:
    """docs/training-sets.md: purchases on day 0, twice, on day 5 and on day 25, and a horizon of 20 days."""
    text = (Path(__file__).parents[2] / "docs" / "training-sets.md").read_text()
    lines = re.findall(r"^\| day (\d+) \| (\d+) \| (\d) \| (\d) \|$", text, re.MULTILINE)
    told = {int(day): (float(seen), int(at_event), int(at_cut)) for day, seen, at_event, at_cut in lines}
    day = timedelta(days=1)
    times = [EDGE, EDGE, EDGE + 5 * day, EDGE + 25 * day]
    with odd.transaction(force_rollback=True):
        odd.execute("truncate ubp.events")
        insert(odd, [Event(1, time, ODD_KINDS[0], 1, 5.0) for time in times])
        names = [name for (name,) in odd.execute("select feature from ubp.feature_catalogue order by position")]
        at_events, at_cuts = made(odd, "same", None), made(odd, "same", sorted(set(times)))
    count = names.index("count_wunsch_zettel_all")
    assert at_events.keys() == at_cuts.keys()
    assert told == {
        (cut - EDGE) // day: (row.features[count], row.label, at_cuts[user, cut].label)
        for (user, cut), row in at_events.items()
    }
    assert told.keys() == {5, 25}


def test_all_batches_see_one_snapshot(odd: Connection, odd_db: Database) -> None:
    with odd_db.connect() as other, odd.transaction():
        odd.execute("do $$ import ubp_sql.api.training as t; t.BATCH_BYTES = 4000 $$ language plpython3u")
        try:
            query = BATCHES.replace("$1, $2, $3, $4, $5", "'same'")
            odd.execute(f"declare batches no scroll cursor for {query}".encode())
            first = odd.execute("fetch 1 from batches", binary=True).fetchall()
            insert(other, [Event(99, FIRST + timedelta(days=n), ODD_KINDS[0]) for n in range(3)])
            rest = odd.execute("fetch all from batches", binary=True).fetchall()
            fresh = odd.execute(query.encode(), binary=True).fetchall()
        finally:
            odd.execute("do $$ import ubp_sql.api.training as t; t.BATCH_BYTES = 16 << 20 $$ language plpython3u")
            other.execute("delete from ubp.events where user_id = 99")

    def users(batches: list[Any]) -> set[int]:
        return {int(user) for row in batches for user in np.frombuffer(row[0], "<i8")}

    assert len(rest) > 5
    assert 99 not in users(first + rest)
    assert 99 in users(fresh)


@contextmanager
def added(conn: Connection, events: list[Event]) -> Iterator[None]:
    with conn.transaction(force_rollback=True):
        insert(conn, events)
        yield


def random_events(random: Random, begin: datetime, end: datetime, late: timedelta = timedelta(0)) -> list[Event]:
    """Events of the same users between the two moments, and on the first."""
    seconds = int((end - begin).total_seconds())
    times = [begin, *(begin + timedelta(seconds=random.randrange(seconds)) for _ in range(80))]
    return [
        Event(random.randrange(1, 13), t, random.choice(ODD_KINDS), random.randrange(5), 7.5, None, t + late)
        for t in times
    ]


@pytest.mark.parametrize("seed", range(3))
def test_what_comes_at_or_after_a_cut_never_changes_its_features(odd: Connection, seed: int) -> None:
    random, cut = Random(seed), CUTS[1]
    at_cut = made(odd, "same", [cut])
    at_events = {key: row for key, row in made(odd, "same", None).items() if key[1] <= cut}
    later = random_events(random, cut, LAST)
    long_ago = random_events(random, FIRST, cut)
    unknown = [e._replace(ingested_at=cut + random.choice([MICROSECOND, timedelta(days=3)])) for e in long_ago]
    with added(odd, later + unknown):
        same_cut, same_events = made(odd, "same", [cut]), made(odd, "same", None)
    assert same_cut.keys() == at_cut.keys()
    assert all(same_bits(row.features, same_cut[key].features) for key, row in at_cut.items())
    assert all(same_bits(row.features, same_events[key].features) for key, row in at_events.items())
    assert said(same_cut) != said(at_cut), "labels do look ahead"
    with added(odd, long_ago):
        known = made(odd, "same", [cut])
    assert not all(same_bits(row.features, known[key].features) for key, row in at_cut.items()), "known ones do count"


@pytest.mark.parametrize("seed", range(3))
def test_what_comes_beyond_the_horizon_never_changes_the_label(odd: Connection, seed: int) -> None:
    cut, horizon = CUTS[1], TASKS["same"][2]
    before = made(odd, "same", [cut]), made(odd, "same", None)
    with added(odd, random_events(Random(seed), cut + horizon, LAST, late=timedelta(days=1))):
        after = made(odd, "same", [cut]), made(odd, "same", None)
    for old, new in zip(before, after, strict=True):
        mine = [key for key in old if key[1] < cut]
        mine += [key for key in old if key[1] == cut and old is before[0]]
        assert mine
        assert [old[key].label for key in mine] == [new[key].label for key in mine]


def test_negatives_are_drawn_and_weighed(odd: Connection) -> None:
    everything = made(odd, "same", None)
    some = made(odd, "same", None, negatives=0.25)
    assert equal(some, made(odd, "same", None, negatives=0.25)), "a second time the same"
    microseconds = {key: (key[1] - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND for key in everything}
    want = {
        key
        for key, row in everything.items()
        if row.label or drawn(np.array([key[0]]), np.array([microseconds[key]]), 0.25)[0]
    }
    assert some.keys() == want
    assert len(want) < len(everything)
    for key, row in some.items():
        assert (row.label, row.matured) == said(everything)[key]
        assert row.weight == (1.0 if row.label else 4.0)
        assert same_bits(row.features, everything[key].features)
    assert equal(made(odd, "same", None, negatives=1.0), everything)


def test_rates_stay_right(odd: Connection) -> None:
    """The weighted share of positives over many cuts is that of all rows, within what chance explains."""
    cuts = [FIRST + timedelta(hours=7 * n) for n in range(10, 650)]
    everything = made(odd, "other", cuts)
    share = 0.2
    some = made(odd, "other", cuts, negatives=share)
    negatives = sum(1 - row.label for row in everything.values())
    weighed = sum(row.weight for row in some.values() if not row.label)
    deviation = np.sqrt(negatives * (1 - share) / share)
    assert abs(weighed - negatives) < 4 * deviation
    assert deviation < negatives / 20, "the test can fail"


def test_batches_change_nothing(odd: Connection) -> None:
    sizes = """do $$
import ubp_sql.api.training as t, ubp_sql.api.training_table as w, ubp_sql.api.events as e
t.BATCH_BYTES, w.STATEMENT_BYTES, e.BATCH_EVENTS = {} $$ language plpython3u"""
    whole = [made(odd, "same", None), made(odd, "same", CUTS)]
    try:
        odd.execute(sizes.format("4000, 1, 30").encode())
        parts = [made(odd, "same", None), made(odd, "same", CUTS)]
    finally:
        odd.execute(sizes.format("16 << 20, 8 << 20, 1_000_000").encode())
    assert all(equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_the_mirror_changes_nothing(odd: Connection) -> None:
    """With all events in the mirror, and with some that have come since."""
    more = random_events(Random(1), CUTS[1], LAST, late=timedelta(days=2))
    questions: list[tuple[list[datetime] | None, str]] = [(None, "cut"), (CUTS, "cut"), (CUTS, "now")]
    with odd.transaction(force_rollback=True):
        odd.execute("select ubp.build_mirror()")
        mirrored = [made(odd, "same", cuts, known_at=known_at) for cuts, known_at in questions]
        insert(odd, more)
        with_news = [made(odd, "same", cuts, known_at=known_at) for cuts, known_at in questions]
    plain = [made(odd, "same", cuts, known_at=known_at) for cuts, known_at in questions]
    with added(odd, more):
        plain_with_news = [made(odd, "same", cuts, known_at=known_at) for cuts, known_at in questions]
    assert all(equal(one, other) for one, other in zip(mirrored, plain, strict=True))
    assert all(equal(one, other) for one, other in zip(with_news, plain_with_news, strict=True))
    assert not equal(plain[0], plain_with_news[0])


def test_the_session_changes_nothing(odd: Connection) -> None:
    before = made(odd, "same", None)
    with odd.transaction(force_rollback=True):
        for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'"):
            odd.execute(f"set local {setting}".encode())
        odd.execute("set local search_path = pg_temp")
        assert equal(made(odd, "same", None), before)
