"""The queries of one user's slices, made for the columns that a set reads: all of them constants but for the choice.

To fetch a column's slice takes 2-4 us, and one that is not wanted, left out by a CASE, another microsecond.
"""

from collections.abc import Iterable
from typing import NamedTuple

# Whether what the session keeps is right, and the slice of one chunk; all columns of it are NULL where $4 is.
STATE = """
select s.hash, m.version, m.built and not row_security_active('ubp.events') as mirrored,
       exists (select from ubp.event_log l where l.users is null or $2 = any (l.users)) as pending,
       timestamptz_send($3) as as_of, timestamp_send($3 at time zone s.time_zone) as local,
       {columns}
  from ubp.feature_sets s
 cross join ubp.mirror_state m
  left join ubp.mirror_chunks c on c.chunk_id = $4
 where s.feature_set_id = $1"""
STATE_TYPES = ["integer", "bigint", "timestamptz", "bigint", "integer", "integer"]
PIECE = """
select {columns}
  from ubp.mirror_chunks c where c.chunk_id = $1"""
PIECE_TYPES = ["bigint", "integer", "integer"]
# From event {start} on, {n} of them.
LONG = "substr(c.{column}, 8 * {start} + 1, 8 * {n}) as {name}"
SHORT = "substr(c.{column}, 4 * {start} + 1, 4 * {n}) as {name}"
EXTRAS = """(select array_agg(substr(x.bytes, 8 * {start} + 1, 8 * {n}) order by x.place)
          from unnest(c.extras) with ordinality as x (bytes, place)) as extras"""
# Which columns are declared, by numbers that no transaction had before: a set's places among them may have been learnt
# in one that was rolled back.
DECLARED = "(select array_agg(e.position order by e.position) from ubp.event_columns e) as declared"
COLUMNS = {
    "t": (LONG, "t"),
    "ingested": (LONG, "ingested"),
    "event_id": (LONG, "event_id"),
    "kind": (SHORT, "kind"),
    "offset_s": (SHORT, "offset_s"),
    "item": (LONG, "item"),
    "order": (LONG, "order_key"),
    "value": (LONG, "value"),
    "quantity": (LONG, "quantity"),
    "duration_s": (LONG, "duration_s"),
}


class Queries(NamedTuple):
    """STATE and PIECE with some columns."""

    state: str
    piece: str


def queries(names: Iterable[str], *, extras: bool) -> Queries:
    """For columns of COLUMNS, and all declared ones as an array if `extras`."""
    forms = [(*COLUMNS[name], name) for name in names] + ([(EXTRAS, "", "")] if extras else [])
    made = []
    for query, start, n in ((STATE, "$5", "$6"), (PIECE, "$2", "$3")):
        parts = [form.format(column=column, name=name, start=start, n=n) for form, column, name in forms]
        if extras and query is STATE:
            parts.append(DECLARED)
        made.append(query.format(columns=",\n       ".join(parts)))
    return Queries(*made)
