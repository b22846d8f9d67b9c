"""Shapley values: against all coalitions, exact sums, the same numbers twice."""

import json
import math
from collections.abc import Callable
from itertools import combinations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models.onnx_makers import Maker, mlp
from ubp_sql.errors import UnsupportedModel
from ubp_sql.kernels.forest_codes import SIGMOID
from ubp_sql.models.formats import read_model
from ubp_sql.models.linear import Linear, LinearModel, compile_linear
from ubp_sql.models.loaded import Loaded, open_model
from ubp_sql.models.preparation_document import together
from ubp_sql.models.raw import raw_batch, score_of
from ubp_sql.models.shapley import Shapley, linear_values, sampled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
NAN = math.nan


def shapley(worth: Callable[[frozenset[int]], float], players: int) -> list[float]:
    """Shapley 1953, by its definition: over all coalitions without a player, what he adds to each."""
    n = math.factorial(players)
    values = [0.0] * players
    for i in range(players):
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - 1 - size) / n
            for others in combinations([j for j in range(players) if j != i], size):
                values[i] += weight * (worth(frozenset((*others, i))) - worth(frozenset(others)))
    return values


def interventional(raw: Callable[[F32], F64], row: F32, background: F32) -> Callable[[frozenset[int]], float]:
    """A coalition's worth: the mean raw score with the row's values there and a background's elsewhere."""

    def worth(coalition: frozenset[int]) -> float:
        rows = background.copy()
        for i in coalition:
            rows[:, i] = row[i]
        return float(raw(rows).mean())

    return worth


def booster(f: int, seed: int) -> lightgbm.Booster:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, f)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = NAN
    labels = np.nansum(rows[:, :3], axis=1) * np.nan_to_num(rows[:, 1]) > 0
    chosen = {"objective": "binary", "num_leaves": 8, "verbosity": -1, "num_threads": 1, "seed": seed}
    return lightgbm.train(chosen, lightgbm.Dataset(rows, labels), num_boost_round=10)


def trees(f: int, seed: int) -> Loaded:
    text = booster(f, seed).model_to_string().encode()
    return open_model(read_model(text, tuple(f"Column_{i}" for i in range(f))).compiled)


def network(f: int, seed: int) -> Loaded:
    return open_model(read_model(mlp(seed, features=f), tuple(f"f{i}" for i in range(f))).compiled)


def rows_of(f: int, n: int, seed: int, *, missing: bool) -> F32:
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(size=(n, f)), 1).astype(np.float32)
    if missing:
        rows[rng.random(rows.shape) < 0.15] = NAN
    return rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [trees, network])
def test_near_all_coalitions(make: Callable[[int, int], Loaded], seed: int) -> None:
    loaded = make(6, seed)
    rows = rows_of(6, 101, seed, missing=make is trees)
    row, background = rows[0], rows[1:]

    def raw(given: F32) -> F64:
        return raw_batch(loaded, given)

    truth = shapley(interventional(raw, row, background), 6)
    found = sampled(raw, row, background, 100, seed)
    assert found.base == pytest.approx(raw(background).mean(), abs=1e-12)
    for value, error, exact in zip(found.contributions, found.standard_errors, truth, strict=True):
        assert abs(value - exact) <= 4.5 * error + 1e-12
    assert max(found.standard_errors) < 0.5 * max(map(abs, truth))


def test_more_pairs_come_nearer() -> None:
    loaded = network(6, 9)
    rows = rows_of(6, 60, 9, missing=False)
    worth = interventional(lambda given: raw_batch(loaded, given), rows[0], rows[1:])
    truth = np.array(shapley(worth, 6))
    background = np.concatenate([rows[1:]] * 40)  # the same mean, however many are used

    def off(pairs: int) -> float:
        apart = [
            np.abs(np.array(sampled(lambda r: raw_batch(loaded, r), rows[0], background, pairs, s)[1]) - truth).max()
            for s in range(5)
        ]
        return float(np.mean(apart))

    assert off(59 * 40) < 0.35 * off(59)


def adds_up(found: Shapley, raw: float) -> bool:
    parts = (found.base, *found.contributions)
    return abs(math.fsum((*parts, -raw))) <= 2.0**-52 * max(map(abs, (*parts, raw)))


NUMBERS = st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32), st.integers(-3, 3).map(float))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**40))
def test_they_add_up_to_the_bit(data: st.DataObject, f: int, n: int, seed: int) -> None:
    many = st.lists(st.lists(NUMBERS, min_size=f, max_size=f), min_size=n + 1, max_size=n + 1)
    rows = np.array(data.draw(many), np.float32)

    def raw(given: F32) -> F64:
        known = np.nan_to_num(given.astype(np.float64), nan=0.7)
        return np.asarray(known.sum(axis=1) * (known[:, 0] - 0.1) + np.pi)

    found = sampled(raw, rows[0], rows[1:], 50, seed)
    assert adds_up(found, raw(rows[:1])[0])
    assert found[:2] == sampled(raw, rows[0], rows[1:], 50, seed)[:2]
    for i in range(f):  # a feature that nobody has otherwise explains nothing
        if all(str(other) == str(rows[0, i]) for other in rows[1:, i]):
            assert found.contributions[i] == 0.0


