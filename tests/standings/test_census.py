"""The population counted in one pass: by the reference, in any batches, over any days; and the plan that it runs."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.features import spec_cases
from tests.features.helpers import ints, same_bits
from tests.standings import reference as ref
from tests.standings.helpers import FEATURES, MIDNIGHT, events
from ubp_sql.features import census as module
from ubp_sql.features.census import Census, known_from
from ubp_sql.features.columns import Declared
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import NO_KEY, Events
from ubp_sql.features.plan_part import plan_part
from ubp_sql.features.rows import of_users
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.standing import Standing

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NONE = ints([])


def definition() -> FeatureSetDefinition:
    first, *rest = map(FeatureSpec.from_mapping, FEATURES)
    return FeatureSetDefinition((), (), (first,)).grown(rest)


def as_events(log: list[ref.Event], of: FeatureSetDefinition) -> Events:
    users = sorted({e.user for e in log})
    sizes = [sum(e.user == user for e in log) for user in users]
    us = [((e.t - EPOCH) // timedelta(microseconds=1), (e.ingested - EPOCH) // timedelta(microseconds=1)) for e in log]
    return Events(
        user_id=ints(users),
        first=np.cumsum([0, *sizes], dtype=np.int64),
        t_us=ints([t for t, _ in us]),
        ingested_us=ints([known for _, known in us]),
        offset_s=np.zeros(len(log), np.int32),
        kind=np.array([of.kinds.index(e.kind) if e.kind in of.kinds else -1 for e in log], np.int32),
        numbers={"value": np.array([np.nan if e.value is None else e.value for e in log], np.float64)},
        keys={"item": ints([NO_KEY if e.item is None else e.item for e in log])},
    )


def taken(of: FeatureSetDefinition, whole: Events, days: list[int], step: int) -> dict[tuple[int, int], Standing]:
    census = Census(of, days)
    for low in range(0, len(whole.user_id), step):
        census.add(of_users(whole, low, min(low + step, len(whole.user_id))), NONE, lambda: None)
    return {(day, position): standing for day, position, standing in census.standings(lambda: None)}


DAYS = [(MIDNIGHT - EPOCH).days + n for n in (-9, -3, -1, 0, 1, 2, 5)]


@pytest.mark.parametrize("seed", range(4))
def test_the_reference(seed: int) -> None:
    of, log = definition(), events(seed)
    names = [feature.name for feature in of.features]
    for (day, position), standing in taken(of, as_events(log, of), DAYS, 25).items():
        start = EPOCH + timedelta(days=day)
        if names[position] == "popularity":
            then = [e for e in ref.known(log, start) if e.t >= start - timedelta(days=4) and e.item is not None]
            want = {item: sum(e.item == item for e in then) for item in sorted({e.item or 0 for e in then})}
            assert dict(zip(standing.keys, standing.results, strict=True)) == want
            assert standing.n == len(then)
        else:
            base = of.features[position].spec.of
            values = ref.population(log, start, str(base))
            assert standing.n == len(values)
            assert list(standing.keys) == sorted(set(values))
            assert [standing.results[2 * n + 1] for n in range(len(standing.keys))] == [
                np.float32(ref.percentile(x, values)) for x in sorted(set(values))
            ]


@pytest.mark.parametrize("step", [1, 3, 100])
def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    of, log = definition(), events(7)
    whole = as_events(log, of)
    want = taken(of, whole, DAYS, 25)
    monkeypatch.setattr(module, "MOST_PAIRS", 4)
    monkeypatch.setattr(module, "SLICE", 5)
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    found = taken(of, whole, DAYS, step)
    assert found.keys() == want.keys()
    for key, standing in want.items():
        assert (found[key].n, found[key].keys, found[key].results.tobytes()) == (
            standing.n,
            standing.keys,
            standing.results.tobytes(),
        )


def test_days_beyond_what_memory_holds_are_left_to_another_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    of, log = definition(), events(7)
    whole = as_events(log, of)
    want = taken(of, whole, DAYS, 25)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    found = taken(of, whole, DAYS, 3)
    assert {day for day, _ in found} == set(DAYS[:1])
    assert all(found[key].keys == want[key].keys for key in found)
    monkeypatch.setattr(module, "MOST_DAYS", 2)
    assert Census(of, DAYS).days == DAYS[:2]


def test_users_are_known_from_their_first_known_event_on() -> None:
    of, log = definition(), events(9)
    whole = as_events(log, of)
    for moment in (
        MIDNIGHT,
        MIDNIGHT - timedelta(days=4),
        MIDNIGHT + timedelta(hours=24),
        MIDNIGHT - timedelta(days=30),
    ):
        us = (moment - EPOCH) // timedelta(microseconds=1)
        users = {int(user) for user, begin in zip(whole.user_id, known_from(whole), strict=True) if begin < us}
        assert users == {e.user for e in ref.known(log, moment)}


def test_the_edge_of_the_day_to_the_microsecond() -> None:
    """An event of midnight is of the day that begins; one that became known at midnight is known then."""
    of, step = definition(), timedelta(microseconds=1)
    times = [(-step, -step), (-step, timedelta(0)), (-step, step), (timedelta(0), timedelta(0))]
    log = [ref.Event(user, MIDNIGHT + t, MIDNIGHT + known, "view", 1, None) for user, (t, known) in enumerate(times)]
    found = taken(of, as_events(log, of), [DAYS[3]], 9)
    views, *_, popularity = (found[DAYS[3], f.position] for f in of.standings)
    assert (views.n, list(views.keys)) == (2, [1.0])
    assert (popularity.n, list(popularity.results)) == (2, [2.0])


@pytest.mark.parametrize("part", range(6))
def test_a_part_of_a_plan_gives_the_same_bits(part: int) -> None:
    """Of every aggregate, sixth by sixth, with the other features' windows in place."""
    declared = tuple(Declared(*column) for column in spec_cases.COLUMNS)
    of = FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, spec_cases.cases())), declared)
    whole = hashed(of)
    users, moments = (
        np.repeat(np.arange(len(whole.user_id)), 2),
        np.tile([AS_OF_US - 10**12, AS_OF_US], len(whole.user_id)),
    )
    want = compute(whole, of, users, moments, moments).features
    positions = list(range(part, len(of.features), 6))
    narrow = plan_part(of.kinds, of.columns, of.plan, positions)
    assert len(narrow.plan.ops) < len(of.plan.ops)
    assert set(narrow.columns.numbers) <= set(of.columns.numbers)
    found = compute(whole, narrow, users, moments, moments).features
    assert same_bits(found, want[:, positions])


