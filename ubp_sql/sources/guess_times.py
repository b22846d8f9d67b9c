"""Which form of time a column's texts have, and the SQL that reads it; where two readings fit, both."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

SURE, LIKELY, AMBIGUOUS = "sure", "likely", "cannot tell"
ENOUGH = 0.98  # share of the values that must have the form
_CLOCK = (
    r"(?:(?P<join>[ T]|, )(?P<hour>\d{1,2}):(?P<minute>\d{2})(?P<second>:\d{2}(?P<fraction>[.,]\d+)?)?"
    r"(?P<half> ?[AaPp]\.?[Mm]\.?)?(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)?"
)
_FORMS = {
    "year first": re.compile(r"(?P<a>\d{4})(?P<sep>[-/.])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{1,2})" + _CLOCK),
    "year last": re.compile(r"(?P<a>\d{1,2})(?P<sep>[-/.])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{4}|\d{2})" + _CLOCK),
    "month name": re.compile(r"(?P<a>\d{1,2})(?P<sep>[-/ ])(?P<b>[A-Za-z]{3,9})(?P=sep)(?P<c>\d{4}|\d{2})" + _CLOCK),
    "log": re.compile(
        r"\[?(?P<a>\d{1,2})(?P<sep>/)(?P<b>[A-Za-z]{3})/(?P<c>\d{4})"
        r"(?P<join>:)(?P<hour>\d{2}):(?P<minute>\d{2})(?P<second>:\d{2})(?P<zone> [+-]\d{4})\]?"
    ),
    "compact": re.compile(
        r"(?P<a>(?:19|20)\d{2})(?P<b>0[1-9]|1[0-2])(?P<c>0[1-9]|[12]\d|3[01])(?P<clock>\d{4}|\d{6})?"
    ),
}
CLOCK_ONLY = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d(?P<second>:[0-5]\d)?(?P<half> ?[AaPp][Mm])?")
_MONTHS = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
_EPOCHS = (("seconds", 1, ""), ("milliseconds", 10**3, " / 1000"), ("microseconds", 10**6, " / 1000000"))
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100: a number outside them is an id, not a time


@dataclass(frozen=True)
class TimeForm:
    """How to read a column.

    readings    (template, what it says): `{}` in a template stands for the column; one, or those that fit alike
    zoned       the text names its offset, so that the map's zone does not matter
    daily       there is no time of day
    number      an epoch: it might also be an id
    """

    readings: tuple[tuple[str, str], ...]
    sure: str
    why: str
    zoned: bool = False
    daily: bool = False
    number: bool = False
    pattern: str | None = None  # of to_timestamp, without the time of day: that may be in another column


def clock_only(values: Sequence[str]) -> str | None:
    """to_timestamp's pattern where every value is a time of day without a date, else None."""
    matches = [CLOCK_ONLY.fullmatch(value.strip()) for value in values]
    found = [match for match in matches if match]
    if not values or len(found) < ENOUGH * len(values):
        return None
    seconds = ":SS" if any(match["second"] for match in found) else ""
    return f"HH12:MI{seconds} AM" if any(match["half"] for match in found) else f"HH24:MI{seconds}"


