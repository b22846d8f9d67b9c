-- What a worker process outside of the server asks for and brings: `ubp-sql refresh --gpu`, `ubp-sql worker --gpu`.

-- ubp.refresh_question: what a job in steps computes.
-- Errors: UB005 no such job, or it is over
create or replace function ubp.refresh_question(job bigint)
returns jsonb
language plpython3u stable strict parallel unsafe cost 10000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.refresh_question(plpy, SD, job)
$python$;
comment on function ubp.refresh_question(bigint) is 'What a worker has to know of a refresh in steps: the definition of the set, the moment, holidays.';
revoke all on function ubp.refresh_question(bigint) from public;
alter function ubp.refresh_question(bigint) owner to ubp_owner;
grant execute on function ubp.refresh_question(bigint) to ubp_admin;

-- ubp.refresh_events: raw events leave the server here. Volatile, for it takes the mirror's lock.
-- Errors: UB005 no such job, or it is over
create or replace function ubp.refresh_events(job bigint, after_chunk integer default 0)
returns table (chunk integer, user_id bytea, first bytea, t_us bytea, ingested_us bytea, offset_s bytea, kind bytea, numbers bytea, keys bytea)
language plpython3u volatile strict parallel unsafe cost 1000000 rows 4 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.refresh_events(plpy, SD, job, after_chunk)
$python$;
comment on function ubp.refresh_events(bigint, integer) is 'Events of the next chunk of users of a refresh in steps, as packed columns in the server''s byte order; for workers.';
revoke all on function ubp.refresh_events(bigint, integer) from public;
alter function ubp.refresh_events(bigint, integer) owner to ubp_owner;
grant execute on function ubp.refresh_events(bigint, integer) to ubp_admin;

-- ubp.store_refreshed: what a worker computed of a chunk; stored with all others by the last ubp.refresh_step.
-- Errors: UB003 columns that are not this chunk's · UB005 no such job, or it is over
create or replace function ubp.store_refreshed(job bigint, chunk integer, columns bytea[], events bigint, seconds double precision)
returns boolean
language plpython3u volatile strict parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.store_refreshed(plpy, SD, job, chunk, columns, events, seconds)
$python$;
comment on function ubp.store_refreshed(bigint, integer, bytea[], bigint, double precision) is 'Takes the rows that a worker computed of a chunk; false where somebody else did meanwhile.';
revoke all on function ubp.store_refreshed(bigint, integer, bytea[], bigint, double precision) from public;
alter function ubp.store_refreshed(bigint, integer, bytea[], bigint, double precision) owner to ubp_owner;
grant execute on function ubp.store_refreshed(bigint, integer, bytea[], bigint, double precision) to ubp_admin;

-- ubp.training_question: what features a task's training rows have.
-- Errors: UB001 unknown task · UB003 known_at
create or replace function ubp.training_question(task text, known_at text default 'cut')
returns jsonb
language plpython3u stable parallel unsafe cost 10000 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.training_question(plpy, SD, task, known_at)
$python$;
comment on function ubp.training_question(text, text) is 'What a worker has to know to compute the features of ubp.training_pairs: the definition of the set, holidays.';
revoke all on function ubp.training_question(text, text) from public;
alter function ubp.training_question(text, text) owner to ubp_owner;
grant execute on function ubp.training_question(text, text) to ubp_admin;

-- ubp.training_pairs: raw events leave the server here.
-- Errors: as ubp.training_matrix
create or replace function ubp.training_pairs(task text, cuts timestamptz[] default null, horizon interval default null, known_at text default 'cut', negatives double precision default null)
returns table (user_ids bytea, cut_times bytea, labels bytea, matured bytea, weights bytea, user_place bytea, local_us bytea, user_id bytea, first bytea, t_us bytea, ingested_us bytea, offset_s bytea, kind bytea, numbers bytea, keys bytea)
language plpython3u stable parallel unsafe cost 1000000 rows 20 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.training_pairs(plpy, SD, task, cuts, horizon, known_at, negatives)
$python$;
comment on function ubp.training_pairs(text, timestamptz[], interval, text, double precision) is 'As ubp.training_matrix, with packed events in place of the features; for workers.';
revoke all on function ubp.training_pairs(text, timestamptz[], interval, text, double precision) from public;
alter function ubp.training_pairs(text, timestamptz[], interval, text, double precision) owner to ubp_owner;
grant execute on function ubp.training_pairs(text, timestamptz[], interval, text, double precision) to ubp_admin;