def test_a_part_reads_no_more_than_it_needs() -> None:
    of = definition()
    views = plan_part(of.kinds, of.columns, of.plan, [0, 1])
    assert views.columns == ((), (), False)
    assert plan_part(of.kinds, of.columns, of.plan, [3]).columns == (("value",), (), False)


AS_OF_US = (spec_cases.AS_OF - EPOCH) // timedelta(microseconds=1)


def hashed(of: FeatureSetDefinition) -> Events:
    """The cases' log, with keys and numbers of whatever sort: only whether bits are equal is asked."""
    rows = sorted(spec_cases.log(), key=lambda row: (row[0], row[1], row[8]))
    users = sorted({row[0] for row in rows})
    n, random = len(rows), np.random.default_rng(1)
    us = [[(row[place] - EPOCH) // timedelta(microseconds=1) for row in rows] for place in (1, 8)]
    return Events(
        user_id=ints(users),
        first=np.cumsum([0, *[sum(row[0] == user for row in rows) for user in users]], dtype=np.int64),
        t_us=ints(us[0]),
        ingested_us=ints(us[1]),
        offset_s=np.full(n, 7200, np.int32),
        kind=np.array([of.kinds.index(row[2]) if row[2] in of.kinds else -1 for row in rows], np.int32),
        numbers={name: random.choice([np.nan, 0.1, 0.2, 19.99, 1e9], n) for name in of.columns.numbers},
        keys={name: random.choice([NO_KEY, 1, 2, 3, 2**40], n) for name in of.columns.keys},
    )
