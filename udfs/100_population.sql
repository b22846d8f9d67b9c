-- Scores of everybody.

-- ubp.score_users: one transaction; readers see the old scores until it commits. Scores are joined with stored ones some
-- thousands at a time, whose number the planner does not see: it would look each of them up.
-- Errors: as ubp.predict · UB005 features were never refreshed
create or replace function ubp.score_users(task text)
returns table (users bigint, scored bigint, without_score bigint, seconds double precision)
language plpython3u volatile strict parallel unsafe cost 1000000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
set enable_nestloop = off set jit = off
as $python$
from ubp_sql import api
return api.score_users(plpy, SD, task)
$python$;
comment on function ubp.score_users(text) is 'Scores every user with stored features into ubp.user_scores, with percentiles.';
revoke all on function ubp.score_users(text) from public;
alter function ubp.score_users(text) owner to ubp_owner;
grant execute on function ubp.score_users(text) to ubp_loader, ubp_admin;
