"""The plain operations on keys: how many different, how often each, which most; see _cpu_ops.py for the pattern."""

from math import log

import numpy as np

from ubp_sql.kernels._cpu_jit import entry, op
from ubp_sql.kernels._cpu_ops import (
    ACC,
    BANK,
    BOUND,
    CELL,
    CUMULATIVE,
    KEY,
    LINK,
    LINK_BANK,
    LO,
    MARK,
    RINGS,
    SIZE,
    STREAM,
    TIM,
)
from ubp_sql.kernels.dispatch import DAY_US, HOUR_US, NO_KEY, EventColumns, Key, Plan, Scan

CODE_BITS = 20
NO_LINK = -2
NONE_AFTER = (1 << 31) - 1
K_DAY, K_HOUR, K_WEEKDAY, K_MONTH, K_HOLIDAY = (
    int(Key.DAY),
    int(Key.HOUR),
    int(Key.WEEKDAY),
    int(Key.MONTH),
    int(Key.HOLIDAY),
)


@op
def month_of(day: int) -> int:
    """Month, January 0, of a day since 1970 (Hinnant, days_from_civil reversed)."""
    of_era = (day + 719468) % 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    from_march = (5 * of_year + 2) // 153
    return from_march + 2 if from_march < 10 else from_march - 10


