-- What a server process keeps of models.

-- ubp.warm: for a pooler's connect query. A task without a deployed model is left out, so that no pool is lost with a model.
-- Errors: UB001 unknown task · as ubp.predict
create or replace function ubp.warm(task text default null)
returns table (warmed text, version integer, bytes bigint)
language plpython3u volatile parallel unsafe cost 100000 rows 3 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.warm(plpy, SD, task)
$python$;
comment on function ubp.warm(text) is 'Loads what the first prediction of a task (default: of every task) would load in this connection; says which version answers and what its model holds in memory. For the connect query of a pooler.';
revoke all on function ubp.warm(text) from public;
alter function ubp.warm(text) owner to ubp_reader;
grant execute on function ubp.warm(text) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.held_models: the view below asks it.
create or replace function ubp.held_models()
returns table (compiled_sha256 text, form text, features integer, outputs integer, bytes bigint, loaded_at timestamptz, used_at timestamptz)
language plpython3u volatile parallel unsafe cost 1000 rows 3
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.held_models(plpy, SD)
$python$;
comment on function ubp.held_models() is 'The models that this connection''s server process keeps in memory; ubp.loaded_models names them.';
revoke all on function ubp.held_models() from public;
alter function ubp.held_models() owner to ubp_reader;
grant execute on function ubp.held_models() to ubp_owner, ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.loaded_models as
select m.task, m.version, h.form, h.features, h.outputs, h.bytes, h.loaded_at, h.used_at, h.compiled_sha256
  from ubp.held_models() h
  left join ubp.models m using (compiled_sha256);
comment on view ubp.loaded_models is 'The models that this connection''s server process keeps, used longest ago first to go when they hold more than the setting ubp.model_cache (default 64MB)';
comment on column ubp.loaded_models.task is 'task; NULL = handed to ubp.score_blob, not registered';
comment on column ubp.loaded_models.version is 'version of the model';
comment on column ubp.loaded_models.form is 'what is evaluated: trees, linear, network';
comment on column ubp.loaded_models.features is 'numbers of a row';
comment on column ubp.loaded_models.outputs is 'scores of a row';
comment on column ubp.loaded_models.bytes is 'what the process holds of it, about';
comment on column ubp.loaded_models.loaded_at is 'since when';
comment on column ubp.loaded_models.used_at is 'last call that looked it up; calls in a row for one task do so once';
comment on column ubp.loaded_models.compiled_sha256 is 'hash of its compiled form; NULL of a model that was handed in';
alter view ubp.loaded_models owner to ubp_owner;
grant select on ubp.loaded_models to ubp_analyst, ubp_auditor, ubp_loader;
