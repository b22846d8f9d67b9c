-- Data quality: rules are rows, findings are rows; events are flagged, never dropped.

-- ubp.check_quality: goes through the active rules, or the one named, and brings ubp.quality_findings and
-- ubp.flagged_events up to date: what still holds is updated, what no longer does is resolved. One transaction.
-- The two settings are changed on the way, and are the caller's again behind it.
-- since: findings about times before it stay as they are; what is usual is learnt from all events all the same.
-- Errors: UB005 no such rule · UB003 a rule with settings that cannot be
create or replace function ubp.check_quality(since timestamptz default null, rule text default null, out rule_name text, out findings bigint, out new bigint, out gone bigint, out events bigint, out seconds double precision)
returns setof record
language plpython3u volatile parallel unsafe cost 1000000 rows 10 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'iso_8601' set jit = off
set enable_sort = on set work_mem = '64MB'
as $python$
from ubp_sql import api
return api.check_quality(plpy, SD, since, rule)
$python$;
comment on function ubp.check_quality(timestamptz, text) is 'Goes through the rules of data quality and returns a row a rule: findings that hold, how many are new, how many no longer hold, events they speak of. ubp.data_quality shows them.';
revoke all on function ubp.check_quality(timestamptz, text) from public;
alter function ubp.check_quality(timestamptz, text) owner to ubp_owner;
grant execute on function ubp.check_quality(timestamptz, text) to ubp_loader, ubp_admin;

-- ubp.define_quality_rule: a row of ubp.quality_rules, made or changed. docs/quality.md lists checks and their settings.
-- Errors: UB003 a bad name, an unknown check or source, settings that cannot be
create or replace function ubp.define_quality_rule(rule text, check_name text, settings jsonb default '{}', source text default null, meaning text default null, active boolean default true)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_quality_rule(plpy, SD, rule, check_name, settings, source, meaning, active)
$python$;
comment on function ubp.define_quality_rule(text, text, jsonb, text, text, boolean) is 'Makes or changes a rule of data quality: a check, its settings, the source it looks at (NULL: each). The next ubp.check_quality goes by it.';
revoke all on function ubp.define_quality_rule(text, text, jsonb, text, text, boolean) from public;
alter function ubp.define_quality_rule(text, text, jsonb, text, text, boolean) owner to ubp_owner;
grant execute on function ubp.define_quality_rule(text, text, jsonb, text, text, boolean) to ubp_admin;

-- ubp.dismiss_finding: somebody looked, and the events are right: they lose the finding's flags until it is undone.
-- Errors: UB003 no such finding
create or replace function ubp.dismiss_finding(finding_id bigint, dismissed boolean default true)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.dismiss_finding(plpy, SD, finding_id, dismissed)
$python$;
comment on function ubp.dismiss_finding(bigint, boolean) is 'Takes a finding as right: its events are no longer flagged and ubp.data_quality leaves it out; false undoes that with the next check.';
revoke all on function ubp.dismiss_finding(bigint, boolean) from public;
alter function ubp.dismiss_finding(bigint, boolean) owner to ubp_owner;
grant execute on function ubp.dismiss_finding(bigint, boolean) to ubp_admin;

-- One line a rule and source, the worst first: the worst finding of the rule, how many others there are, an example and
-- what to do, in lines of 58 characters. Then attached sources that changed, what could not be loaded, and when somebody
-- looked last.
create or replace view ubp.data_quality as
with found as (
  select q.rule, q.source, array_position(array['high', 'medium', 'low'], q.severity) as place, q.severity, q.from_time,
         q.sentence, q.example, q.way_out,
         row_number() over (partition by q.rule, q.source
                            order by array_position(array['high', 'medium', 'low'], q.severity), q.events desc,
                                     q.from_time) as number,
         count(*) over (partition by q.rule, q.source) as findings,
         min(q.from_time) over (partition by q.rule, q.source) as since
    from ubp.quality_findings q
   where q.resolved_at is null and q.dismissed_at is null),
refused as (
  select r.source_id, r.reason, count(*) as n, min(r.rejected_at) as since, min(r.load_id) as load_id,
         (array_agg(r.file || ', line ' || r.line order by r.load_id, r.line))[1] as example,
         row_number() over (partition by r.source_id order by count(*) desc, r.reason) as number,
         sum(count(*)) over (partition by r.source_id) as total
    from ubp.rejected_events r group by r.source_id, r.reason),
last_check as (
  select j.finished_at, j.detail from ubp.job_runs j where j.job = 'check_quality' order by j.job_id desc limit 1),
lines as (
  select f.place, f.severity, f.rule, f.source, f.since,
         f.sentence || case when f.findings > 1 then format(' (and %s more)', f.findings - 1) else '' end as what,
         f.example, f.way_out
    from found f where f.number = 1
  union all
  select 1, 'high', 'attached', s.source_id, null, p.problem, null, p.way_out
    from ubp.source_problems() p left join ubp.sources s on s.name = p.source
  union all
  select 4, 'low', 'rejected rows', r.source_id, min(r.since),
         format('%s rows of its files could not be used: ', max(r.total))
           || string_agg(format('%s (%s)', r.reason, r.n), ', ' order by r.number) filter (where r.number <= 3),
         min(r.example) filter (where r.number = 1),
         'ubp.rejected_events has each with its raw text; correct the load map or the file, and load it again'
    from refused r group by r.source_id
  union all
  select 5, '', 'last check', null, l.finished_at,
         format('%s rules over %s events', l.detail ->> 'rules', l.detail ->> 'events'), null, null
    from last_check l
  union all
  select 0, 'medium', 'last check', null, null, 'nobody has looked yet', null, 'select * from ubp.check_quality()'
   where not exists (select from last_check))
select l.severity as bad, l.rule, coalesce(s.name, l.source::text, '') as source,
       (l.since at time zone 'UTC')::date as since,
       rtrim(regexp_replace(l.what, '(.{1,58})(\s+|$)', E'\\1\n', 'g'), E'\n')
         || coalesce(E'\n' || rtrim(regexp_replace('e.g. ' || l.example, '(.{1,58})(\s+|$)', E'\\1\n', 'g'), E'\n'), '')
         || coalesce(E'\n' || rtrim(regexp_replace('-> ' || l.way_out, '(.{1,58})(\s+|$)', E'\\1\n', 'g'), E'\n'), '')
         as report
  from lines l left join ubp.sources s on s.source_id = l.source
 order by l.place, l.rule, l.source;
comment on view ubp.data_quality is 'What is wrong with the events, the worst first: a line a rule and source, from ubp.quality_findings and ubp.rejected_events';
comment on column ubp.data_quality.bad is 'how bad: high, medium, low';
comment on column ubp.data_quality.rule is 'rule of ubp.quality_rules that found it';
comment on column ubp.data_quality.source is 'source of the events; empty: of several';
comment on column ubp.data_quality.since is 'day (UTC) of the earliest event or hour that it speaks of';
comment on column ubp.data_quality.report is 'what is wrong, an example, and what to do';
alter view ubp.data_quality owner to ubp_owner;
grant select on ubp.data_quality to ubp_analyst, ubp_auditor, ubp_loader;
