"""Scores of many rows at once: ours beside LightGBM and the engines that compile its models, one thread each."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np

from bench import settings
from bench.rivals.forests import Forests
from bench.rounds import Timing, rounds
from ubp_sql.install.native import build
from ubp_sql.kernels.dispatch import F32, F64, BitVectors
from ubp_sql.models import batch
from ubp_sql.models.blob import compile_forest, open_blob
from ubp_sql.models.lightgbm_text import parse

ROWS, ROUNDS = 50_000, 7
LEAST_LIGHTGBM, LEAST_LLEAVES = 3.0, 1.0
OURS = "ours"


class Shape(NamedTuple):
    """A model and the share of missing values in what it was trained on and scores."""

    trees: int
    leaves: int
    features: int
    missing: float = 0.1

    def __str__(self) -> str:
        return f"{self.trees} x {self.leaves}, {self.features} features, {100 * self.missing:.0f} % missing"


BAR = Shape(100, 31, 40)
SHAPES = (
    *(BAR, Shape(100, 31, 40, 0.0), Shape(200, 31, 60), Shape(10, 31, 40), Shape(500, 31, 40)),
    *(Shape(100, 4, 5), Shape(100, 64, 40), Shape(100, 127, 40), Shape(50, 255, 200), Shape(20, 1023, 40)),
)


def run() -> dict[str, Any]:
    """Every engine's scores are compared with LightGBM's first, ours to the bit."""
    build()
    rows, bars, notes = [], {}, []
    for shape in SHAPES:
        found, timings, compiled, not_there = _case(shape)
        fastest = min(t.median for name, t in timings.items() if name.startswith("LightGBM"))
        for name, timing in timings.items():
            rows.append(
                {
                    "trees x leaves": str(shape),
                    "engine": name,
                    "M rows/s": ROWS / timing.median / 1e6,
                    "of LightGBM": fastest / timing.median,
                    "slowest s": max(timing.runs),
                    "fastest s": min(timing.runs),
                    "made ready s": compiled.get(name),
                }
            )
        notes += [f"{shape}: {line}" for line in (found, *not_there)]
        if shape == BAR:
            bars = _bars(timings, fastest)
    return {"rows": rows, "bars": bars, "notes": notes, "size": f"{ROWS:,} rows"}


def _bars(timings: dict[str, Timing], lightgbm_s: float) -> dict[str, bool]:
    ours = timings[OURS].median
    bars = {
        f"{BAR}: {lightgbm_s / ours:.1f}x LightGBM's predict >= {LEAST_LIGHTGBM}": lightgbm_s >= LEAST_LIGHTGBM * ours
    }
    if "lleaves" in timings:
        ratio = timings["lleaves"].median / ours
        bars[f"{BAR}: {ratio:.1f}x lleaves >= {LEAST_LLEAVES}"] = ratio >= LEAST_LLEAVES
    return bars


def _case(shape: Shape) -> tuple[str, dict[str, Timing], dict[str, float], list[str]]:
    """Which kernel took it, the timings, seconds to load or compile, and the engines that are not there."""
    with tempfile.TemporaryDirectory() as folder:
        model, rows = Path(folder) / "model.txt", Path(folder) / "rows.npy"
        model.write_text(model_text(shape))
        x = rows_of(ROWS, shape, settings.seed() + 1)
        np.save(rows, x)
        started = time.perf_counter()
        blob = open_blob(compile_forest(parse(model.read_bytes())))
        batch.batch_form.cache_clear()
        form = batch.batch_form(blob)
        compiled = {OURS: time.perf_counter() - started}
        rivals = Forests(model, rows)
        there = [name for name, state in rivals.engines.items() if not isinstance(state, str)]
        compiled |= {name: float(rivals.engines[name]) for name in there}
        expected = rivals.answer("LightGBM, float64 rows")
        # ONNX Runtime adds float32.
        differ = [f"{n} differs by up to {_worst(rivals.answer(n), expected):.1e} and is timed" for n in there]
        if not np.array_equal(batch.raw_batch(blob, x)[:, 0], expected):
            raise SystemExit(f"{shape}: our scores are not LightGBM's to the bit, nothing is timed")

        def ours() -> float:
            started = time.perf_counter()
            batch.raw_batch(blob, x)
            return time.perf_counter() - started

        methods: dict[str, Callable[[], float]] = {OURS: ours, **{name: partial(rivals.time, name) for name in there}}
        timings = rounds(methods, settings.count(ROUNDS))
        missing = [f"{name} is not there: {s}" for name, s in rivals.engines.items() if isinstance(s, str)]
        rivals.close()
    kernel = "bit vectors" if isinstance(form, BitVectors) else "traversal"
    exact = [line for line in differ if " by up to 0.0e+00 " not in line]
    return f"ours by {kernel}", timings, compiled, [*missing, *exact]


def _worst(found: F64, expected: F64) -> float:
    if found.shape != expected.shape:
        raise SystemExit(f"{found.shape} scores, not {expected.shape}")
    worst = float(np.max(np.abs(found - expected)))
    if not worst <= 1e-4 * max(1.0, float(np.max(np.abs(expected)))):
        raise SystemExit(f"scores differ by up to {worst}: nothing is timed")
    return worst


def rows_of(n: int, shape: Shape, seed: int) -> F32:
    """Counts, lognormal amounts and normals in turn, as features of users are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, shape.features)).astype(np.float32)
    x[:, ::3] = np.floor(np.abs(x[:, ::3]) * 4)
    x[:, 1::3] = np.exp(x[:, 1::3])
    x[rng.random(x.shape) < shape.missing] = np.nan
    return x


def model_text(shape: Shape) -> str:
    """The text of a model of exactly that many trees and leaves, or a few leaves less."""
    n = max(20_000, 100 * shape.leaves)
    x, rng = rows_of(n, shape, settings.seed()), np.random.default_rng(settings.seed())
    known = np.nan_to_num(x)
    weight = rng.normal(size=shape.features)
    noise = rng.normal(size=n) * 0.3
    y = np.tanh(known @ weight / np.sqrt(shape.features)) + np.sin(known[:, 0] * known[:, 1]) + noise
    parameters = {"objective": "regression", "num_leaves": shape.leaves, "min_data_in_leaf": 5, "learning_rate": 0.05}
    quiet = {"verbosity": -1, "num_threads": 1, "seed": settings.seed()}
    text = lightgbm.train({**parameters, **quiet}, lightgbm.Dataset(x, y), shape.trees).model_to_string()
    return str(text)
