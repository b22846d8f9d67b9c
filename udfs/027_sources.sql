-- Tables, views and foreign tables of others whose rows are events where they lie; docs/attach.md tells how.

-- ubp.attach_source: the rows of a relation become events. Each argument after the first is a column's name or one SQL
-- expression over the relation's columns, which must be IMMUTABLE. Returns a row a step; dry_run changes nothing.
-- Runs with the caller's rights: who owns the relation and is in ubp_admin, or a superuser.
-- Errors: UB003 an argument · UB005 others use the table · UB011 the relation is somebody else's
-- Locks: share row exclusive on the table and its partitions until the end of the transaction: writers wait.
create or replace function ubp.attach_source(relation regclass, user_id text, event_time text, kind text, item_id text default null, value text default null, ingested_at text default null, event_id text default null, time_zone text default null, filter text default null, dry_run boolean default false, out step text, out object text, out detail text, out lock text)
returns setof record
language plpython3u volatile parallel unsafe cost 100000 rows 20
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set standard_conforming_strings = on set extra_float_digits = '1' set quote_all_identifiers = off set row_security = on
set jit = off
as $python$
from ubp_sql import api
return api.attach_source(plpy, SD, relation, user_id, event_time, kind, item_id, value, ingested_at, event_id, time_zone, filter, dry_run)
$python$;
comment on function ubp.attach_source(regclass, text, text, text, text, text, text, text, text, text, boolean) is 'Makes the rows of a table, view or foreign table events where they lie: user_id, event_time, kind, ... are columns or SQL expressions over them. dry_run shows each statement and lock and changes nothing.';
revoke all on function ubp.attach_source(regclass, text, text, text, text, text, text, text, text, text, boolean) from public;
alter function ubp.attach_source(regclass, text, text, text, text, text, text, text, text, text, boolean) owner to ubp_owner;
grant execute on function ubp.attach_source(regclass, text, text, text, text, text, text, text, text, text, boolean) to ubp_admin;

-- ubp.record_source: what attach_source may not do with the caller's rights. It checks again what it is given.
create or replace function ubp.record_source(attached jsonb, dry_run boolean)
returns integer
language plpython3u volatile strict parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set check_function_bodies = on
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set standard_conforming_strings = on set extra_float_digits = '1' set quote_all_identifiers = off set row_security = on
set jit = off
as $python$
from ubp_sql import api
return api.record_source(plpy, SD, attached, dry_run)
$python$;
comment on function ubp.record_source(jsonb, boolean) is 'For ubp.attach_source: writes its tables and the functions of triggers; returns the number of the source.';
revoke all on function ubp.record_source(jsonb, boolean) from public;
alter function ubp.record_source(jsonb, boolean) owner to ubp_owner;
grant execute on function ubp.record_source(jsonb, boolean) to ubp_admin;

-- ubp.detach_source: takes back what attach_source did: triggers, functions, rights, events. The table stays as it was.
-- source: the name in ubp.sources (schema.table), or the relation's as SQL writes it.
-- Errors: UB003 no such source · UB005 others use the table
-- Locks: access exclusive on the table and its partitions, while triggers are dropped.
create or replace function ubp.detach_source(source text, out step text, out object text, out detail text, out lock text)
returns setof record
language plpython3u volatile parallel unsafe cost 100000 rows 5
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.detach_source(plpy, SD, source)
$python$;
comment on function ubp.detach_source(text) is 'Undoes ubp.attach_source: its triggers and rights go, the next refresh computes features without its events.';
revoke all on function ubp.detach_source(text) from public;
alter function ubp.detach_source(text) owner to ubp_owner;
grant execute on function ubp.detach_source(text) to ubp_admin;

-- ubp.forget_source: what detach_source may not do with the caller's rights.
create or replace function ubp.forget_source(source_id integer)
returns boolean
language plpython3u volatile strict parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = 'warning'
set jit = off
as $python$
from ubp_sql import api
return api.forget_source(plpy, SD, source_id)
$python$;
comment on function ubp.forget_source(integer) is 'For ubp.detach_source: removes a source from the tables of ubp, with its trigger functions and their triggers.';
revoke all on function ubp.forget_source(integer) from public;
alter function ubp.forget_source(integer) owner to ubp_owner;
grant execute on function ubp.forget_source(integer) to ubp_admin;

