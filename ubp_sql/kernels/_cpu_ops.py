"""The plain operations on values and times: what each adds for a slice of a ring, and how it becomes cells.

**How to write an operation.** Two functions under `@op` (inlined by LLVM into the engine's loop):

    <name>_ring(plan, events, s, o, v, top, bottom)   take entries top-1, top-2, ... bottom (newest to oldest), all of
                                                       ring v of operation o. May be called several times for a ring
                                                       (budgets), not at all for an empty one; rings come ascending,
                                                       that is newest first. State: s.acc[ACC:ACC+N_ACC] and
                                                       s.tim[TIM:TIM+N_TIM], zeros at the start, and s.marks rows.
    <name>_done(plan, events, s, o)                    fill s.cells[CELL + v*STRIDE + j] for every ring v < RINGS from
                                                       the state; empty rings too; cumulative windows are sums of rings.

Entry j is event `s.at[At.LO] + s.stream[s.at[At.BANK] + STREAM, j]`. Kind, condition, known_at and as_of need no check:
all entries in the slice count. The time of entry j+1 is the next event's of the stream, if j+1 < s.tops[STREAM].
No allocation, no exception, no Python object; a result may not depend on how slices are cut.

Sums are float64, newest to oldest within a ring and then ring by ring, never differences of prefix sums: a user's NaN
or 1e308 stays with the user and with the windows that hold it.
"""

from decimal import Decimal
from math import sqrt

import numpy as np

from ubp_sql.kernels._cpu_jit import entry, number_at, op, time_at
from ubp_sql.kernels.dispatch import ANCHOR_EPOCH_US, At, EventColumns, OpColumn, Param, Plan, Scan

CODE, STREAM, RINGS, CUMULATIVE, BOUND = (
    int(OpColumn.CODE),
    int(OpColumn.STREAM),
    int(OpColumn.RINGS),
    int(OpColumn.CUMULATIVE),
    int(OpColumn.BOUND),
)
NUMBER, KEY, LINK, SIZE = int(OpColumn.NUMBER), int(OpColumn.KEY), int(OpColumn.LINK), int(OpColumn.SIZE)
CELL, STRIDE, ACC, TIM, MARK = (
    int(OpColumn.CELL),
    int(OpColumn.STRIDE),
    int(OpColumn.ACC),
    int(OpColumn.TIM),
    int(OpColumn.MARK),
)
P0 = int(Param.P0)
LO, BANK, LINK_BANK = int(At.LO), int(At.BANK), int(At.LINK_BANK)
MAX_EXPONENT = 1080.0  # 2**-1080 is 0 in float64
POWERS = np.array([2.0**-k for k in range(int(MAX_EXPONENT) + 2)])
# Rounded from 28 digits: one libm's last bit would make one machine's features differ from another's.
PARTS = np.array([float(Decimal(2) ** (Decimal(-k) / 64)) for k in range(64)])


@op
def since_epoch(t_us: int) -> float:
    """A time as cells hold it: exact from 1815 to 2385."""
    return float(t_us - ANCHOR_EPOCH_US)


@op
def count_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cell: events. The bounds say it all."""
    ops, bounds = plan.ops, s.bounds
    cell, first = ops[o, CELL], ops[o, BOUND]
    for v in range(ops[o, RINGS]):
        top = bounds[first] if ops[o, CUMULATIVE] else bounds[first + v]
        s.cells[cell + v] = float(top - bounds[first + v + 1])


@op
def sum_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Count the values of ring v, and add them."""
    ops, stream, numbers = plan.ops, s.stream, events.numbers
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    acc, tim = ops[o, ACC] + v, ops[o, TIM] + v
    total, n = s.acc[acc], s.tim[tim]
    for j in range(top - 1, bottom - 1, -1):
        x = number_at(numbers, number, lo + entry(stream, row, j))
        if x == x:
            total += x
            n += 1
    s.acc[acc], s.tim[tim] = total, n


