"""Merges sorted blocks: newer entries that are complete void older ones, and an event that comes twice stays once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ubp_sql.kernels.dispatch import I64
from ubp_sql.mirror.layout import SORT, Block, Bools, Column, starts

FEW = 3
"""Up to so many blocks are inserted into each other, more are sorted together: 25 calls of NumPy a pair add up."""


class Key(NamedTuple):
    """A place in the order of events: at or before this event of a user; `t` None: all of the user's."""

    user: int
    t: int | None = None
    ingested: int = 0
    event_id: int = 0


def before(one: Key, other: Key) -> bool:
    """Whether `one` comes strictly before `other`."""
    if one.user != other.user or one.t is None or other.t is None:
        return one.user < other.user or (one.user == other.user and one.t is not None and other.t is None)
    return one < other


def merge(blocks: Sequence[Block]) -> Block:
    """All blocks as one, given from the oldest to the newest.

    Of equal events (user and SORT) one stays. A user is complete in the result if some entry was.
    """
    live = [block for block in blocks if len(block.user_id)]
    if not live:
        return blocks[0]
    if len(live) > FEW:
        return _sorted(live)
    merged = live[-1]
    for older in reversed(live[:-1]):
        merged = _inserted(older, merged)
    return merged


def _inserted(older: Block, newer: Block) -> Block:
    """Two blocks: a search and a copy; nothing is sorted."""
    users = np.union1d(older.user_id, newer.user_id)
    place = np.searchsorted(newer.user_id, older.user_id)
    place[place == len(newer.user_id)] = 0
    void = (newer.user_id[place] == older.user_id) & newer.complete[place]
    if void.any() and older.sizes[void].any():
        older = older.rows(np.repeat(~void, older.sizes))
    at = _places(older, newer)
    if at is None:
        columns = older.columns
    else:
        twice = at < 0
        if twice.any():
            newer, at = newer.rows(~twice), at[~twice]
        at = at + np.arange(len(at))
        old = np.ones(older.n + newer.n, np.bool_)
        old[at] = False
        columns = {name: _spread(old, at, column, newer.columns[name]) for name, column in older.columns.items()}
    sizes = np.zeros(len(users), np.int64)
    complete = np.zeros(len(users), np.bool_)
    for block in (older, newer):
        where = np.searchsorted(users, block.user_id)
        sizes[where] += block.sizes
        complete[where] |= block.complete
    return Block(users, starts(sizes), complete, columns)


def _spread(old: Bools, at: I64, older: Column, newer: Column) -> Column:
    out = np.empty(len(old), older.dtype)
    out[old] = older
    out[at] = newer
    return out


def _places(older: Block, newer: Block) -> I64 | None:
    """(newer.n,) before which event of `older` each event of `newer` belongs, -1 if it is there; None without events.

    A binary search of all at once, within the user's events.
    """
    if newer.n == 0:
        return None
    index = np.searchsorted(older.user_id, newer.user_id)
    there = index < len(older.user_id)
    there[there] = older.user_id[index[there]] == newer.user_id[there]
    low = np.repeat(older.first[index], newer.sizes)
    high = np.repeat(older.first[index + there], newer.sizes)
    end = high.copy()
    keys = [(older.columns[name], newer.columns[name]) for name in SORT]
    rows = np.flatnonzero(low < high)
    while len(rows):
        middle = (low[rows] + high[rows]) >> 1
        less = _less(keys, middle, rows)
        low[rows[less]] = middle[less] + 1
        high[rows[~less]] = middle[~less]
        rows = rows[low[rows] < high[rows]]
    same = low < end
    for old, new in keys:
        same[same] = old[low[same]] == new[same]
    low[same] = -1
    return low


def _less(keys: list[tuple[Column, Column]], middle: I64, rows: I64) -> Bools:
    """Whether the older event comes before the newer one, by time, ingestion, id."""
    less = np.zeros(len(rows), np.bool_)
    for old, new in reversed(keys):
        one, other = old[middle], new[rows]
        less = (one < other) | ((one == other) & less)
    return less


def _sorted(blocks: Sequence[Block]) -> Block:
    """Many blocks: sorted together."""
    entries = np.concatenate([block.user_id for block in blocks])
    complete = np.concatenate([block.complete for block in blocks])
    rank = np.repeat(np.arange(len(blocks)), [len(block.user_id) for block in blocks])
    users, which = np.unique(entries, return_inverse=True)
    newest = np.full(len(users), -1)  # the newest block that has all of the user
    np.maximum.at(newest, which[complete], rank[complete])
    keep = np.repeat(rank >= newest[which], np.concatenate([block.sizes for block in blocks]))
    row_user = np.repeat(which, np.concatenate([block.sizes for block in blocks]))[keep]
    columns = {name: np.concatenate([block.columns[name] for block in blocks])[keep] for name in blocks[0].columns}
    order = np.lexsort((*(columns[name] for name in reversed(SORT)), row_user))
    row_user = row_user[order]
    same = row_user[1:] == row_user[:-1]
    for name in SORT:
        ordered = columns[name][order]
        same &= ordered[1:] == ordered[:-1]
    keep = np.concatenate((np.ones(min(1, len(order)), np.bool_), ~same))
    order = order[keep]
    sizes = np.bincount(row_user[keep], minlength=len(users))
    columns = {name: column[order] for name, column in columns.items()}
    return Block(users, starts(sizes), newest >= 0, columns)


