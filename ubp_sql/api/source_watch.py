"""Attached sources as time goes by: what became of their relations, triggers of new partitions, rows without use."""

import re
from collections.abc import Iterator
from typing import Any

from ubp_sql.api.attach_relation import tree
from ubp_sql.api.attach_triggers import STATEMENTS, trigger_statements
from ubp_sql.api.session import Row, check_version, entry, run, single, sqlstate
from ubp_sql.api.sources import ALONE, CHANGED, find_source, patience, refuse_old_snapshot

# Where each source's relation is now: by its number in the database where that was written, else by its name.
LOCATED = """
located as (
  select a.*, s.name, x.oid as by_number, y.oid as by_name, a.database = d.oid as here,
         coalesce(x.oid, case when a.database <> d.oid then y.oid end) as found,
         format('%I.%I', a.schema_name, a.relation_name) as recorded
    from ubp.attached_sources a join ubp.sources s using (source_id)
    join pg_database d on d.datname = current_database()
    left join pg_class x on x.oid = a.relation and a.database = d.oid
    left join (pg_class y join pg_namespace n on n.oid = y.relnamespace)
      on y.relname = a.relation_name and n.nspname = a.schema_name),
present as (
  select l.*, format('%I.%I', n.nspname, c.relname) as now, quote_ident(n.nspname) as schema, c.relnamespace,
         c.relrowsecurity, pg_get_userbyid(c.relowner) as owner
    from located l join pg_class c on c.oid = l.found join pg_namespace n on n.oid = c.relnamespace),
parts as (
  select p.source_id, t.relid as oid, coalesce(t.level, 0) as level
    from present p cross join lateral (select p.found as relid, 0 as level
                                        union select x.relid, x.level from pg_partition_tree(p.found) x) t
   where p.relkind in ('r', 'p')),
listening as (
  select p.source_id, p.oid, p.level, e.event,
         exists (select from pg_trigger g join pg_proc f on f.oid = g.tgfoid
                  where g.tgrelid = p.oid and g.tgenabled = 'A'
                    and f.proname = format('source_%s_%s', p.source_id, e.event)
                    and f.pronamespace = 'ubp'::regnamespace) as hears
    from parts p join pg_class c on c.oid = p.oid and c.relkind <> 'f'
   cross join unnest(array['insert', 'update', 'delete', 'truncate']) e (event))"""
# A partition without any trigger is a new one: what comes through the whole is heard.
PROBLEMS_OF = """
select x.name as source, x.problem, x.way_out from (
  select l.name, 1 as place, case
           when l.by_number is null and l.by_name is null then l.recorded || ' is gone'
           when l.found is null then l.recorded || ' was dropped and made again'
           when l.by_name is null and l.here then l.recorded || ' is called ' || p.now || ' now'
           when l.here and l.by_name <> l.by_number
             then l.recorded || ' is called ' || p.now || ' now, and another relation has its name' end as problem,
         case when l.found is not null and l.by_name is null
              then 'select * from ubp.watch_sources() goes on under the new name'
              else format('select * from ubp.detach_source(%L), then attach what is meant', l.name) end as way_out
    from located l left join present p using (source_id)
  union all
  select p.name, 2, case when a.attname is null then format('column %I of %s is gone', c.key, p.now)
                         else format('column %I of %s is %s now, not %s', c.key, p.now,
                                     format_type(a.atttypid, a.atttypmod), c.value) end,
         format('select * from ubp.detach_source(%L), then attach it as it is now', p.name)
    from present p cross join lateral jsonb_each_text(p.columns) c
    left join pg_attribute a on a.attrelid = p.found and a.attname = c.key and a.attnum > 0 and not a.attisdropped
   where a.attname is null or format_type(a.atttypid, a.atttypmod) <> c.value
  union all
  select p.name, 3, p.now || ' has row security', 'attach a view of it whose owner may read the rows that are to count'
    from present p
   where p.relrowsecurity and exists (select from pg_roles r where r.rolname in ('ubp_owner', 'ubp_reader')
                                         and not r.rolsuper and not r.rolbypassrls)
  union all
  select p.name, 4, format('%s may not use schema %s', r.role, p.schema),
         format('grant usage on schema %s to %s', p.schema, r.role)
    from present p cross join unnest(array['ubp_owner', 'ubp_reader']) r (role)
   where not has_schema_privilege(r.role, p.relnamespace, 'usage')
  union all
  select p.name, 5, format('%s may not read %s', r.role, p.now), format('grant select on table %s to %s', p.now, r.role)
    from present p cross join unnest(array['ubp_owner', 'ubp_reader']) r (role)
   where not has_table_privilege(r.role, p.found, 'select')
  union all
  select p.name, 6, format('partition %s of %s is a foreign table', c.oid::regclass, p.now),
         'detach the partition, or attach a view of the whole in its place'
    from present p join parts using (source_id) join pg_class c on c.oid = parts.oid and c.relkind = 'f'
   where p.relkind = 'p'
  union all
  select p.name, 7, format('%s does not hear of %s: a trigger was dropped or switched off', p.name,
                           string_agg(distinct l.event, ', ')),
         format('as a superuser, or as %s in ubp_admin: select * from ubp.watch_sources()', p.owner)
    from present p join listening l using (source_id)
   where not l.hears and (l.level = 0 or exists (select from listening o where o.oid = l.oid and o.hears))
   group by p.source_id, p.name, p.owner) x
 where x.problem is not null order by x.name, x.place, x.problem"""
