"""Features of one user: as stored, or computed at a moment from the raw events by the same kernel."""

import math
from typing import Any

from ubp_sql.api.events import of_user
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.session import check_version, entry, prepare_numba, run

STORED = """
select d.name as feature, nullif(r.features[d.position]::double precision, 'NaN') as value, d.unit, d.meaning
  from ubp.feature_sets s
  join ubp.feature_rows r on r.feature_set_id = s.feature_set_id and r.user_id = $1
  join ubp.feature_definitions d on d.feature_set_id = s.feature_set_id
 where s.name = 'default' order by d.position"""


def live_row(
    plpy: Any, memory: dict[str, Any], key: str | int, user_id: int | None, as_of: str | None
) -> tuple[float, ...] | None:
    """float32 features of a user at `as_of`, in the set's order; None for a user without events by then."""
    found = feature_set(plpy, memory, key)
    as_of_us, local_us = moment_us(plpy, memory, as_of, found.time_zone)
    if user_id is None:
        return None
    return _compute(plpy, memory, found, user_id, str(as_of), as_of_us, local_us)


def _compute(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, user_id: int, as_of: str, as_of_us: int, local_us: int
) -> tuple[float, ...] | None:
    events = of_user(plpy, memory, found.definition, user_id, as_of)
    if events is None:
        return None
    prepare_numba()
    import numpy as np

    from ubp_sql.features.compute import compute

    one = np.zeros(1, np.int64)
    values = compute(events, found.definition, one, one + as_of_us, one + local_us)
    return tuple(values[0].tolist())


@entry
def features(plpy: Any, memory: dict[str, Any], user_id: int) -> Any:
    """(feature, value, unit, meaning) of the stored row."""
    check_version(plpy, memory)
    feature_set(plpy, memory, "default")
    return [
        (r["feature"], r["value"], r["unit"], r["meaning"]) for r in run(plpy, memory, STORED, ["bigint"], [user_id])
    ]


@entry
def features_at(plpy: Any, memory: dict[str, Any], user_id: int | None, as_of: str | None) -> Any:
    """(feature, value, unit, meaning) at a moment, from the raw events."""
    check_version(plpy, memory)
    values = live_row(plpy, memory, "default", user_id, as_of)
    if values is None:
        return []
    names = feature_set(plpy, memory, "default").definition.features
    return [
        (f.name, None if math.isnan(value) else value, f.unit, f.meaning)
        for f, value in zip(names, values, strict=True)
    ]
