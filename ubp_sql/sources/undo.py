"""Take a load back: exactly the rows that its parts wrote."""

from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ubp_sql.errors import BadInput, InstallError, NotReady, UbpError
from ubp_sql.sources.database import database_errors
from ubp_sql.sources.identity import lock_part, lock_source

_LOAD = """select s.name, l.source_id, l.file, l.rows_loaded - l.rows_anonymous, l.rows_anonymous,
  (select min(o.load_id) from ubp.loads o where o.continues = l.load_id),
  coalesce((select sum(p.rows_loaded) from ubp.load_parts p where p.load_id = l.load_id), 0)
from ubp.loads l join ubp.sources s using (source_id) where l.load_id = %s"""
_DELETE = """delete from ubp.events e using ubp.load_parts p
where p.load_id = %s and e.source = %s and e.event_id >= lower(p.ids) and e.event_id < upper(p.ids)"""
_DELETE_ANONYMOUS = """delete from ubp.anonymous_events e using ubp.load_parts p
where p.load_id = %s and e.source = %s
  and e.event_id >= lower(p.anonymous_ids) and e.event_id < upper(p.anonymous_ids)"""
_KEYS = "delete from ubp.event_keys where source_id = %s and load_id = %s"
_REST = "delete from ubp.{} where load_id = %s"


@dataclass(frozen=True)
class UndoResult:
    """What a load had written and what of it was there to delete; others may have deleted since."""

    load_id: int
    source: str
    file: str
    loaded: int
    deleted: int


def undo_load(conn: psycopg.Connection[tuple[object, ...]], load_id: int, *, dry_run: bool = False) -> UndoResult:
    """Delete the rows, rejected rows, keys and record of a load, in one transaction; users and items stay.

    Loads of a source run one after the other, so all events of the source between two ids of a part are its rows.

    Raises BadInput (UB003) where there is no such load or another goes on behind it, InstallError (UB011) without the
    right to delete, UbpError where more rows are there than the load wrote.
    """
    with database_errors(conn), conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_LOAD, (load_id,)).fetchone()
        if found is None:
            raise BadInput(f"there is no load {load_id}", "ubp.loads lists them")
        name, source_id, file = str(found[0]), int(str(found[1])), str(found[2])
        lock_source(cursor, name, wait=True, session=False)
        lock_part(cursor, name)
        # Anew: a load that ran until now may have gone on.
        _, _, _, users, anonymous, behind, in_parts = cursor.execute(_LOAD, (load_id,)).fetchone() or found
        loaded = int(str(users)) + int(str(anonymous))
        if behind is not None:
            raise BadInput(
                f"load {behind} went on behind the rows of load {load_id}; nothing was deleted",
                f"take that one back first: ubp-sql load --undo {behind}",
            )
        if int(str(in_parts)) != loaded:
            raise NotReady(
                f"load {load_id} is of a release that did not keep which rows a load wrote; nothing was deleted",
                "docs/load-map.md says how to take back a whole source",
            )
        cursor.execute("select has_table_privilege('ubp.events', 'delete')")
        if cursor.fetchone() != (True,):
            raise InstallError(
                f"role {conn.info.user} may not delete events; nothing was deleted",
                "as the owner of the tables, or: grant ubp_owner to it for the moment",
            )
        deleted = cursor.execute(_DELETE, (load_id, source_id)).rowcount
        deleted += cursor.execute(_DELETE_ANONYMOUS, (load_id, source_id)).rowcount
        if deleted > loaded:
            raise UbpError(
                f"{deleted} rows of {name} lie where load {load_id} wrote {loaded}; nothing was deleted",
                "somebody wrote rows of that source beside the loads: delete by hand",
            )
        cursor.execute(_KEYS, (source_id, load_id))
        for table in ("rejected_events", "load_parts", "loads"):
            cursor.execute(sql.SQL(_REST).format(sql.Identifier(table)), (load_id,))
        if dry_run:
            raise psycopg.Rollback()
    return UndoResult(load_id, name, file, loaded, deleted)
