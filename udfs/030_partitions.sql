-- Monthly partitions of ubp.events.

-- ubp.log_event_insert: what a statement inserted, as a row of ubp.event_log; called by triggers alone.
-- Ids that lie close together are logged as their range: an array of users costs as much as the insert itself. A range
-- that others' ids lie in too is read with them, which changes nothing. One row is told from many by an error: that costs
-- many 10 µs, and an aggregate would cost one row 4. The second row of about now that a transaction inserts by a statement
-- of its own is logged as the first of a thousand ids to come; a setting of the transaction says so to those after it.
-- Undone to a savepoint, row and setting go together.
create or replace function ubp.log_event_insert()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  n bigint := 1;
  low bigint;
  high bigint;
  setting text;
  earliest timestamptz;
  latest timestamptz;
begin
  begin
    select event_id, event_time, current_setting('ubp.source_0', true) into strict low, earliest, setting from fresh;
    if (case when length(setting) > 0
             then low <= setting::bigint and low >= setting::bigint - 1000
                  and earliest <= now() + interval '1 hour' and earliest >= now() - interval '1 hour' end)
    then
      return null;
    end if;
  exception
    when no_data_found then
      return null;
    when others then
      n := 0;
  end;
  if n = 1 then
    high := low;
    latest := earliest;
    if length(setting) > 0 and low < 9223372036854774000 and earliest >= now() - interval '1 hour'
       and earliest <= now() + interval '1 hour' then
      high := low + 1000;
      earliest := now() - interval '1 hour';
      latest := now() + interval '1 hour';
      perform set_config('ubp.source_0', high::text, true);
    elsif coalesce(length(setting), 0) = 0 then
      perform set_config('ubp.source_0', '-9223372036854774808', true);
    end if;
    insert into ubp.event_log (op, min_id, max_id, min_time, max_time) values ('I', low, high, earliest, latest);
    return null;
  end if;
  select count(*), min(event_id), max(event_id), min(event_time), max(event_time)
    into n, low, high, earliest, latest from fresh;
  insert into ubp.event_log (op, min_id, max_id, min_time, max_time, users)
  values ('I', low, high, earliest, latest,
          case when high::numeric - low > n * 4 + 1000 then array(select distinct user_id from fresh) end);
  return null;
end
$plpgsql$;
comment on function ubp.log_event_insert() is 'Logs which events a statement inserted';
revoke all on function ubp.log_event_insert() from public;
alter function ubp.log_event_insert() owner to ubp_owner;
grant execute on function ubp.log_event_insert() to ubp_owner;

-- ubp.watch_event_partitions: gives ubp.events and each of its partitions the statement triggers that fill ubp.event_log,
-- where they are missing: a statement fires those of the table it names. Returns how many tables lacked one. A table that
-- was detached loses them: were it attached again, nobody would know what became of it meanwhile.
-- Errors: UB005 a partition belongs to somebody else
-- Locks: share row exclusive on the first, so that the rows of a statement under way are waited for; access exclusive on
-- the latter.
create or replace function ubp.watch_event_partitions()
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  part regclass;
  name text;
  made integer := 0;
begin
  for part in
    select t.relid from pg_partition_tree('ubp.events') t
     where (select count(*) from pg_trigger g where g.tgrelid = t.relid and g.tgname::text = any (
             array['log_insert', 'log_update', 'log_delete', 'log_truncate'])) < 4
     order by t.relid
  loop
    if not exists (select from pg_class c where c.oid = part and c.relowner = 'ubp_owner'::regrole) then
      raise exception 'partition % of ubp.events is not ubp_owner''s', part
        using errcode = 'UB005', hint = format('alter table %s owner to ubp_owner', part);
    end if;
    execute format('create or replace trigger log_insert after insert on %s referencing new table as fresh '
      'for each statement execute function ubp.log_event_insert()', part);
    execute format('create or replace trigger log_update after update on %s referencing old table as gone '
      'new table as fresh for each statement execute function ubp.log_event_update()', part);
    execute format('create or replace trigger log_delete after delete on %s referencing old table as gone '
      'for each statement execute function ubp.log_event_delete()', part);
    execute format('create or replace trigger log_truncate after truncate on %s '
      'for each statement execute function ubp.log_event_truncate()', part);
    made := made + 1;
  end loop;
  for part, name in
    select g.tgrelid, g.tgname from pg_trigger g join pg_class c on c.oid = g.tgrelid
     where g.tgfoid in ('ubp.log_event_insert()'::regprocedure, 'ubp.log_event_update()'::regprocedure,
                        'ubp.log_event_delete()'::regprocedure, 'ubp.log_event_truncate()'::regprocedure)
       and c.relowner = 'ubp_owner'::regrole
       and not exists (select from pg_partition_tree('ubp.events') t where t.relid = g.tgrelid)
     order by g.oid
  loop
    execute format('drop trigger %I on %s', name, part);
  end loop;
  return made;
