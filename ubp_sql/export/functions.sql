-- What every file of `ubp-sql model export --sql` has: features, scores and what looks up which model answers.
-- Names that columns of a query share with arguments are qualified, those of arguments by the function's.

create or replace function ubp.feature_vector(user_id bigint, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found real[];
begin
  execute format('select ubp.%I($1, $2)', (ubp.feature_set_named(feature_set)).of_one)
     into found using user_id, ubp.checked_moment(as_of);
  return found;
end
$ubp$;

create or replace function ubp.features(user_id bigint, as_of timestamptz, feature_set text default 'default')
returns table (feature text, value double precision, unit text, meaning text)
language plpgsql stable rows 130
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant real[] := ubp.feature_vector(user_id, as_of, feature_set);
begin
  return query
    select c.feature, nullif(found[c.position], 'NaN')::float8, c.unit, c.meaning
      from ubp.feature_catalogue c where c.feature_set = features.feature_set and found is not null order by c.position;
end
$ubp$;

create or replace function ubp.features(user_id bigint)
returns table (feature text, value double precision, unit text, meaning text)
language plpgsql stable rows 130
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return query
    select c.feature, nullif(r.features[c.position], 'NaN')::float8, c.unit, c.meaning
      from ubp.feature_rows r join ubp.feature_catalogue c using (feature_set)
     where r.feature_set = 'default' and r.user_id = features.user_id order by c.position;
end
$ubp$;

create or replace function ubp.refresh_features(as_of timestamptz default now(), feature_set text default 'default')
returns table (feature_set_name text, as_of_time timestamptz, users bigint, feature_count integer, seconds double precision)
language plpgsql volatile rows 1
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.feature_sets := ubp.feature_set_named(feature_set);
  begun constant timestamptz := clock_timestamp();
begin
  perform ubp.checked_moment(as_of);
  perform from ubp.feature_sets s where s.name = found.name for update;
  delete from ubp.feature_rows r where r.feature_set = found.name;
  execute format('insert into ubp.feature_rows (feature_set, user_id, features, as_of)'
                 ' select $1, x.user_id, x.features, $2 from ubp.%I($2) x', found.of_all) using found.name, as_of;
  get diagnostics users = row_count;
  update ubp.feature_sets s set as_of = refresh_features.as_of, users = refresh_features.users, refreshed_at = now()
   where s.name = found.name;
  feature_set_name := found.name;
  as_of_time := as_of;
  feature_count := (select count(*) from ubp.feature_catalogue c where c.feature_set = found.name);
  seconds := extract(epoch from clock_timestamp() - begun);
  return next;
end
$ubp$;

create or replace function ubp.score(model text, features double precision[], version integer default null)
returns double precision
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(model, version);
  score float8;
begin
  if coalesce(cardinality(features), 0) <> found.features then
    raise exception 'ubp: the model takes % features, % were given', found.features, coalesce(cardinality(features), 0)
      using errcode = 'UB003', hint = 'in the order of ubp.feature_catalogue.position';
  end if;
  execute format('select ubp.%I($1)', found.score_function) into score using ubp.to_singles(features);
  return nullif(score, 'NaN');
end
$ubp$;

create or replace function ubp.predict(task text, user_id bigint)
returns double precision
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
begin
  perform ubp.set_of(found);
  return (ubp.judge(found, (select r.features from ubp.feature_rows r
                             where r.feature_set = found.feature_set and r.user_id = predict.user_id))).score;
end
$ubp$;

create or replace function ubp.predict(task text, user_id bigint, as_of timestamptz)
returns double precision
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
begin
  perform ubp.set_of(found);
  return (ubp.judge(found, ubp.feature_vector(user_id, as_of, found.feature_set))).score;
end
$ubp$;

create or replace function ubp.predict_detail(task text, user_id bigint)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpgsql stable rows 1
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
  own constant ubp.feature_sets := ubp.set_of(found);
begin
  return query
    select j.score, j.reason, found.task, found.version, own.as_of, case when j.score is not null then u.percentile end
      from (select (select r.features from ubp.feature_rows r
                     where r.feature_set = found.feature_set and r.user_id = predict_detail.user_id) as features) r
     cross join lateral ubp.judge(found, r.features) j
      left join ubp.user_scores u on u.task = found.task and u.user_id = predict_detail.user_id
                                 and u.as_of = own.as_of and u.version = found.version;
end
$ubp$;

create or replace function ubp.predict_detail(task text, user_id bigint, at timestamptz)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpgsql stable rows 1
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
begin
  perform ubp.set_of(found);
  return query
    select j.score, j.reason, found.task, found.version, at, null::float8
      from ubp.judge(found, ubp.feature_vector(user_id, at, found.feature_set)) j;
end
$ubp$;

create or replace function ubp.predict_many(task text, user_ids bigint[])
returns table (user_id bigint, score double precision, reason text)
language plpgsql stable strict rows 100
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
begin
  perform ubp.set_of(found);
  return query
    select q.user_id, j.score, case when q.user_id is null then 'the user id is NULL' else j.reason end
      from unnest(user_ids) with ordinality q (user_id, place)
      left join ubp.feature_rows r on r.feature_set = found.feature_set and r.user_id = q.user_id
     cross join lateral ubp.judge(found, r.features) j order by q.place;
end
$ubp$;

create or replace function ubp.score_users(task text)
returns table (users bigint, scored bigint, without_score bigint, seconds double precision)
language plpgsql volatile strict rows 1
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found constant ubp.models := ubp.model_of(task);
  own ubp.feature_sets;
  begun constant timestamptz := clock_timestamp();
begin
  -- A refresh under way is waited for, and none begins: else scores would be of other features than their as_of says.
  perform from ubp.feature_sets s where s.name = found.feature_set for share;
  own := ubp.set_of(found);
  if own.as_of is null then
    raise exception 'ubp: the features of % were never refreshed', quote_literal(own.name) using errcode = 'UB005',
      hint = 'select * from ubp.refresh_features(feature_set => ' || quote_literal(own.name) || ')';
  end if;
  perform from ubp.models m where m.task = found.task and m.version = found.version for update;
  delete from ubp.user_scores u where u.task = found.task;
  -- The percentile goes by the model's own score: a map may give many users one value.
  execute format($q$
    insert into ubp.user_scores (task, user_id, score, percentile, reason, version, as_of, scored_at)
    select $1, x.user_id, ubp.%I(x.score),
           case when x.score is not null
                then (rank() over (partition by x.score is null order by x.score) - 1)::float8
                     * (100::float8 / greatest(1, count(x.score) over ())) end,
           case when x.few then 'too little history: no event of the task''s population kind yet'
                when x.score is null then 'the model gives no number for the user''s features' end,
           $2, $3, now()
      from (select r.user_id, r.few, nullif(case when not r.few then ubp.%I(r.features) end, 'NaN') as score
              from (select f.user_id, f.features,
                           not (f.features[$4] >= 1 and f.features[$4] <> 'NaN') as few
                      from ubp.feature_rows f where f.feature_set = $5) r offset 0) x$q$,
    found.value_function, found.score_function)
    using found.task, found.version, own.as_of, found.population, own.name;
  select count(*), count(u.score), count(*) - count(u.score) into users, scored, without_score
    from ubp.user_scores u where u.task = found.task;
  seconds := extract(epoch from clock_timestamp() - begun);
  return next;
end
$ubp$;

-- By the key text of the source.
create or replace function ubp.feature_vector(user_key text, as_of timestamptz default now(), feature_set text default 'default')
returns real[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return ubp.feature_vector(ubp.resolve_user(user_key), as_of, feature_set);
end
$ubp$;

create or replace function ubp.predict(task text, user_key text)
returns double precision
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return ubp.predict(task, ubp.resolve_user(user_key));
end
$ubp$;

create or replace function ubp.predict(task text, user_key text, as_of timestamptz)
returns double precision
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return ubp.predict(task, ubp.resolve_user(user_key), as_of);
end
$ubp$;

create or replace function ubp.features(user_key text)
returns table (feature text, value double precision, unit text, meaning text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return query select x.* from ubp.features(ubp.resolve_user(user_key)) x;
end
$ubp$;

create or replace function ubp.features(user_key text, as_of timestamptz, feature_set text default 'default')
returns table (feature text, value double precision, unit text, meaning text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return query select x.* from ubp.features(ubp.resolve_user(user_key), as_of, feature_set) x;
end
$ubp$;

create or replace function ubp.predict_detail(task text, user_key text)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return query select x.* from ubp.predict_detail(task, ubp.resolve_user(user_key)) x;
end
$ubp$;

create or replace function ubp.predict_detail(task text, user_key text, at timestamptz)
returns table (score double precision, reason text, model text, version integer, as_of timestamptz, percentile double precision)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return query select x.* from ubp.predict_detail(task, ubp.resolve_user(user_key), at) x;
end
$ubp$;
