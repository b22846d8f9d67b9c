"""Starts the first run of a registered neural network in a process of its own, and records what it found."""

import json
import signal
import subprocess
import sys
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ubp_sql.errors import InstallError, NoModelDeployed
from ubp_sql.models.blob import blob_hash
from ubp_sql.models.first_run import CPU_SECONDS, MISSING_PACKAGE
from ubp_sql.models.loaded import NETWORKS

MODEL = "select compiled, status, checked from ubp.models where task = %s and version = %s"
RECORD = "select ubp.record_model_check(%s, %s, %s)"
WALL_SECONDS = 3 * CPU_SECONDS


def first_run(compiled: bytes) -> dict[str, Any]:
    """What the run of a compiled network found: `ready`, and what it measured or the `reason` against it.

    Raises InstallError (UB011) where ONNX Runtime is not installed here.
    """
    command = [sys.executable, "-P", "-m", "ubp_sql.models.first_run"]  # nothing of the folder it is called in
    try:
        done = subprocess.run(command, input=compiled, capture_output=True, timeout=WALL_SECONDS)
    except subprocess.TimeoutExpired:
        return {"ready": False, "reason": f"the first run took more than {WALL_SECONDS} s"}
    if done.returncode == MISSING_PACKAGE:
        raise InstallError(
            "the first run of a neural network needs ONNX Runtime, which is not installed here",
            "pip install 'ubp_sql[onnx]', here and into the server's Python",
        )
    if done.returncode == -signal.SIGXCPU or done.returncode == -signal.SIGKILL:
        return {"ready": False, "reason": f"the first run took more than {CPU_SECONDS} s of processor time"}
    if done.returncode < 0:
        return {"ready": False, "reason": f"the first run was ended by {signal.Signals(-done.returncode).name}"}
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode(errors="replace").strip() or "nothing was said").splitlines()[-1]
        return {"ready": False, "reason": f"the first run failed: {last[:300]}"}
    return report


def check_model(conn: Any, task: str, version: int) -> dict[str, Any]:
    """Runs a version and records the verdict; trees and linear models are ready without a run.

    Raises NoModelDeployed (UB004) for a version that does not exist, InstallError (UB011) as `first_run`.
    """
    with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        row = cursor.execute(MODEL, [task, version]).fetchone()
    if row is None:
        raise NoModelDeployed(f"task {task!r} has no version {version}", "`ubp-sql model list` shows what there is")
    compiled = bytes(row["compiled"])
    if not compiled.startswith(NETWORKS):
        return {"ready": True, "rows": 0}
    report = first_run(compiled)
    verdict = {key: value for key, value in report.items() if key != "ready"}
    with conn.cursor() as cursor:
        cursor.execute(RECORD, [blob_hash(compiled), report["ready"], Jsonb(verdict)])
    return report
