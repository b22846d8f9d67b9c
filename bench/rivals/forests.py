"""The rivals of `make bench CASE=forest`: an environment of their own, and a process of it that answers."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

from bench.server import ROOT
from ubp_sql.kernels.dispatch import F64

HOME = ROOT / ".ubp-bench-rivals"
# lleaves does not run with a later llvmlite. Each line is installed for itself: one that is missing loses its engine.
WANTED = (
    ("lightgbm", "numpy", "scipy", "lleaves", "llvmlite==0.44.*"),
    ("tl2cgen", "treelite"),
    ("onnxruntime", "onnxmltools", "onnx"),
)


def python() -> Path:
    """The environment's Python; made on the first call."""
    made, done = HOME / "bin" / "python", HOME / "installed"
    if not done.exists():
        venv.create(HOME, with_pip=True, clear=True)
        for names in WANTED:
            command = [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names]
            if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
                print(f"not installed: {', '.join(names)}", file=sys.stderr)
        done.touch()
    return made


class Forests:
    """The engines over one model and one matrix, both in files."""

    def __init__(self, model: Path, rows: Path) -> None:
        script = Path(__file__).with_name("forest_engines.py")
        self._process = subprocess.Popen(
            [str(python()), str(script), str(model), str(rows)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        )
        self._folder = rows.parent
        self.engines: dict[str, float | str] = self._ask("engines")

    def time(self, name: str) -> float:
        """Seconds of one run."""
        return float(self._ask(f"time {name}"))

    def answer(self, name: str) -> F64:
        """(rows,) raw scores."""
        path = self._folder / "answer.npy"
        self._ask(f"answer {path} {name}")
        found: F64 = np.load(path)
        return found

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())
