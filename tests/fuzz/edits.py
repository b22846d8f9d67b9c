"""Edits of bytes of any kind: flips, cuts, moves, splices, blocks of other formats.

An edit takes a source of chance, the bytes, and other seeds of the same kind for splices; it gives new bytes.
"""

import bz2
import gzip
import lzma
import pickle
import struct
from collections.abc import Callable, Sequence
from random import Random

Edit = Callable[[Random, bytes, Sequence[bytes]], bytes]

MOST_BYTES = 1 << 20  # a mutant: far below what the readers' own limits let in, so that a million take minutes
INTERESTING = [
    *(0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 255, 256, 1000, 1024, 4095, 4096, 32767, 32768),
    *(65535, 65536, 100_000, 1_000_000, 2**24, 2**24 + 1, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62),
    *(2**63 - 1, 2**63, 2**64 - 1),
]
WORDS = ["<H", "<I", "<Q", ">H", ">I", ">Q", "B"]
FLOATS = [
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-35, 1e-45, 5e-324, 1e38, 3.5e38, -3.5e38, 1e300, 1.7e308, -1.7e308),
    *(float("nan"), float("inf"), float("-inf"), 16777217.0, 2.0**31, -(2.0**31), 2.0**63),
]


def flip_bits(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_byte(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([random.randrange(256)])
    at = random.randrange(len(data))
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


def set_number(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number that is at the edge of something, of any width, on a multiple of its width or anywhere."""
    if random.random() < 0.2:
        raw = struct.pack(random.choice(["<f", "<d", ">f", ">d"]), 0.0)
        form = random.choice(["<d", ">d"]) if len(raw) == 8 else random.choice(["<f", ">f"])
        value = random.choice(FLOATS)
        raw = struct.pack(form, value if form[1] == "d" or abs(value) < 3e38 else 1e38)
    else:
        form = random.choice(WORDS)
        mask = (1 << 8 * struct.calcsize(form)) - 1
        raw = struct.pack(form, (random.choice(INTERESTING) + random.choice((0, 0, -1, 1))) & mask)
    room = len(data) - len(raw)
    if room < 0:
        return raw
    at = random.randrange(room + 1)
    if random.random() < 0.7:
        at -= at % len(raw)
    return data[:at] + raw + data[at + len(raw) :]


def cut(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """An end that is missing, mostly a short one or up to any place."""
    if random.random() < 0.3:
        return data[: max(0, len(data) - random.randint(1, 16))]
    return data[: random.randrange(len(data) + 1)]


def drop(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    a, b = _span(random, data)
    return data[:a] + data[b:]


def repeat(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A part once more behind itself; seldom thousands of times."""
    a, b = _span(random, data)
    times = random.randint(2, 5000) if random.random() < 0.02 else 1
    times = min(times, MOST_BYTES // max(b - a, 1))
    return data[:b] + data[a:b] * times + data[b:]


def move(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    a, b = _span(random, data)
    rest = data[:a] + data[b:]
    at = random.randrange(len(rest) + 1)
    return rest[:at] + data[a:b] + rest[at:]


def overwrite(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A part written over another one."""
    a, b = _span(random, data)
    at = random.randrange(len(data) + 1)
    return data[:at] + data[a:b] + data[at + b - a :]


def fill(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    a, b = _span(random, data)
    return data[:a] + random.choice((b"\0", b"\xff", b" ", b"9", b"[", b"{", b"\x80")) * (b - a) + data[b:]


def insert(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    size = random.choice((1, 1, 2, 4, 8, 64))
    new = random.randbytes(size) if random.random() < 0.5 else random.choice((b"\0", b"\xff", b"\n", b"1")) * size
    return data[:at] + new + data[at:]


def splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another, or a part of another in the middle."""
    other = random.choice(others) if others else data
    if random.random() < 0.5:
        return (data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :])[:MOST_BYTES]
    a, b = _span(random, other)
    at = random.randrange(len(data) + 1)
    return data[:at] + other[a:b] + data[at + (b - a if random.random() < 0.7 else 0) :]


class _Trap:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit(99)",)


def other_format(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """What is not a model at all, or a model wrapped in something."""
    kind = random.randrange(14)
    if kind == 0:
        return pickle.dumps(random.choice([_Trap(), {"model": 1}, [1, 2], "text"]), random.randrange(6))
    if kind == 1:
        return random.choice([gzip.compress(data[:4096]), bz2.compress(data[:4096]), lzma.compress(data[:4096])])
    if kind == 2:
        return random.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\n", b" ", b"\0", b"#!"]) + data
    if kind == 3:
        return data.decode("latin-1").encode(random.choice(["utf-16", "utf-32", "utf-8"]))
    if kind == 4:
        return data.replace(b"\n", b"\r\n")
    starts = [
        *(b"\x7fELF\x02\x01\x01", b"MZ\x90", b"PK\x03\x04\x14", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.7\n"),
        *(b"\xca\xfe", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\0", b"SQLite format 3\0", b"PAR1", b"ARROW1", b"BZh9"),
        *(b"\x28\xb5\x2f\xfd", b"<?xml version='1.0'?>", b"{", b"[", b"binf", b"UBPTREES", b"UBPLINEA", b"UBPONNX1"),
        *(b"UBPPREPA", b"ubp-prepared-model 1 9\n", b'{"ubp_linear"'),
        *(b"UBPPLAN1", b"tree\n", b"lgb", b"", b"import os\n", b"TFL3", b"\x08\x07", b"\x08\x08\x12", b"L#", b"{L"),
    ]
    rest = data[random.randrange(len(data) + 1) :]
    end = random.choice([rest, random.randbytes(random.randrange(200)), b"", b"a,b\n1,2\n"])
    return random.choice(starts) + end


def _span(random: Random, data: bytes) -> tuple[int, int]:
    """A part, mostly a short one."""
    a = random.randrange(len(data) + 1)
    size = random.choice((1, 2, 4, 8, 16, 64, 256, random.randrange(len(data) + 1)))
    return a, min(len(data), a + size)


PLAIN: Sequence[Edit] = (
    *(flip_bits, flip_bits, set_byte, set_byte, set_number, set_number, cut, drop, repeat),
    *(move, overwrite, fill, insert, splice, splice),
)
