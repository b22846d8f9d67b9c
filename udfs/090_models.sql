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
comment on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) is 'Validates, compiles and stores a model (LightGBM, XGBoost, ONNX, linear; with the preparation of its features or without) for a task; returns its version. It answers after ubp.deploy_model; a neural network has to run first (ubp-sql model check).';
revoke all on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) from public;
alter function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) owner to ubp_owner;
grant execute on function ubp.register_model(text, bytea, jsonb, timestamptz, timestamptz, jsonb) to ubp_admin;

-- ubp.record_model_check: what a first run in a process of its own found; a server process starts none.
-- Errors: UB003 no verdict, or a version that serves would be refused · UB004 no network with this hash
create or replace function ubp.record_model_check(compiled_sha256 text, ready boolean, report jsonb)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.record_model_check(plpy, SD, compiled_sha256, ready, report)
$python$;
comment on function ubp.record_model_check(text, boolean, jsonb) is 'Says whether a neural network ran well in a process of its own (`ubp-sql model check`); returns how many versions have these compiled bytes.';
revoke all on function ubp.record_model_check(text, boolean, jsonb) from public;
alter function ubp.record_model_check(text, boolean, jsonb) owner to ubp_owner;
grant execute on function ubp.record_model_check(text, boolean, jsonb) to ubp_admin;

-- ubp.deploy_model: one row; the first deployment makes ubp.predict_<task>. Nothing runs at the moment `at`: readers look at the clock.
-- Errors: UB001 unknown task · UB002 its feature set changed · UB003 `at` is past, or a switch-over is set already · UB004 unknown or retired version · UB007 several outputs
create or replace function ubp.deploy_model(task text, version integer default null, at timestamptz default null)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.deploy_model(plpy, SD, task, version, at)
$python$;
comment on function ubp.deploy_model(text, integer, timestamptz) is 'Makes a version (default: the newest) answer for its task, at once or from a later moment on; undone by a rollback of the transaction or by ubp.rollback_model.';
revoke all on function ubp.deploy_model(text, integer, timestamptz) from public;
alter function ubp.deploy_model(text, integer, timestamptz) owner to ubp_owner;
grant execute on function ubp.deploy_model(text, integer, timestamptz) to ubp_admin;

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

-- ubp.cancel_deployment: the version that answers now goes on.
-- Errors: UB001 unknown task · UB004 none is set
create or replace function ubp.cancel_deployment(task text)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.cancel_deployment(plpy, SD, task)
$python$;
comment on function ubp.cancel_deployment(text) is 'Calls off the switch-over that is set for later; returns the version that would have taken over.';
revoke all on function ubp.cancel_deployment(text) from public;
alter function ubp.cancel_deployment(text) owner to ubp_owner;
grant execute on function ubp.cancel_deployment(text) to ubp_admin;

-- ubp.challenge_model: one more deployment, with a challenger.
-- Errors: UB001 unknown task · UB002 its feature set changed · UB003 share, or the version that answers already · UB004 unknown or retired version, nothing deployed
create or replace function ubp.challenge_model(task text, version integer, share double precision)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.challenge_model(plpy, SD, task, version, share)
$python$;
comment on function ubp.challenge_model(text, integer, double precision) is 'Lets a version answer for a share (0-1) of the users, always the same ones, until 0 or the next deployment ends it.';
revoke all on function ubp.challenge_model(text, integer, double precision) from public;
alter function ubp.challenge_model(text, integer, double precision) owner to ubp_owner;
grant execute on function ubp.challenge_model(text, integer, double precision) to ubp_admin;

-- ubp.shadow_model: one more deployment, with a shadow.
-- Errors: as ubp.challenge_model
create or replace function ubp.shadow_model(task text, version integer, active boolean default true)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.shadow_model(plpy, SD, task, version, active)
$python$;
comment on function ubp.shadow_model(text, integer, boolean) is 'Lets ubp.score_users store what a version would have said (ubp.shadow_scores), until false or the next deployment ends it.';
revoke all on function ubp.shadow_model(text, integer, boolean) from public;
alter function ubp.shadow_model(text, integer, boolean) owner to ubp_owner;
grant execute on function ubp.shadow_model(text, integer, boolean) to ubp_admin;

-- ubp.retire_model: marks the version.
-- Errors: UB001 unknown task · UB003 it answers, challenges, shadows or is to take over · UB004 unknown version
create or replace function ubp.retire_model(task text, version integer)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.retire_model(plpy, SD, task, version)
$python$;
comment on function ubp.retire_model(text, integer) is 'Takes a version out of what can be deployed; its row, metrics and lineage stay.';
revoke all on function ubp.retire_model(text, integer) from public;
alter function ubp.retire_model(text, integer) owner to ubp_owner;
grant execute on function ubp.retire_model(text, integer) to ubp_admin;