def time_form(values: Sequence[str], head: int) -> TimeForm | None:
    """The form of `values`, which hold no empty one; the first `head` of them are in the order of the file."""
    if not values:
        return None
    for name, form in _FORMS.items():
        if not form.fullmatch(values[0].strip()) and not form.fullmatch(values[len(values) // 2].strip()):
            continue
        found = [match for value in values if (match := form.fullmatch(value.strip()))]
        if len(found) >= ENOUGH * len(values) and (known := _of_form(name, found, head)):
            return known
    return _epoch(values)


def _of_form(name: str, found: list["re.Match[str]"], head: int) -> TimeForm | None:
    if name == "compact":
        clocks = {len(match["clock"] or "") for match in found}
        if len(clocks) > 1 or not all(int(match["c"]) <= 31 for match in found):
            return None
        pattern = "YYYYMMDD" + {0: "", 4: "HH24MI", 6: "HH24MISS"}[clocks.pop()]
        shown = f"dates as {pattern}"
        return TimeForm(((_read(pattern), shown),), SURE, shown, daily=pattern == "YYYYMMDD", pattern=pattern)
    daily = not any(match["hour"] for match in found)
    zoned = all(match["zone"] for match in found)
    if any(match["zone"] for match in found) and not zoned:
        return None
    if name != "log" and len({bool(match["half"]) for match in found if match["hour"]}) > 1:
        return None
    if name == "year first":
        if not all(int(match["b"]) <= 12 and int(match["c"]) <= 31 for match in found):
            return None
        if any((match["hour"] and match["join"] == ", ") for match in found):
            return None
        sep = found[0]["sep"]
        zone = ", with an offset" if zoned else ""
        shown = f"{'dates' if daily else 'times'} with the year first{zone}"
        pattern = f"YYYY{sep}MM{sep}DD"
        comma = any((match["fraction"] or "").startswith(",") for match in found)
        template = "replace({}, ',', '.')" if comma else "{}"
        return TimeForm(((template, shown),), SURE, shown, zoned=zoned, daily=daily, pattern=pattern)
    if any((match["zone"] or "").strip() in ("Z", "UTC", "GMT") for match in found):
        return None  # to_timestamp has no pattern for it
    clock = _clock(name, found)
    sep = found[0]["sep"]
    year = "YYYY" if all(len(match["c"]) == 4 for match in found) else "YY"
    if name != "year last":
        if not all(match["b"][:3].lower() in _MONTHS for match in found):
            return None
        month = "Mon" if all(len(match["b"]) == 3 for match in found) else "Month"
        day = f"DD{sep}{month}{sep}{year}"
        shown = "times as a web server logs them" if name == "log" else "dates with the month's name"
        pattern = ("[" if found[0][0].startswith("[") else "") + day
        reading = (_read(pattern + clock), shown)
        return TimeForm((reading,), SURE, shown, zoned=zoned, daily=daily, pattern=pattern)
    return _day_or_month(found, head, sep, year, clock, zoned=zoned, daily=daily)


def _clock(name: str, found: list["re.Match[str]"]) -> str:
    timed = [match for match in found if match["hour"]]
    if not timed:
        return ""
    if name == "log":
        return ":HH24:MI:SS TZHTZM"
    first = timed[0]
    half = first["half"] is not None
    text = f"{'HH12' if half else 'HH24'}:MI" + (":SS" if any(match["second"] for match in timed) else "")
    if any(match["fraction"] for match in timed):
        text += (first["fraction"] or ".")[0] + "US"
    if half:
        text += " " * first["half"].startswith(" ") + ("A.M." if "." in first["half"] else "AM")
    if first["zone"]:
        space = " " if first["zone"].startswith(" ") else ""
        text += space + ("TZH:TZM" if ":" in first["zone"] else "TZHTZM" if len(first["zone"].strip()) > 3 else "TZH")
    join = {"T": '"T"'}.get(first["join"], first["join"])
    return join + text


def _day_or_month(
    found: list["re.Match[str]"], head: int, sep: str, year: str, clock: str, *, zoned: bool, daily: bool
) -> TimeForm | None:
    """`05/03/2024`: told by a number above 12, else by the order of the file, else not at all."""
    firsts, seconds = ({int(match[part]) for match in found} for part in "ab")
    if max(firsts) > 31 or max(seconds) > 31 or 0 in firsts | seconds:
        return None
    patterns = {"day first": f"DD{sep}MM{sep}{year}", "month first": f"MM{sep}DD{sep}{year}"}

    def told(which: str, sure: str, why: str) -> TimeForm:
        reading = (_read(patterns[which] + clock), which)
        said = f"{which}: {why}"
        return TimeForm((reading,), sure, said, zoned=zoned, daily=daily, pattern=patterns[which])

    def untold(why: str) -> TimeForm:
        readings = tuple((_read(pattern + clock), which) for which, pattern in patterns.items())
        return TimeForm(readings, AMBIGUOUS, why, zoned=zoned, daily=daily)

    if year == "YY" and len({match["c"] for match in found}) > 12 and len(firsts) <= 5 and min(firsts) > 5:
        return untold("years of two digits, and the first number may be one")
    if max(firsts) > 12 and max(seconds) > 12:
        return untold("some dates can only be read day first, others only month first")
    if max(firsts) > 12:
        return told("day first", SURE, f"there is a {max(firsts)} in front")
    if max(seconds) > 12:
        return told("month first", SURE, f"there is a {max(seconds)} in the middle")
    if sep == ".":
        return told("day first", LIKELY, "dates with dots are written so")
    ordered = {which: _ordered(found[:head], which) for which in patterns}
    if ordered["day first"] != ordered["month first"]:
        which = "day first" if ordered["day first"] else "month first"
        return told(which, LIKELY, "read so, the rows are in the order of time")
    return untold(f"no number above 12 in {len(found):,} dates, and the order of the rows does not tell")


def _ordered(found: list["re.Match[str]"], which: str) -> bool:
    day, month = ("a", "b") if which == "day first" else ("b", "a")
    dates = [(int(match["c"]), int(match[month]), int(match[day])) for match in found]
    return all(earlier <= later for earlier, later in itertools.pairwise(dates))


def _epoch(values: Sequence[str]) -> TimeForm | None:
    numbers = []
    for value in values:
        try:
            number = float(value)
        except ValueError:
            return None
        if number:
            numbers.append(number)
    if not numbers:
        return None
    for unit, scale, division in _EPOCHS:
        if all(_EARLIEST <= number / scale < _LATEST for number in numbers):
            years = sorted(datetime.fromtimestamp(n / scale, UTC).year for n in (min(numbers), max(numbers)))
            span = f"{years[0]}" if years[0] == years[1] else f"{years[0]} to {years[1]}"
            shown = f"{unit} since 1970, {span}"
            template = f"to_timestamp({{}}::numeric{division})"
            return TimeForm(((template, shown),), LIKELY, shown, zoned=True, number=True)
    return None


def _read(pattern: str) -> str:
    return f"to_timestamp({{}}, '{pattern}')"
