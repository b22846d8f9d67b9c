-- Who users are and what is known of them: keys that are one user, attributes of users and items.

-- ubp.link_users: makes the user of other_key the user of user_key, whose id it returns; of all that either was linked to
-- before as well. Live answers know it at once, stored features from the next refresh on.
-- Errors: UB003 a key that nobody has, the same key twice, one user already, another isolation than READ COMMITTED
-- Locks: an advisory one against other links, until the transaction ends
create or replace function ubp.link_users(user_key text, other_key text)
returns bigint
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.link_users(plpy, SD, user_key, other_key)
$python$;
comment on function ubp.link_users(text, text) is 'Makes one user of two keys: the user of the first stays, the other''s events, attributes and links become his; returns his id. ubp.unlink_users undoes it.';
revoke all on function ubp.link_users(text, text) from public;
alter function ubp.link_users(text, text) owner to ubp_owner;
grant execute on function ubp.link_users(text, text) to ubp_loader;

-- ubp.unlink_users: undoes a link, as if it had never been made; other links hold.
-- Errors: UB003 no such link, another isolation than READ COMMITTED
-- Locks: as ubp.link_users
create or replace function ubp.unlink_users(user_key text, other_key text)
returns bigint
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.unlink_users(plpy, SD, user_key, other_key)
$python$;
comment on function ubp.unlink_users(text, text) is 'Undoes the link between two keys as if it had never been made; returns whose the second key is then.';
revoke all on function ubp.unlink_users(text, text) from public;
alter function ubp.unlink_users(text, text) owner to ubp_owner;
grant execute on function ubp.unlink_users(text, text) to ubp_loader;

-- ubp.define_attribute: a row of ubp.attributes. From then on values of another type are refused. The same definition
-- again changes nothing; the type may change while every value that is there fits the new one.
-- Errors: UB003 bad name or type, values that do not fit
-- Locks: share row exclusive on ubp.item_attributes for an attribute of items
create or replace function ubp.define_attribute("of" text, name text, type text, meaning text default null)
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.define_attribute(plpy, SD, of, name, type, meaning)
$python$;
comment on function ubp.define_attribute(text, text, text, text) is 'Declares that an attribute of users or items is a number or a text, and what it means; values of the other type are refused from then on.';
revoke all on function ubp.define_attribute(text, text, text, text) from public;
alter function ubp.define_attribute(text, text, text, text) owner to ubp_owner;
grant execute on function ubp.define_attribute(text, text, text, text) to ubp_admin;

