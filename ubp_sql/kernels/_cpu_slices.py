"""One user's slices (live_layout.py) merged into sorted columns: the events that count at a moment, each once.

Nothing here allocates; every index comes from lengths that were compared with the packed columns' before.
"""

from ubp_sql.kernels._cpu_forms import sound, widen, width_of
from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels.codes import NO_KEY
from ubp_sql.kernels.dispatch import F64, I32, I64, U8
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
    SAME,
    SENT,
    SLICE_HEAD,
    SLICES,
    TIME,
    N,
    T,
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
    return int(HEAD + table[CODES] + COLUMN_WIDTH * columns + number * (SLICE_HEAD + 2 * columns))


@op
def events_of(table: I64) -> int:
    """Events in all slices."""
    total = 0
    for number in range(table[SLICES]):
        total += table[slice_row(table, number) + N]
    return total


@op
def form_of(table: I64, row: int, column: int) -> int:
    """First word of a column's form in a slice of a chunk, 0 where it has no bytes."""
    return int(table[row + SLICE_HEAD + 2 * column])


@op
def number_of(table: I64, row: int, column: int) -> int:
    """The other number of a slice's column: a form's base, a constant, how many values."""
    return int(table[row + SLICE_HEAD + 2 * column + 1])


@op
def is_number(table: I64, column: int) -> bool:
    """Whether a column is one of the plan's numbers."""
    return bool(OTHERS <= column < OTHERS + table[NUMBERS])


@jit
def locate(table: I64, packed_bytes: int, places: I64) -> bool:
    """Where each slice's columns begin, in their own units, those of chunks in bytes; false if they do not fit.

    places  (slices x columns,) out
    """
    columns = column_count(table)
    longs, shorts, raw = 0, 0, 0
    for number in range(table[SLICES]):
        row = slice_row(table, number)
        n = table[row + N]
        if n < 0 or n >= 1 << 40:
            return False
        for column in range(columns):
            place = number * columns + column
            if table[row + FORM] == CHUNK:
                form = form_of(table, row, column)
                places[place] = raw
                if form != 0:
                    if not sound(form, is_number(table, column)):
                        return False
                    raw += n * width_of(form)
                continue
            count = number_of(table, row, column)
            if count < 0 or count > n or (table[column_row(table, column) + MARK] < 0 and count != n):
                return False
            if column in (KIND, OFFSET):
                places[place] = shorts
                shorts += count
            else:
                places[place] = longs
                longs += count
    for number in range(table[SLICES]):
        if table[slice_row(table, number) + FORM] == CHUNK:
            for column in range(columns):
                places[number * columns + column] += 8 * longs + 4 * shorts
        else:
            places[number * columns + KIND] += 2 * longs
            places[number * columns + OFFSET] += 2 * longs
    return packed_bytes == 8 * longs + 4 * shorts + raw


