"""Which events meet the conditions of a label rule: as kernels do it for features, for a batch of events at once."""

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.ask import key_code, number_range
from ubp_sql.features.events import Events
from ubp_sql.features.spec import Condition
from ubp_sql.kernels.codes import DAY_US, HOUR_US
from ubp_sql.kernels.dispatch import I64


def meeting(events: Events, kinds: list[int], where: tuple[Condition, ...], holidays: I64) -> NDArray[np.bool_]:
    """(n,) events of the kinds that meet all conditions; a missing value meets none.

    holidays  (h,) ascending days since 1970
    """
    found = np.isin(events.kind, kinds)
    for condition in where:
        name = condition.column
        if name in events.numbers:
            low, high = number_range(condition)
            column = events.numbers[name]
            found &= (column >= low) & (column < high)
        else:
            key = events.keys[name] if name in events.keys else _clock(events.local_us, name, holidays)
            found &= key == key_code(condition)
    return found


def _clock(local_us: I64, name: str, holidays: I64) -> I64:
    """(n,) what the source's clock shows: hours 0-23, weekdays from Monday 0, months from January 0."""
    day = local_us // DAY_US
    if name == "hour":
        return local_us // HOUR_US % 24
    if name == "weekday":
        return (day + 3) % 7
    if name == "month":
        months: I64 = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
        return months
    if name == "holiday":
        return np.isin(day, holidays).astype(np.int64)
    return day
