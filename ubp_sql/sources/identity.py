"""Who is who and what was loaded before: the source's row, its user and item ids, event keys, loaded files."""

from dataclasses import dataclass, replace

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ubp_sql.errors import MapError, UbpError
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.statements import INTEGER_KEY

Cursor = psycopg.Cursor[tuple[object, ...]]
_LOCK = "ubp.load:"

# Distinct keys as the file writes them (raw), as they are kept (key), where each first stands, and the id that
# ubp.users or ubp.items has.
_DISTINCT = """create temporary table {ids} as
select raw, btrim(raw) as key, ({is_integer}) as is_integer, line, null::bigint as id
from (select {column} as raw, min(ubp_line) as line from pg_temp.ubp_typed group by 1) d
where btrim(raw) <> ''"""
_CANONICAL = "update pg_temp.{ids} set key = split_part(key, '.', 1) where is_integer"
_RESOLVE = """update pg_temp.{ids} i set id = t.{id_column}
from ubp.{table} t where t.tenant = 0 and t.{key_column} = i.key and i.id is null"""
# In the order of first appearance, which does not depend on how a file is cut into parts.
_NEW = """coalesce((select array_agg(key order by line, key collate "C") from (
    select key, min(line) as line from pg_temp.{ids} where not is_integer and id is null group by key) n), '{{}}')"""
_GIVE = """select ubp.give_ids({users}, {items})
where exists (select from pg_temp.ubp_users_ids where not is_integer and id is null)
   or exists (select from pg_temp.ubp_items_ids where not is_integer and id is null)"""
# Sorted, so that two loads that name the same new keys wait for each other instead of in a circle.
_NUMBERS = """insert into ubp.{table} ({id_column}, {key_column})
select distinct key::bigint, key from pg_temp.{ids} where is_integer and id is null order by 1 on conflict do nothing"""
# A part without a usable row decides nothing.
_DECIDE = """update ubp.sources set {keys_column} = %s where source_id = %s
and exists (select from pg_temp.{ids})"""

# The first row of each key, if the key is new.
_FRESH = """with firsts as (
    select distinct on (event_key) event_key, ubp_line, ubp_ord from pg_temp.ubp_typed
    order by event_key, ubp_line, ubp_ord),
  added as (
    insert into ubp.event_keys (source_id, event_key, load_id) select %s, event_key, %s from firsts
    on conflict do nothing returning event_key)
insert into pg_temp.ubp_fresh select f.ubp_line, f.ubp_ord from firsts f join added using (event_key)"""
_DROP_KNOWN = """delete from pg_temp.ubp_typed t where not exists (
    select from pg_temp.ubp_fresh f where f.ubp_line = t.ubp_line and f.ubp_ord = t.ubp_ord)"""


@dataclass(frozen=True)
class Source:
    """A row of ubp.sources; the key modes are None until a load has seen a key."""

    source_id: int
    user_keys: str | None
    item_keys: str | None


def lock_source(cursor: Cursor, name: str, *, wait: bool, session: bool) -> bool:
    """Let one load at a time into a source. False where another has it (`wait` False).

    session  until `unlock_source`, over commits; else until the transaction ends
    """
    call = f"pg_{'' if wait else 'try_'}advisory_{'' if session else 'xact_'}lock"
    cursor.execute(sql.SQL("select {}(hashtextextended(%s, 0))").format(sql.Identifier(call)), (_LOCK + name,))
    row = cursor.fetchone()
    return wait or row == (True,)


def lock_part(cursor: Cursor, name: str) -> None:
    """Until the transaction ends: nobody else commits a part of this source.

    The lock of the source is not enough for what a second connection writes: where the loading process is killed, the
    first connection, which holds that lock, may end while the second still commits.
    """
    cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 1))", (_LOCK + name,))


def unlock_source(cursor: Cursor, name: str) -> None:
    cursor.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (_LOCK + name,))


def open_source(cursor: Cursor, load_map: LoadMap) -> Source:
    """The source's row, made at its first load. Raises MapError where the map contradicts what earlier loads fixed."""
    cursor.execute(
        "select source_id, time_zone, user_keys, item_keys from ubp.sources where name = %s", (load_map.source,)
    )
    found = cursor.fetchone()
    kept = Jsonb(load_map.model_dump(mode="json", exclude_defaults=True))
    if found is None:
        return Source(_new_source(cursor, load_map.source, load_map.time_zone, kept), None, None)
    source_id, zone, user_keys, item_keys = found
    if zone != load_map.time_zone:
        raise MapError(
            f"{load_map.where('time_zone')}: source {load_map.source} was loaded in {zone}, not {load_map.time_zone}",
            "hours and weekdays of one source are told in one zone: use the same, or another source name",
        )
    for field, stored in (("user_keys", user_keys), ("item_keys", item_keys)):
        wanted = getattr(load_map, field)
        if stored is not None and wanted not in ("auto", stored):
            raise MapError(
                f"{load_map.where(field)}: the first load of {load_map.source} made its keys {stored}, not {wanted}",
                "leave the field out, or use another source name",
            )
    cursor.execute("update ubp.sources set map = %s where source_id = %s", (kept, source_id))
    return Source(int(str(source_id)), _text(user_keys), _text(item_keys))


