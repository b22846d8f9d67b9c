"""One user's features through Numba: for users of very many events, and where the native library could not be built."""

from typing import Any

from ubp_sql.api.events import read_users, read_with
from ubp_sql.api.moments import feature_set
from ubp_sql.api.session import prepare_numba, touch
from ubp_sql.api.standings import finish_all
from ubp_sql.kernels.codes import DAY_US


def row_of(
    plpy: Any,
    memory: dict[str, Any],
    feature_set_id: int,
    user_id: int,
    as_of_us: int,
    weekday: int,
    hypothetical: str | None = None,
) -> bytes | None:
    """float32 features at a moment, known by then, machine order; None for a user without events by then.

    hypothetical  further events, as hypothetical.py has them
    """
    found = feature_set(plpy, memory, feature_set_id)
    definition = found.definition
    prepare_numba()
    import numpy as np

    from ubp_sql.features.compute import compute

    if hypothetical:
        events = read_with(plpy, memory, definition.kinds, definition.columns, user_id, hypothetical)
    else:
        events = read_users(plpy, memory, definition.kinds, definition.columns, [user_id])
    if events is None:
        return None
    some = (events.t_us < as_of_us) & (events.ingested_us <= as_of_us) & (events.kind >= 0)
    if not some.any():
        return None
    one = np.zeros(1, np.int64)
    # A moment on the source's clock that has the weekday: 1970-01-05 was a Monday.
    local_us = one + (weekday + 4) * DAY_US
    rows = compute(
        events,
        definition,
        one,
        one + as_of_us,
        local_us,
        between_chunks=lambda: touch(plpy, memory),
        holidays=np.array(found.holidays, np.int64),
    )
    finish_all(plpy, memory, found, rows, one + as_of_us)
    return rows.features.tobytes()
