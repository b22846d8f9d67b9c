"""Events wherever they lie: ubp.events and the relations that were attached, each with the same columns.

ubp.event_rows() is all of them for people and for small questions. The engine asks one origin after the other, with
conditions on the relation's own columns: an index on an integer column does not serve `column::bigint = ...`.
"""

from __future__ import annotations

import re
from collections import namedtuple

from ubp_sql.api.session import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

EVENTS = "ubp.events"
# Asked before each look at rows: 10 µs where nothing is attached, of which the next one would take 50.
THERE = """
select exists (select from ubp.user_members) as linked, exists (select from ubp.attached_sources) as attached"""
SOURCES = """
select s.source_id, format('%I.%I', s.schema_name, s.relation_name) as relation, s.relkind, s.user_key, s.user_type,
       s.event_time, s.kind, s.item_key, s.item_type, s.value, s.ingested_at, s.event_key, s.key_type, s.filter,
       s.columns::text as columns, s.watermark, s.watermark_at
  from ubp.attached_sources s order by s.source_id"""
# What other tables know of an event's user: every id that is his, and whose an id is.
IDS_OF = "{array} || array(select l.member_id from ubp.user_members l where l.user_id = any ({array}))"
LINKED = """
(select e.event_id, coalesce(m.user_id, e.user_id) as user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity,
        e.duration_s, e.attributes, e.ingested_at, e.source, e.tenant, 0 as origin, e.event_id as raw_id
   from {relation} e left join ubp.user_members m on m.member_id = e.user_id{where})"""
# The relation's own columns alone are in sight here, as they were when the expressions were checked.
ROWS = """
select ({user_key}) as user_key, ({event_time})::timestamptz as event_time, ({kind})::text as kind,
       ({item_key}) as item_key, ({value})::double precision as value,
       coalesce({ingested_at}({event_time}))::timestamptz as ingested_at, ({event_key}) as event_key
  from {relation}{where}"""
# Rows equal in all that is read of them are told apart by a number, which of them has which does not matter. The bytes
# of a value, since -0.0 and 0.0 have one hash.
TOLD_APART = """
select y.user_key, y.event_time, y.kind, y.item_key, y.value, y.ingested_at,
       hashint8extended(y.hash, row_number() over (partition by y.user_key, y.event_time, y.hash)) as event_key
  from (select z.*, hash_record_extended(row(z.user_key, z.event_time, z.kind, z.item_key, float8send(z.value),
                                             z.ingested_at), 0) as hash
          from ({rows}) z) y"""
USABLE = """x.user_key is not null and x.kind <> '' and x.event_key is not null
   and x.event_time >= '1900-01-01 00:00+00' and x.event_time < '2300-01-01 00:00+00'"""
ATTACHED = """
(select {event_id} as event_id, {user} as user_id, x.event_time, x.kind, {item} as item_id, x.value,
        null::real as quantity, null::real as duration_s, null::jsonb as attributes, x.ingested_at,
        {source} as source, 0 as tenant, {source} as origin, {raw} as raw_id
   from ({rows}) x{joins}
  where {usable}{where})"""
# Ids of a source lie between its number and the next, times 2^48; the upper half is for hashes.
HASHED = "{high}::bigint | 140737488355328 | ({hash} & 140737488355327)"
EVENT_ID = {
    "integer": "case when x.event_key >= 0 and x.event_key < 140737488355328 then {high}::bigint | x.event_key\n"
    "             else " + HASHED.format(high="{high}", hash="hashint8extended(x.event_key, 0)") + " end",
    "text": HASHED.format(high="{high}", hash="hashtextextended(x.event_key, 0)"),
    "none": HASHED.format(high="{high}", hash="x.event_key"),
}
JOIN_USER = "\n   join ubp.users u on u.user_key = x.user_key and u.tenant = 0"
JOIN_ITEM = "\n   left join ubp.items i on i.item_key = x.item_key and i.tenant = 0"
JOIN_MEMBER = "\n   left join ubp.user_members m on m.member_id = {user}"

