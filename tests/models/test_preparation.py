"""Preparations: each step against plain loops, the same bits by row and by batch, and nothing unsound is opened."""

import json
import math
import struct
from array import array
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models import reference_preparation
from tests.models.scorers import by_all, refused_or_scored
from ubp_sql.errors import BadInput, InvalidModel, UnsupportedModel
from ubp_sql.models import linear_text, preparation_batch
from ubp_sql.models.blob import outputs_of
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.preparation import DOT, FILL, Program, step
from ubp_sql.models.preparation_batch import prepare_rows
from ubp_sql.models.preparation_blob import compile_prepared
from ubp_sql.models.preparation_document import read_preparation, together

NAN, INF = math.nan, math.inf
FEATURES = ["a_7d", "a_30d", "a_90d", "code"]
FULL: dict[str, Any] = {
    "ubp_preparation": 1,
    "features": FEATURES,
    "steps": [
        {"step": "indicator", "columns": ["a_30d", "a_7d"]},
        {"step": "interpolate", "columns": ["a_7d", "a_30d", "a_90d"], "widths": [7, 30, 90]},
        {"step": "impute", "columns": ["a_7d", "a_90d"], "values": [1.5, -2]},
        {"step": "clip", "columns": ["a_7d"], "low": [-5.5], "high": [1e30]},
        {"step": "log1p", "columns": ["a_7d", "a_30d"]},
        {"step": "standardise", "columns": ["a_90d", "a_7d"], "mean": [0.1, -3], "scale": [0.3, 7]},
        {"step": "one_hot", "columns": ["code"], "values": [-1, 0, 2.5]},
        {"step": "pca", "columns": ["a_90d", "a_30d"], "mean": [0.5, 1], "components": [[0.6, 0.8], [0.8, -0.6]]},
    ],
}
NUMBERS = [0.0, -0.0, NAN, INF, -INF, 1e-45, 3.4e38, -3.4e38, 2.5, -1.0, 7.0]
number = st.floats(width=32) | st.sampled_from(NUMBERS)
finite = st.floats(-1e300, 1e300) | st.floats(-100, 100)


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def bits(values: Any, code: str = "f") -> list[bytes]:
    return [struct.pack("<" + code, v) if v == v else b"NaN" for v in values]


