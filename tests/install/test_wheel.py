"""The wheel carries migrations/ and udfs/: installed in a bare environment, it installs a database."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import ubp_sql
from tests.fix_database import Database
from tests.install import catalogue

ROOT = Path(__file__).parents[2]


def run(*argv: object, cwd: Path) -> str:
    """Standard output of a program that has nothing of this session's Python settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PG"))}
    done = subprocess.run(list(map(str, argv)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_sql(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for source, target in (("migrations", "_migrations"), ("udfs", "_udfs")):
        files = [f for f in (ROOT / source).rglob("*") if f.is_file() and f.suffix in (".py", ".sql", ".mako")]
        assert files
        for file in files:
            assert f"ubp_sql/{target}/{file.relative_to(ROOT / source).as_posix()}" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "bench"))]
    assert not [name for name in names if name.endswith(".so")], "the native scorer is built where it runs"


def test_init_from_the_wheel(wheel: Path, empty_db: Database, db: Database, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    run(sys.executable, "-m", "venv", "--without-pip", bare, cwd=tmp_path)
    python = bare / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # The dependencies come from this session's environment, so that no network is needed; the package does not:
    # .pth files of a directory that a .pth file names are not read, so an editable installation there is not seen.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = "import ubp_sql.install.resources as r; print(r.directory('migrations'), r.directory('udfs'))"
    assert run(python, "-c", where, cwd=tmp_path).split() == [f"{site}/ubp_sql/_migrations", f"{site}/ubp_sql/_udfs"]
    program = bare / "bin" / "ubp-sql"
    assert run(program, "--version", cwd=tmp_path).strip() == ubp_sql.__version__
    shown = run(program, "migrate", "plan", "--dsn", empty_db.dsn, cwd=tmp_path)
    assert "CREATE TABLE ubp.events" in shown
    assert "create or replace function ubp.predict" in shown
    assert "is installed in database" in run(program, "init", "--dsn", empty_db.dsn, cwd=tmp_path)
    for listing in (catalogue.objects, catalogue.grants, catalogue.bodies):
        assert listing(empty_db.dsn) == listing(db.dsn)
