"""Events out of rows as packed columns: one query builder for every way in which they are asked for, of any origin."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.event_rows import PLAIN, Origin
from ubp_sql.api.session import Row, run
from ubp_sql.api.source_rows import Where
from ubp_sql.features.columns import EVERY_RULE, ITEM_TEXT, OF_ITEM, Declared, of_flag

if TYPE_CHECKING:
    from ubp_sql.mirror.layout import Block

# What a row's marks hold above the code of its kind: which of these values it has. A value that is missing, or equal
# to what most rows have (known when it happened, on UTC's clock), is not sent: a call of a send function costs 60 ns.
HEAD = """
select string_agg(int8send(x.user_id), '') as user_id, string_agg(timestamptz_send(x.event_time), '') as t,
       string_agg(int8send(x.event_id), '') as event_id,
       string_agg(int4send(x.code
         | ((x.ingested is not null)::integer << 24) | ((x.item_id is not null)::integer << 25)
         | ((x.order_code is not null)::integer << 26) | ((x.value is not null)::integer << 27)
         | ((x.quantity is not null)::integer << 28) | ((x.duration_s is not null)::integer << 29)
         | ((x.offset_s is not null)::integer << 30)), '') as marks,
       string_agg(timestamptz_send(x.ingested), '') as ingested, string_agg(int8send(x.item_id), '') as item,
       string_agg(int8send(x.order_code), '') as order, string_agg(float8send(x.value), '') as value,
       string_agg(float4send(x.quantity), '') as quantity, string_agg(float4send(x.duration_s), '') as duration_s,
       string_agg(int4send(x.offset_s), '') as offset_s,
       bool_or(x.code = 0) as new_kinds, bool_or(x.unknown) as unknown_sources{sent}
  from (
    select e.user_id, e.event_time, e.event_id, e.item_id, e.value, e.quantity, e.duration_s,
           nullif(e.ingested_at, e.event_time) as ingested,
           hashtextextended(e.attributes ->> 'order_id', 0) as order_code,
           case when s.time_zone <> 'UTC' then nullif(extract(epoch from
                  (e.event_time at time zone s.time_zone) - (e.event_time at time zone 'UTC'))::integer, 0)
           end as offset_s,
           s.source_id is null as unknown, {code} as code{extras}
      from {relation} e left join ubp.sources s on s.source_id = e.source{kinds}
     where {where}
  ) x{portions}"""
# The same, an answer a portion: what neither blocks nor ids cut is read once, and lies in a sort meanwhile.
NUMBERED = ",\n           (row_number() over () - 1) / {portion} as portion"
PORTIONS = "\n group by x.portion order by x.portion"
KNOWN_KIND = "k.code is not null and "
# By the position of the kind in $1, and no other kinds; or by the mirror's code, 0 for a kind that has none yet.
LISTED = ("array_position($1, e.kind)", "", "e.kind = any ($1) and ")
CODED = ("coalesce(k.code, 0)", " left join ubp.mirror_kinds k on k.kind = e.kind", "")

# The same moment to the microsecond: whole seconds are exact as an interval times a number, a bigint of them is not.
MOMENT = "timestamptz 'epoch' + ({us} / 1000000) * interval '1 second' + ({us} % 1000000) * interval '1 microsecond'"
BY_ID = (
    "{{key}} >= {0} and {{key}} <= {1} "
    f"and {{{{time}}}} >= {MOMENT.format(us='{2}')} and {{{{time}}}} <= {MOMENT.format(us='{3}')}"
)
OF_USERS = Where("{user} = any ($2)", "$2")
OF_RANGE = Where("{user} >= $2 and {user} <= $3")
OF_IDS = Where(inner=BY_ID.format("$1", "$2", "$3", "$4"))
OF_USERS_AND_IDS = OF_USERS._replace(inner=BY_ID.format("$3", "$4", "$5", "$6"))
OF_RANGE_AND_IDS = OF_RANGE._replace(inner=BY_ID.format("$4", "$5", "$6", "$7"))
ALL_OF_USERS = Where("{user} = any ($1)", "$1")
PAGE_OF_USER = Where(
    "{user} = $1",
    "array[$1]",
    tail=f" and (e.event_time, e.event_id) > ({MOMENT.format(us='$2')}, $3) order by e.event_time, e.event_id limit $4",
)
OF_BLOCKS = Where(inner="{place} >= $1 and {place} < $2")

# JSON numbers, and text that reads as one, within what float8 can hold; all else is missing.
NUMBER = """
           (select case when abs(n.v) >= 1e308 then null when abs(n.v) < 1e-300 then 0 else n.v end
              from (select case when {text} ~ '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{{1,3}})?$'
                                then ({text})::numeric end as v) n)::double precision"""
TEXT = """
           hashtextextended({text}, 0)"""
WORDS = """
           (select bit_or(1::bigint << (hashtext(w) & 63))
              from regexp_split_to_table(lower({text}), '[^[:alnum:]]+') w where w <> '')"""
EXTRAS = {
    "number": (NUMBER, "'NaN'", "float8send"),
    "text": (TEXT, "'-9223372036854775808'", "int8send"),
    "words": (WORDS, "0", "int8send"),
}
# Where an item has a value, its text is not looked at.
NUMBER_OF_ITEM = f"""case when a.value is null then {NUMBER.format(text="a.text")}
                      when abs(a.value) >= 1e308 then null when abs(a.value) < 1e-300 then 0 else a.value end"""


class Found(NamedTuple):
    """What a query found."""

    block: "Block | None"
    new_kinds: bool  # some kind has no code yet
    unknown_sources: bool  # some source has no row in ubp.sources


def rows_query(
    plpy: Any,
    way: tuple[str, str, str],
    where: Where,
    declared: list[Declared],
    origin: Origin = PLAIN,
    relation: str | None = None,
    *,
    settled: bool = False,
    portion: int | None = None,
) -> str:
    """The query of `mirror.sent.block_of`'s columns.

    way       LISTED or CODED: what the kinds become
    where     one of this module's conditions
    declared  columns to read of the events' and their items' attributes, whose names the server quotes
    origin    where the events lie
    relation  a partition of it, quoted
    settled   as Origin.select has it
    portion   events of an answer; None: all are one
    """
    code, kinds, named = way
    portions = ""
    table, condition = origin.select(where, relation, settled=settled)
    sent, extras = "", ""
    for number, column in enumerate(declared, 1):
        form, missing, send = EXTRAS[column.type]
        name = plpy.quote_literal(column.attribute)
        if column.of == "item":
            value = NUMBER_OF_ITEM if column.type == "number" else form.format(text=ITEM_TEXT)
            value = OF_ITEM.format(value=value, attribute=name)
        elif column.of == "flag":
            value = of_flag(name, every=column.attribute == EVERY_RULE)
        else:
            value = form.format(text=f"(e.attributes ->> {name})")
        sent += f",\n       string_agg({send}(x.x{number}), '') as x{number}"
        extras += f",\n           coalesce({value}, {missing}) as x{number}"
    if portion is not None:
        extras, portions = extras + NUMBERED.format(portion=portion), PORTIONS
        # As with items: whoever heard of such a row while others were read would keep it as of no kind.
        named = KNOWN_KIND if settled else named
    parts = {"sent": sent, "code": code, "extras": extras, "relation": table, "kinds": kinds, "portions": portions}
    return HEAD.format(where=named + condition, **parts)


NEW_KINDS = """
insert into ubp.mirror_kinds (kind)
select distinct x.kind
  from (select e.kind from {relation} e left join ubp.mirror_kinds k on k.kind = e.kind
         where k.code is null and {where}) x
    on conflict (kind) do nothing"""


def number_kinds(
    plpy: Any,
    where: Where,
    types: list[str],
    arguments: list[Any],
    origin: Origin = PLAIN,
    relation: str | None = None,
) -> None:
    """Gives numbers to the kinds that have none among the rows of `rows_query` with CODED and the same arguments."""
    table, condition = origin.select(where, relation)
    run(plpy, {}, NEW_KINDS.format(relation=table, where=condition), types, arguments)


def read_rows(
    plpy: Any,
    memory: dict[str, Any] | None,
    query: str,
    types: list[str],
    arguments: list[Any],
    declared: list[Declared],
) -> Found:
    """The sorted events that a query of `rows_query` finds; its plan is kept in `memory`, if that is given."""
    from ubp_sql.mirror.sent import block_of

    row: Row = run(plpy, {} if memory is None else memory, query, types, arguments)[0]
    if row["user_id"] is None:
        return Found(None, False, False)
    return Found(block_of(row, declared), row["new_kinds"], row["unknown_sources"])


def read_portions(
    plpy: Any, query: str, types: list[str], arguments: list[Any], declared: list[Declared]
) -> "Iterator[Found]":
    """Portion by portion the sorted events that a query of `rows_query` finds, all of one snapshot."""
    from ubp_sql.mirror.sent import block_of

    cursor = plpy.cursor(plpy.prepare(query, types), arguments)
    while found := cursor.fetch(1):
        yield Found(block_of(found[0], declared), found[0]["new_kinds"], found[0]["unknown_sources"])


DECLARED = 'select name, attribute, type, "of" from ubp.event_columns order by position'


def declared_columns(plpy: Any, memory: dict[str, Any]) -> list[Declared]:
    """The columns of ubp.event_columns, in the order in which chunks hold them."""
    return [Declared(**row) for row in run(plpy, memory, DECLARED, [], [])]
