"""The kernels of many rows as Numba source, entries of the native library (native.py): the engine's own source.

What is handed in is a table of (address, rows, columns), a row an array, in the order of the arguments of the kernel in
cpu.py; each tuple of arrays by its fields. An array of one dimension has 1 column. aot.py makes the tables and checks
the arrays.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numba.np import arrayobj

from ubp_sql.kernels._cpu_bitvector import add_bits
from ubp_sql.kernels._cpu_engine import run_pairs
from ubp_sql.kernels._cpu_forest import add_leaves, link_rows
from ubp_sql.kernels._cpu_formulas import age_rows
from ubp_sql.kernels._cpu_matrix import view
from ubp_sql.kernels._cpu_valid import valid_until
from ubp_sql.kernels.dispatch import I64, BitVectors, EventColumns, Pairs, Plan, Scan, Trees

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)

MOST = 64  # arrays of a table
PLAN, EVENTS, PAIRS = 0, len(Plan._fields), len(Plan._fields) + len(EventColumns._fields)
SCAN = REST = PAIRS + len(Pairs._fields)
OUT = SCAN + len(Scan._fields)
ROWS = 1 + len(BitVectors._fields)
TOTAL = 1 + len(Trees._fields)


def _placed(result: Any) -> Any:
    """How to make an array of the memory at an address, (address, rows, columns); nobody owns it."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, rows, columns = arguments
        made = target.make_array(result)(target, builder)
        itemsize = ir.Constant(made.itemsize.type, target.get_abi_sizeof(target.get_data_type(result.dtype)))
        flat = result.ndim == 1
        fill: Any = arrayobj.populate_array
        fill(
            made,
            data=builder.inttoptr(address, made.data.type),
            shape=(rows,) if flat else (rows, columns),
            strides=(itemsize,) if flat else (builder.mul(columns, itemsize), itemsize),
            itemsize=itemsize,
            meminfo=ir.Constant(made.meminfo.type, None),
        )
        return made._getvalue()

    return generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _flat(context: Any, address: Any, rows: Any, columns: Any, dtype: Any) -> Any:
    result = types.Array(dtype.dtype, 1, "C")
    return result(types.int64, types.int64, types.int64, dtype), _four(_placed(result))


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _grid(context: Any, address: Any, rows: Any, columns: Any, dtype: Any) -> Any:
    result = types.Array(dtype.dtype, 2, "C")
    return result(types.int64, types.int64, types.int64, dtype), _four(_placed(result))


def _four(generate: Any) -> Any:
    """As the intrinsics are called, with the type of the elements."""
    return lambda target, builder, signature, arguments: generate(target, builder, signature, arguments[:3])


flat_at: Any = _flat
grid_at: Any = _grid


@view
def flat(table: I64, place: int, dtype: Any) -> Any:
    """Array `place` of the table, of one dimension."""
    return flat_at(table[3 * place], table[3 * place + 1], table[3 * place + 2], dtype)


@view
def grid(table: I64, place: int, dtype: Any) -> Any:
    """Array `place` of the table, of two dimensions."""
    return grid_at(table[3 * place], table[3 * place + 1], table[3 * place + 2], dtype)


@view
def plan_of(table: I64) -> Plan:
    """The plan, the first of every table that has one."""
    return Plan(
        flat(table, PLAN, np.int64),
        grid(table, PLAN + 1, np.int64),
        grid(table, PLAN + 2, np.float64),
        grid(table, PLAN + 3, np.int64),
        grid(table, PLAN + 4, np.int64),
        grid(table, PLAN + 5, np.int64),
        grid(table, PLAN + 6, np.float64),
        grid(table, PLAN + 7, np.int64),
        grid(table, PLAN + 8, np.float64),
        flat(table, PLAN + 9, np.int64),
        flat(table, PLAN + 10, np.float64),
        flat(table, PLAN + 11, np.int64),
    )


@view
def events_of(table: I64) -> EventColumns:
    """The events, after a plan."""
    return EventColumns(
        flat(table, EVENTS, np.int64),
        flat(table, EVENTS + 1, np.int64),
        flat(table, EVENTS + 2, np.int64),
        flat(table, EVENTS + 3, np.int32),
        flat(table, EVENTS + 4, np.int32),
        grid(table, EVENTS + 5, np.float64),
        grid(table, EVENTS + 6, np.int64),
        flat(table, EVENTS + 7, np.int64),
    )


@view
def pairs_of(table: I64) -> Pairs:
    """The pairs, after a plan and events."""
    return Pairs(
        flat(table, PAIRS, np.int64),
        flat(table, PAIRS + 1, np.int64),
        flat(table, PAIRS + 2, np.int64),
        flat(table, PAIRS + 3, np.int64),
    )


