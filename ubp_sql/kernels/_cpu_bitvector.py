"""A forest over many rows by bit vectors: no branch and no pointer, 64 rows at a time.

After QuickScorer (Lucchese et al., SIGIR 2015, https://doi.org/10.1145/2766462.2767733): a tree's leaves are numbered
from left to right, a bit each. A condition that a row fails clears the leaves of its left subtree; the lowest bit that
is left is the row's leaf, in whatever order the conditions are taken. They are taken tree by tree, so that the bits of
64 rows stay in registers, and without an end once all rows are past a threshold: sorted by feature and threshold with
such an end, as in the paper, it took 9 times as long (docs/adr/0012-batch-scoring.md).

The vectors are written as LLVM's: its vectorizer keeps the bits in memory.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels.dispatch import CATEGORIES, F32, F64, I32, LANES, U32, ZERO_MISSING, BitVectors
from ubp_sql.kernels.forest_codes import TINY

types: Any = numba.types

SHORT = 8  # rows that are transposed together: their parts of a column are half a line of the cache
ALL = np.uint32(0xFFFFFFFF)
ZERO = np.float32(TINY)
NO_CATEGORY = np.float32(1 << 24)

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_BITS, _ROWS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _clear(
    context: Any, block: Any, column: Any, threshold: Any, keep: Any, begin: Any, middle: Any, end: Any, bits: Any
) -> Any:
    whole = types.int64
    signature = types.none(block, column, threshold, keep, whole, whole, whole, bits)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        arrays = [target.make_array(kinds[i])(target, builder, arguments[i]).data for i in (0, 1, 2, 3, 7)]
        _loops(builder, *arrays, *arguments[4:7])
        return target.get_dummy_value()

    return signature, generate


def _loops(builder: Any, block: Any, column: Any, threshold: Any, keep: Any, bits: Any, *ends: Any) -> None:
    place = builder.bitcast(bits, _BITS.as_pointer())
    i, left = ends[0], builder.load(place, align=64)
    # An ordered comparison is false for NaN, an unordered one true: the two ways a missing value can go.
    for compare, end in ((builder.fcmp_ordered, ends[1]), (builder.fcmp_unordered, ends[2])):
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        at, now = builder.phi(_I64), builder.phi(_BITS)
        at.add_incoming(i, before)
        now.add_incoming(left, before)
        builder.cbranch(builder.icmp_signed("<", at, end), body, after)
        builder.position_at_end(body)
        offset = builder.sext(builder.load(builder.gep(column, [at])), _I64)
        x = builder.load(builder.bitcast(builder.gep(block, [offset]), _ROWS.as_pointer()), align=64)
        goes_right = compare(">", x, _all(builder, builder.load(builder.gep(threshold, [at])), _ROWS))
        kept = builder.and_(now, _all(builder, builder.load(builder.gep(keep, [at])), _BITS))
        at.add_incoming(builder.add(at, ir.Constant(_I64, 1)), body)
        now.add_incoming(builder.select(goes_right, kept, now), body)
        builder.branch(head)
        builder.position_at_end(after)
        i, left = at, now
    builder.store(left, place, align=64)


def _all(builder: Any, value: Any, kind: Any) -> Any:
    """The value in every lane."""
    none = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(none, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, none, ir.Constant(_BITS, [0] * LANES))


clear: Any = _clear
"""clear(block, column, threshold, keep, begin, middle, end, bits): bits[lane] &= keep[i] where x > threshold[i].

For begin <= i < end; x is block[column[i] + lane], NaN counts as larger from i = middle on. block and bits begin at
multiples of 64 bytes.
"""


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _lowest(context: Any, bits: Any) -> Any:
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), generate


lowest: Any = _lowest
"""The number of the lowest bit that is set, of a word that is not 0."""


@op
def transpose(x: F32, columns: I32, start: int, block: F32) -> None:
    """LANES rows from `start` on by columns; the last row again where there are no more."""
    last = x.shape[0] - 1
    for first in range(0, LANES, SHORT):
        for j in range(columns.size):
            feature, kind = np.uintp(columns[j] >> 2), columns[j] & 3
            for lane in range(first, first + SHORT):
                value = x[np.uintp(min(start + lane, last)), feature]
                if kind == ZERO_MISSING:
                    value = np.float32(np.nan) if abs(value) <= ZERO else value
                elif kind == CATEGORIES:
                    value = value if np.float32(-1.0) < value < NO_CATEGORY else NO_CATEGORY
                block[np.uintp(j * LANES + lane)] = value


@op
def clear_categories(block: F32, form: BitVectors, word: int, bits: U32) -> None:
    """The conditions of a word that ask for a category; no jump depends on a row."""
    for i in range(form.bounds[3 * word + 2], form.bounds[3 * word + 3]):
        number, keep = int(form.threshold[i]), form.keep[i]
        first = form.set_first[number]
        last = np.uint32(form.set_first[number + 1] - 1 - first)  # it is 0: no larger category is in the set
        for lane in range(LANES):
            category = np.uint32(np.int32(block[np.uintp(form.column[i] + lane)]))
            chosen = form.set_words[np.uintp(first + min(category >> np.uint32(5), last))]
            within = np.uint32(chosen >> (category & np.uint32(31))) & np.uint32(1)
            bits[np.uintp(lane)] &= np.uint32(keep | np.uint32(-within))


@op
def leaves_of(block: F32, form: BitVectors, tree: int, bits: U32, leaf: I32) -> None:
    """Which leaf of a tree each row of the block is in."""
    for word in range(form.word_first[tree + 1] - 1, form.word_first[tree] - 1, -1):
        bounds = form.bounds[3 * word : 3 * word + 4]
        for lane in range(LANES):
            bits[np.uintp(lane)] = ALL
        if bounds[2] < bounds[3]:
            clear_categories(block, form, word, bits)
        clear(block, form.column, form.threshold, form.keep, bounds[0], bounds[1], bounds[2], bits)
        first = np.int32(form.leaf_first[tree] + 32 * (word - form.word_first[tree]))
        for lane in range(LANES):
            now = bits[np.uintp(lane)]
            # A word of higher leaves was there before: it counts only where this one has none left.
            leaf[np.uintp(lane)] = first + np.int32(lowest(now)) if now != 0 else leaf[np.uintp(lane)]


@jit
def add_bits(x: F32, form: BitVectors, block: F32, bits: U32, leaf: I32, total: F64, out: F64) -> None:
    """The sums of leaves of each row, in tree order; see `Backend.forest_bits`.

    block (c * LANES,), bits (LANES,), leaf (LANES,), total (k * LANES,)   scratch; block, bits at multiples of 64 bytes
    out   (r, k) float64
    """
    rows, outputs = out.shape
    for start in range(0, rows, LANES):
        transpose(x, form.columns, start, block)
        for i in range(total.size):
            total[i] = 0.0
        for tree in range(form.word_first.size - 1):
            leaves_of(block, form, tree, bits, leaf)
            first = tree % outputs * LANES
            for lane in range(LANES):
                total[np.uintp(first + lane)] += form.leaf[np.uintp(leaf[np.uintp(lane)])]
        for lane in range(min(LANES, rows - start)):
            for k in range(outputs):
                out[np.uintp(start + lane), np.uintp(k)] = total[np.uintp(k * LANES + lane)]