-- ubp.source_problems: what keeps attached sources from being read as they were attached; looks at the catalogue alone.
create or replace function ubp.source_problems(out source text, out problem text, out way_out text)
returns setof record
language plpython3u stable parallel unsafe cost 10000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.source_problems(plpy, SD)
$python$;
comment on function ubp.source_problems() is 'What became of attached sources since: dropped, renamed, columns changed, rights or triggers gone; each with its way out. No row: all is well.';
revoke all on function ubp.source_problems() from public;
alter function ubp.source_problems() owner to ubp_owner;
grant execute on function ubp.source_problems() to ubp_admin, ubp_auditor, ubp_loader, ubp_analyst, ubp_reader;

-- ubp.watch_sources: gives tables and new partitions the triggers that they lack, where the caller may, and follows
-- relations that were renamed or restored. Refreshes call it; whoever owns the tables may.
-- Locks: share row exclusive on tables that get a trigger.
create or replace function ubp.watch_sources(out step text, out object text, out detail text)
returns setof record
language plpython3u volatile parallel unsafe cost 10000 rows 1
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.watch_sources(plpy, SD)
$python$;
comment on function ubp.watch_sources() is 'Gives attached tables and their new partitions the triggers that they lack, and follows renamed ones; returns what it did and what only an owner may do.';
revoke all on function ubp.watch_sources() from public;
alter function ubp.watch_sources() owner to ubp_owner;
grant execute on function ubp.watch_sources() to ubp_admin;

-- ubp.renew_source: what watch_sources may not do with the caller's rights.
create or replace function ubp.renew_source(source_id integer, changed boolean)
returns void
language plpython3u volatile strict parallel unsafe cost 10000 security definer
set search_path = pg_catalog, pg_temp
set check_function_bodies = on
set jit = off
as $python$
from ubp_sql import api
return api.renew_source(plpy, SD, source_id, changed)
$python$;
comment on function ubp.renew_source(integer, boolean) is 'For ubp.watch_sources: notes what the relation of a source is called now, and that the next refresh reads all of it.';
revoke all on function ubp.renew_source(integer, boolean) from public;
alter function ubp.renew_source(integer, boolean) owner to ubp_owner;
grant execute on function ubp.renew_source(integer, boolean) to ubp_admin;

-- ubp.source_report: reads all rows of a source and counts which are events, and why others are none.
create or replace function ubp.source_report(source text, out reason text, out rows bigint, out example text)
returns setof record
language plpython3u stable parallel unsafe cost 1000000 rows 5 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.source_report(plpy, SD, source)
$python$;
comment on function ubp.source_report(text) is 'How many rows of an attached source are events, and why others are none, with one of each as an example.';
revoke all on function ubp.source_report(text) from public;
alter function ubp.source_report(text) owner to ubp_owner;
grant execute on function ubp.source_report(text) to ubp_admin, ubp_auditor;

-- ubp.to_time: a text as a time, the same in every session: to_timestamp(text, text) depends on the session's zone, and
-- PostgreSQL takes no such expression for what triggers and refreshes must agree on. Without a format ISO 8601 is read.
-- A text with an offset says its time itself; others are in time_zone. NULL where the text is no such time.
create or replace function ubp.to_time(value text, format text default null, time_zone text default 'UTC')
returns timestamptz
language plpgsql immutable parallel unsafe cost 100
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set lc_time = 'C'
as $plpgsql$
begin
  if value is null then
    return null;
  elsif format is null then
    if value ~* '(z|[-+][0-9]{2}(:?[0-9]{2})?)\s*$' and value ~ ':' then
      return value::timestamptz;
    end if;
    return value::timestamp at time zone time_zone;
  elsif format ~ 'TZH|OF' then
    return to_timestamp(value, format);
  end if;
  return to_timestamp(value, format)::timestamp at time zone time_zone;
exception when data_exception then
  return null;
end
$plpgsql$;
comment on function ubp.to_time(text, text, text) is 'A text as a time: by a format of to_timestamp, without one as ISO 8601; in time_zone where it has no offset; NULL where it is no such time. For expressions of ubp.attach_source.';
revoke all on function ubp.to_time(text, text, text) from public;
alter function ubp.to_time(text, text, text) owner to ubp_owner;
grant execute on function ubp.to_time(text, text, text) to ubp_admin, ubp_analyst, ubp_reader, ubp_loader, ubp_auditor, ubp_listener;
