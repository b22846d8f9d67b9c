"""Rows of whoever is known at a moment, and until when they and the others stay as they are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubp_sql.features.compute import Planned, Rows, compute, valid_until
from ubp_sql.features.events import Events
from ubp_sql.kernels.dispatch import F32, F64, I64


class Computed(NamedTuple):
    """Rows of the users whose events had begun, ascending; and those whose events are all to come."""

    user_ids: I64  # (p,)
    features: F32  # (p, f)
    anchors: F64  # (p, a)
    valid_until: I64  # (p,) microseconds since 1970
    awaited: I64  # (q,) users without a known event, of which some are to come
    awaited_until: I64  # (q,)


def compute_known(
    events: Events,
    definition: Planned,
    which: I64,
    as_of_us: int,
    local_us: int,
    holidays: I64,
    pause: Callable[[], None],
    finish: Callable[[Rows, I64], None] = lambda made, moments: None,
) -> Computed:
    """Rows of the users with these indices (ascending) at a moment.

    local_us  the same moment on the set's clock
    pause     called between chunks, see `compute`
    finish    called with the rows and their moments: what goes by the other users is put in there
    """
    known = known_users(events, as_of_us)[which]
    rows = which[known]
    moments, local = np.full(len(rows), as_of_us), np.full(len(rows), local_us)
    made = compute(events, definition, rows, moments, local, between_chunks=pause, holidays=holidays)
    finish(made, moments)
    until = valid_until(events, definition, rows, moments, between_chunks=pause, holidays=holidays)
    awaited, awaited_until = _awaited(events, which[~known])
    return Computed(events.user_id[rows], made.features, made.anchors, until, awaited, awaited_until)


def known_users(events: Events, as_of_us: int) -> NDArray[np.bool_]:
    """(u,) whether any event of the user, of the kinds asked for, had happened and was known."""
    some = np.zeros(len(events.user_id), np.bool_)
    if len(events.kind):
        hit = events.kind >= 0
        if events.t_us.max() >= as_of_us or events.ingested_us.max() > as_of_us:
            hit &= (events.t_us < as_of_us) & (events.ingested_us <= as_of_us)
        has = np.flatnonzero(np.diff(events.first))
        some[has] = np.logical_or.reduceat(hit, events.first[has])
    return some


def _awaited(events: Events, which: I64) -> tuple[I64, I64]:
    """Users with events of the set's kinds, none known yet: their ids, and the last moment at which that is so.

    All at once: half a million users of one event each took two seconds one by one, in which nobody could cancel.
    """
    if not len(which):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    never = np.iinfo(np.int64).max
    begins = np.where(events.kind >= 0, np.maximum(events.t_us, events.ingested_us - 1), never)
    first = np.full(len(events.user_id), never)
    some = np.flatnonzero(np.diff(events.first))
    first[some] = np.minimum.reduceat(begins, events.first[some])
    which = which[first[which] < never]
    return events.user_id[which], first[which]
