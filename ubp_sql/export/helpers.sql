-- Arithmetic of features and scores, for every file of `ubp-sql model export --sql`.

-- Written without a SET clause, since only so they are put in place of their call; names are bound when they are made.
-- Rounded once to float32 and held within its finite range; NULL is NaN.
create or replace function ubp.to_single(x double precision) returns real
language sql immutable parallel safe
begin atomic
  select case when x is null or x = 'NaN' then 'NaN'::real
              when x >= 3.4028234663852886e+38::float8 then 3.4028235e+38::real
              when x <= -3.4028234663852886e+38::float8 then -3.4028235e+38::real
              when abs(x) <= 7.006492321624085e-46::float8 then (x * 0)::real
              else x::real end;
end;

-- Microseconds since 1970. Before 2040 the float64 way, four times as fast, is exact.
create or replace function ubp.epoch_us(t timestamptz) returns bigint
language sql immutable parallel safe
begin atomic
  select case when t < '2040-01-01 00:00+00' then (date_part('epoch', t) * 1000000)::bigint
              else (extract(epoch from t) * 1000000)::bigint end;
end;

-- 2**-y for 0 <= y < 960: the arithmetic of the kernels' half_to, whose bits are the same everywhere.
create or replace function ubp.half_to(y double precision)
returns double precision
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  parts constant float8[] := array[
    1.0, 0.9892280131939755, 0.9785720620877001, 0.9680308967461472, 0.9576032806985737,
    0.9472879907934828, 0.93708381705515, 0.9269895625416927, 0.9170040432046712, 0.9071260877501994,
    0.8973545375015536, 0.8876882462632606, 0.8781260801866497, 0.8686669176368531, 0.859309649061239,
    0.8500531768592617, 0.8408964152537145, 0.8318382901633682, 0.8228777390769825, 0.8140137109286739,
    0.8052451659746271, 0.7965710756711335, 0.7879904225539432, 0.7795022001189185, 0.7711054127039704,
    0.7627990753722692, 0.7545822137967114, 0.7464538641456324, 0.7384130729697497, 0.7304588970903235,
    0.7225904034885233, 0.714806669195985, 0.7071067811865476, 0.6994898362691556, 0.691954940981916,
    0.6845012114872953, 0.6771277734684463, 0.6698337620266515, 0.6626183215798707, 0.6554806057623822,
    0.6484197773255048, 0.6414350080393891, 0.6345254785958666, 0.6276903785123455, 0.620928906036742,
    0.614240268053435, 0.6076236799902345, 0.6010783657263515, 0.5946035575013605, 0.5881984958251406,
    0.5818624293887887, 0.5755946149764913, 0.5693943173783458, 0.5632608093041209, 0.5571933712979462,
    0.5511912916539204, 0.5452538663326288, 0.5393803988785599, 0.5335702003384118, 0.5278225891802786,
    0.5221368912137069, 0.5165124395106142, 0.5109485743270583, 0.5054446430258502];
  n constant bigint := floor(y * 64 + 0.5);
  z constant float8 := (n * 0.015625::float8 - y) * 0.6931471805599453::float8;
  p float8 := z * (1::float8 / 120) + (1::float8 / 24);
begin
  p := p * z + (1::float8 / 6);
  p := p * z + 0.5::float8;
  p := p * z + 1::float8;
  p := p * z + 1::float8;
  return p * parts[(n & 63) + 1] * power(2::float8, -(n >> 6)::float8);
end
$ubp$;

