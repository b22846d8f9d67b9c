"""Between PostgreSQL and Python: errors with their SQLSTATE, prepared plans, version checks, the cache folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import ubp_sql
from ubp_sql import errors
from ubp_sql.errors import NotReady, StaleSession, UbpError, VersionSkew

# Before anything imports NumPy: its linear algebra would start a thread for each core in the server's process, and
# threads take signals that are meant for the process.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]
else:
    Row = dict


def to_server(plpy: Any, error: UbpError) -> Exception:
    """The error as PostgreSQL prints it: `ERROR:  ubp: message`, with SQLSTATE and hint.

    plpy.error() would print the class name `plpy.Error`; a subclass of it named `ubp` in builtins prints `ubp`.
    """
    kind = type("ubp", (plpy.Error,), {"__module__": "builtins", "sqlstate": error.sqlstate})
    result: Exception = kind(error.message)
    if error.hint is not None:
        result.hint = error.hint  # type: ignore[attr-defined]
    return result


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function called from SQL: our errors leave it with their SQLSTATE, everything else as it is."""

    def call(plpy: Any, memory: dict[str, Any], *arguments: Any) -> Any:
        try:
            result = function(plpy, memory, *arguments)
        except UbpError as error:
            # `from None`: the SQL user needs the line and the hint, not our call stack.
            raise to_server(plpy, error) from None
        except plpy.SPIError as error:
            changed = _of_source(plpy, error)
            if changed is None:
                raise
            raise changed from None
        return _rows(plpy, result) if isinstance(result, Iterator) else result

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _rows(plpy: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """The rows of a generator, whose errors come while PostgreSQL takes them."""
    try:
        yield from rows
    except UbpError as error:
        raise to_server(plpy, error) from None
    except plpy.SPIError as error:
        changed = _of_source(plpy, error)
        if changed is None:
            raise
        raise changed from None


def _of_source(plpy: Any, error: Any) -> Exception | None:
    """The error as PostgreSQL prints it, where an attached source is no longer what it was; None for others."""
    from ubp_sql.api.source_errors import source_changed

    found = source_changed(plpy, error)
    return None if found is None else to_server(plpy, found)


def run(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> Any:
    """Executes a constant query through a plan kept for the session; `memory` is the function's SD."""
    plan = memory.get(query)
    if plan is None:
        plan = memory[query] = plpy.prepare(query, types)
    return plan.execute(arguments)


def sqlstate(error: Any) -> str:
    """Of an error that SPI raised. PL/Python names the codes that it knows, and those of ours only as a number."""
    code = getattr(error, "sqlstate", None)
    if code is None and getattr(error, "spidata", None):
        code = "".join(chr((error.spidata[0] >> 6 * place & 63) + 48) for place in range(5))
    return code or ""


def single(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> Row | None:
    """The first row, or None."""
    found = run(plpy, memory, query, types, arguments)
    return found[0] if len(found) else None


def sent_ids(sent: bytes | None) -> tuple[int, ...]:
    """Ids that a query sent as string_agg(int8send(...), ''); none for NULL."""
    from struct import unpack

    return unpack(f">{len(sent or b'') // 8}q", sent or b"")


def touch(plpy: Any, memory: dict[str, Any]) -> None:
    """Lets a pending cancel or statement timeout take effect between two chunks of a kernel."""
    run(plpy, memory, "select 1", [], [])


SETS = "select name from ubp.feature_sets order by name"


def no_such_set(plpy: Any, memory: dict[str, Any], key: str | int | None) -> NotReady:
    """The error about a feature set that does not exist; its hint names those that do."""
    return errors.no_such_set(key, [row["name"] for row in run(plpy, memory, SETS, [], [])])


INSTALLED = "select package_version from ubp.installation"


def check_version(plpy: Any, memory: dict[str, Any]) -> None:
    """Refuses to run when database and loaded code differ."""
    row = single(plpy, memory, INSTALLED, [], [])
    require_version(row["package_version"] if row else None)


def require_version(installed: str | None) -> None:
    """`installed` is the version that applied the functions.

    Raises StaleSession (UB009) when only this session is behind, VersionSkew (UB010) when package and database differ.
    """
    loaded = ubp_sql.__version__
    if installed == loaded:
        return
    on_disk = _version_on_disk()
    if installed is not None and on_disk == installed:
        raise StaleSession(f"this session holds ubp_sql {loaded}, the database is at {installed}", "reconnect")
    raise VersionSkew(
        f"the server has ubp_sql {on_disk}, the database was installed by {installed}",
        "run `ubp-sql doctor`: it says which of the two to upgrade",
    )


@entry
def version(plpy: Any, memory: dict[str, Any]) -> str:
    """The package's version, after checking that the database agrees with it."""
    check_version(plpy, memory)
    return ubp_sql.__version__


def _version_on_disk() -> str:
    with open(ubp_sql.__file__, encoding="utf-8") as file:
        text = file.read()
    return text.partition('__version__ = "')[2].partition('"')[0]


def prepare_numba() -> None:
    """Makes ready for kernels of many rows: nothing to do where the native library has them, else `numba_cache`."""
    from ubp_sql.kernels import native

    if native.entry("ubp_batch_pairs") is None:
        numba_cache()


def keep_freed_memory() -> None:
    """Lets glibc keep what work on many rows frees between two of its pieces, up to 32 MB a process.

    Given back to the system with each piece, the same pages come back as faults of 1.5 µs each: 0.6 µs a scored user.
    A large block that is freed raises the threshold. Nothing writes to this one, so the system never has to fill it.
    """
    bytes(16 << 20)


def numba_cache() -> None:
    """Points Numba's disk cache at a private folder of the server's OS user before Numba is first imported.

    The cache holds pickles, so a folder that anybody else owns or may write is not used: the code is then compiled
    anew. Numba looks at the time stamp of one file only, so the folder's name holds a hash of all kernels.
    """
    if "NUMBA_CACHE_DIR" in os.environ or "NUMBA_DISABLE_CACHING" in os.environ:
        return
    # Here, for the two take 6 ms of the first call of a session that never gets here.
    from hashlib import sha256
    from pathlib import Path

    digest = sha256()
    for source in sorted((Path(ubp_sql.__file__).parent / "kernels").glob("*.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("UBP_SQL_CACHE_DIR") or str(Path.home() / ".cache" / "ubp_sql")
    folder = Path(base) / f"numba-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        found = None
    if found is None or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        os.environ["NUMBA_DISABLE_CACHING"] = "1"
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
