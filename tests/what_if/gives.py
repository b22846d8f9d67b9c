"""How the value of a feature is made of what its events give, as docs/what-if.md says it, in plain Python."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.features.spec_cases import AS_OF

EVENTS = """
select event_id, event_time, kind, item_id, value, quantity, duration_s, attributes::text, ingested_at, source, role,
       key, gives
  from ubp.explain_events('purchase', %s::bigint, %s, 100000)"""
COPY = """
copy ubp.events (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
from stdin"""
TIME, ROLE, KEY, GIVES = 1, 10, 11, 12
Row = tuple[Any, ...]
Rows = Sequence[Row]


def same(one: float | None, other: float | None) -> bool:
    """Equal as features are: NULL and NaN are both no value."""
    return (one is None or one != one) if other is None or other != other else one == other


def total(rows: Rows) -> float:
    return math.fsum(given(rows))


def given(rows: Rows) -> list[float]:
    return [row[GIVES] for row in rows if row[GIVES] is not None]


def mean(rows: Rows) -> float | None:
    return statistics.fmean(given(rows)) if given(rows) else None


def spread(rows: Rows) -> float | None:
    return statistics.stdev(given(rows)) if len(given(rows)) > 1 else None


def only(rows: Rows) -> float | None:
    return given(rows)[0] if given(rows) else None


def keys(rows: Rows) -> int:
    return len({row[KEY] for row in rows} - {None})


def a_key(rows: Rows) -> float | None:
    return total(rows) / keys(rows) if given(rows) and keys(rows) else None


def overdue(rows: Rows) -> float | None:
    gap = mean(rows)
    return (AS_OF - rows[0][TIME]).total_seconds() / 86_400 / gap if gap else None


def entropy(rows: Rows) -> float | None:
    counts = Counter(row[KEY] for row in rows).values()
    return -sum(n / len(rows) * math.log(n / len(rows)) for n in counts) if rows else None


def place_of(rows: Rows) -> float | None:
    """Hours are shown as they are, weekdays and months from 1."""
    return next((float(row[KEY]) for row in rows if row[GIVES] == 1), None)


def below(rows: Rows) -> float:
    """Events where numbers of events are compared, the sum where sums are, else keys."""
    mine = [row for row in rows if row[ROLE] in ("both", "denominator")]
    return keys(mine) if any(row[KEY] is not None for row in mine) else total(mine)


def quotient(rows: Rows) -> float | None:
    above = total([row for row in rows if row[ROLE] in ("both", "numerator")])
    return above / below(rows) if below(rows) else None


MADE: dict[str, Callable[[Rows], float | None]] = {
    **dict.fromkeys(("count", "sum", "distinct", "decayed_count", "decayed_sum", "funnel_reached", "words"), total),
    **dict.fromkeys(("sessions", "dwell_count", "dwell_sum"), total),
    **dict.fromkeys(("mean", "gap_mean", "top_share", "bands", "clock_sin", "clock_cos", "clock_share"), mean),
    **dict.fromkeys(("same_weekday_share", "holiday_share", "funnel_rate"), mean),
    **dict.fromkeys(("first", "last", "last_values", "recency", "tenure", "gap_last", "last_session_age"), only),
    **dict.fromkeys(("last_session_length", "last_session_events"), lambda rows: total(rows) if rows else None),
    **dict.fromkeys(("entropy", "clock_entropy"), entropy),
    **dict.fromkeys(("sum_per", "session_events", "session_length"), a_key),
    **dict.fromkeys(("trend", "ratio", "share"), quotient),
    "min": lambda rows: min(given(rows), default=None),
    "max": lambda rows: max(given(rows), default=None),
    "funnel_depth": lambda rows: max(given(rows), default=0),
    "std": spread,
    "gap_std": spread,
    "overdue": overdue,
    "clock_top": place_of,
    "bounce_share": lambda rows: mean([row for row in rows if row[ROLE] == "begins"]),
    "dwell_mean": lambda rows: mean([row for row in rows if "stay" in row[ROLE]]),
}
"""What docs/what-if.md says of `gives`."""
NO_NUMBER = ("last_key", "top_keys", "percentile", "item_popularity")
DAYS = {"trend_count": 7 / 36, "trend_sum": 1.5 / 60, "trend_items": 7 / 60}


def value(name: str, family: str, rows: Rows) -> float | None:
    """The value of a feature of tests/features/spec_cases.py."""
    made = MADE[family](rows)
    if made is not None and family == "trend":
        made /= DAYS[name]
    if made is not None and family == "clock_top" and "hour" not in name:
        made -= 1
    return made


def agree(one: float | None, other: float | None) -> bool:
    """Sums in another order than the kernel's."""
    if one is None or other is None or other != other:
        return one is None and (other is None or other != other)
    return math.isclose(one, other, rel_tol=2e-5, abs_tol=1e-6)
