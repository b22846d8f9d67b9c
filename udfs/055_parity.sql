-- Whether what is stored is what would be computed.

-- ubp.parity_check: rows of counts (what: equal, differing, pending), then a row for each feature that differs, up to 1000.
-- Errors: UB003 sample not 1 to 100,000 · UB005 unknown set, never refreshed
create or replace function ubp.parity_check(sample integer default 1000, feature_set text default 'default')
returns table (what text, users bigint, user_id bigint, feature text, stored double precision, live double precision, training double precision)
language plpython3u stable parallel unsafe cost 1000000 rows 10 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.parity_check(plpy, SD, sample, feature_set)
$python$;
comment on function ubp.parity_check(integer, text) is 'Draws users and compares, to the bit, their stored features with the live ones at the same moment and with training rows at that cut; users whose events changed since the refresh count as pending.';
revoke all on function ubp.parity_check(integer, text) from public;
alter function ubp.parity_check(integer, text) owner to ubp_owner;
grant execute on function ubp.parity_check(integer, text) to ubp_loader, ubp_auditor, ubp_admin;
