"""Bytes that are no explainer of the model at hand: refused, or as sound as one."""

import struct
from random import Random
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.explain.makers import forest_of, random_text, tree_and_reference
from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.blob import compile_forest
from ubp_sql.models.explain import HEADER, open_explainer
from ubp_sql.models.explain_compile import compile_explainer
from ubp_sql.models.forest import Forest
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.loaded import TreeModel

FEATURES = 3


def made(seed: int, leaves: int = 6) -> tuple[TreeModel, bytes]:
    return both(forest_of([tree_and_reference(Random(seed + k), FEATURES, leaves)[0] for k in range(3)], FEATURES))


def both(forest: Forest) -> tuple[TreeModel, bytes]:
    compiled = compile_forest(forest)
    explainer = compile_explainer(forest, compiled)
    assert explainer is not None
    return TreeModel(compiled), explainer


MODEL, SOUND = made(1)
PASSES = struct.unpack_from("<I", SOUND, 24)[0]
SHARES = HEADER.size + 32 * PASSES
ABOVE = SHARES + 16 * len(MODEL.blob.left)
SPANS = ABOVE + 4 * len(MODEL.blob.left)


def summed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", crc32(data[:-4]))


def changed(at: int, form: str, *values: float) -> bytes:
    """The sound one with numbers in another's place, under a right sum."""
    data = bytearray(SOUND)
    struct.pack_into(form, data, at, *values)
    return summed(bytes(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "something else"),
        (b"UBPTREES" + SOUND[8:], "something else"),
        (SOUND[:40], "cut short"),
        (changed(8, "<H", 2), "layout 2"),
        (changed(10, "<H", 64), "header"),
        (changed(12, "<I", 7), "another model"),
        (changed(16, "<I", 4), "another model"),
        (changed(20, "<I", 0), "another model"),
        (changed(24, "<I", PASSES + 1), "bytes"),
        (changed(28, "<I", 1), "header"),
        (changed(32, "<d", float("nan")), "header"),
        (changed(40, "<Q", 1), "bytes"),
        (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "damaged"),
        (SOUND + b"\0", "bytes"),
        (changed(HEADER.size, "<d", 1.0), "point at"),
        (changed(HEADER.size, "<d", float("nan")), "not within"),
        (changed(HEADER.size + 16, "<d", -0.5), "not within"),
        (changed(SHARES, "<d", float("inf")), "not within"),
        (changed(SHARES, "<dd", 0.5, 0.6), "of a whole"),
        (changed(ABOVE, "<i", 1), "tree 0"),
        (changed(ABOVE + 4, "<i", -1), "tree 0"),
        (changed(SPANS, "<i", PASSES), "tree 0"),
        (changed(SPANS, "<i", -1), "tree 0"),
        (changed(SPANS + 4, "<i", 0), "tree 0"),
        (changed(SPANS + 4, "<i", 2**31 - 1), "tree 0"),
    ],
)
def test_what_is_not_sound_is_refused(data: bytes, said: str) -> None:
    with pytest.raises((InvalidModel, UnsupportedModel), match=said):
        open_explainer(data, MODEL)


def test_one_of_another_model_is_refused() -> None:
    other, _ = made(50)
    with pytest.raises(InvalidModel, match="another model"):
        open_explainer(SOUND, other)


@given(st.integers(0, len(SOUND) - 5), st.integers(0, 255), st.integers(0, len(SOUND) - 1))
def test_any_byte_and_any_end(at: int, value: int, end: int) -> None:
    """Under a right sum: refused, or it explains to numbers without reading beyond itself."""
    for data in (summed(SOUND[:at] + bytes([value]) + SOUND[at + 1 :]), SOUND[:end]):
        try:
            opened = open_explainer(data, MODEL)
        except (InvalidModel, UnsupportedModel):
            continue
        raw, values = opened.contributions(np.full(FEATURES, 0.5, np.float32).tobytes())
        assert np.isfinite([raw, *values]).all()


def test_small_and_large() -> None:
    """A model of trees of one leaf has a base and no reasons; a large one takes its scratch anew each time."""
    constant = forest_of([tree_and_reference(Random(k), FEATURES, 1)[0] for k in range(2)], FEATURES)
    model, data = both(constant)
    opened = open_explainer(data, model)
    assert opened.contributions(bytes(4 * FEATURES)) == (opened.base, [0.0] * FEATURES)
    model, data = both(parse(random_text(Random(3), FEATURES, 1, 12_000)))
    opened = open_explainer(data, model)
    packed = np.zeros(FEATURES, np.float32).tobytes()
    assert opened.contributions(packed) == opened.contributions(packed)


def test_the_work_in_plain_python_can_be_interrupted() -> None:
    model, data = both(parse(random_text(Random(4), FEATURES, 1, 20_000)))
    opened = open_explainer(data, model)
    opened.native = None
    packed = np.zeros(FEATURES, np.float32).tobytes()
    calls = []
    opened.contributions(packed, lambda: calls.append(1))
    assert len(calls) > 2

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.contributions(packed, stop)
