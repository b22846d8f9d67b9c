-- Features of all users at one moment: recomputed for those that changed, in one transaction or in steps.

-- ubp.array_image: what PostgreSQL keeps of an array, byte for byte. byteasend copies the value that it is given, so this
-- is one copy in memory where array_send converts element by element (docs/adr/0009-incremental-refresh.md).
create or replace function ubp.array_image(value anyarray)
returns bytea
language internal immutable strict parallel unsafe cost 1
as 'byteasend';
comment on function ubp.array_image(anyarray) is 'The bytes that PostgreSQL keeps of an array: a head of 20, then the values as the processor reads them.';
revoke all on function ubp.array_image(anyarray) from public;
alter function ubp.array_image(anyarray) owner to ubp_reader;
grant execute on function ubp.array_image(anyarray) to ubp_owner, ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.array_bytes: the same for the scorer, once a call. At each execution of a query PostgreSQL looks a function of
-- LANGUAGE internal up by its name among all of its own: 4 µs to byteasend, 1 µs to bpchar, which with -1 hands on the
-- very value that it is given. Other arguments are for nobody.
create or replace function ubp.array_bytes(value anyarray, typmod integer, explicit boolean)
returns bytea
language internal immutable strict parallel unsafe cost 1
as 'bpchar';
comment on function ubp.array_bytes(anyarray, integer, boolean) is 'The bytes of an array as ubp.array_image gives them, for ubp_sql''s own functions: with -1 and true.';
revoke all on function ubp.array_bytes(anyarray, integer, boolean) from public;
alter function ubp.array_bytes(anyarray, integer, boolean) owner to ubp_owner;
grant execute on function ubp.array_bytes(anyarray, integer, boolean) to ubp_reader;

-- ubp.image_array: the other way. It believes the bytes, and false ones could bring the server down: nobody but the
-- functions of ubp_owner may call it, and no byte of a user's reaches it. `like_this` gives the type alone.
create or replace function ubp.image_array(image bytea, like_this anyarray)
returns anyarray
language internal immutable strict parallel unsafe cost 1
as 'byteasend';
comment on function ubp.image_array(bytea, anyarray) is 'The array that an image made by ubp_sql stands for; for its own functions only, since it does not look at the bytes.';
revoke all on function ubp.image_array(bytea, anyarray) from public;
alter function ubp.image_array(bytea, anyarray) owner to ubp_owner;
grant execute on function ubp.image_array(bytea, anyarray) to ubp_owner;

-- ubp.refresh_features: one transaction; readers see the old rows until it commits. Who has new events, or an event that
-- crosses a window's edge on the way to as_of, is computed anew; everybody where that is cheaper or nothing is stored yet.
-- Errors: UB003 as_of NULL or infinite · UB005 unknown set, no events · UB002 the set was defined by another version
create or replace function ubp.refresh_features(as_of timestamptz default now(), feature_set text default 'default', dry_run boolean default false)
returns table (feature_set_name text, as_of_time timestamptz, users bigint, feature_count integer, events bigint, seconds double precision, recomputed bigint, removed bigint, detail text)
language plpython3u volatile parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.refresh_features(plpy, SD, as_of, feature_set, dry_run)
$python$;
comment on function ubp.refresh_features(timestamptz, text, boolean) is 'Brings the stored features of every user to one moment, computing only who changed; dry_run says what that would take and changes nothing. The set called default is defined on first use.';
revoke all on function ubp.refresh_features(timestamptz, text, boolean) from public;
alter function ubp.refresh_features(timestamptz, text, boolean) owner to ubp_owner;
grant execute on function ubp.refresh_features(timestamptz, text, boolean) to ubp_loader, ubp_admin;

-- ubp.start_refresh: a refresh that commits between its steps. Nothing that readers see changes before the last one.
-- Errors: as ubp.refresh_features · UB005 another one of the set is under way
create or replace function ubp.start_refresh(as_of timestamptz default now(), feature_set text default 'default')
returns bigint
language plpython3u volatile parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.start_refresh(plpy, SD, as_of, feature_set)
$python$;
comment on function ubp.start_refresh(timestamptz, text) is 'Begins a refresh in steps and returns the number of its job; call ubp.refresh_step(job) until its state is done.';
revoke all on function ubp.start_refresh(timestamptz, text) from public;
alter function ubp.start_refresh(timestamptz, text) owner to ubp_owner;
grant execute on function ubp.start_refresh(timestamptz, text) to ubp_loader, ubp_admin;

