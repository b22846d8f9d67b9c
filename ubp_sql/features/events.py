"""Events of a batch of users as columns, in the order that the kernels read them."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.kernels.dispatch import F64, I32, I64, NO_KEY

__all__ = ["FAR_US", "MAX_TIME_US", "MICROSECONDS", "NO_KEY", "POSTGRES_EPOCH_US", "Events"]

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, where PostgreSQL's binary timestamps count from, in microseconds since 1970."""
MAX_TIME_US = 1 << 61
"""Moments lie within this of 1970 (to the year 75,000), so that no difference of two overflows."""
FAR_US = 1 << 62
"""Event times are held within this: one beyond MAX_TIME_US is later than every moment and never counts."""
MICROSECONDS = 1_000_000

_DTYPES = {"offset_s": np.int32, "kind": np.int32}
_ARRAYS = ("user_id", "first", "t_us", "ingested_us", "offset_s", "kind")


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events of u users, n in all, sorted by (user, event time, ingested, id).

    user_id      (u,) int64     ascending; a user may have no event
    first        (u+1,) int64   user i owns events first[i]:first[i+1]
    t_us         (n,) int64     event time, microseconds since 1970 UTC
    ingested_us  (n,) int64     when the event became known
    offset_s     (n,) int32     the source's clock less UTC at that instant, seconds
    kind         (n,) int32     index into the definition's kinds; -1 for a kind that it does not name
    numbers      name to (n,) float64   NaN = missing
    keys         name to (n,) int64     NO_KEY = missing; `order` has any number that is equal within an order, and
                                        without an order id one per event time

    Raises BadInput (UB003) on unequal lengths, times out of order and times beyond 2**62.
    """

    user_id: I64
    first: I64
    t_us: I64
    ingested_us: I64
    offset_s: I32
    kind: I32
    numbers: dict[str, F64] = field(default_factory=dict)
    keys: dict[str, I64] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, _column(name, getattr(self, name), _DTYPES.get(name, np.int64)))
        numbers = {name: _column(name, column, np.float64) for name, column in self.numbers.items()}
        keys = {name: _column(name, column, np.int64) for name, column in self.keys.items()}
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "keys", keys)
        self._check()

    @classmethod
    def trusted(cls, **parts: Any) -> Self:
        """Events whose arrays are known to be right: of these types, contiguous, in order. Nothing is looked at.

        For the mirror, which checked them when they were written; a check costs a tenth of reading them.
        """
        made = object.__new__(cls)
        for name in cls.__slots__:
            object.__setattr__(made, name, parts[name])
        return made

    @property
    def longest(self) -> int:
        """The most events of one user."""
        return int(np.diff(self.first).max(initial=0))

    @property
    def local_us(self) -> I64:
        """(n,) each event's instant on its source's clock, counted like `t_us`."""
        local: I64 = self.t_us + MICROSECONDS * self.offset_s.astype(np.int64)
        return local

    def _check(self) -> None:
        n, u = len(self.t_us), len(self.user_id)
        columns = {name: getattr(self, name) for name in _ARRAYS[2:]} | self.numbers | self.keys
        for name, column in columns.items():
            if len(column) != n:
                raise BadInput(f"events: {name} has {len(column)} rows, t_us {n}")
        if len(self.first) != u + 1 or self.first[0] != 0 or self.first[-1] != n or (np.diff(self.first) < 0).any():
            raise BadInput(f"events: first does not cut {n} events into {u} users")
        if (self.user_id[1:] <= self.user_id[:-1]).any():
            raise BadInput("events: users are not in ascending order, or one comes twice")
        if n and (self.t_us.max() > FAR_US or self.t_us.min() < -FAR_US):
            raise BadInput("events: t_us holds a time beyond 2**62 microseconds of 1970")
        t, known = self.t_us, self.ingested_us
        falls = (t[1:] < t[:-1]) | ((t[1:] == t[:-1]) & (known[1:] < known[:-1]))
        starts = self.first[1:-1]
        falls[starts[(starts > 0) & (starts < n)] - 1] = False  # the next user begins anew
        if falls.any():
            raise BadInput(f"events: not sorted by time, then ingestion, at row {int(falls.argmax()) + 1}")


def _column(name: str, values: Any, dtype: Any) -> NDArray[Any]:
    column: NDArray[Any] = np.require(values, dtype, ["C", "W"])
    if column.ndim != 1:
        raise BadInput(f"events: {name} has {column.ndim} dimensions, not one")
    return column
