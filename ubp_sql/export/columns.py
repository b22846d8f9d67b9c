"""The columns of `known`, the events of a set that were known at the moment, and what is read of them.

u, t, g, i      user, event time, ingested at, event id        k   the event's kind, counted from 0
n0, n1, ...     numbers, float8; NULL is missing               k0, k1, ...   keys, bigint; NULL is missing
cd, ch, cw, cm  local day, hour, weekday, month                co  whether that day is a holiday
"""

from collections.abc import Sequence

from ubp_sql.errors import UnsupportedModel
from ubp_sql.export.quoting import literal
from ubp_sql.features.columns import A_NUMBER, Declared
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.kernels.codes import Key

LEAST, MOST = 1e-120, 1e140
"""Finite numbers are held within these sizes: their squares and sums then stay within float8, whose operators raise
an error in PostgreSQL where C gives infinity or 0."""
EVERYTHING = "t desc, g desc, i desc"
"""Newest first, as kernels add."""
CLOCK = {Key.DAY: "cd", Key.HOUR: "ch", Key.WEEKDAY: "cw", Key.MONTH: "cm", Key.HOLIDAY: "co", Key.ALL: "0"}
_LOCAL = "(e.event_time at time zone coalesce(z.time_zone, 'UTC'))"
_CLOCK = {
    Key.DAY: f"{_LOCAL}::date - date '1970-01-01'",
    Key.HOUR: f"date_part('hour', {_LOCAL})::integer",
    Key.WEEKDAY: f"date_part('isodow', {_LOCAL})::integer - 1",
    Key.MONTH: f"date_part('month', {_LOCAL})::integer - 1",
}
_HOLIDAY = """(exists (select from ubp.calendar c where c.day = {local}::date
      and c.kind = 'holiday' and c.region in ('', {zone})))::integer"""
# Times 0 it keeps the sign of a zero; NaN is above every number.
_HELD = f"""case when abs({{x}}) >= '{MOST!r}'::float8 and abs({{x}}) < 'Infinity' then sign({{x}}) * '{MOST!r}'::float8
              when abs({{x}}) < '{LEAST!r}'::float8 then {{x}} * 0 else nullif({{x}}, 'NaN') end"""
_NUMBERS = {
    "value": _HELD.format(x="e.value"),
    "quantity": "nullif(e.quantity, 'NaN')::float8",
    "duration_s": "nullif(e.duration_s, 'NaN')::float8",
}
# As the mirror reads an order: the hash of its id, and without one the events of a time together.
_ORDER = "coalesce(hashtextextended(e.attributes ->> 'order_id', 0), ubp.epoch_us(e.event_time))"
_KEYS = {"item": "nullif(e.item_id, -9223372036854775808)", "order": _ORDER}
_WORDS = """(select coalesce(bit_or(1::bigint << (hashtext(w) & 63)), 0)
      from regexp_split_to_table(lower({text}), '[^[:alnum:]]+') w where w <> '')"""


def key_column(key: int) -> str:
    """The column of a key of the plan."""
    return f"k{key}" if key >= 0 else CLOCK[Key(key)]


def unreadable(definition: FeatureSetDefinition) -> dict[str, str]:
    """Declared columns that the second tier does not have, and why."""
    reasons = {
        "item": "it is of items: ubp.item_attributes is not part of the second tier",
        "flag": "it counts findings of ubp.check_quality",
    }
    return {column.name: reasons[column.of] for column in definition.declared if column.of in reasons}


def known(definition: FeatureSetDefinition, clock: Sequence[int], zone: str, user: str) -> str:
    """The query of `known`.

    clock  the keys of the local time that are read
    zone   of the set, for holidays
    user   a condition on e.user_id, or nothing

    Raises UnsupportedModel (UB007) on a column that the second tier does not have.
    """
    by_name = {column.name: column for column in definition.declared}
    for name, reason in unreadable(definition).items():
        raise UnsupportedModel(f"event column {name!r} has no form in SQL: {reason}", "leave its features out")
    kinds = " ".join(f"when {literal(kind)} then {code}" for code, kind in enumerate(definition.kinds))
    read = ["e.user_id as u", "e.event_time as t", "e.ingested_at as g", "e.event_id as i"]
    read.append(f"case e.kind {kinds} end as k")
    for n, name in enumerate(definition.columns.numbers):
        read.append(f"{_NUMBERS.get(name) or _declared_number(by_name[name])} as n{n}")
    for n, name in enumerate(definition.columns.keys):
        read.append(f"{_KEYS.get(name) or _declared_key(by_name[name])} as k{n}")
    for key in sorted(set(clock) - {Key.ALL}, reverse=True):
        made = _HOLIDAY.format(local=_LOCAL, zone=literal(zone)) if key == Key.HOLIDAY else _CLOCK[Key(key)]
        read.append(f"{made} as {CLOCK[Key(key)]}")
    columns = ",\n         ".join(read)
    source = "\n    left join ubp.sources z on z.source_id = e.source" if clock else ""
    named = ", ".join(map(literal, definition.kinds))
    return f"""select {columns}
    from ubp.events e{source}
   where e.kind in ({named}) and e.event_time < now_at and e.ingested_at <= now_at
     and e.event_time >= '1900-01-01 00:00+00'{user}
   order by u, {EVERYTHING}"""


def _text(column: Declared) -> str:
    return f"(e.attributes ->> {literal(column.attribute)})"


def _declared_number(column: Declared) -> str:
    """JSON numbers, and text that reads as one, within what a float8 can hold."""
    text = _text(column)
    return f"""(select case when abs(n.v) >= 1e308 then null when abs(n.v) >= {MOST!r} then sign(n.v) * {MOST!r}
                  when abs(n.v) < {LEAST!r} then 0 else n.v end
      from (select case when {text} ~ {literal(A_NUMBER)} then {text}::numeric end as v) n)::float8"""


def _declared_key(column: Declared) -> str:
    text = _text(column)
    return _WORDS.format(text=text) if column.type == "words" else f"hashtextextended({text}, 0)"
