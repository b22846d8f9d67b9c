"""Two sets of events compared by sums of hashes, so that what is held does not grow with them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels.dispatch import I64
from ubp_sql.mirror.layout import SORT, Block, Bools, Column

U64 = NDArray[np.uint64]
BUCKETS = 1 << 20
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MORE = np.uint64(0xBF58476D1CE4E5B9)
_NAN = np.uint64(0x7FF8000000000000)


class Difference(NamedTuple):
    """A user whose events differ: by number what the mirror lacks, has besides, and has otherwise."""

    user_id: int
    missing: int
    extra: int
    changed: int


def mixed(columns: list[Column]) -> U64:
    """(n,) a hash of each row; every NaN counts as the same."""
    h = np.full(len(columns[0]), _ODD)
    for column in columns:
        if column.dtype == np.float64:
            bits = np.where(np.isnan(column), _NAN, column.view(np.uint64))
        else:
            bits = column.astype(np.int64).view(np.uint64)
        h ^= bits
        h *= _ODD
        h ^= h >> np.uint64(29)
        h *= _MORE
        h ^= h >> np.uint64(32)
    return h


def bucket(user: I64) -> I64:
    """(n,) bucket of each user, 0..BUCKETS-1."""
    place: I64 = (mixed([user]) >> np.uint64(44)).view(np.int64)
    return place


def rows_of(block: Block) -> tuple[I64, U64, U64]:
    """(n,) user, hash of (id, time) and hash of everything of each event."""
    user = np.repeat(block.user_id, block.sizes)
    key = mixed([block.columns["event_id"], block.columns["t"]])
    return user, key, mixed([user, *(block.columns[name] for name in sorted(block.columns))])


def in_order(block: Block) -> bool:
    """Whether users ascend and each one's events do."""
    user = np.repeat(np.arange(len(block.user_id)), block.sizes)
    fine = np.zeros(max(0, block.n - 1), np.bool_)
    for name in reversed(SORT):
        before, after = block.columns[name][:-1], block.columns[name][1:]
        fine = (before < after) | ((before == after) & fine)
    return bool((block.user_id[1:] > block.user_id[:-1]).all() and (fine | (user[1:] != user[:-1])).all())


class Sums:
    """First look: per bucket of users, how many more events one side has, and the sum of hashes by which it differs."""

    def __init__(self) -> None:
        self.events = [0, 0]
        self._count = np.zeros(BUCKETS, np.int64)
        self._sum = np.zeros(BUCKETS, np.uint64)

    def add(self, block: Block, side: int) -> None:
        """Events of the table (side 0) or of the mirror (side 1), in any order, each once."""
        if not block.n:
            return
        user, _, content = rows_of(block)
        where = bucket(user)
        self.events[side] += block.n
        if side:
            np.subtract.at(self._count, where, 1)
            np.subtract.at(self._sum, where, content)
        else:
            np.add.at(self._count, where, 1)
            np.add.at(self._sum, where, content)

    def differing(self) -> I64:
        """Buckets that are not equal."""
        return np.flatnonzero((self._count != 0) | (self._sum != 0))


class Rows:
    """Second look: the events of some buckets, one by one."""

    def __init__(self, buckets: I64) -> None:
        self._wanted: Bools = np.zeros(BUCKETS, np.bool_)
        self._wanted[buckets] = True
        self._held: list[tuple[I64, U64, U64, NDArray[Any]]] = []

    def add(self, block: Block, side: int) -> None:
        """As `Sums.add`."""
        block = block.take(self._wanted[bucket(block.user_id)])
        if block.n:
            self._held.append((*rows_of(block), np.full(block.n, side, np.int8)))

    def differences(self) -> Iterator[Difference]:
        """Users whose events differ, in ascending order."""
        if not self._held:
            return
        user, key, content, side = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        order = np.lexsort((side, key, user))
        user, key, content, side = user[order], key[order], content[order], side[order]
        both = (user[1:] == user[:-1]) & (key[1:] == key[:-1]) & (side[1:] != side[:-1])
        paired = np.concatenate((both, [False])) | np.concatenate(([False], both))
        otherwise = np.flatnonzero(both & (content[1:] != content[:-1]))
        users, which = np.unique(user, return_inverse=True)
        missing = np.bincount(which[~paired & (side == 0)], minlength=len(users))
        extra = np.bincount(which[~paired & (side == 1)], minlength=len(users))
        changed = np.bincount(which[otherwise], minlength=len(users))
        for i in np.flatnonzero(missing + extra + changed):
            yield Difference(int(users[i]), int(missing[i]), int(extra[i]), int(changed[i]))
