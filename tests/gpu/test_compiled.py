"""Every kernel compiles for an H100, and none of our own arithmetic is rounded otherwise than the CPU rounds it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="package numba-cuda is not installed")
ROOT = Path(__file__).parents[2]


def compiled(*names: str) -> dict[str, int]:
    """Kernel to the number of its fused operations; `joined` and `apart` of one product and one sum."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.compiled", *names],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith("no NVVM"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    assert (found.pop("joined"), found.pop("apart")) == (1, 0)
    return found


def test_kernels_without_a_library_function_join_nothing() -> None:
    names = ("until_of_pairs", "add_leaves", "by_columns", "add_bits")
    assert compiled(*names) == dict.fromkeys(names, 0)


@pytest.mark.slow
def test_kernels_with_log_and_pow() -> None:
    """Those two, of CUDA's own library, are made of such operations."""
    assert set(compiled("run_users", "aged_rows")) == {"run_users", "aged_rows"}
