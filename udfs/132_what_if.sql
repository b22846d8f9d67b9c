-- What a model would say if something were different, and the events that a feature is computed from.

-- ubp.predict_if: the value of predict() if the changes held. They are an object of
--   "<feature>": number or null    the user's row with that value in its place
--   "events": [{"kind": ...}]      events that never happened, beside the user's own; without a time, just before as_of
--   "as_of": "..."                 another moment than the feature set's, to come or past
-- Not strict: NULL changes are an error, a NULL user has NULL.
-- Errors: as ubp.predict · UB003 changes that are no such object, an unknown feature, kind or field, a value out of range,
-- an event that is not before the moment
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

-- By key text. A key that nobody has is somebody without events, as an id is that nobody has.
create or replace function ubp.predict_if(task text, user_key text, changes jsonb)
returns double precision
language sql stable parallel unsafe
begin atomic
  select ubp.predict_if(task, case when user_key is not null then
    coalesce(ubp.resolve_member(user_key), (-9223372036854775808)::bigint) end, changes);
end;
comment on function ubp.predict_if(text, text, jsonb) is 'As predict_if(task, user_id, changes), by the key text of the source.';
revoke all on function ubp.predict_if(text, text, jsonb) from public;
alter function ubp.predict_if(text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.predict_if(text, text, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_if_detail: one row, none for a NULL user.
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
    from ubp.predict_if_detail(task, case when user_key is not null then
      coalesce(ubp.resolve_member(user_key), (-9223372036854775808)::bigint) end, changes) d;
end;
comment on function ubp.predict_if_detail(text, text, jsonb) is 'As predict_if_detail(task, user_id, changes), by the key text of the source.';
revoke all on function ubp.predict_if_detail(text, text, jsonb) from public;
alter function ubp.predict_if_detail(text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.predict_if_detail(text, text, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;