PROBLEMS = "with " + LOCATED + PROBLEMS_OF
WATCHED_OF = """
select p.source_id, p.name, p.found::bigint as oid, p.recorded, p.now, p.relkind,
       p.by_name is distinct from p.found and p.by_name is null and p.here as renamed, not p.here as restored,
       exists (select from pg_subscription_rel r join parts x on x.oid = r.srrelid
                where x.source_id = p.source_id) as subscribed
  from present p order by p.source_id"""
WATCHED = "with " + LOCATED + WATCHED_OF
TRIGGERS = """
select substr(g.tgname, 5) as event, g.tgenabled::text as enabled
  from pg_trigger g join pg_proc f on f.oid = g.tgfoid
 where g.tgrelid = $1::regclass and f.pronamespace = 'ubp'::regnamespace
   and f.proname = format('source_%s_%s', $2, substr(g.tgname, 5))"""
MAY = """
select pg_has_role(c.relowner, 'usage') as may, pg_get_userbyid(c.relowner)::text as owner
  from pg_class c where c.oid = $1::regclass"""
RENEW_CALL = "select ubp.renew_source($1, $2)"
RENEW_OF = """
update ubp.attached_sources a
   set relation = p.found, database = d.oid, schema_name = n.nspname, relation_name = c.relname
  from present p join pg_class c on c.oid = p.found join pg_namespace n on n.oid = c.relnamespace
  join pg_database d on d.datname = current_database()
 where a.source_id = $1 and p.source_id = a.source_id and (p.by_name is null or p.by_name = p.found)
   and (a.relation, a.database, a.schema_name, a.relation_name) is distinct from (p.found, d.oid, n.nspname, c.relname)
returning format('%s.%s', a.schema_name, a.relation_name) as name"""
RENEW = "with " + LOCATED + RENEW_OF
RENAME = """
update ubp.sources s set name = $2 where s.source_id = $1 and s.name <> $2
   and not exists (select from ubp.sources o where o.name = $2)"""
# As attach_compile writes the conversion of a clock's time.
LOCAL = re.compile(r"case when .* then (\(.*\)::timestamp) at time zone ('.*') end", re.DOTALL)
ROWS = """
select ({user_key}) as user_key, ({event_time})::timestamptz as event_time, ({kind})::text as kind,
       ({item_key})::text as item_key, ({value})::double precision as value, ({event_key})::text as event_key,
       ({filter}) as wanted, {skipped} as skipped, left(row_to_json(r.*)::text, 200) as example
  from {relation} r"""
# The first reason counts. Those of the second list do not keep an event from being one.
REASONS = """
select x.reason, count(*) as rows, min(x.example) filter (where x.reason <> 'event') as example
  from (select case
           when y.wanted is not true then 'filter is not true'
           when y.user_key is null or y.user_key::text = '' then 'no user'
           when octet_length(y.user_key::text) > {most} then 'user key is longer than {most} bytes'
           when y.event_time is null then 'no event_time'
           when not isfinite(y.event_time) then 'event_time is not finite'
           when y.event_time < '1900-01-01 00:00+00' or y.event_time >= '2300-01-01 00:00+00'
             then 'event_time is outside 1900..2300'
           when y.kind is null or y.kind = '' then 'no kind'
           when y.event_key is null and {keyed} then 'no event_id'
           when octet_length(y.item_key) > {most} then 'event without item: its key is longer than {most} bytes'
           when y.value in ('NaN', 'infinity', '-infinity') then 'event whose value is no finite number'
           when y.skipped then 'event at a time that its zone''s clocks skipped'
           else 'event' end as reason, y.example
          from ({rows}) y) x
 group by x.reason order by x.reason <> 'event', 2 desc, 1"""
SOURCE = """
select format('%I.%I', a.schema_name, a.relation_name) as relation, a.user_key, a.event_time, a.kind, a.item_key,
       a.value, a.event_key, a.filter, a.key_type
  from ubp.attached_sources a where a.source_id = $1"""