@op
def sum_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: events with a value, their sum."""
    ops = plan.ops
    acc, tim, cell, cumulative = ops[o, ACC], ops[o, TIM], ops[o, CELL], ops[o, CUMULATIVE] == 1
    total, n = 0.0, 0
    for v in range(ops[o, RINGS]):
        total = total + s.acc[acc + v] if cumulative else s.acc[acc + v]
        n = n + s.tim[tim + v] if cumulative else s.tim[tim + v]
        s.cells[cell + 2 * v] = float(n)
        s.cells[cell + 2 * v + 1] = total


@op
def extrema_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Least and greatest value of ring v."""
    ops, stream, numbers = plan.ops, s.stream, events.numbers
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    acc, tim = ops[o, ACC] + 2 * v, ops[o, TIM] + v
    seen = s.tim[tim]
    least, most = (s.acc[acc], s.acc[acc + 1]) if seen else (np.inf, -np.inf)
    for j in range(top - 1, bottom - 1, -1):
        x = number_at(numbers, number, lo + entry(stream, row, j))
        if x == x:
            least, most = min(least, x), max(most, x)
            seen = 1
    s.acc[acc], s.acc[acc + 1], s.tim[tim] = least, most, seen


@op
def extrema_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: least, greatest."""
    ops = plan.ops
    acc, tim, cell = ops[o, ACC], ops[o, TIM], ops[o, CELL]
    seen, least, most = False, np.inf, -np.inf
    for v in range(ops[o, RINGS]):
        if ops[o, CUMULATIVE] == 0:
            seen, least, most = False, np.inf, -np.inf
        if s.tim[tim + v]:
            least, most = min(least, s.acc[acc + 2 * v]), max(most, s.acc[acc + 2 * v + 1])
            seen = True
        s.cells[cell + 2 * v] = least if seen else np.nan
        s.cells[cell + 2 * v + 1] = most if seen else np.nan


@op
def spread_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Sum and sum of squares of the values of ring v less its newest value.

    As c is one of the values, (c - mean)^2 <= sum of squared deviations, so subtracting S^2/n from the sum of squares
    loses at most a factor n + 1 of float64's precision; Welford's division at every event would cost four times more.
    """
    ops, stream, numbers = plan.ops, s.stream, events.numbers
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    acc, tim = ops[o, ACC] + 3 * v, ops[o, TIM] + v
    c, total, squares, n = s.acc[acc], s.acc[acc + 1], s.acc[acc + 2], s.tim[tim]
    for j in range(top - 1, bottom - 1, -1):
        x = number_at(numbers, number, lo + entry(stream, row, j))
        if x == x:
            if n == 0:
                c = x
            total += x - c
            squares += (x - c) * (x - c)
            n += 1
    s.acc[acc], s.acc[acc + 1], s.acc[acc + 2], s.tim[tim] = c, total, squares, n


@op
def spread_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cell: sample deviation. Rings merge as in Chan, Golub, LeVeque (1979); NaN where squares overflow."""
    ops = plan.ops
    acc, tim, cell = ops[o, ACC], ops[o, TIM], ops[o, CELL]
    n, mean, m2 = 0.0, 0.0, 0.0
    for v in range(ops[o, RINGS]):
        if ops[o, CUMULATIVE] == 0:
            n, mean, m2 = 0.0, 0.0, 0.0
        m = float(s.tim[tim + v])
        if m > 0.0:
            total = s.acc[acc + 3 * v + 1]
            delta = s.acc[acc + 3 * v] + total / m - mean
            m2 += max(s.acc[acc + 3 * v + 2] - total * total / m, 0.0) + delta * delta * (n * m / (n + m))
            mean += delta * (m / (n + m))
            n += m
        s.cells[cell + v] = sqrt(m2 / (n - 1.0)) if n > 1.0 and m2 < np.inf else np.nan


@op
def seen_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: time of the newest and of the oldest event. The bounds say where they are."""
    ops, bounds = plan.ops, s.bounds
    cell, first, lo, row = ops[o, CELL], ops[o, BOUND], s.at[LO], s.at[BANK] + ops[o, STREAM]
    for v in range(ops[o, RINGS]):
        top = bounds[first] if ops[o, CUMULATIVE] else bounds[first + v]
        bottom = bounds[first + v + 1]
        some = top > bottom
        s.cells[cell + 2 * v] = since_epoch(events.t_us[lo + s.stream[row, top - 1]]) if some else np.nan
        s.cells[cell + 2 * v + 1] = since_epoch(events.t_us[lo + s.stream[row, bottom]]) if some else np.nan


