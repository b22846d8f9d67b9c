-- Scores of a row of numbers.

-- ubp.score: any row of numbers.
-- Errors: UB001, UB004 unknown model or version · UB003 wrong number of features
create or replace function ubp.score(model text, features double precision[], version integer default null)
returns double precision
language plpython3u stable parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.score(plpy, SD, model, features, version)
$python$;
comment on function ubp.score(text, double precision[], integer) is 'Score of a row of numbers (order: feature_catalogue.position) by the deployed or a named version; rounds to float32, NULL elements are missing.';
revoke all on function ubp.score(text, double precision[], integer) from public;
alter function ubp.score(text, double precision[], integer) owner to ubp_reader;
grant execute on function ubp.score(text, double precision[], integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.score_blob: no table, no query: the only function here that a parallel worker may run.
-- Errors: UB006 not a compiled model · UB003 wrong number of features
create or replace function ubp.score_blob(compiled bytea, features double precision[])
returns double precision
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.score_blob(plpy, SD, compiled, features)
$python$;
comment on function ubp.score_blob(bytea, double precision[]) is 'Score of a row of numbers by a compiled model handed in; touches no table, so it runs in parallel workers.';
revoke all on function ubp.score_blob(bytea, double precision[]) from public;
alter function ubp.score_blob(bytea, double precision[]) owner to ubp_reader;
grant execute on function ubp.score_blob(bytea, double precision[]) to ubp_analyst, ubp_auditor, ubp_loader;
