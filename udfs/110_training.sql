-- Point-in-time training rows.

-- ubp.training_matrix: batches of rows in ascending order of (user, cut); ubp.training_set keeps them in a table.
-- Errors: UB001 unknown task · UB002 the feature set was defined by another version · UB003 cuts empty, NULL, infinite or twice; horizon, known_at or negatives out of range · UB015 the label's table is not what it was
create or replace function ubp.training_matrix(task text, cuts timestamptz[] default null, horizon interval default null, known_at text default 'cut', negatives double precision default null)
returns table (user_ids bytea, cut_times bytea, labels bytea, matured bytea, weights bytea, features bytea)
language plpython3u stable parallel unsafe cost 1000000 rows 20 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.training_matrix(plpy, SD, task, cuts, horizon, known_at, negatives)
$python$;
comment on function ubp.training_matrix(text, timestamptz[], interval, text, double precision) is 'Feature rows and labels of the task''s population at each cut, or at every event, packed little-endian (int64 users, int64 microseconds since 1970, uint8 labels, or float64 of a task of amounts, uint8 matured, float32 weights, float32 features row by row); a row sees only what was known at its cut.';
revoke all on function ubp.training_matrix(text, timestamptz[], interval, text, double precision) from public;
alter function ubp.training_matrix(text, timestamptz[], interval, text, double precision) owner to ubp_owner;
grant execute on function ubp.training_matrix(text, timestamptz[], interval, text, double precision) to ubp_admin;

-- ubp.training_set: one transaction; a set of the same name is replaced when the new one is complete.
-- Errors: as ubp.training_matrix · UB003 into_table is no name, not a training set, or where the caller may not create · UB005 nobody was known at any cut
create or replace function ubp.training_set(task text, cuts timestamptz[] default null, horizon interval default null, known_at text default 'cut', negatives double precision default null, into_table text default null)
returns bigint
language plpython3u volatile parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.training_set(plpy, SD, task, cuts, horizon, known_at, negatives, into_table)
$python$;
comment on function ubp.training_set(text, timestamptz[], interval, text, double precision, text) is 'Writes the task''s training rows (user_id, cut, label, matured, weight, features) at each cut, or at every event, into a table, ubp.training_<task> by default; returns how many.';
revoke all on function ubp.training_set(text, timestamptz[], interval, text, double precision, text) from public;
alter function ubp.training_set(text, timestamptz[], interval, text, double precision, text) owner to ubp_owner;
grant execute on function ubp.training_set(text, timestamptz[], interval, text, double precision, text) to ubp_admin;

-- ubp.outcomes_until: where labels end: a row of ubp.training_matrix is matured if its horizon ends by then.
-- Errors: UB001 unknown task · UB002 the feature set was defined by another version · UB015 the label's table is not what it was
create or replace function ubp.outcomes_until(task text)
returns timestamptz
language plpython3u stable parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.outcomes_until(plpy, SD, task)
$python$;
comment on function ubp.outcomes_until(text) is 'How far outcomes of a task are known: the newest event, or the newest row of the label''s table; NULL without any.';
revoke all on function ubp.outcomes_until(text) from public;
alter function ubp.outcomes_until(text) owner to ubp_owner;
grant execute on function ubp.outcomes_until(text) to ubp_admin;
