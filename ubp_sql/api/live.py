"""Features of one user: as stored, or at a moment from the raw events by the same kernel.

The native library computes a user of up to MOST_EVENTS events from slices of the mirror and rows that are not in it
yet, without NumPy; Numba computes all else, with the same bits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

from ubp_sql.api.live_read import Question, ask
from ubp_sql.api.live_set import LiveSet, live_set, load_set
from ubp_sql.api.session import check_version, entry, run, single, touch
from ubp_sql.errors import BadInput
from ubp_sql.kernels.live_layout import AGAIN, DONE, MALFORMED, NOBODY, TIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BUDGET = 1 << 19
"""Events' worth of work of one call of the library: 5-30 ms."""
PRESENT = "select 1 as found from ubp.feature_sets where feature_set_id = $1 and hash = $2"
NAMES = """
select d.name, d.unit, d.meaning from ubp.feature_definitions d where d.feature_set_id = $1 order by d.position"""


def live_bytes(
    plpy: Any,
    memory: dict[Any, Any],
    key: str | int,
    user_id: int | None,
    as_of: str | None,
    hypothetical: str | None = None,
) -> bytes | None:
    """float32 features of a user at `as_of` in the set's order, machine order; None for one without events by then.

    hypothetical  further events of the user, as hypothetical.py has them; he is nobody else's by ubp.link_users then

    Raises BadInput (UB003) on a moment that is NULL, infinite or far, NotReady (UB005) without such a set,
    FeatureSetMismatch (UB002) where this code would compute the set differently.
    """
    if hypothetical:
        return _of_id(plpy, memory, key, user_id, as_of, hypothetical)[1]
    return _of_set(plpy, memory, key, user_id, as_of)[1]


def _of_set(
    plpy: Any, memory: dict[Any, Any], key: str | int, user_id: int | None, as_of: str | None
) -> tuple[LiveSet, bytes | None]:
    found, row = _of_id(plpy, memory, key, user_id, as_of)
    if row is None:
        from ubp_sql.api.members import whose

        other = whose(plpy, memory, user_id)
        if other is not None:
            return _of_id(plpy, memory, key, other, as_of)
    return found, row


def _of_id(
    plpy: Any,
    memory: dict[Any, Any],
    key: str | int,
    user_id: int | None,
    as_of: str | None,
    hypothetical: str | None = None,
) -> tuple[LiveSet, bytes | None]:
    """Of the id as it stands, linked to another or not."""
    found, question = ask(plpy, memory, key, user_id, as_of, hypothetical=hypothetical)
    if question is None:
        return found, None
    said = _computed(plpy, memory, found, question)
    if said == TIED:
        found, with_ids = ask(plpy, memory, key, user_id, as_of, ids=True, hypothetical=hypothetical)
        question = with_ids or question
        said = _computed(plpy, memory, found, question)
    if said == DONE:
        row, anchors = found.native.row(), found.native.anchors
        if found.standings is not None:
            from ubp_sql.api.standings import finish

            row = finish(plpy, memory, found.standings, question.as_of_us, row, anchors)
        return found, row
    if said == NOBODY:
        return found, None
    # No library, too many events, an infinite time, or a chunk whose columns are not as long as its directory says.
    return found, _by_numba(plpy, memory, found, question, hypothetical)


def _computed(plpy: Any, memory: dict[Any, Any], found: LiveSet, question: Question) -> int:
    """What the library says in the end; MALFORMED where it was not asked."""
    if question.table is None:
        return MALFORMED
    said = found.native.call(question.table, question.packed, BUDGET)
    while said == AGAIN:
        touch(plpy, memory)
        said = found.native.again(question.packed, BUDGET)
    return said


def _by_numba(
    plpy: Any, memory: dict[Any, Any], found: LiveSet, question: Question, hypothetical: str | None
) -> bytes | None:
    from ubp_sql.api.live_numba import row_of

    set_id, (user_id, as_of_us, weekday, *_) = found.feature_set_id, question
    return row_of(plpy, memory, set_id, user_id, as_of_us, weekday, hypothetical)


def live_row(
    plpy: Any, memory: dict[Any, Any], key: str | int, user_id: int | None, as_of: str | None
) -> tuple[float, ...] | None:
    """As `live_bytes`, as numbers; NaN where there is no value."""
    row = live_bytes(plpy, memory, key, user_id, as_of)
    return None if row is None else tuple(array("f", row))


@entry
def features(plpy: Any, memory: dict[Any, Any], user_id: int) -> Any:
    """(feature, value, unit, meaning) of the stored row, at the set's as_of."""
    from ubp_sql.api.ageing import stored_features

    check_version(plpy, memory)
    found = live_set(plpy, memory, "default")
    if single(plpy, memory, PRESENT, ["integer", "text"], [found.feature_set_id, found.hash]) is None:
        found = load_set(plpy, memory, "default")
    values = stored_features(plpy, memory, found.feature_set_id, user_id)
    if values is None:
        from ubp_sql.api.members import whose

        other = whose(plpy, memory, user_id)
        values = None if other is None else stored_features(plpy, memory, found.feature_set_id, other)
    if values is None:
        return []
    # A row from before the set grew: what the next refresh computes has no value yet.
    missing = (math.nan,) * (found.plan.features - len(values))
    return list(_worded(plpy, memory, found, values + missing))


@entry
def features_at(plpy: Any, memory: dict[Any, Any], user_id: int | None, as_of: str | None, name: str | None) -> Any:
    """(feature, value, unit, meaning) at a moment, of any set, from the raw events."""
    found, row = _of_set(plpy, memory, _named(name), user_id, as_of)
    return [] if row is None else list(_worded(plpy, memory, found, array("f", row)))


@entry
def feature_vector(
    plpy: Any, memory: dict[Any, Any], user_id: int | None, as_of: str | None, name: str | None
) -> list[float | None] | None:
    """The values of `features_at` alone, of any set, in the set's order."""
    row = live_bytes(plpy, memory, _named(name), user_id, as_of)
    return None if row is None else [None if value != value else value for value in array("f", row)]


def _named(name: str | None) -> str:
    if name is None:
        raise BadInput("feature_set is NULL", "the sets are in ubp.feature_sets; 'default' is one")
    return name


def _worded(
    plpy: Any, memory: dict[Any, Any], found: LiveSet, values: Any
) -> Iterator[tuple[str, float | None, str, str]]:
    if found.words is None:
        rows = run(plpy, memory, NAMES, ["integer"], [found.feature_set_id])
        found.words = [(row["name"], row["unit"], row["meaning"]) for row in rows]
    for (name, unit, meaning), value in zip(found.words, values, strict=True):
        yield name, None if math.isnan(value) else value, unit, meaning
