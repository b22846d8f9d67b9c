"""Edits of UBJSON by its structure, written anew in any of its forms; counts and types that are not right."""

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.fuzz.edits import INTERESTING, Edit
from tests.fuzz.edits_tree import DEEP, edited


def ubj_tree(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The structure edited and written anew, in any of the forms that a value may have."""
    try:
        tree = _Reader(data).value()
    except (ValueError, TypeError, LookupError, struct.error, RecursionError):
        return data
    for _ in range(random.choice((1, 1, 2, 4))):
        tree = edited(random, tree) if isinstance(tree, dict | list) else tree
    try:
        return ubj(random, tree, random.random() < 0.8)
    except RecursionError:
        return data


def ubj_count(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A count or length replaced by another number, a type by another, or brackets without end."""
    marks = [at for at, byte in enumerate(data[:65536]) if byte in b"#$SLlIiUdD[{"]
    if not marks:
        return data
    at = random.choice(marks) + 1
    kind = random.randrange(4)
    if kind == 0:
        new = _ubj_int(random, random.choice(INTERESTING) * random.choice((1, 1, -1)))
        return data[:at] + new + data[at + len(new) :]
    if kind == 1:
        return data[:at] + bytes([random.choice(b"#$SLlIiUdD[{]}ZTFCHN\0")]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + random.choice((b"[", b"{i\1a", b"[$[#i\1")) * random.choice((100, 1000, DEEP)) + data[at:]
    return data[:at] + b"[$" + bytes([random.choice(b"ZTFUidDl[")]) + b"#" + _ubj_int(random, 2**40) + data[at:]


def _ubj_int(random: Random, value: int, long: bool = False) -> bytes:
    for mark, code, low, high in (
        *((b"i", ">b", -128, 127), (b"U", ">B", 0, 255), (b"I", ">h", -(2**15), 2**15 - 1)),
        (b"l", ">i", -(2**31), 2**31 - 1),
    ):
        if not long and low <= value <= high and random.random() < 0.7:
            return mark + struct.pack(code, value)
    return b"L" + struct.pack(">q", max(-(2**63), min(2**63 - 1, value)))


def ubj(random: Random, value: Any, long: bool = True, name: str = "") -> bytes:
    """UBJSON of a tree: typed arrays, counted ones and open ones.

    long  lengths are of eight bytes and lists of the types that XGBoost gives them by their name
    """
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return _ubj_int(random, value)
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + _text(random, value, long)
    if isinstance(value, dict):
        inside = b"".join(_text(random, key, long) + ubj(random, item, long, key) for key, item in value.items())
        return b"{" + inside + b"}"
    code = _TYPES.get(name) if long else random.choice([None, None, *"iUIlLdD"])
    if code is not None and all(isinstance(item, int | float) for item in value):
        return b"[$" + code.encode() + b"#" + _ubj_int(random, len(value), long) + _numbers(code, value)
    inside = b"".join(ubj(random, item, long) for item in value)
    return (
        b"[#" + _ubj_int(random, len(value), long) + inside if long or random.random() < 0.5 else b"[" + inside + b"]"
    )


_TYPES = {
    **dict.fromkeys(("default_left", "split_type"), "U"),
    **dict.fromkeys(("left_children", "right_children", "split_indices", "parents"), "l"),
    **dict.fromkeys(("categories", "categories_nodes", "feature_segments", "sorted_idx"), "l"),
    **dict.fromkeys(("categories_segments", "categories_sizes"), "L"),
    **dict.fromkeys(("split_conditions", "base_weights", "loss_changes", "sum_hessian", "weights"), "d"),
}


def _numbers(code: str, values: list[Any]) -> bytes:
    """Big-endian numbers of a type; what it cannot hold becomes what is nearest."""
    if code in "dD":
        most = 3.4028234663852886e38 if code == "d" else 1.7e308
        near = [item if item != item or abs(item) == float("inf") else min(max(-most, item), most) for item in values]
        return b"".join(struct.pack(">f" if code == "d" else ">d", item) for item in near)
    form, bits = {"i": ("b", 7), "U": ("B", 8), "I": ("h", 15), "l": ("i", 31), "L": ("q", 63)}[code]
    low = 0 if code == "U" else -(1 << bits)
    whole = [int(item) if abs(item) < 1e30 else 0 for item in values]
    return b"".join(struct.pack(">" + form, min(max(low, item), (1 << bits) - 1)) for item in whole)


def _text(random: Random, text: str, long: bool) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return _ubj_int(random, len(raw), long) + raw


_FORMS = {105: ">b", 85: ">B", 73: ">h", 108: ">i", 76: ">q", 100: ">f", 68: ">d"}


class _Reader:
    """UBJSON, as far as a mutant still has it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.room = data, 0, 100_000

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self, mark: int) -> Any:
        form = _FORMS[mark]
        (found,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> str:
        size = self.number(self.byte())
        raw = self.data[self.at : self.at + size]
        self.at += size
        return raw.decode()

    def value(self, mark: int = 0) -> Any:
        mark = mark or self.byte()
        self.room -= 1
        if self.room < 0:
            raise ValueError
        if mark in b"ZTF":
            return {90: None, 84: True, 70: False}[mark]
        if mark == 83:
            return self.text()
        if mark == 123:
            found = {}
            while self.data[self.at] != 125:
                name = self.text()
                found[name] = self.value()
            self.at += 1
            return found
        if mark != 91:
            return self.number(mark)
        kind = 0
        if self.data[self.at] == 36:
            kind = self.data[self.at + 1]
            self.at += 2
        if self.data[self.at] == 35:
            self.at += 1
            return [self.value(kind) for _ in range(self.number(self.byte()))]
        row = []
        while self.data[self.at] != 93:
            row.append(self.value())
        self.at += 1
        return row


UBJ: Sequence[Edit] = (ubj_tree, ubj_tree, ubj_tree, ubj_count, ubj_count)
