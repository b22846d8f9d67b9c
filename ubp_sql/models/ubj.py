"""UBJ, the binary form of JSON that XGBoost writes (ubjson.org, draft 12), read with bounds.

Lists with a type and a count become arrays at once. Numbers are big-endian.
"""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import Any

from ubp_sql.errors import InvalidModel
from ubp_sql.models.document import Budget

# marker: (typecode of an array, struct)
_NUMBERS = {
    b"i": ("b", Struct(">b")),
    b"U": ("B", Struct(">B")),
    b"I": ("h", Struct(">h")),
    b"l": ("i", Struct(">i")),
    b"L": ("q", Struct(">q")),
    b"d": ("f", Struct(">f")),
    b"D": ("d", Struct(">d")),
}
_WHOLE = b"iUIlL"
_WORDS = {b"T": True, b"F": False, b"Z": None}


def read_ubj(data: bytes) -> Any:
    """The document in the bytes (models/document.py). Raises InvalidModel (UB006), which names the byte."""
    reader = _Reader(data)
    found = reader.value(reader.marker(), 0)
    if reader.at != len(data):
        raise InvalidModel(f"byte {reader.at}: the document goes on after its end")
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.budget = data, 0, Budget()

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise InvalidModel(f"byte {self.at}: {count} bytes are to follow, {len(self.data) - self.at} do")
        self.at += count
        return self.data[self.at - count : self.at]

    def marker(self) -> bytes:
        """The next marker; N says nothing, and may stand between values, where it counts as one."""
        while (found := self.take(1)) == b"N":
            self.budget.value(0, self.at - 1)
        return found

    def next_is(self, token: bytes) -> bool:
        """Whether the token comes next; it is passed then."""
        if self.data[self.at : self.at + 1] != token:
            return False
        self.at += 1
        return True

    def number(self, marker: bytes) -> Any:
        kind = _NUMBERS[marker][1]
        return kind.unpack(self.take(kind.size))[0]

    def length(self) -> int:
        marker = self.take(1)
        if marker not in _WHOLE:
            raise InvalidModel(f"byte {self.at - 1}: expected a length, found {marker!r}")
        count: int = self.number(marker)
        if not 0 <= count <= len(self.data):
            raise InvalidModel(f"byte {self.at}: a length of {count} in a document of {len(self.data)} bytes")
        return count

    def value(self, marker: bytes, depth: int) -> Any:
        self.budget.value(depth, self.at - 1)
        if marker in _NUMBERS:
            return self.number(marker)
        if marker in _WORDS:
            return _WORDS[marker]
        if marker == b"S":
            return self.text()
        if marker == b"{":
            return self.table(depth)
        if marker == b"[":
            return self.sequence(depth)
        raise InvalidModel(f"byte {self.at - 1}: {marker!r} begins no value")

    def text(self) -> str:
        start = self.at
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise InvalidModel(f"byte {start}: a text is not UTF-8") from None

    def table(self, depth: int) -> dict[str, Any]:
        if self.data[self.at : self.at + 1] in (b"$", b"#"):
            raise InvalidModel(f"byte {self.at}: tables of a given type or count are not known")
        table: dict[str, Any] = {}
        while not self.next_is(b"}"):
            name = self.text()
            if name in table:
                raise InvalidModel(f"byte {self.at}: {name[:40]!a} occurs twice in its table")
            table[name] = self.value(self.marker(), depth + 1)
        return table

    def sequence(self, depth: int) -> Any:
        if self.next_is(b"$"):
            marker = self.take(1)
            if marker not in _NUMBERS or not self.next_is(b"#"):
                raise InvalidModel(f"byte {self.at}: a list of {marker!r}, not of numbers, or without a count")
            return self.numbers(marker)
        if self.next_is(b"#"):
            return [self.value(self.marker(), depth + 1) for _ in range(self.length())]
        values = []
        while not self.next_is(b"]"):
            values.append(self.value(self.marker(), depth + 1))
        return values

    def numbers(self, marker: bytes) -> array[Any]:
        code, kind = _NUMBERS[marker]
        count = self.length()
        self.budget.array(count, self.at)
        values: array[Any] = array(code)
        values.frombytes(self.take(count * kind.size))
        if sys.byteorder == "little":
            values.byteswap()
        return values
