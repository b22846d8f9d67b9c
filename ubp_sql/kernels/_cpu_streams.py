"""The events of one user as streams (entries that pass a filter) and links (neighbours of equal key within a stream).

Made once for all moments of a user; bank 1 holds those of a single pair that must not know some of the events. Every
function takes up after a budget where it stopped, and linear time also for a user with 10 M events.
"""

import numpy as np

from ubp_sql.kernels._cpu_jit import entry, op, time_at
from ubp_sql.kernels._cpu_keys import K_DAY, NO_LINK, NONE_AFTER, key_at
from ubp_sql.kernels.dispatch import (
    LIFETIME_US,
    NO_KEY,
    At,
    EventColumns,
    Key,
    LinkColumn,
    Plan,
    Scan,
    SpanColumn,
    StreamColumn,
)

KINDS, COND_NUMBER, COND_KEY, COND_EQ, REACH = (
    int(StreamColumn.KINDS),
    int(StreamColumn.COND_NUMBER),
    int(StreamColumn.COND_KEY),
    int(StreamColumn.COND_EQ),
    int(StreamColumn.REACH_US),
)
LINK_STREAM, LINK_KEY, LINK_REACH = int(LinkColumn.STREAM), int(LinkColumn.KEY), int(LinkColumn.REACH_US)
SPAN_STREAM, EDGE, SPAN_RINGS, LAST_N, SPAN_BOUND = (
    int(SpanColumn.STREAM),
    int(SpanColumn.EDGE),
    int(SpanColumn.RINGS),
    int(SpanColumn.LAST_N),
    int(SpanColumn.BOUND),
)
ITEM, POS, LO, HI, BANK, LINK_BANK = (
    int(At.ITEM),
    int(At.POS),
    int(At.LO),
    int(At.HI),
    int(At.BANK),
    int(At.LINK_BANK),
)
AS_OF, KNOWN_AT, LOW_US, SEED, HASHED, LAST = (
    int(At.AS_OF),
    int(At.KNOWN_AT),
    int(At.LOW_US),
    int(At.SEED),
    int(At.HASHED),
    int(At.LAST),
)
NO_CONDITION = int(Key.NONE)
NEVER = -(1 << 63)


@op
def edge_of(moment: int, width: int) -> int:
    """Where a window of that width before the moment begins; a lifetime's holds every time."""
    return moment - width if width < LIFETIME_US else NEVER


@op
def first_event(events: EventColumns, low: int, high: int, t_us: int) -> int:
    """First of the events low..high-1 at or after t_us, else high."""
    while low < high:
        middle = (low + high) >> 1
        if events.t_us[middle] < t_us:
            low = middle + 1
        else:
            high = middle
    return low


@op
def first_entry(events: EventColumns, s: Scan, row: int, low: int, high: int, t_us: int) -> int:
    """First of the entries low..high-1 of a stream at or after t_us, else high."""
    lo = s.at[LO]
    while low < high:
        middle = (low + high) >> 1
        if time_at(events.t_us, lo + entry(s.stream, row, middle)) < t_us:
            low = middle + 1
        else:
            high = middle
    return low


@op
def last_part(events: EventColumns, s: Scan, row: int, high: int, t_us: int) -> int:
    """First of the entries 0..high-1 at or after t_us, sought from the newest: windows are short, histories long."""
    lo, step, low = s.at[LO], 1, high
    while low > 0 and time_at(events.t_us, lo + entry(s.stream, row, low - 1)) >= t_us:
        high = low
        low = max(0, low - step)
        step += step
    if low == 0 and (high == 0 or time_at(events.t_us, lo + entry(s.stream, row, 0)) >= t_us):
        return 0
    return first_entry(events, s, row, low, high, t_us)


@op
def next_entry(events: EventColumns, s: Scan, row: int, low: int, high: int, t_us: int) -> int:
    """First of the entries low..high-1 at or after t_us, else high, sought from low in steps that double."""
    lo, step, end = s.at[LO], 1, low
    while end < high and time_at(events.t_us, lo + entry(s.stream, row, end)) < t_us:
        low = end + 1
        end = min(high, end + step)
        step += step
    return first_entry(events, s, row, low, end, t_us)


@op
def left_of(budget: int, spent: int, whole: bool) -> int:
    """What is left; not above 0 before the stream or link is whole, nor when the budget does not allow for that."""
    return budget - spent - 1 if whole else min(0, budget - spent)


@op
def passes(plan: Plan, events: EventColumns, q: int, i: int) -> bool:
    """Whether event i fulfils the condition of stream q."""
    number, key = plan.streams[q, COND_NUMBER], plan.streams[q, COND_KEY]
    if number >= 0:
        x = events.numbers[number, i]
        if not (plan.stream_params[q, 0] <= x < plan.stream_params[q, 1]):
            return False
    return bool(key == NO_CONDITION or key_at(events, key, i) == plan.streams[q, COND_EQ])


