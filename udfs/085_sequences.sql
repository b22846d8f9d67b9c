-- The last events of users as rows of numbers, for models that read sequences (docs/sequences.md).

-- ubp.sequence: n rows of (kind, item, gap_days, value, has_value, mask), oldest first, padded at the front with zeros.
-- Not strict: a NULL n or as_of is an error; a NULL or unknown user is all padding.
-- Errors: UB003 n or as_of NULL or out of range · UB005 no feature set
create or replace function ubp.sequence(user_id bigint, n integer, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language plpython3u stable parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.sequence(plpy, SD, user_id, n, as_of, feature_set)
$python$;
comment on function ubp.sequence(bigint, integer, timestamptz, text) is 'The user''s last n events of a feature set''s kinds that were known at a moment, as n rows (kind, item, gap_days, value, has_value, mask), oldest first, zeros in front.';
revoke all on function ubp.sequence(bigint, integer, timestamptz, text) from public;
alter function ubp.sequence(bigint, integer, timestamptz, text) owner to ubp_reader;
grant execute on function ubp.sequence(bigint, integer, timestamptz, text) to ubp_auditor;

-- As sequence(user_id, n), by the key text of the source.
create or replace function ubp.sequence(user_key text, n integer, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language sql stable parallel unsafe
begin atomic
  select ubp.sequence(ubp.resolve_member(user_key), n, as_of, feature_set);
end;
comment on function ubp.sequence(text, integer, timestamptz, text) is 'As sequence(user_id, n), by the key text of the source.';
revoke all on function ubp.sequence(text, integer, timestamptz, text) from public;
alter function ubp.sequence(text, integer, timestamptz, text) owner to ubp_owner;
grant execute on function ubp.sequence(text, integer, timestamptz, text) to ubp_auditor;

-- ubp.sequences: one row for each user asked, in that order.
-- Errors: as ubp.sequence · UB003 user_ids NULL
create or replace function ubp.sequences(user_ids bigint[], n integer, as_of timestamptz default now(), feature_set text default 'default')
returns table (user_id bigint, length integer, events real[])
language plpython3u stable parallel unsafe cost 1000000 rows 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.sequences(plpy, SD, user_ids, n, as_of, feature_set)
$python$;
comment on function ubp.sequences(bigint[], integer, timestamptz, text) is 'sequence() of many users in the order asked; length is how many of the n rows are events.';
revoke all on function ubp.sequences(bigint[], integer, timestamptz, text) from public;
alter function ubp.sequences(bigint[], integer, timestamptz, text) owner to ubp_reader;
grant execute on function ubp.sequences(bigint[], integer, timestamptz, text) to ubp_auditor;

-- ubp.sequence_matrix: batches of users. for_users NULL: everybody with an event by then, ascending.
-- Errors: as ubp.sequence · UB003 a NULL among for_users
create or replace function ubp.sequence_matrix(n integer, as_of timestamptz default now(), for_users bigint[] default null, feature_set text default 'default')
returns table (users bytea, lengths bytea, events bytea)
language plpython3u stable parallel unsafe cost 10000000 rows 20 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.sequence_matrix(plpy, SD, n, as_of, for_users, feature_set)
$python$;
comment on function ubp.sequence_matrix(integer, timestamptz, bigint[], text) is 'sequence() of many users packed little-endian (int64, int32, float32 of users x n x 6), a batch a row, for training.';
revoke all on function ubp.sequence_matrix(integer, timestamptz, bigint[], text) from public;
alter function ubp.sequence_matrix(integer, timestamptz, bigint[], text) owner to ubp_reader;
grant execute on function ubp.sequence_matrix(integer, timestamptz, bigint[], text) to ubp_auditor;

-- ubp.sequence_kinds: kinds[k] is what a sequence of the set calls kind k.
-- Errors: UB005 no feature set
create or replace function ubp.sequence_kinds(feature_set text default 'default')
returns text[]
language plpython3u stable strict parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.sequence_kinds(plpy, SD, feature_set)
$python$;
comment on function ubp.sequence_kinds(text) is 'The event kinds of a feature set in the order in which sequences number them, from 1.';
revoke all on function ubp.sequence_kinds(text) from public;
alter function ubp.sequence_kinds(text) owner to ubp_reader;
grant execute on function ubp.sequence_kinds(text) to ubp_analyst, ubp_auditor, ubp_loader;
