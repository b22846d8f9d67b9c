-- What is computed and what is predicted.

-- ubp.define_feature_set: registers a set and makes its view ubp.user_features (set default) or ubp.user_features_<name>.
-- Errors: UB003 bad kinds, windows, zone or a name in use · UB005 no events to take kinds from
create or replace function ubp.define_feature_set(name text, kinds text[] default null, windows_days integer[] default null, time_zone text default null)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_feature_set(plpy, SD, name, kinds, windows_days, time_zone)
$python$;
comment on function ubp.define_feature_set(text, text[], integer[], text) is 'Defines a set of features over event kinds (first: the main one; NULL: the kinds found in ubp.events) and windows in days, in a time zone (NULL: that of the source with most events); returns the number of features. A set never changes: a new definition is a new name.';
revoke all on function ubp.define_feature_set(text, text[], integer[], text) from public;
alter function ubp.define_feature_set(text, text[], integer[], text) owner to ubp_owner;
grant execute on function ubp.define_feature_set(text, text[], integer[], text) to ubp_admin;

-- ubp.define_task: one row of ubp.tasks. The same definition again changes nothing.
-- Errors: UB003 bad name, kind, horizon · UB005 unknown feature set
create or replace function ubp.define_task(task text, label_kind text, population_kind text default null, horizon interval default '30 days', feature_set text default 'default', meaning text default null)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.define_task(plpy, SD, task, label_kind, population_kind, horizon, feature_set, meaning)
$python$;
comment on function ubp.define_task(text, text, text, interval, text, text) is 'Defines what is predicted: an event of label_kind within the horizon, for users with an event of population_kind (default: label_kind) before.';
revoke all on function ubp.define_task(text, text, text, interval, text, text) from public;
alter function ubp.define_task(text, text, text, interval, text, text) owner to ubp_owner;
grant execute on function ubp.define_task(text, text, text, interval, text, text) to ubp_admin;

-- ubp.rebuild_generated: run by every installation; harmless at any time.
create or replace function ubp.rebuild_generated()
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.rebuild_generated(plpy, SD)
$python$;
comment on function ubp.rebuild_generated() is 'Makes the generated views (ubp.user_features) and functions (ubp.predict_<task>) again; returns how many.';
revoke all on function ubp.rebuild_generated() from public;
alter function ubp.rebuild_generated() owner to ubp_owner;
grant execute on function ubp.rebuild_generated() to ubp_admin;
