"""Feature rows out of events: what is computed of some users at a moment, and the images that take it to the server.

Numbers reach arrays without a conversion: a batch travels as images of arrays (ubp.image_array), cut out of one value.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.moments import FeatureSet
from ubp_sql.api.session import touch
from ubp_sql.api.standings import finish_all

if TYPE_CHECKING:
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

    pause()  # events of a user of millions took a while to put together
    known = known_users(events, moment.us)[which]
    rows = which[known]
    holidays = np.array(found.holidays, np.int64)
    moments = np.full(len(rows), moment.us)
    local = np.full(len(rows), moment.local_us)
    made = compute(events, found.definition, rows, moments, local, between_chunks=pause, holidays=holidays)
    finish_all(plpy, memory, found, made, moments)
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
    """Users with events of the set's kinds, none known yet: their ids, and the last moment at which that is so.

    All at once: half a million users of one event each took two seconds one by one, in which nobody could cancel.
    """
    import numpy as np

    if not len(which):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    never = np.iinfo(np.int64).max
    begins = np.where(events.kind >= 0, np.maximum(events.t_us, events.ingested_us - 1), never)
    first = np.full(len(events.user_id), never)
    some = np.flatnonzero(np.diff(events.first))
    first[some] = np.minimum.reduceat(begins, events.first[some])
    which = which[first[which] < never]
    return events.user_id[which], first[which]
