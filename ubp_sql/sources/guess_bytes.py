"""A bounded look into a file: its beginning, a few places further on, and the encoding that fits them."""

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ubp_sql.errors import SourceError
from ubp_sql.sources import packed
from ubp_sql.sources.lines import OTHER_FORMATS

HEAD = 4 << 20  # bytes of the beginning: some 40,000 lines of a log
PLACES, PLACE = 8, 1 << 16
THROUGH, APART = 64 << 20, 8 << 20  # a packed file is unpacked so far (a third of a second), with places so far apart
PARQUET = b"PAR1"
_STEP = 1 << 20


@dataclass
class Look:
    """Unpacked bytes of a file. `whole`: `head` is all of it; `places` begin anywhere, so in the middle of a line."""

    head: bytes
    places: list[bytes] = field(default_factory=list)
    whole: bool = True
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Text:
    """The same, decoded; every place begins with a whole line."""

    head: str
    places: list[str]
    encoding: str
    notes: list[str]


def look(path: Path) -> Look:
    """Raises SourceError (UB012) for what is no text file that can be read."""
    try:
        if path.is_dir():
            raise SourceError(f"{path} is a directory", "name one file of it; all of them will read alike")
        with open(path, "rb") as stream:
            magic = stream.read(16)
            stream.seek(0)
            if not magic:
                raise SourceError(f"{path} is empty", "there is nothing to look at")
            for known, how in packed.FORMATS.items():
                if magic.startswith(known):
                    return _packed(stream, path, how)
            for known, what in OTHER_FORMATS.items():
                if magic.startswith(known) and known != PARQUET:
                    raise SourceError(f"{path} is {what}", "give CSV, JSONL or Parquet, plain or compressed")
            return _plain(stream, path.stat().st_size)
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist", "check the path; a table needs --dsn, or PGDATABASE") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", "check the path and its rights") from error


def _plain(stream: BinaryIO, size: int) -> Look:
    head = stream.read(HEAD)
    found = Look(head, whole=len(head) >= size)
    if not found.whole:
        for place in range(1, PLACES + 1):
            stream.seek(max(HEAD, size * place // PLACES - PLACE))
            found.places.append(stream.read(PLACE))
    return found


def _packed(stream: BinaryIO, path: Path, how: str) -> Look:
    found = Look(b"")
    head, position, piece = bytearray(), 0, b""
    try:
        for piece in packed.unpacked(how, stream.read, _STEP):
            if len(head) < HEAD:
                head += piece
            elif position // APART != (position + len(piece)) // APART:
                found.places.append(piece[:PLACE])
            position += len(piece)
            found.whole = position <= HEAD
            if position >= THROUGH:
                break
    except (*packed.ERRORS, EOFError) as error:
        if not head:
            raise SourceError(f"{path} is damaged: {error or 'it ends too early'}", "fetch the file again") from error
        found.notes.append("the file is damaged further on; a load will say where")
    if not head:
        raise SourceError(f"{path} holds nothing", "there is nothing to look at")
    found.head = bytes(head[:HEAD])
    if not found.whole:
        found.places.append(piece[-PLACE:])
    return found


def as_text(found: Look, path: Path) -> Text:
    """Decode what was looked at. Raises SourceError for binary data."""
    notes = list(found.notes)
    encoding, note = _encoding(found, path)
    if note:
        notes.append(note)
    wide = encoding.startswith("utf-16")
    head = _decoded(found.head, encoding, found.whole).removeprefix("\ufeff")
    places = []
    # Of a wide encoding a place may begin in the middle of a character.
    for place in [] if wide else found.places:
        text = place.decode(encoding, "replace")
        start, end = text.find("\n") + 1, text.rfind("\n") + 1
        if 0 < start < end:
            places.append(text[start:end])
    if "\n" not in head and head.count("\r") > 1:
        raise SourceError(f"{path}: its lines end with a carriage return alone", f"tr '\\r' '\\n' < {path} mends it")
    return Text(head, places, encoding, notes)


def _decoded(data: bytes, encoding: str, whole: bool) -> str:
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data, whole)
    cut = text.rfind("\n") + 1
    return text if whole or not cut else text[:cut]


def _encoding(found: Look, path: Path) -> tuple[str, str]:
    head = found.head
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8", ""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", ""
    start = head[:65536]
    evens, odds = start[::2].count(0), start[1::2].count(0)
    if len(start) >= 4 and max(evens, odds) > 0.3 * len(start) / 2 and min(evens, odds) < 0.05 * len(start) / 2:
        return ("utf-16-le" if odds > evens else "utf-16-be"), "no byte order mark: told by where the zero bytes are"
    control = sum(start.count(bytes([c])) for c in range(32) if c not in b"\x01\t\n\v\f\r\x1b")
    if control > 8 and control > len(start) // 20:
        raise SourceError(f"{path} is not text (binary data)", "give CSV, JSONL or Parquet, plain or compressed")
    everything = [(head, found.whole)] + [(piece, False) for piece in found.places]
    if all(_valid(piece, "utf-8", final, place > 0) for place, (piece, final) in enumerate(everything)):
        return "utf-8", ""
    lines = head.splitlines()[:20_000]
    broken = sum(not _valid(line, "utf-8", True, False) for line in lines)
    good = any(not line.isascii() and _valid(line, "utf-8", True, False) for line in lines)
    if good and broken <= len(lines) / 1000:
        return "utf-8", f"{broken} of {len(lines):,} lines are not valid utf-8 and will be rejected"
    high = {byte for byte in head if 0x80 <= byte < 0xA0}
    encoding = "latin-1" if high & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252"
    return encoding, f"not utf-8; {encoding} is likely for Western Europe, look at names beyond ASCII"


def _valid(data: bytes, encoding: str, final: bool, from_middle: bool) -> bool:
    if from_middle:
        data = data[data.find(b"\n") + 1 :]
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, final)
    except UnicodeDecodeError:
        return False
    return True