@op
def first_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """The oldest value of the slice; a later, that is older, slice overrides it."""
    ops, stream, numbers = plan.ops, s.stream, events.numbers
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    for j in range(bottom, top):
        x = number_at(numbers, number, lo + entry(stream, row, j))
        if x == x:
            s.acc[ops[o, ACC] + v], s.tim[ops[o, TIM] + v] = x, 1
            break


@op
def first_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cell: the value of the oldest ring that has one."""
    ops = plan.ops
    x = np.nan
    for v in range(ops[o, RINGS]):
        if s.tim[ops[o, TIM] + v]:
            x = s.acc[ops[o, ACC] + v]
        elif ops[o, CUMULATIVE] == 0:
            x = np.nan
        s.cells[ops[o, CELL] + v] = x


@op
def last_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """The newest values, until there are SIZE."""
    ops, stream, numbers = plan.ops, s.stream, events.numbers
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    n, size, acc = s.tim[ops[o, TIM]], ops[o, SIZE], ops[o, ACC]
    j = top - 1
    while j >= bottom and n < size:
        x = number_at(numbers, number, lo + entry(stream, row, j))
        if x == x:
            s.acc[acc + n] = x
            n += 1
        j -= 1
    s.tim[ops[o, TIM]] = n


@op
def last_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: the values, newest first."""
    ops = plan.ops
    n = s.tim[ops[o, TIM]]
    for k in range(ops[o, SIZE]):
        s.cells[ops[o, CELL] + k] = s.acc[ops[o, ACC] + k] if k < n else np.nan


@op
def one_window_gaps(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """`gaps_ring` where every event is a start and v the only window to tell: twice as fast, with state at hand."""
    ops, stream, t_us = plan.ops, s.stream, events.t_us
    lo, row, acc, tim = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, ACC] + 3 * v, ops[o, TIM] + 4 * v
    n, newer, c, total, squares = s.tim[tim], s.tim[tim + 2], s.acc[acc], s.acc[acc + 1], s.acc[acc + 2]
    for j in range(top - 1, bottom - 1, -1):
        t = time_at(t_us, lo + entry(stream, row, j))
        if n == 0:
            s.tim[tim + 1] = t
        else:
            gap = newer - t
            if n == 1:
                s.tim[tim + 3] = gap
                c = float(gap)
            more = (float(gap) - c) * (1.0 / 86_400_000_000.0)
            total += more
            squares += more * more
        n += 1
        newer = t
    s.tim[tim], s.tim[tim + 2], s.acc[acc], s.acc[acc + 1], s.acc[acc + 2] = n, newer, c, total, squares


