"""The kernels on a GPU through CuPy and numba.cuda, in processes of our own: never inside a server (DESIGN D3, D8).

Names, signatures and results are those of cpu.py; arguments may lie on the card already (CuPy arrays). Users go over in
parts that fit the card's free memory; while one part is computed, the next one is copied. Features are the CPU's bits
but for those of log and pow, whose last bit in float64 is the card's library's own.

Under numba.cuda's simulator (NUMBA_ENABLE_CUDASIM=1) NumPy stands for CuPy.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from ubp_sql.kernels import dispatch, scratch
from ubp_sql.kernels._gpu_card import Lane, arrays, kernels, lanes
from ubp_sql.kernels._gpu_card import card_name as card_name
from ubp_sql.kernels._gpu_card import fault as fault
from ubp_sql.kernels._gpu_card import simulated as simulated
from ubp_sql.kernels._gpu_card import software as software
from ubp_sql.kernels._gpu_parts import (
    bytes_a_thread,
    bytes_of,
    for_a_core,
    host,
    of_a_length,
    ranges,
    slice_events,
    slice_pairs,
    together,
    tree_batches,
    users_of,
)
from ubp_sql.kernels.dispatch import (
    F32,
    F64,
    I64,
    LANES,
    At,
    BitVectors,
    EventColumns,
    Pairs,
    Plan,
    Scan,
    Size,
    Trees,
)

__all__ = ["age_rows", "forest_bits", "forest_raw", "forest_score", "new_scan", "run_pairs", "valid_until"]

LEAST_EVENTS = 1 << 22
"""Of a part: below, launching and copying take longer than the work."""
PART = 1 << 28
"""Bytes of a part of what lies in the host's memory: so much is page-locked for each of two parts, of which one goes
over while the other is computed."""
CURSOR, POS = 5, 2
"""Of `valid_until`: as _cpu_valid.py has them, which imports Numba."""
CHUNK_STEPS = 1 << 62
"""As models/batch.py has it: no launch can be interrupted, and `forest_raw` cuts rows by the card's memory."""
SLOWER = 100.0
"""Times that one thread of a card takes as long as a core, an estimate (ADR 0023). 0: the card computes whom it can."""
A_PAIR = 40
"""What a pair takes of a core, in events."""
LONGEST = 1 << 16
"""Events of a user beyond which the CPU computes him in any case: a thread of the card would need 10 MB of scratch."""


class _Scan:
    """Between two calls of `run_pairs`: what it was made with, and the work under way."""

    def __init__(self, at: I64, room: int) -> None:
        self.at, self.room = at, room
        self.work: _Work | None = None


class _Work:
    """What `run_pairs` has done of the pairs that it was called with first."""

    def __init__(self, plan: Plan, events: EventColumns, pairs: Pairs, out: Any, anchors: Any) -> None:
        self.plan, self.events, self.pairs, self.out, self.anchors = plan, events, pairs, out, anchors
        self.first = host(events.first)
        self.lanes = lanes()
        self.resident = self.lanes[0].has(events.t_us)
        an_event = 0 if self.resident else bytes_of(events)
        a_pair = 4 * (len(plan.formulas) + 8) + 8 * len(plan.anchors)
        self.users = users_of(self.first, pairs.user, an_event, a_pair)
        self.next_user = 0
        self.ahead: _Part | None = None

    def is_for(self, *given: Any) -> bool:
        return all(a is b for a, b in zip(given, (self.events, self.pairs, self.out), strict=True))

    def put(self, lane: Lane, low: int, high: int, without: I64 | None = None) -> tuple[Any, Any]:
        """Events and pairs of some users, on the card; of events that are there already, all.

        without  places in `users` whose pairs get no event
        """
        users = self.users
        u, v = int(users.user[low]), int(users.user[high - 1]) + 1
        p, q = int(users.begin[low]), int(users.begin[high])
        if self.resident:
            return lane.put_all(self.events), lane.put_all(slice_pairs(self.pairs, p, q, 0))
        events, pairs = slice_events(self.events, self.first, u, v), slice_pairs(self.pairs, p, q, u)
        if without is not None and len(without):
            events = events._replace(first=np.append(events.first, events.first[-1]))
            pairs = pairs._replace(user=np.array(host(pairs.user)))
            pairs.user[ranges(users.begin[without], users.begin[without + 1]) - p] = v - u
        return lane.put_all(events), lane.put_all(pairs)