@entry
def source_problems(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """What keeps sources from being read as they were attached, each with its way out; catalogue only."""
    return list(run(plpy, memory, PROBLEMS, [], []))


@entry
def watch_sources(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """Triggers where they are missing, names of relations that were renamed; what was done, and what others must do."""
    check_version(plpy, memory)
    with patience(plpy, memory):
        return list(_watched(plpy, memory))


def _watched(plpy: Any, memory: dict[str, Any]) -> Iterator[Row]:
    for source in run(plpy, memory, WATCHED, [], []):
        unheard = False
        if source["relkind"] in ("r", "p"):
            events = (*STATEMENTS, "row") if source["subscribed"] else STATEMENTS
            for number, part in enumerate(tree(plpy, memory, source["oid"])):
                wanted = events if number == 0 else STATEMENTS
                made, lost = _listen(plpy, memory, source["source_id"], part["name"], wanted)
                # A partition that had no trigger at all is new: what it holds is read by the fold that finds it.
                unheard |= lost and (number == 0 or len(made) < len(wanted))
                yield from ({"step": step, "object": part["name"], "detail": what} for step, what in made)
        if source["renamed"] or source["restored"] or unheard:
            run(plpy, memory, RENEW_CALL, ["integer", "boolean"], [source["source_id"], unheard])
            if source["renamed"]:
                yield {"step": "source", "object": source["now"], "detail": f"was {source['recorded']}"}


def _listen(
    plpy: Any, memory: dict[str, Any], source_id: int, relation: str, events: tuple[str, ...]
) -> tuple[list[tuple[str, str]], bool]:
    """Triggers that a table lacks are made: (step, statement) of each, and whether something may have gone unheard."""
    there = {
        row["event"]: row["enabled"] for row in run(plpy, memory, TRIGGERS, ["text", "integer"], [relation, source_id])
    }
    lacking = tuple(e for e in events if there.get(e) != ("R" if e == "row" else "A"))
    if not lacking:
        return [], False
    may = single(plpy, memory, MAY, ["text"], [relation]) or {}
    if not may["may"]:
        who = f"as a superuser, or as {may['owner']} in ubp_admin: ubp.watch_sources()"
        return [("cannot see", f"statements that name {relation}: it lacks {len(lacking)} triggers; {who}")], False
    refuse_old_snapshot(plpy, memory)
    made = []
    for trigger, statement in trigger_statements(source_id, relation, lacking):
        if trigger.removeprefix("ubp_") in there:
            statement = statement.partition("; ")[2]
        try:
            with plpy.subtransaction():
                plpy.execute(statement)
        except plpy.SPIError as error:
            if sqlstate(error) != "55P03":
                raise
            # A refresh goes on: until the triggers are there it reads what it cannot be told of.
            said = f"statements that name {relation}: others use it, so that it got no trigger; try again later"
            return [*made, ("cannot see", said)], False
        made.append(("trigger", statement))
    return made, bool(set(lacking) - {"row"})


@entry
def renew_source(plpy: Any, memory: dict[str, Any], source_id: int, changed: bool) -> None:
    """Notes, as ubp_owner, what a relation is called now, or that statements may have gone unheard."""
    refuse_old_snapshot(plpy, memory)
    run(plpy, memory, ALONE, [], [])
    row = single(plpy, memory, RENEW, ["integer"], [source_id])
    if changed:
        run(plpy, memory, CHANGED, ["integer"], [source_id])
    if row is not None:
        from ubp_sql.api.event_rows import rebuild_event_rows

        run(plpy, memory, RENAME, ["integer", "text"], [source_id, row["name"]])
        rebuild_event_rows(plpy, memory)


@entry
def source_report(plpy: Any, memory: dict[str, Any], source: str | None) -> list[Row]:
    """How many rows are events, and why others are none, with an example of each."""
    from ubp_sql.api.source_rows import MOST_KEY_BYTES

    check_version(plpy, memory)
    of = single(plpy, memory, SOURCE, ["integer"], [find_source(plpy, memory, source)["source_id"]]) or {}
    names = ("user_key", "event_time", "kind", "item_key", "value", "event_key")
    parts = {name: of[name] or "null" for name in names} | {"filter": of["filter"] or "true"}
    local = LOCAL.fullmatch(of["event_time"])
    skipped = f"({local[1]} at time zone {local[2]}) at time zone {local[2]} <> {local[1]}" if local else "false"
    rows = ROWS.format(relation=of["relation"], skipped=skipped, **parts)
    keyed = "false" if of["key_type"] == "none" else "true"
    return list(plpy.execute(REASONS.format(rows=rows, most=MOST_KEY_BYTES, keyed=keyed)))
