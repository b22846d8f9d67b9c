"""From the typed rows of a part to ubp.events and ubp.anonymous_events."""

import psycopg
from psycopg import sql

from ubp_sql.sources.identity import Source, assign_ids, drop_ids, drop_known_keys
from ubp_sql.sources.load_map import LoadMap

Cursor = psycopg.Cursor[tuple[object, ...]]

# In the order of the file: events of the same time keep it, since ids ascend. By user would make the index 10 % cheaper
# and the order of such events an accident.
_PUBLISH = """insert into ubp.events
    (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
select u.id, t.event_time, t.kind, i.id, t.value, t.quantity, t.duration_s, t.attributes, {ingested}, {source}
from pg_temp.ubp_typed t join pg_temp.ubp_users_ids u on u.raw = t.user_key
left join pg_temp.ubp_items_ids i on i.raw = t.item_key order by t.ubp_line, t.ubp_ord"""
_ANONYMOUS = """insert into ubp.anonymous_events
    (event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
select t.event_time, t.kind, i.id, t.value, t.quantity, t.duration_s, t.attributes, {ingested}, {source}
from pg_temp.ubp_typed t left join pg_temp.ubp_items_ids i on i.raw = t.item_key
where t.user_key is null or btrim(t.user_key) = '' order by t.ubp_line, t.ubp_ord"""
_NEXT = "select last_value + is_called::int from ubp.{}"


def publish(
    cursor: Cursor, source: Source, load_map: LoadMap, load_id: int
) -> tuple[Source, int, int, int, list[int | None]]:
    """(the source, rows loaded, anonymous ones among them, rows that were there, ids from and until of both tables).

    One load at a time writes to a source: all of its events between the two ids are of this call.
    """
    already = drop_known_keys(cursor, source.source_id, load_id) if load_map.keys else 0
    source = assign_ids(cursor, source, load_map)
    ingested = "t.event_time" if load_map.ingested_at is None else "t.ingested_at"
    if load_map.ingested == "now":
        ingested = "now()"
    parts = {"ingested": sql.SQL(ingested), "source": sql.Literal(source.source_id)}
    loaded, begin, end = _insert(cursor, "events_event_id_seq", sql.SQL(_PUBLISH).format(**parts))
    ids: list[int | None] = [begin, end, None, None]
    anonymous = 0
    if load_map.anonymous == "keep":
        anonymous, *ids[2:] = _insert(cursor, "anonymous_events_event_id_seq", sql.SQL(_ANONYMOUS).format(**parts))
    else:
        ids[2:] = [0, 0]
    drop_ids(cursor)
    return source, loaded + anonymous, anonymous, already, ids


def _insert(cursor: Cursor, sequence: str, statement: sql.Composed) -> tuple[int, int, int]:
    """(rows, lowest id, behind the highest): others may have taken ids in between."""

    def following() -> int:
        return int(str(cursor.execute(sql.SQL(_NEXT).format(sql.Identifier(sequence))).fetchall()[0][0]))

    begin = following()
    cursor.execute(statement)
    return cursor.rowcount, begin, following()
