"""Linear models: the compiled form, that nothing unsound is opened, and the same bits for one row and for many."""

import math
import struct
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models.scorers import by_all, refused_or_scored
from ubp_sql.errors import BadInput, InvalidModel, UnsupportedModel
from ubp_sql.kernels.forest_codes import EXP, IDENTITY, LINKS, SIGMOID, SOFTMAX
from ubp_sql.models import linear as linear_module
from ubp_sql.models.blob import outputs_of
from ubp_sql.models.linear import Linear, LinearModel, compile_linear, open_linear
from ubp_sql.models.loaded import open_model

NAN, INF = math.nan, math.inf
TWO = Linear([1.0, -2.0, 0.0, 0.5, 3.0, 0.0], [0.0, NAN, 0.0, 7.0, 8.0, 0.0], [0.25, -1.0], IDENTITY)
SOUND = compile_linear(TWO)
WEIGHT = 64
MISSING, BIAS = WEIGHT + 48, WEIGHT + 96


def plain(linear: Linear, row: list[float]) -> list[float]:
    """The sums as the module says, in plain loops."""
    f = linear.n_features
    sums = list(linear.bias)
    read = [i for i in range(f) if any(linear.weight[i::f]) or any(linear.missing[i::f])]
    for j in range(len(sums)):
        for i in read:
            x, w, m = row[i], linear.weight[j * f + i], linear.missing[j * f + i]
            sums[j] = sums[j] + (m if math.isnan(x) else w * x)
    return sums


def same(found: float, expected: float) -> bool:
    return struct.pack("<d", found) == struct.pack("<d", expected) or (math.isnan(found) and math.isnan(expected))


def edit(at: int, layout: str, *values: float) -> bytes:
    data = bytearray(SOUND[:-4])
    struct.pack_into("<" + layout, data, at, *values)
    return bytes(data) + struct.pack("<I", crc32(bytes(data)))


def test_layout_is_the_documented_one() -> None:
    header = struct.unpack_from("<8sHHII12sHHIdQQ", SOUND)
    assert header == (b"UBPLINEA", 1, 64, 0, 3, bytes(12), 2, IDENTITY, 0, 1.0, len(SOUND), 0)
    assert struct.unpack_from("<6d", SOUND, WEIGHT) == tuple(TWO.weight)
    assert struct.unpack_from("<2d", SOUND, BIAS) == (0.25, -1.0)
    assert len(SOUND) == BIAS + 2 * 8 + 4
    assert outputs_of(SOUND) == 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_row_and_many_are_the_plain_sums(data: st.DataObject) -> None:
    f, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    number = st.floats(width=32) | st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1e-45, 3e38])
    weight = st.floats(-1e6, 1e6) | st.just(0.0)
    linear = Linear(
        data.draw(st.lists(weight, min_size=f * k, max_size=f * k)),
        data.draw(st.lists(weight | st.just(NAN), min_size=f * k, max_size=f * k)),
        data.draw(st.lists(weight, min_size=k, max_size=k)),
        IDENTITY,
    )
    rows = data.draw(st.lists(st.lists(number, min_size=f, max_size=f), min_size=1, max_size=6))
    x = np.array(rows, np.float32)
    scores = by_all(compile_linear(linear), x)
    for row, found in zip(x.tolist(), scores.tolist(), strict=True):
        assert all(map(same, found, plain(linear, row)))


@pytest.mark.parametrize("link", [SIGMOID, SOFTMAX, EXP])
def test_links_of_rows_and_batches_are_the_same_bits(link: int) -> None:
    rng = np.random.default_rng(1)
    linear = Linear(rng.normal(size=12).tolist(), [NAN] * 12, rng.normal(size=3).tolist(), link)
    x = rng.normal(0, 3, size=(300, 4)).astype(np.float32)
    x[0, 0], x[1], x[2] = np.nan, 3e38, [np.inf, 0, 0, 0]
    scores = by_all(compile_linear(linear), x)
    assert np.isnan(scores[0]).all()
    if link == SOFTMAX:
        assert np.allclose(scores[3:].sum(axis=1), 1)


