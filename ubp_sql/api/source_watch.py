"""Attached sources as time goes by: what became of their relations, triggers of new partitions, rows without use."""

import re
from collections.abc import Iterator
from typing import Any

from ubp_sql.api.attach_relation import CALLED_OF, tree
from ubp_sql.api.attach_triggers import STATEMENTS, trigger_statements
from ubp_sql.api.event_rows import SAME
from ubp_sql.api.patience import patience, refuse_old_snapshot
from ubp_sql.api.session import Row, check_version, entry, run, single, sqlstate
from ubp_sql.api.sources import ALONE, CHANGED, find_source
from ubp_sql.errors import SourceChanged

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
         c.relrowsecurity, c.relkind::text as kind_now, pg_get_userbyid(c.relowner) as owner
    from located l join pg_class c on c.oid = l.found join pg_namespace n on n.oid = c.relnamespace),
parts as (
  select p.source_id, t.relid as oid, coalesce(t.level, 0) as level
    from present p cross join lateral (select p.found as relid, 0 as level
                                        union select x.relid, x.level from pg_partition_tree(p.found) x) t
   where p.relkind in ('r', 'p')),
listening as (
  select p.source_id, p.oid, p.level, e.event,
         exists (select from pg_trigger g join pg_proc f on f.oid = g.tgfoid
                  where g.tgrelid = p.oid and g.tgenabled = case e.event when 'row' then 'R' else 'A' end
                    and f.proname = format('source_%s_%s', p.source_id, e.event)
                    and f.pronamespace = 'ubp'::regnamespace) as hears
    from parts p join pg_class c on c.oid = p.oid and c.relkind <> 'f'
   cross join unnest(array['insert', 'update', 'delete', 'truncate', 'row']) e (event)
   where e.event <> 'row'
      or p.level = 0 and exists (select from pg_subscription_rel r join parts o on o.oid = r.srrelid
                                  where o.source_id = p.source_id))"""
# A partition without any trigger is a new one: what comes through the whole is heard. Refreshes go on with that.
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
                                     format_type(a.atttypid, a.atttypmod), c.value ->> 'type') end,
         format('select * from ubp.detach_source(%L), then attach it as it is now', p.name)
    from present p cross join lateral jsonb_each(p.columns) c
    left join pg_attribute a on a.attrelid = p.found and a.attname = c.key and a.attnum > 0 and not a.attisdropped
   where a.attname is null or format_type(a.atttypid, a.atttypmod) <> c.value ->> 'type'
  union all
  select p.name, 2, format('column %I of %s was dropped and made again', c.key, p.now),
         format('select * from ubp.detach_source(%L), then attach it as it is now', p.name)
    from present p cross join lateral jsonb_each(p.columns) c
    join pg_attribute a on a.attrelid = p.found and a.attname = c.key and a.attnum > 0 and not a.attisdropped
   where p.here and a.attnum <> (c.value ->> 'number')::integer
  union all
  select p.name, 1, format('%s is no %s any more', p.now, k.what),
         format('select * from ubp.detach_source(%L), then attach what is meant', p.name)
    from present p cross join lateral (select case p.relkind when 'v' then 'view' when 'm' then 'materialized view'
                                                when 'f' then 'foreign table' when 'p' then 'partitioned table'
                                                else 'table' end as what) k
   where p.kind_now <> p.relkind
  union all
  select p.name, 3, format('%s calls %s of %s, who could replace it by anything', p.now, k.what, k.owner),
         format('functions of a superuser may be called; select * from ubp.detach_source(%L) ends it', p.name)
    from present p cross join lateral ({called}) k
   where p.kind_now = 'v'
  union all
  select p.name, 3, format('%s %s %s, whose statements are not heard', p.now,
                           case when i.inhparent = p.found then 'has a child by INHERITS,'
                                when p.relkind <> 'p' and c.relispartition then 'became a partition of'
                                else 'inherits from' end,
                           case when i.inhparent = p.found then i.inhrelid else i.inhparent end::regclass),
         format('undo that, or select * from ubp.detach_source(%L) and attach the whole or a view', p.name)
    from present p join pg_inherits i on i.inhrelid = p.found or i.inhparent = p.found and p.relkind = 'r'
    join pg_class c on c.oid = p.found
   where p.relkind in ('r', 'p')
  union all
  select p.name, 3, format('nothing says any more that %s of %s is unique and not null', p.event_key, p.now),
         format('make a unique index on it and set it not null, or select * from ubp.detach_source(%L) and attach it',
                p.name)
    from present p
   where p.ascending and p.relkind in ('r', 'p')
     and not exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                      where i.indrelid = p.found and a.attnotnull and i.indisunique and i.indisvalid
                        and i.indpred is null and (i.indnkeyatts = 1 or p.relkind = 'p')
                        and p.event_key in (quote_ident(a.attname), quote_ident(a.attname) || '::bigint',
                                            '(' || quote_ident(a.attname) || ')::bigint'))
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
   group by p.source_id, p.name, p.owner
  union all
  select p.name, 9, format('statements that name a partition are unheard: %s', l.oid::regclass),
         format('as a superuser, or as %s in ubp_admin: select * from ubp.watch_sources()', p.owner)
    from present p join listening l using (source_id)
   where l.level > 0 and p.relkind = 'p' group by p.source_id, p.name, p.owner, l.oid having not bool_or(l.hears)) x
 where x.problem is not null order by x.name, x.place, x.problem"""
