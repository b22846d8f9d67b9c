"""Operations on what users do one after the other: words, funnels, sessions, dwell (docs/behaviour-features.md).

Written as _cpu_ops.py says. A pause between two events belongs to the ring of the older one: exactly the windows that
hold both sum it.
"""

import numpy as np

from ubp_sql.kernels._cpu_jit import entry, op, time_at
from ubp_sql.kernels._cpu_keys import newer_bound
from ubp_sql.kernels._cpu_ops import (
    ACC,
    BANK,
    BOUND,
    CELL,
    CUMULATIVE,
    KEY,
    LO,
    RINGS,
    SIZE,
    STREAM,
    STRIDE,
    TIM,
    since_epoch,
)
from ubp_sql.kernels.codes import STEP_BITS
from ubp_sql.kernels.dispatch import At, EventColumns, OpColumn, Param, Plan, Scan

KINDS, STEPS, P0, AS_OF = int(OpColumn.KINDS), int(OpColumn.STEPS), int(Param.P0), int(At.AS_OF)
nan = float("nan")
WORD_BITS = 64
# State of SESSIONS, per ring: pauses that end a session, the sum of those that do not, sessions of one event.
BREAKS, INSIDE_US, BOUNCES = 0, 1, 2
# State of LAST_SESSION.
EVENTS, END_US, START_US, CLOSED = 0, 1, 2, 3


@op
def words_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Count per bucket the events of which a word falls into it."""
    ops, stream, tim = plan.ops, s.stream, s.tim
    lo, row, masks = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, KEY]
    size = ops[o, SIZE]
    at = ops[o, TIM] + v * size
    for j in range(top - 1, bottom - 1, -1):
        mask = events.keys[np.uintp(masks), np.uintp(lo + entry(stream, row, j))]
        folded = mask
        for shift in range(size, WORD_BITS, size):
            part = mask >> shift
            if WORD_BITS - shift < size:  # the shift repeats the sign bit above them
                part &= (1 << (WORD_BITS - shift)) - 1
            folded |= part
        for bit in range(min(size, WORD_BITS)):
            tim[np.uintp(at + bit)] += (folded >> bit) & 1


@op
def words_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: events with a word of bucket 0, 1, ..."""
    ops, tim, cells = plan.ops, s.tim, s.cells
    at, cell, size, stride = ops[o, TIM], ops[o, CELL], ops[o, SIZE], ops[o, STRIDE]
    for bit in range(size):
        n = 0
        for v in range(ops[o, RINGS]):
            if ops[o, CUMULATIVE] == 0:
                n = 0
            n += tim[at + v * size + bit]
            cells[cell + v * stride + bit] = float(n)


@op
def funnel_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Count how far the ring's starts get.

    ends[d, j], behind the rings' counts, is when the chain of steps j..d ends that ends first among the events seen, 0
    without one: times are taken from as_of, so that all are below 0. An older event of step j can only end it sooner
    or as soon: it goes before the chain of steps j+1..d, which ascending j leaves as it was before this event.
    """
    ops, stream, tim = plan.ops, s.stream, s.tim
    lo, row, as_of = s.at[LO], s.at[BANK] + ops[o, STREAM], s.at[AS_OF]
    steps, size, bound = ops[o, STEPS], ops[o, SIZE], int(plan.params[o, P0])
    ends = ops[o, TIM] + ops[o, RINGS] * (1 + size)
    count = ops[o, TIM] + v * (1 + size)
    for e in range(top - 1, bottom - 1, -1):
        i = lo + entry(stream, row, e)
        t, step = time_at(events.t_us, i) - as_of, events.kind[np.uintp(i)] + 1
        for j in range(size):
            if (steps >> (STEP_BITS * j)) & ((1 << STEP_BITS) - 1) == step:
                tim[np.uintp(ends + j * size + j)] = t
                for d in range(j + 1, size):
                    at = ends + d * size + j
                    tim[np.uintp(at)] = tim[np.uintp(at + 1)]
        if steps & ((1 << STEP_BITS) - 1) == step:
            reached = 0
            while reached < size and tim[ends + reached * size] < 0 and tim[ends + reached * size] - t <= bound:
                reached += 1
                tim[count + reached] += 1
            tim[count] = max(tim[count], reached)


@op
def funnel_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: the deepest step reached, starts that reach step 1, 2, ..."""
    ops, tim, cells = plan.ops, s.tim, s.cells
    at, cell, width, stride = ops[o, TIM], ops[o, CELL], 1 + ops[o, SIZE], ops[o, STRIDE]
    for step in range(width):
        n = 0
        for v in range(ops[o, RINGS]):
            if ops[o, CUMULATIVE] == 0:
                n = 0
            x = tim[at + v * width + step]
            n = max(n, x) if step == 0 else n + x
            cells[cell + v * stride + step] = float(n)


