"""Edits of our own compiled values: words on their boundaries, parts added and taken away, the checksum made right."""

import struct
from collections.abc import Callable, Sequence
from random import Random
from zlib import crc32

from tests.fuzz.edits import FLOATS, INTERESTING, Edit

_WIDTHS = {"H": 2, "I": 4, "Q": 8}


def word(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number of the value replaced: by an edge, by its neighbour, by its complement, by another of the value."""
    code = random.choice("HIIIQ")
    width = _WIDTHS[code]
    if len(data) < width:
        return data
    at = random.randrange(len(data) // width) * width
    if random.random() < 0.25:
        at = random.randrange(min(len(data), 64) // width) * width  # in the header
    was: int = struct.unpack_from("<" + code, data, at)[0]
    other = random.randrange(len(data) // width) * width
    new = random.choice(
        (
            random.choice(INTERESTING),
            was + random.choice((1, -1, 2, -2, 4, 8)),
            ~was,
            was ^ 1 << random.randrange(8 * width),
            struct.unpack_from("<" + code, data, other)[0],
        )
    )
    return data[:at] + struct.pack("<" + code, new & ((1 << 8 * width) - 1)) + data[at + width :]


def real(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A float32 or float64 at the edge of something."""
    code, width = random.choice((("f", 4), ("d", 8)))
    if len(data) < width:
        return data
    at = random.randrange(len(data) // width) * width
    value = random.choice(FLOATS)
    if code == "f" and 3.4e38 < abs(value) < float("inf"):
        value = 3.4028234663852886e38
    return data[:at] + struct.pack("<" + code, value) + data[at + width :]


def exchange(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Two words exchanged, or a run of words moved by one."""
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    if len(words) < 3:
        return data
    i, j = random.randrange(len(words)), random.randrange(len(words))
    if random.random() < 0.5:
        words[i], words[j] = words[j], words[i]
    else:
        words.insert(j, words.pop(i))
    return b"".join(words)


def part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Some words more or less, and a count in the header that may go with them."""
    at, size = 4 * random.randrange(len(data) // 4 + 1), 4 * random.choice((1, 2, 4, 4, 8))
    data = data[:at] + data[at + size :] if random.random() < 0.5 else data[:at] + data[at : at + size] + data[at:]
    for _ in range(random.randrange(3)):
        count = random.randrange(16, 60) & ~3
        if len(data) > 64:
            was = struct.unpack_from("<I", data, count)[0] + random.choice((-1, 1))
            data = data[:count] + struct.pack("<I", was & 0xFFFFFFFF) + data[count + 4 :]
    return data


BLOB: Sequence[Edit] = (word, word, word, word, real, exchange, part)


def signed(length_at: int) -> Callable[[Random, bytes], bytes]:
    """A mend: the length, kept as u64 at that place, and the CRC-32 in the last four bytes are right again, mostly."""

    def mend(random: Random, data: bytes) -> bytes:
        if len(data) >= length_at + 12 and random.random() < 0.7:
            data = data[:length_at] + struct.pack("<Q", len(data)) + data[length_at + 8 :]
        if len(data) >= 4 and random.random() < 0.93:
            data = data[:-4] + struct.pack("<I", crc32(data[:-4]))
        return data

    return mend


def signed_plan(random: Random, data: bytes) -> bytes:
    """The CRC-32 of a stored plan, a word at its end."""
    return data[:-8] + struct.pack("<q", crc32(data[:-8])) if random.random() < 0.95 else data
