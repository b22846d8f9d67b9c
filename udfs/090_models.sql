-- Registered models and what answers.

-- ubp.register_model: parsed by our own code; nothing of it is executed.
-- Errors: UB001 unknown task · UB002 features other than the task's set's · UB006, UB007 the model
create or replace function ubp.register_model(task text, model bytea, settings jsonb default '{}', data_from timestamptz default null, data_until timestamptz default null, metrics jsonb default '[]')
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.register_model(plpy, SD, task, model, settings, data_from, data_until, metrics)
$python$;
comment on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) is 'Validates, compiles and stores a model (LightGBM text) for a task; returns its version. It answers after ubp.deploy_model.';
revoke all on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) from public;
alter function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) owner to ubp_owner;
grant execute on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) to ubp_admin;

-- ubp.deploy_model: one row; the first deployment makes ubp.predict_<task>.
-- Errors: UB001 unknown task · UB002 its feature set changed · UB004 unknown version · UB007 several outputs
create or replace function ubp.deploy_model(task text, version integer default null)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.deploy_model(plpy, SD, task, version)
$python$;
comment on function ubp.deploy_model(text, integer) is 'Makes a version (default: the newest) answer for its task; undone by a rollback of the transaction or by ubp.rollback_model.';
revoke all on function ubp.deploy_model(text, integer) from public;
alter function ubp.deploy_model(text, integer) owner to ubp_owner;
grant execute on function ubp.deploy_model(text, integer) to ubp_admin;

-- ubp.rollback_model: one more deployment, of the version before.
-- Errors: UB001 unknown task · UB004 nothing to go back to
create or replace function ubp.rollback_model(task text)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.rollback_model(plpy, SD, task)
$python$;
comment on function ubp.rollback_model(text) is 'Makes the version deployed before answer again; returns it.';
revoke all on function ubp.rollback_model(text) from public;
alter function ubp.rollback_model(text) owner to ubp_owner;
grant execute on function ubp.rollback_model(text) to ubp_admin;
