"""The families of features: what each is called and means, and which ratio of the kernel's cells it is.

To add a feature whose cells exist: a line here, an oracle of a few lines in tests/reference.py and one in
tests/features/sql_oracle.py, and the golden hash. A new cell goes into kernels/dispatch.py and each backend first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ubp_sql.features.names import slug
from ubp_sql.kernels.dispatch import DAY_US, Cell

LONGER = 3
"""A trend compares a window with one at least this many times as long."""


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One feature of a set.

    position     0-based place in the row
    name         column name
    family       what is computed; features of one family differ by kind and window only
    kind         the event kind that is its subject
    window_days  width of [as_of - width, as_of); None: over all events before as_of
    other        a trend's longer window in days, a share's denominator kind, else None
    unit         of the value, for people
    meaning      one sentence for people
    null_rule    when the value is NULL, or what stands in its place
    sql_type     integer for counts, else real
    opcode       a row of the kernels' `Plan.codes`
    """

    position: int
    name: str
    family: str
    kind: str
    window_days: int | None
    other: int | str | None
    unit: str
    meaning: str
    null_rule: str
    sql_type: str
    opcode: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Family:
    """`name` and `meaning` are patterns over {k} the kind, {w} the window, {o} the other kind or window."""

    name: str
    over: Cell
    under: Cell
    unit: str
    meaning: str
    null_rule: str
    divide: int = 1


_ZERO = "never NULL: 0 without an event"
_NO_EVENT = "NULL without an event of the kind"
_NO_VALUE = "NULL without an event of the kind with a value in the window"
_TWO_ORDERS = "NULL with fewer than two orders"
_COUNTS = (
    _Family("count_{k}_{w}", Cell.EVENTS, Cell.ONE, "events", "Number of {k} events {w}.", _ZERO),
    _Family(
        "orders_{k}_{w}", Cell.ORDERS, Cell.ONE, "orders", "Number of different orders with {k} events {w}.", _ZERO
    ),
    _Family(
        "distinct_items_{k}_{w}", Cell.ITEMS, Cell.ONE, "items", "Number of different items in {k} events {w}.", _ZERO
    ),
    _Family("distinct_days_{k}_{w}", Cell.DAYS, Cell.ONE, "days", "Number of local days with {k} events {w}.", _ZERO),
)
_VALUES = (
    _Family(
        "sum_value_{k}_{w}",
        Cell.SUM_VALUE,
        Cell.ONE,
        "value",
        "Sum of the values of {k} events {w}.",
        "0 without a value; NULL where +infinity meets -infinity",
    ),
    _Family(
        "mean_value_{k}_{w}",
        Cell.SUM_VALUE,
        Cell.VALUES,
        "value per event",
        "Mean value of the {k} events {w} that have a value.",
        _NO_VALUE,
    ),
)
_ORDER_VALUE = _Family(
    "mean_order_value_{k}_{w}",
    Cell.SUM_VALUE,
    Cell.ORDERS_VALUED,
    "value per order",
    "Sum of the values of {k} events per order {w}.",
    _NO_VALUE,
)
_AGES = (
    _Family("days_since_{k}", Cell.SINCE_LAST, Cell.ONE, "days", "Days since the last {k} event.", _NO_EVENT, DAY_US),
    _Family(
        "tenure_days_{k}", Cell.SINCE_FIRST, Cell.ONE, "days", "Days since the first {k} event.", _NO_EVENT, DAY_US
    ),
)
_TREND_COUNT = _Family(
    "trend_count_{k}_{w}_{o}",
    Cell.EVENTS,
    Cell.EVENTS,
    "ratio",
    "Rate of {k} events {w}, divided by their rate in the last {o} days: above 1 it rises.",
    "NULL without an event of the kind in the longer window",
)
_TREND_ORDERS = _Family(
    "trend_orders_{k}_{w}_{o}",
    Cell.ORDERS,
    Cell.ORDERS,
    "ratio",
    "Rate of {k} orders {w}, divided by their rate in the last {o} days: above 1 it rises.",
    "NULL without an order in the longer window",
)
_SHARE = _Family(
    "share_{k}_in_{o}_{w}",
    Cell.EVENTS,
    Cell.EVENTS,
    "ratio",
    "Number of {k} events per {o} event {w}.",
    "NULL without an event of the denominator's kind in the window",
)
_GAPS = (
    _Family(
        "mean_gap_{k}_{w}",
        Cell.MEAN_GAP,
        Cell.ONE,
        "days",
        "Mean days from the start of one {k} order to the next {w}.",
        "NULL with fewer than two orders in the window",
        DAY_US,
    ),
    _Family(
        "std_gap_{k}_{w}",
        Cell.STD_GAP,
        Cell.ONE,
        "days",
        "Sample standard deviation of the days from one {k} order to the next {w}.",
        "NULL with fewer than three orders in the window",
    ),
)
_ORDER_AGES = (
    _Family(
        "last_gap_{k}", Cell.LAST_GAP, Cell.ONE, "days", "Days between the last two {k} orders.", _TWO_ORDERS, DAY_US
    ),
    _Family(
        "overdue_ratio_{k}",
        Cell.SINCE_ORDER,
        Cell.MEAN_GAP,
        "ratio",
        "Days since the last {k} order, divided by the mean days between orders: above 1 the next one is overdue.",
        f"{_TWO_ORDERS}, or with all at one time",
    ),
)


