"""When stored rows stop being right: packed pairs of user and moment, in pieces by day.

An index on ubp.feature_rows.valid_until cost as much as the rest of a row (docs/adr/0009-incremental-refresh.md). Rows
written together leave one piece or, where they are many, one a day; a day's pieces are read when as_of gets there.
Nothing is changed when a row is written anew: what a piece says of a user counts only while his row says the same.
"""

from typing import TYPE_CHECKING, Any

from ubp_sql.api.refresh_rows import FAR
from ubp_sql.api.session import run, single
from ubp_sql.kernels.codes import DAY_US

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64

NOTE = """
insert into ubp.expiries (feature_set_id, day, users, valid_until)
select $1, d.day, substr($5, 8 * d.low + 1, 8 * d.n), substr($6, 8 * d.low + 1, 8 * d.n)
  from unnest($2::integer[], $3::integer[], $4::integer[]) as d (day, low, n)"""
NOTE_TYPES = ["integer", "integer[]", "integer[]", "integer[]", "bytea", "bytea"]
PIECES = """
select count(*) as pieces, coalesce(max(x.total), 0) as total,
       string_agg(x.users, '') filter (where x.total <= 8 * $3) as users,
       string_agg(x.valid_until, '') filter (where x.total <= 8 * $3) as valid_until
  from (select users, valid_until, sum(octet_length(users)) over () as total
          from ubp.expiries where feature_set_id = $1 and (day is null or day <= $2) order by expiry_id) x"""
TAKE = "delete from ubp.expiries where feature_set_id = $1 and (day is null or day <= $2)"
PAST = "delete from ubp.expiries where feature_set_id = $1 and day < $2"
NONE = "delete from ubp.expiries where feature_set_id = $1"

MANY = 4_000
"""Users from which on a statement's are sorted by day: with fewer, the pieces would be more than what is in them."""
MOST_PIECES = 64
"""Pieces that are read at a time before they are put together: 0.3 ms."""
MOST_USERS = 8_000_000
"""Read at a time, twice 64 MB; where there are more, everybody is to be computed."""


def note(plpy: Any, memory: dict[str, Any], feature_set_id: int, users: "I64", until_us: "I64") -> None:
    """Rows that were written: their users, and until when they are right, microseconds since 1970 (FAR: for ever)."""
    import numpy as np

    some = until_us < FAR
    users, until_us = users[some], until_us[some]
    if not len(users):
        return
    if len(users) < MANY:
        days, lows = [None], [0]
    else:
        order = np.argsort(until_us, kind="stable")
        users, until_us = users[order], until_us[order]
        day = until_us // DAY_US
        first = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
        days, lows = day[first].tolist(), first.tolist()
    sizes = np.diff([*lows, len(users)]).tolist()
    run(plpy, memory, NOTE, NOTE_TYPES, [feature_set_id, days, lows, sizes, users.tobytes(), until_us.tobytes()])


def due(
    plpy: Any, memory: dict[str, Any], feature_set_id: int, since_us: int, as_of_us: int, *, tidy: bool = False
) -> "I64 | None":
    """Users, ascending, whose rows may hold until a moment from `since_us` up to `as_of_us`; None: nearly everybody.

    since_us  where all rows are right
    tidy      drops what is past, and puts pieces together where they have become many
    """
    import numpy as np

    nobody = np.empty(0, np.int64)
    if as_of_us <= since_us:
        return nobody
    types = ["integer", "integer"]
    if tidy:
        run(plpy, memory, PAST, types, [feature_set_id, since_us // DAY_US])
    last = [feature_set_id, as_of_us // DAY_US]
    row = single(plpy, memory, PIECES, [*types, "bigint"], [*last, MOST_USERS])
    if row is None or not row["pieces"]:
        return nobody
    if row["total"] > 8 * MOST_USERS:
        return None
    users, until_us = (np.frombuffer(row[name], np.int64) for name in ("users", "valid_until"))
    if tidy and row["pieces"] > MOST_PIECES:
        run(plpy, memory, TAKE, types, last)
        alive = until_us >= as_of_us
        note(plpy, memory, feature_set_id, users[alive], until_us[alive])
    return np.unique(users[(until_us >= since_us) & (until_us < as_of_us)])


def forget_all(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> None:
    """Everybody is about to be written."""
    run(plpy, memory, NONE, ["integer"], [feature_set_id])
