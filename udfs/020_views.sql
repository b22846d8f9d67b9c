-- What people look at. Each shows rows, none computes.

create or replace view ubp.feature_catalogue as
select s.name as feature_set, d.position, d.name as feature, d.family, d.kind, d.window_days, d.unit, d.meaning,
       d.null_rule, d.sql_type,
       d.time_window, d.edge_rule, d.cost, d.spec, d.sql_oracle
  from ubp.feature_definitions d
  join ubp.feature_sets s using (feature_set_id);
comment on view ubp.feature_catalogue is 'Every feature: unit, meaning, when it is NULL; position is its place in score()';
comment on column ubp.feature_catalogue.feature_set is 'name of the set';
comment on column ubp.feature_catalogue.position is 'place in the array of score(), from 1';
comment on column ubp.feature_catalogue.feature is 'name; its column in ubp.user_features';
comment on column ubp.feature_catalogue.family is 'aggregate: docs/features.md lists them';
comment on column ubp.feature_catalogue.kind is 'event kind it is about; several with a comma between';
comment on column ubp.feature_catalogue.window_days is 'width of its window in days; NULL = lifetime, or see time_window';
comment on column ubp.feature_catalogue.unit is 'unit of the value';
comment on column ubp.feature_catalogue.meaning is 'what it says, in a sentence';
comment on column ubp.feature_catalogue.null_rule is 'when it is NULL';
comment on column ubp.feature_catalogue.sql_type is 'type of its column in ubp.user_features';
comment on column ubp.feature_catalogue.time_window is 'window as it is written: 7d, 36h, all, last 5, 4 x 7d';
comment on column ubp.feature_catalogue.edge_rule is 'which events the window takes';
comment on column ubp.feature_catalogue.cost is 'which events are looked at, and the bytes of each';
comment on column ubp.feature_catalogue.spec is 'its definition, as define_features takes it';
comment on column ubp.feature_catalogue.sql_oracle is 'plain SQL that gives the value of every user at the set''s as_of: run it and compare (reads ubp.events)';
alter view ubp.feature_catalogue owner to ubp_owner;
grant select on ubp.feature_catalogue to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.model_versions as
select m.task, m.version, d.deployment_id is not null as deployed, m.objective, m.trees, s.name as feature_set,
       m.feature_set_hash, a.value as auc, a.n as tested, a.cut as tested_at, m.data_from, m.data_until, m.settings,
       m.code_version, m.created_by, m.created_at, m.retired_at, m.format, m.status, m.checked, m.preparation
  from ubp.models m
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.deployments d on d.model_id = m.model_id and d.deployed_at <= statement_timestamp()
                             and d.retired_at > statement_timestamp()
  left join lateral (
    select x.value, x.n, x.cut from ubp.model_metrics x
     where x.model_id = m.model_id and x.metric = 'auc' order by x.cut desc limit 1) a on true;
comment on view ubp.model_versions is 'Every registered model with its lineage, its AUC on the last test cut, and whether it answers now';
comment on column ubp.model_versions.task is 'task it answers';
comment on column ubp.model_versions.version is '1, 2, ... within the task';
comment on column ubp.model_versions.deployed is 'whether it answers now';
comment on column ubp.model_versions.objective is 'what the score is';
comment on column ubp.model_versions.trees is 'number of trees';
comment on column ubp.model_versions.feature_set is 'name of the set of its inputs';
comment on column ubp.model_versions.feature_set_hash is 'hash of that set when the model was trained';
comment on column ubp.model_versions.auc is 'area under the ROC curve on the last test cut';
comment on column ubp.model_versions.tested is 'users of that test';
comment on column ubp.model_versions.tested_at is 'moment of that test';
comment on column ubp.model_versions.data_from is 'first training cut';
comment on column ubp.model_versions.data_until is 'end of the last label window used';
comment on column ubp.model_versions.settings is 'settings of the training';
comment on column ubp.model_versions.code_version is 'version of ubp_sql that registered it';
comment on column ubp.model_versions.created_by is 'role that registered it';
comment on column ubp.model_versions.created_at is 'when it was registered';
comment on column ubp.model_versions.retired_at is 'since when it can no longer be deployed; NULL = it can';
comment on column ubp.model_versions.format is 'format of its file: lightgbm, xgboost, onnx, linear';
comment on column ubp.model_versions.status is 'ready: can be deployed; pending: a neural network that has not run yet (ubp-sql model check); refused: it ran badly';
comment on column ubp.model_versions.checked is 'what the first run of a neural network found: seconds_per_row, peak_bytes, or the reason of its refusal';
comment on column ubp.model_versions.preparation is 'what is done to the features before the model: steps and the numbers they learnt; NULL = nothing';
alter view ubp.model_versions owner to ubp_owner;
grant select on ubp.model_versions to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.deployed_versions as
select d.task, case when d.deployed_at > statement_timestamp() then 'next' else 'champion' end as role, d.version,
       1 - (select coalesce(sum(a.share), 0) from ubp.deployment_arms a where a.deployment_id = d.deployment_id)
         as share,
       d.deployed_at as since, nullif(d.retired_at, 'infinity') as until, d.deployed_by, d.map_id
  from ubp.deployments d
 where d.retired_at > statement_timestamp() and d.cancelled_at is null
