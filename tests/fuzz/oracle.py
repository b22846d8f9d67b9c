"""The libraries that models come from, asked for scores of a mutant in a process of their own, which may die of it.

A question is the name of the library, the model's bytes and rows of float32; the answer is float64 (rows, outputs),
nothing where the library raised an error, and no answer where it crashed, did not end or took too much memory.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
SECONDS = 2  # of CPU for one answer
MEMORY = 4 << 30


class Oracle:
    """A process that answers; another takes its place when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, library: str, data: bytes, x: NDArray[np.float32]) -> tuple[str, NDArray[np.float64] | None]:
        """('equal', the scores), ('refused', None) or ('died', None)."""
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        head = {"library": library, "bytes": len(data), "shape": x.shape}
        try:
            process.stdin.write(json.dumps(head).encode() + b"\n" + data + x.tobytes())
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            scores = process.stdout.read(answer["bytes"])
            if len(scores) != answer["bytes"]:
                raise EOFError
        except (OSError, EOFError, ValueError):
            self.close()
            return "died", None
        found = np.frombuffer(scores, np.float64)
        if not len(found) or len(found) % len(x):  # nothing, or nothing for each row
            return "refused", None
        return "equal", found.reshape(len(x), -1)

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.fuzz.oracle"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=ROOT)
        self._process = process
        return process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _lightgbm(data: bytes, x: NDArray[np.float32]) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=data.decode()).predict(x, num_threads=1)


def _xgboost(data: bytes, x: NDArray[np.float32]) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(data))
    return booster.inplace_predict(x, iteration_range=(0, 0), validate_features=False)


def _onnx(data: bytes, x: NDArray[np.float32]) -> Any:
    """The last output, which is the scores."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: x})[-1]
    if isinstance(scores, list):  # of ZipMap, sorted by its labels: the columns' order only where these count up
        if any(list(row) != list(range(len(row))) for row in scores):
            raise ValueError
        scores = np.array([list(row.values()) for row in scores])
    return scores


def _network(compiled: bytes, x: NDArray[np.float32]) -> Any:
    """A compiled network, as a session scores it."""
    from ubp_sql.models.loaded import open_model

    return open_model(compiled).score_batch(x)


LIBRARIES = {"lightgbm": _lightgbm, "xgboost": _xgboost, "onnx": _onnx, "network": _network}


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the libraries print is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    questions: BinaryIO = sys.stdin.buffer
    while line := questions.readline():
        head = json.loads(line)
        data = questions.read(head["bytes"])
        rows, columns = head["shape"]
        x = np.frombuffer(questions.read(4 * rows * columns), np.float32).reshape(rows, columns)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            scores = np.asarray(LIBRARIES[head["library"]](data, x), np.float64).tobytes()
        except Exception:
            scores = b""
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps({"bytes": len(scores)}).encode() + b"\n" + scores)
        answers.flush()


if __name__ == "__main__":
    main()
