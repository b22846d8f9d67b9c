"""Who has to be computed anew: users with changed events, users of whom an event crosses an edge, or everybody."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api import expiries
from ubp_sql.api.refresh_rows import BIGINT, Moment, image
from ubp_sql.api.session import Row, run, single

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64

STATE = """
select s.as_of, s.as_of_us, s.users, s.stale, s.refreshed_at, s.hash, coalesce(s.as_of > $2, false) as backwards,
       exists (select from ubp.feature_definitions d
                where d.feature_set_id = s.feature_set_id and d.family in ('percentile', 'item_popularity')
                  and not exists (select from ubp.standings t
                                   where t.feature_set_id = d.feature_set_id and t.position = d.position
                                     and t.day = ($2 at time zone 'UTC')::date
                                     and t.day = (s.as_of at time zone 'UTC')::date
                                     and t.recorded_at <= s.refreshed_at)) as another_population
  from ubp.feature_sets s where s.feature_set_id = $1"""
# Deleted where they are read, in the transaction that writes the rows: work is never done twice and never lost.
DIRTY = """
with taken as (delete from ubp.dirty_users where feature_set_id = $1 returning user_id)
select string_agg(int8send(user_id), '') as users from taken"""
# Users named by ubp.expiries: the row decides. Then those whose first event comes.
EXPIRED = """
select string_agg(int8send(x.user_id), '') as users
  from (select r.user_id from ubp.feature_rows r
         where r.feature_set_id = $1 and r.valid_until < $2 and r.user_id = any (ubp.image_array($3, '{}'::bigint[]))
         union all
        select a.user_id from ubp.awaited_users a where a.feature_set_id = $1 and a.valid_until < $2) x"""
STORED = "select string_agg(int8send(r.user_id), '') as users from ubp.feature_rows r where r.feature_set_id = $1"
DIRTY_USERS = "select count(*) as n from ubp.dirty_users d where d.feature_set_id = $1"

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


def choose(plpy: Any, memory: dict[str, Any], feature_set_id: int, moment: Moment, fresh: Sequence[int]) -> Todo:
    """Takes the set's dirty users off their table and says who is to be computed. Log folded before, locks taken.

    fresh  users whose events that fold found changed
    """
    import numpy as np

    state = single(plpy, memory, STATE, ["integer", "timestamptz"], [feature_set_id, moment.text])
    assert state is not None  # noqa: S101 - the caller has read the set
    dirty = _ids(plpy, memory, DIRTY, ["integer"], [feature_set_id])
    total = int(state["users"] or 0)
    why = everybody(state)
    if why is not None:
        return Todo(None, total, why)
    expired = expired_users(plpy, memory, feature_set_id, state, moment, tidy=True)
    if expired is None or len(dirty) + len(fresh) + len(expired) > MOST_NAMED:
        return Todo(None, total, "everybody: most users changed")
    dirty = np.union1d(dirty, np.array(fresh, np.int64))
    users = np.union1d(dirty, expired)
    return Todo(users, total, f"{len(dirty)} with changed events, {len(expired)} at an edge of a window")


def expired_users(
    plpy: Any, memory: dict[str, Any], feature_set_id: int, state: Row, moment: Moment, *, tidy: bool = False
) -> "I64 | None":
    """Users of whom an event crosses an edge on the way from the set's as_of to the moment; None: nearly everybody.

    state  row of STATE of a set whose rows are all right at its as_of
    """
    import numpy as np

    named = expiries.due(plpy, memory, feature_set_id, state["as_of_us"], moment.us, tidy=tidy)
    if named is None:
        return None
    if moment.us == state["as_of_us"]:
        return np.empty(0, np.int64)
    types = ["integer", "timestamptz", "bytea"]
    return _ids(plpy, memory, EXPIRED, types, [feature_set_id, moment.text, image(named, BIGINT)])


def everybody(state: dict[str, Any]) -> str | None:
    """Why all rows have to be computed, if they have."""
    if state["as_of"] is None:
        return "everybody: nothing was stored yet"
    if state["stale"]:
        return "everybody: the set or the events were replaced"
    if state["backwards"]:
        return "everybody: as_of moves back"
    if state["another_population"]:
        return "everybody: percentile and item_popularity go by the population of another day"
    return None


def stored_users(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> "I64":
    """(n,) users with a row, ascending."""
    import numpy as np

    # 10 ms a million where they lie in order, as rows do that were written together; 90 ms else
    return np.sort(_ids(plpy, memory, STORED, ["integer"], [feature_set_id]), kind="stable")


def dirty_users(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> int:
    """How many users are marked as changed."""
    return int(run(plpy, memory, DIRTY_USERS, ["integer"], [feature_set_id])[0]["n"])


def _ids(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> "I64":
    import numpy as np

    row = single(plpy, memory, query, types, arguments)
    return np.frombuffer((row and row["users"]) or b"", ">i8").astype(np.int64)
