"""The naive oracle: what each feature means, as plain loops over one user's events. Imports nothing from ubp_sql."""

import math
from typing import NamedTuple

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
