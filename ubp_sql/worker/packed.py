"""Events as the server packs them for workers."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events

COLUMNS = (np.int64, np.int64, np.int64, np.int64, np.int32, np.int32, np.float64, np.int64)


def definition_of(question: dict[str, Any]) -> FeatureSetDefinition:
    """The definition that a worker is asked for. Raises BadInput (UB003) where the server orders bytes otherwise."""
    if question["byteorder"] != sys.byteorder:
        raise BadInput(
            f"the server is {question['byteorder']}-endian, this machine {sys.byteorder}-endian",
            "run it on a machine of the server's kind, or without --gpu",
        )
    return FeatureSetDefinition.from_json(question["definition"])


def events_of(packed: Sequence[bytes], definition: FeatureSetDefinition) -> Events:
    """Events out of their eight columns."""
    arrays = [np.frombuffer(raw, kind) for raw, kind in zip(packed, COLUMNS, strict=True)]
    user_id, first, t_us, ingested_us, offset_s, kind, numbers, keys = arrays
    columns, n = definition.columns, len(t_us)
    return Events.trusted(
        user_id=user_id,
        first=first,
        t_us=t_us,
        ingested_us=ingested_us,
        offset_s=offset_s,
        kind=kind,
        numbers={name: numbers[i * n : (i + 1) * n] for i, name in enumerate(columns.numbers)},
        keys={name: keys[i * n : (i + 1) * n] for i, name in enumerate(columns.keys)},
    )
