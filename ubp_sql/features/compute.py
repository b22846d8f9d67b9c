"""A feature set of many (user, moment) pairs, in chunks between which the caller may stop the work.

Also how long the rows stay right, and how stored rows age without a look at events.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Columns
from ubp_sql.features.events import MAX_TIME_US, Events
from ubp_sql.kernels.dispatch import (
    DAY_US,
    F32,
    F64,
    I64,
    LIFETIME_US,
    EventColumns,
    Pairs,
    Plan,
    Size,
    SpanColumn,
    backend,
)

CHUNK = 1 << 18
"""Events a call of a kernel works on: 1-35 ms on one core, far below the 150 ms that a cancel may take."""
_HASH_SEED = int.from_bytes(os.urandom(7), "little")
_COPIED = 1 << 22
"""Numbers that are copied between two pauses: some 10 ms."""


class Planned(Protocol):
    """What is asked of a definition: its kinds, the columns that its plan names by number, and the plan."""

    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def plan(self) -> Plan: ...


class Rows(NamedTuple):
    """What is known of p pairs."""

    features: F32  # (p, f) in the definition's order, NaN where there is no value
    anchors: F64  # (p, a) what `age_rows` needs to finish ageing features at another moment


def compute(
    events: Events,
    definition: Planned,
    pair_user: I64,
    as_of_us: I64,
    as_of_local_us: I64,
    known_at_us: I64 | None = None,
    between_chunks: Callable[[], None] | None = None,
    chunk: int = CHUNK,
    holidays: I64 | None = None,
) -> Rows:
    """Features of p (user, moment) pairs.

    An event counts iff its time is before as_of and it was ingested at or before known_at.

    pair_user       (p,) int64   index of the user in `events`, not falling
    as_of_us        (p,) int64   the moment, microseconds since 1970 UTC
    as_of_local_us  (p,) int64   the same moment on the source's clock
    known_at_us     (p,) int64   None: as_of
    between_chunks               called between chunks of at most ~100 ms; what it raises ends the work
    chunk                        events per chunk; changes no bit of the result
    holidays        (h,) int64   ascending days since 1970 that the key `holiday` is 1 on; None: none
    returns                      float64, newest event to oldest, rounded once to float32 and held within its finite
                                 range; counts are exact to 2**24

    Moments of a user that rise are cheapest: a step forward costs the events in the windows, not the history.

    Raises BadInput (UB003) on arrays of unequal length, users out of range or order, and moments beyond 2**61.
    """
    pause = between_chunks or (lambda: None)
    pairs = _pairs(events, pair_user, as_of_us, as_of_local_us, as_of_us if known_at_us is None else known_at_us)
    plan = definition.plan
    columns = _columns(events, definition, chunk, pause, holidays)
    out = np.empty((len(pairs.user), len(plan.formulas)), np.float32)
    anchors = np.empty((len(pairs.user), len(plan.anchors)), np.float64)
    if len(pairs.user):
        kernels = backend()
        low, high = int(pairs.as_of_us.min()), int(pairs.as_of_us.max())
        scan = kernels.new_scan(plan, events.longest, low, high, _HASH_SEED)
        while not kernels.run_pairs(plan, columns, pairs, scan, chunk, out, anchors):
            pause()
    pause()
    return Rows(out, anchors)


def valid_until(
    events: Events,
    definition: Planned,
    pair_user: I64,
    as_of_us: I64,
    between_chunks: Callable[[], None] | None = None,
    chunk: int = CHUNK,
    holidays: I64 | None = None,
) -> I64:
    """(p,) the last moment, from as_of on, at which `age_rows` gives each pair's row right, as known at that moment.

    One microsecond later an event enters or leaves a window. LIFETIME_US: never without a new event. Arguments as for
    `compute`; events after as_of and those ingested later must be among `events` where they exist.

    Raises BadInput (UB003) as `compute` does.
    """
    pause = between_chunks or (lambda: None)
    pairs = _pairs(events, pair_user, as_of_us, as_of_us, as_of_us)
    columns = _columns(events, definition, chunk, pause, holidays)
    widths, first = _finite_widths(definition.plan)
    until = np.empty(len(pairs.user), np.int64)
    cursor = np.zeros(5, np.int64)
    cursor[2] = -1
    kernels = backend()
    while not kernels.valid_until(definition.plan, widths, first, columns, pairs, cursor, chunk, until):
        pause()
    pause()
    return until


def age_rows(
    plan: Plan,
    features: F32,
    anchors: F64,
    as_of_us: int | I64,
    weekday: int | I64,
    between_chunks: Callable[[], None] | None = None,
    chunk: int = CHUNK,
) -> F32:
    """Stored rows at another moment, to the bit what `compute` gives there up to the rows' `valid_until`.

    features  (p, f) float32   of the moment that they were computed at; not changed
    anchors   (p, a) float64   computed with them
    as_of_us  int or (p,)      the moment to finish ageing features at
    weekday   int or (p,)      its local weekday, Monday 0

    Raises BadInput (UB003) where the arrays are not this plan's.
    """
    p, f, a = len(features), len(plan.formulas), len(plan.anchors)
    if features.shape != (p, f) or anchors.shape != (p, a):
        raise BadInput(f"age_rows: {features.shape} features and {anchors.shape} anchors, the plan has {f} and {a}")
    out = np.array(features, np.float32, order="C")
    if not a or not p:
        return out
    moments = np.array(np.broadcast_to(as_of_us, p), np.int64)
    days = np.array(np.broadcast_to(weekday, p), np.int64)
    if ((days < 0) | (days > 6)).any():
        raise BadInput("age_rows: a weekday is outside 0..6")
    cells, cursor = np.zeros(plan.sizes[Size.CELLS], np.float64), np.zeros(1, np.int64)
    stored = _plain(anchors, np.float64)
    while not backend().age_rows(plan, moments, days, cells, stored, cursor, chunk, out):
        if between_chunks:
            between_chunks()
    return out


def _pairs(events: Events, user: I64, as_of_us: I64, as_of_local_us: I64, known_at_us: I64) -> Pairs:
    names = ("pair_user", "as_of_us", "as_of_local_us", "known_at_us")
    user, as_of, local, known = (_plain(x, np.int64) for x in (user, as_of_us, as_of_local_us, known_at_us))
    for name, column in zip(names, (user, as_of, local, known), strict=True):
        if column.shape != (user.size,):
            raise BadInput(f"compute: {name} has shape {column.shape}, not ({user.size},)")
    if user.size and not (user[0] >= 0 and user[-1] < len(events.user_id) and (user[1:] >= user[:-1]).all()):
        raise BadInput(f"compute: pair_user falls or leaves 0..{len(events.user_id) - 1}")
    for name, column in zip(names[1:3], (as_of, local), strict=True):
        if column.size and not -MAX_TIME_US <= column.min() <= column.max() <= MAX_TIME_US:
            raise BadInput(f"compute: {name} is infinite or beyond the year 75,000")
    return Pairs(user, as_of, known, (local // DAY_US + 3) % 7)


def _columns(
    events: Events, definition: Planned, chunk: int, pause: Callable[[], None], holidays: I64 | None
) -> EventColumns:
    if chunk < 1:
        raise BadInput(f"compute: a chunk of {chunk} events")
    if len(events.kind) and not -1 <= events.kind.min() <= events.kind.max() < len(definition.kinds):
        raise BadInput(f"compute: an event's kind is outside -1..{len(definition.kinds) - 1}")
    if events.longest >= 1 << 31:
        raise BadInput("compute: a user has 2**31 events or more")
    names = definition.columns
    for name in {*names.numbers} - {*events.numbers} | {*names.keys} - {*events.keys}:
        raise BadInput(f"compute: the events were read without column {name!r}")
    n = len(events.t_us)
    return EventColumns(
        _plain(events.first, np.int64),
        _plain(events.t_us, np.int64),
        _plain(events.ingested_us, np.int64),
        _plain(events.offset_s, np.int32),
        _plain(events.kind, np.int32),
        _matrix([events.numbers[name] for name in names.numbers], n, np.float64, pause),
        _matrix([events.keys[name] for name in names.keys], n, np.int64, pause),
        np.zeros(0, np.int64) if holidays is None else _plain(holidays, np.int64),
    )


def _matrix(columns: Sequence[NDArray[Any]], n: int, dtype: Any, pause: Callable[[], None]) -> NDArray[Any]:
    """(q, n), without a copy where there is one column."""
    if len(columns) == 1:
        return _plain(columns[0], dtype)[None]
    made = np.empty((len(columns), n), dtype)
    for row, column in zip(made, columns, strict=True):
        for low in range(0, n, _COPIED):
            row[low : low + _COPIED] = column[low : low + _COPIED]
            pause()
    return made


class _Unlocked:
    """An array's memory as one that may be written: a read-only array is another type, for which Numba would compile
    every kernel again. No kernel writes to its arguments but the outputs."""

    def __init__(self, column: NDArray[Any]) -> None:
        self.column = column  # keeps the memory alive
        self.__array_interface__ = {**column.__array_interface__, "data": (column.ctypes.data, False)}


def _plain(values: Any, dtype: Any) -> NDArray[Any]:
    """Contiguous and of that type, and not marked read-only; a copy only where it must be."""
    column: NDArray[Any] = np.require(values, dtype, ["C", "A"])
    if not column.flags.writeable:
        column = np.asarray(_Unlocked(column))
    return column


def _finite_widths(plan: Plan) -> tuple[I64, I64]:
    """The finite widths of each stream's windows, descending, and where each stream's begin."""
    found: list[set[int]] = [set() for _ in range(len(plan.streams))]
    for span in plan.spans:
        edge = span[SpanColumn.EDGE]
        widths = plan.edges_us[edge : edge + span[SpanColumn.RINGS]]
        found[span[SpanColumn.STREAM]].update(int(width) for width in widths if width < LIFETIME_US)
    flat = [width for widths in found for width in sorted(widths, reverse=True)]
    return np.array(flat, np.int64), np.cumsum([0, *map(len, found)], dtype=np.int64)
