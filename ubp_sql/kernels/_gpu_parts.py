"""How work for a GPU is cut: users into parts, users of a length together, trees that fit a block's memory.

Everything here is decided on the host; of arrays that lie on the card only what is small is read.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels import scratch
from ubp_sql.kernels.dispatch import I32, I64, EventColumns, Pairs, Plan, Trees

SHORTEST = 32
"""Events up to which users are of a length: what scratch takes for fewer is little."""


def host(given: Any) -> Any:
    """The array in the host's memory; CuPy's have `get`, NumPy's do not."""
    return given.get() if hasattr(given, "get") else given


class Users(NamedTuple):
    """The users of pairs, on the host.

    begin   (g+1,) where each user's pairs begin
    user    (g,)   his place among the events' users
    events  (g,)   how many events he has
    cost    (g+1,) bytes that the users before him take on the card
    """

    begin: I64
    user: I64
    events: I64
    cost: I64

    def until(self, low: int, most: int) -> int:
        """Up to which user those from `low` on fit into `most` bytes together; one always does."""
        fit = int(np.searchsorted(self.cost, self.cost[low] + most, side="right")) - 1
        return max(low + 1, fit)


def users_of(first: I64, user: Any, an_event: int, a_pair: int) -> Users:
    """Who has pairs, of users `user` (p,); an event and a pair take so many bytes of the card."""
    changes = (user[1:] != user[:-1]).nonzero()[0]
    begin = np.concatenate((np.zeros(min(1, len(user)), np.int64), host(changes) + 1, [len(user)]))
    mine = np.concatenate((host(user[:1]), host(user[1:][changes])))
    events = first[mine + 1] - first[mine]
    cost = np.zeros(len(begin), np.int64)
    np.cumsum(an_event * events + a_pair * np.diff(begin), out=cost[1:])
    return Users(begin, mine, events, cost)


def bytes_of(columns: EventColumns) -> int:
    """Of an event."""
    return sum(column.dtype.itemsize * (column.shape[0] if column.ndim == 2 else 1) for column in columns[1:-1])


def slice_events(events: EventColumns, first: I64, low: int, high: int) -> EventColumns:
    """The events of users low..high-1, numbered from 0."""
    span = slice(int(first[low]), int(first[high]))
    return EventColumns(
        first[low : high + 1] - first[low],
        events.t_us[span],
        events.ingested_us[span],
        events.offset_s[span],
        events.kind[span],
        events.numbers[:, span],
        events.keys[:, span],
        events.holidays,
    )


def slice_pairs(pairs: Pairs, low: int, high: int, user: int) -> Pairs:
    """The pairs low..high-1, their users numbered from `user` on."""
    cut = Pairs._make(column[low:high] for column in pairs)
    return cut._replace(user=cut.user - user) if user else cut


def for_a_core(work: I64, slower: float) -> NDArray[np.bool_]:
    """(g,) the users whom a core computes meanwhile: those with the most work, for a launch takes as long as its
    longest thread. So many that the core and the longest thread are done at about the same time.

    work    (g,) of each user
    slower  times that a thread of the card takes as long as the core
    """
    order = np.argsort(work, kind="stable")
    ascending = work[order]
    # Entry k: where the first k users are the card's. The last of the best: the fewest users for the core.
    thread = slower * np.append(0, ascending)
    core = np.append(np.cumsum(ascending[::-1])[::-1], 0)
    both = np.maximum(thread, core)[::-1]
    mine = np.zeros(len(work), np.bool_)
    mine[order[len(work) - int(both.argmin()) :]] = True
    return mine


def ranges(begin: I64, end: I64) -> I64:
    """begin[0]..end[0]-1, then begin[1]..end[1]-1 and so on."""
    long = end - begin
    return np.repeat(begin - (np.cumsum(long) - long), long) + np.arange(long.sum())


def of_a_length(events: I64, users: I64, longest: int) -> Iterator[tuple[int, I64]]:
    """(most events, users): those of about as many events together, for scratch is as long as the longest needs.

    They ascend within it: a warp takes as long as the longest of its 32 users. None has more than `longest`.
    """
    order = users[np.argsort(events[users], kind="stable")]
    ordered, most, done = events[order], SHORTEST, 0
    while done < len(order):
        end = int(np.searchsorted(ordered, min(most, longest), side="right"))
        if end > done:
            yield min(most, longest), order[done:end]
        done, most = end, 4 * most


def bytes_a_thread(plan: Plan, longest: int) -> int:
    """Of scratch."""
    return sum(column.nbytes for column in scratch.new_scan(plan, longest, 0, 0))


def tree_batches(trees: Trees, held: int) -> tuple[I32, I32]:
    """(b+1,) trees whose inner nodes a block holds together, (t,) the first inner node of each tree.

    A tree's inner nodes begin with its root; one that is a leaf alone has none, and begins where the next one does.
    """
    nodes = len(trees.flags) - len(trees.leaf_value)
    lowest = np.minimum.accumulate(np.minimum(host(trees.root), nodes)[::-1])[::-1].astype(np.int32)
    return together(np.append(lowest, nodes), held), lowest


def together(begin: Any, held: int) -> I32:
    """(b+1,) where each run of items begins that a block holds at a time: of at most `held` in all, or one alone.

    begin  (t+1,) where each item's parts begin
    """
    runs, low = [0], 0
    ends = begin.tolist()
    for item in range(len(ends) - 1):
        if ends[item + 1] - ends[low] > held and item > low:
            runs.append(item)
            low = item
    return np.array([*runs, len(ends) - 1], np.int32)