def test_a_missing_feature_without_a_value_gives_no_score() -> None:
    model = LinearModel(compile_linear(Linear([1.0, 2.0], [NAN, 5.0], [0.5], IDENTITY)))
    assert model.score_packed(struct.pack("<2f", 1, NAN)) == 6.5
    assert model.score_packed(struct.pack("<2f", NAN, 1)) is None
    assert math.isnan(model.all_packed(struct.pack("<2f", NAN, 1))[0])
    assert model.score_packed(struct.pack("<2f", 0.5, 1), 0) is None  # too little history
    assert model.score_packed(struct.pack("<2f", 1.0, 1), 0) == 3.5


def test_a_feature_without_a_weight_is_not_read() -> None:
    model = LinearModel(compile_linear(Linear([0.0, 2.0], [0.0, NAN], [0.5], IDENTITY)))
    for unread in (NAN, INF, -3.0):
        assert model.score_packed(struct.pack("<2f", unread, 1)) == 2.5


UNSOUND: dict[str, tuple[bytes, str]] = {
    "magic only": (SOUND[:8], "cut short"),
    "cut": (SOUND[:-1], "its header tells of another number"),
    "longer": (SOUND + b"\0", "its header tells of another number"),
    "checksum": (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "checksum"),
    "header length": (edit(10, "H", 72), "unknown meaning"),
    "flags": (edit(12, "I", 1), "unknown meaning"),
    "trees": (edit(20, "I", 1), "unknown meaning"),
    "sets": (edit(36, "I", 1), "unknown meaning"),
    "last": (edit(56, "Q", 1), "unknown meaning"),
    "no features": (edit(16, "I", 0), "counts 0 features"),
    "too many features": (edit(16, "I", 2**32 - 1), "counts 4294967295 features"),
    "no outputs": (edit(32, "H", 0), "of 0 outputs"),
    "too many weights": (edit(16, "I", 10_000)[:32] + struct.pack("<H", 999) + SOUND[34:], "999 outputs"),
    "other counts": (edit(16, "I", 4), "its header tells of another number"),
    "link": (edit(34, "H", LINKS), "does not exist"),
    "parameter": (edit(40, "d", 0.0), "does not exist"),
    "parameter nan": (edit(40, "d", NAN), "does not exist"),
    "length": (edit(48, "Q", len(SOUND) - 1), "its header tells of another number"),
    "weight nan": (edit(WEIGHT, "d", NAN), "weight that is not finite"),
    "weight infinite": (edit(WEIGHT, "d", INF), "weight that is not finite"),
    "missing infinite": (edit(MISSING, "d", -INF), "infinite value"),
    "bias nan": (edit(BIAS, "d", NAN), "weight that is not finite"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_nothing_unsound_is_opened(case: str) -> None:
    data, message = UNSOUND[case]
    with pytest.raises(InvalidModel, match=message):
        open_linear(data)
    with pytest.raises(InvalidModel):
        open_model(data)


def test_one_output_has_no_softmax() -> None:
    with pytest.raises(InvalidModel, match="of several outputs"):
        compile_linear(Linear([1.0], [0.0], [0.0], SOFTMAX))


def test_another_layout_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="layout 2, known is 1"):
        open_model(edit(8, "H", 2))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SOUND) - 5), value=st.integers(0, 255), end=st.integers(0, len(SOUND)))
def test_changed_bytes_are_refused_or_score(at: int, value: int, end: int) -> None:
    refused_or_scored(SOUND, at, value, end)


def test_a_batch_can_be_ended_between_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "CHUNK_PRODUCTS", 30)
    model = open_model(SOUND)
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    calls: list[int] = []
    whole = model.score_batch(x, lambda: calls.append(1))
    assert len(calls) == 3
    monkeypatch.undo()
    assert whole.tobytes() == model.score_batch(x).tobytes()
    assert model.score_batch(x[:0]).shape == (0, 2)
    assert model.score_batch(np.asfortranarray(x)).tobytes() == whole.tobytes()
    others: list[NDArray[Any]] = [x[:, :2], x.astype(np.float64), x[0]]
    for bad in others:
        with pytest.raises(BadInput, match="rows of 3 float32"):
            model.score_batch(bad)
