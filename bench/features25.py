"""The 25 features of the benches, written down once: what each engine computes is derived from this list.

Windows are [as_of - days, as_of); days None: all events before as_of. Ages and gaps are in days of 24 hours.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

WINDOWS = (7, 30, 90)
HALF_LIFE_DAYS = 30


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: `aggregate` of the events of `kind` over `days`; a trend's longer window is `against`."""

    name: str
    aggregate: str
    kind: str
    days: int | None = None
    against: int | None = None


def _features() -> tuple[Feature, ...]:
    bought = [
        Feature(f"{aggregate}_purchase_{days}d", aggregate, "purchase", days)
        for days in WINDOWS
        for aggregate in ("count", "sum", "mean", "distinct_items", "distinct_days")
    ]
    seen = [Feature(f"count_view_{days}d", "count", "view", days) for days in WINDOWS]
    ages = [Feature(f"days_since_{kind}", "recency", kind) for kind in ("purchase", "view")]
    gaps = [Feature(f"{name}_gap_purchase", f"gap_{name}", "purchase") for name in ("mean", "std")]
    trends = [Feature(f"trend_count_{kind}_7d_30d", "trend", kind, 7, 30) for kind in ("purchase", "view")]
    return (*bought, *seen, *ages, *gaps, *trends, Feature("decayed_sum_purchase", "decayed_sum", "purchase"))


FEATURES = _features()
EXACT = frozenset(f.name for f in FEATURES if f.aggregate in ("count", "distinct_items", "distinct_days"))
"""Counts: every engine must give the very same number."""


def define(conn: psycopg.Connection[Any], feature_set: str = "default") -> None:
    """Defines the features in a set of that name, as a user would; one that has them already stays as it is."""
    for feature in FEATURES:
        call = "select ubp.define_feature(%s, %s, %s, %s, %s, %s, %s)"
        conn.execute(call, [*arguments(feature), feature_set])


def arguments(feature: Feature) -> list[Any]:
    """name, aggregate, kinds, of, window and settings of ubp.define_feature."""
    aggregate, of, settings = feature.aggregate, None, {}
    if aggregate.startswith("distinct_"):
        aggregate, of = "distinct", {"distinct_items": "item", "distinct_days": "day"}[aggregate]
    elif aggregate in ("sum", "mean", "decayed_sum"):
        of = "value"
    if aggregate == "decayed_sum":
        settings = {"half_life": f"{HALF_LIFE_DAYS}d"}
    elif feature.against is not None:
        settings = {"against": f"{feature.against}d"}
    window = "all" if feature.days is None else f"{feature.days}d"
    return [feature.name, aggregate, [feature.kind], of, window, Jsonb(settings)]