@jit
def widened(table: I64, raw: U8, row: int, column: int, place: int, wide: I64, numbers: F64, to: int) -> None:
    """A chunk's column of the slice's events, if it keeps one; wide and numbers are the same memory."""
    form = form_of(table, row, column)
    if form != 0:
        base = number_of(table, row, column)
        widen(raw, place, table[row + N], form, base, is_number(table, column), wide, numbers, to)


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
def keep(
    table: I64,
    longs: I64,
    shorts: I32,
    raw: U8,
    places: I64,
    wide: I64,
    numbers: F64,
    at: I64,
    t: I64,
    ingested: I64,
    event_id: I64,
) -> int:
    """The times and ids of the events that count: of a known kind, before as_of, ingested by known_at.

    longs, shorts, raw       the packed columns
    wide, numbers            (4 x events,) scratch, the same memory
    at                       (events,) out: number of the event among those kept, or -1
    t, ingested, event_id    (kept,) out
    returns how many are kept, FAILED for an infinite time
    """
    columns, as_of, known_at = column_count(table), table[AS_OF_US], table[KNOWN_AT_US]
    n, g = 0, 0
    for number in range(table[SLICES]):
        row, base, m = slice_row(table, number), number * columns, table[slice_row(table, number) + N]
        chunk = table[row + FORM] == CHUNK
        p_t, p_ingested, p_id, p_kind = (
            places[base],
            places[base + INGESTED],
            places[base + EVENT_ID],
            places[base + KIND],
        )
        has_t, has_ingested, has_id, has_kind = (
            form_of(table, row, T) != 0,
            form_of(table, row, INGESTED) != 0,
            form_of(table, row, EVENT_ID) != 0,
            form_of(table, row, KIND) != 0,
        )
        if chunk:
            widened(table, raw, row, T, p_t, wide, numbers, 0)
            widened(table, raw, row, INGESTED, p_ingested, wide, numbers, m)
            widened(table, raw, row, EVENT_ID, p_id, wide, numbers, 2 * m)
            widened(table, raw, row, KIND, p_kind, wide, numbers, 3 * m)
        same = (table[row + SAME] >> INGESTED) & 1 == 1
        c_t, c_ingested = number_of(table, row, T), number_of(table, row, INGESTED)
        c_kind, learnt = number_of(table, row, KIND), 0
        for i in range(m):
            if chunk:
                moment = wide[i] if has_t else c_t
                known = wide[m + i] if has_ingested else c_ingested
                if same:
                    known = moment
                code = wide[3 * m + i] if has_kind else c_kind
                # Without ids: by slice and place, which orders a slice's own events as they are.
                name = wide[2 * m + i] if has_id else (number << SLICE_BITS) | i
            else:
                moment = longs[p_t + i]
                if moment in (FOREVER, NEVER):
                    return FAILED
                moment = _since_1970(moment)
                marks = int(shorts[p_kind + i])
                known, code, name = moment, marks, longs[p_id + i]
                if (marks >> table[column_row(table, INGESTED) + MARK]) & 1:
                    if learnt < c_ingested:
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
        missing |= table[row + FORM] == CHUNK and form_of(table, row, EVENT_ID) == 0
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
    raw: U8,
    places: I64,
    wide: I64,
    numbers: F64,
    at: I64,
    rank: I64,
    t: I64,
    column: int,
    values: I64,
) -> None:
    """One column of the events that count, in their order.

    wide, numbers  scratch, as for `keep`
    at, rank       of `keep` and `sort`; t (kept,) their times
    values         (different,) int64 out: the values, numbers as their bits
    """
    columns, mark = column_count(table), table[column_row(table, column) + MARK]
    narrow = column in (KIND, OFFSET)
    g = 0
    for number in range(table[SLICES]):
        row, place = slice_row(table, number), places[number * columns + column]
        constant, n = number_of(table, row, column), table[row + N]
        if table[row + FORM] == CHUNK:
            present, same = form_of(table, row, column) != 0, (table[row + SAME] >> column) & 1 == 1
            widened(table, raw, row, column, place, wide, numbers, 0)
            for i in range(n):
                to = rank[at[g + i]] if at[g + i] >= 0 else -1
                if to >= 0:
                    value = t[at[g + i]] if same else constant
                    if present:
                        value = wide[i]
                    values[to] = _kind_of(table, CHUNK, value) if column == KIND else value
        else:
            marks, taken = places[number * columns + KIND], 0
            for i in range(n):
                there = (mark < 0 or (shorts[marks + i] >> mark) & 1 == 1) and taken < constant
                to = rank[at[g + i]] if at[g + i] >= 0 else -1
                if to >= 0:
                    value = _default(table, column, t[at[g + i]])
                    if there:
                        value = int(shorts[place + taken]) if narrow else longs[place + taken]
                    values[to] = _kind_of(table, SENT, value) if column == KIND else value
                if there:
                    taken += 1
        g += n