union all
select d.task, a.role, a.version, a.share, d.deployed_at, nullif(d.retired_at, 'infinity'), d.deployed_by, a.map_id
  from ubp.deployments d join ubp.deployment_arms a using (deployment_id)
 where d.retired_at > statement_timestamp() and d.cancelled_at is null;
comment on view ubp.deployed_versions is 'Who answers for each task now, beside whom, and who takes over at which moment';
comment on column ubp.deployed_versions.task is 'task';
comment on column ubp.deployed_versions.role is 'champion: answers · challenger: answers for its share of the users · shadow: is only stored by score_users · next: takes over at `since`';
comment on column ubp.deployed_versions.version is 'version of the model';
comment on column ubp.deployed_versions.share is 'part of the users it answers for';
comment on column ubp.deployed_versions.since is 'since when, or from when on';
comment on column ubp.deployed_versions.until is 'when another takes over; NULL = nothing is set';
comment on column ubp.deployed_versions.deployed_by is 'role that said so';
comment on column ubp.deployed_versions.map_id is 'calibration map that it speaks through (ubp.calibration_maps); NULL = none';
alter view ubp.deployed_versions owner to ubp_owner;
grant select on ubp.deployed_versions to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.user_scores as
select t.task, r.user_id, r.score, r.percentile, r.reason, r.version, s.as_of, s.scored_at
  from ubp.score_rows r
  join ubp.score_runs s using (task_id, version)
  join ubp.task_definitions t using (task_id);
comment on view ubp.user_scores is 'Stored scores of whole populations, written by ubp.score_users';
comment on column ubp.user_scores.task is 'task';
comment on column ubp.user_scores.user_id is 'user';
comment on column ubp.user_scores.score is 'score; NULL with a reason';
comment on column ubp.user_scores.percentile is 'share of scored users with a lower score, 0-100';
comment on column ubp.user_scores.reason is 'why there is no score';
comment on column ubp.user_scores.version is 'model version';
comment on column ubp.user_scores.as_of is 'moment of the features';
comment on column ubp.user_scores.scored_at is 'when';
alter view ubp.user_scores owner to ubp_owner;
grant select on ubp.user_scores to ubp_reader, ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.shadow_report as
select h.task, h.version as shadow, u.version, count(*) as users, avg(h.score - u.score) as mean_difference,
       corr(h.score, u.score) as correlation, max(abs(h.score - u.score)) as largest_difference, h.as_of
  from ubp.shadow_scores h
  join ubp.user_scores u on u.task = h.task and u.user_id = h.user_id and u.as_of = h.as_of
 where h.score is not null and u.score is not null
 group by h.task, h.version, u.version, h.as_of;
comment on view ubp.shadow_report is 'What shadows would have said beside what was stored as the score, at the same moment';
comment on column ubp.shadow_report.task is 'task';
comment on column ubp.shadow_report.shadow is 'version of the shadow';
comment on column ubp.shadow_report.version is 'version whose scores it is compared with';
comment on column ubp.shadow_report.users is 'users with both scores';
comment on column ubp.shadow_report.mean_difference is 'mean of shadow less stored score';
comment on column ubp.shadow_report.correlation is 'Pearson correlation of the two';
comment on column ubp.shadow_report.largest_difference is 'largest absolute difference of a user';
comment on column ubp.shadow_report.as_of is 'moment of the features';
alter view ubp.shadow_report owner to ubp_owner;
grant select on ubp.shadow_report to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.tasks as
select t.task, t.meaning, t.label_kind, t.population_kind, t.horizon, s.name as feature_set,
       v.version as deployed_version, v.auc as test_auc, s.as_of, (t.label - 'types')::text as label, t.output,
       x.metric as test_metric, x.value as test_value
  from ubp.task_definitions t
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.model_versions v on v.task = t.task and v.deployed
  left join lateral (
    select m.metric, m.value from ubp.model_metrics m join ubp.models o using (model_id)
     where o.task = t.task and o.version = v.version
       and m.metric = case t.output when 'amount' then 'mae' else 'auc' end order by m.cut desc limit 1) x on true;
comment on view ubp.tasks is 'What can be predicted, by which version, as of which moment';
comment on column ubp.tasks.task is 'name; ubp.predict_<task> is made with the first deployment';
comment on column ubp.tasks.meaning is 'what a score says, in a sentence';
comment on column ubp.tasks.label_kind is 'event kind that the label is about; NULL = several, or a table';
comment on column ubp.tasks.population_kind is 'whom it is asked of: users with an event of this kind before';
comment on column ubp.tasks.horizon is 'how far ahead';
comment on column ubp.tasks.feature_set is 'name of the set of features it uses';
comment on column ubp.tasks.deployed_version is 'version that answers now; NULL = none';
comment on column ubp.tasks.test_auc is 'area under the ROC curve of that version on its last test cut';
comment on column ubp.tasks.as_of is 'moment of the stored features; NULL = never refreshed';
comment on column ubp.tasks.label is 'rule of the label: docs/tasks.md';
comment on column ubp.tasks.output is 'chance: a probability · amount: a number in the label''s unit';
comment on column ubp.tasks.test_metric is 'what its last test is told by: auc of a chance, mae (mean absolute error) of an amount';
comment on column ubp.tasks.test_value is 'its value on the last test cut of the deployed version';
alter view ubp.tasks owner to ubp_owner;
grant select on ubp.tasks to ubp_analyst, ubp_auditor, ubp_loader;
