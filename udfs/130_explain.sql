-- Why a user got the score he got. docs/explain.md has a worked example.

-- ubp.explain: contributions of features to the raw score, which is the model's before its link: exact Shapley values of
-- trees, sampled ones of other models. Row 0 is the base, then the `top` largest; '(others)' is the rest.
-- No rows for a user without a score: a NOTICE with the reason.
-- Errors: as ubp.predict · UB003 top NULL or below 1 · UB005 a model without trees that was not studied
create or replace function ubp.explain(task text, user_id bigint, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text)
language plpython3u stable parallel unsafe cost 10000 rows 7 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.explain(plpy, SD, task, user_id, top)
$python$;
comment on function ubp.explain(text, bigint, integer) is 'Reasons for the score of one user, the largest first: each feature with its value, a typical one, what it adds to the raw score and what that means. Contributions sum to the raw score.';
revoke all on function ubp.explain(text, bigint, integer) from public;
alter function ubp.explain(text, bigint, integer) owner to ubp_reader;
grant execute on function ubp.explain(text, bigint, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- By key text. A key that nobody has is somebody without features, as an id is that nobody has.
create or replace function ubp.explain(task text, user_key text, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text)
language sql stable parallel unsafe rows 7
begin atomic
  select e.rank, e.feature, e.value, e.typical, e.contribution, e.meaning
    from ubp.explain(task, case when user_key is not null then
      coalesce(ubp.resolve_member(user_key), (-9223372036854775808)::bigint) end, top) e;
end;
comment on function ubp.explain(text, text, integer) is 'As explain(task, user_id, top), by the key text of the source.';
revoke all on function ubp.explain(text, text, integer) from public;
alter function ubp.explain(text, text, integer) owner to ubp_owner;
grant execute on function ubp.explain(text, text, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.explain at a moment: of features computed from the raw events. A bare text is neither a number nor a moment: write
-- timestamptz '...' or as_of => '...'.
-- Errors: as ubp.explain · UB003 as_of NULL or infinite
create or replace function ubp.explain(task text, user_id bigint, as_of timestamptz, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text)
language plpython3u stable parallel unsafe cost 100000 rows 7 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.explain_at(plpy, SD, task, user_id, as_of, top)
$python$;
comment on function ubp.explain(text, bigint, timestamptz, integer) is 'Reasons for the score of one user as it would have been at a moment, from the events known then.';
revoke all on function ubp.explain(text, bigint, timestamptz, integer) from public;
alter function ubp.explain(text, bigint, timestamptz, integer) owner to ubp_reader;
grant execute on function ubp.explain(text, bigint, timestamptz, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- By key text.
create or replace function ubp.explain(task text, user_key text, as_of timestamptz, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text)
language sql stable parallel unsafe rows 7
begin atomic
  select e.rank, e.feature, e.value, e.typical, e.contribution, e.meaning
    from ubp.explain(task, case when user_key is not null then
      coalesce(ubp.resolve_member(user_key), (-9223372036854775808)::bigint) end, as_of, top) e;
end;
comment on function ubp.explain(text, text, timestamptz, integer) is 'As explain(task, user_id, as_of, top), by the key text of the source.';
revoke all on function ubp.explain(text, text, timestamptz, integer) from public;
alter function ubp.explain(text, text, timestamptz, integer) owner to ubp_owner;
grant execute on function ubp.explain(text, text, timestamptz, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.explain_many: the rows of ubp.explain of each user, in the order asked; a user without a score has one row without
-- a rank, whose meaning says why.
-- Errors: as ubp.explain · UB003 user_ids NULL
create or replace function ubp.explain_many(task text, user_ids bigint[], top integer default 5)
returns table (user_id bigint, rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text)
language plpython3u stable parallel unsafe cost 100000 rows 700 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.explain_many(plpy, SD, task, user_ids, top)
$python$;
comment on function ubp.explain_many(text, bigint[], integer) is 'Reasons for the scores of many users in the order asked; a row without a rank says why there is no score.';
revoke all on function ubp.explain_many(text, bigint[], integer) from public;
alter function ubp.explain_many(text, bigint[], integer) owner to ubp_reader;
grant execute on function ubp.explain_many(text, bigint[], integer) to ubp_analyst, ubp_auditor, ubp_loader;
