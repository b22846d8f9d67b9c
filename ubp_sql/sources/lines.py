"""A file as blocks of physical lines: decompressed, decoded, counted, with what is wrong noted per line."""

import codecs
import contextlib
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ubp_sql.errors import SourceError

BLOCK = 1 << 20  # bytes read at a time: 256 kB is 3 % slower, 4 MB no faster
MAX_LINE = 32 << 20  # a longer line is no row; without a limit it would be read into memory whole
GZIP = b"\x1f\x8b"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Office file",
}


@dataclass(frozen=True)
class Block:
    """Consecutive physical lines with their ends; `flagged`: index in `lines` -> why this line cannot be used."""

    lines: list[str]
    flagged: dict[int, str] = field(default_factory=dict)


class LineFile:
    """One readable file; `position` of `size` stored bytes have been read, `count` lines handed out."""

    def __init__(self, path: Path, encoding: str) -> None:
        """Open nothing yet, but refuse what can be refused at once (SourceError)."""
        self.path, self.encoding = path, encoding
        self.position = self.count = 0
        self.looks_utf8 = False  # valid UTF-8 beyond ASCII, although `encoding` is another
        try:
            if path.is_dir():
                raise SourceError(f"{path} is a directory", "name one file")
            with open(path, "rb") as stream:
                head = stream.read(16)
                self.size = path.stat().st_size
        except FileNotFoundError as error:
            raise SourceError(f"{path} does not exist", "check the path") from error
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}", "check the path and its rights") from error
        if not head:
            raise SourceError(f"{path} is empty", "nothing was loaded")
        for magic, what in OTHER_FORMATS.items():
            if head.startswith(magic):
                raise SourceError(f"{path} is {what}", "give CSV or JSONL, plain or compressed with gzip")
        self.compressed = head.startswith(GZIP)
        if path.suffix == ".gz" and not self.compressed:
            raise SourceError(f"{path} is not gzip although its name ends in .gz", "rename it, or fetch it again")

    def sha256(self) -> str:
        """Hash of the bytes, decompressed: the same log plain, or packed at another time, is the same content.

        A pass of its own (0.2 s for Online Retail), so that a file that was loaded before is known without parsing it.
        Sets `looks_utf8`. Raises SourceError for a file that cannot be read to its end.
        """
        digest = hashlib.sha256()
        utf8 = codecs.getincrementaldecoder("utf-8")()
        other = self.encoding not in ("utf-8", "ascii")
        seen = False
        with self._chunks() as chunks:
            for chunk in chunks:
                digest.update(chunk)
                self.count += chunk.count(b"\n")
                if other and (seen or not chunk.isascii()):
                    seen = True
                    other = _decodes(utf8, chunk)
        self.looks_utf8 = seen and other and _decodes(utf8, b"", final=True)
        self.position = self.count = 0
        return digest.hexdigest()

    @contextlib.contextmanager
    def _chunks(self) -> Iterator[Iterator[bytes]]:
        """The decompressed bytes, piece by piece; what goes wrong with them is a SourceError naming the line."""
        with open(self.path, "rb") as stream:
            raw = _Counted(stream, self)
            try:
                yield _gunzipped(raw) if self.compressed else iter(lambda: raw.read(BLOCK), b"")
            except EOFError as error:
                raise SourceError(
                    f"{self.path}: truncated at line {self.count + 1}; nothing was loaded",
                    "the gzip file is incomplete: fetch it again",
                ) from error
            except zlib.error as error:
                reason = str(error).rpartition(": ")[2]
                raise SourceError(
                    f"{self.path}: damaged after line {self.count} ({reason}); nothing was loaded",
                    "fetch the gzip file again",
                ) from error
            except OSError as error:
                raise SourceError(f"{self.path} cannot be read: {error}", "nothing was loaded") from error

    def blocks(self, expected_sha256: str | None = None) -> Iterator[Block]:
        """Blocks of about 1 MB. With a hash given, a file that has another one by now is an error (SourceError)."""
        digest = hashlib.sha256()
        with self._chunks() as chunks:
            yield from self._decoded(_noted(chunks, digest) if expected_sha256 else chunks)
        if expected_sha256 and digest.hexdigest() != expected_sha256:
            raise SourceError(f"{self.path} changed while it was read; nothing was loaded", "load it again")

    def _decoded(self, chunks: Iterator[bytes]) -> Iterator[Block]:
        encoding = self.encoding
        try:
            line_wise = "\n".encode(encoding) == b"\n"
        except UnicodeError:
            line_wise = False
        if not line_wise:  # UTF-16 and the like: a line end is more than one byte, so the whole stream is decoded
            chunks, encoding = self._transcoded(chunks), "utf-8"
        rest = b""
        first = True
        for chunk in chunks:
            if first:
                chunk = self._checked_start(chunk, encoding)
                first = False
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield self._block(rest + chunk[:cut], encoding)
                rest = chunk[cut:]
            else:
                rest += chunk
            if len(rest) > MAX_LINE:
                raise SourceError(
                    f"{self.path}: line {self.count + 1} is longer than {MAX_LINE >> 20} MB; nothing was loaded",
                    "lines must end with \\n or \\r\\n",
                )
        if rest:
            yield self._block(rest, encoding)

    def _transcoded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        try:
            for chunk in chunks:
                if text := decoder.decode(chunk):
                    yield text.encode()
            if text := decoder.decode(b"", True):
                yield text.encode()
        except UnicodeError as error:
            raise SourceError(
                f"{self.path}: not valid {self.encoding} after line {self.count}; nothing was loaded",
                "set encoding in the map to the file's",
            ) from error

    def _checked_start(self, chunk: bytes, encoding: str) -> bytes:
        """Refuse what is not text, and take off a byte order mark."""
        if encoding == "utf-8" and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SourceError(f"{self.path} looks like UTF-16, not {self.encoding}", "set encoding: utf-16 in the map")
        head = chunk[:65536]
        control = sum(head.count(bytes([c])) for c in range(32) if c not in b"\t\n\v\f\r\x1b")
        if control > 8 and control > len(head) // 20:
            raise SourceError(f"{self.path} is not text (binary data)", "give CSV or JSONL, plain or gzip")
        return chunk.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8" else chunk

    def _block(self, data: bytes, encoding: str) -> Block:
        flagged: dict[int, str] = {}
        try:
            # newline="\n": only \n ends a line, so that other separators stay part of a value.
            lines = io.StringIO(data.decode(encoding), newline="\n").readlines()
        except UnicodeDecodeError:
            lines = []
            for place, line in enumerate(io.BytesIO(data)):
                try:
                    lines.append(line.decode(encoding))
                except UnicodeDecodeError:
                    flagged[place] = f"not valid {self.encoding}"
                    lines.append(line.decode(encoding, "backslashreplace"))
        if b"\0" in data:
            for place, text in enumerate(lines):
                if "\0" in text:
                    flagged.setdefault(place, "contains a NUL character")
                    lines[place] = text.replace("\0", "\\x00")
        self.count += len(lines)
        return Block(lines, flagged)


def _noted(chunks: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _gunzipped(raw: "_Counted") -> Iterator[bytes]:
    """Decompressed pieces of at most BLOCK bytes, of one gzip member or several; EOFError where the last is cut short.

    The gzip module loses what it had decompressed of a block when the end is missing, and with it the line number.
    """
    member = zlib.decompressobj(wbits=31)
    for data in iter(lambda: raw.read(BLOCK >> 4), b""):
        rest, produced = data, 0
        while rest or produced == BLOCK:
            if member.eof:
                rest = rest.lstrip(b"\0")  # padding between members
                if not rest:
                    break
                member = zlib.decompressobj(wbits=31)
            piece = member.decompress(rest, BLOCK)
            produced = len(piece)
            if piece:
                yield piece
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise EOFError


class _Counted:
    """The stored bytes, with the position kept on the way."""

    def __init__(self, stream: BinaryIO, file: LineFile) -> None:
        self._stream, self._file = stream, file

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._file.position += len(data)
        return data