class _Part:
    """Some users under way in a lane; `finish` waits for them."""

    def __init__(self, work: _Work, scan: _Scan, low: int, high: int) -> None:
        self.work, self.low, self.high = work, low, high
        # Another one than that of the part before, which is under way.
        self.lane: Lane = work.lanes[0 if work.ahead is None or work.ahead.lane is work.lanes[1] else 1]
        events, pairs = work.users.events[low:high], np.diff(work.users.begin[low : high + 1])
        long = for_a_core(events + A_PAIR * pairs, SLOWER) | (events > LONGEST)
        self.short = np.flatnonzero(~long)
        # Fetched first: behind a launch that fills the card it would wait for its end.
        self.by_cpu = _ByCpu(work, low + np.flatnonzero(long)) if long.any() else None
        if len(self.short):
            with self.lane.here():
                self._start(scan)

    def _start(self, scan: _Scan) -> None:
        work, lane, xp = self.work, self.lane, self.lane.xp
        users, low, high = work.users, self.low, self.high
        p, q = int(users.begin[low]), int(users.begin[high])
        events, pairs = work.put(lane, low, high)
        plan, begin = lane.put_all(work.plan), lane.put(users.begin[low : high + 1] - p)
        outs = work.out[p:q], work.anchors[p:q]
        rooms = [lane.room_for(out) for out in outs]
        kernel = kernels("_gpu_pairs").run_users
        at = lane.put(scan.at)[:, None]
        for longest, chosen in of_a_length(users.events[low:high], self.short, LONGEST):
            together = min(len(chosen), max(1, scan.room // (2 * bytes_a_thread(work.plan, longest))))
            made = _scratch(xp, work.plan, longest, together, scan)
            arrays = Scan._make(lane.of_kernel(column) for column in made)
            for start in range(0, len(chosen), together):
                some = chosen[start : start + together]
                made.at[...] = at
                lane.launch(kernel, len(some), plan, events, pairs, arrays, begin, lane.put(some), *rooms)
            del made, arrays
        for room, out in zip(rooms, outs, strict=True):
            lane.take(room, out)

    def finish(self) -> None:
        """Computes the CPU's users while the card computes the others, and waits for it."""
        if self.by_cpu:
            self.by_cpu.compute()
        self.lane.finish()
        if self.by_cpu:
            self.by_cpu.write()


class _ByCpu:
    """Users of a part whom the CPU computes: their events and pairs in the host's memory, and then their rows."""

    def __init__(self, work: _Work, at: I64) -> None:
        users, xp = work.users, arrays()
        self.work, begin, end = work, users.begin[at], users.begin[at + 1]
        first, self.rows = work.first[users.user[at]], ranges(begin, end)
        whose = ranges(first, first + users.events[at])

        def fetched(column: Any, places: I64) -> Any:
            taken = column[..., xp.asarray(places) if work.lanes[0].has(column) else places]
            return np.ascontiguousarray(host(taken))

        _, *columns, holidays = work.events
        own = [fetched(column, whose) for column in columns]
        self.events = EventColumns._make([np.append(0, np.cumsum(users.events[at])), *own, host(holidays)])
        self.pairs = Pairs._make(fetched(column, self.rows) for column in work.pairs)
        self.pairs = self.pairs._replace(user=np.repeat(np.arange(len(at)), end - begin))
        self.made: list[tuple[Any, Any]] = []

    def compute(self) -> None:
        cpu, work, plan, events, pairs = _cpu(), self.work, self.work.plan, self.events, self.pairs
        low, high = int(pairs.as_of_us.min()), int(pairs.as_of_us.max())
        scan = cpu.new_scan(plan, int(np.diff(events.first).max()), low, high)
        out = np.empty((len(self.rows), len(plan.formulas)), np.float32)
        anchors = np.empty((len(self.rows), len(plan.anchors)), np.float64)
        while not cpu.run_pairs(plan, events, pairs, scan, LEAST_EVENTS, out, anchors):
            pass
        self.made = [(out, work.out), (anchors, work.anchors)]

    def until(self, widths_us: I64, first_width: I64, until_us: I64) -> None:
        """Their part of `valid_until`."""
        cpu, cursor, out = _cpu(), np.zeros(CURSOR, np.int64), np.empty(len(self.rows), np.int64)
        cursor[POS] = -1
        given = (self.work.plan, widths_us, first_width, self.events, self.pairs, cursor)
        while not cpu.valid_until(*given, LEAST_EVENTS, out):
            pass
        self.made = [(out, until_us)]

    def write(self) -> None:
        """When the card's rows, among which theirs hold nothing, are there."""
        xp, lane = arrays(), self.work.lanes[0]
        for made, wanted in self.made:
            there = lane.has(wanted)
            wanted[xp.asarray(self.rows) if there else self.rows] = xp.asarray(made) if there else made


def _cpu() -> dispatch.Backend:
    """The backend without a card, whatever `use` says: what is left to it must not come back here."""
    with dispatch.use(None):
        return dispatch.backend()


def new_scan(plan: Plan, longest: int, low_us: int, high_us: int, seed: int = 0) -> Any:
    """As `Backend.new_scan`; how many users are under way together goes by the card's free memory."""
    at = scratch.new_scan(plan, 1, low_us, high_us, seed).at
    return _Scan(at, lanes()[0].room())


def _scratch(xp: Any, plan: Plan, longest: int, threads: int, scan: _Scan) -> Scan:
    """`scratch.new_scan` for so many threads; nothing but `at` has to hold a value."""
    one = scratch.new_scan(plan, longest, int(scan.at[At.LOW_US]), int(scan.at[At.HIGH_US]))
    return Scan._make(xp.empty((*column.shape, threads), column.dtype) for column in one)


def run_pairs(plan: Plan, events: EventColumns, pairs: Pairs, scan: Any, budget: int, out: F32, anchors: F64) -> bool:
    """As `Backend.run_pairs`; a call is a part of the users, at least LEAST_EVENTS events or what the memory allows.

    Events and pairs on the card stay there, whichever of them are; so do `out` and `anchors`.
    """
    work = scan.work
    if work is None or not work.is_for(events, pairs, out):
        work = scan.work = _Work(plan, events, pairs, out, anchors)
    present = work.ahead or _next_part(work, scan, budget)
    if present is None:
        return True
    work.ahead = present
    try:
        work.ahead = _next_part(work, scan, budget)
    finally:
        present.finish()
    return work.ahead is None


def _next_part(work: _Work, scan: _Scan, budget: int) -> _Part | None:
    """Starts what comes next; None after the last user."""
    low, users = work.next_user, work.users
    if low >= len(users.user):
        return None
    most = scan.room // 2
    if not work.resident:
        most = min(most, bytes_of(work.events) * max(budget, LEAST_EVENTS))
    high = work.next_user = users.until(low, most)
    return _Part(work, scan, low, high)


def valid_until(
    plan: Plan,
    widths_us: I64,
    first_width: I64,
    events: EventColumns,
    pairs: Pairs,
    cursor: I64,
    budget: int,
    until_us: I64,
) -> bool:
    """As `Backend.valid_until`, all pairs in one call, as many at a time as the memory allows."""
    kernel = kernels("_gpu_pairs").until_of_pairs
    work, by_cpu = _Work(plan, events, pairs, until_us, until_us), []
    low, room, turn = 0, _room(work.lanes[0], work.resident), cycle(work.lanes)
    while low < len(work.users.user):
        high, lane = work.users.until(low, room), next(turn)
        lane.finish()
        p, q = int(work.users.begin[low]), int(work.users.begin[high])
        without = low + np.flatnonzero(for_a_core(work.users.events[low:high], 0.0 if work.resident else SLOWER))
        if len(without):
            by_cpu.append(_ByCpu(work, without))
        with lane.here():
            some = work.put(lane, low, high, without)
            until = lane.room_for(until_us[p:q])
            arrays = (lane.put_all(plan), lane.put(widths_us), lane.put(first_width), *some)
            lane.launch(kernel, q - p, *arrays, until)
            lane.take(until, until_us[p:q])
        low = high
    for those in by_cpu:
        those.until(widths_us, first_width, until_us)
    _finish(work.lanes)
    for those in by_cpu:
        those.write()
    return True


def age_rows(
    plan: Plan, as_of_us: I64, weekday: I64, cells: F64, anchors: F64, cursor: I64, budget: int, out: F32
) -> bool:
    """As `Backend.age_rows`, all rows in one call, as many at a time as the memory allows."""
    kernel = kernels("_gpu_pairs").aged_rows
    cells_a_row = int(plan.sizes[Size.CELLS])
    for lane, rows in _rows(out, 4 * out.shape[1] + 8 * (anchors.shape[1] + cells_a_row + 2)):
        with lane.here():
            some = lane.put(out[rows])
            n = len(some)
            given = (lane.put(as_of_us[rows]), lane.put(weekday[rows]))
            scratch_cells = lane.xp.empty((cells_a_row, n), np.float64)
            lane.launch(kernel, n, lane.put_all(plan), *given, scratch_cells, lane.put(anchors[rows]), some)
            lane.take(some, out[rows])
    return True


def _room(lane: Lane, resident: bool) -> int:
    return lane.room() if resident else min(lane.room(), PART)


def _rows(given: Any, a_row: int) -> Iterator[tuple[Lane, slice]]:
    """Rows, as many at a time as the memory allows, each part in the lane that is free; waits for all of them."""
    both, count = lanes(), len(given)
    step = max(1, _room(both[0], both[0].has(given)) // a_row)
    for lane, low in zip(cycle(both), range(0, count, step), strict=False):
        lane.finish()
        yield lane, slice(low, min(low + step, count))
    _finish(both)


def _finish(both: tuple[Lane, Lane]) -> None:
    for lane in both:
        lane.finish()


def forest_raw(x: F32, trees: Trees, outputs: int) -> F64:
    """As `Backend.forest_raw`: the same bits, on the card where `x` is."""
    forest = kernels("_gpu_forest")
    batch, lowest = tree_batches(trees, forest.HELD)

    def add(lane: Lane, some: Any, total: Any) -> None:
        arrays = (lane.xp.ascontiguousarray(some.T), lane.put_all(trees), lane.put(batch), lane.put(lowest), total)
        lane.launch(forest.add_leaves, len(some), *arrays, block=forest.ROWS)

    return _sums(x, outputs, 4 * x.shape[1], add)


def forest_bits(x: F32, form: BitVectors, outputs: int) -> F64:
    """As `Backend.forest_bits`: the same bits, on the card where `x` is."""
    forest = kernels("_gpu_forest")
    batch = together(host(form.bounds)[3 * host(form.word_first)], forest.HELD)
    form = form._replace(column=host(form.column) // LANES)

    def add(lane: Lane, some: Any, total: Any) -> None:
        block = lane.xp.empty((len(form.columns), len(some)), np.float32)
        lane.launch(forest.by_columns, len(some), some, lane.put(form.columns), block, block=forest.ROWS)
        lane.launch(forest.add_bits, len(some), block, lane.put_all(form), lane.put(batch), total, block=forest.ROWS)

    return _sums(x, outputs, 4 * len(form.columns), add)


def _sums(x: Any, outputs: int, a_row: int, add: Callable[[Lane, Any, Any], None]) -> F64:
    """(r, k) of what `add` adds to zeros (k, some rows), rows taking `a_row` bytes beside themselves and their sums."""
    out: F64 = (arrays() if lanes()[0].has(x) else np).empty((len(x), outputs))
    for lane, rows in _rows(x, 4 * x.shape[1] + 16 * outputs + a_row):
        with lane.here():
            some = lane.put(x[rows])
            total = lane.xp.zeros((outputs, len(some)))
            add(lane, some, total)
            lane.take(lane.xp.ascontiguousarray(total.T), out[rows])
    return out


def forest_score(raw: F64, divisor: float, link: int, parameter: float) -> F64:
    """As `Backend.forest_score`, by the CPU: its exp and log1p are the ones that make LightGBM's bits."""
    return _cpu().forest_score(np.ascontiguousarray(host(raw)), divisor, link, parameter)
