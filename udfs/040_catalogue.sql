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
comment on function ubp.define_feature_set(text, text[], integer[], text) is 'Defines a set of features over event kinds (first: the main one; NULL: the kinds found in ubp.events) and windows in days, in a time zone (NULL: that of the source with most events); returns the number of features. ubp.define_feature adds to it; what it has never changes.';
revoke all on function ubp.define_feature_set(text, text[], integer[], text) from public;
alter function ubp.define_feature_set(text, text[], integer[], text) owner to ubp_owner;
grant execute on function ubp.define_feature_set(text, text[], integer[], text) to ubp_admin;

-- ubp.define_feature: adds one feature to a set, which is made where it is missing; docs/features.md has the aggregates.
-- The same definition again changes nothing. settings holds where, against, and what else the aggregate takes.
-- Errors: UB003 unknown aggregate, kind, column or setting, a name that is taken, a set that a deployed model uses
create or replace function ubp.define_feature(name text, aggregate text, kinds text[] default null, "of" text default null, "window" text default null, settings jsonb default '{}', feature_set text default 'default')
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_feature(plpy, SD, name, aggregate, kinds, of, window, settings, feature_set)
$python$;
comment on function ubp.define_feature(text, text, text[], text, text, jsonb, text) is 'Adds a feature to a set: an aggregate of a column (of) of events of some kinds in a window (7d, 36h, all, last 5, 4 x 7d); returns the position of its first column. A set only grows, and not while a deployed model uses it.';
revoke all on function ubp.define_feature(text, text, text[], text, text, jsonb, text) from public;
alter function ubp.define_feature(text, text, text[], text, text, jsonb, text) owner to ubp_owner;
grant execute on function ubp.define_feature(text, text, text[], text, text, jsonb, text) to ubp_admin;

-- ubp.define_features: many at once, all or none: a JSON list of objects with define_feature's arguments as fields.
-- Errors: as define_feature
create or replace function ubp.define_features(features jsonb, feature_set text default 'default')
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_features(plpy, SD, features, feature_set)
$python$;
comment on function ubp.define_features(jsonb, text) is 'Adds a list of features to a set, all or none; returns how many columns the set has then.';
revoke all on function ubp.define_features(jsonb, text) from public;
alter function ubp.define_features(jsonb, text) owner to ubp_owner;
grant execute on function ubp.define_features(jsonb, text) to ubp_admin;

-- ubp.copy_feature_set: the way to change a set that a deployed model uses.
-- Errors: UB003 a name in use · UB005 unknown set
create or replace function ubp.copy_feature_set(feature_set text, new_name text)
returns integer
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.copy_feature_set(plpy, SD, feature_set, new_name)
$python$;
comment on function ubp.copy_feature_set(text, text) is 'Defines a set with the features of another, to grow on its own; returns the number of features.';
revoke all on function ubp.copy_feature_set(text, text) from public;
alter function ubp.copy_feature_set(text, text) owner to ubp_owner;
grant execute on function ubp.copy_feature_set(text, text) to ubp_admin;

-- ubp.drop_feature_set: with its view, stored rows and tasks; what a model was trained on stays.
-- Errors: UB003 a model was trained on it, or a view of somebody's reads its own · UB005 unknown set, a refresh under way
create or replace function ubp.drop_feature_set(feature_set text)
returns bigint
language plpython3u volatile strict parallel unsafe cost 1000000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.drop_feature_set(plpy, SD, feature_set)
$python$;
comment on function ubp.drop_feature_set(text) is 'Drops a feature set that no model was trained on, with its view, its stored rows and its tasks; returns the number of rows.';
revoke all on function ubp.drop_feature_set(text) from public;
alter function ubp.drop_feature_set(text) owner to ubp_owner;
grant execute on function ubp.drop_feature_set(text) to ubp_admin;

