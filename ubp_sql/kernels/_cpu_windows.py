"""The fused window pass on the CPU: every windowed feature of one (user, as_of) pair in one scan of the user's events.

Time ascends within a user, so an event's *ring*, the shortest window that holds it, only falls during the scan.
Integers are counted per ring and summed over rings once at the end. A distinct count needs no set: an event is the
first of its key in the windows from its own ring up to, but without, the ring of the key's previous event, so it adds 1
at the one and takes 1 away at the other. Float sums are kept per window and added in event order, never as differences
of prefix sums: a user's NaN or 1e308 stays with the user and with the windows that hold it.

Nothing here allocates and all state lies in arrays of the caller: every call stops after a budget of events and goes on
at the same place, so a chunk's length cannot change a bit of the result and even one user's scan can be cancelled.
"""

from collections.abc import Callable
from math import isnan, sqrt
from typing import NamedTuple, TypeVar, cast

import numba
import numpy as np

from ubp_sql.kernels.dispatch import DAY_US, F32, F64, I32, I64, U8, Cell, EventColumns, Links, Pairs, Plan

F = TypeVar("F", bound=Callable[..., object])

UNKNOWN = 255  # ring of an event that is not known at known_at
STATS = 5  # EVENTS, VALUES, ORDERS, ITEMS, DAYS: the cells that are counted per ring
WEEKDAYS = 24  # columns of `clock`: 24 hours, then 7 weekdays
CLOCK = 31
PAIR, POS, LO, HI, RING, CURSOR = 0, 1, 2, 3, 4, 5
FIRST, LAST, GAP = 0, 1, 2  # columns of `orders`
NEVER = -(1 << 63)
F32_MAX = float(np.finfo(np.float32).max)
# Literals, not sin(): one libm's last bit would make one machine's features differ from another's.
_R = (0.0, 0.25881904510252074, 0.5, 0.7071067811865476, 0.8660254037844386, 0.9659258262890683, 1.0)
SIN_HOUR = np.array([*_R, *_R[5:0:-1], *(-x for x in _R), *(-x for x in _R[5:0:-1])])
PAIR_COST = 64  # fixed work of a pair in events' worth (12 ns), to which a feature or a cell adds a quarter


