"""Events from PostgreSQL's binary columns, and what is refused."""

import struct
from typing import Any

import numpy as np
import pytest

from ubp_sql.errors import BadInput
from ubp_sql.features.events import FAR_US, NO_ITEM, POSTGRES_EPOCH_US, Events

PLUS, MINUS = 2**63 - 1, -(2**63)


def packed(code: str, *numbers: float) -> bytes:
    return b"".join(struct.pack(f">{code}", number) for number in numbers)


def raw(**changed: bytes) -> dict[str, bytes]:
    """Three events of users 7 and 9."""
    good = {
        "user_id": packed("q", 7, 7, 9),
        "event_time": packed("q", -5, 0, -10),
        "local_time": packed("q", 3595, 3600, 3590),
        "ingested": packed("q", MINUS, 2, PLUS),
        "kind": packed("i", 0, -1, 1),
        "item": packed("q", 1, NO_ITEM, 2),
        "order": packed("q", 11, 12, -13),
        "value": packed("d", 1.5, float("nan"), -0.0),
    }
    return good | changed


def test_from_bytes() -> None:
    events = Events.from_bytes(**raw())
    assert events.user_id.tolist() == [7, 9]
    assert events.first.tolist() == [0, 2, 3]
    assert (events.t_us - POSTGRES_EPOCH_US).tolist() == [-5, 0, -10]
    assert (events.local_us - POSTGRES_EPOCH_US).tolist() == [3595, 3600, 3590]
    assert events.ingested_us.tolist() == [-FAR_US + POSTGRES_EPOCH_US, POSTGRES_EPOCH_US + 2, FAR_US]
    assert events.kind.tolist() == [0, -1, 1]
    assert events.item.tolist() == [1, NO_ITEM, 2]
    assert events.order.tolist() == [11, 12, -13]
    assert str(events.value.tolist()) == "[1.5, nan, -0.0]"
    assert events.longest == 2
    assert all(getattr(events, name).dtype.isnative for name in raw() if hasattr(events, name))


def test_no_event() -> None:
    events = Events.from_bytes(**dict.fromkeys(raw(), b""))
    assert (len(events.user_id), events.first.tolist(), events.longest) == (0, [0], 0)


def test_the_farthest_time_of_postgres_is_held() -> None:
    events = Events.from_bytes(**raw(event_time=packed("q", 0, 9223371331199999999, -211813488000000000)))
    assert events.t_us.tolist() == [POSTGRES_EPOCH_US, FAR_US, POSTGRES_EPOCH_US - 211813488000000000]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": packed("i", 0, 1)}, "kind has 8 bytes, 3 events need 12"),
        ({"value": b"123"}, "value has 3 bytes"),
        ({"user_id": packed("q", 7, 9)}, "event_time has 24 bytes, 2 events need 16"),
        ({"user_id": b"1234567"}, "user_id has 7 bytes"),
        ({"user_id": packed("q", 9, 9, 7)}, "users are not in ascending order"),
        ({"user_id": packed("q", 7, 9, 7)}, "users are not in ascending order"),
        ({"event_time": packed("q", 1, 0, 0)}, "not sorted by time, then ingestion, at row 1"),
        ({"event_time": packed("q", 0, 0, 0), "ingested": packed("q", 5, 4, 0)}, "at row 1"),
        ({"event_time": packed("q", 0, PLUS, 0)}, "event_time is infinite"),
        ({"event_time": packed("q", MINUS, 0, 0)}, "event_time is infinite"),
        ({"local_time": packed("q", 0, PLUS, 0)}, "local_time is infinite"),
    ],
)
def test_bad_bytes(change: dict[str, bytes], words: str) -> None:
    with pytest.raises(BadInput, match=words) as error:
        Events.from_bytes(**raw(**change))
    assert error.value.sqlstate == "UB003"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": [0, 1]}, "does not cut"),
        ({"first": [0, 3, 2]}, "does not cut"),
        ({"first": [1, 2, 3]}, "does not cut"),
        ({"first": [0, 4, 3]}, "does not cut"),
        ({"item": [1, 2]}, "item has 2 rows"),
        ({"t_us": [FAR_US + 1] * 3}, "beyond"),
        ({"value": [[1.0], [2.0], [3.0]]}, "dimensions"),
    ],
)
def test_bad_columns(change: dict[str, Any], words: str) -> None:
    good = Events.from_bytes(**raw())
    columns = {name: getattr(good, name) for name in Events.__slots__} | {k: np.array(v) for k, v in change.items()}
    with pytest.raises(BadInput, match=words):
        Events(**columns)
