"""What each behaviour feature is worth by the naive oracle: one value a column, None for NULL."""

from collections.abc import Callable, Sequence
from typing import Any

from tests import reference_behaviour as ref
from tests.reference_behaviour import Event

UNITS = {"s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
SECOND, DAY = UNITS["s"], UNITS["d"]
LIFETIME = 1 << 62
Values = Sequence[float | None]
Settings = dict[str, Any]


def width(text: str) -> int:
    return LIFETIME if text == "all" else int(text[:-1]) * UNITS[text[-1]]


def windows(text: str, as_of: int) -> list[tuple[int, int]]:
    """[begin, end) of '7d', or of each bucket of '4 x 7d'."""
    buckets, _, each = text.rpartition(" x ")
    us = width(each)
    return [(as_of - (v + 1) * us, as_of - v * us) for v in range(int(buckets or 1))]


def expected(aggregate: str, settings: Settings, window: str, events: list[Event], as_of: int) -> Values:
    """Values of a feature over the known events; `settings` hold `kinds` too. The code of a key is the key itself."""
    family = FAMILIES[aggregate.split("_")[0]]
    found = [family(aggregate, settings, events, *bounds) for bounds in windows(window, as_of)]
    return [value for values in found for value in values]


def share(over: float, under: int) -> float | None:
    return over / under if under else None


def mine(settings: Settings, events: list[Event]) -> list[Event]:
    return ref.of_kinds(events, set(settings["kinds"]))


def funnel(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    steps = settings["steps"]
    found = ref.funnel(events, begin, end, steps, width(settings["bound"]))
    step = settings.get("step", len(steps))
    if aggregate == "funnel_depth":
        return [found[0]]
    return [found[step] if aggregate == "funnel_reached" else share(found[step], found[1])]


def session(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    n, depth, total, bounces = ref.sessions(mine(settings, events), begin, end, width(settings["timeout"]))
    if aggregate == "sessions":
        return [n]
    over = {"session_events": depth, "session_length": total / SECOND, "bounce_share": bounces}
    return [share(over[aggregate], n)]


def last_session(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    last = ref.last_session(mine(settings, events), width(settings["timeout"]))
    if last is None:
        return [None]
    first, newest, n = last
    values = {"age": (end - newest) / DAY, "length": (newest - first) / SECOND, "events": n}
    return [values[aggregate.removeprefix("last_session_")]]


def dwell(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    kinds = set(settings["kinds"])
    until = set(settings.get("until", kinds))
    n, total = ref.dwell(events, begin, end, kinds, until, width(settings["timeout"]))
    return [{"dwell_count": n, "dwell_sum": total / SECOND, "dwell_mean": share(total / SECOND, n)}[aggregate]]


def words(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    return [*ref.words(mine(settings, events), begin, end, settings["buckets"])]


def keys(aggregate: str, settings: Settings, events: list[Event], begin: int, end: int) -> Values:
    seen = [e.item for e in ref.within(mine(settings, events), begin, end) if e.item is not None]
    counts = ref.counts(seen)
    if aggregate == "top_keys":
        return [*ref.favourites(seen), *[None] * settings["k"]][: settings["k"]]
    if aggregate == "distinct":
        return [len(counts)]
    return [ref.entropy(counts) if aggregate == "entropy" else share(max(counts, default=0), len(seen))]


FAMILIES: dict[str, Callable[[str, Settings, list[Event], int, int], Values]] = {
    "funnel": funnel,
    "sessions": session,
    "session": session,
    "bounce": session,
    "last": last_session,
    "dwell": dwell,
    "words": words,
    "distinct": keys,
    "entropy": keys,
    "top": keys,
}