def jit(function: F) -> F:
    """Compile lazily, with an on-disk cache; no fastmath: the order of additions is part of the result."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


class WindowState(NamedTuple):
    """Accumulators of the pair under way, and where in its events the scan stands."""

    cursor: I64  # (CURSOR,)
    ring: U8  # (longest,) ring of each event of the user
    cells: F64  # (k, w, CELLS) what features are ratios of
    counts: I64  # (k, w+1, STATS)
    sums: F64  # (k, w)
    seen: I64  # (k, 2) time of the first and the last event
    clock: I64  # (w, CLOCK) main kind's events by local hour and weekday
    orders: I64  # (w, 3) time of the first and the last order, and the last gap; NEVER without
    spread: F64  # (w, 3) Welford's count, mean and sum of squares of gaps, in days


def window_state(plan: Plan, longest: int) -> WindowState:
    """Scratch of `windowed_features` for users of at most `longest` events."""
    k, w = plan.kinds, len(plan.widths_us)
    cursor = np.zeros(CURSOR, np.int64)
    cursor[POS] = -1
    return WindowState(
        cursor,
        np.zeros(max(longest, 1), np.uint8),
        np.zeros((k, w, len(Cell)), np.float64),
        np.zeros((k, w + 1, STATS), np.int64),
        np.zeros((k, w), np.float64),
        np.zeros((k, 2), np.int64),
        np.zeros((w, CLOCK), np.int64),
        np.zeros((w, 3), np.int64),
        np.zeros((w, 3), np.float64),
    )


@jit
def link_previous(first: I64, kind: I32, key: I64, seed: int, table: I32, cursor: I64, budget: int, prev: I32) -> bool:
    """Link each event to the previous one of the same (user, kind, key), for up to `budget` more events.

    A hash table of 2 n slots per user: linear time also for a user with 10 M events, and unlike sorting it can stop
    anywhere. `seed` keeps chosen keys from colliding on purpose; it cannot change the result.

    first   (u+1,) int64     user i owns events first[i]:first[i+1]
    kind    (n,) int32       kind of each event
    key     (n,) int64       what is to be counted once
    table   (m,) int32       scratch, m >= 4 x the most events of one user
    cursor  (2,) int64       next user and next event, zeros at the start; moved
    prev    (n,) int32       out: index from the user's first event, -1 without a previous one
    returns true when every event is linked
    """
    u, i = cursor[0], cursor[1]
    end = min(i + budget, first[-1])
    while i < end:
        while first[u + 1] <= i:
            u += 1
        lo = first[u]
        n = first[u + 1] - lo
        mask = 3
        while mask < 2 * n:
            mask = 2 * mask + 1
        if i == lo:
            table[: mask + 1] = -1
        stop = min(end, lo + n)
        for e in range(i, stop):
            h = np.uint64(key[e]) ^ np.uint64(seed)
            h = (h ^ (h >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(kind[e])
            h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            slot = np.int64(h >> np.uint64(32)) & mask
            j = table[slot]
            while j >= 0 and (key[lo + j] != key[e] or kind[lo + j] != kind[e]):
                slot = (slot + 1) & mask
                j = table[slot]
            prev[e] = j
            table[slot] = e - lo
        i = stop
    cursor[0], cursor[1] = u, i
    return bool(i >= first[-1])


@jit
def _begin(events: EventColumns, pairs: Pairs, s: WindowState) -> None:
    """Clear the accumulators and find the events before as_of."""
    p = s.cursor[PAIR]
    u, as_of = pairs.user[p], pairs.as_of_us[p]
    lo, hi = events.first[u], events.first[u + 1]
    s.cursor[LO], s.cursor[POS] = lo, lo
    while lo < hi:
        mid = (lo + hi) // 2
        if events.t_us[mid] < as_of:
            lo = mid + 1
        else:
            hi = mid
    s.cursor[HI] = hi
    s.cursor[RING] = s.sums.shape[1] - 1
    s.counts[:] = 0
    s.sums[:] = 0.0
    s.seen[:] = 0
    s.clock[:] = 0
    s.orders[:] = NEVER
    s.spread[:] = 0.0


@jit
def _ring_before(link: I32, ring: U8, lo: int, i: int, none: int) -> int:
    """Ring of the previous *known* event of the same key, `none` without one, -1 if the event has no such key.

    Known events of a key share no unknown one between them, so these walks are linear over the whole scan.
    """
    j = link[i]
    if j == -2:
        return -1
    while j >= 0 and ring[j] == UNKNOWN:
        j = link[lo + j]
    return none if j < 0 else int(ring[j])


@jit
def _scan(events: EventColumns, links: Links, plan: Plan, pairs: Pairs, s: WindowState, end: int) -> None:
    """Add the events up to `end` to the accumulators."""
    t_us, kind, value, ring = events.t_us, events.kind, events.value, s.ring
    counts, sums = s.counts, s.sums
    p, lo, r = s.cursor[PAIR], s.cursor[LO], s.cursor[RING]
    as_of, known_at = pairs.as_of_us[p], pairs.known_at_us[p]
    w = sums.shape[1]
    for i in range(s.cursor[POS], end):
        k = kind[i]
        if k < 0 or events.ingested_us[i] > known_at:
            ring[i - lo] = UNKNOWN
            continue
        t, x = t_us[i], value[i]
        while r > 0 and t >= as_of - plan.widths_us[r - 1]:
            r -= 1
        ring[i - lo] = r
        if counts[k, w, Cell.EVENTS] == 0:  # the column past lifetime is summed into no window: a flag
            s.seen[k, 0], counts[k, w, Cell.EVENTS] = t, 1
        s.seen[k, 1] = t
        counts[k, r, Cell.EVENTS] += 1
        if not isnan(x):
            counts[k, r, Cell.VALUES] += 1
            for v in range(r, w):
                sums[k, v] += x
        q = _ring_before(links.item, ring, lo, i, w)
        if q >= 0:
            counts[k, r, Cell.ITEMS] += 1
            counts[k, q, Cell.ITEMS] -= 1
        q = _ring_before(links.day, ring, lo, i, w)
        counts[k, r, Cell.DAYS] += 1
        counts[k, q, Cell.DAYS] -= 1
        q = _ring_before(links.order, ring, lo, i, w)
        counts[k, r, Cell.ORDERS] += 1
        counts[k, q, Cell.ORDERS] -= 1
        if k == 0:
            s.clock[r, events.hour[i]] += 1
            s.clock[r, WEEKDAYS + events.weekday[i]] += 1
            if q > r:
                _new_order(s.orders, s.spread, t, r, q)
    s.cursor[POS], s.cursor[RING] = end, r


@jit
def _new_order(orders: I64, spread: F64, t: int, begin: int, end: int) -> None:
    """Note that one of the main kind's orders begins at `t` in the windows begin..end-1."""
    for v in range(begin, end):
        if orders[v, LAST] == NEVER:
            orders[v, FIRST] = t
        else:  # Welford: a running sum of squares cancels
            orders[v, GAP] = t - orders[v, LAST]
            days = orders[v, GAP] / DAY_US
            spread[v, 0] += 1.0
            delta = days - spread[v, 1]
            spread[v, 1] += delta / spread[v, 0]
            spread[v, 2] += delta * (days - spread[v, 1])
        orders[v, LAST] = t


