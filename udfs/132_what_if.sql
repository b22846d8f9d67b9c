-- What a model would say if something were different, and the events that a feature is computed from.

-- ubp.predict_if: the value of predict() if the changes held. They are an object of
--   "<feature>": number or null    the user's row with that value in its place
--   "events": [{"kind": ...}]      events that never happened; without a time just before as_of
--   "as_of": "..."                 another moment than the feature set's, to come or past
-- Not strict: NULL changes are an error; a NULL user is somebody unknown, without events of his own.
-- Errors: as ubp.predict · UB003 changes that are no such object, an unknown feature, kind or field, a value out of range,
-- an event that is not before the moment · UB011 events with item_id, attributes or source, asked by a role that may not
-- execute ubp.explain_events: they would be compared with raw ones
create or replace function ubp.predict_if(task text, user_id bigint, changes jsonb)
returns double precision
language plpython3u stable parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_if(plpy, SD, task, user_id, changes)
$python$;
comment on function ubp.predict_if(text, bigint, jsonb) is 'The value that predict() would give if features had other values ({"days_since_purchase": 3}), if events had happened ({"events": [{"kind": "view"}]}), at another moment ({"as_of": "2011-12-01"}); predict_if_detail says more.';
revoke all on function ubp.predict_if(text, bigint, jsonb) from public;
alter function ubp.predict_if(text, bigint, jsonb) owner to ubp_reader;
grant execute on function ubp.predict_if(text, bigint, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- By key text; a key that nobody has is somebody unknown.
create or replace function ubp.predict_if(task text, user_key text, changes jsonb)
returns double precision
language sql stable parallel unsafe
begin atomic
  select ubp.predict_if(task, ubp.resolve_member(user_key), changes);
end;
comment on function ubp.predict_if(text, text, jsonb) is 'As predict_if(task, user_id, changes), by the key text of the source.';
revoke all on function ubp.predict_if(text, text, jsonb) from public;
alter function ubp.predict_if(text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.predict_if(text, text, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_if_detail: one row.
-- before: what predict() says. change: score - before. features: name to [before, after] of each that differs.
-- Errors: as ubp.predict_if
create or replace function ubp.predict_if_detail(task text, user_id bigint, changes jsonb)
returns table (score double precision, reason text, before double precision, change double precision, features jsonb, version integer, as_of timestamptz)
language plpython3u stable parallel unsafe cost 100000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_if_detail(plpy, SD, task, user_id, changes)
$python$;
comment on function ubp.predict_if_detail(text, bigint, jsonb) is 'predict_if() with the reason where it has no value, what predict() says, the difference, and each feature that differs as [before, after].';
revoke all on function ubp.predict_if_detail(text, bigint, jsonb) from public;
alter function ubp.predict_if_detail(text, bigint, jsonb) owner to ubp_reader;
grant execute on function ubp.predict_if_detail(text, bigint, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- By key text.
create or replace function ubp.predict_if_detail(task text, user_key text, changes jsonb)
returns table (score double precision, reason text, before double precision, change double precision, features jsonb, version integer, as_of timestamptz)
language sql stable parallel unsafe rows 1
begin atomic
  select d.score, d.reason, d.before, d.change, d.features, d.version, d.as_of
    from ubp.predict_if_detail(task, ubp.resolve_member(user_key), changes) d;
end;
comment on function ubp.predict_if_detail(text, text, jsonb) is 'As predict_if_detail(task, user_id, changes), by the key text of the source.';
revoke all on function ubp.predict_if_detail(text, text, jsonb) from public;
alter function ubp.predict_if_detail(text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.predict_if_detail(text, text, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.explain_events: raw events, so for those who may read events.
-- role, key and gives: what the event is to the feature, what it is counted by, and the number that is taken of it
-- (docs/what-if.md has them by aggregate). No rows: a NOTICE with the reason.
-- Errors: as ubp.predict · UB003 feature NULL or unknown, "limit" NULL or out of range · UB005 never refreshed
create or replace function ubp.explain_events(task text, user_id bigint, feature text, "limit" integer default 20)
returns table (event_id bigint, event_time timestamptz, kind text, item_id bigint, value double precision, quantity real,
  duration_s real, attributes jsonb, ingested_at timestamptz, source integer, role text, key text, gives double precision)
language plpython3u stable parallel unsafe cost 100000 rows 20 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.explain_events(plpy, SD, task, user_id, feature, limit)
$python$;
comment on function ubp.explain_events(text, bigint, text, integer) is 'The events that a feature of the task is computed from for a user at the feature set''s as_of, newest first, with what each gives to it.';
revoke all on function ubp.explain_events(text, bigint, text, integer) from public;
alter function ubp.explain_events(text, bigint, text, integer) owner to ubp_reader;
grant execute on function ubp.explain_events(text, bigint, text, integer) to ubp_auditor;

-- By key text.
create or replace function ubp.explain_events(task text, user_key text, feature text, "limit" integer default 20)
returns table (event_id bigint, event_time timestamptz, kind text, item_id bigint, value double precision, quantity real,
  duration_s real, attributes jsonb, ingested_at timestamptz, source integer, role text, key text, gives double precision)
language sql stable parallel unsafe rows 20
begin atomic
  select e.event_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes, e.ingested_at,
         e.source, e.role, e.key, e.gives
    from ubp.explain_events(task, ubp.resolve_member(user_key), feature, "limit") e;
end;
comment on function ubp.explain_events(text, text, text, integer) is 'As explain_events(task, user_id, feature), by the key text of the source.';
revoke all on function ubp.explain_events(text, text, text, integer) from public;
alter function ubp.explain_events(text, text, text, integer) owner to ubp_owner;
grant execute on function ubp.explain_events(text, text, text, integer) to ubp_auditor;
