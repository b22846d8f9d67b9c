"""What PL/Python imports: the package and its libraries where they lie, or copies where the server cannot read them.

The path is handed over in the postmaster's environment, which no database user can change. When root runs a checkout
below /root (mode 0700), the server's account can read neither the package nor its libraries: the package is copied and
the libraries are hard-linked (copied across file systems) beside the data, and nobody's directories are opened up.
"""

import compileall
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import ubp_sql
from ubp_sql.embedded.account import NEUTRAL_ENVIRONMENT, Account
from ubp_sql.errors import ClusterError, InstallError
from ubp_sql.install import native

PACKAGE = "ubp_sql"
LIBRARIES = ("numpy", "numba", "llvmlite")
"""What code inside a server process may import beside the package (the layering test keeps it so)."""
OPTIONAL_LIBRARIES = ("onnxruntime",)
"""The same, where it is installed: neural networks alone need it."""


def server_path(home: Path, account: Account) -> list[str]:
    """Directories for the server's PYTHONPATH, the package's first; makes or refreshes copies below `home` as needed.

    Sessions that are opened after a refresh import the new files; the path itself does not change.
    """
    package = Path(ubp_sql.__file__).resolve().parent
    _complete(package)
    if _usable(package, account, [package]):
        path = [package.parent]
    else:
        path = [_mirror(home / "python", _digest(package), _package_files(package))]
    for site, libraries in _sites().items():
        if _usable(site, account, libraries):
            path.append(site)
        else:
            needed = _needed()
            path.append(_mirror(home / "site", _libraries_key(site, needed), _library_files(site, needed), link=True))
    if any(":" in str(directory) for directory in path):
        raise ClusterError(
            f"{home} has a colon in its path, which Python's search path cannot carry", hint="choose another --dir"
        )
    return list(dict.fromkeys(str(directory) for directory in path))


def server_environment(path: list[str], cache: Path) -> dict[str, str]:
    """All that the server's processes inherit: no secret of the caller's environment gets in."""
    return NEUTRAL_ENVIRONMENT | {
        "HOME": str(cache),
        "PYTHONPATH": ":".join(path),
        "PYTHONNOUSERSITE": "1",
        "UBP_SQL_CACHE_DIR": str(cache),
    }


def _complete(package: Path) -> None:
    """Bytecode and the native library, which the server's account cannot add itself: without them each connection
    compiles anew, and scores are computed in plain Python. Left out where the package is not the caller's to write.
    """
    with contextlib.suppress(OSError):
        compileall.compile_dir(package, quiet=2, maxlevels=20)
    with contextlib.suppress(InstallError):
        native.build()


def _usable(directory: Path, account: Account, trees: list[Path]) -> bool:
    return ":" not in str(directory) and account.can_enter(directory) and all(map(account.can_read_tree, trees))


def _sites() -> dict[Path, list[Path]]:
    """The directories that hold the compiled libraries, usually one, with the libraries in each."""
    sites: dict[Path, list[Path]] = {}
    for name in LIBRARIES + OPTIONAL_LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name in OPTIONAL_LIBRARIES:
                continue
            raise ClusterError(f"the library {name} is not installed beside ubp_sql", hint=f"pip install {name}")
        library = Path(spec.origin).resolve().parent
        sites.setdefault(library.parent, []).append(library)
    return sites


def _package_files(package: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(package.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            yield file, str(Path(PACKAGE) / file.relative_to(package))


def _digest(package: Path) -> str:
    digest = hashlib.sha256()
    for file, name in _package_files(package):
        digest.update(f"{name}\0{file.stat().st_mtime_ns}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _libraries_key(site: Path, needed: list[importlib.metadata.Distribution]) -> str:
    """Changes when pip installs, upgrades or removes one of the libraries."""
    digest = hashlib.sha256(str(site).encode())
    for distribution in needed:
        digest.update((distribution.read_text("RECORD") or distribution.version).encode())
    return digest.hexdigest()[:16]


def _library_files(site: Path, needed: list[importlib.metadata.Distribution]) -> Iterator[tuple[Path, str]]:
    for distribution in needed:
        for file in distribution.files or ():
            source = site / file
            if not {"..", "tests"} & set(file.parts) and source.is_file():  # half of the files are the libraries' tests
                yield source, str(file)


def _needed() -> list[importlib.metadata.Distribution]:
    """The libraries that server code imports, with what these require (not their extras)."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(LIBRARIES + OPTIONAL_LIBRARIES)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed: optional, or a requirement of other systems or Python versions
        for requirement in found[name].requires or ():
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match[0])
    return list(found.values())


def _mirror(target: Path, key: str, files: Iterable[tuple[Path, str]], *, link: bool = False) -> Path:
    """`target/current` holds `files`; made anew, and swapped in with one rename, when `key` is not what it was made of.

    Links instead of copies where `link` allows: pip replaces files, so that a link never changes under a server,
    whereas editors may write into the file itself.
    """
    current = target / "current"
    if current.is_symlink() and os.readlink(current) == key:
        return current
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.chmod(0o755)
    fresh = target / f"{key}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    made: set[Path] = set()
    for source, name in files:
        copy = fresh / name
        if copy.parent not in made:
            copy.parent.mkdir(parents=True, exist_ok=True)
            made.add(copy.parent)
        _place(source, copy, link=link)
    for directory, _, _ in os.walk(fresh):
        os.chmod(directory, 0o755)  # noqa: S103  (a copy of public packages, for the server's account to read)
    if not link:
        compileall.compile_dir(fresh, quiet=2, maxlevels=20, stripdir=str(fresh))
    shutil.rmtree(target / key, ignore_errors=True)
    fresh.rename(target / key)
    pointer = target / "current.new"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(key)
    pointer.replace(current)
    for old in target.iterdir():
        if old.name not in (key, "current"):
            shutil.rmtree(old, ignore_errors=True)
    return current


def _place(source: Path, copy: Path, *, link: bool) -> None:
    mode = source.stat().st_mode
    if link and mode & 0o004:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, copy)
            return
    shutil.copy2(source, copy)
    copy.chmod(0o755 if mode & 0o100 else 0o644)
