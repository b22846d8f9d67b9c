-- Held-out tests of models, calibration maps out of them, and how well calibrated scores are (docs/calibration.md).

-- ubp.record_test: in place of one of the same moment and part. Columns are little-endian, 8 bytes a user: int64, float64, float64.
-- Errors: UB001 unknown task · UB003 columns of other lengths, NaN, a label that cannot be · UB004 unknown version
create or replace function ubp.record_test(task text, version integer, cut timestamptz, part text, users bytea, scores bytea, labels bytea, protocol text)
returns bigint
language plpython3u volatile parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.record_test(plpy, SD, task, version, cut, part, users, scores, labels, protocol)
$python$;
comment on function ubp.record_test(text, integer, timestamptz, text, bytea, bytea, bytea, text) is 'Stores what a model (or its like trained only on earlier moments) said of users at a moment it had not seen, and what came; returns the number of users. Maps and intervals are fitted on it.';
revoke all on function ubp.record_test(text, integer, timestamptz, text, bytea, bytea, bytea, text) from public;
alter function ubp.record_test(text, integer, timestamptz, text, bytea, bytea, bytea, text) owner to ubp_owner;
grant execute on function ubp.record_test(text, integer, timestamptz, text, bytea, bytea, bytea, text) to ubp_admin;

-- ubp.calibrate_model: one more map of the model, fitted on its tests. It answers with the next deployment, or ubp.use_calibration.
-- Errors: UB001 unknown task · UB003 unknown method, a task of amounts · UB004 unknown version · UB005 no test is recorded
create or replace function ubp.calibrate_model(task text, version integer default null, method text default 'auto')
returns bigint
language plpython3u volatile parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.calibrate_model(plpy, SD, task, version, method)
$python$;
comment on function ubp.calibrate_model(text, integer, text) is 'Fits a calibration map (isotonic, platt, or auto: whichever does better on a moment left out) on a version''s held-out tests; returns its number, NULL where auto finds none better than the scores as they are.';
revoke all on function ubp.calibrate_model(text, integer, text) from public;
alter function ubp.calibrate_model(text, integer, text) owner to ubp_owner;
grant execute on function ubp.calibrate_model(text, integer, text) to ubp_admin;

-- ubp.add_calibration_map: a map that was fitted elsewhere.
-- Errors: UB001 unknown task · UB003 what is no map, a task of amounts · UB004 unknown version
create or replace function ubp.add_calibration_map(task text, version integer, method text, x double precision[], y double precision[] default '{}')
returns bigint
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.add_calibration_map(plpy, SD, task, version, method, x, y)
$python$;
comment on function ubp.add_calibration_map(text, integer, text, double precision[], double precision[]) is 'Stores a calibration map of a version: isotonic (chances y at scores x, ascending) or platt (x: slope and intercept on the log odds); returns its number.';
revoke all on function ubp.add_calibration_map(text, integer, text, double precision[], double precision[]) from public;
alter function ubp.add_calibration_map(text, integer, text, double precision[], double precision[]) owner to ubp_owner;
grant execute on function ubp.add_calibration_map(text, integer, text, double precision[], double precision[]) to ubp_admin;

-- ubp.use_calibration: one more deployment of the version that answers, with that map; ubp.rollback_model goes back.
-- Errors: UB001 unknown task · UB003 a map of another model, or no such map · UB004 nothing is deployed
create or replace function ubp.use_calibration(task text, map_id bigint)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.use_calibration(plpy, SD, task, map_id)
$python$;
comment on function ubp.use_calibration(text, bigint) is 'Lets the version that answers, or a version beside it, speak through that calibration map; NULL: the one that answers through none. Returns the version.';
revoke all on function ubp.use_calibration(text, bigint) from public;
alter function ubp.use_calibration(text, bigint) owner to ubp_owner;
grant execute on function ubp.use_calibration(text, bigint) to ubp_admin;

create or replace view ubp.reliability as
select m.task, m.version, t.cut, t.calibrated, b.bin::integer as bin, b.n, b.mean_score, b.share,
       greatest(0, (b.share + z.zz / (2 * b.n) - z.z * sqrt(b.share * (1 - b.share) / b.n + z.zz / (4 * b.n * b.n)))
                   / (1 + z.zz / b.n)) as low,
       least(1, (b.share + z.zz / (2 * b.n) + z.z * sqrt(b.share * (1 - b.share) / b.n + z.zz / (4 * b.n * b.n)))
                / (1 + z.zz / b.n)) as high
  from ubp.calibration_tests t
  join ubp.models m using (model_id)
 cross join lateral unnest(t.bin_n, t.bin_score, t.bin_share) with ordinality as b (n, mean_score, share, bin)
 cross join (values (1.959963984540054::double precision, 3.841458820694124::double precision)) as z (z, zz);
comment on view ubp.reliability is 'How often what was given a chance came true: users of each test in bins of equal size, by their score';
comment on column ubp.reliability.task is 'task';
comment on column ubp.reliability.version is 'version of the model';
comment on column ubp.reliability.cut is 'moment of the test';
comment on column ubp.reliability.calibrated is 'true: scores through a map that was fitted on outcomes known by then; false: the model''s own';
comment on column ubp.reliability.bin is '1: the users with the lowest scores';
comment on column ubp.reliability.n is 'users';
comment on column ubp.reliability.mean_score is 'their mean score';
comment on column ubp.reliability.share is 'share of them of whom it came true';
comment on column ubp.reliability.low is 'lower end of the 95 % interval of that share (Wilson)';
comment on column ubp.reliability.high is 'upper end';
alter view ubp.reliability owner to ubp_owner;
grant select on ubp.reliability to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.calibration_report as
select m.task, m.version, t.cut, t.calibrated, t.method, t.n, t.positives, t.error, t.low, t.high, t.by_chance,
       t.with_drift, t.log_loss, t.brier
  from ubp.calibration_tests t
  join ubp.models m using (model_id);
comment on view ubp.calibration_report is 'Calibration error of each test of a model, without a map and with the one that could have been fitted by then';
comment on column ubp.calibration_report.task is 'task';
comment on column ubp.calibration_report.version is 'version of the model';
comment on column ubp.calibration_report.cut is 'moment of the test';
comment on column ubp.calibration_report.calibrated is 'true: scores through a map that was fitted on outcomes known by then; false: the model''s own';
comment on column ubp.calibration_report.method is 'isotonic or platt; NULL = no map, or none was better';
comment on column ubp.calibration_report.n is 'users';
comment on column ubp.calibration_report.positives is 'of them it came true';
comment on column ubp.calibration_report.error is 'expected calibration error: mean distance of score and share over ten bins of equal size';
comment on column ubp.calibration_report.low is 'lower end of its 95 % interval (bootstrap, less the bias of small bins)';
comment on column ubp.calibration_report.high is 'upper end';
comment on column ubp.calibration_report.by_chance is 'error below which 95 of 100 such tests stay where every chance is exactly right';
comment on column ubp.calibration_report.with_drift is 'the same where chances are right on the average of moments, and moments drift as far apart as the tests before this one did; NULL = too few of them';
comment on column ubp.calibration_report.log_loss is 'log loss';
comment on column ubp.calibration_report.brier is 'Brier score';
alter view ubp.calibration_report owner to ubp_owner;
grant select on ubp.calibration_report to ubp_analyst, ubp_auditor, ubp_loader;
