"""How whoever changes sources or links minds others: how long he waits for them, and that he sees what they did."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ubp_sql.api.session import run, single
from ubp_sql.errors import BadInput

PATIENCE = "10s"
"""Behind whoever waits for a lock on a table all its writers wait."""
WAITS = "select current_setting('lock_timeout') as before"
SET_WAITS = "select set_config('lock_timeout', $1, true)"
ISOLATION = "select current_setting('transaction_isolation') as level"


@contextmanager
def patience(plpy: Any, memory: dict[str, Any]) -> Iterator[None]:
    """Inside, nobody is waited for longer than PATIENCE, or what the session has set."""
    before = (single(plpy, memory, WAITS, [], []) or {})["before"]
    if before == "0":
        run(plpy, memory, SET_WAITS, ["text"], [PATIENCE])
    yield
    run(plpy, memory, SET_WAITS, ["text"], [before])


ATTACHED = "attached sources change at READ COMMITTED: an older snapshot hides what others have attached meanwhile"


def refuse_old_snapshot(plpy: Any, memory: dict[str, Any], why: str = ATTACHED) -> None:
    """Raises BadInput (UB003) where what others do meanwhile could not be seen: it would be dropped."""
    if run(plpy, memory, ISOLATION, [], [])[0]["level"] != "read committed":
        raise BadInput(why, "begin isolation level read committed")
