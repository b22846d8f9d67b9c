"""The server's Python as the server sees it: version, search path, what it imports; and the .pth file that mends it."""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from ubp_sql.embedded.account import Account
from ubp_sql.errors import InstallError
from ubp_sql.install.state import Connection, one

OLDEST_PYTHON = (3, 11)
MODULES = ("ubp_sql", "numpy", "numba")
PTH = "ubp_sql.pth"
PRIVATE = 0o077

# A DO block leaves nothing in the catalogues and runs on a standby too; plpy.info is sent whatever the client's level.
PROBE = """do language plpython3u $probe$
import importlib, json, os, pwd, site, sys
from pathlib import Path
found = {"version": list(sys.version_info[:3]), "folders": site.getsitepackages(), "uid": os.geteuid(),
         "gid": os.getegid(), "python_path": os.environ.get("PYTHONPATH"), "cache": None}
try:
    found["account"] = pwd.getpwuid(os.geteuid()).pw_name
except KeyError:
    found["account"] = str(os.geteuid())
try:
    from ubp_sql.api.session import numba_cache
    found["home"] = os.environ.get("UBP_SQL_CACHE_DIR") or str(Path.home() / ".cache" / "ubp_sql")
    numba_cache()
    found["cache"] = os.environ.get("NUMBA_CACHE_DIR")
except Exception:
    pass  # the import below says why
try:
    from ubp_sql.kernels import native
    found["native"] = all(map(native.entry, native.ENTRIES))
    found["native_path"], found["native_fault"] = native.library_path(), native.fault()
except Exception as error:
    found["native"], found["native_path"], found["native_fault"] = False, None, repr(error)
modules = found["modules"] = {}
for name in ("ubp_sql", "numpy", "numba"):
    try:
        module = importlib.import_module(name)
        folder = str(Path(module.__file__).parent.parent)
        modules[name] = {"version": getattr(module, "__version__", "?"), "folder": folder}
    except Exception as error:
        modules[name] = {"error": "%s: %s" % (type(error).__name__, error)}
plpy.info(json.dumps(found))
$probe$"""

# What an installation needs, at a tenth of the probe's time: numba is looked for, not imported.
CHECK = """do language plpython3u $check$
import importlib.util, json, os, pwd, sys
found = {"version": list(sys.version_info[:3]), "missing": None, "account": str(os.geteuid())}
try:
    found["account"] = pwd.getpwuid(os.geteuid()).pw_name
except KeyError:
    pass
try:
    from ubp_sql import api
    for name in ("numpy", "numba"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError("No module named %r" % name)
except Exception as error:
    found["missing"] = "%s: %s" % (type(error).__name__, error)
plpy.info(json.dumps(found))
$check$"""


@dataclass(frozen=True)
class ServerPython:
    """What the probe found.

    `cache` is None where Numba's cache folder, below `home`, cannot be used; `native`: the native library loads;
    `native_fault` why not.
    """

    version: tuple[int, ...]
    folders: tuple[str, ...]
    account: Account
    python_path: str | None
    cache: str | None
    home: str | None
    native: bool
    native_path: str | None
    native_fault: str
    modules: dict[str, dict[str, str]]

    @property
    def minor(self) -> str:
        """3.11"""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def failed(self) -> dict[str, str]:
        """Module to import error."""
        return {name: found["error"] for name, found in self.modules.items() if "error" in found}


def probe(conn: Connection, *, language: bool) -> ServerPython:
    """Asks the server's Python for everything that doctor tells."""
    found = _ask(conn, PROBE, language)
    return ServerPython(
        version=tuple(found["version"]),
        folders=tuple(found["folders"]),
        account=Account(found["account"], found["uid"], found["gid"]),
        python_path=found["python_path"],
        cache=found["cache"],
        home=found.get("home"),
        native=found["native"],
        native_path=found["native_path"],
        native_fault=found["native_fault"],
        modules=found["modules"],
    )


def require(conn: Connection, *, language: bool) -> None:
    """Refuses an installation whose functions could not run: InstallError (UB011) where the package is not visible."""
    found = _ask(conn, CHECK, language)
    python = f"the server's Python {'.'.join(map(str, found['version'][:2]))}"
    if tuple(found["version"]) < OLDEST_PYTHON:
        hint = "a server of Debian 12, Ubuntu 24.04 or newer has one; PL/Python cannot be given another Python"
        raise InstallError(f"{python} is too old: ubp_sql needs 3.11 or newer; nothing was changed", hint)
    if found["missing"]:
        folders = " and ".join(map(str, needed_folders()))
        raise InstallError(
            f"{python} (account {found['account']}) cannot import the package: {found['missing']}; nothing was changed",
            f"make {folders} visible to it: `ubp-sql doctor` says how, `ubp-sql doctor --fix` does it as root there",
        )


def _ask(conn: Connection, block: LiteralString, language: bool) -> dict[str, Any]:
    """What a DO block tells; leaves nothing behind, not even the language where it is not created yet.

    The connection must be a superuser's and in autocommit mode. Raises psycopg.Error.
    """
    heard: list[str] = []

    def listen(diagnostic: psycopg.errors.Diagnostic) -> None:
        heard.append(diagnostic.message_primary or "")

    conn.add_notice_handler(listen)
    try:
        with conn.transaction(force_rollback=True):
            if not language:
                conn.execute("create extension plpython3u")
            conn.execute(block)
    finally:
        conn.remove_notice_handler(listen)
    found: dict[str, Any] = next(json.loads(text) for text in heard if text.startswith("{"))
    return found


def on_this_machine(conn: Connection) -> bool:
    """Whether the server's processes are among ours: a socket or 127.0.0.1 may lead into a container or a tunnel."""
    pid = one(conn, "select pg_backend_pid()")
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return False
    return title.startswith("postgres") and f" {conn.info.user} {conn.info.dbname} " in title


def needed_folders() -> list[Path]:
    """The directories that hold this package and its libraries, as a .pth file names them."""
    found = []
    for name in MODULES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).parent.parent)
    return list(dict.fromkeys(found))


def unreadable(account: Account, folders: list[Path]) -> list[Path]:
    """Those of `folders` whose modules the server's account cannot read."""
    parts = [(folder, [folder / name for name in MODULES if (folder / name).is_dir()]) for folder in folders]
    return [f for f, inside in parts if not (account.can_enter(f) and all(map(account.can_read_tree, inside)))]


def reachable(account: Account, folder: Path) -> bool:
    """Whether the account can go to the nearest directory above `folder` that exists."""
    return account.can_enter(next(parent for parent in folder.absolute().parents if parent.exists()))


def pth_file(server: ServerPython) -> Path:
    """Where a .pth file reaches the server's Python; only root writes there, so no database user chooses the code."""
    return Path(server.folders[0]) / PTH


def write_pth(path: Path, folders: list[Path]) -> None:
    """Names `folders`, one a line; appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{folder}\n" for folder in folders)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(path)


def make_cache(server: ServerPython) -> None:
    """A private folder for the server's account; directories made above it are root's, open to go through."""
    folder = Path(str(server.home))
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)
    folder.mkdir(mode=0o700, exist_ok=True)
    for each in (folder, *folder.glob("numba-*")):
        if not each.is_symlink():
            os.chown(each, server.account.uid, server.account.gid)
            each.chmod(each.stat().st_mode & ~PRIVATE)