end
$plpgsql$;
comment on function ubp.watch_event_partitions() is 'Gives ubp.events and its partitions the triggers that log what statements do, where they are missing; returns how many tables had none.';
revoke all on function ubp.watch_event_partitions() from public;
alter function ubp.watch_event_partitions() owner to ubp_owner;
grant execute on function ubp.watch_event_partitions() to ubp_admin;

-- ubp.ensure_event_partitions: makes the missing monthly partitions (UTC months) that cover [from_time, until_time].
-- Rows of such a month that already lie in the default partition move into the new one. Returns how many it made.
-- At most 360 months in all (30 years) get a partition; rows of further ones stay in the default partition. A scan of
-- everything locks each partition and its indexes, an uninstall its triggers too: the lock table of a default server has
-- room for those of 360.
-- Locks: access exclusive on ubp.events_default until the end of a transaction that made a partition.
create or replace function ubp.ensure_event_partitions(from_time timestamptz, until_time timestamptz)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $plpgsql$
declare
  first_day timestamptz := date_trunc('month', from_time);
  next_day timestamptz;
  name text;
  made integer := 0;
  room integer;
begin
  if from_time is null or until_time is null or from_time < '1900-01-01' or until_time >= '2300-01-01'
     or until_time > from_time + interval '20 years' then
    raise exception 'months from % to % cannot be made', from_time, until_time
      using errcode = 'UB003', hint = 'give two times between 1900 and 2300, at most 20 years apart';
  end if;
  while first_day <= until_time loop
    next_day := first_day + interval '1 month';
    name := format('events_%s', to_char(first_day, 'YYYY_MM'));
    if to_regclass(format('ubp.%I', name)) is null then
      perform pg_advisory_xact_lock(hashtextextended('ubp.events partitions', 0));
      if room is null then
        select 360 - count(*) into room from pg_inherits
         where inhparent = 'ubp.events'::regclass and inhrelid <> 'ubp.events_default'::regclass;
      end if;
      exit when room <= made;
      if to_regclass(format('ubp.%I', name)) is null then
        -- Waits for plain INSERTs under way: the DELETE below would not see their rows, and ATTACH would refuse them.
        lock table ubp.events_default in access exclusive mode;
        execute format('create table ubp.%I (like ubp.events including defaults including constraints)', name);
        -- What the mirror holds of the rows that move stays right.
        alter table ubp.events_default disable trigger log_delete;
        execute format(
          'with moved as (delete from only ubp.events_default where event_time >= %L and event_time < %L returning *)
           insert into ubp.%I select * from moved', first_day, next_day, name);
        execute format(
          'alter table ubp.events attach partition ubp.%I for values from (%L) to (%L)', name, first_day, next_day);
        alter table ubp.events_default enable trigger log_delete;
        execute format('comment on table ubp.%I is %L', name, 'Events of ' || to_char(first_day, 'YYYY-MM') || ' (UTC)');
        made := made + 1;
      end if;
    end if;
    first_day := next_day;
  end loop;
  if made > 0 then
    perform ubp.watch_event_partitions();
  end if;
  return made;
end
$plpgsql$;
comment on function ubp.ensure_event_partitions(timestamptz, timestamptz) is 'Makes the missing monthly partitions of ubp.events between two times, up to 360 in all; returns how many it made.';
revoke all on function ubp.ensure_event_partitions(timestamptz, timestamptz) from public;
alter function ubp.ensure_event_partitions(timestamptz, timestamptz) owner to ubp_owner;
grant execute on function ubp.ensure_event_partitions(timestamptz, timestamptz) to ubp_loader, ubp_admin;
