"""`ubp-sql doctor`: what an installation needs, in plain words, each with the one thing that mends it."""

import ctypes
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

import ubp_sql
from ubp_sql.errors import UbpError
from ubp_sql.install import commands, native, server_python, steps
from ubp_sql.install.server_python import OLDEST_PYTHON, ServerPython
from ubp_sql.install.state import Connection, State, connect, inspect, one, rows
from ubp_sql.schema.roles import MAY, ROLES

CLIENT_MODULES = ("numpy", "numba", "psycopg", "sqlalchemy", "alembic")
OLDEST_SERVER = 140000
CLIENT_PYTHON = sys.version_info[:2]
APT_PATIENCE = 600  # seconds
VENV = "/opt/ubp_sql"
CACHE = "/var/cache/ubp_sql"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `way_out` is what mends it, empty where nothing is wrong or nothing can be done."""

    name: str
    ok: bool
    text: str
    way_out: str = ""


def examine(dsn: str, *, fix: bool) -> list[Finding]:
    """All findings in the order looked at; never raises for what is wrong with client, server or database.

    `fix` does what can be done from here and says so. What an earlier finding makes pointless is named, not looked at.
    """
    findings = [*_guarded("client libraries", _client), *_guarded("libgomp", lambda: _libgomp(fix))]
    try:
        conn = connect(dsn)
    except UbpError as error:
        findings.append(Finding("connection", False, error.message, error.hint or ""))
        findings.append(Finding("the rest", False, "server, database and rights: not looked at without a connection"))
        return findings
    with conn:
        return findings + list(_Server(conn, dsn, fix).findings())


def build_library(conn: Connection, dsn: str) -> Finding | None:
    """Builds the native library where it is not there; None where only the server's machine could."""
    server = _Server(conn, dsn, fix=True)
    if not (server.superuser and server.local):
        return None

    def look() -> Iterator[Finding]:
        yield from server._native(server_python.probe(conn, language=True))

    return next(_guarded("native library", look))


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a look cannot cope with is a finding too."""
    try:
        yield from look()
    except UbpError as error:
        yield Finding(name, False, error.message, error.hint or "")
    except (psycopg.Error, OSError, subprocess.SubprocessError) as error:
        yield Finding(name, False, f"could not be looked at: {' '.join(str(error).split())}")


def _client() -> Iterator[Finding]:
    versions, broken = [], []
    for name in CLIENT_MODULES:
        try:
            versions.append(f"{name} {getattr(importlib.import_module(name), '__version__', '?')}")
        except Exception as error:  # an import may fail in any way: a missing file, another CPU, another NumPy
            broken.append(f"{name} ({type(error).__name__}: {error})")
    python = f"Python {platform.python_version()}"
    if broken:
        way = f"{sys.executable} -m pip install --force-reinstall ubp_sql"
        yield Finding("client libraries", False, f"this client's {python} cannot import {', '.join(broken)}", way)
    else:
        yield Finding(
            "client libraries", True, f"this client: ubp_sql {ubp_sql.__version__}, {python}, {', '.join(versions)}"
        )


def _libgomp(fix: bool) -> Iterator[Finding]:
    if find_spec("lightgbm") is None:
        yield Finding(
            "libgomp", True, "LightGBM is not on this client: needed only to train (pip install 'ubp_sql[train]')"
        )
        return
    did = ""
    if not _loads("libgomp.so.1") and fix and os.geteuid() == 0 and _apt("libgomp1"):
        did = "; mended: installed libgomp1"
    if _loads("libgomp.so.1"):
        yield Finding("libgomp", True, f"LightGBM's libgomp is there{did}")
    else:
        yield Finding(
            "libgomp", False, "LightGBM cannot train: the system library libgomp is missing", "apt-get install libgomp1"
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _apt(package: str) -> bool:
    """Installs a Debian package; whether it did."""
    argv = ["apt-get", "install", "-y", "--no-install-recommends", package]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        return (
            subprocess.run(argv, env=environment, capture_output=True, timeout=APT_PATIENCE, check=False).returncode
            == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False


class _Server:
    """The looks that need a connection, and what they learn on the way."""

    def __init__(self, conn: Connection, dsn: str, fix: bool) -> None:
        self.conn, self.dsn, self.fix = conn, dsn, fix
        self.superuser = bool(one(conn, "select rolsuper from pg_roles where rolname = current_user"))
        self.local = server_python.on_this_machine(conn)
        self.as_root = self.local and os.geteuid() == 0
        self.major = conn.info.server_version // 10000
        self.state: State | None = None

    def findings(self) -> Iterator[Finding]:
        where = "on this machine" if self.local else "on another machine or in a container"
        version = f"{self.major}.{self.conn.info.server_version % 10000}"
        yield Finding("connection", True, f"connected to {self.conn.info.dbname}: PostgreSQL {version}, {where}")
        if self.conn.info.server_version < OLDEST_SERVER:
            yield Finding("server version", False, f"PostgreSQL {version} is too old", "use PostgreSQL 14 or newer")
            yield Finding("the rest", False, "language, package and installation: not looked at on a server this old")
            return
        yield from _guarded("encoding", self._encoding)
        language = list(_guarded("language", self._language))
        yield from language
        if all(finding.ok for finding in language):
            yield from _guarded("server's Python", self._python)
        else:
            yield Finding("server's Python", False, "not looked at: there is no PL/Python to ask")
        yield from _guarded("rights", self._rights)
        yield from _guarded("installation", self._installation)
        if self.state is not None and self.state.installed:
            yield from _guarded("search_path", self._search_path)

    def _encoding(self) -> Iterator[Finding]:
        encoding = one(self.conn, "show server_encoding")
        if encoding == "UTF8":
            yield Finding("encoding", True, "the database is in UTF8")
        else:
            way = "create database NAME template template0 encoding 'UTF8', and install there"
            yield Finding("encoding", False, f"the database is in {encoding}: keys and names of events need UTF8", way)

    def _language(self) -> Iterator[Finding]:
        package, did = f"postgresql-plpython3-{self.major}", ""
        if not self._available() and self.fix and self.as_root and _apt(package):
            did = f"; mended: installed {package}"
        if not self._available():
            way = f"on the server's machine: apt-get install {package}"
            yield Finding("language", False, "the server has no PL/Python (language plpython3u)", way)
        elif self._created():
            yield Finding("language", True, f"PL/Python is there and created in this database{did}")
        else:
            yield Finding(
                "language", True, f"PL/Python is on the server; `ubp-sql init` creates it in this database{did}"
            )

    def _available(self) -> bool:
        return bool(one(self.conn, "select count(*) from pg_available_extensions where name = 'plpython3u'"))

    def _created(self) -> bool:
        return bool(one(self.conn, "select count(*) from pg_language where lanname = 'plpython3u'"))

    def _python(self) -> Iterator[Finding]:
        name = "server's Python"
        if not self.superuser:
            yield from self._python_from_outside()
            return
        server = server_python.probe(self.conn, language=self._created())
        if server.version < OLDEST_PYTHON:
            way = "a server of Debian 12, Ubuntu 24.04 or newer has one; PL/Python cannot be given another Python"
            yield Finding(name, False, f"PL/Python here is Python {server.minor}: ubp_sql needs 3.11 or newer", way)
            return
        did = ""
        if server.failed and self.fix:
            server, did = self._mend_python(server)
        if server.failed:
            errors = "; ".join(f"{module}: {error}" for module, error in server.failed.items())
            text = f"the server's Python {server.minor} (account {server.account.name}) cannot import {errors}{did}"
            yield Finding(name, False, text, self._way_to_import(server))
            return
        found = ", ".join(f"{key} {part['version']} from {part['folder']}" for key, part in server.modules.items())
        path = f"; PYTHONPATH of the server: {server.python_path}" if server.python_path else ""
        yield Finding(name, True, f"the server's Python {'.'.join(map(str, server.version))}: {found}{path}{did}")
        yield from self._same_version(server.modules["ubp_sql"]["version"])
        yield from _guarded("cache", lambda: self._cache(server))
        yield from _guarded("native library", lambda: self._native(server))

    def _python_from_outside(self) -> Iterator[Finding]:
        """Without a superuser only our own functions can be asked."""
        name = "server's Python"
        try:
            version = one(self.conn, "select ubp.version()")
        except (
            psycopg.errors.UndefinedFunction,
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.InsufficientPrivilege,
        ):
            yield Finding(name, True, "the server's Python: not looked at: needs a superuser")
        except psycopg.Error as error:
            way = error.diag.message_hint or "run `ubp-sql doctor` as a superuser: it can look into the server's Python"
            yield Finding(name, False, f"ubp.version() fails: {error.diag.message_primary or error}", way)
        else:
            yield Finding(name, True, f"the server's Python imports ubp_sql {version}")
            yield Finding(
                "cache and native library", True, "cache and native library: not looked at: needs a superuser"
            )
            yield from self._same_version(version)

    def _mend_python(self, server: ServerPython) -> tuple[ServerPython, str]:
        """Writes the .pth file and asks again in a new session; what was done, or why not."""
        if not self.as_root:
            return server, "; --fix can mend it only as root on the server's machine"
        if server.version[:2] != CLIENT_PYTHON:
            return server, ""
        folders = server_python.needed_folders()
        if server_python.unreadable(server.account, folders):
            return server, ""
        path = server_python.pth_file(server)
        server_python.write_pth(path, folders)
        with connect(self.dsn) as fresh:
            again = server_python.probe(fresh, language=self._created())
        names = " and ".join(map(str, folders))
        return again, f"; {'tried' if again.failed else 'mended'}: wrote {path}, which names {names}"

    def _way_to_import(self, server: ServerPython) -> str:
        """The one line that makes the package importable."""
        path = server_python.pth_file(server)
        folders = server_python.needed_folders()
        if server.version[:2] == CLIENT_PYTHON and self.local:
            closed = server_python.unreadable(server.account, folders) if self.as_root else []
            if not closed:
                names = " ".join(f"'{folder}'" for folder in folders)
                return f"as root: printf '%s\\n' {names} > {path}    (or `ubp-sql doctor --fix` as root)"
            reason = f"account {server.account.name} cannot read {' and '.join(map(str, closed))}; "
        elif self.local:
            reason = f"this client's Python is {CLIENT_PYTHON[0]}.{CLIENT_PYTHON[1]}, the server's {server.minor}; "
        else:
            reason = "on the server's machine, "
        site = f"{VENV}/lib/python{server.minor}/site-packages"
        make = f"python{server.minor} -m venv {VENV} && {VENV}/bin/pip install ubp_sql=={ubp_sql.__version__}"
        return f"{reason}as root: {make} && echo {site} > {path}"

    def _same_version(self, version: str) -> Iterator[Finding]:
        if version == ubp_sql.__version__:
            yield Finding("package versions", True, f"client and server both have ubp_sql {version}")
        else:
            text = f"the server has ubp_sql {version}, this client {ubp_sql.__version__}"
            yield Finding("package versions", False, text, "install the newer one on the other side, then reconnect")

    def _cache(self, server: ServerPython) -> Iterator[Finding]:
        folder, account = server.home, server.account.name
        did = ""
        # HOME of the server may lie where its account cannot go; rights on a folder below would not help.
        usable = folder is not None and (not self.as_root or server_python.reachable(server.account, Path(folder)))
        if server.cache is None and self.fix and self.as_root and usable:
            server_python.make_cache(server)
            with connect(self.dsn) as fresh:
                server = server_python.probe(fresh, language=self._created())
            did = f"; {'tried' if server.cache is None else 'mended'}: gave {folder} to {account}"
        if server.cache is not None:
            yield Finding("cache", True, f"compiled kernels are kept in {server.cache}{did}")
        elif did or not usable:
            text = f"kernels are compiled anew in each session: {account} cannot use {folder}{did}"
            way = f"as root: install -d -m 700 -o {account} {CACHE}; then UBP_SQL_CACHE_DIR={CACHE} into the server's"
            yield Finding(
                "cache", False, text, f"{way} environment (Debian: {self._environment_file()}) and restart it"
            )
        else:
            text = f"kernels are compiled anew in each session: {folder} is not a private folder of {account}"
            yield Finding("cache", False, text, f"as root: install -d -m 700 -o {account} {folder}")

    def _environment_file(self) -> str:
        """Where Debian's pg_ctlcluster reads the server's variables from: beside its configuration."""
        return str(Path(one(self.conn, "show config_file")).with_name("environment"))

    def _native(self, server: ServerPython) -> Iterator[Finding]:
        name, did = "native library", ""
        if not server.native and self.fix and self.local and server.native_path:
            did = f"; mended: built {native.build(Path(server.native_path).parent, anew=True)}"
            with connect(self.dsn) as fresh:
                server = server_python.probe(fresh, language=self._created())
        if server.native:
            yield Finding(name, True, f"the native library loads{did}")
        else:
            what = "scores, live features, refreshes and training sets take longer, with the same results"
            way = "on the server's machine, as root or who installed the package: ubp-sql doctor --fix"
            yield Finding(name, False, f"{what}: {server.native_fault}", way)

    def _rights(self) -> Iterator[Finding]:
        user = one(self.conn, "select current_user")
        if self.superuser:
            yield Finding("rights", True, f"{user} is a superuser: may install, upgrade and remove")
            return
        member = [row["role"] for row in rows(self.conn, MEMBER, list(ROLES))]
        if member:
            shown = ["ubp_admin"] if "ubp_admin" in member else member
            may = "; ".join(f"{role}: may {MAY[role]}" for role in shown if role in MAY)
            text = f"{user} is a member of {may or ', '.join(shown)}"
            yield Finding("rights", True, f"{text}; to install and upgrade needs a superuser")
        else:
            way = f"as a superuser: grant ubp_analyst to {user}; to install: `ubp-sql migrate sql` writes scripts"
            yield Finding("rights", False, f"{user} is neither a superuser nor a member of a role of ubp_sql", way)

    def _installation(self) -> Iterator[Finding]:
        name, package = "installation", ubp_sql.__version__
        self.state = state = inspect(self.conn)
        if not state.installed:
            if state.schema_owner is not None:
                steps.check(state)
            text = f"ubp_sql is not installed in database {state.database}"
            if state.left_over:
                text += f"; still there from a downgrade to base: {state.left_over} (`ubp-sql uninstall` removes them)"
            yield Finding(name, False, text, "`ubp-sql init` installs it; `ubp-sql migrate plan` shows the SQL first")
            return
        pending = [step.title for step in steps.plan(state)]
        did = ""
        if pending and self.fix and state.superuser:
            did = f"; mended: `migrate apply` ran {len(commands.apply(self.conn))} steps"
            self.state = state = inspect(self.conn)
            pending = [step.title for step in steps.plan(state)]
        text = f"the database is at revision {state.revision}, functions of ubp_sql {state.package_version}"
        if pending:
            way = "as a superuser: ubp-sql migrate apply"
            yield Finding(name, False, f"{text}; this package {package} has steps waiting: {', '.join(pending)}", way)
        else:
            yield Finding(name, True, f"{text}, as this package has them{did}")

    def _search_path(self) -> Iterator[Finding]:
        name, did = "search_path", ""
        wanted = bool(self.state and self.state.made.get("search_path"))
        if not self._in_path() and wanted and self.fix and self.superuser:
            done = commands.ensure_search_path(self.conn)
            did = f"; mended: {done[0].sql.splitlines()[0]}" if done else ""
        present = one(self.conn, "show search_path")
        if self._in_path() or did:
            yield Finding(name, True, f"names work without the prefix ubp.{did}")
        elif wanted:
            database = sql.Identifier(self.conn.info.dbname).as_string(None)
            user = sql.Identifier(self.conn.info.user).as_string(None)
            text = f"init added ubp to the database's search_path, but this session has {present}"
            way = f"alter database {database} set search_path = {present}, ubp (a role's own: alter role {user} ...)"
            yield Finding(name, False, text, way)
        else:
            yield Finding(name, True, f"ubp is not in search_path ({present}): write the prefix ubp.")

    def _in_path(self) -> bool:
        return bool(one(self.conn, "select 'ubp' = any (current_schemas(false))"))


MEMBER = "select rolname as role from pg_roles where rolname = any (%s) and pg_has_role(oid, 'member') order by rolname"
