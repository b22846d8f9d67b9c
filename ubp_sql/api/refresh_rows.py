"""Feature rows from events to the table: what is computed of some users, and the statements that store it.

Numbers reach arrays without a conversion: a batch travels as images of arrays (ubp.image_array), cut out of one value.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.events import touch
from ubp_sql.api.moments import FeatureSet
from ubp_sql.api.session import run, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ubp_sql.features.events import Events
    from ubp_sql.kernels.dispatch import F32, F64, I64

# Types of array elements, as an image's head names them (pg_type.oid, the same on every server).
BIGINT, REAL, DOUBLE, TIMESTAMPTZ = 20, 700, 701, 1184
HEAD_BYTES = 20
# A statement of 8 MB is stored in some 0.1 s; below a thousand rows what it costs by itself would show.
STATEMENT_BYTES = 8 << 20
LEAST_ROWS = 1_000
FAR = 1 << 61
"""Moments from here on, microseconds since 1970, are stored as infinity."""

# xmax tells a new row from one that was there: nobody locks rows of this table.
UPSERT = """
with stored as (
  insert into ubp.feature_rows as r (feature_set_id, user_id, features, packed, anchors, as_of, valid_until)
  select $1, u.user_id, ubp.image_array(substr($3, 1 + (u.place::integer - 1) * $4, $4), '{}'::real[]),
         substr($3, 21 + (u.place::integer - 1) * $4, $4 - 20),
         ubp.image_array(substr($5, 1 + (u.place::integer - 1) * $6, $6), '{}'::double precision[]), $7, u.valid_until
    from unnest(ubp.image_array($2, '{}'::bigint[]), ubp.image_array($8, '{}'::timestamptz[]))
      with ordinality as u (user_id, valid_until, place)
  on conflict (feature_set_id, user_id) do update
     set features = excluded.features, packed = excluded.packed, anchors = excluded.anchors, as_of = excluded.as_of,
         valid_until = excluded.valid_until
  returning xmax = 0 as new)
select count(*) filter (where new) as new from stored"""
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
UPSERT_TYPES = ["integer", "bytea", "bytea", "integer", "bytea", "integer", "timestamptz", "bytea"]


class Computed(NamedTuple):
    """Rows of the users whose events had begun, ascending; and those whose events are all to come."""

    user_ids: "I64"  # (p,)
    features: "F32"  # (p, f)
    anchors: "F64"  # (p, a)
    valid_until: "I64"  # (p,) microseconds since 1970
    awaited: "I64"  # (q,) users without a known event, of which some are to come
    awaited_until: "I64"  # (q,)


class Moment(NamedTuple):
    """An as_of as it is written and as kernels take it."""

    text: str
    us: int
    local_us: int

    @property
    def weekday(self) -> int:
        """Local weekday, Monday 0; 1970-01-01 was a Thursday."""
        return (self.local_us // 86_400_000_000 + 3) % 7


def image(values: "NDArray[Any]", element: int) -> bytes:
    """Image of a one-dimensional array; `element` names the type."""
    import numpy as np

    if not len(values):
        return np.array([0, 0, element], np.int32).tobytes()
    head = np.array([1, 0, element, len(values), 1], np.int32)
    return bytes(head.tobytes() + np.ascontiguousarray(values).tobytes())


def images(rows: "NDArray[Any]", element: int) -> bytes | None:
    """Images of the rows of a matrix, one after the other; None for rows without a column."""
    import numpy as np

    n, width = rows.shape
    if not width:
        return None
    size = width * rows.itemsize
    made = np.empty((n, HEAD_BYTES + size), np.uint8)
    made[:, :HEAD_BYTES] = np.array([1, 0, element, width, 1], np.int32).view(np.uint8)
    made[:, HEAD_BYTES:] = np.ascontiguousarray(rows).view(np.uint8).reshape(n, size)
    return made.tobytes()


def rows_of_images(raw: bytes, n: int, kind: "type[Any]") -> "NDArray[Any]":
    """(n, width) values of n images of equal length, of the type `kind`."""
    import numpy as np

    table = np.frombuffer(raw, np.uint8).reshape(n, -1)[:, HEAD_BYTES:]
    return np.ascontiguousarray(table).view(kind)


def times(us: "I64") -> bytes:
    """Image of a timestamptz[] from microseconds since 1970; far ones are infinity."""
    import numpy as np

    from ubp_sql.features.events import POSTGRES_EPOCH_US

    return image(np.where(us >= FAR, np.iinfo(np.int64).max, us - POSTGRES_EPOCH_US), TIMESTAMPTZ)


def compute_users(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, events: "Events", which: "I64", moment: Moment
) -> Computed:
    """Rows of the users with these indices (ascending) at the moment."""
    import numpy as np

    from ubp_sql.features.compute import compute, valid_until

    def pause() -> None:
        touch(plpy, memory)

    known = known_users(events, moment.us)[which]
    rows = which[known]
    holidays = np.array(found.holidays, np.int64)
    moments = np.full(len(rows), moment.us)
    local = np.full(len(rows), moment.local_us)
    made = compute(events, found.definition, rows, moments, local, between_chunks=pause, holidays=holidays)
    until = valid_until(events, found.definition, rows, moments, between_chunks=pause, holidays=holidays)
    awaited, awaited_until = _awaited(events, which[~known])
    return Computed(events.user_id[rows], made.features, made.anchors, until, awaited, awaited_until)


def known_users(events: "Events", as_of_us: int) -> "NDArray[Any]":
    """(u,) whether any event of the user, of the kinds asked for, had happened and was known."""
    import numpy as np

    some = np.zeros(len(events.user_id), np.bool_)
    if len(events.kind):
        hit = events.kind >= 0
        if events.t_us.max() >= as_of_us or events.ingested_us.max() > as_of_us:
            hit &= (events.t_us < as_of_us) & (events.ingested_us <= as_of_us)
        has = np.flatnonzero(np.diff(events.first))
        some[has] = np.logical_or.reduceat(hit, events.first[has])
    return some


def _awaited(events: "Events", which: "I64") -> "tuple[I64, I64]":
    """Users with events of the set's kinds, none known yet: their ids, and the last moment at which that is so."""
    import numpy as np

    ids, until = [], []
    for user in which.tolist():
        part = slice(int(events.first[user]), int(events.first[user + 1]))
        begins = np.maximum(events.t_us[part], events.ingested_us[part] - 1)[events.kind[part] >= 0]
        if len(begins):
            ids.append(events.user_id[user])
            until.append(begins.min())
    return np.array(ids, np.int64), np.array(until, np.int64)


