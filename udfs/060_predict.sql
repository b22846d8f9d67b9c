-- Scores by user id. Stored rows speak of the feature set's as_of, never of the wall clock.

-- ubp.predict: score of one user for one task.
-- Errors: UB001 unknown task · UB002 feature set differs from the model's · UB004 no model deployed · UB009, UB010 versions differ
create or replace function ubp.predict(task text, user_id bigint)
returns double precision
language plpython3u stable strict parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
kept = SD.get("served")
score = kept and kept.get(task)
if not score:
    from ubp_sql import api
    score = api.served(plpy, SD, task)
return score(user_id)
$python$;
comment on function ubp.predict(text, bigint) is 'Score of one user from the stored features; NULL for an unknown user or too little history (predict_detail says why).';
revoke all on function ubp.predict(text, bigint) from public;
alter function ubp.predict(text, bigint) owner to ubp_reader;
grant execute on function ubp.predict(text, bigint) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict at a moment: computed from the raw events. Not strict: a NULL as_of is an error.
-- Errors: as ubp.predict · UB003 as_of NULL or infinite
create or replace function ubp.predict(task text, user_id bigint, as_of timestamptz)
returns double precision
language plpython3u stable parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_at(plpy, SD, task, user_id, as_of)
$python$;
comment on function ubp.predict(text, bigint, timestamptz) is 'Score of one user as it would have been at a moment, from the events known then.';
revoke all on function ubp.predict(text, bigint, timestamptz) from public;
alter function ubp.predict(text, bigint, timestamptz) owner to ubp_reader;
grant execute on function ubp.predict(text, bigint, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict by key text. Errors: as ubp.predict
create or replace function ubp.predict(task text, user_key text)
returns double precision
language plpython3u stable strict parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.predict_key(plpy, SD, task, user_key)
$python$;
comment on function ubp.predict(text, text) is 'As predict(task, user_id), by the key text of the source.';
revoke all on function ubp.predict(text, text) from public;
alter function ubp.predict(text, text) owner to ubp_reader;
grant execute on function ubp.predict(text, text) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_detail: one row.
-- Errors: as ubp.predict
create or replace function ubp.predict_detail(task text, user_id bigint)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpython3u stable parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_detail(plpy, SD, task, user_id)
$python$;
comment on function ubp.predict_detail(text, bigint) is 'Score with the reason when there is none, the model version, the moment it speaks of, and its percentile among the scores that score_users stored for that moment (else NULL).';
revoke all on function ubp.predict_detail(text, bigint) from public;
alter function ubp.predict_detail(text, bigint) owner to ubp_reader;
grant execute on function ubp.predict_detail(text, bigint) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_detail at a moment: one row.
-- Errors: as ubp.predict · UB003 moment NULL or infinite
create or replace function ubp.predict_detail(task text, user_id bigint, at timestamptz)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpython3u stable parallel unsafe cost 100000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_detail_at(plpy, SD, task, user_id, at)
$python$;
comment on function ubp.predict_detail(text, bigint, timestamptz) is 'As predict_detail, at a moment of the past, from the raw events.';
revoke all on function ubp.predict_detail(text, bigint, timestamptz) from public;
alter function ubp.predict_detail(text, bigint, timestamptz) owner to ubp_reader;
grant execute on function ubp.predict_detail(text, bigint, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_detail by key text.
create or replace function ubp.predict_detail(task text, user_key text)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language sql stable parallel unsafe rows 1
begin atomic
  select d.score, d.reason, d.model, d.version, d.as_of, d.percentile from ubp.predict_detail(task, ubp.resolve_member(user_key)) d;
end;
comment on function ubp.predict_detail(text, text) is 'As predict_detail(task, user_id), by the key text of the source.';
revoke all on function ubp.predict_detail(text, text) from public;
alter function ubp.predict_detail(text, text) owner to ubp_owner;
grant execute on function ubp.predict_detail(text, text) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_many: one row an id; an unknown id gives a reason, never an error.
-- Errors: as ubp.predict
create or replace function ubp.predict_many(task text, user_ids bigint[])
returns table (user_id bigint, score double precision, reason text)
language plpython3u stable strict parallel unsafe cost 100000 rows 100 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.predict_many(plpy, SD, task, user_ids)
$python$;
comment on function ubp.predict_many(text, bigint[]) is 'Scores of many users in the order asked, each with a reason when there is none.';
revoke all on function ubp.predict_many(text, bigint[]) from public;
alter function ubp.predict_many(text, bigint[]) owner to ubp_reader;
grant execute on function ubp.predict_many(text, bigint[]) to ubp_analyst, ubp_auditor, ubp_loader;

-- As predict(task, user_id, as_of), by the key text of the source.
create or replace function ubp.predict(task text, user_key text, as_of timestamptz)
returns double precision
language sql stable parallel unsafe
begin atomic
  select ubp.predict(task, ubp.resolve_member(user_key), as_of);
end;
comment on function ubp.predict(text, text, timestamptz) is 'As predict(task, user_id, as_of), by the key text of the source.';
revoke all on function ubp.predict(text, text, timestamptz) from public;
alter function ubp.predict(text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.predict(text, text, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- As predict_detail(task, user_id, at), by the key text of the source.
create or replace function ubp.predict_detail(task text, user_key text, at timestamptz)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language sql stable parallel unsafe rows 1
begin atomic
  select d.score, d.reason, d.model, d.version, d.as_of, d.percentile
    from ubp.predict_detail(task, ubp.resolve_member(user_key), at) d;
end;
comment on function ubp.predict_detail(text, text, timestamptz) is 'As predict_detail(task, user_id, at), by the key text of the source.';
revoke all on function ubp.predict_detail(text, text, timestamptz) from public;
alter function ubp.predict_detail(text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.predict_detail(text, text, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;
