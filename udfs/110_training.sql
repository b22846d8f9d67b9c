-- Point-in-time training rows.

-- ubp.training_matrix: one or more rows a cut. matured: the whole horizon lies before the newest event.
-- Errors: UB001 unknown task · UB003 cuts empty, NULL or infinite
create or replace function ubp.training_matrix(task text, cuts timestamptz[])
returns table (cut timestamptz, matured boolean, user_ids bytea, labels bytea, features bytea)
language plpython3u stable strict parallel unsafe cost 1000000 rows 20 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.training_matrix(plpy, SD, task, cuts)
$python$;
comment on function ubp.training_matrix(text, timestamptz[]) is 'Feature rows and labels of the task''s population at each cut, packed little-endian (int64, uint8, float32 row by row); a row sees only what was known at its cut.';
revoke all on function ubp.training_matrix(text, timestamptz[]) from public;
alter function ubp.training_matrix(text, timestamptz[]) owner to ubp_owner;
grant execute on function ubp.training_matrix(text, timestamptz[]) to ubp_admin;
