"""One user's arithmetic and many users': equal to the bit, and what the reference says."""

import math
from array import array

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.helpers import same_bits
from tests.standings import reference as ref
from ubp_sql.features import standing as standings
from ubp_sql.features.standing import (
    Place,
    Standing,
    counted,
    day_of,
    finish_rows,
    finished_row,
    opened,
    packed,
    ranked,
)

PERCENTILE, POPULARITY = standings.FAMILIES
f32 = st.one_of(
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, math.nan, 3.4028234663852886e38, -3.4028234663852886e38, 1.401298464324817e-45]),
    st.floats(width=32, allow_infinity=False),
)
items = st.one_of(st.integers(0, 4), st.sampled_from([2**53 - 1, -(2**62), 2**63 - 1, 2**63 - 2])).map(float)


def of_values(values: list[float]) -> Standing:
    there = np.array([x for x in values if x == x], np.float32)
    keys, users = np.unique(there, return_counts=True)
    return ranked(keys, users)


def of_items(events: list[float]) -> Standing:
    keys, n = np.unique(np.array(events, np.float64), return_counts=True)
    return counted(keys, n)


def finished(
    place: Place, standing: Standing, values: list[float], anchors: list[float]
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """By both twins, which are compared."""
    rows = np.zeros((len(values), 2), np.float32)
    rows[:, place.position] = values
    whole = rows.copy()
    held = np.array(anchors, np.float64).reshape(-1, 1)
    finish_rows(whole, held, [place], [standing], np.arange(len(values)))
    for row, anchor, want in zip(rows, held, whole, strict=True):
        one = finished_row(row.tobytes(), anchor.tolist(), [place], [standing])
        assert same_bits(np.frombuffer(one, np.float32), want)
    return whole[:, place.position]


def reopened(family: str, standing: Standing) -> Standing:
    again = opened(family, standing.n, packed(standing.keys), packed(standing.results))
    assert again == standing or math.isnan(standing.results[0])
    return again


@given(st.lists(f32, max_size=20), st.lists(f32, min_size=1, max_size=10))
@settings(deadline=None, max_examples=300)
def test_percentiles(population: list[float], values: list[float]) -> None:
    standing = reopened(PERCENTILE, of_values(population))
    found = finished(Place(1, PERCENTILE, -1), standing, values, [math.nan] * len(values))
    others = [x for x in population if x == x]
    assert standing.n == len(others)
    for x, got in zip(np.array(values, np.float32).tolist(), found.tolist(), strict=True):
        want = ref.percentile(None if math.isnan(x) else x, others)
        assert (want is None and math.isnan(got)) or got == np.float32(want)


@given(st.lists(items, max_size=20), st.lists(st.one_of(items, st.just(math.nan)), min_size=1, max_size=10))
@settings(deadline=None, max_examples=300)
def test_popularity(events: list[float], asked: list[float]) -> None:
    standing = reopened(POPULARITY, of_items(events))
    found = finished(Place(0, POPULARITY, 0), standing, [1.0] * len(asked), asked)
    for item, got in zip(asked, found.tolist(), strict=True):
        assert (math.isnan(item) and math.isnan(got)) or got == events.count(item)


def test_of_very_many_values_evenly_many_are_kept() -> None:
    random = np.random.default_rng(3)
    population = np.concatenate((random.exponential(10, 150_000), np.full(40_000, 2.5), np.arange(1000))).astype(
        np.float32
    )
    standing = of_values(population.tolist())
    assert len(standing.keys) <= standings.MOST_KEYS < len(np.unique(population))
    ascending = np.sort(population)
    asked = np.concatenate((population[::37], [2.5, -1, 1e9, 0.01])).astype(np.float32)
    low, high = np.searchsorted(ascending, asked), np.searchsorted(ascending, asked, "right")
    want = 100 * (low + high) / 2 / len(ascending)
    found = finished(Place(0, PERCENTILE, -1), standing, asked.tolist(), [0.0] * len(asked))
    error = np.abs(found - want)
    assert error.max() <= 100 / standings.MOST_KEYS / 2 + 4e-6
    assert error[asked == np.float32(2.5)].max() < 4e-6, "what many users have is exact"


def test_nobody_and_nothing() -> None:
    empty = of_values([])
    assert empty == Standing(0, array("f"), empty.results)
    assert math.isnan(finished(Place(0, PERCENTILE, -1), empty, [1.0], [0.0])[0])
    assert finished(Place(0, POPULARITY, 0), of_items([]), [9.0], [7.0])[0] == 0


def test_a_day_begins_at_its_midnight() -> None:
    day = 86_400_000_000
    assert [day_of(x) for x in (0, day - 1, day, -1, -day)] == [0, 0, 1, -1, -1]
