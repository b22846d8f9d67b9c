"""A feature set of many (user, moment) pairs, in chunks between which the caller may stop the work."""

import os
from collections.abc import Callable

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import MAX_TIME_US, NO_ITEM, Events
from ubp_sql.kernels.dispatch import DAY_US, F32, HOUR_US, I64, U8, Backend, EventColumns, Links, Pairs, Plan, backend

CHUNK = 1 << 19
"""Events a call of a kernel works on: 5-20 ms on one core, far below the 150 ms that a cancel may take."""
_HASH_SEED = int.from_bytes(os.urandom(7), "little")


def compute(
    events: Events,
    definition: FeatureSetDefinition,
    pair_user: I64,
    as_of_us: I64,
    as_of_local_us: I64,
    known_at_us: I64 | None = None,
    between_chunks: Callable[[], None] | None = None,
    chunk: int = CHUNK,
) -> F32:
    """Features of p (user, moment) pairs: one row each, in the definition's order, NaN where there is no value.

    An event counts iff its time is before as_of and it was ingested at or before known_at.

    pair_user       (p,) int64   index of the user in `events`, not falling
    as_of_us        (p,) int64   the moment, microseconds since 1970 UTC
    as_of_local_us  (p,) int64   the same moment on the source's clock
    known_at_us     (p,) int64   None: as_of
    between_chunks               called between chunks of at most ~100 ms; what it raises ends the work
    chunk                        events per chunk; changes no bit of the result
    returns (p, f) float32       float64 in event order, rounded once, clamped to the finite range of float32;
                                 counts are exact to 2**24

    Raises BadInput (UB003) on arrays of unequal length, users out of range or order, and moments beyond 2**61.
    """
    pause = between_chunks or (lambda: None)
    if chunk < 1:
        raise BadInput(f"compute: a chunk of {chunk} events")
    pairs = _pairs(events, pair_user, as_of_us, as_of_local_us, as_of_us if known_at_us is None else known_at_us)
    if len(events.kind) and not -1 <= events.kind.min() <= events.kind.max() < len(definition.kinds):
        raise BadInput(f"compute: an event's kind is outside -1..{len(definition.kinds) - 1}")
    if events.longest >= 1 << 31:
        raise BadInput("compute: a user has 2**31 events or more")
    kernels = backend()
    day, hour, weekday = _local_parts(events.local_us, chunk, pause)
    columns = EventColumns(events.first, events.t_us, events.ingested_us, events.kind, events.value, hour, weekday)
    links = _link(kernels, events, day, chunk, pause)
    plan = Plan(
        np.array([*(days * DAY_US for days in definition.windows_days), 0], np.int64),
        np.array([feature.opcode for feature in definition.features], np.int64),
        len(definition.kinds),
    )
    out = np.empty((len(pairs.user), len(definition.features)), np.float32)
    state = kernels.window_state(plan, events.longest)
    while not kernels.windowed_features(columns, links, plan, pairs, state, chunk, out):
        pause()
    pause()
    return out


def _pairs(events: Events, user: I64, as_of_us: I64, as_of_local_us: I64, known_at_us: I64) -> Pairs:
    names = ("pair_user", "as_of_us", "as_of_local_us", "known_at_us")
    user, as_of, local, known = (
        np.require(column, np.int64, ["C", "W"]) for column in (user, as_of_us, as_of_local_us, known_at_us)
    )
    for name, column in zip(names, (user, as_of, local, known), strict=True):
        if column.shape != (user.size,):
            raise BadInput(f"compute: {name} has shape {column.shape}, not ({user.size},)")
    if user.size and not (user[0] >= 0 and user[-1] < len(events.user_id) and (np.diff(user) >= 0).all()):
        raise BadInput(f"compute: pair_user falls or leaves 0..{len(events.user_id) - 1}")
    for name, column in zip(names[1:3], (as_of, local), strict=True):
        if column.size and not -MAX_TIME_US <= column.min() <= column.max() <= MAX_TIME_US:
            raise BadInput(f"compute: {name} is infinite or beyond the year 75,000")
    return Pairs(user, as_of, known, (local // DAY_US + 3) % 7)


def _local_parts(local_us: I64, chunk: int, pause: Callable[[], None]) -> tuple[I64, U8, U8]:
    """Number of the local day since 1970, hour 0..23, and weekday (Monday 0; 1970-01-01 was a Thursday)."""
    day = np.empty(len(local_us), np.int64)
    hour, weekday = np.empty(len(local_us), np.uint8), np.empty(len(local_us), np.uint8)
    for lo in range(0, len(local_us), chunk):
        part = slice(lo, lo + chunk)
        day[part] = local_us[part] // DAY_US
        hour[part] = (local_us[part] - day[part] * DAY_US) // HOUR_US
        weekday[part] = (day[part] + 3) % 7
        pause()
    return day, hour, weekday


def _link(kernels: Backend, events: Events, day: I64, chunk: int, pause: Callable[[], None]) -> Links:
    """Where the previous event of the same order, item and day is, for exact distinct counts."""
    slots = 1 << max(2, (2 * events.longest).bit_length())
    table = np.empty(slots, np.int32)
    for lo in range(0, slots, 4 * chunk):  # a first touch of 128 MB takes 0.1-0.4 s: not in one go
        table[lo : lo + 4 * chunk] = -1
        pause()
    links = Links(*(np.empty(len(day), np.int32) for _ in range(3)))
    for key, previous in zip((events.order, events.item, day), links, strict=True):
        cursor = np.zeros(2, np.int64)
        while not kernels.link_previous(events.first, events.kind, key, _HASH_SEED, table, cursor, chunk, previous):
            pause()
        pause()
    links.item[events.item == NO_ITEM] = -2
    return links
