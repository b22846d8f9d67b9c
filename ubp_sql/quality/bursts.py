"""Stretches in which a user does more than a person can, in moment after moment."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
SECOND = 1_000_000


class Window(NamedTuple):
    """At least `events` within `seconds`, with events in a share of its steps of `step` seconds."""

    seconds: int
    events: int
    step: int = 1


def bursts(first: I64, t_us: I64, order: I64, windows: Sequence[Window], active: float) -> list[tuple[int, int, int]]:
    """(user's place, first moment, last moment) of each stretch; those of a user do not overlap.

    first   (u+1,) user i owns events first[i]:first[i+1]
    t_us    (n,) event time, microseconds, ascending within a user
    order   (n,) equal within an order; without one, the event time: lines of an order count as one event
    active  share of a window's steps that must have an event: a hundred lines at one moment are one order
    """
    n = len(t_us)
    user = np.repeat(np.arange(len(first) - 1), np.diff(first))
    suspects: dict[int, list[Window]] = {}
    for window in windows:
        step = t_us // (window.step * SECOND)
        new = np.ones(n, np.bool_)
        new[1:] = (step[1:] != step[:-1]) | (user[1:] != user[:-1])
        crowded = _close(user, t_us, window.events, window.seconds * SECOND)
        lively = _close(user[new], step[new], _steps(window, active), -(-window.seconds // window.step) + 1)
        for place in np.intersect1d(crowded, lively).tolist():
            suspects.setdefault(place, []).append(window)
    found = []
    for place, which in sorted(suspects.items()):
        own = slice(int(first[place]), int(first[place + 1]))
        found += [(place, begin, end) for begin, end in _stretches(t_us[own], order[own], which, active)]
    return found


def _steps(window: Window, active: float) -> int:
    return max(2, math.ceil(active * window.seconds / window.step))


def _close(user: I64, place: I64, number: int, width: int) -> I64:
    """Users with `number` rows within `width`."""
    if len(place) < number:
        return np.empty(0, np.int64)
    ahead = number - 1
    last = len(place) - ahead
    near = (place[ahead:] - place[:last] < width) & (user[ahead:] == user[:last])
    return np.unique(user[:last][near])


def _stretches(t_us: I64, order: I64, windows: Sequence[Window], active: float) -> list[tuple[int, int]]:
    """Of one user: windows that are too full, those that touch as one."""
    counted = np.ones(len(t_us), np.bool_)
    lines = np.flatnonzero(order != t_us)
    counted[lines] = False
    counted[lines[np.unique(order[lines], return_index=True)[1]]] = True
    t = t_us[counted]
    covered = np.zeros(len(t) + 1, np.int64)
    for window in windows:
        step = t // (window.step * SECOND)
        number = np.cumsum(np.concatenate(([0], step[1:] != step[:-1])))
        end = np.searchsorted(t, t + window.seconds * SECOND)
        here = np.arange(len(t))
        full = (end - here >= window.events) & (number[end - 1] - number >= _steps(window, active) - 1)
        np.add.at(covered, here[full], 1)
        np.subtract.at(covered, end[full], 1)
    inside = np.cumsum(covered[:-1]) > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], inside, [False]))))
    return [(int(t[a]), int(t[b - 1])) for a, b in edges.reshape(-1, 2)]


def repeated(first: I64, t_us: I64, columns: Sequence[NDArray[np.generic]]) -> I64:
    """Rows, one at least of each set of a user's events that are equal in time and in the hash of all columns.

    columns  (n,) of 8 bytes; equal bits are equal
    """
    tied = np.zeros(len(t_us), np.bool_)
    tied[1:] = t_us[1:] == t_us[:-1]
    tied[first[:-1][first[:-1] < len(t_us)]] = False
    group = np.cumsum(~tied)
    within = np.flatnonzero(tied | np.concatenate((tied[1:], [False])))
    key = group[within].astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    for column in columns:
        key = (key ^ column.view(np.uint64)[within]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    rows: I64 = np.unique(within[order[same]])
    return rows
