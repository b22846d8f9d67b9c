"""Numbers and moments as people read them."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)  # strftime's follow the locale
MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
PERCENT = "\N{NO-BREAK SPACE}%"


def number(value: float | None, digits: int = 3) -> str:
    """About `digits` significant digits, whole numbers with their thousands apart: 0.749, 12.3, 4,067."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return ("" if value > 0 else MINUS) + "∞"
    if value == 0:
        return "0"
    size = abs(value)
    if not 1e-4 <= size < 1e15:
        text = f"{size:.{digits - 1}e}"
    elif float(size).is_integer() or size >= 10**digits:
        text = f"{size:,.0f}"
    else:
        text = f"{size:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
        # 0.9996 to three digits is 1.000: one more digit than its neighbours
        if "." in text and len(text.replace(".", "").replace(",", "").lstrip("0")) > digits:
            text = text[:-1].rstrip(".")
    return (MINUS if value < 0 else "") + text


def fixed(value: float | None, digits: int) -> str:
    """`digits` after the point, so that a column of numbers lines up."""
    if value is None or not math.isfinite(value):
        return number(value)
    text = f"{abs(value):,.{digits}f}"
    return (MINUS if value < 0 and float(text.replace(",", "")) else "") + text


def percent(share: float | None, digits: int = 1) -> str:
    """34.1 %, in one piece"""
    return NOTHING if share is None or not math.isfinite(share) else f"{fixed(100 * share, digits)}{PERCENT}"


def tick(value: float, _: object = None) -> str:
    """A number of an axis: round ones, so no digit more than needed."""
    return f"{value:,.6g}".replace("-", MINUS)


def percent_tick(value: float, _: object = None) -> str:
    return f"{tick(round(100 * value, 6))} %"


def count(value: int) -> str:
    return f"{value:,}"


def many(value: int, one: str) -> str:
    """`1 user`, `4,067 users`"""
    return f"{value:,} {one if value == 1 else one + 's'}"


def day(moment: datetime | None) -> str:
    """9 November 2011"""
    if moment is None:
        return NOTHING
    at = moment.astimezone(UTC)
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def moment(value: datetime | None) -> str:
    """9 November 2011; with 14:30 UTC behind where that is not midnight."""
    if value is None:
        return NOTHING
    at = value.astimezone(UTC)
    return day(at) if (at.hour, at.minute, at.second) == (0, 0, 0) else f"{day(at)}, {at:%H:%M} UTC"


def short_day(moment: datetime) -> str:
    """9 Nov 2011, for tables"""
    at = moment.astimezone(UTC)
    return f"{at.day} {MONTHS[at.month - 1][:3]} {at.year}"


def between(low: float, high: float, tell: Callable[[float], str]) -> str:
    """0.733–0.767, 58.5–68.7 %; with a word between them where one is negative."""
    ends = tell(low), tell(high)
    first = ends[0].removesuffix(PERCENT) if ends[1].endswith(PERCENT) else ends[0]
    return (" to " if any(end.startswith(MINUS) for end in ends) else NOTHING).join((first, ends[1]))


def span(width: timedelta) -> str:
    """30 days, 36 hours, 90 minutes"""
    minutes = round(width.total_seconds() / 60)
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes % size == 0 or size == 1:
            return many(minutes // size, unit)
    raise AssertionError
