"""A seeded log of a shop: long-tailed users, sessions, a year and a half, ~2,000 items, prices in cents.

The same arrays fill the database and the rivals' memory, so that their answers can be compared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
MAKER = 1
"""Raised when the same seed gives other events: databases made before are then made anew."""
DAY_US = 86_400_000_000
BEGIN_US = 1_672_531_200_000_000
"""2023-01-01 UTC."""
DAYS = 546
END_US = BEGIN_US + DAYS * DAY_US
"""2024-06-30 UTC: every event lies before it."""
KINDS = ("view", "purchase", "cart")
ITEMS = 2_000
_SESSION_EVENTS, _SESSION_GAP_US = 3, 600e6
_ACTIVITY_SIGMA = 1.3
_MOST_VIEWS, _MOST_PURCHASES = 0.60, 0.85
"""Cumulative: 60 % views, 25 % purchases, 15 % carts, which no feature of the benches is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """n events sorted by (user, time), no two of a user at one time.

    user   (n,) int64     1..users
    t_us   (n,) int64     microseconds since 1970 UTC, in [BEGIN_US, END_US)
    kind   (n,) int32     index into KINDS
    item   (n,) int64     1..ITEMS, small ones far more often
    value  (n,) float64   whole cents as units; NaN for views
    """

    user: I64
    t_us: I64
    kind: I32
    item: I64
    value: F64

    def __len__(self) -> int:
        return len(self.user)

    def taken(self, which: I64) -> "Log":
        """The events at these places."""
        return Log(self.user[which], self.t_us[which], self.kind[which], self.item[which], self.value[which])


def make(events: int, users: int, seed: int) -> Log:
    """Events in sessions of about three; each of the `users` has at least one (there must be as many events)."""
    draw = np.random.default_rng([MAKER, seed])
    span = DAYS * DAY_US
    sessions = max(users, events // _SESSION_EVENTS)
    weight = np.cumsum(np.exp(draw.normal(0, _ACTIVITY_SIGMA, users)))
    owner = np.minimum(np.searchsorted(weight / weight[-1], draw.random(sessions)), users - 1)
    owner[:users] = np.arange(users)
    joined = 0.9 * draw.random(users) ** 2
    start = (joined[owner] + (1 - joined[owner]) * draw.random(sessions)) * span
    session = draw.integers(0, sessions, events)
    session[:users] = np.arange(users)
    t = np.minimum(start[session] + draw.exponential(_SESSION_GAP_US, events), span - 1_000).astype(np.int64)
    user = owner[session] + 1
    kind = np.searchsorted([_MOST_VIEWS, _MOST_PURCHASES], draw.random(events)).astype(np.int32)
    item = (ITEMS * draw.random(events) ** 2.5).astype(np.int64) + 1
    value = np.floor(np.exp(draw.normal(7.5, 1, events))) / 100
    value[kind == KINDS.index("view")] = np.nan
    order = np.lexsort((t, user))
    user, t = user[order], t[order]
    while (ties := (user[1:] == user[:-1]) & (t[1:] <= t[:-1])).any():
        t[1:][ties] = t[:-1][ties] + 1
    return Log(user, BEGIN_US + t, kind[order], item[order], value[order])
