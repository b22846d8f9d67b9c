"""Without a card, a driver or a package: one line that says so, and the CPU."""

import subprocess
import sys

import pytest

SAY = """
import sys, importlib.util
{spoil}
from ubp_sql.kernels import dispatch
import ubp_sql.features.compute, ubp_sql.models.batch
try:
    dispatch.backend("gpu")
except dispatch.NoCard as error:
    print(error)
else:
    print("there is a card")
"""
NO_PACKAGE = """
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else found(name, *rest)
"""
NO_CUPY = "sys.modules['cupy'] = None"


def said(spoil: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SAY.format(spoil=spoil)],
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [(NO_PACKAGE, "package numba-cuda is not installed: pip install 'ubp_sql[gpu]'"), (NO_CUPY, "ubp_sql[gpu]")],
)
def test_one_line_names_what_is_missing(spoil: str, wanted: str) -> None:
    line = said(spoil)
    assert wanted in line
    assert "\n" not in line


SERVER_SIDE = (
    "import ubp_sql.api, ubp_sql.features.compute, ubp_sql.features.known, ubp_sql.mirror, ubp_sql.models.batch"
)
LOADED = "import sys; print(*sorted(m for m in sys.modules if m.startswith(('numba_cuda', 'numba.cuda', 'cupy'))))"


@pytest.mark.parametrize("imports", ["import ubp_sql.cli.main", SERVER_SIDE, f"{SERVER_SIDE}, ubp_sql.kernels.aot"])
def test_nobody_else_loads_any_of_it(imports: str) -> None:
    """Neither the commands nor the server: not even where the packages are there."""
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{LOADED}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin"},
    )
    assert done.stdout.strip() == ""


def test_a_simulated_card_counts() -> None:
    pytest.importorskip("numba_cuda")
    assert said("", NUMBA_ENABLE_CUDASIM="1") == "there is a card"