# The function's branches. Two of each where users are linked, so that conditions on users still reach indexes.
OF_EVENTS = """
select e.event_id, e.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes,
       e.ingested_at, e.source, e.tenant, 0, e.event_id
  from ubp.events e"""
OTHERS = "\n where not exists (select from ubp.user_members m where m.member_id = e.user_id)"
BRANCH = """
select e.event_id, e.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes,
       e.ingested_at, e.source, e.tenant, e.origin, e.raw_id
  from {relation} e"""
MEMBERS = """
select e.event_id, m.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes,
       e.ingested_at, e.source, e.tenant, {origin}, {raw}
  from ubp.user_members m join {relation} e on e.user_id = m.member_id"""
# As udfs/025_event_rows.sql has it, but for the body.
FUNCTION = """
create or replace function ubp.event_rows()
returns table (event_id bigint, user_id bigint, event_time timestamptz, kind text, item_id bigint,
  value double precision, quantity real, duration_s real, attributes jsonb, ingested_at timestamptz, source integer,
  tenant integer, origin integer, raw_id bigint)
language sql stable parallel unsafe as {body}"""
LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.event_rows', 0))"
# A relation that is gone is said when its events are read, not by whoever attaches another one.
CHECKS = "select set_config('check_function_bodies', $1, true)"
BEFORE = "select current_setting('check_function_bodies') as before"

MOST_KEY_BYTES = 1000
"""Of a key text: an index cannot take one of more than 2,700 bytes."""
UNKNOWN_ITEM = " and (x.item_key is null or i.item_id is not null or x.item_key = ''"
UNKNOWN_ITEM += f" or octet_length(x.item_key) > {MOST_KEY_BYTES})"
# Sorted, so that two who name the same new keys wait for each other instead of in a circle.
NEW_KEYS = """
insert into ubp.{table} ({column})
select n.key
  from (select distinct x.{column} as key from ({rows}) x{joins} where {usable}{where}) n
 where n.key <> '' and octet_length(n.key) <= {most}
   and not exists (select from ubp.{table} t where t.tenant = 0 and t.{column} = n.key)
 order by n.key collate "C" on conflict (tenant, {column}) do nothing"""
WIDENED = re.compile(r'\(*((?:[a-z_][a-z0-9_$]*)|"(?:[^"]|"")+")\)*::(?:bigint|int8)')
NARROW = {"integer", "smallint", "int4", "int2"}


class Where(namedtuple("Where", ("users", "array", "inner", "tail"), defaults=("", "", "", ""))):
    """Which events are asked for. Braces stand for columns of ubp.events or for what a relation has in their place.

    users  a condition on {user}
    array  the parameter of `users` as an array, where that is what it is
    inner  a condition on {key} and {time}, on {place}, {whose} (the user's key) or {mark}
    tail   more, on e: the events as everybody knows them
    """

    __slots__ = ()


class Source(
    namedtuple(
        "Source",
        (
            *("source_id", "relation", "relkind", "user_key", "user_type", "event_time", "kind", "item_key"),
            *("item_type", "value", "ingested_at", "event_key", "key_type", "filter", "narrow", "watermark"),
            "watermark_at",
        ),
    )
):
    """Row of ubp.attached_sources; `relation` is quoted. `narrow`: its columns of smaller integers than bigint."""

    __slots__ = ()

    @property
    def by_blocks(self) -> bool:
        """Whether its events can be told from each other block by block."""
        return self.relkind in ("r", "p") and self.key_type != "none"

    @property
    def mark(self) -> str:
        """What tells new rows, where no trigger can."""
        if self.watermark == "event_key":
            return _raw(self, self.event_key)
        if self.watermark == "ingested_at" and self.ingested_at:
            return f"coalesce({self.ingested_at}, {self.event_time})"
        return f"({self.event_time})"


