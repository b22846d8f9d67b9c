"""One attached source as SQL: its rows as events, with conditions on the relation's own columns.

What the expressions are is checked by ubp.attach_source; here they are put into queries as they stand.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ubp_sql.errors import SourceChanged

# What other tables know of an event's user: every id that is his, and whose an id is.
IDS_OF = "{array} || array(select l.member_id from ubp.user_members l where l.user_id = any ({array}))"
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
# Whoever asks for a user by a text asks without spaces around it. Such keys are left out: trimmed, they would be found
# by no index on the column.
TRIMMED = "\n   and x.user_key <> '' and x.user_key = btrim(x.user_key)"
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


class Where(NamedTuple):
    """Which events are asked for. Braces stand for columns of ubp.events or for what a relation has in their place.

    users  a condition on {user}
    array  the parameter of `users` as an array, where that is what it is
    inner  a condition on {key} and {time}, on {place}, {whose} (the user's key) or {mark}
    tail   more, on e: the events as everybody knows them
    """

    users: str = ""
    array: str = ""
    inner: str = ""
    tail: str = ""


class Source(NamedTuple):
    """Row of ubp.attached_sources; `relation` is quoted.

    narrow   its columns of smaller integers than bigint
    changed  the name is no longer the relation's that was attached: what became of it, and the way out
    """

    source_id: int
    relation: str
    relkind: str
    user_key: str
    user_type: str
    event_time: str
    kind: str
    item_key: str | None
    item_type: str | None
    value: str | None
    ingested_at: str | None
    event_key: str | None
    key_type: str
    filter: str | None
    narrow: frozenset[str]
    watermark: str | None
    watermark_at: int | None
    changed: tuple[str, str] | None = None

    def refuse_another(self) -> None:
        """Raises SourceChanged (UB015) where the name is nobody's, or another relation's, by now."""
        if self.changed:
            raise SourceChanged(*self.changed)

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

    @property
    def usable(self) -> str:
        """Which of its rows are events."""
        return USABLE + TRIMMED if self.user_type == "text" else USABLE

    @property
    def item(self) -> str:
        """The item's key, a text without spaces around it."""
        if self.item_type == "text":
            return f"btrim({self.item_key})" if self.item_key else "null::text"
        return self.item_key or "null::bigint"

    def table(self, where: Where, relation: str, *, linked: bool, settled: bool) -> str:
        """Its events, to read from."""
        user, joins = _joined(self)
        outside = UNKNOWN_ITEM if settled and self.item_key and self.item_type == "text" else ""
        if self.user_type == "text":
            whose = of_ids(where, user) if linked else where.users.format(user=user)
            outside += f" and {whose}" if whose else ""
        if linked:
            joins += JOIN_MEMBER.format(user=user)
            user = f"coalesce(m.user_id, {user})"
        high = self.source_id << 48
        item = "null::bigint"
        if self.item_key is not None:
            item = "i.item_id" if self.item_type == "text" else "x.item_key"
        return ATTACHED.format(
            event_id=EVENT_ID[self.key_type].format(high=high),
            user=user,
            item=item,
            source=self.source_id,
            raw="x.event_key" if self.key_type == "integer" else "null::bigint",
            rows=self.rows(where, relation, linked=linked),
            joins=joins,
            usable=self.usable,
            where=outside,
        )

    def rows(self, where: Where, relation: str, *, linked: bool) -> str:
        """The relation's rows as user_key, event_time, ..., event_key."""
        inside = [f"({self.filter})" if self.filter else ""]
        names = {"key": _raw(self, self.event_key), "time": f"({self.event_time})", "place": "ctid"}
        names |= {"whose": _raw(self, self.user_key), "mark": self.mark}
        inside.append(where.inner.format(**names))
        if self.user_type == "integer":
            raw = _raw(self, self.user_key)
            inside.append(of_ids(where, raw) if linked else where.users.format(user=raw))
        rows = ROWS.format(
            user_key=self.user_key,
            event_time=self.event_time,
            kind=self.kind,
            item_key=self.item,
            value=self.value or "null",
            ingested_at=f"({self.ingested_at}), " if self.ingested_at else "",
            event_key=self.event_key if self.key_type != "none" else "null::bigint",
            relation=relation,
            where=f"\n where {all_of(inside)}" if any(inside) else "",
        )
        return TOLD_APART.format(rows=rows) if self.key_type == "none" else rows

    def new_keys(self, where: Where, relation: str, *, linked: bool) -> list[str]:
        """Statements that give ids to those key texts of users and of items among some rows that have none."""
        made = []
        rows = self.rows(where, relation, linked=linked)
        user, joins = _joined(self)
        users = of_ids(where, user) if linked else where.users.format(user=user)
        condition = f" and {users}" if users and self.user_type == "text" else ""
        if self.user_type == "text" and not condition:
            made.append(_new_keys("users", "user_key", rows, self.usable, "", ""))
        if self.item_type == "text" and self.item_key is not None:
            made.append(_new_keys("items", "item_key", rows, self.usable, joins if condition else "", condition))
        return made


def all_of(conditions: Sequence[str]) -> str:
    return " and ".join(filter(None, conditions)) or "true"


def of_ids(where: Where, user: str) -> str:
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


def _new_keys(table: str, column: str, rows: str, usable: str, joins: str, where: str) -> str:
    parts = {"rows": rows, "joins": joins, "usable": usable, "where": where, "most": MOST_KEY_BYTES}
    return NEW_KEYS.format(table=table, column=column, **parts)
