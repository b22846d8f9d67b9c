"""Whether a model may answer: neural networks run once, in a process of their own, before a server runs them.

A server process starts no other: the command line does the first run (training/first_run.py) and hands in what it saw.
A status belongs to the compiled bytes: the same network registered again has the status it had.
"""

import json
from typing import Any

from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, NoModelDeployed, NotReady, UbpError, UnsupportedModel
from ubp_sql.models.loaded import NETWORKS

SAME = """
select status, checked from ubp.models where compiled_sha256 = $1 and status <> 'pending' order by model_id desc limit 1
"""
SERVING = """
select d.task, d.version from ubp.deployments d left join ubp.deployment_arms a using (deployment_id)
 where d.retired_at > clock_timestamp() and d.cancelled_at is null
   and (d.compiled_sha256 = $1 or a.compiled_sha256 = $1) limit 1"""
RECORD = """
update ubp.models set status = $2, checked = $3::jsonb || jsonb_build_object('at', now(), 'by', session_user)
 where compiled_sha256 = $1 and substr(compiled, 1, 8) = any($4)
returning version"""


def first_status(plpy: Any, memory: dict[str, Any], compiled: bytes, sha256: str) -> tuple[str, str | None]:
    """Status and findings of a model that is registered now."""
    if not compiled.startswith(NETWORKS):
        return "ready", None
    same = single(plpy, memory, SAME, ["text"], [sha256])
    return (same["status"], same["checked"]) if same else ("pending", None)


def not_ready(task: str, version: int, status: str, checked: str | None) -> UbpError:
    """Why a version cannot be used that is pending or refused."""
    if status == "pending":
        return NotReady(
            f"version {version} of {task!r} is a neural network that has not run yet",
            f"`ubp-sql model check {task} {version}` runs it in a process of its own",
        )
    reason = json.loads(checked or "{}").get("reason")
    return UnsupportedModel(
        f"version {version} of {task!r} was refused: {reason}", "change the network and register it again"
    )


@entry
def record_model_check(
    plpy: Any, memory: dict[str, Any], compiled_sha256: str | None, ready: bool | None, report: str | None
) -> int:
    """Sets the status of all versions with these compiled bytes; returns how many there are."""
    check_version(plpy, memory)
    if compiled_sha256 is None or ready is None or not isinstance(json.loads(report or "null"), dict):
        raise BadInput(
            "a check has the hash of the compiled bytes, a verdict and a report", "`ubp-sql model check` hands it in"
        )
    serving = single(plpy, memory, SERVING, ["text"], [compiled_sha256])
    if serving is not None and not ready:
        raise BadInput(
            f"version {serving['version']} of {serving['task']!r} cannot be refused while it serves",
            "deploy another version first",
        )
    types = ["text", "text", "text", "bytea[]"]
    status = "ready" if ready else "refused"
    changed = len(run(plpy, memory, RECORD, types, [compiled_sha256, status, report, list(NETWORKS)]))
    if not changed:
        raise NoModelDeployed(
            "no neural network with this hash is registered", "select task, version, status from ubp.model_versions"
        )
    return changed