def check(document: dict[str, Any], rows: list[list[float]]) -> None:
    """Row by row and all at once: the bits of the plain loops."""
    program = read_preparation(dumped(document)).program
    x = np.array(rows, np.float32).reshape(len(rows), program.features)
    found = prepare_rows(program, x)
    for row, prepared in zip(x, found, strict=True):
        expected = bits(reference_preparation.prepare(document, [float(v) for v in row]))
        assert bits(program.prepare(array("f", row.tobytes()))) == expected
        assert bits(prepared.tolist()) == expected
        # And before it is rounded: float64 columns, step by step.
        alone, together_ = [float(v) for v in row], [np.array([v], np.float64) for v in row]
        with np.errstate(all="ignore"):
            for apply, made in zip(program._apply, program.steps, strict=True):
                apply(alone)
                preparation_batch.apply_step(made, together_)
                assert bits(alone, "d") == bits([float(column[0]) for column in together_], "d")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Up to eight steps over columns that are there at each."""
    left = [f"f{k}" for k in range(draw(st.integers(1, 5)))]
    document: dict[str, Any] = {"ubp_preparation": 1, "features": list(left), "steps": []}
    kinds = draw(st.lists(st.sampled_from(sorted(reference_preparation._STEPS)), unique=True, min_size=1))
    for kind in kinds:
        names = draw(st.lists(st.sampled_from(left), unique=True, min_size=1))
        n = len(names)
        scales = st.floats(1e-300, 1e300)
        made: dict[str, Any] = {"step": kind, "columns": names}
        if kind == "interpolate":
            if n < 2:
                continue
            made["widths"] = sorted(draw(st.lists(st.floats(0.01, 1e4), unique=True, min_size=n, max_size=n)))
        elif kind == "impute":
            made["values"] = draw(st.lists(finite, min_size=n, max_size=n))
        elif kind == "clip":
            pairs = [sorted(draw(st.tuples(finite, finite))) for _ in names]
            made |= {"low": [low for low, _ in pairs]} if draw(st.booleans()) else {}
            made |= {"high": [high for _, high in pairs]} if draw(st.booleans()) or len(made) == 2 else {}
        elif kind == "standardise":
            made["mean"], made["scale"] = (draw(st.lists(s, min_size=n, max_size=n)) for s in (finite, scales))
        elif kind == "one_hot":
            names[1:] = []
            made["values"] = sorted(draw(st.sets(st.sampled_from([-1.0, 0.0, 2.5, 7.0, 1e20]), min_size=1)))
            left += [f"{names[0]}={int(v) if v == int(v) else v}" for v in made["values"]]
            left += [f"{names[0]}=other", f"{names[0]}=missing"]
        elif kind == "pca":
            k = draw(st.integers(1, n))
            row = st.lists(finite, min_size=n, max_size=n)
            made |= {"mean": draw(row), "components": draw(st.lists(row, min_size=k, max_size=k))}
            left += [f"pca_{j + 1}" for j in range(k)]
        elif kind == "indicator":
            left += [f"{name}_missing" for name in names]
        if kind in ("one_hot", "pca"):
            left = [name for name in left if name not in names]
        document["steps"].append(made)
    if not document["steps"]:
        document["steps"] = [{"step": "log1p", "columns": left[:1]}]
    return document


@settings(max_examples=150, deadline=None)
@given(document=documents(), data=st.data())
def test_every_step_is_the_plain_one_by_row_and_by_batch(document: dict[str, Any], data: st.DataObject) -> None:
    n = len(document["features"])
    check(document, data.draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=1, max_size=5)))


def test_a_long_preparation_on_awkward_rows() -> None:
    rng = np.random.default_rng(1)
    check(FULL, rng.choice(NUMBERS, (400, 4)).tolist())
    check(FULL, (rng.normal(size=(400, 4)) * 10.0 ** rng.integers(-30, 30, (400, 4))).tolist())
    assert read_preparation(dumped(FULL)).outputs == (
        *("a_7d", "a_30d_missing", "a_7d_missing"),
        *("code=-1", "code=0", "code=2.5", "code=other", "code=missing", "pca_1", "pca_2"),
    )


def test_a_window_between_its_neighbours() -> None:
    one = {**FULL, "features": ["a", "b", "c"], "steps": [{**FULL["steps"][1], "columns": ["a", "b", "c"]}]}
    program = read_preparation(dumped(one)).program
    for row, expected in (
        ([7.0, NAN, 90.0], [7.0, 30.0, 90.0]),  # widths 7, 30, 90: on the line
        ([NAN, 5.0, 90.0], [5.0, 5.0, 90.0]),  # an edge: the nearest one that is known
        ([1.0, NAN, NAN], [1.0, 1.0, 1.0]),
        ([NAN, NAN, NAN], [NAN, NAN, NAN]),  # none is known: it stays missing
        ([1.0, INF, NAN], [1.0, INF, INF]),
    ):
        assert bits(program.prepare(row)) == bits(expected)
        check(one, [row])


def prepared(link: str = "sigmoid") -> bytes:
    outputs = read_preparation(dumped(FULL)).outputs
    weights = [np.linspace(-1, 1, len(outputs)).tolist()]
    return together(dumped(FULL), linear_text.write(outputs, weights, [0.25], link, "a test"))


def test_a_model_behind_its_preparation_has_the_same_bits_everywhere() -> None:
    imported = read_model(prepared(), tuple(FEATURES))
    x = np.random.default_rng(2).choice([v for v in NUMBERS if v == v], (300, 4)).astype(np.float32)
    scores = by_all(imported.compiled, x)
    inner = read_model(prepared(), tuple(FEATURES)).compiled
    program = read_preparation(dumped(FULL)).program
    outputs = read_preparation(dumped(FULL)).outputs
    plain = linear_text.write(outputs, [np.linspace(-1, 1, len(outputs)).tolist()], [0.25], "sigmoid", "a test")
    behind = open_model(read_model(plain, outputs).compiled).score_batch(prepare_rows(program, x))
    assert scores.tobytes() == behind.tobytes()
    assert imported.compiled == inner
    assert (imported.format, imported.objective, imported.outputs, imported.by_name) == ("linear", "a test", 1, True)
    assert json.loads(imported.preparation or "") == FULL


def test_features_are_found_by_their_names() -> None:
    x = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    moved = [2, 0, 3, 1]
    again = read_model(prepared(), tuple(FEATURES[i] for i in moved))
    expected = by_all(read_model(prepared(), tuple(FEATURES)).compiled, x)
    assert by_all(again.compiled, np.ascontiguousarray(x[:, moved])).tobytes() == expected.tobytes()


def test_trees_stand_behind_a_preparation_too() -> None:
    import lightgbm

    document = {**FULL, "steps": FULL["steps"][:6]}
    preparation = read_preparation(dumped(document))
    rng = np.random.default_rng(4)
    x = rng.normal(size=(500, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    z = prepare_rows(preparation.program, x)
    options = {"objective": "binary", "num_leaves": 8, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(z, np.nan_to_num(x[:, 0]) > 0, feature_name=list(preparation.outputs))
    booster = lightgbm.train(options, data, 10)
    file = together(dumped(document), booster.model_to_string().encode())
    imported = read_model(file, tuple(FEATURES))
    assert (imported.format, imported.trees) == ("lightgbm", 10)
    assert by_all(imported.compiled, x)[:, 0].tobytes() == np.asarray(booster.predict(z)).tobytes()


def test_missing_values_that_nothing_fills_give_no_score() -> None:
    imported = read_model(prepared("identity"), tuple(FEATURES))
    assert not imported.takes_missing  # a_30d may stay missing
    filled = json.loads(dumped(FULL))
    filled["steps"][2] = {"step": "impute", "columns": FEATURES[:3], "values": [1, 2, 3]}
    outputs = read_preparation(dumped(filled)).outputs
    model = linear_text.write(outputs, [[1.0] * len(outputs)], [0.0], "identity", "x")
    assert read_model(together(dumped(filled), model), tuple(FEATURES)).takes_missing
    loaded = open_model(imported.compiled)
    nothing = array("f", [NAN] * 4).tobytes()
    assert loaded.score_packed(nothing) is None
    assert np.isnan(loaded.score_batch(np.full((1, 4), np.nan, np.float32))).all()


@settings(max_examples=100, deadline=None)
@given(row=st.lists(number, min_size=4, max_size=4))
def test_no_score_is_nan(row: list[float]) -> None:
    for link in ("identity", "sigmoid", "exp"):
        loaded = open_model(read_model(prepared(link), tuple(FEATURES)).compiled)
        score = loaded.score_packed(array("f", row).tobytes())
        assert score is None or score == score


def test_too_little_history_is_seen_before_anything_is_prepared() -> None:
    loaded = open_model(read_model(prepared(), tuple(FEATURES)).compiled)
    row = array("f", [0.5, 1.0, 2.0, 3.0]).tobytes()
    assert loaded.score_packed(row, 0) is None
    assert loaded.score_packed(row, 1) == loaded.score_packed(row) is not None


SOUND = read_model(prepared(), tuple(FEATURES)).compiled
PROGRAM = read_preparation(dumped(FULL)).program.to_bytes()


def edit(at: int, layout: str, *values: float) -> bytes:
    data = bytearray(SOUND[:-4])
    struct.pack_into("<" + layout, data, at, *values)
    return bytes(data) + struct.pack("<I", crc32(bytes(data)))


def test_layout_is_the_documented_one() -> None:
    header = struct.unpack_from("<8sHHIIIIIHHIQQQ", SOUND)
    assert header == (b"UBPPREPA", 1, 64, 0, 4, 10, 8, len(PROGRAM), 1, 0, 0, 0, len(SOUND), 0)
    assert SOUND[64 : 64 + len(PROGRAM)] == PROGRAM
    assert outputs_of(SOUND) == 1
    # The first step, the indicator of columns 1 and 0: code 2, no numbers.
    assert struct.unpack_from("<HHIII2I", PROGRAM) == (2, 0, 2, 0, 0, 1, 0)
    assert PROGRAM[-40:] == struct.pack("<10I", *read_preparation(dumped(FULL)).program.outputs)


UNSOUND: dict[str, tuple[bytes, str]] = {
    "magic only": (SOUND[:8], "cut short"),
    "cut": (SOUND[:-1], "its header tells of another number"),
    "longer": (SOUND + b"\0", "its header tells of another number"),
    "checksum": (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "checksum"),
    "a network": (edit(0, "8s", b"UBPPREPN"), "first bytes are not those"),  # type: ignore[arg-type]
    "header length": (edit(10, "H", 72), "unknown meaning"),
    "flags": (edit(12, "I", 1), "unknown meaning"),
    "reserved": (edit(40, "Q", 1), "unknown meaning"),
    "no features": (edit(16, "I", 0), "over 0 features"),
    "no outputs": (edit(20, "I", 0), "counts 0 outputs"),
    "other outputs": (edit(20, "I", 9), "do not end"),
    "more steps": (edit(24, "I", 9), "cut short|unknown meaning"),
    "many steps": (edit(24, "I", 2**32 - 1), "cut short|unknown meaning"),
    "program longer": (edit(28, "I", 2**32 - 1), "header tells of another number"),
    "program shorter": (edit(28, "I", len(PROGRAM) - 4), "do not end|first bytes|cut short"),
    "other outputs of the model": (edit(32, "H", 2), "do not fit together"),
    "code": (edit(64, "H", 10), "code of an unknown meaning"),
    "step reserved": (edit(66, "H", 1), "unknown meaning"),
    "columns": (edit(68, "I", 2**32 - 1), "cut short"),
    "numbers": (edit(72, "I", 2**32 - 1), "cut short"),
    "a column that is not there": (edit(80, "I", 4), "does not exist"),
    "a column twice": (edit(80, "I", 0), "comes twice"),
    "an output that is not there": (edit(64 + len(PROGRAM) - 4, "I", 99), "outputs"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_nothing_unsound_is_opened(case: str) -> None:
    data, message = UNSOUND[case]
    with pytest.raises(InvalidModel, match=message):
        open_model(data)


def test_another_layout_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="layout 2, known is 1"):
        open_model(edit(8, "H", 2))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (step(FILL, [0], []), "0 numbers for 1 columns do not make a step impute"),
        (step(FILL, [], []), "0 numbers for 0 columns"),
        (step(FILL, [0], [INF]), "not finite"),
        (step(4, [0], [2.0], [1.0]), "lower bound"),
        (step(4, [0], [NAN], [1.0]), "not finite"),
        (step(6, [0], [2.0], [0.0]), "scale is not above 0"),
        (step(3, [0, 1], [7.0, 7.0]), "do not ascend"),
        (step(3, [0, 1], [-7.0, 7.0]), "width is not above 0"),
        (step(8, [0, 1], [7.0]), "do not make a step one_hot"),
        (step(8, [0], [2.0, 1.0]), "do not ascend"),
        (step(DOT, [0, 1], [0.0, 0.0]), "do not make a step pca"),
        (step(DOT, [0, 1], [0.0] * 5), "do not make a step pca"),
    ],
)
def test_steps_that_cannot_be_done(made: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        Program(2, [made], [0])


def test_preparations_stand_behind_each_other_no_more_than_twice() -> None:
    same = Program(4, [step(FILL, [0], [0.0])], range(4))
    twice = compile_prepared(same, SOUND, 1)
    row = array("f", [1.0, 2.0, 3.0, 0.0]).tobytes()
    assert open_model(twice).score_packed(row) == open_model(SOUND).score_packed(row)
    with pytest.raises(InvalidModel, match="more than 2 times"):
        open_model(compile_prepared(same, twice, 1))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SOUND) - 5), value=st.integers(0, 255), end=st.integers(0, len(SOUND)))
def test_changed_bytes_are_refused_or_score(at: int, value: int, end: int) -> None:
    refused_or_scored(SOUND, at, value, end)


def test_a_batch_can_be_ended_between_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(SOUND)
    x = np.arange(80, dtype=np.float32).reshape(20, 4)
    whole = model.score_batch(x)
    monkeypatch.setattr(preparation_batch, "CHUNK_ROWS", 5)
    calls: list[int] = []
    assert model.score_batch(x, lambda: calls.append(1)).tobytes() == whole.tobytes()
    assert len(calls) == 3
    monkeypatch.setattr(preparation_batch, "CHUNK_COLUMNS", 6)  # of the 15 that the steps name, twice
    calls.clear()
    assert model.score_batch(x, lambda: calls.append(1)).tobytes() == whole.tobytes()
    assert len(calls) == 3 + 4 * 2
    assert model.score_batch(x[:0]).shape == (0, 1)
    assert model.score_batch(np.asfortranarray(x)).tobytes() == whole.tobytes()
    others: list[NDArray[Any]] = [x[:, :2], x.astype(np.float64), x[0]]
    for bad in others:
        with pytest.raises(BadInput, match="rows of 4 float32"):
            model.score_batch(bad)