def _new_source(cursor: Cursor, name: str, zone: str, kept: Jsonb) -> int:
    """The number behind the highest: a sequence would leave one out where a load is killed, and a rerun differ."""
    cursor.execute("select pg_advisory_xact_lock(hashtextextended('ubp.sources', 0))")
    cursor.execute(
        "insert into ubp.sources (source_id, name, kind, time_zone, map) select max(source_id) + 1, %s, 'file', %s, %s"
        " from ubp.sources returning source_id",
        (name, zone, kept),
    )
    source_id = int(str(cursor.fetchall()[0][0]))
    cursor.execute(
        "select setval('ubp.sources_source_id_seq', greatest(last_value, %s)) from ubp.sources_source_id_seq",
        (source_id,),
    )
    return source_id


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def assign_ids(cursor: Cursor, source: Source, load_map: LoadMap) -> Source:
    """Fill the temporary tables ubp_users_ids and ubp_items_ids (raw, id) for the keys in ubp_typed.

    An integer key is its own id; every other key gets one in the order of first appearance. What the source's first
    keys were is kept in ubp.sources; the source as it is now is returned. An item key that is no integer in a source
    of integer ones is assigned an id as well: it cannot collide, and the row need not be refused.

    Raises MapError where a source of integer user keys has a key to which a source of text keys gave another id:
    which file came first must not decide what the ids of a source mean.
    """
    tables = {table: _names(table) for table in ("users", "items")}
    modes = {}
    for table, names in tables.items():
        cursor.execute(sql.SQL(_DISTINCT).format(**names))
        modes[table] = _mode(
            cursor, names, getattr(source, f"{table[:-1]}_keys"), getattr(load_map, f"{table[:-1]}_keys")
        )
        cursor.execute(sql.SQL(_CANONICAL).format(**names))
        cursor.execute(sql.SQL(_RESOLVE).format(**names))
    new = {table: sql.SQL(_NEW).format(**names) for table, names in tables.items()}
    # Before any row of the two tables is written: the lock that it takes is stronger than a writer's.
    cursor.execute(sql.SQL(_GIVE).format(**new))
    for table, names in tables.items():
        for template in (_NUMBERS, _RESOLVE):
            cursor.execute(sql.SQL(template).format(**names))
        cursor.execute(sql.SQL("select key from pg_temp.{ids} where id is null limit 1").format(**names))
        if missing := cursor.fetchone():
            raise UbpError(
                f"the id {missing[0]} of ubp.{table} belongs to another key", f"look at ubp.{table}; nothing was loaded"
            )
        if table == "users":
            _refuse_other_ids(cursor, source, load_map)
        mode = modes[table]
        if getattr(source, f"{table[:-1]}_keys") is None and mode is not None:
            cursor.execute(sql.SQL(_DECIDE).format(**names), (mode, source.source_id))
            if cursor.rowcount:
                source = replace(source, user_keys=mode) if table == "users" else replace(source, item_keys=mode)
        cursor.execute(sql.SQL("analyze pg_temp.{ids}").format(**names))
    return source


def drop_ids(cursor: Cursor) -> None:
    """Take the tables of `assign_ids` away."""
    cursor.execute("drop table pg_temp.ubp_users_ids, pg_temp.ubp_items_ids")


def _names(table: str) -> dict[str, sql.Composable]:
    one = table.removesuffix("s")
    return {
        "ids": sql.Identifier(f"ubp_{table}_ids"),
        "table": sql.Identifier(table),
        "column": sql.Identifier(f"{one}_key"),
        "key_column": sql.Identifier(f"{one}_key"),
        "id_column": sql.Identifier(f"{one}_id"),
        "keys_column": sql.Identifier(f"{one}_keys"),
        "is_integer": sql.SQL(INTEGER_KEY.format(key="raw")),
    }


def _mode(cursor: Cursor, names: dict[str, sql.Composable], stored: str | None, wanted: str) -> str | None:
    """integer or text: as the source has it, as the map wants it, or as all keys of this part are."""
    mode = stored or (wanted if wanted != "auto" else None)
    if mode is None:
        cursor.execute(sql.SQL("select bool_and(is_integer) from pg_temp.{ids}").format(**names))
        row = cursor.fetchone()
        mode = {True: "integer", False: "text"}.get(row[0]) if row else None  # type: ignore[call-overload]
    if mode == "text":
        cursor.execute(sql.SQL("update pg_temp.{ids} set is_integer = false where is_integer").format(**names))
    return mode


def _refuse_other_ids(cursor: Cursor, source: Source, load_map: LoadMap) -> None:
    cursor.execute(
        "select key, id from pg_temp.ubp_users_ids where is_integer and id <> key::bigint order by key::bigint limit 1"
    )
    if other := cursor.fetchone():
        way_out = "write `user_keys: text` in the map to share users by key text"
        if source.user_keys is not None:
            way_out += ", with another source name: this one's keys are integers"
        raise MapError(
            f"{load_map.where('user_keys')}: key {other[0]} of {load_map.source} would be user {other[0]}, but"
            f" another source, of text keys, made it user {other[1]}; nothing was loaded",
            way_out,
        )


def drop_known_keys(cursor: Cursor, source_id: int, load_id: int) -> int:
    """Record the keys of ubp_typed, delete the rows whose key was there or stands earlier in the file; how many."""
    cursor.execute("create temporary table ubp_fresh (ubp_line bigint, ubp_ord int)")
    cursor.execute(_FRESH, (source_id, load_id))
    cursor.execute("analyze pg_temp.ubp_fresh")
    cursor.execute(_DROP_KNOWN)
    known = cursor.rowcount
    cursor.execute("drop table pg_temp.ubp_fresh")
    return known
