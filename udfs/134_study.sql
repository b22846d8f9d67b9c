-- What a model's features do on the whole. Features are float4: by way of a text, 0.1 is 0.1 and not 0.10000000149.

-- ubp.study_model: one transaction; what an earlier study of the version found is replaced when this one is complete.
-- Errors: UB001 unknown task · UB002 its feature set changed · UB003 sample or features out of range · UB004 no such version · UB005 features were never refreshed, or a network has not run yet · UB007 several outputs
create or replace function ubp.study_model(task text, version integer default null, sample integer default 1000, features integer default 20)
returns integer
language plpython3u volatile parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
set jit = off
as $python$
from ubp_sql import api
return api.study_model(plpy, SD, task, version, sample, features)
$python$;
comment on function ubp.study_model(text, integer, integer, integer) is 'Finds out, from a sample of the stored features of the users it is asked about, what the features of a model (default: the one that answers) do on the whole: ubp.feature_importance, ubp.partial_dependence, and the typical values that explanations compare with. Returns the version.';
revoke all on function ubp.study_model(text, integer, integer, integer) from public;
alter function ubp.study_model(text, integer, integer, integer) owner to ubp_owner;
grant execute on function ubp.study_model(text, integer, integer, integer) to ubp_admin, ubp_loader;

create or replace view ubp.feature_importance as
select m.task, m.version,
       row_number() over (partition by m.model_id order by i.importance desc, i.permutation desc, i.position)::integer
         as rank,
       d.name as feature, i.importance,
       i.importance / nullif(sum(i.importance) over (partition by m.model_id), 0) as share, i.permutation, b.method,
       nullif(b.typical[i.position], 'NaN')::text::double precision as typical, d.meaning, b.as_of, b.sampled, b.users,
       b.studied_at
  from ubp.model_importance i
  join ubp.model_backgrounds b using (model_id)
  join ubp.models m using (model_id)
  join ubp.feature_definitions d on d.feature_set_id = m.feature_set_id and d.position = i.position;
comment on view ubp.feature_importance is 'Features of each studied model (ubp.study_model) by how much they move its scores on the whole';
comment on column ubp.feature_importance.task is 'task';
comment on column ubp.feature_importance.version is 'model version';
comment on column ubp.feature_importance.rank is '1 = moves scores most';
comment on column ubp.feature_importance.feature is 'name of the feature';
comment on column ubp.feature_importance.importance is 'mean absolute contribution (Shapley value) to the raw score, over the sample';
comment on column ubp.feature_importance.share is 'part of the importance of all features, 0-1';
comment on column ubp.feature_importance.permutation is 'mean absolute change of the raw score when users of the sample swap the feature';
comment on column ubp.feature_importance.method is 'how the contributions were found: shap (exact, trees), linear (exact), sampled shap';
comment on column ubp.feature_importance.typical is 'median over the sample, most frequent value of a category; NULL = most have none';
comment on column ubp.feature_importance.meaning is 'what the feature says, in a sentence';
comment on column ubp.feature_importance.as_of is 'moment of the features';
comment on column ubp.feature_importance.sampled is 'users in the sample';
comment on column ubp.feature_importance.users is 'users that the sample was drawn from';
comment on column ubp.feature_importance.studied_at is 'when';
alter view ubp.feature_importance owner to ubp_owner;
grant select on ubp.feature_importance to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.partial_dependence as
select m.task, m.version, d.name as feature, e.point as position, e.x::real::text::double precision as x, e.mean, e.low, e.high, e.share, b.as_of,
       b.sampled, b.map_id
  from ubp.model_effects e
  join ubp.model_backgrounds b using (model_id)
  join ubp.models m using (model_id)
  join ubp.feature_definitions d on d.feature_set_id = m.feature_set_id and d.position = e.position;
comment on view ubp.partial_dependence is 'What predict would say of the sample of a studied model (ubp.study_model) if one feature had the value x for everybody';
comment on column ubp.partial_dependence.task is 'task';
comment on column ubp.partial_dependence.version is 'model version';
comment on column ubp.partial_dependence.feature is 'name of the feature';
comment on column ubp.partial_dependence.position is 'number of the point: x ascends, a missing value comes last';
comment on column ubp.partial_dependence.x is 'value of the feature; NULL = missing';
comment on column ubp.partial_dependence.mean is 'mean score; NULL = the model gives no number with it';
comment on column ubp.partial_dependence.low is '10 % of the users would score lower';
comment on column ubp.partial_dependence.high is '90 % of the users would score lower';
comment on column ubp.partial_dependence.share is 'part of the users whose own value is nearest to x, 0-1: an effect where few are is an extrapolation';
comment on column ubp.partial_dependence.as_of is 'moment of the features';
comment on column ubp.partial_dependence.sampled is 'users in the sample';
comment on column ubp.partial_dependence.map_id is 'calibration map that the scores went through; NULL = none';
alter view ubp.partial_dependence owner to ubp_owner;
grant select on ubp.partial_dependence to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.explain_surrogate: LIME. The user as he is, with some features replaced by those of others, some 1,500 times over; a
-- weighted linear regression on what the model says of these. The same user and study give the same rows.
-- Errors: as ubp.predict · UB003 top below 1 · UB005 the version was not studied · UB007 no score with a feature of others
create or replace function ubp.explain_surrogate(task text, user_id bigint, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, weight double precision, effect double precision, fidelity double precision)
language plpython3u stable parallel unsafe cost 1000000 rows 5 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.explain_surrogate(plpy, SD, task, user_id, top)
$python$;
comment on function ubp.explain_surrogate(text, bigint, integer) is 'A linear model that says near one user what the deployed model says (LIME): weight is the change of the score with one unit of the feature, effect that of the user''s value against the typical one, fidelity its weighted R^2 on rows that it was not fitted on. No rows for a user without a score.';
revoke all on function ubp.explain_surrogate(text, bigint, integer) from public;
alter function ubp.explain_surrogate(text, bigint, integer) owner to ubp_reader;
grant execute on function ubp.explain_surrogate(text, bigint, integer) to ubp_analyst, ubp_auditor, ubp_loader;

-- As explain_surrogate(task, user_id, top), by the key text of the source.
create or replace function ubp.explain_surrogate(task text, user_key text, top integer default 5)
returns table (rank integer, feature text, value double precision, typical double precision, weight double precision, effect double precision, fidelity double precision)
language sql stable parallel unsafe rows 5
begin atomic
  select e.rank, e.feature, e.value, e.typical, e.weight, e.effect, e.fidelity
    from ubp.explain_surrogate(task, ubp.resolve_member(user_key), top) e;
end;
comment on function ubp.explain_surrogate(text, text, integer) is 'As explain_surrogate(task, user_id, top), by the key text of the source.';
revoke all on function ubp.explain_surrogate(text, text, integer) from public;
alter function ubp.explain_surrogate(text, text, integer) owner to ubp_owner;
grant execute on function ubp.explain_surrogate(text, text, integer) to ubp_analyst, ubp_auditor, ubp_loader;