-- ubp.define_task: one row of ubp.tasks. The same definition again changes nothing.
-- label: what is predicted, as docs/tasks.md has it; label_kind is short for {"any": label_kind}.
-- Errors: UB003 bad name, rule, kind, horizon, a label that features would know · UB005 unknown feature set · UB011 the label's table may not be read
create or replace function ubp.define_task(task text, label_kind text default null, population_kind text default null, horizon interval default '30 days', feature_set text default 'default', meaning text default null, label jsonb default null)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'iso_8601' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.define_task(plpy, SD, task, label_kind, population_kind, horizon, feature_set, meaning, label)
$python$;
comment on function ubp.define_task(text, text, text, interval, text, text, jsonb) is 'Defines what is predicted: an event of label_kind within the horizon, or what the rule label says of events or of a table, for users with an event of population_kind (default: the label''s first kind) before.';
revoke all on function ubp.define_task(text, text, text, interval, text, text, jsonb) from public;
alter function ubp.define_task(text, text, text, interval, text, text, jsonb) owner to ubp_owner;
grant execute on function ubp.define_task(text, text, text, interval, text, text, jsonb) to ubp_admin;

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

-- ubp.set_user_attribute: an event of kind attribute:<name>, so that a feature sees what was known at its moment.
-- Errors: UB003 unknown user, bad name, no value
create or replace function ubp.set_user_attribute(user_id bigint, name text, value double precision, valid_from timestamptz default now())
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_user_attribute(plpy, SD, user_id, name, value, valid_from)
$python$;
comment on function ubp.set_user_attribute(bigint, text, double precision, timestamptz) is 'Notes that an attribute of a user has a value from a time on; known from now on. Features read it as kind attribute:<name>.';
revoke all on function ubp.set_user_attribute(bigint, text, double precision, timestamptz) from public;
alter function ubp.set_user_attribute(bigint, text, double precision, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_user_attribute(bigint, text, double precision, timestamptz) to ubp_loader;

-- As set_user_attribute with a number; a text that reads as a number is that number too.
create or replace function ubp.set_user_attribute(user_id bigint, name text, value text, valid_from timestamptz default now())
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_user_attribute(plpy, SD, user_id, name, value, valid_from)
$python$;
comment on function ubp.set_user_attribute(bigint, text, text, timestamptz) is 'Notes that an attribute of a user has a text from a time on; known from now on. The text stands in attributes ->> ''text''.';
revoke all on function ubp.set_user_attribute(bigint, text, text, timestamptz) from public;
alter function ubp.set_user_attribute(bigint, text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_user_attribute(bigint, text, text, timestamptz) to ubp_loader;

-- As set_user_attribute(user_id), by the key text of the source.
create or replace function ubp.set_user_attribute(user_key text, name text, value double precision, valid_from timestamptz default now())
returns void
language sql volatile parallel unsafe
begin atomic
  select ubp.set_user_attribute(ubp.resolve_member(user_key), name, value, valid_from);
end;
comment on function ubp.set_user_attribute(text, text, double precision, timestamptz) is 'As set_user_attribute(user_id), by the key text of the source.';
revoke all on function ubp.set_user_attribute(text, text, double precision, timestamptz) from public;
alter function ubp.set_user_attribute(text, text, double precision, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_user_attribute(text, text, double precision, timestamptz) to ubp_loader;

-- As set_user_attribute(user_id), by the key text of the source.
create or replace function ubp.set_user_attribute(user_key text, name text, value text, valid_from timestamptz default now())
returns void
language sql volatile parallel unsafe
begin atomic
  select ubp.set_user_attribute(ubp.resolve_member(user_key), name, value, valid_from);
end;
comment on function ubp.set_user_attribute(text, text, text, timestamptz) is 'As set_user_attribute(user_id), by the key text of the source.';
revoke all on function ubp.set_user_attribute(text, text, text, timestamptz) from public;
alter function ubp.set_user_attribute(text, text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_user_attribute(text, text, text, timestamptz) to ubp_loader;
