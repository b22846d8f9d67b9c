comment on schema ubp is 'ubp_sql, second tier: features of users and scores of models, out of files of ubp-sql model export --sql';
do $ubp$
begin
  if (select c.relkind in ('r', 'p') and pg_get_userbyid(c.relowner) = current_user
             and obj_description(c.oid, 'pg_class') is null from pg_class c where c.oid = 'ubp.events'::regclass) then
    comment on table ubp.events is 'What users did, a row an event.';
  end if;
end
$ubp$;
comment on table ubp.users is 'Keys by which sources know users; ids of key texts that are no numbers begin at 4e15.';
comment on table ubp.sources is 'Where events come from, and the time zone of their local hours and days.';
comment on table ubp.calendar is 'Holidays and seasons by day and region.';
comment on table ubp.feature_sets is 'Feature sets: the functions that compute them, and the moment of their last refresh.';
comment on table ubp.feature_catalogue is 'What each feature of a set means; position is its place in a row.';
comment on table ubp.feature_rows is 'Features as of the last refresh, a row a user and set; each refresh writes all rows of its set anew.';
comment on table ubp.models is 'Versions of models by task, the functions that score with them, and which one answers (deployed).';
comment on table ubp.user_scores is 'Scores as of the last ubp.score_users, a row a user and task; each scoring writes all rows of its task anew.';

comment on function ubp.refresh_features(timestamptz, text) is 'Computes and stores the features of everybody at a moment. Volatile: writes ubp.feature_rows.';
comment on function ubp.score_users(text) is 'Stores score and percentile of everybody with stored features. Volatile: writes ubp.user_scores.';
comment on function ubp.predict(text, bigint) is 'What the version that answers says of a user, from stored features; NULL: no score, ubp.predict_detail has the reason.';
comment on function ubp.predict(text, bigint, timestamptz) is 'The same at any moment, from the events.';
comment on function ubp.predict(text, text) is 'As ubp.predict(task, user_id), by the key text.';
comment on function ubp.predict(text, text, timestamptz) is 'As ubp.predict(task, user_id, as_of), by the key text.';
comment on function ubp.predict_detail(text, bigint) is 'A prediction with its version, moment and percentile, or the reason why there is none.';
comment on function ubp.predict_detail(text, bigint, timestamptz) is 'The same at any moment, from the events.';
comment on function ubp.predict_detail(text, text) is 'As ubp.predict_detail(task, user_id), by the key text.';
comment on function ubp.predict_detail(text, text, timestamptz) is 'As ubp.predict_detail(task, user_id, at), by the key text.';
comment on function ubp.predict_many(text, bigint[]) is 'Predictions of a list of users from stored features, in its order.';
comment on function ubp.features(bigint) is 'Stored features of a user in the set default, with unit and meaning.';
comment on function ubp.features(bigint, timestamptz, text) is 'Features of a user at any moment, from the events.';
comment on function ubp.features(text) is 'As ubp.features(user_id), by the key text.';
comment on function ubp.features(text, timestamptz, text) is 'As ubp.features(user_id, as_of, feature_set), by the key text.';
comment on function ubp.feature_vector(bigint, timestamptz, text) is 'The row of features of a user at any moment, from the events, in the order of ubp.feature_catalogue.';
comment on function ubp.feature_vector(text, timestamptz, text) is 'As ubp.feature_vector(user_id, as_of, feature_set), by the key text.';
comment on function ubp.score(text, double precision[], integer) is 'The model''s own score of any row of features, without the calibration map.';
comment on function ubp.resolve_user(text) is 'user_id of a key text; NULL: nobody has it.';

comment on function ubp.model_of(text, integer) is 'Of the functions above: the version of a task that answers, or the one named.';
comment on function ubp.set_of(ubp.models) is 'Of the functions above: the feature set of a model, if it is still the one it was trained on.';
comment on function ubp.feature_set_named(text) is 'Of the functions above: a feature set by its name.';
comment on function ubp.judge(ubp.models, real[]) is 'Of the functions above: score of a row of features, or the reason why there is none.';
comment on function ubp.checked_moment(timestamptz) is 'Of the functions above: the moment, if it is one.';
comment on function ubp.to_singles(double precision[]) is 'Of the functions above: numbers as features, float32.';
comment on function ubp.to_single(double precision) is 'Of the features: a number rounded to float32, NULL to NaN.';
comment on function ubp.epoch_us(timestamptz) is 'Of the features: microseconds since 1970.';
comment on function ubp.half_to(double precision) is 'Of the features: 2**-y for 0 <= y < 960.';
comment on function ubp.key_code(bigint) is 'Of the features: 20 bits of a hash of a key.';
comment on function ubp.mixed(bigint, integer, numeric) is 'Of ubp.key_code: a step of it.';
comment on function ubp.ring_spread(double precision[]) is 'Of the features: number, newest value, sum and sum of squares of a window''s part.';
comment on function ubp.merged_spread(double precision[]) is 'Of the features: sample standard deviation of a window''s parts.';
