"""Pairs of (user, cut): who belongs to a population when, what happened after a cut, which negatives are kept.

A cut is a moment: features look strictly before it, labels from it on. Everything is in microseconds since 1970 UTC.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.events import Events
from ubp_sql.kernels.dispatch import I64, U8

NEVER = 1 << 62
"""Later than every moment."""
TOGETHER = 1 << 17
"""Pairs looked up at a time: a bisection among a million events of one user takes some 40 ms."""


class Pairs(NamedTuple):
    """p pairs in ascending order of (user, cut), each once.

    user    (p,) int64   index of the user in `events`
    cut_us  (p,) int64
    """

    user: I64
    cut_us: I64


def member_from(events: Events, kind: int, *, whenever_known: bool) -> I64:
    """(u,) the first moment at which each user has an event of `kind` before it, NEVER without one.

    An event counts from 1 us after its time on and, unless `whenever_known`, not before it was ingested.
    """
    mine = events.kind == kind
    from_us = events.t_us[mine] + 1
    if not whenever_known:
        from_us = np.maximum(from_us, events.ingested_us[mine])
    counts = np.concatenate(([0], np.cumsum(mine)))[events.first]
    some = counts[1:] > counts[:-1]
    first = np.full(len(events.user_id), NEVER)
    if some.any():
        first[some] = np.minimum.reduceat(from_us, counts[:-1][some])
    return first


def at_cuts(member_us: I64, cuts_us: I64) -> Pairs:
    """Every user who is a member at a cut, at that cut; `cuts_us` (c,) ascending, each once."""
    begin = np.searchsorted(cuts_us, member_us)
    counts = len(cuts_us) - begin
    user = np.repeat(np.arange(len(member_us)), counts)
    # The place among all pairs, less that of the user's first, is the place among the user's.
    mine = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Pairs(user, cuts_us[begin[user] + mine])


def at_events(events: Events, member_us: I64, kinds: Sequence[int]) -> Pairs:
    """Every user at the time of each of their events of `kinds` at which they are a member.

    Events of one user at one time make one pair.
    """
    user = np.repeat(np.arange(len(events.user_id)), np.diff(events.first))
    t_us = events.t_us
    taken = np.isin(events.kind, kinds) & (t_us >= member_us[user])
    user, t_us = user[taken], t_us[taken]
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (t_us[1:] != t_us[:-1])
    return Pairs(user[new], t_us[new])


def happened(
    events: Events,
    kind: int,
    pairs: Pairs,
    begin_us: int,
    width_us: int,
    between: Callable[[], None] = lambda: None,
) -> U8:
    """(p,) 1 where an event of `kind` lies in [cut + begin, cut + begin + width), whenever it became known.

    between  called after some 100 ms of work
    """
    n = len(events.t_us)
    # The first event of the kind at or after each event, of whichever user; n: there is none.
    following = np.full(n + 1, n)
    mine = np.flatnonzero(events.kind == kind)
    following[mine] = mine
    following = np.minimum.accumulate(following[::-1])[::-1]
    labels = np.zeros(len(pairs.user), np.uint8)
    for low in range(0, len(labels), TOGETHER):
        between()
        part = slice(low, low + TOGETHER)
        user, from_us = pairs.user[part], pairs.cut_us[part] + begin_us
        found = following[_first_from(events, user, from_us)]
        inside = found < events.first[user + 1]
        inside[inside] = events.t_us[found[inside]] - from_us[inside] < width_us
        labels[part] = inside
    return labels


def _first_from(events: Events, user: I64, moment_us: I64) -> I64:
    """(p,) index of the user's first event at or after the moment, else of the next user's first: bisection of all."""
    low, high = events.first[user], events.first[user + 1]
    for _ in range(events.longest.bit_length()):
        middle = (low + high) >> 1
        # A finished search (low == high) may point behind the last event: it stays as it is.
        before = (low < high) & (events.t_us[np.minimum(middle, len(events.t_us) - 1)] < moment_us)
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    return low


def drawn(user_id: I64, cut_us: I64, share: float) -> NDArray[np.bool_]:
    """(p,) a draw of about `share` of the pairs that depends on user and cut alone, so that it repeats.

    A pair is drawn iff hash(user, cut) < share: a smaller share draws a part of what a larger one does. The hash is
    mix(mix(user) + cut) / 2**64 with the finalizer of SplitMix64 (Steele et al. 2014), in arithmetic modulo 2**64.
    """
    mixed = _mix(_mix(user_id.astype(np.uint64)) + cut_us.astype(np.uint64))
    return (mixed >> np.uint64(11)) * 2.0**-53 < share


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