def test_two_features_are_exact() -> None:
    """An order and its reverse are all the orders there are."""
    rows = rows_of(2, 30, 5, missing=False)

    def raw(given: F32) -> F64:
        return np.asarray(np.exp(given[:, 0].astype(np.float64)) * given[:, 1])

    truth = shapley(interventional(raw, rows[0], rows[1:4]), 2)
    assert sampled(raw, rows[0], rows[1:], 3, 7).contributions == pytest.approx(truth, abs=1e-12)


def test_a_seed_of_its_own_gives_other_draws() -> None:
    loaded = network(6, 1)
    rows = rows_of(6, 30, 1, missing=False)
    one, other = (sampled(lambda r: raw_batch(loaded, r), rows[0], rows[1:], 20, seed) for seed in (1, 2))
    assert one.contributions != other.contributions


def test_rows_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.models.shapley.MOST_VALUES", 60)
    seen: list[int] = []

    def raw(given: F32) -> F64:
        seen.append(given.size)
        return np.asarray(given.sum(axis=1, dtype=np.float64))

    rows = rows_of(6, 20, 3, missing=False)
    found = sampled(raw, rows[0], rows[1:], 19, 0)
    assert max(seen) <= 60
    monkeypatch.undo()
    assert found == sampled(raw, rows[0], rows[1:], 19, 0)


def test_no_number_is_an_error() -> None:
    rows = rows_of(3, 5, 0, missing=False)
    with pytest.raises(UnsupportedModel, match="no number") as caught:
        sampled(lambda given: np.full(len(given), NAN), rows[0], rows[1:], 4, 0)
    assert caught.value.hint


def linear(f: int, seed: int, *, missing: bool = True) -> LinearModel:
    rng = np.random.default_rng(seed)
    instead = rng.normal(size=f) if missing else np.full(f, NAN)
    model = Linear(rng.normal(size=f).tolist(), instead.tolist(), [0.3], SIGMOID)
    opened = open_model(compile_linear(model))
    assert isinstance(opened, LinearModel)
    return opened


@pytest.mark.parametrize("seed", range(4))
def test_linear_models_are_exact(seed: int) -> None:
    loaded = linear(5, seed)
    rows = rows_of(5, 40, seed, missing=True)
    worth = interventional(lambda given: raw_batch(loaded, given), rows[0], rows[1:])
    found = linear_values(loaded.linear, rows[0], rows[1:])
    assert found.contributions == pytest.approx(shapley(worth, 5), abs=1e-12)
    assert found.base == pytest.approx(worth(frozenset()), abs=1e-12)
    drawn = sampled(lambda given: raw_batch(loaded, given), rows[0], rows[1:], 39, seed)
    assert found.contributions == pytest.approx(drawn.contributions, abs=1e-12)
    assert adds_up(found, raw_batch(loaded, rows[:1])[0])


def test_linear_without_a_value_for_missing() -> None:
    loaded = linear(3, 1, missing=False)
    rows = rows_of(3, 9, 1, missing=False)
    rows[0, 1] = NAN
    with pytest.raises(UnsupportedModel, match="no number"):
        linear_values(loaded.linear, rows[0], rows[1:])


def behind_another(f: int, seed: int) -> Loaded:
    """Trees behind a step that changes every feature."""
    names = [f"Column_{i}" for i in range(f)]
    step = {"step": "standardise", "columns": names, "mean": [0.1] * f, "scale": [0.5] * f}
    document = json.dumps({"ubp_preparation": 1, "features": names, "steps": [step]}).encode()
    return open_model(
        read_model(together(document, booster(f, seed).model_to_string().encode()), tuple(names)).compiled
    )


@pytest.mark.parametrize("make", [trees, network, linear, behind_another])
def test_a_raw_score_makes_the_score(make: Callable[[int, int], Loaded]) -> None:
    loaded = make(6, 4)
    rows = rows_of(6, 50, 4, missing=make in (trees, behind_another))
    link, raw = score_of(loaded), raw_batch(loaded, rows)
    assert [link(value) for value in raw.tolist()] == pytest.approx(loaded.score_batch(rows)[:, 0].tolist(), rel=1e-6)
    assert raw.min() < 0 < raw.max()


def test_a_network_s_probability_at_its_edge() -> None:
    m = Maker(2, features=2)
    hidden = m.add("Tanh", m.dense("x", 2, 2))
    graph = m.bytes(m.add("Sigmoid", m.add("Mul", m.put(np.full(1, 1e4, np.float32)), m.dense(hidden, 2, 1))))
    loaded = open_model(read_model(graph, ("f0", "f1")).compiled)
    rows = np.array([[1e4, 1e4], [-1e4, -1e4]], np.float32)
    assert set(loaded.score_batch(rows)[:, 0]) == {0.0, 1.0}
    assert sorted(raw_batch(loaded, rows)) == pytest.approx([-17.33, 17.33], abs=0.01)
