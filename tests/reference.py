"""The naive oracle: what each feature means, as plain loops over one user's events. Imports nothing from ubp_sql."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import combinations
from typing import Any, NamedTuple

DAY = 86_400_000_000


class Event(NamedTuple):
    """Times in microseconds; `local` is the clock of the source; a missing item or value is None."""

    t: int
    local: int
    ingested: int
    kind: str
    item: int | None
    order: int
    value: float | None


def known(events: list[Event], as_of: int, known_at: int) -> list[Event]:
    return [e for e in events if e.t < as_of and e.ingested <= known_at]


def within(events: list[Event], kind: str, as_of: int, days: int | None) -> list[Event]:
    return [e for e in events if e.kind == kind and (days is None or e.t >= as_of - days * DAY)]


def orders(events: list[Event]) -> int:
    return len({e.order for e in events})


def distinct_items(events: list[Event]) -> int:
    return len({e.item for e in events if e.item is not None})


def distinct_days(events: list[Event]) -> int:
    return len({e.local // DAY for e in events})


def values(events: list[Event]) -> list[float]:
    return [e.value for e in events if e.value is not None]


def sum_value(events: list[Event]) -> float:
    return sum(values(events), 0.0)


def mean_value(events: list[Event]) -> float | None:
    return sum_value(events) / len(values(events)) if values(events) else None


def mean_order_value(events: list[Event]) -> float | None:
    return sum_value(events) / orders(events) if values(events) else None


def days_since(events: list[Event], as_of: int) -> float | None:
    return (as_of - events[-1].t) / DAY if events else None


def tenure_days(events: list[Event], as_of: int) -> float | None:
    return (as_of - events[0].t) / DAY if events else None


def rate_ratio(short: int, short_days: int, long: int, long_days: int) -> float | None:
    return (short * long_days) / (long * short_days) if long else None


def ratio(over: int, under: int) -> float | None:
    return over / under if under else None


def order_times(events: list[Event]) -> list[int]:
    times: dict[int, int] = {}
    for e in events:
        times[e.order] = min(e.t, times.get(e.order, e.t))
    return sorted(times.values())


def gaps(events: list[Event]) -> list[int]:
    times = order_times(events)
    return [times[i] - times[i - 1] for i in range(1, len(times))]


def mean_gap(events: list[Event]) -> float | None:
    return sum(gaps(events)) / len(gaps(events)) / DAY if gaps(events) else None


def std_gap(events: list[Event]) -> float | None:
    n, total = len(gaps(events)), sum(gaps(events))
    if n < 2:
        return None
    squares = sum((n * gap - total) ** 2 for gap in gaps(events))  # exact: whole numbers
    return math.sqrt(squares / (n * n * (n - 1))) / DAY


def last_gap(events: list[Event]) -> float | None:
    return gaps(events)[-1] / DAY if gaps(events) else None


def overdue_ratio(events: list[Event], as_of: int) -> float | None:
    if not sum(gaps(events)):
        return None
    return (as_of - order_times(events)[-1]) / (sum(gaps(events)) / len(gaps(events)))


def hour(event: Event) -> int:
    return event.local % DAY // (DAY // 24)


def weekday(local: int) -> int:
    return (local // DAY + 3) % 7  # 1970-01-01 was a Thursday, Monday is 0


def mean_hour(events: list[Event], wave: str) -> float | None:
    function = math.sin if wave == "sin" else math.cos
    return sum(function(2 * math.pi * hour(e) / 24) for e in events) / len(events) if events else None


def hour_share(events: list[Event], begin: int, end: int) -> float | None:
    return sum(begin <= hour(e) < end for e in events) / len(events) if events else None


def weekday_share(events: list[Event], days: set[int]) -> float | None:
    return sum(weekday(e.local) in days for e in events) / len(events) if events else None


# The plain operations of the kernels, on the events of one window in their order.


def in_bucket(events: list[Event], as_of: int, width: int, number: int) -> list[Event]:
    """Events of tumbling window `number`, 0 the newest, of `width` microseconds."""
    return [e for e in events if as_of - (number + 1) * width <= e.t < as_of - number * width]


def extrema(events: list[Event]) -> tuple[float | None, float | None]:
    return min(values(events), default=None), max(values(events), default=None)


def spread(events: list[Event]) -> float | None:
    """Sample standard deviation, by whole numbers over a power of two: exact but for the root."""
    n, ratios = len(values(events)), [x.as_integer_ratio() for x in values(events)]
    if n < 2:
        return None
    scale = max(below for _, below in ratios)
    whole = [above * (scale // below) for above, below in ratios]
    squares = sum((n * x - sum(whole)) ** 2 for x in whole)
    return math.sqrt(squares / (n * n * (n - 1) * scale * scale))


def distinct(events: list[Event], key: Callable[[Event], int | None]) -> int:
    return len({key(e) for e in events} - {None})


def newest_key(events: list[Event], key: Callable[[Event], int | None]) -> int | None:
    """The key of the newest event that has one."""
    return next((found for e in reversed(events) if (found := key(e)) is not None), None)


def newest_values(events: list[Event], n: int) -> list[float]:
    return values(events)[::-1][:n]


def starts(events: list[Event], key: Callable[[Event], int | None] | None) -> list[int]:
    """Times of the first event of each key, or of every event."""
    if key is None:
        return [e.t for e in events]
    first: dict[int, int] = {}
    for e in events:
        name = key(e)
        if name is not None:
            first.setdefault(name, e.t)
    return list(first.values())


def differences(times: list[int]) -> list[int]:
    return [times[i] - times[i - 1] for i in range(1, len(times))]


def deviation_days(gaps_us: list[int]) -> float | None:
    n, total = len(gaps_us), sum(gaps_us)
    if n < 2:
        return None
    return math.sqrt(sum((n * gap - total) ** 2 for gap in gaps_us) / (n * n * (n - 1))) / DAY


def decayed(weights: list[tuple[int, float]], half_life: float) -> float:
    """Sum of (time, x), each halved for every half-life between it and the newest."""
    newest = max((t for t, _ in weights), default=0)
    return math.fsum(x * 2.0 ** (-(newest - t) / half_life) for t, x in weights)


def bins(events: list[Event], key: Callable[[Event], int | None], size: int) -> list[int]:
    return [sum(key(e) == j for e in events) for j in range(size)]


def by_key(events: list[Event], key: Callable[[Event], int | None]) -> dict[int, int]:
    """How often each key comes, most recent key first."""
    found: dict[int, int] = {}
    for e in reversed(events):
        name = key(e)
        if name is not None:
            found[name] = found.get(name, 0) + 1
    return found


def entropy(counts: list[int]) -> float | None:
    n = sum(counts)
    return -math.fsum(c / n * math.log(c / n) for c in counts) if n else None


def most_frequent(events: list[Event], key: Callable[[Event], int | None], k: int) -> list[tuple[int, int]]:
    """(key, count), of equals the more recent first: a stable sort of keys that are in that order."""
    return sorted(by_key(events, key).items(), key=lambda pair: -pair[1])[:k]


def code_of(key: int) -> int:
    """20 bits of a hash of a key (Stafford's mix 13 on 64 bits)."""
    h = key % 2**64
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    h = (h ^ h >> 27) * 0x94D049BB133111EB % 2**64
    return (h ^ h >> 31) % 2**20


def month(local: int) -> int:
    """Months since January."""
    return (datetime(1970, 1, 1) + timedelta(days=local // DAY)).month - 1


def valid_until(events: list[Event], as_of: int, widths: list[int]) -> int:
    """The last moment from as_of on at which the same events are in windows of these widths and in lifetime."""
    moments = [e.t + w for e in events for w in widths if max(e.t + 1, e.ingested) <= e.t + w >= as_of]
    moments += [max(e.t, e.ingested - 1) for e in events]
    return min((m for m in moments if m >= as_of), default=2**62)


class Split(NamedTuple):
    """A node of a tree, whose children are nodes or leaves: numbers. `share` of the training data went left."""

    feature: int
    goes_left: Callable[[float], bool]
    share: Fraction
    left: Any
    right: Any


def worth(node: Any, row: list[float], known: frozenset[int]) -> Fraction:
    """What a tree gives where only some features of the row are known: a split on another sends it both ways."""
    if not isinstance(node, Split):
        return Fraction(node)
    if node.feature in known:
        return worth(node.left if node.goes_left(row[node.feature]) else node.right, row, known)
    return node.share * worth(node.left, row, known) + (1 - node.share) * worth(node.right, row, known)


def shapley(node: Any, row: list[float], feature: int) -> Fraction:
    """A feature's Shapley value, over all coalitions of the others."""
    n, total = len(row), Fraction(0)
    others = [j for j in range(n) if j != feature]
    for size in range(n):
        weight = Fraction(math.factorial(size) * math.factorial(n - 1 - size), math.factorial(n))
        for known in map(frozenset, combinations(others, size)):
            total += weight * (worth(node, row, known | {feature}) - worth(node, row, known))
    return total


def leaf_shapley(value: float, path: dict[int, tuple[bool, Fraction]], feature: int) -> Fraction:
    """The same of one leaf, which each feature on its path allows or not, and lets through a share of the data."""
    ways = [Fraction(value)]  # by how many others are known, over all choices of these
    for allows, share in (of for j, of in path.items() if j != feature):
        known, unknown = [int(allows) * way for way in ways], [share * way for way in ways]
        ways = [a + b for a, b in zip([Fraction(0), *known], [*unknown, Fraction(0)], strict=True)]
    n, (allows, share) = len(path), path[feature]
    each = [way / (n * math.comb(n - 1, size)) for size, way in enumerate(ways)]
    return sum(each, Fraction(0)) * (int(allows) - share)
