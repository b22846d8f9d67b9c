-- Features of one user, for people.

-- ubp.features: no row for a user without features.
-- Errors: UB005 no feature set
create or replace function ubp.features(user_id bigint)
returns table (feature text, value double precision, unit text, meaning text)
language plpython3u stable strict parallel unsafe cost 1000 rows 130 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.features(plpy, SD, user_id)
$python$;
comment on function ubp.features(bigint) is 'The stored features of one user (set default) with unit and meaning.';
revoke all on function ubp.features(bigint) from public;
alter function ubp.features(bigint) owner to ubp_reader;
grant execute on function ubp.features(bigint) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.features at a moment, of any set. (A set's name as second argument of the stored form would take what is written
-- as '2024-03-01', without a type, for a name: stored rows of other sets are in their views.)
-- Errors: UB003 as_of NULL or infinite, feature_set NULL · UB005 no feature set
create or replace function ubp.features(user_id bigint, as_of timestamptz, feature_set text default 'default')
returns table (feature text, value double precision, unit text, meaning text)
language plpython3u stable parallel unsafe cost 10000 rows 130 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.features_at(plpy, SD, user_id, as_of, feature_set)
$python$;
comment on function ubp.features(bigint, timestamptz, text) is 'The features of one user at a moment, from the raw events, with unit and meaning.';
revoke all on function ubp.features(bigint, timestamptz, text) from public;
alter function ubp.features(bigint, timestamptz, text) owner to ubp_reader;
grant execute on function ubp.features(bigint, timestamptz, text) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.feature_vector: the values of features(user_id, as_of) alone, of any set; NULL for a user without events by then.
-- Errors: UB003 as_of NULL or infinite, feature_set NULL · UB005 no feature set
create or replace function ubp.feature_vector(user_id bigint, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language plpython3u stable parallel unsafe cost 10000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.feature_vector(plpy, SD, user_id, as_of, feature_set)
$python$;
comment on function ubp.feature_vector(bigint, timestamptz, text) is 'The features of one user at a moment, from the raw events, as one array in the order of ubp.feature_catalogue.position.';
revoke all on function ubp.feature_vector(bigint, timestamptz, text) from public;
alter function ubp.feature_vector(bigint, timestamptz, text) owner to ubp_reader;
grant execute on function ubp.feature_vector(bigint, timestamptz, text) to ubp_analyst, ubp_auditor, ubp_loader;

-- As feature_vector(user_id, as_of), by the key text of the source.
create or replace function ubp.feature_vector(user_key text, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language sql stable parallel unsafe
begin atomic
  select ubp.feature_vector(ubp.resolve_member(user_key), as_of, feature_set);
end;
comment on function ubp.feature_vector(text, timestamptz, text) is 'As feature_vector(user_id, as_of), by the key text of the source.';
revoke all on function ubp.feature_vector(text, timestamptz, text) from public;
alter function ubp.feature_vector(text, timestamptz, text) owner to ubp_owner;
grant execute on function ubp.feature_vector(text, timestamptz, text) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.features by key text.
create or replace function ubp.features(user_key text)
returns table (feature text, value double precision, unit text, meaning text)
language sql stable parallel unsafe rows 130
begin atomic
  select f.feature, f.value, f.unit, f.meaning from ubp.features(ubp.resolve_member(user_key)) f;
end;
comment on function ubp.features(text) is 'As features(user_id), by the key text of the source.';
revoke all on function ubp.features(text) from public;
alter function ubp.features(text) owner to ubp_owner;
grant execute on function ubp.features(text) to ubp_analyst, ubp_auditor, ubp_loader;

-- As features(user_id, as_of), by the key text of the source.
create or replace function ubp.features(user_key text, as_of timestamptz, feature_set text default 'default')
returns table (feature text, value double precision, unit text, meaning text)
language sql stable parallel unsafe rows 130
begin atomic
  select f.feature, f.value, f.unit, f.meaning from ubp.features(ubp.resolve_member(user_key), as_of, feature_set) f;
end;
comment on function ubp.features(text, timestamptz, text) is 'As features(user_id, as_of), by the key text of the source.';
revoke all on function ubp.features(text, timestamptz, text) from public;
alter function ubp.features(text, timestamptz, text) owner to ubp_owner;
grant execute on function ubp.features(text, timestamptz, text) to ubp_analyst, ubp_auditor, ubp_loader;