@op
def gaps_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Starts of ring v and the gaps before the starts that were met earlier.

    An event whose key has an older event in ring q is a start in the windows v..q-1: state is by window, not by ring.
    Deviations as in `spread_ring`, in days from the newest gap.
    """
    ops, stream, t_us, bounds = plan.ops, s.stream, events.t_us, s.bounds
    lo, row, link = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, LINK]
    first = ops[o, BOUND] + 1
    end = ops[o, RINGS] if ops[o, CUMULATIVE] else v + 1
    if link < 0 and v + 1 == end:
        one_window_gaps(plan, events, s, o, v, top, bottom)
        return
    for j in range(top - 1, bottom - 1, -1):
        older = -1
        if link >= 0:
            older = entry(s.before, s.at[LINK_BANK] + link, j)
            if older < -1:
                continue
        t = time_at(t_us, lo + entry(stream, row, j))
        for u in range(v, end):
            if older >= bounds[first + u]:
                break
            acc, tim = ops[o, ACC] + 3 * u, ops[o, TIM] + 4 * u
            n = s.tim[tim]
            if n == 0:
                s.tim[tim + 1] = t
            else:
                gap = s.tim[tim + 2] - t
                if n == 1:
                    s.tim[tim + 3] = gap
                    s.acc[acc] = float(gap)
                more = (float(gap) - s.acc[acc]) * (1.0 / 86_400_000_000.0)
                s.acc[acc + 1] += more
                s.acc[acc + 2] += more * more
            s.tim[tim] = n + 1
            s.tim[tim + 2] = t


@op
def gaps_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: gaps, their mean in us, deviation in days, the newest gap in us, time of the newest start."""
    ops = plan.ops
    for v in range(ops[o, RINGS]):
        acc, tim, cell = ops[o, ACC] + 3 * v, ops[o, TIM] + 4 * v, ops[o, CELL] + 5 * v
        n = float(s.tim[tim] - 1)
        squares = s.acc[acc + 2] - s.acc[acc + 1] * s.acc[acc + 1] / n
        s.cells[cell] = max(n, 0.0)
        s.cells[cell + 1] = float(s.tim[tim + 1] - s.tim[tim + 2]) / n if n > 0.0 else np.nan
        s.cells[cell + 2] = sqrt(max(squares, 0.0) / (n - 1.0)) if n > 1.0 else np.nan
        s.cells[cell + 3] = float(s.tim[tim + 3]) if n > 0.0 else np.nan
        s.cells[cell + 4] = since_epoch(s.tim[tim + 1]) if n >= 0.0 else np.nan


@op
def half_to(y: float) -> float:
    """2**-y for 0 <= y < MAX_EXPONENT, by our own arithmetic: the same bits on every machine. Error below 1e-15 of it.

    2**-y = 2**-a * 2**-(b/64) * exp(z) with |z| <= ln 2 / 128: two tables and a polynomial of degree 5.
    """
    k = np.int64(y * 64.0 + 0.5)
    z = (float(k) * (1.0 / 64.0) - y) * 0.6931471805599453
    p = z * (1.0 / 120.0) + 1.0 / 24.0
    p = p * z + 1.0 / 6.0
    p = p * z + 0.5
    p = p * z + 1.0
    p = p * z + 1.0
    return float(p * PARTS[k & 63] * POWERS[k >> 6])


@op
def decay_ring(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Add value (or 1) by its age at the newest such event, halved every P0."""
    ops, stream, numbers, t_us = plan.ops, s.stream, events.numbers, events.t_us
    lo, row, number = s.at[LO], s.at[BANK] + ops[o, STREAM], ops[o, NUMBER]
    acc, tim = ops[o, ACC], ops[o, TIM]
    newest, seen, total = s.tim[tim], s.tim[tim + 1], s.acc[acc]
    rate = 1.0 / plan.params[o, P0]
    for j in range(top - 1, bottom - 1, -1):
        i = lo + entry(stream, row, j)
        x = number_at(numbers, number, i) if number >= 0 else 1.0
        if x == x:
            if seen == 0:
                newest, seen = time_at(t_us, i), 1
            y = float(newest - time_at(t_us, i)) * rate
            if y < MAX_EXPONENT:
                total += x * half_to(y)
    s.tim[tim], s.tim[tim + 1], s.acc[acc] = newest, seen, total


@op
def decay_done(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Cells: the sum as of the newest event, and that event's time."""
    ops = plan.ops
    s.cells[ops[o, CELL]] = s.acc[ops[o, ACC]]
    s.cells[ops[o, CELL] + 1] = since_epoch(s.tim[ops[o, TIM]]) if s.tim[ops[o, TIM] + 1] else np.nan
