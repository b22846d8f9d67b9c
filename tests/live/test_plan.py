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
from ubp_sql.kernels.codes import FormulaColumn, Key, LinkColumn, Op, OpColumn, Param, Size, SpanColumn, StreamColumn
from ubp_sql.kernels.live_plan import ARRAYS, TABLE, open_plan
from ubp_sql.kernels.op_state import NEEDS_KEY, NEEDS_NUMBER, STATE
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


OPS = DEFINITION.plan.ops
CODES = sorted({Op(code) for code in OPS[:, OpColumn.CODE].tolist()})


def with_op(row: int, column: int, value: int, name: str = "ops") -> bytes:
    """The plan with one number of one operation changed."""
    offset, _, columns = struct.unpack_from("<3q", PLAN, 8 * (TABLE + 3 * ARRAYS.index(name)))
    damaged = bytearray(PLAN)
    struct.pack_into("<q", damaged, offset + 8 * (row * columns + column), value)
    return signed(bytes(damaged))


def test_every_operation_is_tried() -> None:
    assert sorted(set(Op)) == CODES


@pytest.mark.parametrize("code", CODES)
def test_an_operation_has_what_it_touches(code: Op) -> None:
    """Indices within their arrays are not enough: a slot less than its code writes to would be another's."""
    row = OPS[:, OpColumn.CODE].tolist().index(code)
    op = OPS[row].tolist()
    state = STATE[code](op[OpColumn.RINGS], op[OpColumn.SIZE])
    less = [(OpColumn.N_ACC, state.acc), (OpColumn.N_TIM, state.tim), (OpColumn.STRIDE, state.stride)]
    changes = [(column, size - 1) for column, size in less if size > 0]
    changes += [(OpColumn.NUMBER, -1)] if code in NEEDS_NUMBER else []
    changes += [(OpColumn.KEY, Key.NONE)] if code in NEEDS_KEY else []
    changes += [(OpColumn.KEY, Key.HOUR)] if code == Op.WORDS else []
    changes += [(OpColumn.LINK, -1)] if state.link else []
    changes += [(OpColumn.MARK, -1), (OpColumn.MARK, DEFINITION.plan.sizes[Size.MARKS] - state.marks + 1)] * bool(
        state.marks
    )
    changes += [(OpColumn.STREAM, (op[OpColumn.STREAM] + 1) % len(DEFINITION.plan.streams)), (OpColumn.SIZE, 0)]
    if code in (Op.HIST, Op.TOPK, Op.WORDS, Op.FUNNEL, Op.LAST):
        changes.append((OpColumn.SIZE, op[OpColumn.SIZE] + 1))
    for column, value in changes:
        with pytest.raises(BadInput, match="damaged"):
            open_plan(with_op(row, column, int(value)))


def test_links_reach_as_far_as_their_operations() -> None:
    row = OPS[:, OpColumn.CODE].tolist().index(Op.KEYS)
    link = int(OPS[row, OpColumn.LINK])
    with pytest.raises(BadInput, match="another stream's link"):
        open_plan(with_op(link, LinkColumn.REACH_US, 0, "links"))
    with pytest.raises(BadInput, match="damaged"):
        open_plan(with_op(link, LinkColumn.STREAM, int(OPS[row, OpColumn.STREAM]) ^ 1, "links"))


def test_spans_have_bounds_of_their_own() -> None:
    spans = DEFINITION.plan.spans
    pair = next(k for k in range(1, len(spans)) if spans[k, SpanColumn.RINGS] == spans[k - 1, SpanColumn.RINGS])
    damaged = with_op(pair, SpanColumn.BOUND, int(spans[pair - 1, SpanColumn.BOUND]), "spans")
    with pytest.raises(BadInput, match="the same bounds"):
        open_plan(damaged)


def test_a_half_life_is_above_zero() -> None:
    row = OPS[:, OpColumn.CODE].tolist().index(Op.DECAY)
    for p0 in (0.0, -1.0, -1e12):
        with pytest.raises(BadInput, match="half-life"):
            open_plan(with_op(row, Param.P0, struct.unpack("<q", struct.pack("<d", p0))[0], "params"))


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
