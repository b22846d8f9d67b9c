"""Events wherever they lie: ubp.events and the relations that were attached, each with the same columns.

ubp.event_rows() is all of them for people and for small questions. The engine asks one origin after the other, with
conditions on the relation's own columns: an index on an integer column does not serve `column::bigint = ...`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ubp_sql.api.session import run
from ubp_sql.api.source_rows import NARROW, Source, Where, all_of, of_ids

EVENTS = "ubp.events"
# Whether the name still is the relation's that was attached: queries go by it, and would run what another one calls.
# Numbers of another database, which this one is a copy of, say nothing.
SAME = """(s.database <> (select d.oid from pg_database d where d.datname = current_database())
        or exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where c.oid = s.relation and c.relkind = s.relkind::"char" and c.relname = s.relation_name
                      and n.nspname = s.schema_name))"""
# Asked before each look at rows: what a session keeps of sources is right while their rows are the same versions, and
# their relations of the same name and in files as before: a table without rows can become a view, which has none.
THERE = """
select exists (select from ubp.user_members) as linked,
       (select string_agg(concat_ws(' ', s.xmin, s.ctid, s.relation::regclass, pg_relation_filenode(s.relation)), ',')
          from ubp.attached_sources s) as versions"""
SOURCES = f"""
select s.source_id, format('%I.%I', s.schema_name, s.relation_name) as relation, s.relkind, s.user_key, s.user_type,
       s.event_time, s.kind, s.item_key, s.item_type, s.value, s.ingested_at, s.event_key, s.key_type, s.filter,
       s.columns::text as columns, s.watermark, s.watermark_at, {SAME} as same,
       (select o.name from ubp.sources o where o.source_id = s.source_id) as name
  from ubp.attached_sources s order by s.source_id"""  # noqa: S608 - constants only
PROBLEM = "select p.problem, p.way_out from ubp.source_problems() p where p.source = $1 limit 1"
LINKED = """
(select e.event_id, coalesce(m.user_id, e.user_id) as user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity,
        e.duration_s, e.attributes, e.ingested_at, e.source, e.tenant, 0 as origin, e.event_id as raw_id
   from {relation} e left join ubp.user_members m on m.member_id = e.user_id{where})"""
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


class Origin(NamedTuple):
    """Where events lie: ubp.events (`source` None) or an attached source; `linked`: some users are several ids."""

    source: Source | None
    linked: bool

    @property
    def number(self) -> int:
        """As events and the log have it."""
        return self.source.source_id if self.source else 0

    @property
    def attached(self) -> Source:
        """The source of an origin that is one."""
        if self.source is None:
            raise TypeError("ubp.events is no attached source")
        return self.source

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
        self.source.refuse_another()
        users = where.users.format(user="e.user_id")
        relation = relation or self.source.relation
        table = self.source.table(where, relation, linked=self.linked, settled=settled)
        return table, all_of([users]) + where.tail

    def _events(self, where: Where, relation: str) -> tuple[str, str]:
        names = {"key": "e.event_id", "time": "e.event_time", "place": "e.ctid"}
        users = where.users.format(user="e.user_id")
        if not self.linked:
            return relation, all_of([users, where.inner.format(**names)]) + where.tail
        inside = all_of([of_ids(where, "e.user_id"), where.inner.format(**names)])
        return LINKED.format(relation=relation, where=f"\n  where {inside}"), all_of([users]) + where.tail

    def branches(self) -> list[str]:
        """Of the body of ubp.event_rows()."""
        if self.source is None:
            members = MEMBERS.format(relation=EVENTS, origin="0", raw="e.event_id")
            return [OF_EVENTS + OTHERS, members] if self.linked else [OF_EVENTS]
        relation = self.source.table(Where(), self.source.relation, linked=False, settled=False)
        plain = BRANCH.format(relation=relation)
        if not self.linked:
            return [plain]
        return [plain + OTHERS, MEMBERS.format(relation=relation, origin="e.origin", raw="e.raw_id")]


PLAIN = Origin(None, False)
HERE = (PLAIN,)


def origins(plpy: Any, memory: dict[Any, Any]) -> Sequence[Origin]:
    """Where there are events now, ubp.events first."""
    there = run(plpy, memory, THERE, [], [])[0]
    linked = there["linked"]
    if there["versions"] is None:
        return [Origin(None, True)] if linked else HERE
    kept = memory.get("origins")
    if kept is None or kept[:2] != (there["versions"], linked):
        sources = [Origin(_source(plpy, memory, row), linked) for row in run(plpy, memory, SOURCES, [], [])]
        kept = memory["origins"] = (there["versions"], linked, [Origin(None, linked), *sources])
    found: list[Origin] = kept[2]
    return found


def query_origin(
    plpy: Any,
    memory: dict[Any, Any],
    query: str,
    origin: Origin,
    where: Where,
    types: list[str],
    arguments: list[Any],
) -> Any:
    """Executes a query about some events of an origin, `{relation} e where {where}`, or about `{rows}` as they lie."""
    table, condition = origin.select(where)
    source = origin.source
    of_rows = {"rows": source.relation, "mark": source.mark} if source else {}
    return run(plpy, memory, query.format(relation=table, where=condition, **of_rows), types, arguments)


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
    if origin.source is None:
        return
    origin.source.refuse_another()
    kept = memory if relation is None else {}
    for query in origin.source.new_keys(where, relation or origin.source.relation, linked=origin.linked):
        run(plpy, kept, query, types, arguments)


def _source(plpy: Any, memory: dict[Any, Any], row: dict[str, Any]) -> Source:
    import json

    types = json.loads(row["columns"] or "{}")
    narrow = frozenset(name for name, of in types.items() if of["type"] in NARROW)
    changed = None if row["same"] else _changed(plpy, memory, row["name"], row["relation"])
    return Source(*({**row, "narrow": narrow, "changed": changed}[name] for name in Source._fields))


def _changed(plpy: Any, memory: dict[Any, Any], name: str, relation: str) -> tuple[str, str]:
    for row in run(plpy, memory, PROBLEM, ["text"], [name]):
        return f"source {name}: {row['problem']}", row["way_out"]
    return f"source {name}: {relation} is not what was attached", f"detach it: ubp.detach_source('{name}')"


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