PROBLEMS = "with " + LOCATED + PROBLEMS_OF.replace("{called}", CALLED_OF.replace("{view}", "p.found"))
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
   set relation = p.found, database = d.oid, schema_name = n.nspname, relation_name = c.relname,
       columns = case when p.here then a.columns else (
         select coalesce(jsonb_object_agg(o.key, o.value || jsonb_build_object('number', t.attnum)), '{}')
           from jsonb_each(a.columns) o left join pg_attribute t
             on t.attrelid = p.found and t.attname = o.key and t.attnum > 0 and not t.attisdropped) end
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
       ({filter}) as wanted, {skipped} as skipped, left({example}::text, 200) as example
  from {relation} r"""
# The first reason counts. Those of the second list do not keep an event from being one.
REASONS = """
select x.reason, count(*) as rows, min(x.example) filter (where x.reason <> 'event') as example
  from (select case
           when y.wanted is not true then 'filter is not true'
           when y.user_key is null or btrim(y.user_key::text) = '' then 'no user'
           when y.user_key::text <> btrim(y.user_key::text) then 'spaces around the user key: attach btrim(...) of it'
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
SOURCE = f"""
select format('%I.%I', s.schema_name, s.relation_name) as relation, s.user_key, s.event_time, s.kind, s.item_key,
       s.value, s.event_key, s.filter, s.key_type, {SAME} as same,
       (select string_agg(format('%L, r.%I', o.key, o.key), ', ' order by o.key)
          from jsonb_each(s.columns) o) as shown
  from ubp.attached_sources s where s.source_id = $1"""  # noqa: S608 - constants only


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
    made: list[tuple[str, str]] = []
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
    if not of["same"]:
        raise SourceChanged(f"{of['relation']} is not what was attached", "select * from ubp.source_problems()")
    names = ("user_key", "event_time", "kind", "item_key", "value", "event_key")
    parts = {name: of[name] or "null" for name in names} | {"filter": of["filter"] or "true"}
    local = LOCAL.fullmatch(of["event_time"])
    skipped = f"({local[1]} at time zone {local[2]}) at time zone {local[2]} <> {local[1]}" if local else "false"
    rows = ROWS.format(
        relation=of["relation"], skipped=skipped, example=f"json_build_object({of['shown'] or ''})", **parts
    )
    keyed = "false" if of["key_type"] == "none" else "true"
    return list(plpy.execute(REASONS.format(rows=rows, most=MOST_KEY_BYTES, keyed=keyed)))
