"""The session around a load: settings that make expressions mean the same everywhere, errors in plain words."""

import contextlib
import re
from collections.abc import Iterator

import psycopg

from ubp_sql.errors import InstallError, MapError, NotReady, UbpError
from ubp_sql.sources.load_map import LoadMap

# An expression means the same in every session: names are looked up in the catalogue only, 01/02/2011 is refused
# rather than guessed (write to_timestamp(x, 'DD/MM/YYYY')), a text without an offset is in the map's zone.
_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "jit": "off",  # compiling costs more than these one-off statements gain
}
WORK_MEM = "64MB"  # sort and hash tables of half a million rows; never lowers what the server gives


@contextlib.contextmanager
def session_settings(cursor: psycopg.Cursor[tuple[object, ...]], load_map: LoadMap, restore: bool) -> Iterator[None]:
    """Set for the transaction what expressions depend on. `restore`: put it back, as the transaction goes on after."""
    wanted = dict(_SETTINGS)
    cursor.execute("select name, setting from pg_settings where name = any(%s)", ([*wanted, "TimeZone", "work_mem"],))
    before = {str(name): str(value) for name, value in cursor.fetchall()}
    for name, value in wanted.items():
        cursor.execute("select set_config(%s, %s, true)", (name, value))
    cursor.execute(
        "select set_config('work_mem', %s, true) where pg_size_bytes(current_setting('work_mem')) < pg_size_bytes(%s)",
        (WORK_MEM, WORK_MEM),
    )
    try:
        with cursor.connection.transaction():
            cursor.execute("select set_config('TimeZone', %s, true)", (load_map.time_zone,))
    except psycopg.DataError as error:
        raise MapError(
            f"{load_map.where('time_zone')}: the server knows no time zone {load_map.time_zone!r}",
            "write a name of pg_timezone_names, like Europe/London or UTC",
        ) from error
    yield
    if restore:
        for name, value in before.items():
            cursor.execute("select set_config(%s, %s, true)", (name, value))


@contextlib.contextmanager
def database_errors(conn: psycopg.Connection[tuple[object, ...]]) -> Iterator[None]:
    """Turn what the database says into an UbpError with a way out."""
    role = conn.info.user if not conn.closed else ""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        message = error.diag.message_primary or str(error)
        grant = f'grant ubp_loader to "{role}"'
        if "temporary" in message:
            grant = f'grant temporary on database "{conn.info.dbname}" to "{role}"'
        raise InstallError(
            f"role {role} lacks a right: {message}; nothing was loaded", f"as an administrator: {grant}"
        ) from error
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        if not re.search(r"\bubp\b", error.diag.message_primary or ""):  # what a function of the map's misses
            raise _broken_off(error) from error
        raise NotReady(
            f"this database has no complete ubp schema: {error.diag.message_primary}", "run `ubp-sql init` on it"
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise UbpError("this server is read-only; nothing was loaded", "load on the primary") from error
    except psycopg.Error as error:
        raise _broken_off(error) from error


def _broken_off(error: psycopg.Error) -> UbpError:
    first_line = (error.diag.message_primary or str(error)).partition("\n")[0]
    code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    return UbpError(
        f"the database broke off the load: {first_line}{code}", "nothing was loaded; mend the cause and run it again"
    )
