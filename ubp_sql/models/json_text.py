"""JSON read with bounds: the standard library's reader counts nothing before it allocates, and keeps of a name that
occurs twice the last.

Lists of numbers become arrays of float64; XGBoost's NaN, Infinity and -Infinity are numbers.
"""

from __future__ import annotations

import json
import re
from array import array
from typing import Any

from ubp_sql.errors import InvalidModel
from ubp_sql.models.document import Budget

_SPACE = re.compile(rb"[ \t\r\n]*")
# Possessive: else each escape is kept for going back, some 170 bytes of memory for two of the file.
_TEXT = re.compile(rb'"([^"\\\x00-\x1f]*+)((?:\\.[^"\\\x00-\x1f]*+)*+)"')
_NUMBERS = re.compile(rb"\[([-+.0-9eENaInfity, \t\r\n]*)\]")
_NUMBER = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|(?:NaN|Infinity))")
_WORDS = {b"t": (b"true", True), b"f": (b"false", False), b"n": (b"null", None)}
LONGEST_NUMBER = 40


def read_json(data: bytes) -> Any:
    """The document in the bytes (models/document.py). Raises InvalidModel (UB006), which names the byte."""
    reader = _Reader(data)
    found = reader.value(0)
    reader.skip()
    if reader.at != len(data):
        raise InvalidModel(f"byte {reader.at}: the document goes on after its end")
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.budget = data, 0, Budget()

    def skip(self) -> None:
        self.at = _SPACE.match(self.data, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too

    def take(self, token: bytes) -> bool:
        """Whether the token comes next; it is passed then."""
        self.skip()
        if not self.data.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def wrong(self, expected: str) -> InvalidModel:
        found = f"found {self.data[self.at : self.at + 20]!r}" if self.at < len(self.data) else "the document ends"
        return InvalidModel(f"byte {self.at}: expected {expected}, {found}")

    def value(self, depth: int) -> Any:
        self.skip()
        self.budget.value(depth, self.at)
        start = self.data[self.at : self.at + 1]
        if start == b"{":
            return self.table(depth)
        if start == b"[":
            return self.sequence(depth)
        if start == b'"':
            return self.text()
        if start in _WORDS:
            word, meaning = _WORDS[start]
            if not self.take(word):
                raise self.wrong("a value")
            return meaning
        found = _NUMBER.match(self.data, self.at)
        if found is None or found.end() - self.at > LONGEST_NUMBER:
            raise self.wrong("a value")
        self.at = found.end()
        whole = found.group(1) is None and found.group(2) is None and found[0][-1:].isdigit()
        return int(found[0]) if whole else float(found[0])

    def text(self) -> str:
        found = _TEXT.match(self.data, self.at)
        if found is None:
            raise self.wrong("a text")
        try:
            text: str = json.loads(found[0]) if found[2] else found[1].decode()
            text.encode()  # half of a surrogate pair is no text
        except ValueError:
            raise self.wrong("a text") from None
        self.at = found.end()
        return text

    def table(self, depth: int) -> dict[str, Any]:
        self.at += 1
        table: dict[str, Any] = {}
        if self.take(b"}"):
            return table
        while True:
            self.skip()
            name = self.text()
            if name in table:
                raise InvalidModel(f"byte {self.at}: {name[:40]!a} occurs twice in its table")
            if not self.take(b":"):
                raise self.wrong("':'")
            table[name] = self.value(depth + 1)
            if self.take(b"}"):
                return table
            if not self.take(b","):
                raise self.wrong("',' or '}'")

    def sequence(self, depth: int) -> Any:
        if found := _NUMBERS.match(self.data, self.at):
            return self.numbers(found)
        self.at += 1
        values = []
        while True:
            values.append(self.value(depth + 1))
            if self.take(b"]"):
                return values
            if not self.take(b","):
                raise self.wrong("',' or ']'")

    def numbers(self, found: re.Match[bytes]) -> array[float]:
        text = found[1]
        count = text.count(b",") + 1 if text.strip() else 0
        self.budget.array(count, self.at)
        tokens = text.split(b",") if count else []
        try:
            if max(map(len, tokens), default=0) > LONGEST_NUMBER:
                raise ValueError
            values = array("d", map(float, tokens))
        except ValueError:
            raise InvalidModel(f"byte {self.at}: a list of numbers has something else in it") from None
        self.at = found.end()
        return values
