"""What a database holds of ubp_sql at this moment, read from its catalogues."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row, scalar_row

from ubp_sql.errors import InstallError, VersionSkew
from ubp_sql.schema.roles import LISTENER, OWNER, READER, ROLES

Connection = psycopg.Connection[Any]
ROLE_MARK = "ubp_sql: "
SCHEMA_COMMENT = "ubp_sql: behaviour features and predictions"
# In the schema's comment after a downgrade to base: what init made outside the schema, as JSON.
MADE = "; made: "


@dataclass(frozen=True)
class State:
    """Findings of `inspect`; `revision` and `package_version` are None where nothing is installed."""

    database: str
    server_version: int
    superuser: bool
    roles: tuple[str, ...]
    language: bool
    language_available: bool
    schema_owner: str | None
    revision: str | None
    package_version: str | None
    made: dict[str, Any]
    foreign: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return self.revision is not None

    @property
    def left_over(self) -> str:
        """What a downgrade to base left, for people; empty where there is an installation or never was one."""
        if self.installed or self.schema_owner != OWNER:
            return ""
        language = ["language plpython3u"] if self.made.get("extension") else []
        path = ["search_path of the database"] if self.made.get("search_path") else []
        return ", ".join(["schema ubp", *path, *language, f"roles {' '.join(self.roles)}"])


def one(conn: Connection, query: str, *arguments: object) -> Any:
    """First column of the first row, or None."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, arguments or None).fetchone()


def rows(conn: Connection, query: str, *arguments: object) -> list[dict[str, Any]]:
    """All rows as dictionaries."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, arguments or None).fetchall()


SEARCH_PATH = """
select substr(setting, length('search_path=') + 1) from pg_db_role_setting, unnest(setconfig) as setting
 where setdatabase = (select oid from pg_database where datname = current_database()) and setrole = 0
   and setting like 'search_path=%'"""


def database_search_path(conn: Connection) -> str:
    """The search_path that the database sets for its sessions; empty where it sets none."""
    return one(conn, SEARCH_PATH) or ""


@contextmanager
def catalogue_path(conn: Connection) -> Iterator[None]:
    """Inside, names are those of pg_catalog: a superuser must not run what lies in a schema of the search_path."""
    with conn.transaction():
        conn.execute("set local search_path = pg_catalog, pg_temp")
        yield


def connect(dsn: str, application: str = "ubp-sql") -> Connection:
    """A connection in autocommit mode; libpq's own message on failure, as one line."""
    try:
        return psycopg.connect(dsn, autocommit=True, application_name=application)
    except psycopg.OperationalError as error:
        line = " ".join(str(error).split())
        raise InstallError(
            f"cannot connect: {line}",
            "give --dsn or the PG* variables; `ubp-sql embedded start` makes a private server",
        ) from None


# Objects inside schema ubp that neither of our roles owns: never replaced, never dropped, named instead.
FOREIGN = """
select pg_describe_object(d.classid, d.objid, d.objsubid) as object
  from pg_depend d
  left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
  left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
  left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
 where d.refclassid = 'pg_namespace'::regclass and d.refobjid = 'ubp'::regnamespace
   and coalesce(pg_get_userbyid(coalesce(c.relowner, p.proowner, t.typowner)), '') <> all (%s)
 order by 1"""
PRESENT_ROLES = "select rolname from pg_roles where rolname = any (%s)"


def inspect(conn: Connection) -> State:
    """Reads the catalogues; changes nothing and needs no right beyond connecting."""
    with catalogue_path(conn):
        return _inspect(conn)


def _inspect(conn: Connection) -> State:
    schema_owner = one(conn, "select nspowner::regrole::text from pg_namespace where nspname = 'ubp'")
    revision = package_version = None
    made: dict[str, Any] = {}
    foreign: tuple[str, ...] = ()
    if schema_owner is not None:
        foreign = tuple(row["object"] for row in rows(conn, FOREIGN, [OWNER, READER, LISTENER]))
        comment = one(conn, "select obj_description('ubp'::regnamespace, 'pg_namespace')") or ""
        if MADE in comment:
            made = json.loads(comment.partition(MADE)[2])
        try:
            if one(conn, "select to_regclass('ubp.alembic_version')"):
                revision = one(conn, "select version_num from ubp.alembic_version")
            if one(conn, "select to_regclass('ubp.installation')"):
                for row in rows(conn, "select package_version, made from ubp.installation"):
                    package_version, made = row["package_version"], row["made"]
        except psycopg.errors.InsufficientPrivilege:
            hint = "connect as a superuser or a member of ubp_loader, ubp_analyst, ubp_auditor or ubp_admin"
            raise InstallError(f"role {conn.info.user} may not read the installation", hint) from None
    return State(
        database=conn.info.dbname,
        server_version=conn.info.server_version,
        superuser=one(conn, "select rolsuper from pg_roles where rolname = current_user"),
        roles=tuple(row["rolname"] for row in rows(conn, PRESENT_ROLES, list(ROLES))),
        language=one(conn, "select count(*) from pg_language where lanname = 'plpython3u'") == 1,
        language_available=one(conn, "select count(*) from pg_available_extensions where name = 'plpython3u'") == 1,
        schema_owner=schema_owner,
        revision=revision,
        package_version=package_version,
        made=made,
        foreign=foreign,
    )


def version_tuple(version: str) -> tuple[int, ...]:
    """Order of versions: 0.10.0 is newer than 0.9.1."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def refuse_newer_database(state: State, package: str) -> None:
    """A package must not touch a schema that a newer one made."""
    if state.package_version and version_tuple(state.package_version) > version_tuple(package):
        raise VersionSkew(
            f"this package is {package}, the database was installed by {state.package_version}",
            f"install ubp_sql {state.package_version} or newer, here and on the server",
        )