-- ubp.set_user_attributes: many users at once: a list of objects, each with user_key, the attributes as fields, and
-- valid_from or ingested_at where they are others than now: select ubp.set_user_attributes(jsonb_agg(to_jsonb(c))) from c.
-- What is known already is not written again; a NULL says nothing; a text key that is new becomes a user, as in a load.
-- Errors: UB003 no list of objects, no key, a bad name, a value that is no number, text or boolean, or not of its type
create or replace function ubp.set_user_attributes(attributes jsonb, valid_from timestamptz default now())
returns bigint
language plpython3u volatile parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_user_attributes(plpy, SD, attributes, valid_from)
$python$;
comment on function ubp.set_user_attributes(jsonb, timestamptz) is 'Notes attributes of many users: a JSON list of objects with user_key, one field an attribute, and if need be valid_from and ingested_at; returns how many values are new. The same again adds nothing.';
revoke all on function ubp.set_user_attributes(jsonb, timestamptz) from public;
alter function ubp.set_user_attributes(jsonb, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_user_attributes(jsonb, timestamptz) to ubp_loader;

-- As set_user_attributes, with item_key.
create or replace function ubp.set_item_attributes(attributes jsonb, valid_from timestamptz default now())
returns bigint
language plpython3u volatile parallel unsafe cost 100000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_item_attributes(plpy, SD, attributes, valid_from)
$python$;
comment on function ubp.set_item_attributes(jsonb, timestamptz) is 'Notes attributes of many items: a JSON list of objects with item_key, one field an attribute, and if need be valid_from and ingested_at; returns how many values are new. The same again adds nothing.';
revoke all on function ubp.set_item_attributes(jsonb, timestamptz) from public;
alter function ubp.set_item_attributes(jsonb, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_item_attributes(jsonb, timestamptz) to ubp_loader;

-- No table of its own: the events that are attributes, in the form of ubp.item_attributes.
create or replace view ubp.user_attributes as
select e.user_id, substr(e.kind, 11) as name, nullif(e.value, 'NaN') as value, e.attributes ->> 'text' as text,
       e.event_time as valid_from, e.ingested_at
  from ubp.event_rows() e where e.kind like 'attribute:%';
comment on view ubp.user_attributes is 'What users were said to be, from when on and since when known: their events of kind attribute:<name>';
comment on column ubp.user_attributes.user_id is 'whose';
comment on column ubp.user_attributes.name is 'name of the attribute';
comment on column ubp.user_attributes.value is 'number';
comment on column ubp.user_attributes.text is 'text; one that reads as a number is that number too';
comment on column ubp.user_attributes.valid_from is 'since when it holds';
comment on column ubp.user_attributes.ingested_at is 'when the database learnt of it';
alter view ubp.user_attributes owner to ubp_owner;
grant select on ubp.user_attributes to ubp_loader, ubp_auditor;

-- ubp.user_profile: what was known of a user at a moment: of each attribute what its newest event said.
-- Errors: none; an unknown user has no row
create or replace function ubp.user_profile(user_id bigint, as_of timestamptz default now())
returns table (name text, value double precision, text text, valid_from timestamptz, meaning text)
language sql stable parallel unsafe rows 10 security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select a.name, a.value, a.text, a.valid_from, d.meaning
    from (select distinct on (e.kind) substr(e.kind, 11) as name, nullif(e.value, 'NaN') as value,
                 e.attributes ->> 'text' as text, e.event_time as valid_from
            from ubp.event_rows() e
           where e.user_id = coalesce((select m.user_id from ubp.user_members m
                                        where m.member_id = user_profile.user_id), user_profile.user_id)
             and e.kind like 'attribute:%' and e.event_time < as_of and e.ingested_at <= as_of
           order by e.kind, e.event_time desc, e.ingested_at desc, e.event_id desc) a
    left join ubp.attributes d on d.of = 'user' and d.name = a.name
   order by a.name;
end;
comment on function ubp.user_profile(bigint, timestamptz) is 'Attributes of a user as they were known at a moment, with their meaning.';
revoke all on function ubp.user_profile(bigint, timestamptz) from public;
alter function ubp.user_profile(bigint, timestamptz) owner to ubp_reader;
grant execute on function ubp.user_profile(bigint, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- As user_profile(user_id), by the key text of the source.
create or replace function ubp.user_profile(user_key text, as_of timestamptz default now())
returns table (name text, value double precision, text text, valid_from timestamptz, meaning text)
language sql stable parallel unsafe rows 10
begin atomic
  select p.name, p.value, p.text, p.valid_from, p.meaning from ubp.user_profile(ubp.resolve_member(user_key), as_of) p;
end;
comment on function ubp.user_profile(text, timestamptz) is 'As user_profile(user_id), by the key text of the source.';
revoke all on function ubp.user_profile(text, timestamptz) from public;
alter function ubp.user_profile(text, timestamptz) owner to ubp_owner;
grant execute on function ubp.user_profile(text, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.item_profile: what was known of an item at a moment. Attributes that were ended have no row.
-- Errors: none; an unknown item has no row
create or replace function ubp.item_profile(item_id bigint, as_of timestamptz default now())
returns table (name text, value double precision, text text, valid_from timestamptz, meaning text)
language sql stable parallel unsafe rows 10 security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select a.name, a.value, a.text, a.valid_from, d.meaning
    from (select distinct on (i.name) i.name, nullif(i.value, 'NaN') as value, i.text, i.valid_from
            from ubp.item_attributes i
           where i.item_id = item_profile.item_id and i.valid_from <= as_of and i.ingested_at <= as_of
           order by i.name, i.valid_from desc, i.ingested_at desc) a
    left join ubp.attributes d on d.of = 'item' and d.name = a.name
   where a.value is not null or a.text is not null
   order by a.name;
end;
comment on function ubp.item_profile(bigint, timestamptz) is 'Attributes of an item as they were known at a moment, with their meaning.';
revoke all on function ubp.item_profile(bigint, timestamptz) from public;
alter function ubp.item_profile(bigint, timestamptz) owner to ubp_reader;
grant execute on function ubp.item_profile(bigint, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

-- As item_profile(item_id), by the key text of the source.
create or replace function ubp.item_profile(item_key text, as_of timestamptz default now())
returns table (name text, value double precision, text text, valid_from timestamptz, meaning text)
language sql stable parallel unsafe rows 10
begin atomic
  select p.name, p.value, p.text, p.valid_from, p.meaning from ubp.item_profile(ubp.resolve_item(item_key), as_of) p;
end;
comment on function ubp.item_profile(text, timestamptz) is 'As item_profile(item_id), by the key text of the source.';
revoke all on function ubp.item_profile(text, timestamptz) from public;
alter function ubp.item_profile(text, timestamptz) owner to ubp_owner;
grant execute on function ubp.item_profile(text, timestamptz) to ubp_analyst, ubp_auditor, ubp_loader;

create or replace view ubp.user_profiles as
select distinct on (a.user_id, a.name) a.user_id, a.name, a.value, a.text, a.valid_from
  from ubp.event_rows() e
 cross join lateral (select e.user_id, substr(e.kind, 11) as name, nullif(e.value, 'NaN') as value,
                            e.attributes ->> 'text' as text, e.event_time as valid_from) a
 where e.kind like 'attribute:%' and e.event_time < now() and e.ingested_at <= now()
 order by a.user_id, a.name, e.event_time desc, e.ingested_at desc, e.event_id desc;
comment on view ubp.user_profiles is 'What is known now of each user: a row an attribute; ubp.user_profile tells it of one user and of past moments';
comment on column ubp.user_profiles.user_id is 'whose';
comment on column ubp.user_profiles.name is 'name of the attribute';
comment on column ubp.user_profiles.value is 'number';
comment on column ubp.user_profiles.text is 'text';
comment on column ubp.user_profiles.valid_from is 'since when it holds';
alter view ubp.user_profiles owner to ubp_owner;
grant select on ubp.user_profiles to ubp_loader, ubp_auditor;

create or replace view ubp.item_profiles as
select p.item_id, p.name, p.value, p.text, p.valid_from
  from (select distinct on (i.item_id, i.name) i.item_id, i.name, nullif(i.value, 'NaN') as value, i.text, i.valid_from
          from ubp.item_attributes i where i.valid_from <= now() and i.ingested_at <= now()
         order by i.item_id, i.name, i.valid_from desc, i.ingested_at desc) p
 where p.value is not null or p.text is not null;
comment on view ubp.item_profiles is 'What is known now of each item: a row an attribute; ubp.item_profile tells it of one item and of past moments';
comment on column ubp.item_profiles.item_id is 'which item';
comment on column ubp.item_profiles.name is 'name of the attribute';
comment on column ubp.item_profiles.value is 'number';
comment on column ubp.item_profiles.text is 'text';
comment on column ubp.item_profiles.valid_from is 'since when it holds';
alter view ubp.item_profiles owner to ubp_owner;
grant select on ubp.item_profiles to ubp_analyst, ubp_loader, ubp_auditor;
