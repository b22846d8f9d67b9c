"""Events of a batch of users as columns, in the order that the kernels read them."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.kernels.dispatch import F64, I32, I64

NO_ITEM = -(1 << 63)
"""Item of an event without one."""
POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, where PostgreSQL's binary timestamps count from, in microseconds since 1970."""
MAX_TIME_US = 1 << 61
"""Moments lie within this of 1970 (to the year 75,000), so that no difference of two overflows."""
FAR_US = 1 << 62
"""Event times are held within this: one beyond MAX_TIME_US is later than every moment and never counts."""

_DTYPES = {"user_id": np.int64, "first": np.int64, "kind": np.int32, "value": np.float64}


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events of u users, n in all, sorted by (user, event time, ingested, id).

    user_id      (u,) int64     ascending; a user may have no event
    first        (u+1,) int64   user i owns events first[i]:first[i+1]
    t_us         (n,) int64     event time, microseconds since 1970 UTC
    local_us     (n,) int64     the same instant on the source's clock, counted alike
    ingested_us  (n,) int64     when the event became known
    kind         (n,) int32     index into the definition's kinds; -1 for a kind that it does not name
    item         (n,) int64     NO_ITEM = missing
    order        (n,) int64     any number that is equal within an order; without an order id one per event time
    value        (n,) float64   NaN = missing

    Raises BadInput (UB003) on unequal lengths, times out of order and times beyond 2**62.
    """

    user_id: I64
    first: I64
    t_us: I64
    local_us: I64
    ingested_us: I64
    kind: I32
    item: I64
    order: I64
    value: F64

    def __post_init__(self) -> None:
        for field in fields(self):
            column = np.require(getattr(self, field.name), _DTYPES.get(field.name, np.int64), ["C", "W"])
            if column.ndim != 1:
                raise BadInput(f"events: {field.name} has {column.ndim} dimensions, not one")
            object.__setattr__(self, field.name, column)
        self._check()

    @property
    def longest(self) -> int:
        """The most events of one user."""
        return int(np.diff(self.first).max(initial=0))

    @classmethod
    def from_bytes(
        cls,
        *,
        user_id: bytes,
        event_time: bytes,
        local_time: bytes,
        ingested: bytes,
        kind: bytes,
        item: bytes,
        order: bytes,
        value: bytes,
    ) -> Self:
        """Events from PostgreSQL's binary send functions, each column concatenated in the events' order.

        user_id, item, order   int8send; item NULL as NO_ITEM
        event_time, ingested   timestamptz_send
        local_time             timestamp_send of `event_time AT TIME ZONE <the source's zone>`
        kind                   int4send of the index into the definition's kinds
        value                  float8send; NULL as NaN

        Raises BadInput (UB003) as the class does, and on a column of another length or an infinite event time.
        """
        user = _unpack("user_id", user_id, ">i8", len(user_id) // 8)
        n = len(user)
        starts = np.flatnonzero(np.diff(user)) + 1
        first = np.concatenate(([0], starts, [n])) if n else np.zeros(1, np.int64)
        return cls(
            user_id=user[first[:-1]],
            first=first,
            t_us=_times("event_time", event_time, n, infinite=False),
            local_us=_times("local_time", local_time, n, infinite=False),
            ingested_us=_times("ingested", ingested, n, infinite=True),
            kind=_unpack("kind", kind, ">i4", n),
            item=_unpack("item", item, ">i8", n),
            order=_unpack("order", order, ">i8", n),
            value=_unpack("value", value, ">f8", n),
        )

    def _check(self) -> None:
        n, u = len(self.t_us), len(self.user_id)
        for field in fields(self)[2:]:
            if len(getattr(self, field.name)) != n:
                raise BadInput(f"events: {field.name} has {len(getattr(self, field.name))} rows, t_us {n}")
        if len(self.first) != u + 1 or self.first[0] != 0 or self.first[-1] != n or (np.diff(self.first) < 0).any():
            raise BadInput(f"events: first does not cut {n} events into {u} users")
        if (self.user_id[1:] <= self.user_id[:-1]).any():
            raise BadInput("events: users are not in ascending order, or one comes twice")
        for name in ("t_us", "local_us"):
            column = getattr(self, name)
            if n and (column.max() > FAR_US or column.min() < -FAR_US):
                raise BadInput(f"events: {name} holds a time beyond 2**62 microseconds of 1970")
        t, known = self.t_us, self.ingested_us
        falls = (t[1:] < t[:-1]) | ((t[1:] == t[:-1]) & (known[1:] < known[:-1]))
        starts = self.first[1:-1]
        falls[starts[(starts > 0) & (starts < n)] - 1] = False  # the next user begins anew
        if falls.any():
            raise BadInput(f"events: not sorted by time, then ingestion, at row {int(falls.argmax()) + 1}")


def _unpack(name: str, raw: bytes, dtype: str, n: int) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize
    if len(raw) != n * size:
        raise BadInput(f"events: {name} has {len(raw)} bytes, {n} events need {n * size}")
    big_endian = np.frombuffer(raw, dtype)
    return big_endian.astype(big_endian.dtype.newbyteorder("="))


def _times(name: str, raw: bytes, n: int, *, infinite: bool) -> I64:
    """Microseconds since 1970, held within FAR_US; PostgreSQL's infinities are the ends of int64."""
    since_2000: I64 = _unpack(name, raw, ">i8", n)
    ends = np.iinfo(np.int64)
    if not infinite and n and (since_2000.max() == ends.max or since_2000.min() == ends.min):
        raise BadInput(f"events: {name} is infinite")
    since_1970: I64 = np.clip(since_2000, -FAR_US, FAR_US - POSTGRES_EPOCH_US) + POSTGRES_EPOCH_US
    return since_1970