@op
def fill_stream(plan: Plan, events: EventColumns, s: Scan, q: int, budget: int) -> int:
    """Put events into bank 0 of stream q; the budget that is left, above 0 when the stream is whole."""
    at, stream = s.at, s.stream
    lo, hi, pos = at[LO], at[HI], at[POS]
    if pos < 0:
        pos = first_event(events, lo, hi, edge_of(at[LOW_US], plan.streams[q, REACH]))
        s.filled[q, 0] = 0
    n, end = s.filled[q, 0], min(hi, pos + budget)
    kinds = plan.streams[q, KINDS] << 1
    begin = n
    if plan.streams[q, COND_NUMBER] < 0 and plan.streams[q, COND_KEY] == NO_CONDITION:
        for i in range(pos, end):  # without a branch: which kind comes next cannot be foreseen
            stream[q, n] = i - lo
            n += (kinds >> (np.int64(events.kind[i]) + 1)) & 1
    else:
        for i in range(pos, end):
            if (kinds >> (np.int64(events.kind[i]) + 1)) & 1 and passes(plan, events, q, i):
                stream[q, n] = i - lo
                n += 1
    latest = s.latest[q, begin - 1] if begin > 0 else NEVER
    for j in range(begin, n):
        latest = max(latest, events.ingested_us[lo + stream[q, j]])
        s.latest[q, j] = latest
    s.filled[q, 0], at[POS] = n, end
    return left_of(budget, int(end - pos), bool(end == hi))


@op
def filter_stream(plan: Plan, events: EventColumns, s: Scan, q: int, budget: int) -> int:
    """Copy what the pair may know of stream q from bank 0 to bank 1; the budget left, above 0 when it is whole."""
    at, stream, row = s.at, s.stream, s.at[BANK] + q
    lo, pos, top = at[LO], at[POS], s.tops[q]
    if pos < 0:
        pos = first_entry(events, s, q, 0, top, edge_of(at[AS_OF], plan.streams[q, REACH]))
        s.filled[row, 0] = 0
    n, end = s.filled[row, 0], min(top, pos + budget)
    for j in range(pos, end):
        if events.ingested_us[lo + stream[q, j]] <= at[KNOWN_AT]:
            stream[row, n] = stream[q, j]
            n += 1
    s.filled[row, 0], at[POS] = n, end
    return left_of(budget, int(end - pos), bool(end == top))


@op
def slot_of(events: EventColumns, s: Scan, row: int, key: int, code: int, mask: int) -> int:
    """Slot of the table where the key is, or where it belongs."""
    h = np.uint64(np.int64(code)) ^ np.uint64(s.at[SEED])
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    slot = np.int64(h >> np.uint64(32)) & mask
    while True:
        j = s.table[slot]
        if j < 0 or key_at(events, key, s.at[LO] + s.stream[row, j]) == code:
            return int(slot)
        slot = (slot + 1) & mask


@op
def fill_link(plan: Plan, events: EventColumns, s: Scan, link: int, budget: int) -> int:
    """Link further entries of a stream to their neighbours; the budget that is left, above 0 when all are.

    Equal keys that follow each other need no table, and local days do not while they do not fall. Otherwise a hash
    table of 2 n slots: linear time, and unlike a sort it can stop anywhere.
    """
    at, after, before = s.at, s.after, s.before
    q, key, reach = plan.links[link, LINK_STREAM], plan.links[link, LINK_KEY], plan.links[link, LINK_REACH]
    row, out, lo = at[BANK] + q, at[LINK_BANK] + link, at[LO]
    n = s.filled[row, 0]
    moment = at[LOW_US] if at[BANK] == 0 else at[AS_OF]
    if at[POS] < 0:
        at[POS] = first_entry(events, s, row, 0, n, edge_of(moment, reach))
        at[HASHED], at[LAST] = 0, -1
    if at[HASHED] == 0 and key == K_DAY:
        pos = at[POS]
        end = min(n, pos + budget)
        older, previous = -1, 0
        if at[LAST] >= 0:
            older, previous = pos - 1, key_at(events, key, lo + s.stream[row, pos - 1])
        for j in range(pos, end):
            code = key_at(events, key, lo + entry(s.stream, row, j))
            if older >= 0 and code < previous:
                at[HASHED] = 1  # days fall: begin again with the table
                break
            same = older >= 0 and code == previous
            before[out, j] = older if same else -1
            after[out, j] = NONE_AFTER
            if same:
                after[out, older] = j
            older, previous = j, code
        if at[HASHED] == 0:
            at[POS], at[LAST] = end, 0
            return left_of(budget, int(end - pos), bool(end == n))
        budget -= end - pos
        at[POS], at[LAST] = first_entry(events, s, row, 0, n, edge_of(moment, reach)), -1
    mask = 7
    while mask < 2 * (n - 1):
        mask = 2 * mask + 1
    if at[HASHED] <= 1:  # 2 + number of slots that are clear
        at[HASHED] = 2
    clear = at[HASHED] - 2
    if clear <= mask:
        stop = min(mask + 1, clear + 8 * max(budget, 1))
        for slot in range(clear, stop):
            s.table[slot] = -1
        budget -= (stop - clear) >> 3
        at[HASHED] = 2 + stop
        if stop <= mask:
            return 0
    pos, last = at[POS], at[LAST]
    end = min(n, pos + max(budget, 0))
    previous = NO_KEY if last < 0 else key_at(events, key, lo + s.stream[row, s.table[last]])
    for j in range(pos, end):
        code = key_at(events, key, lo + entry(s.stream, row, j))
        if code == NO_KEY:
            before[out, j], after[out, j] = NO_LINK, NO_LINK
            continue
        if code != previous:
            last, previous = slot_of(events, s, row, key, code, mask), code
        older = s.table[last]
        before[out, j], after[out, j] = older, NONE_AFTER
        if older >= 0:
            after[out, older] = j
        s.table[last] = j
    at[POS], at[LAST] = end, last
    return left_of(budget, int(end - pos), bool(end == n))
