-- The columnar mirror of ubp.events: what it is made of, and how it is built, merged, dropped and compared.
-- docs/mirror.md tells what it is for; nothing has to be called by hand, since a refresh folds new events in.

-- ubp.mirror_status: one row that says how the mirror is, and how much of the event log waits for the next fold.
create or replace view ubp.mirror_status as
select s.enabled, s.built, coalesce(r.events, 0)::bigint as events, coalesce(r.runs, 0)::integer as runs,
       c.bytes, s.built_at, s.folded_at, coalesce(l.waiting, 0) as log_rows, l.since as log_since,
       coalesce(l.rebuild, false) as rebuild_due
  from ubp.mirror_state s
  cross join (select sum(x.events) as events, count(*) as runs from ubp.mirror_runs x) r
  cross join (select count(*) as waiting, min(x.logged_at) as since, bool_or(x.op in ('T', 'R')) as rebuild
                from ubp.event_log x) l
  cross join (select pg_catalog.pg_total_relation_size('ubp.mirror_chunks'::regclass) as bytes) c;
comment on view ubp.mirror_status is 'How the columnar mirror is, and how much of the event log waits for a refresh.';
comment on column ubp.mirror_status.enabled is 'false: dropped, and not built again before ubp.build_mirror()';
comment on column ubp.mirror_status.built is 'there is one';
comment on column ubp.mirror_status.events is 'events in all runs; one that was read again counts once a run';
comment on column ubp.mirror_status.runs is 'runs that a read merges';
comment on column ubp.mirror_status.bytes is 'room on disk';
comment on column ubp.mirror_status.built_at is 'when it was last made from all events';
comment on column ubp.mirror_status.folded_at is 'when the event log was last folded in';
comment on column ubp.mirror_status.log_rows is 'statements logged since: they wait for a refresh, and the log grows until then';
comment on column ubp.mirror_status.log_since is 'when the oldest of them was logged';
comment on column ubp.mirror_status.rebuild_due is 'the next fold makes the mirror anew';
alter view ubp.mirror_status owner to ubp_owner;
grant select on ubp.mirror_status to ubp_analyst, ubp_auditor, ubp_loader, ubp_admin;

-- ubp.build_mirror: makes the mirror where there is none, else folds the event log in. Switches a dropped one on again.
-- Writers are not kept waiting, refreshes are. One transaction: memory stays below 300 MB, whatever the number of events.
create or replace function ubp.build_mirror(out events bigint, out runs integer, out chunks integer, out seconds double precision)
returns setof record
language plpython3u volatile parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.build_mirror(plpy, SD)
$python$;
comment on function ubp.build_mirror() is 'Makes the columnar mirror where there is none, else folds the event log in; returns what there is now.';
revoke all on function ubp.build_mirror() from public;
alter function ubp.build_mirror() owner to ubp_owner;
grant execute on function ubp.build_mirror() to ubp_admin;

-- ubp.rebuild_mirror: makes the mirror from all events, whatever it held; the next refresh computes everybody anew.
create or replace function ubp.rebuild_mirror(out events bigint, out runs integer, out chunks integer, out seconds double precision)
returns setof record
language plpython3u volatile parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.rebuild_mirror(plpy, SD)
$python$;
comment on function ubp.rebuild_mirror() is 'Makes the columnar mirror anew from all events, and has the next refresh compute everybody.';
revoke all on function ubp.rebuild_mirror() from public;
alter function ubp.rebuild_mirror() owner to ubp_owner;
grant execute on function ubp.rebuild_mirror() to ubp_admin;

-- ubp.compact_mirror: folds the event log in and merges all runs into one, the fastest form to read.
create or replace function ubp.compact_mirror(out events bigint, out runs integer, out chunks integer, out seconds double precision)
returns setof record
language plpython3u volatile parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.compact_mirror(plpy, SD)
$python$;
comment on function ubp.compact_mirror() is 'Folds the event log into the columnar mirror and merges all its runs into one.';
revoke all on function ubp.compact_mirror() from public;
alter function ubp.compact_mirror() owner to ubp_owner;
grant execute on function ubp.compact_mirror() to ubp_admin;

-- ubp.drop_mirror: removes the mirror. Everything works without it, slower; none is built before ubp.build_mirror().
create or replace function ubp.drop_mirror()
returns void
language plpython3u volatile parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.drop_mirror(plpy, SD)
$python$;
comment on function ubp.drop_mirror() is 'Removes the columnar mirror: everything works without it, slower; ubp.build_mirror() makes one again.';
revoke all on function ubp.drop_mirror() from public;
alter function ubp.drop_mirror() owner to ubp_owner;
grant execute on function ubp.drop_mirror() to ubp_admin;

-- ubp.define_event_column: makes an attribute a column of events that features can be about.
-- of: event, a key of events.attributes; item, what was known of the event's item (ubp.item_attributes) when the event
-- became known; flag, how many open findings of the rule `attribute` (* = any) speak of the event, a number
-- (docs/quality.md). type: number; text: compared as a whole; words: a set of words (64 classes of a hash). The next fold
-- rebuilds the mirror.
-- Errors: UB003 a name that is taken or no plain word, an unknown type or subject
create or replace function ubp.define_event_column(name text, attribute text, type text, "of" text default 'event')
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_event_column(plpy, SD, name, attribute, type, of)
$python$;
comment on function ubp.define_event_column(text, text, text, text) is 'Makes a key of events.attributes, an attribute of the event''s item, or the findings about the event, a column that features can be about: a number, a text, or the words of a text.';
revoke all on function ubp.define_event_column(text, text, text, text) from public;
alter function ubp.define_event_column(text, text, text, text) owner to ubp_owner;
grant execute on function ubp.define_event_column(text, text, text, text) to ubp_admin;

-- ubp.verify_mirror: compares the mirror, with what waits in the event log, with ubp.events and attached relations, event
-- by event; of views only what a refresh has read.
-- No row: they are equal. Else a line for each thing that is wrong, one with totals, then up to `most` users by number:
-- events that the mirror lacks (missing), has besides (extra), has otherwise (changed). It finds what a trigger was kept
-- from logging: session_replication_role = replica, a dropped or detached partition, rows changed by a time zone update.
-- Errors: UB003 most is not positive
create or replace function ubp.verify_mirror(most integer default 100, out problem text, out user_id bigint, out missing bigint, out extra bigint, out changed bigint)
returns setof record
language plpython3u stable parallel unsafe cost 1000000 rows 10 security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $python$
from ubp_sql import api
return api.verify_mirror(plpy, SD, most)
$python$;
comment on function ubp.verify_mirror(integer) is 'Compares the columnar mirror with all events, one by one; no row means that they are equal.';
revoke all on function ubp.verify_mirror(integer) from public;
alter function ubp.verify_mirror(integer) owner to ubp_owner;
grant execute on function ubp.verify_mirror(integer) to ubp_admin, ubp_auditor;
