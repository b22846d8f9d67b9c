"""PostgreSQL's hashtextextended(text, 0) in Python, so that a condition on a text needs no server to be compiled.

Source: src/common/hashfn.c, hash_bytes_extended, after Bob Jenkins' lookup3 (2006), on little-endian machines. A test
compares it with the server's.
"""

_MASK = 0xFFFFFFFF


def text_key(text: str) -> int:
    """The signed 64-bit hash of the text's UTF-8 bytes."""
    data = text.encode()
    n = len(data)
    a = b = c = (0x9E3779B9 + n + 3923095) & _MASK
    whole = n - n % 12
    for i in range(0, whole, 12):
        a, b, c = _mix(*((x + _word(data, i + 4 * j)) & _MASK for j, x in enumerate((a, b, c))))
    rest = data[whole:]
    a = (a + _word(rest, 0)) & _MASK
    b = (b + _word(rest, 4)) & _MASK
    # The lowest byte of c is the length's, so the last three bytes begin at the second.
    c = (c + (int.from_bytes(rest[8:], "little") << 8)) & _MASK
    b, c = _final(a, b, c)
    found = b << 32 | c
    return found - (1 << 64) if found >> 63 else found


def _word(data: bytes, i: int) -> int:
    return int.from_bytes(data[i : i + 4], "little")


def _rot(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for i, k in enumerate((4, 6, 8, 16, 19, 4)):
        x, y, z = ((a, b, c), (b, c, a), (c, a, b))[i % 3]
        x = ((x - z) & _MASK) ^ _rot(z, k)
        z = (z + y) & _MASK
        a, b, c = ((x, y, z), (z, x, y), (y, z, x))[i % 3]
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int]:
    c = ((c ^ b) - _rot(b, 14)) & _MASK
    a = ((a ^ c) - _rot(c, 11)) & _MASK
    b = ((b ^ a) - _rot(a, 25)) & _MASK
    c = ((c ^ b) - _rot(b, 16)) & _MASK
    a = ((a ^ c) - _rot(c, 4)) & _MASK
    b = ((b ^ a) - _rot(a, 14)) & _MASK
    c = ((c ^ b) - _rot(b, 24)) & _MASK
    return b, c
