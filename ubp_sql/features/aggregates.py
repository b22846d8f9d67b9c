"""Every aggregate of the catalogue: what it takes, what it says, and the cells and formulas it is made of.

To add one: a rule here, its SQL in sql.py (sql_behaviour.py for sessions and funnels), a case in
tests/features/spec_cases.py. An operation that the kernels do not have goes into kernels/codes.py first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ubp_sql.features import build
from ubp_sql.features.ask import Ask
from ubp_sql.features.settings import Setting
from ubp_sql.kernels.codes import DAY_US, Formula, Op

SPANS = ("all", "width", "tumbling")
EVERY = (*SPANS, "last")
SHARED_END = ("all", "width", "last")


def _one(values: dict[str, Any]) -> Sequence[str]:
    return ("",)


@dataclass(frozen=True, slots=True)
class Rule:
    """One aggregate.

    says       a line for the table of aggregates
    meaning    pattern of a column's meaning: {e} the events, {k} their kinds, {w} the window, {of} the column, {s}
               settings, {o} what it is held against, {x} the column's own part
    null_rule  when the value is NULL, or what stands in its place
    unit       pattern
    build      asks for cells and adds one formula a column, in the order of `columns`
    of         types of column that it can be about: number, key, order, clock, cycle, words; none: it may be left out
    usual_of   the column that is meant when none is named
    windows    forms of window: all, width, last, tumbling
    against    "", window (a longer one), kinds, or kinds? (may be left out)
    columns    settings -> the {x} of each column it makes
    ages       whether its value changes with the moment alone
    standing   whether it sets the user beside the whole population (features/standing.py)
    of_feature whether `of` names an earlier feature of the set instead of a column
    """

    says: str
    meaning: str
    null_rule: str
    unit: str
    build: Callable[[Ask], None]
    of: tuple[str, ...] = ("none",)
    usual_of: str | None = None
    windows: tuple[str, ...] = EVERY
    settings: dict[str, Setting] = field(default_factory=dict)
    against: str = ""
    where: bool = True
    integer: bool = False
    own_kinds: bool = True
    columns: Callable[[dict[str, Any]], Sequence[str]] = _one
    ages: bool = False
    standing: bool = False
    of_feature: bool = False


ZERO = "never NULL: 0 without an event"
NO_EVENT = "NULL without an event of the kind"
NO_EVENT_HERE = "NULL without an event of the kind in the window"
NO_VALUE = "NULL without an event of the kind with a value in the window"
NO_KEY = "NULL without an event of the kind with {of} in the window"
TWO_STARTS = "NULL with fewer than two {starts} in the window"
ANY_KEY = ("key", "order", "clock", "cycle")
NUMBER: dict[str, Any] = {"of": ("number",), "usual_of": "value"}


def _numbered(key: str, usual: int, what: str) -> Callable[[dict[str, Any]], Sequence[str]]:
    return lambda values: [f"{what} {j + 1}" for j in range(values.get(key, usual))]


def _band_names(values: dict[str, Any]) -> Sequence[str]:
    edges = [f"{e:g}" for e in values["edges"]]
    between = [f"from {a} to below {b}" for a, b in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]} on"]


_HALF_LIFE = Setting("width", "time after which an event counts half, for example '30d'")
_TIMEOUT = Setting("width", "longest pause within a session, for example '30m'", "30m")
_STAY = Setting("width", "longest time that counts as a stay, for example '30m'", "30m")
_UNTIL = Setting("kinds", "kinds whose next event ends the stay; the feature's own kinds where left out", None)
_STEPS = Setting("kinds", "2 to 8 event kinds in order", low=2, high=8)
_BOUND = Setting("width", "time in which a step must follow the start, for example '1h'")
_FUNNEL = {"steps": _STEPS, "bound": _BOUND}
_MEASURE: dict[str, Any] = {"of": ("none", "number", *ANY_KEY)}
_CLOCK: dict[str, Any] = {"of": ("cycle",), "usual_of": "hour"}
_SESSION: dict[str, Any] = {"settings": {"timeout": _TIMEOUT}, "windows": SPANS}
_LAST_SESSION: dict[str, Any] = {"settings": {"timeout": _TIMEOUT}, "windows": ("all",)}
_DWELL: dict[str, Any] = {"settings": {"timeout": _STAY, "until": _UNTIL}, "windows": SPANS, "where": False}
_GAPS: dict[str, Any] = {"of": ("none", "order", "key"), "windows": EVERY}

RULES: dict[str, Rule] = {
    "count": Rule("number of events", "Number of {e} {w}.", ZERO, "events", build.value(Op.COUNT), integer=True),
    "sum": Rule(
        "sum of a number",
        "Sum of the {of} of {e} {w}.",
        "0 without a value; NULL where +infinity meets -infinity",
        "{of}",
        build.value(Op.SUM, 1),
        **NUMBER,
    ),
    "mean": Rule(
        "mean of a number",
        "Mean {of} of the {e} {w} that have one.",
        NO_VALUE,
        "{of} per event",
        build.quotient(Op.SUM, 1, 0),
        **NUMBER,
    ),
    "min": Rule(
        "least value of a number", "Least {of} of {e} {w}.", NO_VALUE, "{of}", build.value(Op.EXTREMA, 0), **NUMBER
    ),
    "max": Rule(
        "greatest value of a number",
        "Greatest {of} of {e} {w}.",
        NO_VALUE,
        "{of}",
        build.value(Op.EXTREMA, 1),
        **NUMBER,
    ),
    "std": Rule(
        "sample standard deviation of a number",
        "Sample standard deviation of the {of} of {e} {w}.",
        "NULL with fewer than two values in the window",
        "{of}",
        build.value(Op.SPREAD),
        **NUMBER,
    ),
    "first": Rule(
        "oldest value of a number",
        "{of} of the first of the {e} {w}.",
        NO_VALUE,
        "{of}",
        build.value(Op.FIRST),
        **NUMBER,
    ),
    "last": Rule(
        "newest value of a number; an attribute's value as of the moment",
        "{of} of the last of the {e} {w}.",
        NO_VALUE,
        "{of}",
        build.last_values,
        windows=SHARED_END,
        **NUMBER,
    ),
    "last_values": Rule(
        "newest k values of a number, newest first",
        "{of} of the {e} {w}, {x} counted from the newest.",
        "NULL where there are fewer values",
        "{of}",
        build.last_values,
        windows=SHARED_END,
        settings={"k": Setting("int", "how many values, 2 to 50", low=2, high=50)},
        columns=_numbered("k", 1, "value"),
        **NUMBER,
    ),
    "distinct": Rule(
        "number of different keys, exact",
        "Number of different {ofs} in {e} {w}.",
        ZERO,
        "{ofs}",
        build.value(Op.DISTINCT),
        of=ANY_KEY,
        usual_of="item",
        integer=True,
    ),
    "recency": Rule(
        "days since the newest event",
        "Days since the last of the {e} {w}.",
        NO_EVENT,
        "days",
        build.age(Op.SEEN, 0),
        ages=True,
    ),
    "tenure": Rule(
        "days since the oldest event",
        "Days since the first of the {e} {w}.",
        NO_EVENT,
        "days",
        build.age(Op.SEEN, 1),
        ages=True,
    ),
    "gap_mean": Rule(
        "mean days between events, or between orders (of order)",
        "Mean days from one of the {starts} of {e} to the next {w}.",
        TWO_STARTS,
        "days",
        build.value(Op.GAPS, 1, float(DAY_US)),
        **_GAPS,
    ),
    "gap_std": Rule(
        "sample standard deviation of those days",
        "Sample standard deviation of the days from one of the {starts} of {e} to the next {w}.",
        "NULL with fewer than three {starts} in the window",
        "days",
        build.value(Op.GAPS, 2),
        **_GAPS,
    ),
    "gap_last": Rule(
        "days between the newest two",
        "Days between the last two {starts} of {e} {w}.",
        TWO_STARTS,
        "days",
        build.value(Op.GAPS, 3, float(DAY_US)),
        **_GAPS,
    ),
    "overdue": Rule(
        "days since the newest, divided by the mean gap",
        "Days since the last of the {starts} of {e}, divided by their mean gap {w}: above 1 the next is overdue.",
        f"{TWO_STARTS}, or with all at one time",
        "ratio",
        build.overdue,
        ages=True,
        **_GAPS,
    ),
    "trend": Rule(
        "rate in the window, divided by the rate in a longer one (against)",
        "Rate of {m} {w}, divided by their rate {o}: above 1 it rises.",
        "NULL without any in the longer window",
        "ratio",
        build.trend,
        windows=("width",),
        against="window",
        **_MEASURE,
    ),
    "ratio": Rule(
        "amount in the window, divided by the amount in a longer one (against)",
        "Amount of {m} {w}, divided by their amount {o}.",
        "NULL without any in the longer window",
        "ratio",
        build.ratio,
        windows=("width",),
        against="window",
        **_MEASURE,
    ),
    "share": Rule(
        "amount per amount of other kinds (against), or the share that meets the condition",
        "Amount of {m} per {o} {w}.",
        "NULL without an event of the denominator's kind in the window",
        "ratio",
        build.share,
        windows=SPANS,
        against="kinds?",
        **_MEASURE,
    ),
    "sum_per": Rule(
        "sum of a number per different key, such as value per order",
        "Sum of the {of} of {e} per {per} {w}.",
        NO_VALUE,
        "{of} per {per}",
        build.sum_per,
        settings={"per": Setting("key", "the key to divide by: order, item, day or a declared text column")},
        **NUMBER,
    ),
    "decayed_count": Rule(
        "events, each half as much after every half-life",
        "Number of {e}, an event counting half as much every {half_life}.",
        "0 without an event",
        "events",
        build.decay,
        windows=("all",),
        settings={"half_life": _HALF_LIFE},
        ages=True,
    ),
    "decayed_sum": Rule(
        "sum of a number, each value half as much after every half-life",
        "Sum of the {of} of {e}, a value counting half as much every {half_life}.",
        "0 without a value",
        "{of}",
        build.decay,
        windows=("all",),
        settings={"half_life": _HALF_LIFE},
        ages=True,
        **NUMBER,
    ),
    "top_share": Rule(
        "share of the most frequent key",
        "Share of the most frequent {of} among the {e} {w} that have one.",
        NO_KEY,
        "0..1",
        build.quotient(Op.KEYS, 2, 0),
        of=ANY_KEY,
        usual_of="item",
    ),
    "entropy": Rule(
        "entropy over keys, in nats: 0 with one key, ln n with n equally frequent ones",
        "Entropy of the {of} of {e} {w}: 0 where all are the same.",
        NO_KEY,
        "nats",
        build.entropy,
        of=ANY_KEY,
        usual_of="item",
    ),
    "top_keys": Rule(
        "the k most frequent keys as numbers (20 bits of a hash)",
        "Code of the most frequent {of} in {e} {w}, {x} counted from the most frequent.",
        "NULL where there are fewer different keys",
        "code",
        build.top_keys,
        of=("key",),
        usual_of="item",
        integer=True,
        settings={"k": Setting("int", "how many keys, 1 to 20", 3, low=1, high=20)},
        columns=_numbered("k", 3, "rank"),
    ),
    "last_key": Rule(
        "key of the newest event as a number (20 bits of a hash); an attribute's text as of the moment",
        "Code of the {of} of the last of the {e}.",
        "NULL without an event of the kind, or where the last has none",
        "code",
        build.last_key,
        of=("key",),
        usual_of="item",
        integer=True,
        windows=("all",),
    ),
    "bands": Rule(
        "share of each band of a number, such as price or discount bands",
        "Share of the {e} {w} with {of} {x} among those that have one.",
        NO_VALUE,
        "0..1",
        build.bands,
        windows=("all", "width"),
        settings={"edges": Setting("edges", "rising numbers between the bands, at most 20: [10, 50] makes 3 bands")},
        columns=_band_names,
        where=False,
        **NUMBER,
    ),
    "clock_sin": Rule(
        "mean sine of the local hour, weekday or month on its circle",
        "Mean sine of the local {of} of {e} {w}, once round a circle.",
        NO_EVENT_HERE,
        "-1..1",
        build.wave(Formula.WAVE_SIN),
        **_CLOCK,
    ),
    "clock_cos": Rule(
        "mean cosine of the local hour, weekday or month on its circle",
        "Mean cosine of the local {of} of {e} {w}, once round a circle.",
        NO_EVENT_HERE,
        "-1..1",
        build.wave(Formula.WAVE_COS),
        **_CLOCK,
    ),
    "clock_share": Rule(
        "share of events at some hours (0-23), weekdays (mon or 1-7), months (jan or 1-12) or seasons (winter, ...)",
        "Share of {e} at local {of} {in} {w}.",
        NO_EVENT_HERE,
        "0..1",
        build.clock_share,
        settings={"in": Setting("clock", "a list: [22, 23, 0], [sat, sun], [12] or [winter]")},
        **_CLOCK,
    ),
    "clock_entropy": Rule(
        "entropy over local hours, weekdays or months, in nats",
        "Entropy of the local {of} of {e} {w}: 0 where all are the same.",
        NO_EVENT_HERE,
        "nats",
        build.of_hist(Formula.HIST_ENTROPY),
        **_CLOCK,
    ),
    "clock_top": Rule(
        "the most frequent local hour (0-23), weekday (Monday 0) or month (January 0), the first of equals",
        "The local {of} with most {e} {w}, counted from 0.",
        NO_EVENT_HERE,
        "{of}",
        build.of_hist(Formula.INDEX_MAX),
        integer=True,
        **_CLOCK,
    ),
    "same_weekday_share": Rule(
        "share of events on the moment's own weekday",
        "Share of {e} on the moment's own weekday {w}.",
        NO_EVENT_HERE,
        "0..1",
        build.same_weekday,
        ages=True,
    ),
    "holiday_share": Rule(
        "share of events on days of ubp.calendar",
        "Share of {e} on days of ubp.calendar {w}.",
        NO_EVENT_HERE,
        "0..1",
        build.holiday_share,
    ),
    "funnel_depth": Rule(
        "deepest step that any start of the window reaches",
        "Deepest step of {s} that a start {w} reaches within {bound}.",
        ZERO,
        "steps",
        build.funnel(0),
        windows=SPANS,
        settings=_FUNNEL,
        where=False,
        own_kinds=False,
        integer=True,
    ),
    "funnel_reached": Rule(
        "starts that reach a step",
        "Starts {w} that reach step {step} of {s} within {bound}.",
        ZERO,
        "events",
        build.funnel(None),
        windows=SPANS,
        settings={**_FUNNEL, "step": Setting("int", "a step, counted from 1", low=1, high=8)},
        where=False,
        own_kinds=False,
        integer=True,
    ),
    "funnel_rate": Rule(
        "share of the starts that reach a step, the last unless said",
        "Share of the starts {w} that reach step {step} of {s} within {bound}.",
        "NULL without a start in the window",
        "0..1",
        build.funnel_rate,
        windows=SPANS,
        settings={**_FUNNEL, "step": Setting("int", "a step, counted from 1", None, low=1, high=8)},
        where=False,
        own_kinds=False,
    ),
    "sessions": Rule(
        "number of sessions",
        "Number of sessions of {e} {w}, a pause of more than {timeout} between two.",
        ZERO,
        "sessions",
        build.timed(Op.SESSIONS, Formula.VALUE, 0),
        integer=True,
        **_SESSION,
    ),
    "session_events": Rule(
        "mean events per session (depth)",
        "Mean number of {e} per session {w}.",
        NO_EVENT_HERE,
        "events per session",
        build.timed(Op.SESSIONS, Formula.RATIO, 1, 0),
        **_SESSION,
    ),
    "session_length": Rule(
        "mean seconds from a session's first to its last event",
        "Mean seconds from the first to the last event of a session of {e} {w}.",
        NO_EVENT_HERE,
        "seconds",
        build.timed(Op.SESSIONS, Formula.RATIO, 2, 0, f1=float(build.SECOND_US)),
        **_SESSION,
    ),
    "bounce_share": Rule(
        "share of sessions of one event",
        "Share of the sessions of {e} {w} that have one event only.",
        NO_EVENT_HERE,
        "0..1",
        build.timed(Op.SESSIONS, Formula.RATIO, 3, 0),
        **_SESSION,
    ),
    "last_session_age": Rule(
        "days since the newest session's last event",
        "Days since the end of the last session of {e}.",
        NO_EVENT,
        "days",
        build.timed(Op.LAST_SESSION, Formula.AGE, 1, f1=float(DAY_US)),
        ages=True,
        **_LAST_SESSION,
    ),
    "last_session_length": Rule(
        "seconds of the newest session",
        "Seconds from the first to the last event of the last session of {e}.",
        NO_EVENT,
        "seconds",
        build.timed(Op.LAST_SESSION, Formula.VALUE, 0, f1=float(build.SECOND_US)),
        **_LAST_SESSION,
    ),
    "last_session_events": Rule(
        "events of the newest session (depth)",
        "Number of events of the last session of {e}.",
        NO_EVENT,
        "events",
        build.timed(Op.LAST_SESSION, Formula.VALUE, 2),
        integer=True,
        **_LAST_SESSION,
    ),
    "dwell_count": Rule(
        "events that another one follows in time",
        "Number of {e} {w} that {until} follow within {timeout}.",
        ZERO,
        "events",
        build.dwell(Formula.VALUE, 0),
        integer=True,
        **_DWELL,
    ),
    "dwell_mean": Rule(
        "mean seconds to the next event",
        "Mean seconds from {e} {w} to the next of {until}, where it follows within {timeout}.",
        "NULL where none follows in time",
        "seconds",
        build.dwell(Formula.RATIO, 1, 0, f1=float(build.SECOND_US)),
        **_DWELL,
    ),
    "dwell_sum": Rule(
        "seconds to the next event, summed",
        "Sum of the seconds from {e} {w} to the next of {until}, where it follows within {timeout}.",
        "0 where none follows in time",
        "seconds",
        build.dwell(Formula.VALUE, 1, f1=float(build.SECOND_US)),
        **_DWELL,
    ),
    "words": Rule(
        "events by the words of a text, hashed into buckets",
        "Number of {e} {w} with a word of {of} in {x}.",
        ZERO,
        "events",
        build.words,
        of=("words",),
        integer=True,
        settings={"buckets": Setting("int", "how many buckets, 1 to 64", 16, low=1, high=64)},
        columns=_numbered("buckets", 16, "bucket"),
    ),
    "percentile": Rule(
        "percentile (0 to 100) of an earlier feature (of) among all users at the last UTC midnight",
        "Percentile of {of} among all users as of the last UTC midnight: 50 is in the middle.",
        "NULL where that feature is, and where nobody had a value of it by the last UTC midnight",
        "0..100",
        build.percentile,
        of=("feature",),
        windows=("all",),
        where=False,
        own_kinds=False,
        standing=True,
        of_feature=True,
    ),
    "item_popularity": Rule(
        "events of all users, up to the last UTC midnight, on the item of the user's newest event",
        "Number of {e} of all users {w} up to the last UTC midnight, on the item of the user's newest one.",
        "NULL without an event of the kind with an item; 0 where the item had none",
        "events",
        build.item_popularity,
        windows=("width",),
        where=False,
        integer=True,
        standing=True,
    ),
}
