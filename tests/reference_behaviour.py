"""The naive oracle of behaviour features: plain loops over one user's events. Imports nothing from ubp_sql.

Times and lengths are whole microseconds. Every function takes the user's known events in event order, as `known` gives
them, and windows as [begin, end).
"""

import math
from itertools import combinations
from typing import NamedTuple


class Event(NamedTuple):
    """`words` are the numbers 0..63 that the event's words hash to; a missing item is None."""

    t: int
    ingested: int
    event_id: int
    kind: str
    item: int | None = None
    words: frozenset[int] = frozenset()


def known(events: list[Event], as_of: int, known_at: int) -> list[Event]:
    found = [e for e in events if e.t < as_of and e.ingested <= known_at]
    return sorted(found, key=lambda e: (e.t, e.ingested, e.event_id))


def within(events: list[Event], begin: int, end: int) -> list[Event]:
    return [e for e in events if begin <= e.t < end]


def of_kinds(events: list[Event], kinds: set[str]) -> list[Event]:
    return [e for e in events if e.kind in kinds]


# Funnel


def depth(events: list[Event], start: int, steps: list[str], bound: int) -> int:
    """How many steps `events[start]`, itself the first, is followed by, each the first later event of its kind."""
    reached, at = 1, start
    for step in steps[1:]:
        at = next((j for j in range(at + 1, len(events)) if events[j].kind == step), -1)
        if at < 0 or events[at].t - events[start].t > bound:
            break
        reached += 1
    return reached


def depth_by_search(events: list[Event], start: int, steps: list[str], bound: int) -> int:
    """The same by trying every choice of later events: there is no better one than the first match."""
    later = [e for e in events[start + 1 :] if e.t - events[start].t <= bound]
    reached = [n + 1 for n in range(len(steps)) for c in combinations(later, n) if [e.kind for e in c] == steps[1:][:n]]
    return max(reached)


def funnel(events: list[Event], begin: int, end: int, steps: list[str], bound: int) -> list[int]:
    """Deepest step of any start in the window, then how many starts reach step 1, 2, ..."""
    starts = [i for i, e in enumerate(events) if e.kind == steps[0] and begin <= e.t < end]
    depths = [depth(events, i, steps, bound) for i in starts]
    return [max(depths, default=0), *(sum(d >= step for d in depths) for step in range(1, len(steps) + 1))]


# Sessions


def split(events: list[Event], timeout: int) -> list[list[Event]]:
    """Sessions of events in order: a pause of more than `timeout` begins a new one."""
    found: list[list[Event]] = []
    for i, e in enumerate(events):
        if i == 0 or e.t - events[i - 1].t > timeout:
            found.append([])
        found[-1].append(e)
    return found


def sessions(events: list[Event], begin: int, end: int, timeout: int) -> list[int]:
    """Of the window's own events: sessions, events, total length, sessions of one event."""
    found = split(within(events, begin, end), timeout)
    lengths = [s[-1].t - s[0].t for s in found]
    return [len(found), sum(map(len, found)), sum(lengths), sum(len(s) == 1 for s in found)]


def last_session(events: list[Event], timeout: int) -> list[int] | None:
    """Time of the first and the last event of the newest session, and how many it has."""
    if not events:
        return None
    last = split(events, timeout)[-1]
    return [last[0].t, last[-1].t, len(last)]


# Dwell


def dwell(events: list[Event], begin: int, end: int, kinds: set[str], until: set[str], timeout: int) -> list[int]:
    """Over the window's events of `kinds`: how many the next event of `until` follows in time, and the sum of waits."""
    waits = []
    for i, e in enumerate(events):
        if e.kind in kinds and begin <= e.t < end:
            after = [later.t - e.t for later in events[i + 1 :] if later.kind in until]
            waits += [wait for wait in after[:1] if wait <= timeout]
    return [len(waits), sum(waits)]


# Words, keys


def words(events: list[Event], begin: int, end: int, size: int) -> list[int]:
    """Per bucket: the window's events with a word of it; word 0..63 is in bucket `word mod size`."""
    return [sum(any(w % size == j for w in e.words) for e in within(events, begin, end)) for j in range(size)]


def counts(keys: list[int]) -> list[int]:
    return [keys.count(key) for key in sorted(set(keys))]


def favourites(keys: list[int]) -> list[int]:
    """The keys of events in order, the most frequent first, of equals the one seen later."""
    newest = {key: i for i, key in enumerate(keys)}
    return sorted(newest, key=lambda key: (-keys.count(key), -newest[key]))


def entropy(counts: list[int]) -> float | None:
    """Shannon's entropy in nats."""
    n = sum(counts)
    return -sum(c / n * math.log(c / n) for c in counts) if n else None
