-- Features of all users at one moment.

-- ubp.refresh_features: one transaction; readers see the old rows until it commits.
-- Errors: UB003 as_of NULL or infinite · UB005 unknown set, no events · UB002 the set was defined by another version
create or replace function ubp.refresh_features(as_of timestamptz default now(), feature_set text default 'default')
returns table (feature_set_name text, as_of_time timestamptz, users bigint, feature_count integer, events bigint, seconds double precision)
language plpython3u volatile parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.refresh_features(plpy, SD, as_of, feature_set)
$python$;
comment on function ubp.refresh_features(timestamptz, text) is 'Computes the features of every user at one moment and stores them; the set called default is defined on first use.';
revoke all on function ubp.refresh_features(timestamptz, text) from public;
alter function ubp.refresh_features(timestamptz, text) owner to ubp_owner;
grant execute on function ubp.refresh_features(timestamptz, text) to ubp_loader, ubp_admin;
