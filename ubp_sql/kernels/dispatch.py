"""What features and every backend agree on (cells, layout of the arrays), and which backend runs.

Imports NumPy only: a feature set can be listed without paying for Numba. A backend is a module (`cpu`, later `gpu`)
that exports `link_previous`, `window_state` and `windowed_features` with equal signatures and defaults.
"""

from enum import IntEnum
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
OTHER_KIND = -1
"""Kind of an event that the definition does not name: it counts nowhere."""
MAX_WINDOWS = 32


class Cell(IntEnum):
    """What the kernels compute of one (kind, window); a feature is a ratio of two of these. Times in microseconds.

    The first five are counts. SINCE_LAST and SINCE_FIRST stand in the lifetime window only; from SINCE_ORDER on a cell
    is the main kind's (kind 0) only. An order's time is that of its first event in the window; a gap is the time from
    one order to the next. A time that does not exist is NaN.
    """

    EVENTS = 0
    VALUES = 1  # events with a value
    ORDERS = 2
    ITEMS = 3
    DAYS = 4
    ONE = 5  # 1.0
    SUM_VALUE = 6
    ORDERS_VALUED = 7  # orders, 0 if no event has a value
    SINCE_LAST = 8
    SINCE_FIRST = 9
    SINCE_ORDER = 10
    LAST_GAP = 11
    MEAN_GAP = 12
    STD_GAP = 13  # sample deviation, in days
    HOUR_SIN = 14  # sum over events of sin(2 pi hour / 24), hour a whole number
    HOUR_COS = 15
    NIGHT = 16  # events at local hours 0-5, then 6-11, 12-17, 18-23
    MORNING = 17
    AFTERNOON = 18
    EVENING = 19
    WEEKEND = 20  # events on Saturday or Sunday
    SAME_WEEKDAY = 21  # events on the moment's own weekday


class EventColumns(NamedTuple):
    """Events of u users sorted by (user, time, ingested, id); user i owns first[i]:first[i+1]."""

    first: I64  # (u+1,)
    t_us: I64  # (n,) microseconds since 1970 UTC
    ingested_us: I64  # (n,)
    kind: I32  # (n,) 0..k-1 or OTHER_KIND
    value: F64  # (n,) NaN = missing
    hour: U8  # (n,) local hour 0..23
    weekday: U8  # (n,) local weekday, Monday 0


class Links(NamedTuple):
    """Per event: where, counted from its user's first event, the previous one with the same (user, kind, key) is.

    -1: there is none. -2: the event has no such key (a missing item).
    """

    order: I32  # (n,)
    item: I32  # (n,)
    day: I32  # (n,)


class Plan(NamedTuple):
    """A feature set as the kernels read it. Window w is [as_of - widths_us[w], as_of); the last one is lifetime.

    A row of codes is (kind, window, cell), (kind, window, cell), m, d: the feature is (first x m) / (second x d), NaN
    when the second is 0.
    """

    widths_us: I64  # (w,) ascending; the last, lifetime, is not read
    codes: I64  # (f, 8)
    kinds: int


class Pairs(NamedTuple):
    """The (user, moment) pairs to compute; an event counts iff t < as_of and ingested <= known_at."""

    user: I64  # (p,) index of the user
    as_of_us: I64  # (p,)
    known_at_us: I64  # (p,)
    weekday: I64  # (p,) local weekday of as_of, Monday 0


class Backend(Protocol):
    """The operations that each backend module exports."""

    def link_previous(
        self, first: I64, kind: I32, key: I64, seed: int, table: I32, cursor: I64, budget: int, prev: I32
    ) -> bool:
        """Fill `prev` for up to `budget` more events; true when all are done."""

    def window_state(self, plan: Plan, longest: int) -> Any:
        """Scratch of `windowed_features` for users of at most `longest` events."""

    def windowed_features(
        self, events: EventColumns, links: Links, plan: Plan, pairs: Pairs, state: Any, budget: int, out: F32
    ) -> bool:
        """Compute about `budget` events' worth of further pairs into `out` (p, f); true when all are done."""


def backend(device: str = "cpu") -> Backend:
    """The module that runs the kernels; importing it costs what its compiler costs (Numba: 0.6-0.9 s)."""
    return cast(Backend, import_module(f"ubp_sql.kernels.{device}"))
