"""The set-up scripts, as far as a machine that is set up can show: tests/fresh_machine.sh proves the rest."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path for folder in ("scripts", "tests", "docker", "docker/initdb.d") for path in ROOT.glob(f"{folder}/*.sh")
)


def bash(script: str) -> str:
    argv = ["bash", "-euo", "pipefail", "-c", f". scripts/packages.sh; {script}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_that_is_missing_is_named_at_once() -> None:
    bare = "ls() { return 2; }; command() { return 1; }; apt-cache() { return 1; }; missing_packages"
    named = bash(bare).split()
    assert named[:4] == ["postgresql", "postgresql-plpython3-15", "libgomp1", "gcc"]
    assert named[-1] == "python3-venv"


def test_nothing_is_missing_here() -> None:
    assert bash("missing_packages") == ""


def test_the_python_of_plpython_is_found() -> None:
    assert bash('linked_python "$(plpython_library)"').strip().startswith("3.")


def test_make_lists_every_command() -> None:
    shown = subprocess.run(["make"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for target in ("setup", "demo", "test", "check", "bench", "clean"):
        assert f"make {target} " in shown
