"""Attributes of many users or items at once, out of a JSON list; what is known already is not written again."""

from typing import Any

from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput
from ubp_sql.features.windows import shown

MOST_CHARS = 128 << 20
# $1: the list; $2: valid_from where an object has none; $3: user_key or item_key.
LIST = """
with listed as (
  select r.place, r.row, btrim(r.row ->> $3) as key,
         coalesce((r.row ->> 'valid_from')::timestamptz, $2) as since,
         coalesce((r.row ->> 'ingested_at')::timestamptz, now()) as known
    from jsonb_array_elements($1) with ordinality as r (row, place)),
told as (
  select l.place, l.key, l.since, l.known, f.name, f.said, jsonb_typeof(f.said) as form,
         case jsonb_typeof(f.said) when 'string' then f.said #>> '{}' end as text
    from listed l cross join lateral jsonb_each(l.row) as f (name, said)
   where f.name not in ($3, 'valid_from', 'ingested_at') and f.said <> 'null'),
"""
# A number beyond double precision has no value here and is refused; a text of so few characters never is.
VALUES = """
given as (
  select t.place, t.key, t.since, t.known, t.name, t.said, t.form, t.text,
         case when t.form = 'boolean' then (t.said #>> '{}')::boolean::integer
              when t.form = 'number' and (abs((t.said #>> '{}')::numeric) between 5e-324 and 1.7976931348623157e308
                                          or (t.said #>> '{}')::numeric = 0) then (t.said #>> '{}')::double precision
              when length(t.text) <= 40
                and btrim(t.text) ~ '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,2})?$'
                then btrim(t.text)::double precision end as value
    from told t)"""
FORM = "select jsonb_typeof($1) as form"
NO_OBJECT = """
select r.place, left(r.row::text, 100) as said from jsonb_array_elements($1) with ordinality as r (row, place)
 where jsonb_typeof(r.row) <> 'object' limit 1"""
BAD = f"""{LIST} {VALUES},
judged as (
  select g.place, left(g.name, 100) as name, left(g.said::text, 100) as said, a.type, g.since,
         case when coalesce(g.key, '') = '' then 'no key'
              when octet_length(g.key) > 1000 then 'long key'
              when g.name !~ '^[a-z][a-z0-9_]{{0,62}}$' then 'name'
              when g.form in ('object', 'array') or (g.form = 'number' and g.value is null) then 'form'
              when length(g.text) > 2000 then 'long'
              when (a.type = 'number' and g.value is null) or (a.type = 'text' and g.text is null) then 'type'
              when g.since is null or ($3 = 'user_key' and not (g.since >= '1900-01-01 00:00+00'
                                                               and g.since < '2300-01-01 00:00+00'))
                then 'time' end as problem
    from given g left join ubp.attributes a on a.of || '_key' = $3 and a.name = g.name)
select j.place, j.name, j.said, j.type, j.since, j.problem from judged j where j.problem is not null
 order by j.place limit 1"""  # noqa: S608 - constants only
# Sorted, so that two that name the same new keys wait for each other instead of in a circle.
NEW_KEYS = f"""{LIST}
keys as (select distinct t.key from told t)
insert into ubp.users (user_key)
select k.key from keys k where ubp.resolve_member(k.key) is null order by k.key collate "C"
    on conflict (tenant, user_key) do nothing"""  # noqa: S608
# Of two values for one moment in one list the later one counts.
WANTED = f"""{LIST} {VALUES},
keys as materialized (select k.key, ubp.resolve_member(k.key) as id from (select distinct g.key from given g) k),
wanted as (
  select distinct on (k.id, g.name, g.since, g.known) k.id, g.name, g.since, g.known, g.value, g.text
    from given g join keys k using (key) order by k.id, g.name, g.since, g.known, g.place desc)"""  # noqa: S608
WRITE_USERS = f"""{WANTED}
insert into ubp.events (user_id, event_time, kind, value, attributes, ingested_at)
select w.id, w.since, 'attribute:' || w.name, w.value,
       case when w.text is not null then jsonb_build_object('text', w.text) end, w.known
  from wanted w
  left join lateral (
    select e.value, e.attributes ->> 'text' as text from ubp.events e
     where e.user_id = w.id and e.kind = 'attribute:' || w.name and e.event_time <= w.since
       and e.ingested_at <= w.known
     order by e.event_time desc, e.ingested_at desc, e.event_id desc limit 1) b on true
 where (b.value, b.text) is distinct from (w.value, w.text)
 order by w.id, w.since"""  # noqa: S608
