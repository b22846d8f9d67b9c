"""Who has to be computed anew: users with changed events, users of whom an event crosses an edge, or everybody."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.session import run, single

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64

STATE = """
select s.as_of, s.users, s.stale, s.refreshed_at, s.hash, coalesce(s.as_of > $2, false) as backwards
  from ubp.feature_sets s where s.feature_set_id = $1"""
# Deleted where they are read, in the transaction that writes the rows: work is never done twice and never lost.
DIRTY = """
with taken as (delete from ubp.dirty_users where feature_set_id = $1 returning user_id)
select string_agg(int8send(user_id), '') as users from taken"""
EXPIRED = """
select string_agg(int8send(x.user_id), '') as users
  from (select r.user_id from ubp.feature_rows r where r.feature_set_id = $1 and r.valid_until < $2
         union all
        select a.user_id from ubp.awaited_users a where a.feature_set_id = $1 and a.valid_until < $2) x"""
STORED = "select string_agg(int8send(r.user_id), '') as users from ubp.feature_rows r where r.feature_set_id = $1"
COUNTS = """
select (select count(*) from ubp.dirty_users d where d.feature_set_id = $1) as dirty,
       (select count(*) from ubp.feature_rows r where r.feature_set_id = $1 and r.valid_until < $2)
     + (select count(*) from ubp.awaited_users a where a.feature_set_id = $1 and a.valid_until < $2) as expired"""

MOST_NAMED = 2_000_000
"""Beyond so many users everybody is computed: a list of them would have to be sorted, 100 ms a million."""


class Todo(NamedTuple):
    """Whom a refresh computes.

    users  (n,) int64 ascending, or None: everybody
    total  stored rows before, about
    why    for people
    """

    users: "I64 | None"
    total: int
    why: str

    def within(self, user_ids: "I64") -> "I64":
        """Those of the users to compute that lie within the span of ascending ids."""
        import numpy as np

        if self.users is None or not len(user_ids):
            return user_ids
        low = np.searchsorted(self.users, user_ids[0], "left")
        return self.users[low : np.searchsorted(self.users, user_ids[-1], "right")]


def choose(plpy: Any, memory: dict[str, Any], feature_set_id: int, as_of: str, fresh: Sequence[int]) -> Todo:
    """Takes the set's dirty users off their table and says who is to be computed. Log folded before, locks taken.

    fresh  users whose events that fold found changed
    """
    import numpy as np

    state = single(plpy, memory, STATE, ["integer", "timestamptz"], [feature_set_id, as_of])
    assert state is not None  # noqa: S101 - the caller has read the set
    dirty = _ids(plpy, memory, DIRTY, ["integer"], [feature_set_id])
    total = int(state["users"] or 0)
    why = everybody(state)
    if why is not None:
        return Todo(None, total, why)
    expired = _ids(plpy, memory, EXPIRED, ["integer", "timestamptz"], [feature_set_id, as_of])
    if len(dirty) + len(fresh) + len(expired) > MOST_NAMED:
        return Todo(None, total, "everybody: most users changed")
    dirty = np.union1d(dirty, np.array(fresh, np.int64))
    users = np.union1d(dirty, expired)
    return Todo(users, total, f"{len(dirty)} with changed events, {len(expired)} at an edge of a window")


def everybody(state: dict[str, Any]) -> str | None:
    """Why all rows have to be computed, if they have."""
    if state["as_of"] is None:
        return "everybody: nothing was stored yet"
    if state["stale"]:
        return "everybody: the set or the events were replaced"
    if state["backwards"]:
        return "everybody: as_of moves back"
    return None


def stored_users(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> "I64":
    """(n,) users with a row, ascending."""
    import numpy as np

    # 10 ms a million where they lie in order, as rows do that were written together; 90 ms else
    return np.sort(_ids(plpy, memory, STORED, ["integer"], [feature_set_id]), kind="stable")


def counts(plpy: Any, memory: dict[str, Any], feature_set_id: int, as_of: str) -> tuple[int, int]:
    """(users marked as changed, users at an edge), for a look that changes nothing."""
    row = run(plpy, memory, COUNTS, ["integer", "timestamptz"], [feature_set_id, as_of])[0]
    return row["dirty"], row["expired"]


def _ids(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> "I64":
    import numpy as np

    row = single(plpy, memory, query, types, arguments)
    return np.frombuffer((row and row["users"]) or b"", ">i8").astype(np.int64)
