"""A stored plan is believed only where every index that native code follows stays within its array."""

import struct
from random import Random
from zlib import crc32

import pytest

from tests.features.spec_cases import cases
from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Declared
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.kernels.codes import FormulaColumn, LinkColumn, OpColumn, Size, SpanColumn, StreamColumn
from ubp_sql.kernels.live_plan import ARRAYS, TABLE, open_plan
from ubp_sql.kernels.plan_blob import pack_plan, unpack_plan

DECLARED = (
    Declared("discount", "discount", "number"),
    Declared("channel", "the channel", "text"),
    Declared("query", "q", "words"),
)
DEFINITION = FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, cases())), DECLARED)
PLAN = DEFINITION.plan_blob
# Columns of integers that are followed as an index, or say how far to go from one.
INDICES = {
    "streams": (StreamColumn.COND_NUMBER, StreamColumn.COND_KEY),
    "spans": (SpanColumn.STREAM, SpanColumn.EDGE, SpanColumn.RINGS, SpanColumn.BOUND),
    "links": (LinkColumn.STREAM, LinkColumn.KEY),
    "ops": (
        *(OpColumn.CODE, OpColumn.SPAN, OpColumn.STREAM, OpColumn.RINGS, OpColumn.BOUND, OpColumn.NUMBER, OpColumn.KEY),
        *(OpColumn.LINK, OpColumn.SIZE, OpColumn.CELL, OpColumn.STRIDE, OpColumn.ACC, OpColumn.N_ACC, OpColumn.TIM),
        *(OpColumn.N_TIM, OpColumn.MARK),
    ),
    "formulas": (FormulaColumn.CODE, FormulaColumn.A, FormulaColumn.B, FormulaColumn.C, FormulaColumn.SIZE),
    "anchors": (0,),
    "sizes": (Size.ACC, Size.TIM, Size.CELLS, Size.BOUNDS, Size.NUMBERS, Size.KEYS),
}


def test_a_plan_comes_back() -> None:
    found = open_plan(PLAN)
    assert (found.kinds, found.numbers, found.keys) == (DEFINITION.kinds, *DEFINITION.columns[:2])
    assert (found.features, found.anchors) == (DEFINITION.n_features, len(DEFINITION.plan.anchors))
    assert found.local
    assert found.holidays
    plain = pack_plan(DEFINITION.plan)
    assert PLAN.startswith(plain)
    assert pack_plan(unpack_plan(plain)) == plain


def test_no_bit_may_differ() -> None:
    random = Random(3)
    for at in (*range(0, 400, 8), *random.sample(range(len(PLAN)), 300), *range(len(PLAN) - 64, len(PLAN))):
        damaged = bytearray(PLAN)
        damaged[at] ^= 1 << random.randrange(8)
        with pytest.raises(BadInput, match="damaged"):
            open_plan(bytes(damaged))


def test_nothing_may_be_missing() -> None:
    for size in (0, 7, 8, 300, 400, len(PLAN) - 64, len(PLAN) - 8, len(PLAN) - 1):
        with pytest.raises(BadInput, match="damaged"):
            open_plan(PLAN[:size])
    with pytest.raises(BadInput, match="damaged"):
        open_plan(PLAN + bytes(8))


def signed(plan: bytes) -> bytes:
    """With the checksum that goes with it."""
    return plan[:-8] + struct.pack("<q", crc32(plan[:-8]))


@pytest.mark.parametrize(("name", "column"), [(name, int(c)) for name, columns in INDICES.items() for c in columns])
def test_no_index_may_leave_its_array(name: str, column: int) -> None:
    offset, rows, columns = struct.unpack_from("<3q", PLAN, 8 * (TABLE + 3 * ARRAYS.index(name)))
    assert rows
    width = max(columns, 1)
    for row in {0, rows - 1} if columns else {column if name == "sizes" else 0}:
        at = offset + 8 * (row * width + (column if columns else 0))
        was = struct.unpack_from("<q", PLAN, at)[0]
        for value in (1 << 40, -(1 << 40), -100):
            damaged = bytearray(PLAN)
            struct.pack_into("<q", damaged, at, was + value if value > 0 else value)
            with pytest.raises(BadInput, match="damaged"):
                open_plan(signed(bytes(damaged)))


@pytest.mark.parametrize("word", range(TABLE, TABLE + 3 * len(ARRAYS)))
def test_no_array_may_lie_elsewhere(word: int) -> None:
    for change in (8, -8, 1, 1 << 40):
        damaged = bytearray(PLAN)
        struct.pack_into("<q", damaged, 8 * word, struct.unpack_from("<q", PLAN, 8 * word)[0] + change)
        with pytest.raises(BadInput, match="damaged"):
            open_plan(signed(bytes(damaged)))


@pytest.mark.parametrize("word", range(6))
def test_names_are_counted(word: int) -> None:
    at = len(PLAN) - 64 + 8 * word
    for change in (1, -1, 1 << 40, -(1 << 40)):
        damaged = bytearray(PLAN)
        struct.pack_into("<q", damaged, at, struct.unpack_from("<q", PLAN, at)[0] + change)
        if word in (3, 4) and change == -1:
            continue  # whether clock and calendar are read: no index
        with pytest.raises(BadInput, match="damaged"):
            open_plan(signed(bytes(damaged)))
