"""From the oracle's events to the kernel's columns, and from a standard set to the oracle's row."""

from collections.abc import Callable, Sequence

import numpy as np

from tests import reference as ref
from tests.reference import DAY, Event
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition
from ubp_sql.features.events import NO_KEY, Events
from ubp_sql.kernels.dispatch import F32, I64

F32_MAX = float(np.finfo(np.float32).max)
SUM_ERROR = 1e-13
"""Of a sum of up to 30 values, relative to the sum of what they are without sign: the order is the kernel's own."""
ON_EVENTS: dict[str, Callable[[list[Event]], float | None]] = {
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
    "hour_sin": lambda events: ref.mean_hour(events, "sin"),
    "hour_cos": lambda events: ref.mean_hour(events, "cos"),
    "night_share": lambda events: ref.hour_share(events, 0, 6),
    "morning_share": lambda events: ref.hour_share(events, 6, 12),
    "afternoon_share": lambda events: ref.hour_share(events, 12, 18),
    "evening_share": lambda events: ref.hour_share(events, 18, 24),
    "weekend_share": lambda events: ref.weekday_share(events, {5, 6}),
}
AT_MOMENT: dict[str, Callable[[list[Event], int], float | None]] = {
    "days_since": ref.days_since,
    "tenure_days": ref.tenure_days,
    "overdue_ratio": ref.overdue_ratio,
}
OTHERS = ("trend_count", "trend_orders", "share", "same_weekday_share")
FLOATING = ("sum_value", "mean_value", "mean_order_value")


def columns(users: Sequence[Sequence[Event]], kinds: Sequence[str]) -> Events:
    """Users 0, 10, 20, ... with their events, which are in order."""
    flat = [e for events in users for e in events]
    return Events(
        user_id=np.arange(len(users), dtype=np.int64) * 10,
        first=np.cumsum([0, *map(len, users)], dtype=np.int64),
        t_us=ints([e.t for e in flat]),
        ingested_us=ints([e.ingested for e in flat]),
        offset_s=np.array([(e.local - e.t) // 1_000_000 for e in flat], np.int32),
        kind=np.array([kinds.index(e.kind) if e.kind in kinds else -1 for e in flat], np.int32),
        numbers={"value": np.array([np.nan if e.value is None else e.value for e in flat], np.float64)},
        keys={
            "item": ints([NO_KEY if e.item is None else e.item for e in flat]),
            "order": ints([e.order for e in flat]),
        },
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
    ).features


def same_bits(one: F32, other: F32) -> bool:
    return one.shape == other.shape and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def family(f: FeatureDefinition) -> str:
    """What the standard set's name begins with."""
    return next(name for name in (*ON_EVENTS, *AT_MOMENT, *OTHERS) if f.name.startswith(f"{name}_"))


def expected(
    definition: FeatureSetDefinition, events: Sequence[Event], as_of: int, as_of_local: int, known_at: int
) -> list[tuple[float, float]]:
    """The oracle's row, each value with the error that it may have; NaN for no value."""
    seen = ref.known(list(events), as_of, known_at)
    return [_value(f, seen, as_of, as_of_local) for f in definition.features]


def _value(f: FeatureDefinition, seen: list[Event], as_of: int, as_of_local: int) -> tuple[float, float]:
    mine = ref.within(seen, f.kind, as_of, f.window_days)
    x = _exact(f, mine, seen, as_of, as_of_local)
    if x is None:
        return np.nan, 0.0
    if family(f) in ("std_gap", "hour_sin", "hour_cos"):
        return float(x), 1e-5 * abs(x) + 2e-7
    return float(x), SUM_ERROR * sum(map(abs, ref.values(mine))) if family(f) in FLOATING else 0.0


def _exact(f: FeatureDefinition, mine: list[Event], seen: list[Event], as_of: int, local: int) -> float | None:
    name, against = family(f), f.spec.against
    if name in ON_EVENTS:
        return ON_EVENTS[name](mine)
    if name in AT_MOMENT:
        return AT_MOMENT[name](mine, as_of)
    if name == "same_weekday_share":
        return ref.weekday_share(mine, {ref.weekday(local)})
    if name == "share":
        assert isinstance(against, tuple)
        return ref.ratio(len(mine), len(ref.within(seen, str(against[0]), as_of, f.window_days)))
    far = getattr(against, "width_us", 0) // DAY
    longer = ref.within(seen, f.kind, as_of, far)
    measure: Callable[[list[Event]], int] = ref.orders if name == "trend_orders" else len
    assert f.window_days is not None
    return ref.rate_ratio(measure(mine), f.window_days, measure(longer), far)


def held(x: float) -> np.float32:
    """As float32, within its finite range."""
    return np.float32(x if np.isnan(x) else min(max(x, -F32_MAX), F32_MAX))


def is_close(got: np.float32, want: float, error: float) -> bool:
    """Equal to the bit without an error; a sum that may overflow on the way may be anything."""
    if not np.isfinite(error):
        return True
    if error == 0.0 or np.isnan(want):
        return bool(got == held(want) or (np.isnan(got) and np.isnan(want)))
    return bool(held(want - error) <= got <= held(want + error))


def assert_row(definition: FeatureSetDefinition, row: F32, oracle: Sequence[tuple[float, float]]) -> None:
    """Equal to the bit, but for sums, deviations and sines, which the oracle computes in another way."""
    for f, got, (want, error) in zip(definition.features, row, oracle, strict=True):
        assert is_close(got, want, error), f"{f.name}: {got!r}, oracle {want!r} +- {error!r}"


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