@jit
def _finish(plan: Plan, pairs: Pairs, s: WindowState, out: F32) -> None:
    """Sum the rings into windows, the windows into cells, and write the pair's row."""
    p, cells, counts, sums, seen = s.cursor[PAIR], s.cells, s.counts, s.sums, s.seen
    as_of = pairs.as_of_us[p]
    kinds, w = sums.shape
    for k in range(kinds):
        for v in range(w):
            for c in range(STATS):
                if v > 0:
                    counts[k, v, c] += counts[k, v - 1, c]
                cells[k, v, c] = float(counts[k, v, c])
            cells[k, v, Cell.ONE] = 1.0
            cells[k, v, Cell.SUM_VALUE] = sums[k, v]
            cells[k, v, Cell.ORDERS_VALUED] = float(counts[k, v, Cell.ORDERS] if counts[k, v, Cell.VALUES] > 0 else 0)
        unseen = counts[k, w, Cell.EVENTS] == 0
        cells[k, w - 1, Cell.SINCE_LAST] = np.nan if unseen else float(as_of - seen[k, 1])
        cells[k, w - 1, Cell.SINCE_FIRST] = np.nan if unseen else float(as_of - seen[k, 0])
    _finish_main(pairs.weekday[p], as_of, s)
    codes = plan.codes
    for f in range(codes.shape[0]):
        over = cells[codes[f, 0], codes[f, 1], codes[f, 2]] * float(codes[f, 6])
        under = cells[codes[f, 3], codes[f, 4], codes[f, 5]] * float(codes[f, 7])
        x = over / under if under != 0.0 else np.nan
        out[p, f] = np.float32(x if isnan(x) else min(max(x, -F32_MAX), F32_MAX))


@jit
def _finish_main(weekday: int, as_of: int, s: WindowState) -> None:
    """Fill the cells that only the main kind has: gaps between orders, and rhythm."""
    cells, clock, orders, spread = s.cells, s.clock, s.orders, s.spread
    for v in range(orders.shape[0]):
        n, first, last = spread[v, 0], orders[v, FIRST], orders[v, LAST]
        cells[0, v, Cell.SINCE_ORDER] = np.nan if last == NEVER else float(as_of - last)
        cells[0, v, Cell.LAST_GAP] = np.nan if n == 0.0 else float(orders[v, GAP])
        cells[0, v, Cell.MEAN_GAP] = np.nan if n == 0.0 else float(last - first) / n
        cells[0, v, Cell.STD_GAP] = np.nan if n <= 1.0 else sqrt(spread[v, 2] / (n - 1.0))
        if v > 0:
            for c in range(CLOCK):
                clock[v, c] += clock[v - 1, c]
        sine, cosine = 0.0, 0.0
        for h in range(24):
            sine += float(clock[v, h]) * SIN_HOUR[h]
            cosine += float(clock[v, h]) * SIN_HOUR[(h + 6) % 24]
        cells[0, v, Cell.HOUR_SIN], cells[0, v, Cell.HOUR_COS] = sine, cosine
        for band in range(4):
            n_band = 0
            for h in range(6 * band, 6 * band + 6):
                n_band += clock[v, h]
            cells[0, v, Cell.NIGHT + band] = float(n_band)
        cells[0, v, Cell.WEEKEND] = float(clock[v, WEEKDAYS + 5] + clock[v, WEEKDAYS + 6])
        cells[0, v, Cell.SAME_WEEKDAY] = float(clock[v, WEEKDAYS + weekday])


@jit
def windowed_features(
    events: EventColumns, links: Links, plan: Plan, pairs: Pairs, state: WindowState, budget: int, out: F32
) -> bool:
    """Compute about `budget` events' worth of further pairs, going on where the last call stopped.

    Sums are float64 in event order, rounded once to float32 and clamped to its finite range.

    out     (p, f) float32   one row per pair, NaN where a feature has no value
    returns true when every pair is done
    """
    cursor = state.cursor
    while cursor[PAIR] < pairs.user.shape[0]:
        if budget <= 0:
            return False
        if cursor[POS] < 0:
            _begin(events, pairs, state)
            budget -= PAIR_COST + (plan.codes.shape[0] + state.cells.size) // 4
        end = min(cursor[HI], cursor[POS] + max(budget, 1))
        budget -= end - cursor[POS]
        _scan(events, links, plan, pairs, state, end)
        if end < cursor[HI]:
            return False
        _finish(plan, pairs, state, out)
        cursor[PAIR] += 1
        cursor[POS] = -1
    return True
