"""Feature rows into the table: the statements that write, await and delete them.

Nobody else writes rows of the set meanwhile: its lock is held.
"""

from typing import TYPE_CHECKING, Any

from ubp_sql.api import expiries
from ubp_sql.api.refresh_rows import (
    BIGINT,
    DOUBLE,
    HEAD_BYTES,
    LEAST_ROWS,
    REAL,
    STATEMENT_BYTES,
    Moment,
    image,
    images,
    times,
)
from ubp_sql.api.session import run, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ubp_sql.features.known import Computed
    from ubp_sql.kernels.dispatch import I64

# The sub-select keeps the planner from looking into the arrays: for as many users as they hold it would join with the
# whole table, where one look-up a user is faster.
ROWS = """
  from (select ubp.image_array($2, '{}'::bigint[]) as users, ubp.image_array($7, '{}'::timestamptz[]) as until
        offset 0) a
 cross join lateral unnest(a.users, a.until) with ordinality as u (user_id, valid_until, place)"""
FEATURES = "ubp.image_array(substr($3, 1 + (u.place::integer - 1) * $4, $4), '{}'::real[])"
ANCHORS = "ubp.image_array(substr($5, 1 + (u.place::integer - 1) * $6, $6), '{}'::double precision[])"
INSERT = f"""
insert into ubp.feature_rows (feature_set_id, user_id, features, anchors, as_of, valid_until)
select $1, u.user_id, {FEATURES}, {ANCHORS}, $8, u.valid_until {ROWS}"""
# ON CONFLICT DO UPDATE would lock each row, and look for one that is not there, before it writes: half as much again.
UPDATE = f"""
with stored as (
  update ubp.feature_rows r set features = {FEATURES}, anchors = {ANCHORS}, as_of = $8, valid_until = u.valid_until
  {ROWS} where r.feature_set_id = $1 and r.user_id = u.user_id returning r.user_id)
select string_agg(int8send(s.user_id), '') as users from stored s"""  # noqa: S608 - constants only
AWAIT = """
insert into ubp.awaited_users (feature_set_id, user_id, valid_until)
select $1, u.user_id, u.valid_until
  from unnest(ubp.image_array($2, '{}'::bigint[]), ubp.image_array($3, '{}'::timestamptz[])) as u (user_id, valid_until)
on conflict (feature_set_id, user_id) do update set valid_until = excluded.valid_until"""
AWAIT_NO_MORE = """
delete from ubp.awaited_users where feature_set_id = $1 and user_id = any (ubp.image_array($2, '{}'::bigint[]))"""
AWAIT_NOBODY = "delete from ubp.awaited_users where feature_set_id = $1"
FORGET = """
with gone as (
  delete from ubp.feature_rows
   where feature_set_id = $1 and user_id = any (ubp.image_array($2, '{}'::bigint[])) returning 1)
select count(*) as rows from gone"""
WRITE_TYPES = ["integer", "bytea", "bytea", "integer", "bytea", "integer", "bytea", "timestamptz"]


def store(
    plpy: Any,
    memory: dict[str, Any],
    feature_set_id: int,
    moment: Moment,
    made: "Computed",
    stored: "NDArray[Any] | None" = None,
) -> int:
    """Writes rows, when they expire, and awaited users; returns how many rows are new.

    stored  (p,) whether the user has a row already; None: not known
    """
    import numpy as np

    new = 0
    width = 2 * HEAD_BYTES + made.features.shape[1] * 4 + made.anchors.shape[1] * 8
    step = max(LEAST_ROWS, STATEMENT_BYTES // width)
    for low in range(0, len(made.user_ids), step):
        part = type(made)._make(column[low : low + step] for column in made)
        old = np.ones(len(part.user_ids), np.bool_) if stored is None else stored[low : low + step]
        new += _write(plpy, memory, feature_set_id, moment.text, part, old)
    expiries.note(plpy, memory, feature_set_id, made.user_ids, made.valid_until)
    for low in range(0, len(made.awaited), step):
        some, until = made.awaited[low : low + step], made.awaited_until[low : low + step]
        arguments = [feature_set_id, image(some, BIGINT), times(until)]
        run(plpy, memory, AWAIT, ["integer", "bytea", "bytea"], arguments)
    return new


def _write(
    plpy: Any, memory: dict[str, Any], feature_set_id: int, as_of: str, rows: "Computed", old: "NDArray[Any]"
) -> int:
    """Changes rows that are there and inserts the others; returns how many those are. `old` are perhaps there."""
    import numpy as np

    def write(query: str, some: "Computed") -> Any:
        features, anchors = images(some.features, REAL), images(some.anchors, DOUBLE)
        sizes = HEAD_BYTES + some.features.shape[1] * 4, HEAD_BYTES + some.anchors.shape[1] * 8
        arguments = [feature_set_id, image(some.user_ids, BIGINT), features or b"", sizes[0], anchors, sizes[1]]
        return run(plpy, memory, query, WRITE_TYPES, [*arguments, times(some.valid_until), as_of])

    missing = ~old
    if old.any():
        found = write(UPDATE, rows if old.all() else _taken(rows, old))[0]["users"]
        written = np.frombuffer(found or b"", ">i8").astype(np.int64)
        if len(written) < np.count_nonzero(old):
            missing |= ~np.isin(rows.user_ids, written)
    if missing.any():
        write(INSERT, rows if missing.all() else _taken(rows, missing))
    return int(np.count_nonzero(missing))


def _taken(rows: "Computed", which: "NDArray[Any]") -> "Computed":
    """Some of the rows; nobody who is awaited."""
    none = rows.awaited[:0]
    return type(rows)(
        rows.user_ids[which], rows.features[which], rows.anchors[which], rows.valid_until[which], none, none
    )


def pieces(users: "I64", size: int) -> "Iterator[I64]":
    """The users in slices."""
    for low in range(0, len(users), size):
        yield users[low : low + size]


def begin_anew(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> None:
    """Everybody is about to be stored, awaited or forgotten."""
    run(plpy, memory, AWAIT_NOBODY, ["integer"], [feature_set_id])
    expiries.forget_all(plpy, memory, feature_set_id)


def forget(plpy: Any, memory: dict[str, Any], feature_set_id: int, users: "I64") -> int:
    """Deletes the rows of users without an event any more; returns how many there were."""
    gone = 0
    for part in pieces(users, 50_000):
        row = single(plpy, memory, FORGET, ["integer", "bytea"], [feature_set_id, image(part, BIGINT)])
        gone += row["rows"] if row else 0
    return gone


def await_no_more(plpy: Any, memory: dict[str, Any], feature_set_id: int, users: "I64") -> None:
    """These users are computed now; `store` awaits again those of whom still nothing is known."""
    for part in pieces(users, 50_000):
        run(plpy, memory, AWAIT_NO_MORE, ["integer", "bytea"], [feature_set_id, image(part, BIGINT)])