class Origin(namedtuple("Origin", ("source", "linked"))):
    """Where events lie: ubp.events (`source` None) or an attached source; `linked`: some users are several ids."""

    __slots__ = ()

    @property
    def number(self) -> int:
        """As events and the log have it."""
        return self.source.source_id if self.source else 0

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal queries."""
        return (self.linked, self.source and self.source._replace(watermark_at=None))

    def select(self, where: Where, relation: str | None = None, *, settled: bool = False) -> tuple[str, str]:
        """What to read from, and the condition on it as `e`.

        relation  a partition in place of the whole, quoted
        settled   without rows of items that have no id yet: whoever keeps what he reads would keep them without
        """
        if self.source is None:
            return self._events(where, relation or EVENTS)
        users = where.users.format(user="e.user_id")
        table = self._attached(where, relation or self.source.relation, settled=settled)
        return table, _all([users]) + where.tail

    def _events(self, where: Where, relation: str) -> tuple[str, str]:
        names = {"key": "e.event_id", "time": "e.event_time", "place": "e.ctid"}
        users = where.users.format(user="e.user_id")
        if not self.linked:
            return relation, _all([users, where.inner.format(**names)]) + where.tail
        inside = _all([_of_ids(where, "e.user_id"), where.inner.format(**names)])
        return LINKED.format(relation=relation, where=f"\n  where {inside}"), _all([users]) + where.tail

    def _attached(self, where: Where, relation: str, *, settled: bool = False) -> str:
        source = self.source
        user, joins = _joined(source)
        outside = UNKNOWN_ITEM if settled and source.item_key and source.item_type == "text" else ""
        if source.user_type == "text":
            whose = _of_ids(where, user) if self.linked else where.users.format(user=user)
            outside += f" and {whose}" if whose else ""
        if self.linked:
            joins += JOIN_MEMBER.format(user=user)
            user = f"coalesce(m.user_id, {user})"
        high = source.source_id << 48
        item = "null::bigint"
        if source.item_key is not None:
            item = "i.item_id" if source.item_type == "text" else "x.item_key"
        return ATTACHED.format(
            event_id=EVENT_ID[source.key_type].format(high=high),
            user=user,
            item=item,
            source=source.source_id,
            raw="x.event_key" if source.key_type == "integer" else "null::bigint",
            rows=self._rows(where, relation),
            joins=joins,
            usable=USABLE,
            where=outside,
        )

    def _rows(self, where: Where, relation: str) -> str:
        """The relation's rows as user_key, event_time, ..., event_key."""
        source = self.source
        inside = [f"({source.filter})" if source.filter else ""]
        names = {"key": _raw(source, source.event_key), "time": f"({source.event_time})", "place": "ctid"}
        names |= {"whose": _raw(source, source.user_key), "mark": source.mark}
        inside.append(where.inner.format(**names))
        if source.user_type == "integer":
            raw = _raw(source, source.user_key)
            inside.append(_of_ids(where, raw) if self.linked else where.users.format(user=raw))
        rows = ROWS.format(
            user_key=source.user_key,
            event_time=source.event_time,
            kind=source.kind,
            item_key=source.item_key or f"null::{'text' if source.item_type == 'text' else 'bigint'}",
            value=source.value or "null",
            ingested_at=f"({source.ingested_at}), " if source.ingested_at else "",
            event_key=source.event_key if source.key_type != "none" else "null::bigint",
            relation=relation,
            where=f"\n where {_all(inside)}" if any(inside) else "",
        )
        return TOLD_APART.format(rows=rows) if source.key_type == "none" else rows

    def new_keys(self, where: Where, relation: str | None = None) -> list[str]:
        """Statements that give ids to those key texts of users and of items among some rows that have none."""
        if self.source is None:
            return []
        source, made = self.source, []
        rows = self._rows(where, relation or source.relation)
        user, joins = _joined(source)
        users = _of_ids(where, user) if self.linked else where.users.format(user=user)
        condition = f" and {users}" if users and source.user_type == "text" else ""
        if source.user_type == "text" and not condition:
            made.append(_new_keys("users", "user_key", rows, "", ""))
        if source.item_type == "text" and source.item_key is not None:
            made.append(_new_keys("items", "item_key", rows, joins if condition else "", condition))
        return made

    def branches(self) -> list[str]:
        """Of the body of ubp.event_rows()."""
        if self.source is None:
            members = MEMBERS.format(relation=EVENTS, origin="0", raw="e.event_id")
            return [OF_EVENTS + OTHERS, members] if self.linked else [OF_EVENTS]
        relation = Origin(self.source, False)._attached(Where(), self.source.relation)
        plain = BRANCH.format(relation=relation)
        if not self.linked:
            return [plain]
        return [plain + OTHERS, MEMBERS.format(relation=relation, origin="e.origin", raw="e.raw_id")]


