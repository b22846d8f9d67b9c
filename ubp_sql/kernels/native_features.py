"""One user's features as Numba source, entries of the native library (native.py): the engine of _cpu_engine.py itself.

All memory is the caller's: one buffer of int64 words, cut into sections here. Only a plan that `open_plan`
(live_plan.py) has accepted may come in; the events are checked here against the length of what holds them.
"""

from typing import Any

import numba
import numpy as np

from ubp_sql.kernels._cpu_engine import run_pairs
from ubp_sql.kernels._cpu_jit import jit
from ubp_sql.kernels._cpu_matrix import matrix, view
from ubp_sql.kernels._cpu_slices import (
    FAILED,
    FOREVER,
    column_count,
    events_of,
    fill,
    ids_missing,
    keep,
    locate,
    slice_row,
    sort,
    tied,
)
from ubp_sql.kernels.dispatch import F32, F64, I32, I64, U8, At, EventColumns, Pairs, Plan, Scan, Size
from ubp_sql.kernels.live_layout import (
    AGAIN,
    AS_OF_US,
    DONE,
    HOLIDAYS,
    INFINITE,
    KEYS,
    KIND,
    MALFORMED,
    NOBODY,
    NUMBERS,
    OFFSET,
    OTHERS,
    SLICES,
    TIED,
    WEEKDAY,
)
from ubp_sql.kernels.native_plan import plan_at

types: Any = numba.types
carray: Any = getattr(numba, "carray")  # noqa: B009  (Numba's stubs do not name it)

# Numba makes no slice of an enumeration's member.
AT_WIDTH, N_BOUNDS, N_ACC, N_TIM, N_MARKS, N_CELLS = (
    int(At.WIDTH),
    int(Size.BOUNDS),
    int(Size.ACC),
    int(Size.TIM),
    int(Size.MARKS),
    int(Size.CELLS),
)
BOUNDLESS = 1 << 40  # an array's length where no index is checked anyway

# Sections of the buffer, in words.
STATE, PLACES, KEPT_AT, KEPT_T, KEPT_INGESTED, KEPT_ID, ORDER, SPARE, RANK, WIDE = range(10)
FIRST, TIMES, KNOWN, KINDS, OFFSETS, NUMBER_ROWS, KEY_ROWS, PAIR = range(10, 18)
AT, STREAM, FILLED, LATEST, AFTER, BEFORE, TABLE, TOPS, BOUNDS, ACC, TIM, MARKS, CELLS, END = range(18, 32)
DIFFERENT = 0  # word of STATE: how many events count


@jit
def lay_out(plan: Plan, table: I64, begins: I64) -> int:
    """Where each section begins; how many words the buffer needs.

    begins  (END + 1,) out
    """
    n, sizes = events_of(table), plan.sizes
    streams, links = plan.streams.shape[0], plan.links.shape[0]
    halves = n // 2 + 1
    slots = 1
    while slots <= 4 * n + 7:
        slots += slots
    for section in range(END + 1):
        begins[section] = n
    begins[STATE], begins[PLACES], begins[WIDE] = 8, table[SLICES] * column_count(table), 4 * n
    begins[FIRST], begins[KINDS], begins[OFFSETS] = 2, halves, halves
    begins[NUMBER_ROWS], begins[KEY_ROWS], begins[PAIR] = n * table[NUMBERS], n * table[KEYS], 4
    begins[AT], begins[STREAM], begins[FILLED], begins[LATEST] = AT_WIDTH, streams * (n + 1), 2 * streams, streams * n
    begins[AFTER], begins[BEFORE], begins[TABLE] = links * (n + 1), links * (n + 1), slots // 2 + 1
    begins[TOPS], begins[BOUNDS], begins[ACC] = streams, sizes[N_BOUNDS], sizes[N_ACC]
    begins[TIM], begins[MARKS], begins[CELLS] = sizes[N_TIM], sizes[N_MARKS] * halves, sizes[N_CELLS]
    begin = 0
    for section in range(END + 1):
        size = begins[section] if section < END else 0
        begins[section] = begin
        begin += size
    return begin


