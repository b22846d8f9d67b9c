"""The first run of a neural network, in a process that may crash, hang or take all the memory it is allowed.

`python -m ubp_sql.models.first_run` reads a compiled network from its standard input and prints what it found as JSON.
Its limits are its own: address space, processor seconds, no files. A verdict of "ready" means that ordinary rows, rows
with missing values, infinite and huge ones all ran within the limits below, and that an ordinary row has the same score
alone as among others.
"""

import json
import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

ADDRESS_SPACE = 2 * 1024**3  # most of it is reserved by libraries and never touched
CPU_SECONDS = 60
MAX_ROW_SECONDS = 0.05  # a statement is cancelled between two rows at the earliest
MAX_PEAK_BYTES = 512 * 1024**2
TOLERANCE = 1e-4  # relative; batched products round in another order, float32 has seven digits
ROWS = 200
MISSING_PACKAGE = 3  # exit status


class Refused(Exception):
    """The network ran badly; the message says how."""


def main() -> int:
    """Reads, runs, prints; 0 where there is a verdict."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread would reserve its own part of the address space
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from ubp_sql.errors import InstallError, UbpError

    compiled = sys.stdin.buffer.read()
    try:
        report = run(compiled)
    except InstallError as error:
        print(error.message)
        return MISSING_PACKAGE
    except (Refused, UbpError) as error:
        report = {"ready": False, "reason": str(error)}
    except MemoryError:
        report = {"ready": False, "reason": f"it needs more than {ADDRESS_SPACE >> 30} GB of address space"}
    print(json.dumps(report))
    return 0


def run(compiled: bytes) -> dict[str, Any]:
    """What the runs of a compiled network found. Raises Refused, and what opening and running it raise."""
    import numpy as np

    from ubp_sql.models.loaded import open_model
    from ubp_sql.models.onnx_runtime import package_version

    before = _memory("VmRSS")
    model = open_model(compiled)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    rng = np.random.default_rng(0)
    shape = (ROWS, model.features)
    ordinary = (rng.normal(size=shape) * 10.0 ** rng.integers(-2, 3, shape)).astype(np.float32)
    missing = np.where(rng.random(shape) < 0.3, np.float32("nan"), ordinary)
    missing[0] = np.nan
    endless = np.where(rng.random(shape) < 0.3, rng.choice(np.array([np.inf, -np.inf], np.float32), shape), ordinary)
    huge = (rng.choice([-1.0, 1.0], shape) * 3e38).astype(np.float32)
    seconds = _row_seconds(model, ordinary)
    if seconds > MAX_ROW_SECONDS:
        raise Refused(f"a row takes {seconds:.2g} s, at most {MAX_ROW_SECONDS} are allowed")
    few = max(2, min(ROWS, int(1.0 / max(seconds, 1e-9))))
    started = perf_counter()
    together = model.score_batch(ordinary[:few])
    batch_seconds = (perf_counter() - started) / few
    alone = np.array([model.all_packed(row.tobytes()) for row in ordinary[:few]])
    if not np.isfinite(together).all():
        raise Refused("it gives no number for ordinary features")
    if not np.allclose(together, alone, rtol=TOLERANCE, atol=TOLERANCE):
        raise Refused("a row's score depends on the rows beside it")
    scored = model.score_batch(missing[:few])
    model.score_batch(endless[:few])
    model.score_batch(huge[:few])
    peak = _memory("VmHWM") - before
    if peak > MAX_PEAK_BYTES:
        raise Refused(f"it takes {peak >> 20} MB, at most {MAX_PEAK_BYTES >> 20} are allowed")
    return {
        "ready": True,
        "seconds_per_row": float(f"{seconds:.3g}"),
        "seconds_per_row_together": float(f"{batch_seconds:.3g}"),
        "peak_bytes": peak,
        "same_alone": bool(np.array_equal(together, alone)),
        "no_score_if_missing": bool(np.isnan(scored).any()),
        "rows": 4 * few,
        "runtime": package_version(),
    }


def _row_seconds(model: Any, rows: Any) -> float:
    """The median of runs of one row."""
    model.all_packed(rows[0].tobytes())
    times: list[float] = []
    for row in rows:
        started = perf_counter()
        model.all_packed(row.tobytes())
        times.append(perf_counter() - started)
        if sum(times) > 1.0:
            break
    return sorted(times)[len(times) // 2]


def _memory(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most. (getrusage's maximum is inherited from who started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    sys.exit(main())
