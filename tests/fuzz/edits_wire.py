"""Edits of protobuf messages by their structure: fields dropped, doubled, exchanged, numbers and types edited."""

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.fuzz.edits import INTERESTING, MOST_BYTES, Edit

# A message is a list of [field, wire type, value]; a value of type 2 is bytes or a message.
Field = list[Any]
MOST_FIELDS = 20_000
_NAMES = [
    *(b"", b"X", b"Loop", b"If", b"Scan", b"Gemm", b"Identity", b"RandomNormal", b"com.microsoft", b"ai.onnx.ml"),
    *(b"../../etc/passwd", b"location", b"\xff\xfe", b"x", b"y"),
]


def read(data: bytes, depth: int = 0) -> list[Field] | None:
    """The message in bytes; None where they are none. Bytes that could be a message are taken for one."""
    found: list[Field] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        value: Any
        if field == 0 or at > len(data):
            return None
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            raw, at = data[at : at + size], at + size
            inside = None
            if depth < 8 and len(raw) > 1 and not raw.isalnum():
                inside = read(raw, depth + 1)
            value = raw if inside is None else inside
        else:
            return None
        if at > len(data):
            return None
        found.append([field, kind, value])
    return found


def written(message: list[Field], room: int = MOST_BYTES) -> bytes:
    """Bytes of a message, lengths made right; cut off behind `room` bytes."""
    found = bytearray()
    for field, kind, value in message:
        found += number(field << 3 | kind)
        if kind == 0:
            found += number(value)
        elif kind == 2:
            raw = written(value, room - len(found)) if isinstance(value, list) else value
            found += number(len(raw)) + raw
        else:
            found += value
        if len(found) > room:
            break
    return bytes(found)


def number(value: int) -> bytes:
    """A varint."""
    found = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, len(data) + 1
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    return 0, len(data) + 1


def _places(message: list[Field]) -> list[tuple[list[Field], int]]:
    found: list[tuple[list[Field], int]] = []
    open_ = [message]
    while open_ and len(found) < MOST_FIELDS:  # a part repeated within a part repeated has no end
        at = open_.pop()
        for k, field in enumerate(at):
            found.append((at, k))
            if isinstance(field[2], list):
                open_.append(field[2])
    return found


def structure(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four fields edited."""
    message = read(data)
    if not message:
        return data
    for _ in range(random.choice((1, 1, 2, 4))):
        places = _places(message)
        if places:
            _edit(random, *random.choice(places), places)
    return written(message)


def _edit(random: Random, at: list[Field], k: int, places: list[tuple[list[Field], int]]) -> None:
    field = at[k]
    kind = random.randrange(8)
    other, j = random.choice(places)
    if kind == 0:
        del at[k]
    elif kind == 1:
        at.insert(random.randrange(len(at) + 1), field[:])
    elif kind == 2:
        at[k] = [field[0], *other[j][1:]] if not _inside(other[j], at) else field
    elif kind == 3 and not (_inside(field, other) or _inside(other[j], at)):
        at[k], other[j] = other[j], at[k]
    elif kind == 4:
        field[0] = random.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 20, 100, 2**28))
    elif isinstance(field[2], int):
        field[2] = random.choice((random.choice(INTERESTING), field[2] + 1, field[2] - 1, -1))
    elif isinstance(field[2], list):
        field[2] = field[2] * random.choice((2, 2, 50)) if random.random() < 0.5 else b""
    else:
        field[2] = _bytes(random, field)


def _inside(field: Field, at: list[Field]) -> bool:
    """Whether a field's message holds that list: to put it there would be a message without end."""
    open_ = [field[2]] if isinstance(field[2], list) else []
    seen = set()
    while open_:
        found = open_.pop()
        if found is at:
            return True
        if id(found) not in seen:
            seen.add(id(found))
            open_ += [inner[2] for inner in found if isinstance(inner[2], list)]
    return False


def _bytes(random: Random, field: Field) -> bytes:
    raw: bytes = field[2]
    if field[1] in (1, 5):
        value = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, -1e30, 0.5))
        return struct.pack("<d" if field[1] == 1 else "<f", value)
    kind = random.randrange(5)
    if kind == 0:
        return raw[: random.randrange(len(raw) + 1)]
    if kind == 1:
        return raw + raw[-8:]
    if kind == 2:
        return random.choice(_NAMES)
    if kind == 3 and raw:
        at = random.randrange(len(raw))
        return raw[:at] + bytes([random.randrange(256)]) + raw[at + 1 :]
    packed = b"".join(number(random.choice((0, 1, 2, 2**31, 2**40, 2**63, -1))) for _ in range(random.randint(1, 6)))
    return packed


def length(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A length that is not right, or messages within messages without end."""
    if random.random() < 0.2:
        inner = b""
        for _ in range(random.choice((50, 500))):
            inner = b"\x3a" + number(len(inner)) + inner
        return data + inner
    at = random.randrange(len(data) + 1)
    return data[:at] + number(random.choice(INTERESTING)) + data[at + 1 :]


WIRE: Sequence[Edit] = (structure, structure, structure, structure, length)
