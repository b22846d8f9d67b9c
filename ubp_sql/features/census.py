"""The population at the starts of some days, counted in one pass over everybody's events: standings (standing.py)."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.compute import compute
from ubp_sql.features.events import MAX_TIME_US, Events
from ubp_sql.features.plan_part import plan_part
from ubp_sql.features.rows import of_users
from ubp_sql.features.standing import PERCENTILE, Standing, counted, ranked
from ubp_sql.kernels.dispatch import DAY_US, F32, I64, NO_KEY

if TYPE_CHECKING:
    from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition

MOST_DAYS = 64
MOST_PAIRS = 1 << 20
"""(user, day) pairs that are computed together."""
MOST_BYTES = 128 << 20
SLICE = 1 << 18
"""Events whose items are counted together: 30 ms."""
MOST_PARTS = 8

Multiset = tuple[NDArray[Any], I64]
"""Ascending different values, and how often each is there."""


class Census:
    """Takes batches of whole users, each user once, in any order.

    days  those that are counted, since 1970, ascending. Where their values would take more than MOST_BYTES, later days
          are given up on the way: they are left to another pass.
    """

    def __init__(self, definition: "FeatureSetDefinition", days: list[int]) -> None:
        self.days = days[:MOST_DAYS]
        self._features = definition.standings
        self._ranked = [f for f in self._features if f.family == PERCENTILE]
        self._counted = [f for f in self._features if f.family != PERCENTILE]
        positions = [f.position for f in self._ranked]
        self._part = plan_part(definition.kinds, definition.columns, definition.plan, positions)
        self.columns = self._part.columns
        if self._counted and "item" not in self.columns.keys:
            self.columns = self.columns._replace(keys=(*self.columns.keys, "item"))
        self._found: dict[tuple[int, int], list[Multiset]] = {}
        self._bytes = 0

    def add(self, events: Events, holidays: I64, pause: Callable[[], None]) -> None:
        """Counts a batch with the columns `columns`."""
        if self._ranked:
            self._rank(events, holidays, pause)
        for feature in self._counted:
            self._count(feature, events, pause)

    def add_counts(self, day: int, position: int, items: NDArray[np.float64], counts: I64) -> None:
        """Further events of a day on items (ascending), for the item_popularity at a position."""
        self._take(day, position, (items, counts))

    @property
    def counted(self) -> "list[FeatureDefinition]":
        """The features that `add_counts` is for."""
        return self._counted

    def standings(self, pause: Callable[[], None]) -> Iterator[tuple[int, int, Standing]]:
        """(day, position, standing) of each day and feature."""
        for day in self.days:
            for feature in self._features:
                pause()
                ranks = feature.family == PERCENTILE
                nothing = np.empty(0, np.float32 if ranks else np.float64), np.empty(0, np.int64)
                keys, counts = _merged(self._found.pop((day, feature.position), []) or [nothing])
                yield day, feature.position, ranked(keys, counts) if ranks else counted(keys, counts)

    def _rank(self, events: Events, holidays: I64, pause: Callable[[], None]) -> None:
        begin_us = known_from(events)
        days_us = np.array(self.days, np.int64) * DAY_US
        first_day = np.searchsorted(days_us, begin_us, "right")
        n_days = len(days_us) - first_day
        group = np.cumsum(n_days) // MOST_PAIRS
        ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
        for low, high in zip([0, *ends[:-1]], ends, strict=True):
            n = n_days[low:high]
            user = np.repeat(np.arange(high - low), n)
            if not len(user):
                continue
            day = np.arange(len(user)) + np.repeat(first_day[low:high] + n - np.cumsum(n), n)
            moments = days_us[day]
            part = of_users(events, low, high)
            values = compute(part, self._part, user, moments, moments, None, pause, holidays=holidays).features
            self._take_values(day, values, pause)

    def _take_values(self, day: I64, values: F32, pause: Callable[[], None]) -> None:
        """Values of pairs with these places among the days."""
        order = np.argsort(day, kind="stable")
        pause()
        ends = np.searchsorted(day[order], np.arange(len(self.days) + 1))
        for place, number in enumerate(list(self.days)):
            for column, feature in enumerate(self._ranked):
                pause()
                mine = values[order[ends[place] : ends[place + 1]], column]
                keys, counts = np.unique(mine[~np.isnan(mine)], return_counts=True)
                self._take(number, feature.position, (keys, counts))

    def _count(self, feature: "FeatureDefinition", events: Events, pause: Callable[[], None]) -> None:
        codes = [self._part.kinds.index(kind) for kind in feature.spec.kinds]
        width_us = feature.spec.window.width_us
        for low in range(0, len(events.kind), SLICE):
            pause()
            part = slice(low, low + SLICE)
            asked = np.isin(events.kind[part], codes) & (events.keys["item"][part] != NO_KEY)
            t, ingested = events.t_us[part][asked], events.ingested_us[part][asked]
            items, code = np.unique(events.keys["item"][part][asked].astype(np.float64), return_inverse=True)
            for day in list(self.days):
                pause()
                day_us = day * DAY_US
                inside = (t >= day_us - width_us) & (t < day_us) & (ingested <= day_us)
                counts = np.bincount(code[inside], minlength=len(items))
                there = counts > 0
                self._take(day, feature.position, (items[there], counts[there]))

    def _take(self, day: int, position: int, more: Multiset) -> None:
        if day not in self.days or not len(more[0]):
            return
        parts = self._found.setdefault((day, position), [])
        parts.append(more)
        self._bytes += _size(more)
        if len(parts) >= MOST_PARTS:
            before = sum(map(_size, parts))
            parts[:] = [_merged(parts)]
            self._bytes += _size(parts[0]) - before
        if self._bytes > MOST_BYTES and len(self.days) > 1:
            kept = self.days[: len(self.days) // 2]
            for key in [key for key in self._found if key[0] not in kept]:
                self._bytes -= sum(map(_size, self._found.pop(key)))
            self.days = kept


def known_from(events: Events) -> I64:
    """(u,) the user is known at every moment after this one: an event had happened and was known."""
    begin = np.full(len(events.user_id), MAX_TIME_US)
    if len(events.kind):
        # An event ingested at the moment itself is known at it, one that happens at it is not.
        after = np.maximum(events.t_us, np.maximum(events.ingested_us, -MAX_TIME_US) - 1)
        has = np.flatnonzero(np.diff(events.first))
        begin[has] = np.minimum.reduceat(np.where(events.kind >= 0, after, MAX_TIME_US), events.first[has])
    return begin


def _merged(parts: list[Multiset]) -> Multiset:
    if len(parts) == 1:
        return parts[0]
    keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(counts[order], starts)


def _size(one: Multiset) -> int:
    return one[0].nbytes + one[1].nbytes
