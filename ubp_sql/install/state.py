"""What a database holds of ubp_sql at this moment, read from its catalogues."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row, scalar_row

from ubp_sql.errors import InstallError, VersionSkew
from ubp_sql.schema.roles import OWNER, READER, ROLES

Connection = psycopg.Connection[Any]
ROLE_MARK = "ubp_sql: "


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


def one(conn: Connection, query: str, *arguments: object) -> Any:
    """First column of the first row, or None."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, arguments or None).fetchone()  # type: ignore[arg-type]


def rows(conn: Connection, query: str, *arguments: object) -> list[dict[str, Any]]:
    """All rows as dictionaries."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, arguments or None).fetchall()  # type: ignore[arg-type]


def connect(dsn: str, application: str = "ubp-sql") -> Connection:
    """A connection in autocommit mode; libpq's own message on failure, as one line."""
    try:
        return psycopg.connect(dsn, autocommit=True, application_name=application)
    except psycopg.OperationalError as error:
        line = " ".join(str(error).split())
        raise InstallError(
            f"cannot connect: {line}", "give --dsn or the PG* variables; `ubp-sql embedded start` makes a private server"
        ) from None


# Objects inside schema ubp that neither of our roles owns: never replaced, never dropped, named instead.
FOREIGN = """
select kind || ' ' || name as object from (
  select 'function' as kind, p.oid::regprocedure::text as name, p.proowner as owner
    from pg_catalog.pg_proc p where p.pronamespace = 'ubp'::regnamespace
  union all
  select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass::text, c.relowner
    from pg_catalog.pg_class c where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
) o where pg_catalog.pg_get_userbyid(owner) <> all (%s) order by 1
"""


def inspect(conn: Connection) -> State:
    """Reads the catalogues; changes nothing and needs no right beyond connecting."""
    schema_owner = one(conn, "select nspowner::regrole::text from pg_namespace where nspname = 'ubp'")
    revision = package_version = None
    made: dict[str, Any] = {}
    foreign: tuple[str, ...] = ()
    if schema_owner is not None:
        foreign = tuple(row["object"] for row in rows(conn, FOREIGN, [OWNER, READER]))
        try:
            if one(conn, "select to_regclass('ubp.alembic_version')"):
                revision = one(conn, "select version_num from ubp.alembic_version")
            if one(conn, "select to_regclass('ubp.installation')"):
                for row in rows(conn, "select package_version, made from ubp.installation"):
                    package_version, made = row["package_version"], row["made"]
        except psycopg.errors.InsufficientPrivilege:
            raise InstallError(
                f"role {conn.info.user} may not read the installation", "connect as a superuser or a member of ubp_admin"
            ) from None
    return State(
        database=conn.info.dbname,
        server_version=conn.info.server_version,
        superuser=one(conn, "select rolsuper from pg_roles where rolname = current_user"),
        roles=tuple(row["rolname"] for row in rows(conn, "select rolname from pg_roles where rolname = any (%s)", list(ROLES))),
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
