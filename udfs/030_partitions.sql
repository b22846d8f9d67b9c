-- Monthly partitions of ubp.events.

-- ubp.ensure_event_partitions: makes the missing monthly partitions (UTC months) that cover [from_time, until_time].
-- Rows of such a month that already lie in the default partition move into the new one. Returns how many it made.
-- At most 600 months in all (50 years) get a partition; rows of further ones stay in the default partition. A scan of
-- everything, and an uninstall, lock each partition and its indexes: 600 fit into the lock table of a default server.
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
        select 600 - count(*) into room from pg_inherits
         where inhparent = 'ubp.events'::regclass and inhrelid <> 'ubp.events_default'::regclass;
      end if;
      exit when room <= made;
      if to_regclass(format('ubp.%I', name)) is null then
        -- Waits for plain INSERTs under way: the DELETE below would not see their rows, and ATTACH would refuse them.
        lock table ubp.events_default in access exclusive mode;
        execute format('create table ubp.%I (like ubp.events including defaults including constraints)', name);
        execute format(
          'with moved as (delete from only ubp.events_default where event_time >= %L and event_time < %L returning *)
           insert into ubp.%I select * from moved', first_day, next_day, name);
        execute format(
          'alter table ubp.events attach partition ubp.%I for values from (%L) to (%L)', name, first_day, next_day);
        execute format('comment on table ubp.%I is %L', name, 'Events of ' || to_char(first_day, 'YYYY-MM') || ' (UTC)');
        made := made + 1;
      end if;
    end if;
    first_day := next_day;
  end loop;
  return made;
end
$plpgsql$;
comment on function ubp.ensure_event_partitions(timestamptz, timestamptz) is 'Makes the missing monthly partitions of ubp.events between two times, up to 600 in all; returns how many it made.';
revoke all on function ubp.ensure_event_partitions(timestamptz, timestamptz) from public;
alter function ubp.ensure_event_partitions(timestamptz, timestamptz) owner to ubp_owner;
grant execute on function ubp.ensure_event_partitions(timestamptz, timestamptz) to ubp_loader, ubp_admin;