-- ubp.refresh_step: computes the next chunk of users, or stores them all. A step that fails says so in state and detail
-- and can be taken again; a job whose session was killed goes on where the last commit left it, in any session.
-- Errors: UB003 no such job
create or replace function ubp.refresh_step(job bigint)
returns table (state text, done_users bigint, total_users bigint, seconds double precision, detail text)
language plpython3u volatile strict parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.refresh_step(plpy, SD, job)
$python$;
comment on function ubp.refresh_step(bigint) is 'Takes the next step of a refresh; state is running, done, or failed with the reason in detail.';
revoke all on function ubp.refresh_step(bigint) from public;
alter function ubp.refresh_step(bigint) owner to ubp_owner;
grant execute on function ubp.refresh_step(bigint) to ubp_loader, ubp_admin;

-- ubp.cancel_refresh: the users of the job are left to the next refresh. Returns whether it was under way.
create or replace function ubp.cancel_refresh(job bigint)
returns boolean
language plpython3u volatile strict parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.cancel_refresh(plpy, SD, job)
$python$;
comment on function ubp.cancel_refresh(bigint) is 'Gives a refresh in steps up: what it computed is dropped, its users are left to the next one.';
revoke all on function ubp.cancel_refresh(bigint) from public;
alter function ubp.cancel_refresh(bigint) owner to ubp_owner;
grant execute on function ubp.cancel_refresh(bigint) to ubp_loader, ubp_admin;

-- ubp.schedule_refresh: with the extension pg_cron, whose jobs run as the role that calls this.
-- Errors: UB005 there is no pg_cron here, or no such set
create or replace function ubp.schedule_refresh(cron text, feature_set text default 'default')
returns bigint
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  job bigint;
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    raise exception 'ubp: this database has no pg_cron' using errcode = 'UB005',
      hint = 'create extension pg_cron, or run `ubp-sql refresh --every 5m`, or put `ubp-sql refresh` into a crontab';
  end if;
  if not exists (select 1 from ubp.feature_sets s where s.name = schedule_refresh.feature_set) then
    raise exception 'ubp: there is no feature set %', quote_literal(schedule_refresh.feature_set) using errcode = 'UB005',
      hint = 'select ubp.define_feature_set(...) makes one';
  end if;
  execute 'select cron.schedule($1, $2, $3)' into job
    using format('ubp refresh %s', schedule_refresh.feature_set), schedule_refresh.cron,
          format('select * from ubp.refresh_features(feature_set => %L)', schedule_refresh.feature_set);
  return job;
end
$plpgsql$;
comment on function ubp.schedule_refresh(text, text) is 'Has pg_cron refresh a feature set, as the calling role; the same set again changes the schedule. Returns the number of cron''s job.';
revoke all on function ubp.schedule_refresh(text, text) from public;
alter function ubp.schedule_refresh(text, text) owner to ubp_owner;
grant execute on function ubp.schedule_refresh(text, text) to ubp_loader, ubp_admin;

-- ubp.unschedule_refresh: returns whether there was one.
-- Errors: UB005 there is no pg_cron here
create or replace function ubp.unschedule_refresh(feature_set text default 'default')
returns boolean
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  found boolean;
begin
  if to_regprocedure('cron.unschedule(text)') is null then
    raise exception 'ubp: this database has no pg_cron' using errcode = 'UB005',
      hint = 'what runs `ubp-sql refresh` here is a crontab, or a process of your own';
  end if;
  execute 'select exists (select 1 from cron.job where jobname = $1 and username = current_user)' into found
    using format('ubp refresh %s', unschedule_refresh.feature_set);
  if found then
    execute 'select cron.unschedule($1)' using format('ubp refresh %s', unschedule_refresh.feature_set);
  end if;
  return found;
end
$plpgsql$;
comment on function ubp.unschedule_refresh(text) is 'Ends what ubp.schedule_refresh began; false where there was nothing.';
revoke all on function ubp.unschedule_refresh(text) from public;
alter function ubp.unschedule_refresh(text) owner to ubp_owner;
grant execute on function ubp.unschedule_refresh(text) to ubp_loader, ubp_admin;

