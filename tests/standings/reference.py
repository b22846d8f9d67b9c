"""What percentile and item_popularity mean, as plain loops over all events. Imports nothing from ubp_sql."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple


class Event(NamedTuple):
    user: int
    t: datetime
    ingested: datetime
    kind: str
    item: int | None
    value: float | None


def known(log: Sequence[Event], as_of: datetime) -> list[Event]:
    return [e for e in log if e.t < as_of and e.ingested <= as_of]


def own(mine: Sequence[Event], as_of: datetime) -> dict[str, float | None]:
    """One user's features that are not about others."""
    views = [e for e in mine if e.kind == "view"]
    bought = [e for e in mine if e.kind == "purchase" and e.value is not None]
    recent = [e.value for e in bought if e.t >= as_of - timedelta(days=5)]
    return {
        "views_all": float(len(views)),
        "views_3d": float(sum(e.t >= as_of - timedelta(days=3) for e in views)),
        "spent": sum((e.value for e in bought if e.value is not None), 0.0),
        "dearest": max((x for x in recent if x is not None), default=None),
        "tenure": (as_of - min(e.t for e in views)) / timedelta(days=1) if views else None,
    }


def population(log: Sequence[Event], day: datetime, feature: str) -> list[float]:
    """The feature of everybody at the day's start who has one."""
    then = known(log, day)
    values = [own([e for e in then if e.user == user], day)[feature] for user in {e.user for e in then}]
    return [x for x in values if x is not None]


def percentile(value: float | None, others: Sequence[float]) -> float | None:
    if value is None or not others:
        return None
    return 100 * sum(1.0 if x < value else 0.5 if x == value else 0.0 for x in others) / len(others)


def popularity(mine: Sequence[Event], then: Sequence[Event], day: datetime) -> float | None:
    """Events of the four days before `day` on the item of the newest of `mine`, which are in their order."""
    item = next((e.item for e in reversed(mine) if e.item is not None), None)
    if item is None:
        return None
    return float(sum(e.item == item and e.t >= day - timedelta(days=4) for e in then))
