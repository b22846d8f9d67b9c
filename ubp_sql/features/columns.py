"""Columns of events that features can be about: those of every event, those declared, those read off the clock."""

from collections.abc import Sequence
from typing import NamedTuple

from ubp_sql.errors import BadInput
from ubp_sql.kernels.codes import Key

NUMBERS = ("value", "quantity", "duration_s")
KEYS = ("item", "order")
CLOCK = {"day": Key.DAY, "hour": Key.HOUR, "weekday": Key.WEEKDAY, "month": Key.MONTH, "holiday": Key.HOLIDAY}
CLOCK_SIZE = {"hour": 24, "weekday": 7, "month": 12, "holiday": 2}
CYCLES = ("hour", "weekday", "month")
TYPES = ("number", "text", "words")
SUBJECTS = ("event", "item", "flag")


class Declared(NamedTuple):
    """A column that ubp.define_event_column declared: an attribute as number, text or words.

    of  event: `attributes ->> attribute`; item: what ubp.item_attributes knew of the event's item; flag: findings of
        the rule `attribute`, or of all (EVERY_RULE), about the event
    """

    name: str
    attribute: str
    type: str
    of: str = "event"


class Columns(NamedTuple):
    """What a set reads of each event besides its time, ingestion and kind; `local`: the source's clock too."""

    numbers: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    local: bool = False


def types_of(declared: tuple[Declared, ...]) -> dict[str, str]:
    """Name to number, key, order, clock, cycle (hour, weekday, month) or words of every column there is."""
    found = dict.fromkeys(NUMBERS, "number") | {"item": "key", "order": "order"}
    found |= dict.fromkeys(CLOCK, "clock") | dict.fromkeys(CYCLES, "cycle")
    for column in declared:
        if column.type not in TYPES:
            raise BadInput(f"event column {column.name!r} is declared as {column.type!r}", f"one of {', '.join(TYPES)}")
        if column.of not in SUBJECTS:
            raise BadInput(f"event column {column.name!r} is of {column.of!r}", f"one of {', '.join(SUBJECTS)}")
        found.setdefault(column.name, "key" if column.type == "text" else column.type)
    return found


def expression_of(name: str, declared: Sequence[Declared]) -> str:
    """The column as an expression over ubp.all_events e, its source s and the moment g."""
    for column in declared:
        if column.name == name:
            if column.of == "item":
                form = ITEM_NUMBER if column.type == "number" else ITEM_TEXT
                return OF_ITEM.format(value=form, attribute=quoted(column.attribute))
            if column.of == "flag":
                return of_flag(quoted(column.attribute), every=column.attribute == EVERY_RULE)
            text = f"(e.attributes ->> {quoted(column.attribute)})"
            if column.type != "number":
                return text
            return f"case when {text} ~ '{A_NUMBER}' then {text}::numeric::double precision end"
    return _SQL[name]


def of_flag(rule: str, *, every: bool) -> str:
    """How many open findings, of the rule (a literal) or of all, speak of the event: 0 for most."""
    return OF_FLAG.format(rule="" if every else OF_RULE.format(rule=rule))


def quoted(text: str) -> str:
    """An SQL literal, right whatever standard_conforming_strings says."""
    body = text.replace("'", "''")
    return f"E'{body}'".replace("\\", "\\\\") if "\\" in text else f"'{body}'"


A_NUMBER = "^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?$"
# What was known of the item of event e when the event became known, about the time at which it happened: of statements
# that began to hold at one moment the one that came last.
OF_ITEM = """
         (select {value} from ubp.item_attributes a
           where a.item_id = e.item_id and a.name = {attribute}
             and a.valid_from <= e.event_time and a.ingested_at <= e.ingested_at
           order by a.valid_from desc, a.ingested_at desc limit 1)"""
# A double's own text would depend on a setting of the session.
ITEM_TEXT = "coalesce(a.text, nullif(a.value, 'NaN')::numeric::text)"
ITEM_NUMBER = (
    f"nullif(coalesce(a.value, case when a.text ~ '{A_NUMBER}' then a.text::numeric::double precision end), 'NaN')"
)
# A finding that no longer holds, or that somebody dismissed, has no flags.
OF_FLAG = """
         (select count(*)::double precision from ubp.flagged_events f where f.event_id = e.event_id{rule})"""
OF_RULE = """
             and exists (select from ubp.quality_findings q where q.finding_id = f.finding_id and q.rule = {rule})"""
EVERY_RULE = "*"
_LOCAL = "e.event_time at time zone coalesce(s.time_zone, 'UTC')"
_SQL = {
    "value": "nullif(e.value, 'NaN')",
    "quantity": "nullif(e.quantity, 'NaN')::double precision",
    "duration_s": "nullif(e.duration_s, 'NaN')::double precision",
    "item": "e.item_id",
    "order": "coalesce(e.attributes ->> 'order_id', extract(epoch from e.event_time)::text)",
    "day": f"({_LOCAL})::date",
    "hour": f"extract(hour from {_LOCAL})::integer",
    "weekday": f"extract(isodow from {_LOCAL})::integer - 1",
    "month": f"extract(month from {_LOCAL})::integer - 1",
    "holiday": f"(exists (select from ubp.calendar c where c.day = ({_LOCAL})::date"
    " and c.kind = 'holiday' and c.region in ('', g.zone)))::integer",
}
