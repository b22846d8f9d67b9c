-- What is installed, and who a key text means.

-- ubp.version: the version that answers.
-- Errors: UB009 this session holds older code · UB010 package and database differ
create or replace function ubp.version()
returns text
language plpython3u stable parallel unsafe cost 100 security definer
set search_path = pg_catalog, pg_temp
as $python$
from ubp_sql import api
return api.version(plpy, SD)
$python$;
comment on function ubp.version() is 'Version of ubp_sql on the server; an error when the database was installed by another one.';
revoke all on function ubp.version() from public;
alter function ubp.version() owner to ubp_reader;
grant execute on function ubp.version() to ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.resolve_member: the id that a key text has by itself, NULL when nobody has it. Reads a key as loads do: spaces
-- around it do not count, and 17850.0 is 17850 unless a source of text keys has it as it stands. A number of 4e15 or more,
-- which attached tables may have, is an id too, unless ubp.users gave it to another key. What is written about a
-- user is written with this id, so that it stays his where a link is undone.
create or replace function ubp.resolve_member(user_key text)
returns bigint
language sql stable parallel unsafe security definer cost 10
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(
    (select u.user_id from ubp.users u where u.user_key = btrim(resolve_member.user_key) and u.tenant = 0),
    case when btrim(resolve_member.user_key) !~ '^(0|[1-9][0-9]{0,18})(\.0+)?$' then null
         when split_part(btrim(resolve_member.user_key), '.', 1)::numeric < 4000000000000000 then coalesce(
           (select u.user_id from ubp.users u
             where u.user_key = split_part(btrim(resolve_member.user_key), '.', 1) and u.tenant = 0),
           split_part(btrim(resolve_member.user_key), '.', 1)::bigint)
         when split_part(btrim(resolve_member.user_key), '.', 1)::numeric <= 9223372036854775807 then (
           select n.id from (select split_part(btrim(resolve_member.user_key), '.', 1)::bigint as id) n
            where not exists (select from ubp.users u where u.user_id = n.id)) end);
end;
comment on function ubp.resolve_member(text) is 'The id that a key text has by itself, linked or not: the one a load recorded, else the number itself; NULL when neither.';
revoke all on function ubp.resolve_member(text) from public;
alter function ubp.resolve_member(text) owner to ubp_reader;
grant execute on function ubp.resolve_member(text) to ubp_owner, ubp_analyst, ubp_auditor, ubp_loader;

-- ubp.resolve_user: whose a key is: as resolve_member, and of a key that ubp.link_users linked the user whose it became.
-- OFFSET keeps the planner from writing the call in place of each of its uses.
create or replace function ubp.resolve_user(user_key text)
returns bigint
language sql stable parallel unsafe security definer cost 10
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(m.user_id, k.user_id)
    from (select ubp.resolve_member(resolve_user.user_key) as user_id offset 0) k
    left join ubp.user_members m on m.member_id = k.user_id;
end;
comment on function ubp.resolve_user(text) is 'user_id of a key text: that of the user it was linked to, else the one a load recorded, else the number itself; NULL when none.';
revoke all on function ubp.resolve_user(text) from public;
alter function ubp.resolve_user(text) owner to ubp_reader;
grant execute on function ubp.resolve_user(text) to ubp_analyst, ubp_auditor, ubp_loader;
