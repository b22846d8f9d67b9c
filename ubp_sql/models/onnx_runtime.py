"""Neural networks, evaluated by ONNX Runtime inside the process that asks: one thread, no files, no other operators.

The package is loaded when the first network is: some 60 ms and 30 MB. Whatever it starts - no thread, as set here - is
started with all signals blocked, since a thread that takes a signal of PostgreSQL's would take it from the backend.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ubp_sql.errors import BadInput, InstallError, InvalidModel
from ubp_sql.models.loaded import Loaded
from ubp_sql.models.onnx_compiled import open_network, rows_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

RUN_BYTES = 32 * 1024 * 1024  # of a run's tensors: more does not make it faster
RUN_SECONDS = 0.05  # a third of what a cancel may take; nothing ends a run from inside the thread that it runs in
MOST_ROWS = 4096
FIRST_WORK = 10_000_000  # multiplications of the first run, of which nobody knows yet how long it takes: some 10 ms


class OnnxModel(Loaded):
    """A graph of layers; scores are what the graph gives, NaN included."""

    form = "network"

    def __init__(self, compiled: bytes) -> None:
        self.network, onnx = open_network(compiled)
        self.features, self.outputs = self.network.features, self.network.outputs
        self.size = 4 * self.features
        self.nbytes = 4 * len(onnx) + 1_000_000  # it keeps the weights, and for products a second copy
        self._session = _session(onnx)
        given = self.network.graph.inputs[0]
        self._input, self._dtype = given.name, given.dtype
        self._output = [self.network.graph.outputs[0].name]
        self._row_seconds, self._most = 0.0, 0
        self._checked: set[int] = {1}

    def score_packed(self, packed: bytes, population: int = -1) -> float | None:
        scores = self._packed(packed, population)
        if scores is None:
            return None
        value = float(scores[-1])
        return None if value != value else value

    def all_packed(self, packed: bytes) -> list[float]:
        scores = self._packed(packed, -1)
        return [float(score) for score in scores[self.network.columns - self.outputs :]]

    def _packed(self, packed: bytes, population: int) -> Any:
        import numpy as np

        row = np.frombuffer(packed, np.float32)
        if population >= 0 and not row[population] >= 1.0:
            return None
        return self._run(row.reshape(1, self.features))[0]

    def score_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        import numpy as np

        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.features:
            raise BadInput(f"the model takes rows of {self.features} float32 values, given: {rows.dtype}")
        self._most = self._most or rows_at_once(self.network, RUN_BYTES, MOST_ROWS)
        scores = np.empty((len(rows), self.network.columns))
        start = 0
        while start < len(rows):
            if start and between_chunks is not None:
                between_chunks()
            n = min(self._next(), len(rows) - start)
            began = perf_counter()
            scores[start : start + n] = self._run(rows[start : start + n])
            self._row_seconds = (perf_counter() - began) / n
            start += n
        return scores[:, self.network.columns - self.outputs :]

    def _next(self) -> int:
        """Rows of the next run, a power of two: as long as the last one says that they take RUN_SECONDS."""
        if self._row_seconds:
            wanted = int(RUN_SECONDS / self._row_seconds)
        else:
            wanted = FIRST_WORK // max(1, self.network.sizes(1).work)
        return min(self._most, 1 << max(0, wanted.bit_length() - 1))

    def _run(self, rows: F32) -> Any:
        """(n, columns) what the graph gives."""
        n = len(rows)
        if n == 1 and not self.network.one_by_one:
            # Twice: some layers compute one row by other code than many, which differs in the last digits. From two
            # rows on none did, so that a user's score is the same alone, read ahead and stored.
            rows = rows.repeat(2, axis=0)
        if len(rows) not in self._checked:
            self.network.sizes(len(rows))
            self._checked.add(len(rows))
        try:
            (made,) = self._session.run(self._output, {self._input: rows.astype(self._dtype, copy=False)})
        except Exception as error:
            raise InvalidModel(
                f"ONNX Runtime failed on these features: {_line(error)}", "`ubp-sql model check` runs it on many rows"
            ) from None
        return made.reshape(len(rows), self.network.columns)[:n]


def _line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]


def _session(onnx: bytes) -> Any:
    """An inference session on checked bytes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        ort = _package()
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # All rewrites, as in a session with the package's own settings: whoever trained the network gets the same bits.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Tensors are freed after each run: an arena would keep the largest run's memory as long as the session lives.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 4
        options.use_deterministic_compute = True
        options.add_session_config_entry("session.load_model_format", "ONNX")
        return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except InstallError:
        raise
    except Exception as error:
        raise InvalidModel(
            f"ONNX Runtime refuses the graph: {_line(error)}", "export it again, for inference"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def package_version() -> str:
    """Name and version of what evaluates a network."""
    return f"onnxruntime {_package().__version__}"


def _package() -> Any:
    """ONNX Runtime, silent. Raises InstallError (UB011) where it is not installed."""
    # Read when its library is loaded: else it starts a thread that reports to its maker, and keeps a file for that.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise InstallError(
            f"neural networks need ONNX Runtime, which this server's Python does not have: {_line(error)}",
            "pip install 'ubp_sql[onnx]' into it, then connect anew",
        ) from None
    onnxruntime.set_default_logger_severity(4)  # errors come as exceptions; lines on stderr would land in the log
    return onnxruntime
