"""The kernels on a GPU beside one core, on arrays that lie on the card and on arrays of the host.

Users' histories, moments and rows are drawn here; one core computes the first of them, whose answers are compared
before anything is timed, and its time is multiplied.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import forest, settings
from bench.rounds import Timing, rounds
from bench.stored import Size
from ubp_sql.features.compute import CHUNK
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.install.native import build
from ubp_sql.kernels import _gpu_card, gpu
from ubp_sql.kernels._gpu_parts import host
from ubp_sql.kernels.aot import forest_bits, new_scan, run_pairs
from ubp_sql.kernels.dispatch import DAY_US, F64, EventColumns, Pairs, Plan
from ubp_sql.models.batch import trees_of
from ubp_sql.models.bit_vectors import bit_vectors
from ubp_sql.models.blob import compile_forest, open_blob
from ubp_sql.models.lightgbm_text import parse

EVENTS, USERS, ROUNDS = 100_000_000, 2_000_000, 5
MOMENTS = 12
"""Of each user, a month apart, for a fifth of the users."""
ROWS = 10_000_000
SHAPE = forest.Shape(200, 31, 40)
BY_ONE_CORE = 0.05
"""The share of the work that one core does."""
LEAST, LEAST_WITH_TRANSFER, LEAST_BANDWIDTH = 20.0, 5.0, 0.6
SPAN_US = 540 * DAY_US
RESIDENT, TRANSFER, TRAVERSAL, CORE = "resident", "with the transfer", "traversal", "one core"


class Work(NamedTuple):
    """Arrays of the host, and how long the longest history is."""

    plan: Plan
    events: EventColumns
    pairs: Pairs
    longest: int

    def room(self, xp: Any) -> tuple[Any, Any]:
        """Arrays for the features and the anchors."""
        p = len(self.pairs.user)
        return xp.empty((p, len(self.plan.formulas)), np.float32), xp.empty((p, len(self.plan.anchors)), np.float64)

    def first_users(self, users: int) -> "Work":
        """The same of the first users alone."""
        end, pairs = self.events.first[users], np.searchsorted(self.pairs.user, users)
        head = [np.ascontiguousarray(column[..., :end]) for column in self.events[1:-1]]
        events = EventColumns._make([self.events.first[: users + 1], *head, self.events.holidays])
        return Work(self.plan, events, Pairs._make(column[:pairs] for column in self.pairs), self.longest)

    @property
    def bytes_once(self) -> int:
        """What a pass that reads every event once and writes every row once moves."""
        read = sum(column.nbytes for column in (*self.events, *self.pairs))
        return read + len(self.pairs.user) * (4 * len(self.plan.formulas) + 8 * len(self.plan.anchors))


def run() -> dict[str, Any]:
    """All three kernels; without a card, a line that says why."""
    if said := gpu.fault():
        print(f"gpu: skipped, no GPU: {said}")
        raise SystemExit(0)
    build()
    size = settings.size(EVENTS, USERS)
    card, peak = gpu.card_name(), peak_bandwidth()
    rows: list[dict[str, Any]] = []
    bars: dict[str, bool] = {}
    notes: list[str] = []
    for name, timings, moved in (*_features(size), _scores(size, notes)):
        core = timings[CORE].median
        for method, timing in timings.items():
            share = moved / timing.median / peak if method == RESIDENT and peak and moved else None
            row = {"work": name, "where": method if method == CORE else f"{card}, {method}", **timing.row()}
            rows.append({**row, "of one core": core / timing.median, "of peak bandwidth": share})
            least = {RESIDENT: LEAST, TRANSFER: LEAST_WITH_TRANSFER if name == SNAPSHOT else None}.get(method)
            if least is not None:
                bars[f"{card}: {name}, {method}: {core / timing.median:.1f}x one core >= {least:.0f}x"] = (
                    core >= least * timing.median
                )
            if share is not None and name == SNAPSHOT:
                bars[f"{card}: {name}: {share:.0%} of the peak bandwidth >= {LEAST_BANDWIDTH:.0%}"] = (
                    share >= LEAST_BANDWIDTH
                )
    if peak:
        notes.append(f"{card}: peak bandwidth {peak / 1e12:.2f} TB/s by its clock and its bus")
    notes.append(f"one core computes {BY_ONE_CORE:.0%} of the work, its time multiplied")
    return {"rows": rows, "bars": bars, "notes": notes, "size": str(size), "card": card}


def peak_bandwidth() -> float:
    """Bytes a second of the card's memory, at two transfers a clock; 0.0 for a simulated card."""
    if gpu.simulated():
        return 0.0
    about = _gpu_card.arrays().cuda.Device().attributes
    return float(2 * 1_000 * about["MemoryClockRate"] * about["GlobalMemoryBusWidth"] / 8)


