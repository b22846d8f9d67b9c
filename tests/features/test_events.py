"""Events as columns, and what is refused."""

from typing import Any

import numpy as np
import pytest

from ubp_sql.errors import BadInput
from ubp_sql.features.events import FAR_US, NO_KEY, Events


def parts(**changed: Any) -> dict[str, Any]:
    """Three events of users 7 and 9."""
    good: dict[str, Any] = {
        "user_id": [7, 9],
        "first": [0, 2, 3],
        "t_us": [-5, 0, -10],
        "ingested_us": [-FAR_US, 2, FAR_US],
        "offset_s": [3600, 3600, -60],
        "kind": [0, -1, 1],
        "numbers": {"value": [1.5, np.nan, -0.0]},
        "keys": {"item": [1, NO_KEY, 2]},
    }
    return good | changed


def test_columns_have_their_types() -> None:
    events = Events(**parts())
    for name in ("user_id", "first", "t_us", "ingested_us"):
        assert getattr(events, name).dtype == np.int64
    assert events.kind.dtype == events.offset_s.dtype == np.int32
    assert events.numbers["value"].dtype == np.float64
    assert events.keys["item"].dtype == np.int64
    assert events.longest == 2
    assert events.local_us.tolist() == [-5 + 3_600_000_000, 3_600_000_000, -10 - 60_000_000]


def test_no_event() -> None:
    empty: dict[str, Any] = {name: [] for name in ("user_id", "t_us", "ingested_us", "offset_s", "kind")}
    events = Events(**empty | {"first": [0]})
    assert (events.longest, events.numbers, events.keys) == (0, {}, {})
    assert events.local_us.tolist() == []


def test_a_user_without_events() -> None:
    assert Events(**parts(user_id=[7, 8, 9], first=[0, 2, 2, 3])).longest == 2


def test_trusted_columns_are_not_looked_at() -> None:
    events = Events.trusted(**parts())
    assert events.t_us == [-5, 0, -10]
    with pytest.raises(KeyError):
        Events.trusted(user_id=[])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": [0, 1]}, "does not cut"),
        ({"first": [0, 3, 2]}, "does not cut"),
        ({"first": [1, 2, 3]}, "does not cut"),
        ({"first": [0, 4, 3]}, "does not cut"),
        ({"user_id": [9, 7]}, "users are not in ascending order"),
        ({"user_id": [7, 7]}, "users are not in ascending order"),
        ({"kind": [0, 1]}, "kind has 2 rows"),
        ({"numbers": {"value": [1.0]}}, "value has 1 rows"),
        ({"keys": {"item": [1, 2]}}, "item has 2 rows"),
        ({"keys": {"item": [[1], [2], [3]]}}, "item has 2 dimensions"),
        ({"t_us": [1, 0, 0]}, "not sorted by time, then ingestion, at row 1"),
        ({"t_us": [0, 0, 0], "ingested_us": [5, 4, 0]}, "at row 1"),
        ({"t_us": [0, FAR_US + 1, 0]}, "beyond"),
        ({"t_us": [[0], [1], [2]]}, "t_us has 2 dimensions"),
    ],
)
def test_bad_columns(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words) as error:
        Events(**parts(**change))
    assert error.value.sqlstate == "UB003"
