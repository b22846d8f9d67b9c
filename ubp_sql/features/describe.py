"""The words that go with a feature: unit, meaning, when it is NULL, how windows end, what it costs."""

from typing import Any

from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import CLOCK, KEYS, NUMBERS
from ubp_sql.features.settings import MONTHS, WEEKDAYS
from ubp_sql.features.spec import Condition, FeatureSpec
from ubp_sql.features.windows import Window, width_text

_LONG = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PLURAL = {
    "item": "items",
    "order": "orders",
    "day": "local days",
    "hour": "local hours",
    "weekday": "local weekdays",
    "month": "local months",
}


def words_of(spec: FeatureSpec, values: dict[str, Any], detail: str, bucket: int) -> dict[str, str]:
    """unit, meaning and null_rule of one column."""
    rule = RULES[spec.aggregate]
    kinds = " or ".join(spec.kinds)
    steps = values.get("steps", [])
    near = values.get("in", [])
    parts: dict[str, str] = {
        "e": events(spec.kinds, spec.where),
        "k": kinds,
        "w": over(spec.window, bucket),
        "of": spec.of or "",
        "ofs": _PLURAL.get(spec.of or "", f"{spec.of} values"),
        "m": _measure(spec),
        "o": _against(spec),
        "x": detail,
        "s": ", ".join(steps),
        "step": str(values.get("step") or len(steps)),
        "in": ", ".join(_place(spec.of, place) for place in near),
        "starts": "orders" if spec.of == "order" else f"different {spec.of} values" if spec.of else "events",
        "per": str(values.get("per", "")),
        "until": events(tuple(values.get("until") or spec.kinds), ()),
        **{key: plain_width(values[key]) for key in ("half_life", "bound", "timeout") if key in values},
    }
    meaning = rule.meaning.format_map(parts)
    return {
        "unit": rule.unit.format_map(parts),
        "meaning": meaning[:1].upper() + meaning[1:],
        "null_rule": rule.null_rule.format_map(parts),
    }


def events(kinds: tuple[str, ...], where: tuple[Condition, ...]) -> str:
    conditions = " and ".join(_condition(c) for c in where)
    return f"{' or '.join(kinds)} events" + (f" with {conditions}" if conditions else "")


def over(window: Window, bucket: int = 0) -> str:
    """'in the last 7 days', 'so far', ..."""
    if window.last:
        return f"among the last {window.last}" if window.last > 1 else "that came last"
    if window.form == "all":
        return "so far"
    if window.buckets:
        return f"between {plain_width(window.width_us * (bucket + 1))} and {plain_width(window.width_us * bucket)} ago"
    width = plain_width(window.width_us)
    return f"in the last {width.removeprefix('1 ')}"


def plain_width(width_us: int) -> str:
    """'7 days', '1 hour'."""
    if not width_us:
        return "0 days"
    text = width_text(width_us)
    number, unit = text[:-1], _LONG[text[-1]]
    return f"{number} {unit[:-1] if number == '1' else unit}"


def edge_rule(spec: FeatureSpec, bucket: int) -> str:
    """Which events the window takes, to the microsecond."""
    window = spec.window
    if RULES[spec.aggregate].standing:
        past = f"[D - {window.text}, D)" if spec.aggregate == "item_popularity" else "every user's value at D"
        return (
            f"the user as of as_of; the population at D, the UTC midnight at or before as_of: {past}, known means"
            " ingested at or before D; recorded once in ubp.standings"
        )
    known = "known means ingested at or before as_of"
    if window.last:
        rule = f"the newest {window.last} matching events before as_of by (time, ingested at, id)"
    elif window.form == "all":
        rule = "every event before as_of; one at as_of is outside"
    elif window.buckets:
        width = width_text(window.width_us)
        low = f"as_of - {bucket + 1} x {width}"
        high = f"as_of - {bucket} x {width}" if bucket else "as_of"
        rule = f"[{low}, {high}): the start is inside, the end outside"
    else:
        rule = f"[as_of - {window.text}, as_of): the start is inside, the end outside"
    if spec.aggregate in ("gap_mean", "gap_std", "gap_last", "overdue") and spec.of:
        rule += f"; the time of one {spec.of} is that of its first event inside"
    if spec.aggregate in ("sessions", "session_events", "session_length", "bounce_share"):
        rule += "; a session that the start cuts begins at its first event inside"
    if spec.aggregate.startswith(("funnel", "dwell")):
        rule += "; the window asks where the first event lies"
    if spec.aggregate in ("trend", "ratio") and isinstance(spec.against, Window):
        rule += f"; against [as_of - {spec.against.text}, as_of)" if spec.against.form == "width" else "; against all"
    return f"{rule}; {known}"


def cost(spec: FeatureSpec, columns: set[str]) -> str:
    """Which events are looked at, and what of each is read."""
    if RULES[spec.aggregate].of_feature:
        return f"every user's {spec.of}, once a UTC day"
    wide = spec.against if isinstance(spec.against, Window) else spec.window
    if wide.last:
        seen = f"events until {wide.last} match"
    elif wide.form == "all":
        seen = "every event"
    else:
        seen = f"the events of {width_text(wide.width_us * max(1, wide.buckets))}"
    own = sorted(columns - set(CLOCK))
    size = 8 + 8 + 4 + 8 * len(own) + (4 if columns & set(CLOCK) else 0)
    read = ", ".join(["time", "ingested at", "kind", *own, *(["local time"] if columns & set(CLOCK) else [])])
    kinds = " or ".join(spec.kinds or spec.settings.get("steps", ()))
    if RULES[spec.aggregate].standing:
        seen = f"of all users once a UTC day {seen}"
    return f"{seen} of {kinds}: {read}, {size} bytes an event"


def _condition(c: Condition) -> str:
    if c.equals is not None:
        place = c.equals
        text = _place(c.column, int(place)) if c.column in CLOCK and not isinstance(place, str) else f"{place}"
        return f"{c.column} {text}"
    ends = [f"from {c.low:g}" if c.low is not None else "", f"below {c.high:g}" if c.high is not None else ""]
    return f"{c.column} {' '.join(filter(None, ends))}"


def _place(column: str | None, place: int) -> str:
    if column == "weekday":
        return WEEKDAYS[place - 1]
    return MONTHS[place - 1] if column == "month" else str(place)


def _measure(spec: FeatureSpec) -> str:
    own = events(spec.kinds, spec.where)
    if spec.of is None:
        return own
    if spec.of in KEYS or spec.of in CLOCK:
        return f"different {_PLURAL.get(spec.of, f'{spec.of} values')} of {own}"
    return f"the {spec.of} of {own}" if spec.of in NUMBERS else f"{spec.of} of {own}"


def _against(spec: FeatureSpec) -> str:
    if isinstance(spec.against, Window):
        return over(spec.against)
    kinds = " or ".join(spec.against or spec.kinds)
    return f"{kinds} event" if spec.of is None else f"{spec.of} of {kinds} events"
