"""Events from PostgreSQL's binary columns, and what is refused."""

import struct

import numpy as np
import pytest

from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Declared
from ubp_sql.features.events import FAR_US, NO_KEY, POSTGRES_EPOCH_US
from ubp_sql.mirror.sent import KIND_BITS, MARKED, block_of

PLUS, MINUS = 2**63 - 1, -(2**63)
BIT = {name: 1 << bit for bit, name in enumerate(MARKED, KIND_BITS)}


def packed(code: str, *numbers: float) -> bytes:
    return b"".join(struct.pack(f">{code}", number) for number in numbers)


def raw(**changed: bytes | None) -> dict[str, bytes | None]:
    """Three events of users 7 and 9, the last one first; user 9 has all that an event can have."""
    good: dict[str, bytes | None] = {
        "user_id": packed("q", 9, 7, 7),
        "t": packed("q", -10, 0, -5),
        "event_id": packed("q", 3, 2, 1),
        "marks": packed("i", 1 | sum(BIT.values()), 2 | BIT["item"] | BIT["value"], 1 | BIT["ingested"]),
        "ingested": packed("q", PLUS, MINUS),
        "item": packed("q", 2, 5),
        "order": packed("q", -13),
        "value": packed("d", -0.0, 1.5),
        "quantity": packed("f", 0.1),
        "duration_s": packed("f", float("nan")),
        "offset_s": packed("i", -60),
    }
    return good | changed


def test_a_block() -> None:
    block = block_of(raw())
    assert block.user_id.tolist() == [7, 9]
    assert block.first.tolist() == [0, 2, 3]
    assert block.complete.tolist() == [False, False]
    t = [POSTGRES_EPOCH_US - 5, POSTGRES_EPOCH_US, POSTGRES_EPOCH_US - 10]
    assert block.columns["t"].tolist() == t
    assert block.columns["ingested"].tolist() == [POSTGRES_EPOCH_US - FAR_US, t[1], FAR_US]
    assert block.columns["kind"].tolist() == [1, 2, 1]
    assert block.columns["item"].tolist() == [NO_KEY, 5, 2]
    assert block.columns["order"].tolist() == [t[0], t[1], -13]
    assert str(block.columns["value"].tolist()) == "[nan, 1.5, -0.0]"
    assert str(block.columns["quantity"].tolist()) == f"[nan, nan, {float(np.float32(0.1))}]"
    assert np.isnan(block.columns["duration_s"]).all()
    assert block.columns["offset_s"].tolist() == [0, 0, -60]
    assert all(column.dtype.isnative for column in block.columns.values())


def test_declared_columns() -> None:
    extras = [Declared("a", "A", "number"), Declared("b", "B", "text"), Declared("c", "C", "words")]
    sent = raw(x1=packed("d", 1, 2, 3), x2=packed("q", 4, 5, 6), x3=packed("q", 7, 8, 9))
    block = block_of(sent, extras)
    assert [block.columns[name].tolist() for name in "abc"] == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]


def test_no_event() -> None:
    block = block_of(dict.fromkeys(raw(), b""))
    assert (block.n, len(block.user_id), block.first.tolist()) == (0, 0, [0])


def test_an_event_that_comes_twice() -> None:
    twice = {name: value + value if value else value for name, value in raw().items()}
    assert block_of(twice).first.tolist() == [0, 2, 3]


def test_the_farthest_time_of_postgres_is_held() -> None:
    block = block_of(raw(t=packed("q", 9223371331199999999, -211813488000000000, 0)))
    assert block.columns["t"].tolist() == [POSTGRES_EPOCH_US - 211813488000000000, POSTGRES_EPOCH_US, FAR_US]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_id": b"1234567"}, "user_id has 7 bytes"),
        ({"value": b"123"}, "value has 3 bytes"),
        ({"value": packed("d", 1.0)}, "value has 1 values, the marks tell of 2"),
        ({"item": None}, "item has 0 values, the marks tell of 2"),
        ({"ingested": packed("q", 1, 2, 3)}, "ingested has 3 values"),
        ({"t": packed("q", 0, PLUS, 0)}, "t is infinite"),
        ({"t": packed("q", 0, MINUS, 0)}, "t is infinite"),
        ({"event_id": packed("q", 1)}, "event_id has 1 rows, user_id 3"),
    ],
)
def test_bad_bytes(change: dict[str, bytes | None], words: str) -> None:
    with pytest.raises(BadInput, match=words) as error:
        block_of(raw(**change))
    assert error.value.sqlstate == "UB003"
