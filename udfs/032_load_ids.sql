-- ubp.give_ids: ids for key texts of users and items that have none yet, without gaps, in the order of the arrays: a load
-- that was killed gives the same ids when it runs again, which a sequence, never rolled back, would not. Keys that came
-- in the meantime keep the id they have. Returns how many it gave.
-- Locks: share row exclusive on ubp.users and ubp.items until the transaction ends: nobody else gives ids.
create or replace function ubp.give_ids(user_keys text[], item_keys text[])
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  highest bigint;
  given bigint;
  users_given bigint;
begin
  lock table ubp.users, ubp.items in share row exclusive mode;
  select greatest(max(u.user_id), 3999999999999999) into highest from ubp.users u;
  insert into ubp.users (user_id, user_key)
  select highest + row_number() over (order by k.place), k.key
    from unnest(user_keys) with ordinality k (key, place)
   where not exists (select from ubp.users u where u.tenant = 0 and u.user_key = k.key);
  get diagnostics users_given = row_count;
  -- Plain inserts take their ids from the sequence: behind what was given here.
  if users_given > 0 then
    perform setval('ubp.users_user_id_seq', greatest(highest + users_given, last_value)) from ubp.users_user_id_seq;
  end if;
  select greatest(max(i.item_id), 3999999999999999) into highest from ubp.items i;
  insert into ubp.items (item_id, item_key)
  select highest + row_number() over (order by k.place), k.key
    from unnest(item_keys) with ordinality k (key, place)
   where not exists (select from ubp.items i where i.tenant = 0 and i.item_key = k.key);
  get diagnostics given = row_count;
  if given > 0 then
    perform setval('ubp.items_item_id_seq', greatest(highest + given, last_value)) from ubp.items_item_id_seq;
  end if;
  return users_given + given;
end
$plpgsql$;
comment on function ubp.give_ids(text[], text[]) is 'Gives ids to keys of users and items that have none, without gaps and in the order given; returns how many.';
revoke all on function ubp.give_ids(text[], text[]) from public;
alter function ubp.give_ids(text[], text[]) owner to ubp_owner;
grant execute on function ubp.give_ids(text[], text[]) to ubp_loader;
