"""Protobuf's wire format, read without its library: the messages of an ONNX file as dicts of what they hold.

A table says which fields a message has (`Schema`). What is not in it is refused, and so is a single field that comes
twice: protobuf's library would take the last, or merge the two, and then another reader could see another model. The
reader never copies a submessage and counts before it allocates: fields of all messages together, and the whole numbers
in their lists.
"""

from __future__ import annotations

import re
import sys
from array import array
from struct import Struct
from typing import Any

from ubp_sql.errors import InvalidModel, UnsupportedModel

# The most that a forest of MAX_LEAVES leaves needs: its 600,000 nodes have seven whole numbers each, a leaf three more.
MAX_NUMBERS = 6_000_000  # whole ones: a byte of the file may become eight; a float takes what it takes in the file
MAX_FIELDS = 1_000_000  # each of these nodes has a mode, which is a text; 1 us a field

_VARINT, _FIXED64, _SPAN, _FIXED32 = 0, 1, 2, 5
# What a field is: one number, one float, text or bytes or a message where it lies, lists of numbers as arrays.
INT, FLOAT, SPAN, SPANS, INTS, FLOATS, DOUBLES, IGNORED = range(8)
_WIRES = {INT: _VARINT, FLOAT: _FIXED32, SPAN: _SPAN, SPANS: _SPAN}
_LISTS = {INTS: ("q", _VARINT, 1), FLOATS: ("f", _FIXED32, 4), DOUBLES: ("d", _FIXED64, 8)}

Schema = dict[int, tuple[str, int]]
Span = tuple[int, int]

_NUMBER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"  # a varint
_NOT_LAST = bytes(range(128, 256))  # bytes that a varint goes on after
_FLOAT = Struct("<f")
_MAX_KNOWN = 100_000  # decoded varints that are remembered: nearly all in a list are among few


