"""What a server process keeps of models: loading it before it is asked for, and what it amounts to."""

from __future__ import annotations

from ubp_sql.api.serving import KNOWN_TASK, LIVE, models
from ubp_sql.api.session import entry, run, single
from ubp_sql.errors import unknown_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEPLOYED = f"""
select d.task, d.version, d.compiled_sha256
  from ubp.deployments d
 where (d.task = $1 or $1 is null) and {LIVE} order by d.task"""  # noqa: S608 - constants only
# Of the function itself, for each keeps what it needs apart; what a third call finds serves all later ones. Nobody has
# the lowest of all ids.
FIRST_CALLS = "select ubp.predict($1, -9223372036854775808) from generate_series(1, 3)"


@entry
def warm(plpy: Any, memory: dict[str, Any], task: str | None) -> list[tuple[str, int, int]]:
    """(task, version, bytes) of each deployed task, after a call that loaded what a prediction needs.

    Raises UnknownTask (UB001).
    """
    if task is not None and single(plpy, memory, KNOWN_TASK, ["text"], [task]) is None:
        raise unknown_task(task)
    found = run(plpy, memory, DEPLOYED, ["text"], [task])
    warmed = []
    for row in found:
        run(plpy, memory, FIRST_CALLS, ["text"], [row["task"]])
        loaded = models.get(row["compiled_sha256"])
        warmed.append((row["task"], row["version"], loaded.nbytes if loaded else 0))
    return warmed


@entry
def held_models(plpy: Any, memory: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each model that this process keeps: hash, form, features, outputs, bytes, since when, last used."""
    from datetime import UTC, datetime

    rows = []
    for key, loaded in models.items():
        times = (datetime.fromtimestamp(t, UTC).isoformat() for t in (loaded.loaded_at, loaded.used_at))
        sha256 = key if isinstance(key, str) else None
        rows.append((sha256, loaded.form, loaded.features, loaded.outputs, loaded.nbytes, *times))
    return rows
