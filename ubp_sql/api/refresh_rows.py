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
    from ubp_sql.features.known import Computed
    from ubp_sql.kernels.dispatch import I64

# Types of array elements, as an image's head names them (pg_type.oid, the same on every server).
BIGINT, REAL, DOUBLE, TIMESTAMPTZ = 20, 700, 701, 1184
HEAD_BYTES = 20
# A statement of 8 MB is stored in some 0.1 s; below a thousand rows what it costs by itself would show.
STATEMENT_BYTES = 8 << 20
LEAST_ROWS = 1_000
FAR = 1 << 61
"""Moments from here on, microseconds since 1970, are stored as infinity."""


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


def times(us: "I64") -> bytes:
    """Image of a timestamptz[] from microseconds since 1970; far ones are infinity."""
    import numpy as np

    from ubp_sql.features.events import POSTGRES_EPOCH_US

    return image(np.where(us >= FAR, np.iinfo(np.int64).max, us - POSTGRES_EPOCH_US), TIMESTAMPTZ)


def compute_users(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, events: "Events", which: "I64", moment: Moment
) -> "Computed":
    """Rows of the users with these indices (ascending) at the moment."""
    import numpy as np

    from ubp_sql.features.known import compute_known

    def pause() -> None:
        touch(plpy, memory)

    pause()  # events of a user of millions took a while to put together
    return compute_known(
        events,
        found.definition,
        which,
        moment.us,
        moment.local_us,
        np.array(found.holidays, np.int64),
        pause,
        lambda made, moments: finish_all(plpy, memory, found, made, moments),
    )