@op
def sessions_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Cut the ring's pauses into those that end a session and those inside one.

    An event is a session of one in the windows that hold it, but not an older event within the timeout: it is counted
    at its own ring, if no newer event is near, and taken back at the ring of such an older one.
    """
    ops, stream, tim, t_us = plan.ops, s.stream, s.tim, events.t_us
    lo, row, timeout = s.at[LO], s.at[BANK] + ops[o, STREAM], int(plan.params[o, P0])
    at = ops[o, TIM] + 3 * v
    end = newer_bound(plan, s, o, v)
    newer, alone = 0, False  # of the entry after j: its time, and whether nothing follows it in time
    if top < end:
        newer = time_at(t_us, lo + entry(stream, row, top))
        alone = top + 1 >= end or time_at(t_us, lo + entry(stream, row, top + 1)) - newer > timeout
    for j in range(top - 1, bottom - 1, -1):
        t = time_at(t_us, lo + entry(stream, row, j))
        if j + 1 < end and newer - t <= timeout:
            tim[at + INSIDE_US] += newer - t
            if alone:
                tim[at + BOUNCES] -= 1
            alone = False
        else:
            if j + 1 < end:
                tim[at + BREAKS] += 1
            tim[at + BOUNCES] += 1
            alone = True
        newer = t


@op
def sessions_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: sessions, their events, total length in us, sessions of one event."""
    ops, tim, cells = plan.ops, s.tim, s.cells
    at, cell, stride, bound = ops[o, TIM], ops[o, CELL], ops[o, STRIDE], ops[o, BOUND]
    n, breaks, inside_us, bounces = 0, 0, 0, 0
    for v in range(ops[o, RINGS]):
        if ops[o, CUMULATIVE] == 0:
            n, breaks, inside_us, bounces = 0, 0, 0, 0
        n += s.bounds[bound + v] - s.bounds[bound + v + 1]
        breaks += tim[at + 3 * v + BREAKS]
        inside_us += tim[at + 3 * v + INSIDE_US]
        bounces += tim[at + 3 * v + BOUNCES]
        cells[cell + v * stride] = float(breaks + 1 if n > 0 else 0)
        cells[cell + v * stride + 1] = float(n)
        cells[cell + v * stride + 2] = float(inside_us)
        cells[cell + v * stride + 3] = float(bounces)


@op
def last_session_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Follow the newest session back to the first pause of more than the timeout."""
    ops, stream, tim = plan.ops, s.stream, s.tim
    lo, row, timeout = s.at[LO], s.at[BANK] + ops[o, STREAM], int(plan.params[o, P0])
    at = ops[o, TIM]
    for j in range(top - 1, bottom - 1, -1):
        t = time_at(events.t_us, lo + entry(stream, row, j))
        if tim[at + EVENTS] > 0 and tim[at + START_US] - t > timeout:
            tim[at + CLOSED] = 1
        if tim[at + CLOSED] != 0:
            break
        if tim[at + EVENTS] == 0:
            tim[at + END_US] = t
        tim[at + START_US] = t
        tim[at + EVENTS] += 1


@op
def last_session_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: length in us, time of the end and number of events of the newest session; NaN without an event."""
    at, cell = plan.ops[o, TIM], plan.ops[o, CELL]
    n = s.tim[at + EVENTS]
    s.cells[cell] = float(s.tim[at + END_US] - s.tim[at + START_US]) if n > 0 else nan
    s.cells[cell + 1] = since_epoch(s.tim[at + END_US]) if n > 0 else nan
    s.cells[cell + 2] = float(n) if n > 0 else nan


@op
def dwell_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Add up the times from the ring's events of the operation's kinds to the next event that ends the stay.

    When that was is kept behind the rings' counts, from as_of: below 0, and 0 before there is one.
    """
    ops, stream, tim = plan.ops, s.stream, s.tim
    lo, row, as_of = s.at[LO], s.at[BANK] + ops[o, STREAM], s.at[AS_OF]
    kinds, until, timeout = ops[o, KINDS], ops[o, STEPS], int(plan.params[o, P0])
    acc, count = ops[o, ACC] + v, ops[o, TIM] + v
    following = ops[o, TIM] + ops[o, RINGS]
    total, n, after = s.acc[acc], tim[count], tim[following]
    for j in range(top - 1, bottom - 1, -1):
        i = lo + entry(stream, row, j)
        t, kind = time_at(events.t_us, i) - as_of, events.kind[np.uintp(i)]
        if (kinds >> kind) & 1 and after < 0 and after - t <= timeout:
            total += float(after - t)
            n += 1
        if (until >> kind) & 1:
            after = t
    s.acc[acc], tim[count], tim[following] = total, n, after


@op
def dwell_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: events that another follows in time, the sum of those times in us."""
    ops = plan.ops
    acc, tim, cell, stride = ops[o, ACC], ops[o, TIM], ops[o, CELL], ops[o, STRIDE]
    total, n = 0.0, 0
    for v in range(ops[o, RINGS]):
        if ops[o, CUMULATIVE] == 0:
            total, n = 0.0, 0
        total += s.acc[acc + v]
        n += s.tim[tim + v]
        s.cells[cell + v * stride] = float(n)
        s.cells[cell + v * stride + 1] = total
