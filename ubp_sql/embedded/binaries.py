"""Finds the PostgreSQL programs whose PL/Python can load the packages of this interpreter."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ubp_sql.errors import ClusterError

PROGRAMS = ("postgres", "initdb", "pg_ctl", "psql")
OVERRIDE = "UBP_SQL_PG_BINDIR"
"""Environment variable that names the directory to use, for servers in unusual places."""


@dataclass(frozen=True)
class Binaries:
    """One installed server: where its programs are, its version and the Python its PL/Python links."""

    bindir: Path
    version: str
    major: str
    python: str | None

    def program(self, name: str) -> str:
        return str(self.bindir / name)


def this_python() -> str:
    """Major and minor of the running interpreter, '3.11'."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def find_binaries(major: str | None = None) -> Binaries:
    """The first server that has PL/Python for this interpreter's minor version, of `major` where one is given.

    Order: $UBP_SQL_PG_BINDIR, `pg_config --bindir`, the distribution's versioned directories (newest first), PATH.
    Raises ClusterError (UB013) saying what to install when there is none.
    """
    found = list(_installed())
    fitting = [server for server in found if server.python == this_python()]
    for server in fitting:
        if major is None or server.major == major:
            return server
    if fitting and major is not None:
        raise ClusterError(
            f"the cluster's data was made by PostgreSQL {major}, installed here: "
            + ", ".join(sorted({server.major for server in fitting})),
            hint=f"install postgresql-{major} and postgresql-plpython3-{major}, or remove the cluster directory",
        )
    other = sorted({server.python for server in found if server.python})
    if other:
        raise ClusterError(
            f"PL/Python on this machine links Python {' and '.join(other)}, but this is Python {this_python()}",
            hint=f"install ubp_sql for it: /usr/bin/python{other[-1]} -m venv .venv && .venv/bin/pip install ubp_sql",
        )
    if found:
        raise ClusterError(
            f"PostgreSQL {found[0].version} in {found[0].bindir} has no PL/Python",
            hint=f"sudo apt-get install postgresql-plpython3-{found[0].major}",
        )
    raise ClusterError(
        "no PostgreSQL server is installed on this machine",
        hint="sudo apt-get install postgresql postgresql-plpython3-15 libgomp1  (15 on Debian 12, 17 on Debian 13; "
        f"{OVERRIDE}=/path/to/bin names one in another place)",
    )


def _installed() -> Iterator[Binaries]:
    """Every complete server on this machine, best first."""
    seen: set[Path] = set()
    for bindir in _candidates():
        if bindir in seen or not all(os.access(bindir / name, os.X_OK) for name in PROGRAMS):
            continue
        seen.add(bindir)
        version = _output([str(bindir / "postgres"), "--version"])
        match = re.search(r"\) (\d+)(\S*)", version)
        if match:
            yield Binaries(bindir, match[1] + match[2], match[1], _linked_python(bindir))


def _candidates() -> Iterator[Path]:
    override = os.environ.get(OVERRIDE)
    if override:
        yield Path(override).resolve()
        return
    if shutil.which("pg_config"):
        named = _output(["pg_config", "--bindir"])
        if named:
            yield Path(named).resolve()
    roots = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(roots, key=lambda path: float((re.findall(r"\d+", str(path)) or ["0"])[-1]), reverse=True)
    for name in os.get_exec_path():
        yield Path(name).resolve()


def _linked_python(bindir: Path) -> str | None:
    """The Python minor in plpython3.so's list of needed libraries; None without PL/Python."""
    named = _output([str(bindir / "pg_config"), "--pkglibdir"]) if (bindir / "pg_config").exists() else ""
    for libdir in (Path(named) if named else bindir.parent / "lib", bindir.parent / "lib" / "postgresql"):
        library = libdir / "plpython3.so"
        if library.exists():
            match = re.search(rb"libpython(3\.\d+)", library.read_bytes())
            return match[1].decode() if match else None
    return None


def _output(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except OSError:
        return ""
