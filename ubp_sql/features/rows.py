"""Feature rows on their way into PostgreSQL, and labels on their way out."""

import numpy as np

from ubp_sql.features.events import Events
from ubp_sql.kernels.dispatch import F32, I64, U8


def array_literals(values: F32) -> list[str]:
    """Each row as the text of a PostgreSQL array, exact: nine significant digits name every float32.

    values  (n, f) float32; NaN stays NaN
    """
    row = "{" + ",".join(["%.9g"] * values.shape[1]) + "}"
    return [row % tuple(line) for line in values.tolist()]


def has_before(events: Events, kind: int, moment_us: int, known_us: int) -> I64:
    """Indices of the users with an event of `kind` before the moment that was known by then."""
    hit = (events.kind == kind) & (events.t_us < moment_us) & (events.ingested_us <= known_us)
    return np.flatnonzero(_any_per_user(events, hit))


def has_between(events: Events, kind: int, from_us: int, until_us: int) -> U8:
    """(u,) 1 for users with an event of `kind` in [from, until), as known today: a label may look into the future."""
    hit = (events.kind == kind) & (events.t_us >= from_us) & (events.t_us < until_us)
    return _any_per_user(events, hit).astype(np.uint8)


def _any_per_user(
    events: Events, hit: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    total = np.concatenate(([0], np.cumsum(hit)))
    return total[events.first[1:]] > total[events.first[:-1]]
