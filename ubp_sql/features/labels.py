"""Pairs of (user, cut): who belongs to a population when, what happened after a cut, which negatives are kept.

A cut is a moment: features look strictly before it, labels from it on. Everything is in microseconds since 1970 UTC.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.events import Events
from ubp_sql.kernels.dispatch import DAY_US, F64, I64, U8

NEVER = 1 << 62
"""Later than every moment."""
TOGETHER = 1 << 17
"""Pairs looked up at a time: a bisection among a million events of one user takes some 40 ms."""
SUMMED = 1 << 24
"""Values added between two pauses: some 20 ms."""


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


class Outcomes(NamedTuple):
    """What may happen after a cut, of u users: events that a label counts, or rows of a table.

    first  (u+1,) int64   user i owns outcomes first[i]:first[i+1]
    t_us   (n,) int64     ascending within a user
    value  (n,) float64   what is summed, NaN = missing; None where nothing is
    """

    first: I64
    t_us: I64
    value: F64 | None = None

    def of_users(self, low: int, high: int) -> "Outcomes":
        """Those of users low..high-1, numbered from 0."""
        span = slice(self.first[low], self.first[high])
        return Outcomes(
            self.first[low : high + 1] - self.first[low],
            self.t_us[span],
            None if self.value is None else self.value[span],
        )


def outcomes_of(events: Events, mine: NDArray[np.bool_], value: F64 | None = None) -> Outcomes:
    """The events that `mine` (n,) marks, with their value."""
    found = np.flatnonzero(mine)
    return Outcomes(found.searchsorted(events.first), events.t_us[found], None if value is None else value[found])


def label(
    form: str,
    outcomes: Outcomes,
    pairs: Pairs,
    begin_us: int,
    width_us: int,
    latest_us: int = 0,
    between: Callable[[], None] = lambda: None,
) -> U8 | F64:
    """(p,) what the outcomes in [cut + begin, cut + begin + width) come to, whenever they became known.

    form       any, none: uint8, whether there is one, or none; count, sum: float64, how many, the sum of their values,
               0.0 without one; days_until: float64, days from the cut to the first
    latest_us  what days_until says, in microseconds, where there is none
    between    called after some 100 ms of work
    """
    found: U8 | F64 = np.zeros(len(pairs.user), np.uint8)
    if form not in ("any", "none"):
        found = np.zeros(len(pairs.user))
    longest = int(np.diff(outcomes.first).max(initial=0))
    for low in range(0, len(found), TOGETHER):
        between()
        part = slice(low, low + TOGETHER)
        user, cut_us = pairs.user[part], pairs.cut_us[part]
        begin, end = (
            _first_from(outcomes, longest, user, moment_us)
            for moment_us in (cut_us + begin_us, cut_us + (begin_us + width_us))
        )
        if form == "any":
            found[part] = end > begin
        elif form == "none":
            found[part] = end == begin
        elif form == "count":
            found[part] = end - begin
        elif form == "sum":
            found[part] = _sums(outcomes, begin, end, between)
        else:
            days = np.full(len(user), latest_us / DAY_US)
            some = end > begin
            days[some] = (outcomes.t_us[begin[some]] - cut_us[some]) / DAY_US
            found[part] = days
    return found


def _sums(outcomes: Outcomes, begin: I64, end: I64, between: Callable[[], None]) -> F64:
    """(p,) sums of the values begin..end-1, each by itself: running sums would round with the history."""
    if outcomes.value is None:
        raise TypeError("outcomes without values have no sum")
    # reduceat wants places within the array, and gives the value itself where begin is end.
    values = np.append(np.where(np.isfinite(outcomes.value), outcomes.value, 0.0), 0.0)
    found = np.zeros(len(begin))
    some = np.flatnonzero(end > begin)
    group = np.cumsum((end - begin)[some]) // SUMMED
    for part in np.split(some, np.flatnonzero(np.diff(group)) + 1):
        between()
        places = np.column_stack((begin[part], end[part])).ravel()
        found[part] = np.add.reduceat(values, places)[::2] if len(part) else 0.0
    return found


def _first_from(outcomes: Outcomes, longest: int, user: I64, moment_us: I64) -> I64:
    """(p,) index of the user's first outcome at or after the moment, else of the next user's: bisection of all."""
    low, high = outcomes.first[user], outcomes.first[user + 1]
    last = len(outcomes.t_us) - 1
    for _ in range(longest.bit_length()):
        middle = (low + high) >> 1
        # A finished search (low == high) may point behind the last outcome: it stays as it is.
        before = (low < high) & (outcomes.t_us[np.minimum(middle, last)] < moment_us)
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