PLAIN = Origin(None, False)
HERE = (PLAIN,)


def _all(conditions: Sequence[str]) -> str:
    return " and ".join(filter(None, conditions)) or "true"


def _of_ids(where: Where, user: str) -> str:
    """The condition for all ids that the users have; none where they are a range."""
    if not where.array:
        return ""
    ids = IDS_OF.format(array=where.array)
    return f"{user} = any ({ids})"


def _raw(source: Source, expression: str | None) -> str:
    """The expression as an index on its column knows it."""
    found = WIDENED.fullmatch(expression or "")
    if found is not None and found[1].strip('"').replace('""', '"') in source.narrow:
        return found[1]
    return f"({expression})"


def _joined(source: Source) -> tuple[str, str]:
    """The user's id, and the tables that say it and the item's."""
    of_item = JOIN_ITEM if source.item_type == "text" and source.item_key is not None else ""
    return ("u.user_id", JOIN_USER + of_item) if source.user_type == "text" else ("x.user_key", of_item)


def _new_keys(table: str, column: str, rows: str, joins: str, where: str) -> str:
    parts = {"rows": rows, "joins": joins, "usable": USABLE, "where": where, "most": MOST_KEY_BYTES}
    return NEW_KEYS.format(table=table, column=column, **parts)


def origins(plpy: Any, memory: dict[Any, Any]) -> Sequence[Origin]:
    """Where there are events now, ubp.events first."""
    there = run(plpy, memory, THERE, [], [])[0]
    linked = there["linked"]
    if not there["attached"]:
        return [Origin(None, True)] if linked else HERE
    return [Origin(None, linked), *(Origin(_source(row), linked) for row in run(plpy, memory, SOURCES, [], []))]


def query_origin(
    plpy: Any,
    memory: dict[Any, Any],
    query: str,
    origin: Origin,
    where: Where,
    types: list[str],
    arguments: list[Any],
    relation: str | None = None,
) -> Any:
    """Executes a query about some events of an origin, `{relation} e where {where}`, or about `{rows}` as they lie.

    relation  a partition in place of the whole, quoted; its plan is not kept
    """
    table, condition = origin.select(where, relation)
    source = origin.source
    of_rows = {"rows": source.relation, "mark": source.mark} if source else {}
    kept = memory if relation is None else {}
    return run(plpy, kept, query.format(relation=table, where=condition, **of_rows), types, arguments)


def number_keys(
    plpy: Any,
    memory: dict[Any, Any],
    where: Where,
    types: list[str],
    arguments: list[Any],
    origin: Origin,
    relation: str | None = None,
) -> None:
    """Gives ids to the key texts that have none among the rows of an attached source."""
    kept = memory if relation is None else {}
    for query in origin.new_keys(where, relation):
        run(plpy, kept, query, types, arguments)


def _source(row: dict[str, Any]) -> Source:
    import json

    types = json.loads(row["columns"] or "{}")
    narrow = frozenset(name for name, of_type in types.items() if of_type in NARROW)
    return Source(*({**row, "narrow": narrow}[name] for name in Source._fields))


def rebuild_event_rows(plpy: Any, memory: dict[Any, Any]) -> None:
    """Writes the body of ubp.event_rows() anew; for code that writes and runs as ubp_owner.

    Plans of all sessions that read through it are made anew at their next use.
    """
    run(plpy, memory, LOCK, [], [])
    body = "\nunion all".join(branch for origin in origins(plpy, memory) for branch in origin.branches())
    before = run(plpy, memory, BEFORE, [], [])[0]["before"]
    run(plpy, memory, CHECKS, ["text"], ["off"])
    plpy.execute(FUNCTION.format(body=plpy.quote_literal(body + "\n")))
    run(plpy, memory, CHECKS, ["text"], [before])
