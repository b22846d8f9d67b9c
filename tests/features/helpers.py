"""From the oracle's events to the kernel's columns, and from a definition to the oracle's row."""

from collections.abc import Sequence

import numpy as np

from tests import reference as ref
from tests.reference import DAY, Event
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import NO_ITEM, Events
from ubp_sql.features.families import FeatureDefinition
from ubp_sql.kernels.dispatch import F32, I64

F32_MAX = float(np.finfo(np.float32).max)
BANDS = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}


def columns(users: Sequence[Sequence[Event]], kinds: Sequence[str]) -> Events:
    """Users 0, 10, 20, ... with their events, which are in order."""
    flat = [e for events in users for e in events]
    return Events(
        user_id=np.arange(len(users), dtype=np.int64) * 10,
        first=np.cumsum([0, *map(len, users)], dtype=np.int64),
        t_us=ints([e.t for e in flat]),
        local_us=ints([e.local for e in flat]),
        ingested_us=ints([e.ingested for e in flat]),
        kind=np.array([kinds.index(e.kind) if e.kind in kinds else -1 for e in flat], np.int32),
        item=ints([NO_ITEM if e.item is None else e.item for e in flat]),
        order=ints([e.order for e in flat]),
        value=np.array([np.nan if e.value is None else e.value for e in flat], np.float64),
    )


def ints(numbers: Sequence[int]) -> I64:
    return np.array(numbers, np.int64)


def rows(
    users: Sequence[Sequence[Event]],
    definition: FeatureSetDefinition,
    as_of: int,
    as_of_local: int | None = None,
    known_at: int | None = None,
    chunk: int = 1 << 20,
) -> F32:
    """One row per user at one moment."""
    n = len(users)
    return compute(
        columns(users, definition.kinds),
        definition,
        np.arange(n),
        ints([as_of] * n),
        ints([as_of if as_of_local is None else as_of_local] * n),
        None if known_at is None else ints([known_at] * n),
        chunk=chunk,
    )


def expected(
    definition: FeatureSetDefinition, events: Sequence[Event], as_of: int, as_of_local: int, known_at: int
) -> list[float]:
    """The oracle's row: float64, NaN for no value."""
    seen = ref.known(list(events), as_of, known_at)
    return [np.nan if (x := _value(f, seen, as_of, as_of_local)) is None else float(x) for f in definition.features]


def _value(f: FeatureDefinition, seen: list[Event], as_of: int, as_of_local: int) -> float | None:
    mine = ref.within(seen, f.kind, as_of, f.window_days)
    on_events = {
        "count": len,
        "orders": ref.orders,
        "distinct_items": ref.distinct_items,
        "distinct_days": ref.distinct_days,
        "sum_value": ref.sum_value,
        "mean_value": ref.mean_value,
        "mean_order_value": ref.mean_order_value,
        "mean_gap": ref.mean_gap,
        "std_gap": ref.std_gap,
        "last_gap": ref.last_gap,
    }
    at_moment = {"days_since": ref.days_since, "tenure_days": ref.tenure_days, "overdue_ratio": ref.overdue_ratio}
    if f.family in on_events:
        return on_events[f.family](mine)
    if f.family in at_moment:
        return at_moment[f.family](mine, as_of)
    if f.family.startswith("trend_"):
        assert isinstance(f.other, int)
        assert f.window_days is not None
        longer = ref.within(seen, f.kind, as_of, f.other)
        measure = ref.orders if f.family == "trend_orders" else len
        return ref.rate_ratio(measure(mine), f.window_days, measure(longer), f.other)
    if f.family == "share":
        return ref.ratio(len(mine), len(ref.within(seen, str(f.other), as_of, f.window_days)))
    if f.family.startswith("hour_"):
        return ref.mean_hour(mine, f.family.removeprefix("hour_"))
    if f.family == "weekend_share":
        return ref.weekday_share(mine, {5, 6})
    if f.family == "same_weekday_share":
        return ref.weekday_share(mine, {ref.weekday(as_of_local)})
    return ref.hour_share(mine, *BANDS[f.family.removesuffix("_share")])


def assert_row(definition: FeatureSetDefinition, row: F32, oracle: Sequence[float]) -> None:
    """Equal to the bit, but for deviations and sines, which the oracle computes another way."""
    for f, got, want in zip(definition.features, row, oracle, strict=True):
        stored = np.float32(want if np.isnan(want) else min(max(want, -F32_MAX), F32_MAX))
        if f.family in ("std_gap", "hour_sin", "hour_cos"):
            ok = bool(np.isclose(got, stored, rtol=1e-5, atol=2e-7, equal_nan=True))
        else:
            ok = bool(got == stored or (np.isnan(got) and np.isnan(stored)))
        assert ok, f"{f.name}: {got!r}, oracle {want!r}"


def event(
    t: int,
    kind: str = "purchase",
    item: int | None = 1,
    order: int | None = None,
    value: float | None = 1.0,
    ingested: int | None = None,
    local: int | None = None,
) -> Event:
    return Event(
        t,
        t if local is None else local,
        t if ingested is None else ingested,
        kind,
        item,
        t if order is None else order,
        value,
    )


def days(number: float) -> int:
    return round(number * DAY)