@view
def scan_of(table: I64) -> Scan:
    """The scratch, after a plan, events and pairs."""
    return Scan(
        flat(table, SCAN, np.int64),
        grid(table, SCAN + 1, np.int32),
        grid(table, SCAN + 2, np.int64),
        grid(table, SCAN + 3, np.int64),
        grid(table, SCAN + 4, np.int32),
        grid(table, SCAN + 5, np.int32),
        flat(table, SCAN + 6, np.int32),
        flat(table, SCAN + 7, np.int64),
        flat(table, SCAN + 8, np.int64),
        flat(table, SCAN + 9, np.float64),
        flat(table, SCAN + 10, np.int64),
        grid(table, SCAN + 11, np.int32),
        flat(table, SCAN + 12, np.float64),
    )


def batch_pairs(table_at: Any, budget: int) -> int:
    """`run_pairs` of plan, events, pairs, scan, out, anchors."""
    table = carray(table_at, (3 * MOST,), types.int64)
    out, anchors = grid(table, OUT, np.float32), grid(table, OUT + 1, np.float64)
    return run_pairs(plan_of(table), events_of(table), pairs_of(table), scan_of(table), budget, out, anchors)


def batch_until(table_at: Any, budget: int) -> int:
    """`valid_until` of plan, events, pairs, widths, first width of each stream, cursor, until."""
    table = carray(table_at, (3 * MOST,), types.int64)
    return valid_until(
        plan_of(table),
        flat(table, REST, np.int64),
        flat(table, REST + 1, np.int64),
        events_of(table),
        pairs_of(table),
        flat(table, REST + 2, np.int64),
        budget,
        flat(table, REST + 3, np.int64),
    )


def batch_aged(table_at: Any, budget: int) -> int:
    """`age_rows` of plan, moments, weekdays, cells, anchors, cursor, out."""
    table = carray(table_at, (3 * MOST,), types.int64)
    return age_rows(
        plan_of(table),
        flat(table, EVENTS, np.int64),
        flat(table, EVENTS + 1, np.int64),
        flat(table, EVENTS + 2, np.float64),
        grid(table, EVENTS + 3, np.float64),
        flat(table, EVENTS + 4, np.int64),
        budget,
        grid(table, EVENTS + 5, np.float32),
    )


@view
def trees_of(table: I64, place: int) -> Trees:
    """A forest's trees."""
    return Trees(
        flat(table, place, np.int32),
        flat(table, place + 1, np.float32),
        flat(table, place + 2, np.int32),
        flat(table, place + 3, np.uint8),
        flat(table, place + 4, np.float64),
        flat(table, place + 5, np.int32),
        flat(table, place + 6, np.int32),
        flat(table, place + 7, np.uint32),
    )


def batch_leaves(table_at: Any) -> int:
    """`add_leaves` of its arguments."""
    table = carray(table_at, (3 * MOST,), types.int64)
    add_leaves(
        grid(table, 0, np.float32),
        trees_of(table, 1),
        flat(table, TOTAL, np.int32),
        grid(table, TOTAL + 1, np.float64),
    )
    return 0


@view
def bits_of(table: I64, place: int) -> BitVectors:
    """A forest's bit vectors."""
    return BitVectors(
        flat(table, place, np.int32),
        flat(table, place + 1, np.int32),
        flat(table, place + 2, np.float32),
        flat(table, place + 3, np.uint32),
        flat(table, place + 4, np.int32),
        flat(table, place + 5, np.int32),
        flat(table, place + 6, np.int32),
        flat(table, place + 7, np.float64),
        flat(table, place + 8, np.int32),
        flat(table, place + 9, np.uint32),
    )


def batch_bits(table_at: Any) -> int:
    """`add_bits` of its arguments."""
    table = carray(table_at, (3 * MOST,), types.int64)
    add_bits(
        grid(table, 0, np.float32),
        bits_of(table, 1),
        flat(table, ROWS, np.float32),
        flat(table, ROWS + 1, np.uint32),
        flat(table, ROWS + 2, np.int32),
        flat(table, ROWS + 3, np.float64),
        grid(table, ROWS + 4, np.float64),
    )
    return 0


def batch_links(table_at: Any, divisor: float, link: int, parameter: float) -> int:
    """`link_rows` of raw and out."""
    table = carray(table_at, (3 * MOST,), types.int64)
    link_rows(grid(table, 0, np.float64), divisor, link, parameter, grid(table, 1, np.float64))
    return 0
