"""The queries of one user's slices, made for the columns that a set reads: all of them constants but for the choice.

To fetch a column's slice takes 2-4 us, and one that is not wanted, left out by a CASE, another microsecond.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable

# Whether what the session keeps is right, and the slice of one chunk; all columns of it are NULL where $4 is.
STATE = """
select s.hash, m.version, m.built and not row_security_active('ubp.events') as mirrored,
       exists (select from ubp.event_log l where l.users is null or $2 = any (l.users){linked}) as pending,
       timestamptz_send($3) as as_of, timestamp_send($3 at time zone s.time_zone) as local,
       {columns}
  from ubp.feature_sets s
 cross join ubp.mirror_state m
  left join ubp.mirror_chunks c on c.chunk_id = $4
 where s.feature_set_id = $1"""
# Triggers log the ids that events have. Costs a microsecond, and nothing where nobody is linked.
LINKED = " or l.users && array(select m.member_id from ubp.user_members m where m.user_id = $2)"
STATE_TYPES = ["integer", "bigint", "timestamptz", "bigint", "integer", "integer"]
PIECE = """
select {columns}
  from ubp.mirror_chunks c where c.chunk_id = $1"""
PIECE_TYPES = ["bigint", "integer", "integer"]
# From event {start} on, {n} of them; the first byte of a column's form is how many bytes each value takes.
SLICE = "substr(c.{column}, get_byte(c.forms, {at}) * {start} + 1, get_byte(c.forms, {at}) * {n}) as {name}"
EXTRAS = """(select array_agg(substr(x.bytes, get_byte(c.forms, {at} + 16 * x.place::integer) * {start} + 1,
                                  get_byte(c.forms, {at} + 16 * x.place::integer) * {n}) order by x.place)
          from unnest(c.extras) with ordinality as x (bytes, place)) as extras"""
# Which columns are declared, by numbers that no transaction had before: a set's places among them may have been learnt
# in one that was rolled back.
DECLARED = "(select array_agg(e.position order by e.position) from ubp.event_columns e) as declared"
FORM_BYTES = 16
COLUMNS = {
    "t": "t",
    "ingested": "ingested",
    "event_id": "event_id",
    "kind": "kind",
    "item": "item",
    "order": "order_key",
    "value": "value",
    "quantity": "quantity",
    "duration_s": "duration_s",
    "offset_s": "offset_s",
}
"""Columns of every event as the table names them, in the order of their forms, which those of extras follow."""
PLACES = {name: place for place, name in enumerate(COLUMNS)}


class Queries(namedtuple("Queries", ("state", "linked", "piece"))):
    """STATE and PIECE with some columns; `linked`: STATE where some users are several ids."""

    __slots__ = ()


def queries(names: Iterable[str], *, extras: bool) -> Queries:
    """For columns of COLUMNS, and all declared ones as an array if `extras`."""
    forms = [(SLICE, COLUMNS[name], name, FORM_BYTES * PLACES[name]) for name in names]
    if extras:
        forms.append((EXTRAS, "", "", FORM_BYTES * (len(COLUMNS) - 1)))  # a place among extras counts from 1
    made = []
    for query, start, n in ((STATE, "$5", "$6"), (PIECE, "$2", "$3")):
        parts = [form.format(column=column, name=name, at=at, start=start, n=n) for form, column, name, at in forms]
        if extras and query is STATE:
            parts.append(DECLARED)
        made.append(query.format(columns=",\n       ".join(parts), linked=""))
        if query is STATE:
            made.append(query.format(columns=",\n       ".join(parts), linked=LINKED))
    return Queries(*made)
