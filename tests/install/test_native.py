"""The native library: which file is loaded, that a damaged, foreign or open one is not, and how it is made again."""

import dataclasses
import os
import platform
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import ubp_sql
from tests.fix_database import Database
from tests.install.conftest import Cli
from ubp_sql.api import session
from ubp_sql.errors import InstallError
from ubp_sql.install import native as build
from ubp_sql.install import server_python
from ubp_sql.install.doctor import examine
from ubp_sql.kernels import native

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
NOBODY = 65534


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library in a folder of its own, which `native` looks for."""
    folder = tmp_path / "_native"
    folder.mkdir(mode=0o755)
    made = Path(shutil.copy(build.build(), folder))
    monkeypatch.setattr(native, "library_path", lambda: str(made))
    monkeypatch.setattr(build, "library_path", lambda: str(made))
    return made


def looked_for() -> tuple[object, str]:
    """As a new process."""
    found: tuple[object, str] = native._looked_for.__wrapped__()
    return found


def signed(code: bytes) -> bytes:
    return code + native.trailer(code)


def other_cpu(path: Path) -> None:
    """The file says that it is for an ARM or an x86 machine, whichever this is not."""
    code = bytearray(path.read_bytes()[:-4])
    struct.pack_into("<H", code, 18, 183 if platform.machine() == "x86_64" else 62)
    path.write_bytes(signed(bytes(code)))


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "is not there"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-4096]), "is damaged"),
    "a flipped bit": (
        lambda path: path.write_bytes(path.read_bytes()[:5000] + b"\x5a" + path.read_bytes()[5001:]),
        "is damaged",
    ),
    "no library": (lambda path: path.write_bytes(signed(b"not a library")), "does not load"),
    "for another CPU": (other_cpu, "does not load"),
    "file open to all": (lambda path: path.chmod(0o646), "can write"),
    "folder open to all": (lambda path: path.parent.chmod(0o777), "can write"),
    "folder in place of the file": (into_folder, "does not load"),
}
GIVEN_AWAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "file of another account": (lambda path: os.chown(path, NOBODY, NOBODY), f"belongs to account {NOBODY}"),
    "folder of another account": (lambda path: os.chown(path.parent, NOBODY, NOBODY), f"belongs to account {NOBODY}"),
}


def test_its_name_says_for_what_it_is() -> None:
    name = Path(native.library_path.__wrapped__()).name
    assert name == f"kernels-{ubp_sql.__version__}-{platform.machine()}-{native.source_hash()}.so"


def test_the_hash_is_of_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = native.source_hash()
    package = Path(ubp_sql.__file__).parent
    shutil.copytree(package / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models").mkdir()
    shutil.copy(package / "models" / "blob.py", tmp_path / "models")
    monkeypatch.setattr(native, "_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(native, "_PACKAGE", str(tmp_path))
    assert native.source_hash() == before
    for changed in ("kernels/native_forest.py", "kernels/forest_codes.py", "models/blob.py"):
        text = (tmp_path / changed).read_text()
        (tmp_path / changed).write_text(text + "#")
        assert native.source_hash() != before
        (tmp_path / changed).write_text(text)


def test_a_sound_one_loads(copy: Path) -> None:
    library, said = looked_for()
    assert library is not None
    assert said == ""


@pytest.mark.parametrize("name", [*FAULTS, *(pytest.param(n, marks=root_only) for n in GIVEN_AWAY)])
def test_what_is_not_loaded(copy: Path, name: str) -> None:
    spoil, message = {**FAULTS, **GIVEN_AWAY}[name]
    spoil(copy)
    library, said = looked_for()
    assert library is None
    assert message in said
    assert str(copy.parent) in said


@pytest.mark.parametrize(
    "name", ["cut short", "folder open to all", *(pytest.param(n, marks=root_only) for n in GIVEN_AWAY)]
)
def test_it_is_made_again(copy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = copy.read_bytes()[:-4]

    def linked(compiler: str, scratch: Path) -> Path:
        (scratch / "kernels.so").write_bytes(sound)
        return scratch / "kernels.so"

    monkeypatch.setattr(build, "_linked", linked)  # what takes 40 s
    {**FAULTS, **GIVEN_AWAY}[name][0](copy)
    assert build.build(anew=True) == copy
    assert looked_for()[1] == ""
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "_native").write_text("a file")
    with pytest.raises(InstallError, match="cannot write") as caught:
        build.build(tmp_path / "_native")
    assert caught.value.hint is not None


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InstallError, match="no C compiler"):
        build.build(tmp_path)


def test_doctor_says_why_and_makes_it_anew(db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probe = server_python.probe
    asked: list[tuple[Path, bool]] = []

    def broken(*arguments: object, **named: bool) -> server_python.ServerPython:
        found = probe(*arguments, **named)  # type: ignore[arg-type]
        state = {"native": bool(asked), "native_path": str(tmp_path / "x.so"), "native_fault": "it is damaged"}
        return dataclasses.replace(found, **state)  # type: ignore[arg-type]

    def made(folder: Path, *, anew: bool) -> Path:
        asked.append((folder, anew))
        return folder / "x.so"

    monkeypatch.setattr(server_python, "probe", broken)
    monkeypatch.setattr(build, "build", made)
    [found] = [f for f in examine(db.dsn, fix=False) if f.name == "native library"]
    assert not found.ok
    assert "it is damaged" in found.text
    assert not asked
    [found] = [f for f in examine(db.dsn, fix=True) if f.name == "native library"]
    assert found.ok
    assert asked == [(tmp_path, True)]


def test_init_builds_it(empty_db: Database, cli: Cli) -> None:
    done = cli("init", "--dsn", empty_db.dsn)
    assert done.exit_code == 0
    assert "the native library loads" in done.stdout


CACHES: dict[str, Callable[[Path], object]] = {
    "open to all": lambda folder: folder.chmod(0o777),
    "open to a group": lambda folder: folder.chmod(0o770),
    "a file": into_file,
}


@pytest.mark.parametrize("name", ["private", *CACHES, pytest.param("of another account", marks=root_only)])
def test_numbas_cache_is_private_or_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Numba's cache holds pickles, which run code."""
    for variable in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_CACHING"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("UBP_SQL_CACHE_DIR", str(tmp_path))
    session.numba_cache()
    folder = Path(os.environ.pop("NUMBA_CACHE_DIR"))
    assert folder.parent == tmp_path
    if name == "of another account":
        os.chown(folder, NOBODY, NOBODY)
    elif name in CACHES:
        CACHES[name](folder)
    session.numba_cache()
    assert ("NUMBA_CACHE_DIR" in os.environ) == (name == "private")
    assert ("NUMBA_DISABLE_CACHING" in os.environ) == (name != "private")
    os.environ.pop("NUMBA_CACHE_DIR", None)
    os.environ.pop("NUMBA_DISABLE_CACHING", None)