@op
def key_at(events: EventColumns, key: int, i: int) -> int:
    """Key of event i: a column's, or read from its local time."""
    if key >= 0:
        return int(events.keys[key, i])
    local = events.t_us[i] + 1_000_000 * np.int64(events.offset_s[i])
    if key == K_HOUR:
        return int(local // HOUR_US % 24)
    day = local // DAY_US
    if key == K_DAY:
        return int(day)
    if key == K_WEEKDAY:
        return int((day + 3) % 7)
    if key == K_MONTH:
        return month_of(day)
    if key == K_HOLIDAY:
        low, high = 0, events.holidays.shape[0]
        while low < high:
            middle = (low + high) // 2
            if events.holidays[middle] < day:
                low = middle + 1
            else:
                high = middle
        return 1 if low < events.holidays.shape[0] and events.holidays[low] == day else 0
    return 0


@op
def newer_bound(plan: Plan, s: Scan, o: int, v: int) -> int:
    """Entries from here on are in no window together with ring v's: after the moment, or of a newer bucket."""
    first = plan.ops[o, BOUND]
    return int(s.bounds[first] if plan.ops[o, CUMULATIVE] else s.bounds[first + v])


@op
def distinct_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Count events whose key does not come again in the window: each key once, at its newest event."""
    row, bound, n = s.at[LINK_BANK] + plan.ops[o, LINK], newer_bound(plan, s, o, v), 0
    for j in range(top - 1, bottom - 1, -1):
        n += entry(s.after, row, j) >= bound
    s.tim[plan.ops[o, TIM] + v] += n


@op
def distinct_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cell: different keys."""
    ops = plan.ops
    n = 0
    for v in range(ops[o, RINGS]):
        n = n + s.tim[ops[o, TIM] + v] if ops[o, CUMULATIVE] else s.tim[ops[o, TIM] + v]
        s.cells[ops[o, CELL] + v] = float(n)


@op
def hist_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Count the events of ring v by key."""
    ops, stream = plan.ops, s.stream
    lo, row, key, size = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, KEY], ops[o, SIZE]
    tim = ops[o, TIM] + size * v
    for j in range(top - 1, bottom - 1, -1):
        k = key_at(events, key, lo + entry(stream, row, j))
        if 0 <= k < size:
            s.tim[tim + k] += 1


@op
def hist_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: events by key."""
    ops = plan.ops
    size, cell, tim = ops[o, SIZE], ops[o, CELL], ops[o, TIM]
    for v in range(ops[o, RINGS]):
        for k in range(size):
            n = float(s.tim[tim + size * v + k])
            s.cells[cell + size * v + k] = n + s.cells[cell + size * (v - 1) + k] if v and ops[o, CUMULATIVE] else n


@op
def x_log_x(x: float) -> float:
    return x * log(x) if x > 1.0 else 0.0


@op
def keys_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Number each event among those of its key, newest first; a sum over them telescopes to one over keys."""
    ops, marks = plan.ops, s.marks
    row, mark, bound = s.at[LINK_BANK] + ops[o, LINK], ops[o, MARK], newer_bound(plan, s, o, v)
    acc, tim = ops[o, ACC] + v, ops[o, TIM] + 2 * v
    for j in range(top - 1, bottom - 1, -1):
        after = entry(s.after, row, j)
        if after != NO_LINK:
            m = marks[mark, after] + 1 if after < bound else 1
            marks[mark, j] = m
            s.acc[acc] += x_log_x(float(m)) - x_log_x(float(m - 1))
            s.tim[tim] += 1
            s.tim[tim + 1] = max(s.tim[tim + 1], np.int64(m))


@op
def keys_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: events with a key, S, how often the most frequent comes."""
    ops = plan.ops
    total, n, most = 0.0, 0, 0
    for v in range(ops[o, RINGS]):
        if ops[o, CUMULATIVE] == 0:
            total, n, most = 0.0, 0, 0
        total += s.acc[ops[o, ACC] + v]
        n += s.tim[ops[o, TIM] + 2 * v]
        most = max(most, s.tim[ops[o, TIM] + 2 * v + 1])
        cell = ops[o, CELL] + 3 * v
        s.cells[cell], s.cells[cell + 1], s.cells[cell + 2] = float(n), total, float(most)


@op
def key_code(key: int) -> int:
    """20 bits of a hash of the key: exact in float32, so that a key may be a feature. (Stafford's mix 13.)"""
    h = np.uint64(np.int64(key))
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((h ^ (h >> np.uint64(31))) & np.uint64((1 << CODE_BITS) - 1))


@op
def topk_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Keep the SIZE most frequent keys so far: a key's count only grows, by one, so an outsider must pass the last.

    State: SIZE newest entries and SIZE counts of the list under way, the list after each ring, and the ring + 1 that
    the list under way is of. Marks: the how-manieth of its key an entry is, and the key's newest entry.
    """
    ops, marks = plan.ops, s.marks
    row, mark, bound = s.at[LINK_BANK] + ops[o, LINK], ops[o, MARK], newer_bound(plan, s, o, v)
    size, tim = ops[o, SIZE], ops[o, TIM]
    seen = tim + 2 * size * (ops[o, RINGS] + 1)
    if ops[o, CUMULATIVE] == 0 and s.tim[seen] != v + 1:
        for k in range(2 * size):
            s.tim[tim + k] = 0
    s.tim[seen] = v + 1
    for j in range(top - 1, bottom - 1, -1):
        after = entry(s.after, row, j)
        if after == NO_LINK:
            continue
        known = after < bound
        m, head = (marks[mark, after] + 1, marks[mark + 1, after]) if known else (1, j)
        marks[mark, j], marks[mark + 1, j] = m, head
        place = 0
        while place < size and s.tim[tim + size + place] > 0 and s.tim[tim + place] != head:
            place += 1
        if place == size:
            last = tim + size - 1
            if m < s.tim[last + size] or (m == s.tim[last + size] and head < s.tim[last]):
                continue
            place = size - 1
        while place > 0:
            before = tim + place - 1
            if m < s.tim[before + size] or (m == s.tim[before + size] and head < s.tim[before]):
                break
            s.tim[before + 1], s.tim[before + 1 + size] = s.tim[before], s.tim[before + size]
            place -= 1
        s.tim[tim + place], s.tim[tim + size + place] = head, m
    ring = tim + 2 * size * (v + 1)
    for k in range(2 * size):
        s.tim[ring + k] = s.tim[tim + k]


@op
def topk_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: count and code of the most frequent key, then of the next; NaN where there are fewer."""
    ops = plan.ops
    size, row, key = ops[o, SIZE], s.at[BANK] + ops[o, STREAM], ops[o, KEY]
    for v in range(ops[o, RINGS]):
        ring, cell = ops[o, TIM] + 2 * size * (v + 1), ops[o, CELL] + 2 * size * v
        if ops[o, CUMULATIVE] and v and s.bounds[ops[o, BOUND] + v] == s.bounds[ops[o, BOUND] + v + 1]:
            for k in range(2 * size):
                s.tim[ring + k] = s.tim[ring + k - 2 * size]
        for k in range(size):
            n = s.tim[ring + size + k]
            i = s.at[LO] + s.stream[row, s.tim[ring + k]] if n else 0
            s.cells[cell + 2 * k] = float(n) if n else np.nan
            s.cells[cell + 2 * k + 1] = float(key_code(key_at(events, key, i))) if n else np.nan


@op
def last_key_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """The newest key, until there is one."""
    ops, stream = plan.ops, s.stream
    lo, row, key, seen = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, KEY], ops[o, TIM]
    j = top - 1
    while j >= bottom and s.tim[seen] == 0:
        found = key_at(events, key, lo + entry(stream, row, j))
        if found != NO_KEY:
            s.acc[ops[o, ACC]], s.tim[seen] = float(found), 1
        j -= 1


@op
def last_key_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cell: the key."""
    s.cells[plan.ops[o, CELL]] = s.acc[plan.ops[o, ACC]] if s.tim[plan.ops[o, TIM]] else np.nan
