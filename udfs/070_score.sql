-- Scores of a row of numbers.

-- ubp.score: any row of numbers.
-- Errors: UB001, UB004 unknown model or version · UB003 wrong number of features, several outputs
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

-- ubp.score_blob: no table, no query: a parallel worker may run it.
-- Errors: UB006, UB007 not a compiled model, or of another layout · UB003 wrong number of features, several outputs
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

-- ubp.score_all: as ubp.score, for models of several outputs.
-- Errors: as ubp.score
create or replace function ubp.score_all(model text, features double precision[], version integer default null)
returns double precision[]
language plpython3u stable parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.score_all(plpy, SD, model, features, version)
$python$;
comment on function ubp.score_all(text, double precision[], integer) is 'All outputs of a model for a row of numbers: of a multiclass model the probability of each class, in the order of its labels; of others one; NULL where it gives no number.';
revoke all on function ubp.score_all(text, double precision[], integer) from public;
alter function ubp.score_all(text, double precision[], integer) owner to ubp_reader;
grant execute on function ubp.score_all(text, double precision[], integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.score_blob_all: as ubp.score_blob, for models of several outputs; no table, no query.
-- Errors: as ubp.score_blob
create or replace function ubp.score_blob_all(compiled bytea, features double precision[])
returns double precision[]
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.score_blob_all(plpy, SD, compiled, features)
$python$;
comment on function ubp.score_blob_all(bytea, double precision[]) is 'All outputs of a compiled model handed in; touches no table, so it runs in parallel workers.';
revoke all on function ubp.score_blob_all(bytea, double precision[]) from public;
alter function ubp.score_blob_all(bytea, double precision[]) owner to ubp_reader;
grant execute on function ubp.score_blob_all(bytea, double precision[]) to ubp_analyst, ubp_auditor, ubp_loader;
