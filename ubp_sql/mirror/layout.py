"""What the mirror holds of an event: its columns, their types, and a batch of sorted events as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.columns import Declared
from ubp_sql.kernels.dispatch import I64

Column = NDArray[Any]
Bools = NDArray[np.bool_]

BASE: dict[str, str] = {
    "t": "<i8",  # event time, microseconds since 1970 UTC
    "ingested": "<i8",  # likewise, when it became known
    "event_id": "<i8",
    "kind": "<i4",  # ubp.mirror_kinds.code
    "item": "<i8",  # NO_KEY = missing
    "order": "<i8",  # hash of the order id, else the event time
    "value": "<f8",  # NaN = missing, as in the next two
    "quantity": "<f8",
    "duration_s": "<f8",
    "offset_s": "<i4",  # the source's clock less UTC at that instant
}
"""Columns of every event, with the type each has in a chunk."""
SORT = ("t", "ingested", "event_id")
"""The order of a user's events; no two events are equal in all three, since (event id, event time) is a key."""
EXTRA_TYPES = {"number": "<f8", "text": "<i8", "words": "<i8"}
"""Types of ubp.event_columns: a number, a text's hash (NO_KEY = missing), a mask of 64 word bits (0 = none)."""


def dtype_of(name: str, extras: Sequence[Declared]) -> str:
    """Type of a column, of every event's or declared."""
    if name in BASE:
        return BASE[name]
    return next(EXTRA_TYPES[extra.type] for extra in extras if extra.name == name)


@dataclass(slots=True, eq=False)
class Block:
    """Events of u users, n in all, sorted by (user, SORT), as a run holds them.

    user_id   (u,) int64    ascending; a user may have no event, which a complete entry says with effect
    first     (u+1,) int64  user i owns events first[i]:first[i+1]
    complete  (u,) bool     the entry holds all of the user's events: older runs' are void
    columns   name to (n,) array
    """

    user_id: I64
    first: I64
    complete: Bools
    columns: dict[str, Column]

    @property
    def n(self) -> int:
        """Number of events."""
        return int(self.first[-1])

    @property
    def sizes(self) -> I64:
        """(u,) events of each user."""
        sizes: I64 = np.diff(self.first)
        return sizes

    def take(self, users: Bools) -> "Block":
        """The entries of some users, all their events with them."""
        if users.all():
            return self
        rows = np.repeat(users, self.sizes)
        sizes = self.sizes[users]
        return Block(
            self.user_id[users],
            starts(sizes),
            self.complete[users],
            {name: column[rows] for name, column in self.columns.items()},
        )

    def rows(self, keep: Bools) -> "Block":
        """The same users with some of their events."""
        index = np.flatnonzero(keep)
        columns = {name: column.take(index) for name, column in self.columns.items()}
        return Block(self.user_id, np.searchsorted(index, self.first), self.complete, columns)

    def slice(self, low: int, high: int) -> "Block":
        """Users low..high-1, views without copies."""
        first = self.first[low : high + 1]
        part = np.s_[int(first[0]) : int(first[-1])]
        columns = {name: column[part] for name, column in self.columns.items()}
        return Block(self.user_id[low:high], first - first[0], self.complete[low:high], columns)


def starts(sizes: I64) -> I64:
    """(u+1,) where each user's events begin, from the numbers of events."""
    first = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=first[1:])
    return first


def group(user: I64, columns: dict[str, Column]) -> Block:
    """A block of sorted events, each with its user; no entry is complete."""
    n = len(user)
    first = np.concatenate((np.flatnonzero(np.diff(user, prepend=user[0] - 1)), [n])) if n else np.zeros(1, np.int64)
    users = user[first[:-1]]
    return Block(users, first.astype(np.int64), np.zeros(len(users), np.bool_), columns)


def empty(names: Sequence[str], extras: Sequence[Declared] = ()) -> Block:
    """A block without users."""
    columns = {name: np.empty(0, np.dtype(dtype_of(name, extras)).newbyteorder("=")) for name in names}
    return Block(np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.bool_), columns)
