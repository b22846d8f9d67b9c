"""One user's slices (live_layout.py) merged into sorted columns: the events that count at a moment, each once.

Nothing here allocates; every index comes from lengths that were compared with the packed columns' before.
"""

import numpy as np

from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels.codes import NO_KEY
from ubp_sql.kernels.dispatch import I32, I64
from ubp_sql.kernels.live_layout import (
    AS_OF_US,
    CHUNK,
    CODES,
    COLUMN_WIDTH,
    DEFAULT,
    EVENT_ID,
    FORM,
    HEAD,
    INGESTED,
    KEYS,
    KIND,
    KIND_BITS,
    KNOWN_AT_US,
    MARK,
    MISSING,
    NAN,
    NUMBERS,
    OFFSET,
    OTHERS,
    PRESENT,
    SAME,
    SENT,
    SLICE_HEAD,
    SLICES,
    TIME,
    N,
)

FAR_US = 1 << 62
POSTGRES_EPOCH_US = 946_684_800_000_000
NAN_BITS = 0x7FF8000000000000
KIND_MASK = (1 << KIND_BITS) - 1
FOREVER, NEVER = (1 << 63) - 1, -(1 << 63)
FAILED = -1
SLICE_BITS = 40


@op
def column_count(table: I64) -> int:
    """Columns of a slice."""
    return int(OTHERS + table[NUMBERS] + table[KEYS])


@op
def column_row(table: I64, column: int) -> int:
    """Where a column's row begins."""
    return int(HEAD + table[CODES] + COLUMN_WIDTH * column)


@op
def slice_row(table: I64, number: int) -> int:
    """Where a slice's row begins; that of the slice after the last one is where the calendar begins."""
    columns = column_count(table)
    return int(HEAD + table[CODES] + COLUMN_WIDTH * columns + number * (SLICE_HEAD + columns))


@op
def events_of(table: I64) -> int:
    """Events in all slices."""
    total = 0
    for number in range(table[SLICES]):
        total += table[slice_row(table, number) + N]
    return total


@op
def _values(table: I64, row: int, column: int) -> int:
    """How many values of a column are in the packed columns."""
    if table[row + FORM] == CHUNK:
        return int(table[row + N]) if (table[row + PRESENT] >> column) & 1 else 0
    return int(table[row + SLICE_HEAD + column])


@jit
def locate(table: I64, packed_bytes: int, places: I64) -> bool:
    """Where each slice's columns begin, in their own units; false if they do not fit the packed columns.

    places  (slices x columns,) out
    """
    columns = column_count(table)
    longs, shorts = 0, 0
    for number in range(table[SLICES]):
        row = slice_row(table, number)
        n, form = table[row + N], table[row + FORM]
        if n < 0 or n >= 1 << 40:
            return False
        for column in range(columns):
            count = _values(table, row, column)
            every = form == CHUNK or table[column_row(table, column) + MARK] < 0
            if count < 0 or count > n or (form != CHUNK and every and count != n):
                return False
            if column in (KIND, OFFSET):
                places[number * columns + column] = shorts
                shorts += count
            else:
                places[number * columns + column] = longs
                longs += count
    for number in range(table[SLICES]):
        places[number * columns + KIND] += 2 * longs
        places[number * columns + OFFSET] += 2 * longs
    return packed_bytes == 8 * longs + 4 * shorts


@op
def _since_1970(sent: int) -> int:
    """A sent time; what is far is held within FAR_US, as everywhere (features/events.py)."""
    return min(max(sent, -FAR_US), FAR_US - POSTGRES_EPOCH_US) + POSTGRES_EPOCH_US


@op
def _kind_of(table: I64, form: int, code: int) -> int:
    """Place among the plan's kinds, -1 for none of them."""
    if form != CHUNK:
        return (code & KIND_MASK) - 1
    return int(table[HEAD + code]) if 0 <= code < table[CODES] else -1


@jit
def keep(table: I64, longs: I64, shorts: I32, places: I64, at: I64, t: I64, ingested: I64, event_id: I64) -> int:
    """The times and ids of the events that count: of a known kind, before as_of, ingested by known_at.

    at                       (events,) out: number of the event among those kept, or -1
    t, ingested, event_id    (kept,) out
    returns how many are kept, FAILED for an infinite time
    """
    columns, as_of, known_at = column_count(table), table[AS_OF_US], table[KNOWN_AT_US]
    n, g = 0, 0
    for number in range(table[SLICES]):
        row, base = slice_row(table, number), number * columns
        here, same, constants = table[row + PRESENT], table[row + SAME], row + SLICE_HEAD
        p_t, p_ingested, p_id, p_kind = (
            places[base],
            places[base + INGESTED],
            places[base + EVENT_ID],
            places[base + KIND],
        )
        learnt = 0
        for i in range(table[row + N]):
            if table[row + FORM] == CHUNK:
                moment = longs[p_t + i] if here & 1 else table[constants]
                known = longs[p_ingested + i] if (here >> INGESTED) & 1 else table[constants + INGESTED]
                if (same >> INGESTED) & 1:
                    known = moment
                code = shorts[p_kind + i] if (here >> KIND) & 1 else table[constants + KIND]
                # Without ids: by slice and place, which orders a slice's own events as they are.
                name = longs[p_id + i] if (here >> EVENT_ID) & 1 else (number << SLICE_BITS) | i
            else:
                moment = longs[p_t + i]
                if moment in (FOREVER, NEVER):
                    return FAILED
                moment = _since_1970(moment)
                marks = shorts[p_kind + i]
                known, code, name = moment, marks, longs[p_id + i]
                if (marks >> table[column_row(table, INGESTED) + MARK]) & 1:
                    if learnt < table[constants + INGESTED]:
                        known = _since_1970(longs[p_ingested + learnt])
                    learnt += 1
            at[g] = -1
            if moment < as_of and known <= known_at and _kind_of(table, table[row + FORM], code) >= 0:
                at[g] = n
                t[n], ingested[n], event_id[n] = moment, known, name
                n += 1
            g += 1
    return n