class Reader:
    """The bytes of a file, and how much may still be read of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fields_left = MAX_FIELDS
        self.numbers_left = MAX_NUMBERS
        self._known: dict[bytes, int] = {}

    def message(self, span: Span, schema: Schema, where: str) -> dict[str, Any]:
        """What the message at that place holds: values by name, lists (SPANS, INTS, ...) also where they are empty.

        Raises InvalidModel (UB006) where it is broken or over a limit, UnsupportedModel (UB007) where it has a field
        that the schema does not have.
        """
        found: dict[str, Any] = {}
        for name, kind in schema.values():
            if kind == SPANS:
                found[name] = []
            elif kind in _LISTS:
                found[name] = array(_LISTS[kind][0])
        at, end = span
        while at < end:
            tag, value_at = self._varint(at, end, where)
            number, wire = tag >> 3, tag & 7
            if number not in schema:
                raise UnsupportedModel(f"{where}: field {number} is not known", "export it with an older version")
            name, kind = schema[number]
            self.fields_left -= 1
            if self.fields_left < 0:
                raise InvalidModel(f"{where}: the file has more than {MAX_FIELDS} fields")
            if kind in _LISTS:
                at = self._list(found[name], kind, at, value_at, end, f"{where}: {name}")
                continue
            value, at = self._value(wire, value_at, end, f"{where}: {name}")
            if kind == IGNORED:
                continue
            if wire != _WIRES[kind]:
                raise InvalidModel(f"{where}: {name} is not of its type")
            if kind == SPANS:
                found[name].append(value)
            elif name in found:
                raise InvalidModel(f"{where}: {name} comes twice")
            else:
                found[name] = _FLOAT.unpack_from(self.data, value)[0] if kind == FLOAT else value
        return found

    def text(self, span: Span | None, where: str, most: int = 500) -> str:
        """The text at that place; '' where there is none."""
        if span is None:
            return ""
        if span[1] - span[0] > most:
            raise InvalidModel(f"{where} has {span[1] - span[0]} bytes, at most {most} are read")
        try:
            return self.data[span[0] : span[1]].decode()
        except UnicodeDecodeError:
            raise InvalidModel(f"{where} is no UTF-8") from None

    def _value(self, wire: int, at: int, end: int, where: str) -> tuple[Any, int]:
        """A field's value and where it ends: a number, where a float lies, or where bytes begin and end."""
        if wire == _VARINT:
            value, stop = self._varint(at, end, where)
            return value - (value >> 63 << 64), stop
        if wire == _SPAN:
            size, at = self._varint(at, end, where)
            stop = at + size
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (4 if wire == _FIXED32 else 8)
        else:
            raise InvalidModel(f"{where}: no protobuf at byte {at}")
        if stop > end:
            raise InvalidModel(f"{where} is cut short: it would end at byte {stop}, its message does at {end}")
        return ((at, stop) if wire == _SPAN else at), stop

    def _varint(self, at: int, end: int, where: str) -> tuple[int, int]:
        """An unsigned number of 64 bits at most and where it ends."""
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if value >= 2**64:
                    break
                return value, at
            shift += 7
        raise InvalidModel(f"{where}: broken or cut short at byte {at}")

    def _list(self, values: array[Any], kind: int, tag_at: int, at: int, end: int, where: str) -> int:
        """Adds numbers to a list: all of a packed field, or all fields one after the other that hold one each."""
        code, one, size = _LISTS[kind]
        tag = self.data[tag_at:at]
        wire = tag[0] & 7
        if wire == _SPAN:
            span, stop = self._value(wire, at, end, where)
            chunk = self.data[span[0] : stop]
            step, skip = size, 0
        elif wire == one:
            value = _NUMBER if kind == INTS else b".{%d}" % size
            run = re.compile(b"(?:%s%s)*+" % (re.escape(tag), value), re.DOTALL).match(self.data, tag_at, end)
            stop = run.end() if run else tag_at
            if stop == tag_at:
                raise InvalidModel(f"{where}: broken or cut short at byte {at}")
            chunk = self.data[tag_at:stop]
            step, skip = size + len(tag), len(tag)
        else:
            raise InvalidModel(f"{where} is not of its type")
        if kind == INTS:
            values.extend(self._ints(chunk, tag[:skip], where))
            return stop
        if len(chunk) % step:
            raise InvalidModel(f"{where}: {len(chunk)} bytes are no list of numbers of {size}")
        if skip:
            plain = bytearray(len(chunk) // step * size)
            for k in range(size):
                plain[k::size] = chunk[skip + k :: step]
            chunk = bytes(plain)
        more = array(code, chunk)
        if sys.byteorder == "big":
            more.byteswap()
        values.extend(more)
        return stop

    def _ints(self, chunk: bytes, tag: bytes, where: str) -> array[int]:
        """The signed numbers in a chunk of varints, each after `tag`."""
        self.numbers_left -= len(chunk.translate(None, _NOT_LAST)) // (1 + sum(byte < 128 for byte in tag))
        if self.numbers_left < 0:
            raise InvalidModel(f"{where}: the file's lists have more than {MAX_NUMBERS} whole numbers")
        if not tag and chunk.isascii():
            return array("q", [*chunk])
        parts = re.findall(re.escape(tag) + b"(" + _NUMBER + b")", chunk)
        if sum(map(len, parts)) + len(tag) * len(parts) != len(chunk):
            raise InvalidModel(f"{where}: a number of more than 64 bits, or cut short")
        known = self._known
        values: array[int] = array("q")
        for part in parts:
            value = known.get(part)
            if value is None:
                value = _signed(part, where)
                if len(known) < _MAX_KNOWN:
                    known[part] = value
            values.append(value)
        return values


def _signed(varint: bytes, where: str) -> int:
    """The number in the bytes of one varint."""
    value = sum((byte & 127) << 7 * k for k, byte in enumerate(varint))
    if value >= 2**64:
        raise InvalidModel(f"{where}: a number of more than 64 bits")
    return value - (value >> 63 << 64)