-- 20 bits of a hash of a key (Stafford's mix 13): exact as a real.
create or replace function ubp.key_code(key bigint)
returns double precision
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  two64 constant numeric := 18446744073709551616;
  h numeric := case when key < 0 then key + two64 else key end;
  low bigint;
begin
  h := ubp.mixed(key, 30, 13787848793156543929);
  h := ubp.mixed((case when h >= two64 / 2 then h - two64 else h end)::bigint, 27, 10723151780598845931);
  low := (case when h >= two64 / 2 then h - two64 else h end)::bigint;
  return (low # ((low >> 31) & 8589934591)) & 1048575;
end
$ubp$;

-- A step of it, modulo 2**64.
create or replace function ubp.mixed(key bigint, shift integer, factor numeric)
returns numeric
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  two64 constant numeric := 18446744073709551616;
  h constant bigint := key # ((key >> shift) & ((1::bigint << (64 - shift)) - 1));
begin
  return mod((case when h < 0 then h + two64 else h end) * factor, two64);
end
$ubp$;

-- Number, newest value, sum and sum of squares about it of a ring's values, newest first.
create or replace function ubp.ring_spread(given double precision[])
returns double precision[]
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  c constant float8 := given[1];
  x float8;
  total float8 := 0;
  squares float8 := 0;
begin
  foreach x in array given loop
    total := total + (x - c);
    squares := squares + (x - c) * (x - c);
  end loop;
  return array[cardinality(given), c, total, squares];
end
$ubp$;

-- Sample standard deviation of rings, merged as by Chan, Golub and LeVeque; NULL below two values.
create or replace function ubp.merged_spread(rings double precision[])
returns double precision
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  ring float8[];
  n float8 := 0;
  mean float8 := 0;
  squares float8 := 0;
  delta float8;
begin
  foreach ring slice 1 in array rings loop
    delta := ring[2] + ring[3] / ring[1] - mean;
    squares := squares + (greatest(ring[4] - ring[3] * ring[3] / ring[1], 0)
                          + delta * delta * (n * ring[1] / (n + ring[1])));
    mean := mean + delta * (ring[1] / (n + ring[1]));
    n := n + ring[1];
  end loop;
  return case when n > 1 and squares < 'Infinity' then sqrt(squares / (n - 1)) end;
end
$ubp$;

-- Numbers as features: rounded to float32, a missing one NaN.
create or replace function ubp.to_singles(given double precision[])
returns real[]
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  return array(select case when abs(x) > 3.4028235677973366e+38::float8 and x <> 'NaN' then sign(x) * 'Infinity'::real
                           else ubp.to_single(x) end from unnest(given) with ordinality g (x, place) order by place);
end
$ubp$;

-- The moment, if it is one.
create or replace function ubp.checked_moment(as_of timestamptz)
returns timestamptz
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  if as_of is null or not isfinite(as_of) then
    raise exception 'ubp: as_of is NULL or infinite' using errcode = 'UB003', hint = 'a moment, for example now()';
  end if;
  return as_of;
end
$ubp$;

-- user_id of a key text: the one that ubp.users has, else the number itself; NULL when neither.
create or replace function ubp.resolve_user(user_key text)
returns bigint
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  key constant text := btrim(resolve_user.user_key);
  digits constant text := case when key ~ '^(0|[1-9][0-9]{0,18})(\.0+)?$' then split_part(key, '.', 1) end;
  id bigint;
begin
  select u.user_id into id from ubp.users u where u.user_key in (key, digits) order by u.user_key <> key limit 1;
  -- A number is its own id, but for one that was given to another key.
  if id is null and digits::numeric <= 9223372036854775807 then
    id := digits::bigint;
    if exists (select from ubp.users u where u.user_id = id) then
      id := null;
    end if;
  end if;
  return id;
end
$ubp$;

-- The version of a task that answers, or the one named.
create or replace function ubp.model_of(task text, version integer default null)
returns ubp.models
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found ubp.models;
begin
  select m.* into found from ubp.models m
   where m.task = model_of.task
     and case when model_of.version is null then m.deployed else m.version = model_of.version end;
  if found.task is null then
    if exists (select 1 from ubp.models m where m.task = model_of.task) then
      raise exception 'ubp: task % has no version %', quote_literal(task), version using errcode = 'UB004',
        hint = 'select task, version from ubp.models';
    end if;
    raise exception 'ubp: unknown task %', quote_nullable(task) using errcode = 'UB001',
      hint = 'select task from ubp.models; ubp-sql model export TASK --sql writes another file';
  end if;
  return found;
end
$ubp$;

-- The feature set of a model, if it is still the one that it was trained on.
create or replace function ubp.set_of(model ubp.models)
returns ubp.feature_sets
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found ubp.feature_sets;
begin
  select s.* into found from ubp.feature_sets s where s.name = model.feature_set;
  if found.hash is distinct from model.feature_set_hash then
    raise exception 'ubp: the feature set % differs from the one the model was trained on', quote_literal(model.feature_set)
      using errcode = 'UB002', hint = 'export the task again and run the file';
  end if;
  return found;
end
$ubp$;

-- A feature set by its name.
create or replace function ubp.feature_set_named(feature_set text)
returns ubp.feature_sets
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
declare
  found ubp.feature_sets;
begin
  select s.* into found from ubp.feature_sets s where s.name = feature_set;
  if found.name is null then
    raise exception 'ubp: there is no feature set %', quote_nullable(feature_set)
      using errcode = case when feature_set is null then 'UB003' else 'UB005' end, hint = 'select name from ubp.feature_sets';
  end if;
  return found;
end
$ubp$;

-- Score of a row of features, or the reason why there is none.
create or replace function ubp.judge(model ubp.models, features real[], out score double precision, out reason text)
returns record
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $ubp$
begin
  if features is null then
    reason := 'no features: the user is unknown or had no event before as_of';
  elsif cardinality(features) <> model.features then
    raise exception 'ubp: the stored feature rows do not have the model''s length' using errcode = 'UB002',
      hint = 'run ubp.refresh_features(), then score again';
  elsif not (features[model.population] >= 1 and features[model.population] <> 'NaN') then
    reason := 'too little history: no event of the task''s population kind yet';
  else
    execute format('select ubp.%I(ubp.%I($1))', model.value_function, model.score_function) into score using features;
    if score = 'NaN' then
      score := null;
      reason := 'the model gives no number for the user''s features';
    end if;
  end if;
end
$ubp$;