@view
def part(work: I64, begins: I64, section: int, size: int) -> I64:
    """The first words of a section."""
    return work[begins[section] : begins[section] + size]


@view
def gather(table: I64, longs: I64, shorts: I32, raw: U8, packed_bytes: int, begins: I64, work: I64) -> int:
    """Merge the slices into the sections of the events that count; DONE, or why not."""
    n, columns = events_of(table), column_count(table)
    places = part(work, begins, PLACES, table[SLICES] * columns)
    if not locate(table, packed_bytes, places):
        return MALFORMED
    at, t = part(work, begins, KEPT_AT, n), part(work, begins, KEPT_T, n)
    ingested, event_id = part(work, begins, KEPT_INGESTED, n), part(work, begins, KEPT_ID, n)
    wide = part(work, begins, WIDE, 4 * n)
    numbers = wide.view(np.float64)
    kept = keep(table, longs, shorts, raw, places, wide, numbers, at, t, ingested, event_id)
    if kept == FAILED:
        return INFINITE
    if kept == 0:
        return NOBODY
    rank = part(work, begins, RANK, n)
    order = part(work, begins, ORDER, n)
    m = sort(t, ingested, event_id, kept, order, part(work, begins, SPARE, n), rank)
    if ids_missing(table) and tied(t, ingested, event_id, kept, order):
        return TIED
    work[begins[STATE] + DIFFERENT] = m
    times, known = part(work, begins, TIMES, m), part(work, begins, KNOWN, m)
    for e in range(kept):
        if rank[e] >= 0:
            times[rank[e]], known[rank[e]] = t[e], ingested[e]
    value = part(work, begins, SPARE, m)
    for column in (KIND, OFFSET):
        narrow = part(work, begins, KINDS if column == KIND else OFFSETS, n // 2 + 1).view(np.int32)
        fill(table, longs, shorts, raw, places, wide, numbers, at, rank, t, column, value)
        for i in range(m):
            narrow[i] = value[i]
    for column in range(OTHERS, columns):
        row = column - OTHERS
        begin = begins[NUMBER_ROWS] + row * m
        if row >= table[NUMBERS]:
            begin = begins[KEY_ROWS] + (row - table[NUMBERS]) * m
        fill(table, longs, shorts, raw, places, wide, numbers, at, rank, t, column, work[begin : begin + m])
    return DONE


@view
def columns_of(table: I64, begins: I64, work: I64) -> EventColumns:
    """The gathered events."""
    m = work[begins[STATE] + DIFFERENT]
    first = part(work, begins, FIRST, 2)
    first[0], first[1] = 0, m
    calendar = slice_row(table, table[SLICES])
    numbers, keys = table[NUMBERS], table[KEYS]
    return EventColumns(
        first,
        part(work, begins, TIMES, m),
        part(work, begins, KNOWN, m),
        part(work, begins, OFFSETS, m // 2 + 1).view(np.int32)[:m],
        part(work, begins, KINDS, m // 2 + 1).view(np.int32)[:m],
        matrix(part(work, begins, NUMBER_ROWS, numbers * m).view(np.float64), numbers, m),
        matrix(part(work, begins, KEY_ROWS, keys * m), keys, m),
        table[calendar : calendar + table[HOLIDAYS]],
    )


@view
def scan_of(plan: Plan, m: int, begins: I64, work: I64) -> Scan:
    """The engine's scratch, as `new_scan` lays it out."""
    sizes, streams, links = plan.sizes, plan.streams.shape[0], plan.links.shape[0]
    slots = 1
    while slots <= 4 * m + 7:
        slots += slots
    halves = work[begins[STREAM] : begins[END]].view(np.int32)
    origin = begins[STREAM]
    after, before = 2 * (begins[AFTER] - origin), 2 * (begins[BEFORE] - origin)
    table, marks = 2 * (begins[TABLE] - origin), 2 * (begins[MARKS] - origin)
    return Scan(
        part(work, begins, AT, AT_WIDTH),
        matrix(halves, 2 * streams, m),
        matrix(part(work, begins, FILLED, 2 * streams), 2 * streams, 1),
        matrix(part(work, begins, LATEST, streams * m), streams, m),
        matrix(halves[after:], 2 * links, m),
        matrix(halves[before:], 2 * links, m),
        halves[table : table + slots],
        part(work, begins, TOPS, streams),
        part(work, begins, BOUNDS, sizes[N_BOUNDS]),
        part(work, begins, ACC, sizes[N_ACC]).view(np.float64),
        part(work, begins, TIM, sizes[N_TIM]),
        matrix(halves[marks:], sizes[N_MARKS], m),
        part(work, begins, CELLS, sizes[N_CELLS]).view(np.float64),
    )


@view
def compute_row(plan: Plan, table: I64, begins: I64, work: I64, started: int, budget: int, row: F32, old: F64) -> int:
    """The user's only pair; DONE or AGAIN."""
    pair = part(work, begins, PAIR, 4)
    if started == 0:
        for section in (AT, FILLED, TOPS, BOUNDS, ACC, TIM, CELLS):
            for i in range(begins[section], begins[section + 1]):
                work[i] = 0
        at = part(work, begins, AT, AT_WIDTH)
        at[At.USER], at[At.LOW_US], at[At.HIGH_US] = -1, table[AS_OF_US], table[AS_OF_US]
        # Only what was known by then was gathered.
        pair[0], pair[1], pair[2], pair[3] = 0, table[AS_OF_US], FOREVER, table[WEEKDAY]
    m = work[begins[STATE] + DIFFERENT]
    features, anchors = plan.formulas.shape[0], plan.anchors.shape[0]
    done = run_pairs(
        plan,
        columns_of(table, begins, work),
        Pairs(pair[0:1], pair[1:2], pair[2:3], pair[3:4]),
        scan_of(plan, m, begins, work),
        budget,
        matrix(row, 1, features),
        matrix(old, 1, anchors),
    )
    return DONE if done else AGAIN


def live_room(blob: Any, table_at: Any, begins_at: Any) -> int:
    """Words of the buffer that `live_row` needs for the table's events. `begins_at` has room for END + 1 words."""
    table = carray(table_at, (BOUNDLESS,), types.int64)
    return lay_out(plan_at(carray(blob, (BOUNDLESS,), types.int64)), table, carray(begins_at, (END + 1,), types.int64))


def live_row(
    blob: Any,
    table_at: Any,
    packed: Any,
    packed_bytes: int,
    begins_at: Any,
    work_at: Any,
    row_at: Any,
    anchors_at: Any,
    started: int,
    budget: int,
) -> int:
    """Write a user's row and anchors; what live_layout.py says of the call.

    blob          a checked plan
    table         live_layout.py; `packed` the columns, of packed_bytes bytes
    begins, work  as `live_room` found them for this very table
    started       0 at the first call, 1 when called again
    budget        events' worth of work in this call
    """
    plan = plan_at(carray(blob, (BOUNDLESS,), types.int64))
    table, work = carray(table_at, (BOUNDLESS,), types.int64), carray(work_at, (BOUNDLESS,), types.int64)
    begins = carray(begins_at, (END + 1,), types.int64)
    row = carray(row_at, (plan.formulas.shape[0],), types.float32)
    anchors = carray(anchors_at, (plan.anchors.shape[0],), types.float64)
    if started == 0:
        longs = carray(packed, (packed_bytes // 8,), types.int64)
        shorts = carray(packed, (packed_bytes // 4,), types.int32)
        raw = carray(packed, (packed_bytes,), types.uint8)
        found = gather(table, longs, shorts, raw, packed_bytes, begins, work)
        if found != DONE:
            return found
    return compute_row(plan, table, begins, work, started, budget, row, anchors)
