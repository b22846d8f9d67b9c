"""Behaviour features by the kernel: from the oracle's events and a spec in words to the row that `compute` gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.reference_behaviour import Event
from ubp_sql.features.columns import Declared
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import NO_KEY, Events
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.kernels.dispatch import F32

WORDS = Declared("query", "q", "words")
Wanted = tuple[str, dict[str, Any], str]  # aggregate, settings with kinds and of, window


def definition(wanted: Sequence[Wanted]) -> FeatureSetDefinition:
    """A set of just these features, called f0, f1, ..."""
    specs = []
    for i, (aggregate, settings, window) in enumerate(wanted):
        rest = {key: value for key, value in settings.items() if key not in ("kinds", "of")}
        of = settings.get("of", "query" if aggregate == "words" else None)
        specs.append(FeatureSpec.from_parts(f"f{i}", aggregate, settings.get("kinds"), of, window, rest))
    return FeatureSetDefinition((), (), tuple(specs), (WORDS,))


def columns(users: Sequence[Sequence[Event]], kinds: Sequence[str]) -> Events:
    """Users 0, 1, ... with their events, sorted by the one order."""
    flat = [e for events in users for e in sorted(events, key=lambda e: (e.t, e.ingested, e.event_id))]
    masks = [sum(1 << word for word in e.words) for e in flat]
    return Events(
        user_id=np.arange(len(users)),
        first=np.cumsum([0, *map(len, users)]),
        t_us=np.array([e.t for e in flat], np.int64),
        ingested_us=np.array([e.ingested for e in flat], np.int64),
        offset_s=np.zeros(len(flat), np.int32),
        kind=np.array([kinds.index(e.kind) if e.kind in kinds else -1 for e in flat], np.int32),
        keys={
            "item": np.array([NO_KEY if e.item is None else e.item for e in flat], np.int64),
            "query": np.array(masks, np.uint64).view(np.int64),
        },
    )


def rows(
    users: Sequence[Sequence[Event]],
    wanted: Sequence[Wanted],
    pairs: Sequence[tuple[int, int, int]],
    chunk: int = 1 << 19,
) -> F32:
    """One row for each (user, as_of, known_at)."""
    features = definition(wanted)
    user, as_of, known_at = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return compute(columns(users, features.kinds), features, user, as_of, as_of, known_at, chunk=chunk).features
