-- What items are said to be: ubp.define_event_column(..., of => 'item') makes it a column of their events.

-- ubp.resolve_item: item_id of a key text, NULL when no item has it. Reads a key as loads do, like ubp.resolve_user.
create or replace function ubp.resolve_item(item_key text)
returns bigint
language sql stable parallel unsafe security definer cost 10
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(
    (select i.item_id from ubp.items i where i.item_key = btrim(resolve_item.item_key) and i.tenant = 0),
    case when btrim(resolve_item.item_key) !~ '^(0|[1-9][0-9]{0,15})(\.0+)?$' then null
         when split_part(btrim(resolve_item.item_key), '.', 1)::bigint < 4000000000000000 then coalesce(
           (select i.item_id from ubp.items i
             where i.item_key = split_part(btrim(resolve_item.item_key), '.', 1) and i.tenant = 0),
           split_part(btrim(resolve_item.item_key), '.', 1)::bigint) end);
end;
comment on function ubp.resolve_item(text) is 'item_id of a key text: the one a load recorded, else the number itself; NULL when neither.';
revoke all on function ubp.resolve_item(text) from public;
alter function ubp.resolve_item(text) owner to ubp_reader;
grant execute on function ubp.resolve_item(text) to ubp_owner, ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.set_item_attribute: a row of ubp.item_attributes, known from now on: to events that are ingested later, of times
-- from valid_from on. History is loaded by INSERT or COPY with an ingested_at of its own.
-- Errors: UB003 unknown item, bad name, no value
create or replace function ubp.set_item_attribute(item_id bigint, name text, value double precision, valid_from timestamptz default now())
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_item_attribute(plpy, SD, item_id, name, value, valid_from)
$python$;
comment on function ubp.set_item_attribute(bigint, text, double precision, timestamptz) is 'Notes that an attribute of an item has a value from a time on; known from now on. Features read it through a column of ubp.define_event_column.';
revoke all on function ubp.set_item_attribute(bigint, text, double precision, timestamptz) from public;
alter function ubp.set_item_attribute(bigint, text, double precision, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_item_attribute(bigint, text, double precision, timestamptz) to ubp_loader;

-- As set_item_attribute with a number; a text that reads as a number is that number too.
create or replace function ubp.set_item_attribute(item_id bigint, name text, value text, valid_from timestamptz default now())
returns void
language plpython3u volatile parallel unsafe cost 1000 security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $python$
from ubp_sql import api
return api.set_item_attribute(plpy, SD, item_id, name, value, valid_from)
$python$;
comment on function ubp.set_item_attribute(bigint, text, text, timestamptz) is 'Notes that an attribute of an item has a text from a time on; known from now on.';
revoke all on function ubp.set_item_attribute(bigint, text, text, timestamptz) from public;
alter function ubp.set_item_attribute(bigint, text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_item_attribute(bigint, text, text, timestamptz) to ubp_loader;

-- As set_item_attribute(item_id), by the key text of the source.
create or replace function ubp.set_item_attribute(item_key text, name text, value double precision, valid_from timestamptz default now())
returns void
language sql volatile parallel unsafe
begin atomic
  select ubp.set_item_attribute(ubp.resolve_item(item_key), name, value, valid_from);
end;
comment on function ubp.set_item_attribute(text, text, double precision, timestamptz) is 'As set_item_attribute(item_id), by the key text of the source.';
revoke all on function ubp.set_item_attribute(text, text, double precision, timestamptz) from public;
alter function ubp.set_item_attribute(text, text, double precision, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_item_attribute(text, text, double precision, timestamptz) to ubp_loader;

-- As set_item_attribute(item_id), by the key text of the source.
create or replace function ubp.set_item_attribute(item_key text, name text, value text, valid_from timestamptz default now())
returns void
language sql volatile parallel unsafe
begin atomic
  select ubp.set_item_attribute(ubp.resolve_item(item_key), name, value, valid_from);
end;
comment on function ubp.set_item_attribute(text, text, text, timestamptz) is 'As set_item_attribute(item_id), by the key text of the source.';
revoke all on function ubp.set_item_attribute(text, text, text, timestamptz) from public;
alter function ubp.set_item_attribute(text, text, text, timestamptz) owner to ubp_owner;
grant execute on function ubp.set_item_attribute(text, text, text, timestamptz) to ubp_loader;