def _rhythm(name: str, cell: Cell, meaning: str, unit: str = "0..1") -> _Family:
    return _Family(name, cell, Cell.EVENTS, unit, meaning, "NULL without an event of the kind in the window")


_RHYTHM = (
    _rhythm(
        "hour_sin_{k}_{w}", Cell.HOUR_SIN, "Mean sine of the local hour of {k} events {w}: 1 at 6, -1 at 18.", "-1..1"
    ),
    _rhythm(
        "hour_cos_{k}_{w}", Cell.HOUR_COS, "Mean cosine of the local hour of {k} events {w}: 1 at 0, -1 at 12.", "-1..1"
    ),
    _rhythm("night_share_{k}_{w}", Cell.NIGHT, "Share of {k} events between 0:00 and 5:59 local time {w}."),
    _rhythm("morning_share_{k}_{w}", Cell.MORNING, "Share of {k} events between 6:00 and 11:59 local time {w}."),
    _rhythm("afternoon_share_{k}_{w}", Cell.AFTERNOON, "Share of {k} events between 12:00 and 17:59 local time {w}."),
    _rhythm("evening_share_{k}_{w}", Cell.EVENING, "Share of {k} events between 18:00 and 23:59 local time {w}."),
    _rhythm("weekend_share_{k}_{w}", Cell.WEEKEND, "Share of {k} events on Saturdays and Sundays {w}."),
    _rhythm("same_weekday_share_{k}_{w}", Cell.SAME_WEEKDAY, "Share of {k} events on the moment's own weekday {w}."),
)


def features_of(kinds: Sequence[str], windows: Sequence[int]) -> tuple[FeatureDefinition, ...]:
    """The features of `kinds`, main kind first, over ascending `windows` in days and over lifetime.

    Gaps, rhythm and value per order are of the main kind, over the windows of `chain`, the longer ones where few
    events would say little.
    """
    slugs = [slug(kind) for kind in kinds]
    rows = (
        _define(position, family, kinds, slugs, windows, k, w, other)
        for position, (family, k, w, other) in enumerate(_choose(len(kinds), len(windows), chain(windows)))
    )
    return tuple(rows)


def chain(windows: Sequence[int]) -> tuple[int, ...]:
    """Indices of windows that each are LONGER times the one before, from the shortest to the longest.

    Of (7, 14, 30, 60, 90, 180) that is 7, 30, 90, 180: the last step takes the longest window however near it is.
    """
    links = [0]
    for w, days in enumerate(windows):
        if days >= LONGER * windows[links[-1]]:
            links.append(w)
    last = len(windows) - 1
    return tuple(links if links[-1] == last else [*links, last])


def _choose(kinds: int, life: int, links: tuple[int, ...]) -> Iterator[tuple[_Family, int, int, int]]:
    """(family, kind, window, other kind or window) of each feature; window `life` is lifetime."""
    for k in range(kinds):
        yield from ((family, k, w, 0) for w in range(life + 1) for family in (*_COUNTS, *_VALUES))
        yield from ((family, k, life, 0) for family in _AGES)
        yield from ((_TREND_COUNT, k, w, other) for w, other in pairwise(links))
    yield from ((_SHARE, k, w, 0) for k in range(1, kinds) for w in range(life + 1))
    yield from ((_TREND_ORDERS, 0, w, other) for w, other in pairwise(links))
    yield from ((_ORDER_VALUE, 0, w, 0) for w in (*links, life))
    yield from ((family, 0, w, 0) for w in (*links[-2:], life) for family in _GAPS)
    yield from ((family, 0, life, 0) for family in _ORDER_AGES)
    yield from ((family, 0, w, 0) for w in links[-3:] for family in _RHYTHM)


def _define(
    position: int,
    family: _Family,
    kinds: Sequence[str],
    slugs: Sequence[str],
    windows: Sequence[int],
    k: int,
    w: int,
    other: int,
) -> FeatureDefinition:
    days = windows[w] if w < len(windows) else None
    under, multiply, divide = (k, w), 1, family.divide
    far: int | str | None = None
    other_name = ""
    if family is _SHARE:
        under, far, other_name = (other, w), kinds[other], slugs[other]
    elif family in (_TREND_COUNT, _TREND_ORDERS):
        under, far, other_name = (k, other), windows[other], f"{windows[other]}d"
        multiply, divide = windows[other], windows[w]
    over_time = "so far" if days is None else "in the last day" if days == 1 else f"in the last {days} days"
    return FeatureDefinition(
        position=position,
        name=family.name.format(k=slugs[k], w="all" if days is None else f"{days}d", o=other_name),
        family=family.name.split("_{")[0],
        kind=kinds[k],
        window_days=days,
        other=far,
        unit=family.unit,
        meaning=family.meaning.format(k=kinds[k], w=over_time, o=far),
        null_rule=family.null_rule,
        sql_type="integer" if family in _COUNTS else "real",
        opcode=(k, w, family.over.value, *under, family.under.value, multiply, divide),
    )
