"""A plan as one value: what a database keeps and native code reads in place.

Little-endian, every item 8 bytes: the magic, the length in bytes, then for each field of `Plan` in its order
(offset in bytes from the start, rows, columns; 0 columns for an array of one dimension), then the arrays.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.kernels.codes import (
    FormulaColumn,
    LinkColumn,
    OpColumn,
    Param,
    Size,
    SpanColumn,
    StreamColumn,
)
from ubp_sql.kernels.dispatch import Plan

MAGIC = b"UBPPLAN1"
_FLOATS = {"stream_params", "params", "factors", "waves"}
_COLUMNS = {
    "edges_us": 0,
    "streams": int(StreamColumn.WIDTH),
    "stream_params": 2,
    "spans": int(SpanColumn.WIDTH),
    "links": int(LinkColumn.WIDTH),
    "ops": int(OpColumn.WIDTH),
    "params": int(Param.WIDTH),
    "formulas": int(FormulaColumn.WIDTH),
    "factors": 2,
    "anchors": 0,
    "waves": 0,
    "sizes": 0,
}
HEADER = len(MAGIC) + 8 + 24 * len(Plan._fields)


def pack_plan(plan: Plan) -> bytes:
    """The plan's bytes; equal plans have equal bytes."""
    table, body, offset = [], [], HEADER
    for name, array in zip(Plan._fields, plan, strict=True):
        raw = np.ascontiguousarray(array).astype("<f8" if name in _FLOATS else "<i8").tobytes()
        table.append((offset, len(array), _COLUMNS[name]))
        body.append(raw)
        offset += len(raw)
    head = struct.pack(f"<8sq{3 * len(table)}q", MAGIC, offset, *(x for row in table for x in row))
    return head + b"".join(body)


def unpack_plan(raw: bytes) -> Plan:
    """The plan of `pack_plan`.

    Raises BadInput (UB003) on bytes that are no such plan or have another version's columns. What the numbers refer to
    is not looked at: a plan comes from `PlanBuilder`, in a table that only its owner writes.
    """
    if len(raw) < HEADER or raw[:8] != MAGIC or struct.unpack_from("<q", raw, 8)[0] != len(raw):
        raise BadInput(f"plan: {len(raw)} bytes that are no plan of this version")
    arrays: list[NDArray[Any]] = []
    expected = HEADER
    for i, name in enumerate(Plan._fields):
        offset, rows, columns = struct.unpack_from("<3q", raw, 16 + 24 * i)
        n = rows * max(columns, 1)
        if offset != expected or rows < 0 or columns != _COLUMNS[name] or offset + 8 * n > len(raw):
            raise BadInput(f"plan: {name} does not fit its {len(raw)} bytes")
        expected = offset + 8 * n
        found = np.frombuffer(raw, "<f8" if name in _FLOATS else "<i8", n, offset)
        made = found.astype(np.float64 if name in _FLOATS else np.int64)
        arrays.append(made.reshape(rows, columns) if columns else made)
    if expected != len(raw) or len(arrays[-1]) != Size.WIDTH:
        raise BadInput(f"plan: {len(raw)} bytes, of which {expected} are read")
    return Plan(*arrays)
