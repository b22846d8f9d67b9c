-- What people look at. Each shows rows, none computes.

create or replace view ubp.feature_catalogue as
select s.name as feature_set, d.position, d.name as feature, d.family, d.kind, d.window_days, d.unit, d.meaning,
       d.null_rule, d.sql_type
  from ubp.feature_definitions d
  join ubp.feature_sets s using (feature_set_id);
comment on view ubp.feature_catalogue is 'Every feature: unit, meaning, when it is NULL; position is its place in score()';
alter view ubp.feature_catalogue owner to ubp_owner;
grant select on ubp.feature_catalogue to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.model_versions as
select m.task, m.version, d.deployment_id is not null as deployed, m.objective, m.trees, s.name as feature_set,
       m.feature_set_hash, a.value as auc, a.n as tested, a.cut as tested_at, m.data_from, m.data_until, m.settings,
       m.code_version, m.created_by, m.created_at
  from ubp.models m
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.deployments d on d.model_id = m.model_id and d.retired_at is null
  left join lateral (
    select x.value, x.n, x.cut from ubp.model_metrics x
     where x.model_id = m.model_id and x.metric = 'auc' order by x.cut desc limit 1) a on true;
comment on view ubp.model_versions is 'Every registered model with its lineage, its AUC on the last test cut, and whether it answers now';
alter view ubp.model_versions owner to ubp_owner;
grant select on ubp.model_versions to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.tasks as
select t.task, t.meaning, t.label_kind, t.population_kind, t.horizon, s.name as feature_set,
       v.version as deployed_version, v.auc as test_auc, s.as_of
  from ubp.task_definitions t
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.model_versions v on v.task = t.task and v.deployed;
comment on view ubp.tasks is 'What can be predicted, by which version, as of which moment';
alter view ubp.tasks owner to ubp_owner;
grant select on ubp.tasks to ubp_analyst, ubp_auditor, ubp_loader;