@op
def _before(t: I64, ingested: I64, event_id: I64, a: int, b: int) -> bool:
    """Whether event a comes before event b, or is the same one."""
    if t[a] != t[b]:
        return bool(t[a] < t[b])
    if ingested[a] != ingested[b]:
        return bool(ingested[a] < ingested[b])
    return bool(event_id[a] <= event_id[b])


@jit
def ids_missing(table: I64) -> bool:
    """Whether there are several slices, and one has no ids."""
    missing = False
    for number in range(table[SLICES]):
        row = slice_row(table, number)
        missing |= table[row + FORM] == CHUNK and (table[row + PRESENT] >> EVENT_ID) & 1 == 0
    return missing and table[SLICES] > 1


@jit
def tied(t: I64, ingested: I64, event_id: I64, n: int, order: I64) -> bool:
    """Whether events of different slices without ids are equal in both times; `order` as `sort` left it."""
    for i in range(1, n):
        a, b = order[i - 1], order[i]
        if t[a] == t[b] and ingested[a] == ingested[b] and event_id[a] >> SLICE_BITS != event_id[b] >> SLICE_BITS:
            return True
    return False


@jit
def sort(t: I64, ingested: I64, event_id: I64, n: int, order: I64, spare: I64, rank: I64) -> int:
    """Order by (time, ingestion, id), each event once.

    A merge sort over the runs that are there: one look for sorted slices that follow each other, one merge for a base
    and a delta, n log n for a heap in any order.

    order          (n,) out: the events in order
    spare          (n,) scratch
    rank           (n,) out: place of each event in the order, -1 for one that is there already
    returns how many different events there are
    """
    for i in range(n):
        order[i] = i
    runs = 2
    while runs > 1:
        runs, begin = 0, 0
        while begin < n:
            middle = begin + 1
            while middle < n and _before(t, ingested, event_id, order[middle - 1], order[middle]):
                middle += 1
            end = middle
            if middle < n:
                end += 1
                while end < n and _before(t, ingested, event_id, order[end - 1], order[end]):
                    end += 1
            if runs == 0 and middle == n and begin == 0:
                break  # sorted
            a, b = begin, middle
            for out in range(begin, end):
                if b >= end or (a < middle and _before(t, ingested, event_id, order[a], order[b])):
                    spare[out] = order[a]
                    a += 1
                else:
                    spare[out] = order[b]
                    b += 1
            runs += 1
            begin = end
        if runs > 0:
            for i in range(n):
                order[i] = spare[i]
    different = 0
    for i in range(n):
        e = order[i]
        rank[e] = -1
        if i > 0:
            before = order[i - 1]
            if t[e] == t[before] and ingested[e] == ingested[before] and event_id[e] == event_id[before]:
                continue
        rank[e] = different
        different += 1
    return different


@op
def _default(table: I64, column: int, moment: int) -> int:
    code = table[column_row(table, column) + DEFAULT]
    if code == TIME:
        return moment
    if code == NAN:
        return NAN_BITS
    return NO_KEY if code == MISSING else 0


@jit
def fill(
    table: I64,
    longs: I64,
    shorts: I32,
    places: I64,
    at: I64,
    rank: I64,
    t: I64,
    column: int,
    values: I64,
) -> None:
    """One column of the events that count, in their order.

    at, rank  of `keep` and `sort`; t (kept,) their times
    values    (different,) int64 out: the values, numbers as their bits
    """
    columns, mark = column_count(table), table[column_row(table, column) + MARK]
    narrow = column in (KIND, OFFSET)
    g = 0
    for number in range(table[SLICES]):
        row, place = slice_row(table, number), places[number * columns + column]
        constant, n = table[row + SLICE_HEAD + column], table[row + N]
        if table[row + FORM] == CHUNK:
            present, same = (table[row + PRESENT] >> column) & 1 == 1, (table[row + SAME] >> column) & 1 == 1
            for i in range(n):
                to = rank[at[g + i]] if at[g + i] >= 0 else -1
                if to >= 0:
                    value = t[at[g + i]] if same else constant
                    if present:
                        value = np.int64(shorts[place + i]) if narrow else longs[place + i]
                    values[to] = _kind_of(table, CHUNK, value) if column == KIND else value
        else:
            marks, taken = places[number * columns + KIND], 0
            for i in range(n):
                there = (mark < 0 or (shorts[marks + i] >> mark) & 1 == 1) and taken < constant
                to = rank[at[g + i]] if at[g + i] >= 0 else -1
                if to >= 0:
                    value = _default(table, column, t[at[g + i]])
                    if there:
                        value = np.int64(shorts[place + taken]) if narrow else longs[place + taken]
                    values[to] = _kind_of(table, SENT, value) if column == KIND else value
                if there:
                    taken += 1
        g += n