WRITE_ITEMS = f"""{WANTED.replace("resolve_member", "resolve_item")}
insert into ubp.item_attributes as i (item_id, name, value, text, valid_from, ingested_at)
select w.id, w.name, w.value, w.text, w.since, w.known
  from wanted w
  left join lateral (
    select a.value, a.text from ubp.item_attributes a
     where a.item_id = w.id and a.name = w.name and a.valid_from <= w.since and a.ingested_at <= w.known
     order by a.valid_from desc, a.ingested_at desc limit 1) b on true
 where (b.value, b.text) is distinct from (w.value, w.text)
    on conflict (item_id, name, valid_from, ingested_at) do update set value = excluded.value, text = excluded.text
"""  # noqa: S608
NEW_ITEM_KEYS = (
    NEW_KEYS.replace("ubp.users", "ubp.items").replace("resolve_member", "resolve_item").replace("user_key", "item_key")
)
TYPES = ["jsonb", "timestamptz", "text"]
# What is wrong, and the way out.
PROBLEMS = {
    "no key": ("has no {key}", "every object has the key that the source knows it by"),
    "long key": ("has a key of more than 1000 bytes", "an index takes no more"),
    "name": ("has {name}, which is no name for an attribute", "lower-case letters, digits and _, at most 63"),
    "form": ("says {said} for {name}", "a number that double precision holds, a text, true or false, or null"),
    "long": ("has a text of more than 2000 characters for {name}", "at most 2000"),
    "type": ("says {said} for {name}, which is a {type}", "ubp.attributes says what each is"),
    "time": ("is of {since}", "a moment from 1900 to 2300, in valid_from"),
}


@entry
def set_user_attributes(plpy: Any, memory: dict[str, Any], listed: str | None, since: str | None) -> int:
    """Events of kind attribute:<name>; returns how many. New text keys become users."""
    arguments = _checked(plpy, memory, listed, since, "user_key")
    run(plpy, memory, NEW_KEYS, TYPES, arguments)
    return int(run(plpy, memory, WRITE_USERS, TYPES, arguments).nrows())


@entry
def set_item_attributes(plpy: Any, memory: dict[str, Any], listed: str | None, since: str | None) -> int:
    """Rows of ubp.item_attributes; returns how many. New text keys become items."""
    arguments = _checked(plpy, memory, listed, since, "item_key")
    run(plpy, memory, NEW_ITEM_KEYS, TYPES, arguments)
    return int(run(plpy, memory, WRITE_ITEMS, TYPES, arguments).nrows())


def _checked(plpy: Any, memory: dict[str, Any], listed: str | None, since: str | None, key: str) -> list[Any]:
    """The queries' arguments. Raises BadInput (UB003) on a list of which something cannot be used."""
    check_version(plpy, memory)
    if listed is None or since is None:
        raise BadInput("the attributes or the time is NULL", f'for example \'[{{"{key}": "17850", "price": 12.5}}]\'')
    if len(listed) > MOST_CHARS:
        raise BadInput(f"the list has {len(listed):,} characters", f"at most {MOST_CHARS:,}: make several of it")
    form = run(plpy, memory, FORM, ["jsonb"], [listed])[0]["form"]
    other = single(plpy, memory, NO_OBJECT, ["jsonb"], [listed]) if form == "array" else {"said": listed, "place": 1}
    if other is not None:
        raise BadInput(
            f"object {other['place']} is {shown(other['said'])}",
            f'a list of objects: \'[{{"{key}": "17850", "price": 12.5}}]\'',
        )
    arguments = [listed, since, key]
    bad = single(plpy, memory, BAD, TYPES, arguments)
    if bad is not None:
        message, hint = PROBLEMS[bad["problem"]]
        parts = {"key": key, "name": shown(bad["name"]), **{part: bad[part] for part in ("said", "type", "since")}}
        raise BadInput(f"object {bad['place']} {message.format(**parts)}", hint)
    return arguments