def join(blocks: Sequence[Block], pause: Callable[[], object] = int) -> Block:
    """Blocks one after the other in the order of users; a user who ends one and begins the next is one entry.

    pause  called after each column: of a user of millions of events one takes 10 ms a million
    """
    blocks = [block for block in blocks if len(block.user_id)] or list(blocks[:1])
    if len(blocks) == 1:
        return blocks[0]
    user = np.concatenate([block.user_id for block in blocks])
    sizes = np.concatenate([block.sizes for block in blocks])
    complete = np.concatenate([block.complete for block in blocks])
    columns = {}
    for name in blocks[0].columns:
        columns[name] = np.concatenate([block.columns[name] for block in blocks])
        pause()
    new = np.concatenate(([True], user[1:] != user[:-1]))
    if not new.all():
        begin = np.flatnonzero(new)
        sizes, complete = np.add.reduceat(sizes, begin), np.logical_or.reduceat(complete, begin)
        user = user[new]
    return Block(user, starts(sizes), complete, columns)


def split(block: Block, key: Key) -> tuple[Block, Block]:
    """What lies at or before `key`, and the rest.

    Where the cut goes through a user both parts have the entry, so that both know whether it is complete.
    """
    if key.t is None:
        users = int(np.searchsorted(block.user_id, key.user, "right"))
        return block.slice(0, users), block.slice(users, len(block.user_id))
    users = int(np.searchsorted(block.user_id, key.user))
    if users == len(block.user_id) or block.user_id[users] != key.user:
        return block.slice(0, users), block.slice(users, len(block.user_id))
    low, high = int(block.first[users]), int(block.first[users + 1])
    for name, value in zip(SORT, (key.t, key.ingested, key.event_id), strict=True):
        column = block.columns[name]
        low, high = (
            low + int(np.searchsorted(column[low:high], value)),
            low + int(np.searchsorted(column[low:high], value, "right")),
        )
    inside = high - int(block.first[users])
    left, right = block.slice(0, users + 1), block.slice(users, len(block.user_id))
    return (
        Block(
            left.user_id,
            np.minimum(left.first, high),
            left.complete,
            {name: column[:high] for name, column in left.columns.items()},
        ),
        Block(
            right.user_id,
            np.maximum(right.first - inside, 0),
            right.complete,
            {name: column[inside:] for name, column in right.columns.items()},
        ),
    )


def last_key(block: Block, more_of_user: bool) -> Key:
    """Up to where a block tells everything: its last event if the user goes on after it, else all of its last user."""
    user = int(block.user_id[-1])
    if not more_of_user or block.first[-2] == block.first[-1]:
        return Key(user)
    return Key(user, *(int(block.columns[name][-1]) for name in SORT))


class Cursor:
    """A sorted source, taken block by block.

    blocks  pairs of a block and whether its last user goes on in the next one
    """

    def __init__(self, blocks: Iterable[tuple[Block, bool]]) -> None:
        self._blocks = iter(blocks)
        self.block: Block | None = None
        self._goes_on = False
        self._ended = False

    def fill(self) -> bool:
        """Holds a block that says something of its own end; false when all is taken."""
        while not self._ended and self._empty_handed():
            found = next(self._blocks, None)
            if found is None:
                self._ended = True
            else:
                # An entry without events that goes on in the next block: only together do they tell of the user.
                self.block = join([self.block, found[0]]) if self.block is not None else found[0]
                self._goes_on = found[1]
        return self.block is not None and len(self.block.user_id) > 0

    def _empty_handed(self) -> bool:
        return self.block is None or len(self.block.user_id) == 0 or (self._goes_on and self.block.n == 0)

    def bound(self) -> Key:
        """Up to where the block held tells everything."""
        assert self.block is not None  # noqa: S101 - fill() came first
        return last_key(self.block, self._goes_on)

    def take(self, key: Key) -> Block:
        """What lies at or before `key`; the rest stays."""
        assert self.block is not None  # noqa: S101
        left, self.block = split(self.block, key)
        return left


def merged(cursors: Sequence[Cursor]) -> Iterator[Block]:
    """Sources from the oldest to the newest as one stream of blocks in order, each about as large as theirs are.

    A block may begin with the user who ended the one before.
    """
    while live := [cursor for cursor in cursors if cursor.fill()]:
        if len(live) == 1:
            block = live[0].block
            assert block is not None  # noqa: S101
            live[0].block = None
            yield block
            continue
        bound = live[0].bound()
        for cursor in live[1:]:
            if before(other := cursor.bound(), bound):
                bound = other
        yield merge([cursor.take(bound) for cursor in live])
