"""The standard set: the specs that ubp.define_feature_set makes of event kinds and windows in days."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ubp_sql.features.names import slug
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.windows import ALL, DAY_US, Window

LONGER = 3
"""A trend compares a window with one at least this many times as long."""
BANDS = {"night": range(6), "morning": range(6, 12), "afternoon": range(12, 18), "evening": range(18, 24)}


def standard_specs(kinds: Sequence[str], windows_days: Sequence[int]) -> tuple[FeatureSpec, ...]:
    """The features of `kinds`, main kind first, over ascending windows in days and over lifetime.

    Gaps, rhythm and value per order are of the main kind, over the windows of `chain`, the longer ones where few
    events would say little.
    """
    return tuple(_specs([(kind, slug(kind)) for kind in kinds], list(windows_days), chain(windows_days)))


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


def _specs(kinds: list[tuple[str, str]], days: list[int], links: tuple[int, ...]) -> Iterator[FeatureSpec]:
    linked = [days[link] for link in links]
    for kind, k in kinds:
        for window in (*map(_window, days), ALL):
            yield from _counts(kind, k, window)
        yield FeatureSpec(f"days_since_{k}", "recency", (kind,))
        yield FeatureSpec(f"tenure_days_{k}", "tenure", (kind,))
        for near, far in pairwise(linked):
            name = f"trend_count_{k}_{near}d_{far}d"
            yield FeatureSpec(name, "trend", (kind,), None, _window(near), against=_window(far))
    main, m = kinds[0]
    for kind, k in kinds[1:]:
        for window in (*map(_window, days), ALL):
            yield FeatureSpec(f"share_{k}_in_{m}_{window.text}", "share", (kind,), None, window, against=(main,))
    for near, far in pairwise(linked):
        name = f"trend_orders_{m}_{near}d_{far}d"
        yield FeatureSpec(name, "trend", (main,), "order", _window(near), against=_window(far))
    for window in (*map(_window, linked), ALL):
        name = f"mean_order_value_{m}_{window.text}"
        yield FeatureSpec(name, "sum_per", (main,), "value", window, settings={"per": "order"})
    for window in (*map(_window, linked[-2:]), ALL):
        yield FeatureSpec(f"mean_gap_{m}_{window.text}", "gap_mean", (main,), "order", window)
        yield FeatureSpec(f"std_gap_{m}_{window.text}", "gap_std", (main,), "order", window)
    yield FeatureSpec(f"last_gap_{m}", "gap_last", (main,), "order")
    yield FeatureSpec(f"overdue_ratio_{m}", "overdue", (main,), "order")
    for near in linked[-3:]:
        yield from _rhythm(main, m, _window(near))


def _counts(kind: str, k: str, window: Window) -> Iterator[FeatureSpec]:
    for name, aggregate, of in (
        ("count", "count", None),
        ("orders", "distinct", "order"),
        ("distinct_items", "distinct", "item"),
        ("distinct_days", "distinct", "day"),
        ("sum_value", "sum", "value"),
        ("mean_value", "mean", "value"),
    ):
        yield FeatureSpec(f"{name}_{k}_{window.text}", aggregate, (kind,), of, window)


def _rhythm(kind: str, k: str, window: Window) -> Iterator[FeatureSpec]:
    def spec(name: str, aggregate: str, of: str | None, **settings: list[int]) -> FeatureSpec:
        return FeatureSpec(f"{name}_{k}_{window.text}", aggregate, (kind,), of, window, settings=settings)

    yield spec("hour_sin", "clock_sin", "hour")
    yield spec("hour_cos", "clock_cos", "hour")
    for band, hours in BANDS.items():
        yield spec(f"{band}_share", "clock_share", "hour", **{"in": list(hours)})
    yield spec("weekend_share", "clock_share", "weekday", **{"in": [6, 7]})
    yield spec("same_weekday_share", "same_weekday_share", None)


def _window(days: int) -> Window:
    return Window(days * DAY_US)
