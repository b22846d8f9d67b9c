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


class Declared(NamedTuple):
    """A column that ubp.define_event_column declared: `attributes ->> attribute` as number, text or words."""

    name: str
    attribute: str
    type: str


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
        found.setdefault(column.name, "key" if column.type == "text" else column.type)
    return found


def expression_of(name: str, declared: Sequence[Declared]) -> str:
    """The column as an expression over ubp.events e, its source s and the moment g."""
    for column in declared:
        if column.name == name:
            text = f"(e.attributes ->> {quoted(column.attribute)})"
            if column.type != "number":
                return text
            return f"case when {text} ~ '{_A_NUMBER}' then {text}::numeric::double precision end"
    return _SQL[name]


def quoted(text: str) -> str:
    """An SQL literal, right whatever standard_conforming_strings says."""
    body = text.replace("'", "''")
    return f"E'{body}'".replace("\\", "\\\\") if "\\" in text else f"'{body}'"


_A_NUMBER = "^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?$"
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
    " and c.region in ('', g.zone)))::integer",
}
