-- Decisions: whether to act on whom, when to say nothing, and how sure a prediction is (docs/decisions.md).

-- ubp.set_abstention: one row of ubp.task_policies, which predict* read beside the deployment.
-- Errors: UB001 unknown task · UB003 a number below 1, an age of 0 or less
create or replace function ubp.set_abstention(task text, least_events integer default null, most_age interval default null)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_abstention(plpy, SD, task, least_events, most_age)
$python$;
comment on function ubp.set_abstention(text, integer, interval) is 'Makes a task say nothing, with the reason, of users with fewer events of the population''s kind, or when the stored features are older; both NULL (the default): it always answers.';
revoke all on function ubp.set_abstention(text, integer, interval) from public;
alter function ubp.set_abstention(text, integer, interval) owner to ubp_owner;
grant execute on function ubp.set_abstention(text, integer, interval) to ubp_admin;

-- ubp.decide: one row; the score is what ubp.predict_detail gives. Not strict: a NULL gain or cost is an error.
-- Errors: as ubp.predict_detail · UB003 gain or cost NULL, negative, NaN or infinite
create or replace function ubp.decide(task text, user_id bigint, gain double precision, cost double precision)
returns table (act boolean, expected_profit double precision, score double precision, reason text)
language plpython3u stable parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.decide(plpy, SD, task, user_id, gain, cost)
$python$;
comment on function ubp.decide(text, bigint, double precision, double precision) is 'Whether to act on a user: where score x gain is more than cost; expected_profit is the difference. act is NULL, with the reason, where there is no score.';
revoke all on function ubp.decide(text, bigint, double precision, double precision) from public;
alter function ubp.decide(text, bigint, double precision, double precision) owner to ubp_reader;
grant execute on function ubp.decide(text, bigint, double precision, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.decide by a cost matrix.
-- Errors: as ubp.predict_detail · UB003 not these four numbers
create or replace function ubp.decide(task text, user_id bigint, costs jsonb)
returns table (act boolean, expected_profit double precision, score double precision, reason text)
language plpython3u stable parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.decide_by_costs(plpy, SD, task, user_id, costs)
$python$;
comment on function ubp.decide(text, bigint, jsonb) is 'Whether to act on a user: where it costs less on average than skipping; costs has act_yes, act_no, skip_yes and skip_no, a gain being a negative cost. expected_profit is what acting saves over skipping.';
revoke all on function ubp.decide(text, bigint, jsonb) from public;
alter function ubp.decide(text, bigint, jsonb) owner to ubp_reader;
grant execute on function ubp.decide(text, bigint, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- As decide(task, user_id, gain, cost), by the key text of the source.
create or replace function ubp.decide(task text, user_key text, gain double precision, cost double precision)
returns table (act boolean, expected_profit double precision, score double precision, reason text)
language sql stable parallel unsafe rows 1
begin atomic
  select d.act, d.expected_profit, d.score, d.reason from ubp.decide(task, ubp.resolve_member(user_key), gain, cost) d;
end;
comment on function ubp.decide(text, text, double precision, double precision) is 'As decide(task, user_id, gain, cost), by the key text of the source.';
revoke all on function ubp.decide(text, text, double precision, double precision) from public;
alter function ubp.decide(text, text, double precision, double precision) owner to ubp_owner;
grant execute on function ubp.decide(text, text, double precision, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- As decide(task, user_id, costs), by the key text of the source.
create or replace function ubp.decide(task text, user_key text, costs jsonb)
returns table (act boolean, expected_profit double precision, score double precision, reason text)
language sql stable parallel unsafe rows 1
begin atomic
  select d.act, d.expected_profit, d.score, d.reason from ubp.decide(task, ubp.resolve_member(user_key), costs) d;
end;
comment on function ubp.decide(text, text, jsonb) is 'As decide(task, user_id, costs), by the key text of the source.';
revoke all on function ubp.decide(text, text, jsonb) from public;
alter function ubp.decide(text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.decide(text, text, jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.decide_many: one row an id; an unknown id gives a reason, never an error.
-- Errors: as ubp.predict_many · UB003 gain or cost NULL, negative, NaN or infinite
create or replace function ubp.decide_many(task text, user_ids bigint[], gain double precision, cost double precision)
returns table (user_id bigint, act boolean, expected_profit double precision, score double precision, reason text)
language plpython3u stable parallel unsafe cost 100000 rows 100 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.decide_many(plpy, SD, task, user_ids, gain, cost)
$python$;
comment on function ubp.decide_many(text, bigint[], double precision, double precision) is 'Decisions about many users in the order asked, each as ubp.decide makes it.';
revoke all on function ubp.decide_many(text, bigint[], double precision, double precision) from public;
alter function ubp.decide_many(text, bigint[], double precision, double precision) owner to ubp_reader;
grant execute on function ubp.decide_many(text, bigint[], double precision, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.decide_many by a cost matrix.
-- Errors: as ubp.predict_many · UB003 not these four numbers
create or replace function ubp.decide_many(task text, user_ids bigint[], costs jsonb)
returns table (user_id bigint, act boolean, expected_profit double precision, score double precision, reason text)
language plpython3u stable parallel unsafe cost 100000 rows 100 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.decide_many_by_costs(plpy, SD, task, user_ids, costs)
$python$;
comment on function ubp.decide_many(text, bigint[], jsonb) is 'Decisions about many users in the order asked, each as ubp.decide makes it by the same costs.';
revoke all on function ubp.decide_many(text, bigint[], jsonb) from public;
alter function ubp.decide_many(text, bigint[], jsonb) owner to ubp_reader;
grant execute on function ubp.decide_many(text, bigint[], jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.threshold of a cost matrix: no table, no query.
-- Errors: UB003 not these four numbers, or acting is never or always better
create or replace function ubp.threshold(costs jsonb)
returns double precision
language plpython3u immutable parallel unsafe cost 1000
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.threshold(plpy, SD, costs)
$python$;
comment on function ubp.threshold(jsonb) is 'The chance above which acting costs less than skipping, by costs as ubp.decide takes them (Elkan 2001).';
revoke all on function ubp.threshold(jsonb) from public;
alter function ubp.threshold(jsonb) owner to ubp_reader;
grant execute on function ubp.threshold(jsonb) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.threshold of a budget: `where score > ubp.threshold(task, 500)` keeps 500 users or fewer.
-- Errors: as ubp.top_users
create or replace function ubp.threshold(task text, budget integer)
returns double precision
language plpython3u stable parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.budget_threshold(plpy, SD, task, budget)
$python$;
comment on function ubp.threshold(text, integer) is 'The lowest score that at most that many stored scores are above; -Infinity: all may be. Ties make it fewer: ubp.top_users takes exactly that many.';
revoke all on function ubp.threshold(text, integer) from public;
alter function ubp.threshold(text, integer) owner to ubp_reader;
grant execute on function ubp.threshold(text, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.top_users: out of ubp.score_rows, which ubp.score_users writes; row security for ubp_reader holds.
-- Errors: UB001, UB004 as ubp.predict · UB003 no limit at all, a negative one, a gain without a cost · UB005 no stored scores, or older than features, deployment or policy
create or replace function ubp.top_users(task text, budget integer default null, gain double precision default null, cost double precision default null, funds double precision default null)
returns table (rank integer, user_id bigint, score double precision, percentile double precision, expected_profit double precision)
language plpython3u stable parallel unsafe cost 100000 rows 100 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.top_users(plpy, SD, task, budget, gain, cost, funds)
$python$;
comment on function ubp.top_users(text, integer, double precision, double precision, double precision) is 'The best users of the stored scores: as many as budget says, or as funds pay for at that cost each; with gain and cost, only those where acting pays, with the expected profit. Ties go by percentile, then user_id.';
revoke all on function ubp.top_users(text, integer, double precision, double precision, double precision) from public;
alter function ubp.top_users(text, integer, double precision, double precision, double precision) owner to ubp_reader;
grant execute on function ubp.top_users(text, integer, double precision, double precision, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.profit_curve: out of ubp.score_rows.
-- Errors: as ubp.top_users
create or replace function ubp.profit_curve(task text, gain double precision, cost double precision)
returns table (share double precision, users bigint, threshold double precision, expected_profit double precision)
language plpython3u stable parallel unsafe cost 100000 rows 100 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.profit_curve(plpy, SD, task, gain, cost)
$python$;
comment on function ubp.profit_curve(text, double precision, double precision) is 'What acting on the best 1 %, 2 %, ... of the users with a stored score is expected to bring altogether; threshold is the score of the last of them.';
revoke all on function ubp.profit_curve(text, double precision, double precision) from public;
alter function ubp.profit_curve(text, double precision, double precision) owner to ubp_reader;
grant execute on function ubp.profit_curve(text, double precision, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.conform_model: one more row of ubp.conformal_quantiles; the newest of a version counts.
-- Errors: UB001 unknown task · UB004 unknown version · UB005 no test is recorded
create or replace function ubp.conform_model(task text, version integer default null)
returns bigint
language plpython3u volatile parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.conform_model(plpy, SD, task, version)
$python$;
comment on function ubp.conform_model(text, integer) is 'Fits intervals (amounts) or sets of outcomes (chances) to a version''s newest held-out tests; returns how many users that takes. ubp.predict_interval and ubp.predict_set read it at once.';
revoke all on function ubp.conform_model(text, integer) from public;
alter function ubp.conform_model(text, integer) owner to ubp_owner;
grant execute on function ubp.conform_model(text, integer) to ubp_admin;

-- ubp.predict_interval: one row.
-- Errors: as ubp.predict_detail · UB003 a coverage outside 0.001 to 0.999, a task of chances · UB005 ubp.conform_model never ran
create or replace function ubp.predict_interval(task text, user_id bigint, coverage double precision default 0.9)
returns table (score double precision, low double precision, high double precision, coverage double precision, reason text)
language plpython3u stable parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_interval(plpy, SD, task, user_id, coverage)
$python$;
comment on function ubp.predict_interval(text, bigint, double precision) is 'The amount predicted for a user and an interval that holds what comes in that share of cases, as it did when the model was held out; NULL with the reason where there is none.';
revoke all on function ubp.predict_interval(text, bigint, double precision) from public;
alter function ubp.predict_interval(text, bigint, double precision) owner to ubp_reader;
grant execute on function ubp.predict_interval(text, bigint, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.predict_set: one row.
-- Errors: as ubp.predict_interval, of a task of amounts
create or replace function ubp.predict_set(task text, user_id bigint, coverage double precision default 0.9)
returns table (outcomes text[], score double precision, coverage double precision, reason text)
language plpython3u stable parallel unsafe cost 1000 rows 1 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.predict_set(plpy, SD, task, user_id, coverage)
$python$;
comment on function ubp.predict_set(text, bigint, double precision) is 'The outcomes (no, yes) that cannot be ruled out for a user: of those who do, and of those who do not, that share has it in its set. One is a clear case, both an open one, none an unusual one.';
revoke all on function ubp.predict_set(text, bigint, double precision) from public;
alter function ubp.predict_set(text, bigint, double precision) owner to ubp_reader;
grant execute on function ubp.predict_set(text, bigint, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- As predict_interval(task, user_id, coverage), by the key text of the source.
create or replace function ubp.predict_interval(task text, user_key text, coverage double precision default 0.9)
returns table (score double precision, low double precision, high double precision, coverage double precision, reason text)
language sql stable parallel unsafe rows 1
begin atomic
  select i.score, i.low, i.high, i.coverage, i.reason from ubp.predict_interval(task, ubp.resolve_member(user_key), coverage) i;
end;
comment on function ubp.predict_interval(text, text, double precision) is 'As predict_interval(task, user_id, coverage), by the key text of the source.';
revoke all on function ubp.predict_interval(text, text, double precision) from public;
alter function ubp.predict_interval(text, text, double precision) owner to ubp_owner;
grant execute on function ubp.predict_interval(text, text, double precision) to ubp_analyst, ubp_auditor, ubp_loader;

-- As predict_set(task, user_id, coverage), by the key text of the source.
create or replace function ubp.predict_set(task text, user_key text, coverage double precision default 0.9)
returns table (outcomes text[], score double precision, coverage double precision, reason text)
language sql stable parallel unsafe rows 1
begin atomic
  select s.outcomes, s.score, s.coverage, s.reason from ubp.predict_set(task, ubp.resolve_member(user_key), coverage) s;
end;
comment on function ubp.predict_set(text, text, double precision) is 'As predict_set(task, user_id, coverage), by the key text of the source.';
revoke all on function ubp.predict_set(text, text, double precision) from public;
alter function ubp.predict_set(text, text, double precision) owner to ubp_owner;
grant execute on function ubp.predict_set(text, text, double precision) to ubp_analyst, ubp_auditor, ubp_loader;
