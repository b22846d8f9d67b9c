"""Fields of LightGBM's text format: lines of key=value, whose values are numbers that are counted and bounded first."""

from __future__ import annotations

import math

from ubp_sql.errors import InvalidModel


def read_lines(raw: bytes, most: int, where: str) -> list[bytes]:
    if raw.count(b"\n") > most:
        raise InvalidModel(f"{where}: more than {most} lines")
    return raw.split(b"\n")


def read_fields(lines: list[bytes], where: str, needed: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for line in lines:
        key, equals, value = line.partition(b"=")
        if not equals and key != b"average_output":
            raise InvalidModel(f"{where}: line {show(line)} is not of the form key=value")
        name = key.decode("ascii", "backslashreplace")
        if name in found:
            raise InvalidModel(f"{where}: {name[:40]!a} occurs twice")
        found[name] = value
    if missing := [key for key in needed if key not in found]:
        raise InvalidModel(f"{where}: {missing[0]} is missing")
    return found


def _tokens(text: bytes, n: int | None, where: str, key: str, characters: bytes, longest: int) -> list[bytes]:
    """The n numbers of a field as text. The filter keeps out what int() and float() accept beyond numbers: '1_0'."""
    found = text.count(b" ") + 1 if text else 0
    if n is not None and found != n:
        raise InvalidModel(f"{where}: {key}: expected {n} values, found {found}")
    tokens = text.split(b" ") if text else []
    if text.translate(None, characters) or any(len(token) > longest for token in tokens):
        raise InvalidModel(f"{where}: {key}: a value is not a number or too long")
    return tokens


def read_ints(text: bytes, n: int | None, where: str, key: str, low: int, high: int) -> list[int]:
    """n integers (any number when None) within low..high."""
    try:
        values = list(map(int, _tokens(text, n, where, key, b"0123456789- ", 11)))
    except ValueError:
        raise InvalidModel(f"{where}: {key}: a value is not a whole number") from None
    if values and not (low <= min(values) and max(values) <= high):
        bad = next(v for v in values if not low <= v <= high)
        raise InvalidModel(f"{where}: {key}: {bad} is outside {low}..{high}")
    return values


def read_floats(text: bytes, n: int, where: str, key: str, words: frozenset[bytes] = frozenset()) -> list[float]:
    """n numbers, finite but for those written as one of `words`."""
    tokens = _tokens(text, n, where, key, b"0123456789+-.eEinfa ", 40)
    try:
        values = list(map(float, tokens))
    except ValueError:
        raise InvalidModel(f"{where}: {key}: a value is not a number") from None
    if not all(map(math.isfinite, values)) and any(
        token not in words for token, v in zip(tokens, values, strict=True) if not math.isfinite(v)
    ):
        raise InvalidModel(f"{where}: {key}: a value is not finite")
    return values


def decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidModel(f"{where}: not UTF-8") from None


def show(raw: bytes) -> str:
    """At most 40 bytes of the file for a message, with everything but plain ASCII escaped."""
    return ascii(raw[:40].decode("latin-1"))