-- ubp.newest_events: for ubp.freshness, whose readers may not read events.
create or replace function ubp.newest_events()
returns table (source integer, newest_event timestamptz, newest_ingested timestamptz)
language sql stable parallel unsafe security definer cost 100000 rows 10
set search_path = pg_catalog, pg_temp
begin atomic
  select e.source, max(e.event_time), max(e.ingested_at) from ubp.event_rows() e group by e.source;
end;
comment on function ubp.newest_events() is 'Time of each source''s newest event, and when its newest one became known; reads all events.';
revoke all on function ubp.newest_events() from public;
alter function ubp.newest_events() owner to ubp_owner;
grant execute on function ubp.newest_events() to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.event_span: for `ubp-sql train`, whose role may read the features of attached relations, not the relations.
create or replace function ubp.event_span(kind text, out first_event timestamptz, out last_event timestamptz)
returns record
language sql stable parallel unsafe security definer cost 100000
set search_path = pg_catalog, pg_temp
begin atomic
  select min(e.event_time) filter (where e.kind = event_span.kind), max(e.event_time) from ubp.event_rows() e;
end;
comment on function ubp.event_span(text) is 'Time of the first event of a kind, and of the newest event of any; reads all events.';
revoke all on function ubp.event_span(text) from public;
alter function ubp.event_span(text) owner to ubp_owner;
grant execute on function ubp.event_span(text) to ubp_auditor;

-- What is asked of each set stands apart (offset 0), lest the planner, which takes small tables for hundreds of rows until
-- they are analyzed, count it once for each pair of set and source and have LLVM compile the query.
create or replace view ubp.freshness as
select s.name as feature_set, d.name as source, e.newest_event, e.newest_ingested, s.as_of,
       clock_timestamp() - s.as_of as lag, (select count(*) from ubp.event_log) as pending_log_rows, s.dirty_users, s.stale,
       (select case when not m.enabled then 'off' when m.built then 'version ' || m.version else 'not built' end
          from ubp.mirror_state m) as mirror,
       s.users, s.refreshed_at, s.last_seconds, s.job_under_way
  from (select s.*, (select count(*) from ubp.dirty_users d where d.feature_set_id = s.feature_set_id) as dirty_users,
               (select extract(epoch from r.finished_at - r.started_at)::double precision from ubp.job_runs r
                 where r.job = 'refresh_features' and r.state = 'done' and r.detail ->> 'feature_set' = s.name
                 order by r.job_id desc limit 1) as last_seconds,
               (select j.job_id from ubp.refresh_jobs j where j.feature_set_id = s.feature_set_id) as job_under_way
          from ubp.feature_sets s offset 0) s
 cross join ubp.sources d
  left join (select n.source, max(n.newest_event) as newest_event, max(n.newest_ingested) as newest_ingested
               from ubp.newest_events() n group by n.source) e on e.source = d.source_id;
comment on view ubp.freshness is 'How far the stored features are behind the events, a row a feature set and source';
comment on column ubp.freshness.feature_set is 'name of the set';
comment on column ubp.freshness.source is 'name of the source; direct = plain INSERT and COPY';
comment on column ubp.freshness.newest_event is 'time of its newest event; with the next one column, the only that reads all events (once): leave both out where that takes too long';
comment on column ubp.freshness.newest_ingested is 'when its newest event became known';
comment on column ubp.freshness.as_of is 'moment of the stored features; NULL = never refreshed';
comment on column ubp.freshness.lag is 'how long ago that is';
comment on column ubp.freshness.pending_log_rows is 'statements on events that no refresh has seen yet';
comment on column ubp.freshness.dirty_users is 'users with changed events that the next refresh computes';
comment on column ubp.freshness.stale is 'whether the next refresh computes everybody';
comment on column ubp.freshness.mirror is 'version of the columnar mirror, not built, or off';
comment on column ubp.freshness.users is 'users with stored features';
comment on column ubp.freshness.refreshed_at is 'when the last refresh ended';
comment on column ubp.freshness.last_seconds is 'how long it took';
comment on column ubp.freshness.job_under_way is 'refresh in steps that has not ended (ubp.refresh_step)';
alter view ubp.freshness owner to ubp_owner;
grant select on ubp.freshness to ubp_analyst, ubp_auditor, ubp_loader;