class Packed(NamedTuple):
    """Computed rows as images, ready for the server; what a step of a job keeps."""

    user_ids: bytes
    features: bytes
    feature_size: int
    anchors: bytes | None
    anchor_size: int
    valid_until: bytes
    awaited: bytes
    awaited_until: bytes


def pack(made: Computed) -> Packed:
    """The images of all rows, which should not be more than some STATEMENT_BYTES."""
    return Packed(
        image(made.user_ids, BIGINT),
        images(made.features, REAL) or b"",
        HEAD_BYTES + 4 * made.features.shape[1],
        images(made.anchors, DOUBLE),
        HEAD_BYTES + 8 * made.anchors.shape[1],
        times(made.valid_until),
        image(made.awaited, BIGINT),
        times(made.awaited_until),
    )


def store(plpy: Any, memory: dict[str, Any], feature_set_id: int, moment: Moment, made: Computed) -> int:
    """Writes rows and awaited users; returns how many rows are new."""
    new = 0
    width = 2 * HEAD_BYTES + made.features.shape[1] * 4 + made.anchors.shape[1] * 8
    step = max(LEAST_ROWS, STATEMENT_BYTES // width)
    for low in range(0, max(len(made.user_ids), len(made.awaited)), step):
        part = Computed._make(column[low : low + step] for column in made)
        new += store_packed(plpy, memory, feature_set_id, moment.text, pack(part))
    return new


def store_packed(plpy: Any, memory: dict[str, Any], feature_set_id: int, as_of: str, rows: Packed) -> int:
    """Writes what `pack` made; returns how many rows are new."""
    arguments = [
        feature_set_id,
        rows.user_ids,
        rows.features,
        rows.feature_size,
        rows.anchors,
        rows.anchor_size,
        as_of,
        rows.valid_until,
    ]
    row = single(plpy, memory, UPSERT, UPSERT_TYPES, arguments)
    types = ["integer", "bytea", "bytea"]
    run(plpy, memory, AWAIT, types, [feature_set_id, rows.awaited, rows.awaited_until])
    return row["new"] if row else 0


def pieces(users: "I64", size: int) -> "Iterator[I64]":
    """The users in slices."""
    for low in range(0, len(users), size):
        yield users[low : low + size]


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