SNAPSHOT, POINT_IN_TIME, SCORES = "snapshot", "point in time", "scores"


def _features(size: Size) -> Iterator[tuple[str, dict[str, Timing], int]]:
    snapshot = some_work(size.events, size.users, 1, size.seed)
    yield SNAPSHOT, _timed(snapshot), snapshot.bytes_once
    del snapshot
    yield POINT_IN_TIME, _timed(some_work(size.events // 5, max(1, size.users // 5), MOMENTS, size.seed)), 0


def some_work(events: int, users: int, moments: int, seed: int) -> Work:
    """Standard features of long-tailed users, at their last `moments` moments, 30 days apart."""
    rng = np.random.default_rng([seed, moments])
    definition = FeatureSetDefinition(("purchase", "view"), (7, 30, 90))
    share = np.cumsum(rng.lognormal(0, 1.3, users))
    first = np.concatenate(([0], np.rint(share * (events / share[-1])))).astype(np.int64)
    gone = np.cumsum(rng.exponential(size=events))
    begin, long = np.concatenate(([0.0], gone))[first], np.diff(first)
    whole = np.repeat(begin[1:] - begin[:-1], long)
    t_us = ((gone - np.repeat(begin[:-1], long)) / whole * (SPAN_US - 1)).astype(np.int64)
    kind = (rng.random(events, np.float32) < 0.7).astype(np.int32)
    numbers = np.floor(np.exp(rng.normal(7.5, 1, (len(definition.columns.numbers), events)))) / 100
    numbers[:, kind == 1] = np.nan
    keys = np.minimum(rng.exponential(100, (len(definition.columns.keys), events)), 1_999).astype(np.int64)
    offset_s, holidays = np.zeros(events, np.int32), np.zeros(0, np.int64)
    columns = EventColumns(first, t_us, t_us, offset_s, kind, numbers, keys, holidays)
    as_of = np.tile(SPAN_US - 30 * DAY_US * np.arange(moments)[::-1], users)
    user = np.repeat(np.arange(users), moments)
    return Work(definition.plan, columns, Pairs(user, as_of, as_of, (as_of // DAY_US + 3) % 7), int(long.max()))


def _timed(work: Work) -> dict[str, Timing]:
    xp = _gpu_card.arrays()
    few = work.first_users(max(1, round(BY_ONE_CORE * (len(work.events.first) - 1))))
    share = few.events.first[-1] / work.events.first[-1]
    wanted, made, resident_made = few.room(np), work.room(np), work.room(xp)
    resident = work._replace(
        events=EventColumns._make(map(xp.asarray, work.events)), pairs=Pairs._make(map(xp.asarray, work.pairs))
    )
    core = partial(_run, new_scan, run_pairs, few, CHUNK, wanted)
    methods: dict[str, Callable[[], float]] = {
        CORE: lambda: core() / share,
        RESIDENT: partial(_run, gpu.new_scan, gpu.run_pairs, resident, CHUNK, resident_made),
        TRANSFER: partial(_run, gpu.new_scan, gpu.run_pairs, work, CHUNK, made),
    }
    for method in methods.values():
        method()
    for got in (made, resident_made):
        for found, expected in zip(got, wanted, strict=True):
            _require(host(found[: len(expected)]), expected)
    return rounds(methods, settings.count(ROUNDS))


def _run(scan_of: Any, step: Any, work: Work, budget: int, made: tuple[Any, Any]) -> float:
    started = time.perf_counter()
    scan = scan_of(work.plan, work.longest, 0, SPAN_US, 1)
    while not step(work.plan, work.events, work.pairs, scan, budget, *made):
        pass
    return time.perf_counter() - started


def _require(found: Any, expected: Any) -> None:
    """Columns of whole numbers, which counts are, to the bit; the others within 1e-6."""
    whole = np.all(np.isnan(expected) | (expected == np.rint(expected)), axis=0)
    if not np.array_equal(found[:, whole], expected[:, whole], equal_nan=True):
        raise SystemExit("counts differ from one core's: nothing is timed")
    if not np.allclose(found, expected, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise SystemExit("features differ from one core's: nothing is timed")


def _scores(size: Size, notes: list[str]) -> tuple[str, dict[str, Timing], int]:
    """Bit vectors where the rows lie on the card, traversal there, bit vectors with the transfer, others' engines."""
    xp, n = _gpu_card.arrays(), max(1, round(ROWS * size.events / EVENTS))
    x = np.random.default_rng(size.seed).normal(size=(n, SHAPE.features)).astype(np.float32)
    x[np.random.default_rng(size.seed + 1).random(x.shape, np.float32) < SHAPE.missing] = np.nan
    few, on_card = x[: max(1, round(BY_ONE_CORE * n))], xp.asarray(x)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.txt"
        model.write_text(forest.model_text(SHAPE))
        blob = open_blob(compile_forest(parse(model.read_bytes())))
        form, trees, outputs = bit_vectors(blob, 1e9), trees_of(blob), blob.n_outputs
        if form is None:
            raise SystemExit("the forest has no bit vectors")
        scorers: dict[str, Callable[[], Any]] = {
            CORE: lambda: forest_bits(few, form, outputs),
            RESIDENT: lambda: gpu.forest_bits(on_card, form, outputs),
            TRAVERSAL: lambda: gpu.forest_raw(on_card, trees, outputs),
            TRANSFER: lambda: gpu.forest_bits(x, form, outputs),
        }
        wanted = scorers[CORE]()
        for name, score in scorers.items():
            if host(score())[: len(few)].tobytes() != wanted.tobytes():
                raise SystemExit(f"{name}: scores differ from one core's, nothing is timed")
        scorers |= dict(_rivals(model, on_card, wanted / blob.divisor, notes))
        share = len(few) / n
        methods = {name: partial(_clock, score, share if name == CORE else 1.0) for name, score in scorers.items()}
        return SCORES, rounds(methods, settings.count(ROUNDS)), 0


def _clock(score: Callable[[], Any], share: float) -> float:
    started = time.perf_counter()
    score()
    if not gpu.simulated():
        _gpu_card.arrays().cuda.runtime.deviceSynchronize()
    return (time.perf_counter() - started) / share


def _rivals(model: Path, on_card: Any, wanted: F64, notes: list[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """RAPIDS nvForest and FIL where they can be imported."""
    loaders: dict[str, Callable[[], Any]] = {
        "nvForest": lambda: import_module("nvforest").load_model(model, model_type="lightgbm", device="gpu"),
        "RAPIDS FIL": lambda: import_module("cuml.fil").ForestInference.load(
            str(model), is_classifier=False, model_type="lightgbm"
        ),
    }
    for name, load in loaders.items():
        try:
            predict = load().predict
            found = np.asarray(host(predict(on_card))).reshape(len(on_card), -1)[: len(wanted)]
        except Exception as error:
            notes.append(f"{name} is not there: {str(error).strip().splitlines()[0] if str(error) else error!r}")
            continue
        if not np.allclose(found, wanted, rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{name}: scores differ from one core's, nothing is timed")
        yield name, partial(predict, on_card)
