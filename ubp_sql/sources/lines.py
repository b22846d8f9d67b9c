"""A file as blocks of physical lines: decompressed, decoded, counted, with what is wrong noted per line.

Its *content* is what identity goes by: the decompressed bytes, or, where a line end is more than one byte (UTF-16), the
text as UTF-8. Positions count its bytes.
"""

import codecs
import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ubp_sql.errors import SourceError
from ubp_sql.sources import packed

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK = 2 << 20  # bytes read at a time: 1 MB is 3 % slower, 4 MB no faster
MAX_LINE = 32 << 20  # a longer line is no row; without a limit it would be read into memory whole
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Office file",
}


@dataclass(frozen=True)
class Block:
    """Consecutive physical lines with their ends; `flagged`: index in `lines` -> why this line cannot be used.

    position, digest  where it ends in the content, and the hash of all up to there
    before_tail       what follows is a last line without an end, of which more may come
    """

    lines: list[str]
    flagged: dict[int, str]
    position: int
    digest: "_Hash"
    before_tail: bool


@dataclass(frozen=True)
class Content:
    """What a first pass found: hash and size, and the beginnings that were known, shortest first.

    beginnings  (where it ends, hash of all up to there)
    """

    sha256: str
    size: int
    beginnings: "tuple[tuple[int, _Hash], ...]" = ()

    @property
    def known(self) -> int:
        """Where the longest known beginning ends."""
        return self.beginnings[-1][0] if self.beginnings else 0

    def unknown(self) -> "Content":
        """The same, to be read from its start."""
        return replace(self, beginnings=())

    def without_last(self) -> "Content":
        """The same with the second longest beginning."""
        return replace(self, beginnings=self.beginnings[:-1])


class LineFile:
    """One readable file; `position` of `size` stored bytes have been read, `count` lines handed out."""

    def __init__(self, path: Path, encoding: str, shown: str | None = None) -> None:
        """Open nothing yet, but refuse what can be refused at once (SourceError). `shown`: name in messages."""
        self.path, self.encoding, self.shown = path, encoding, shown or str(path)
        self.position = self.count = 0
        self.looks_utf8 = False  # valid UTF-8 beyond ASCII, although `encoding` is another
        head, self.size = opening(path, self.shown)
        for magic, what in OTHER_FORMATS.items():
            if head.startswith(magic):
                hint = "give CSV, TSV or JSONL, plain or compressed with gzip or zstd"
                raise SourceError(
                    f"{self.shown} is {what}", "write format: parquet in the map" if magic == b"PAR1" else hint
                )
        self.compressed = next((name for magic, name in packed.FORMATS.items() if head.startswith(magic)), None)
        wanted = packed.ENDINGS.get(path.suffix)
        if wanted and self.compressed != wanted:
            raise SourceError(
                f"{self.shown} is not {wanted} although its name ends in {path.suffix}", "rename it, or fetch it again"
            )
        try:
            self._wide = "\n".encode(encoding) != b"\n"
        except UnicodeError:
            self._wide = True

    def scan(self, known: Mapping[int, set[str]]) -> Content:
        """Read it once, to know it: 0.2 s for Online Retail. Sets `looks_utf8`.

        known    position -> hashes of contents that reach there and were loaded

        Raises SourceError for a file that cannot be read to its end: nothing was loaded by then.
        """
        digest = hashlib.sha256()
        utf8 = codecs.getincrementaldecoder("utf-8")()
        other = self.encoding not in ("utf-8", "ascii") and not self._wide
        seen = False
        found: list[tuple[int, _Hash]] = []
        wanted, place = sorted(known), 0
        size = 0
        with self._content() as chunks:
            for chunk in chunks:
                if size == 0:
                    self._checked_start(chunk)
                begin = 0
                while place < len(wanted) and wanted[place] <= size + len(chunk):
                    end = wanted[place] - size
                    digest.update(memoryview(chunk)[begin:end])
                    if digest.hexdigest() in known[wanted[place]]:
                        found.append((wanted[place], digest.copy()))
                    begin, place = end, place + 1
                digest.update(memoryview(chunk)[begin:])
                size += len(chunk)
                self.count += chunk.count(b"\n")
                if other and (seen or not chunk.isascii()):
                    seen = True
                    other = _decodes(utf8, chunk)
        self.looks_utf8 = seen and other and _decodes(utf8, b"", final=True)
        self.position = self.count = 0
        return Content(digest.hexdigest(), size, tuple(found))

    @contextlib.contextmanager
    def _content(self, start: int = 0) -> Iterator[Iterator[bytes]]:
        """The content from `start` on, piece by piece; what goes wrong with it is a SourceError naming the line."""
        how = self.compressed
        with open(self.path, "rb") as stream:
            raw = _Counted(stream, self)
            self.position = 0  # of this reading alone
            try:
                if how:
                    chunks = packed.unpacked(how, raw.read, BLOCK)
                else:
                    if not self._wide:
                        self.position, start = stream.seek(start), 0
                    chunks = iter(lambda: raw.read(BLOCK), b"")
                yield _behind(self._transcoded(chunks) if self._wide else chunks, start)
            except EOFError as error:
                raise SourceError(
                    f"{self.shown}: truncated at line {self.count + 1}; nothing was loaded",
                    f"the {how} file is incomplete: fetch it again",
                ) from error
            except packed.ERRORS as error:
                reason = str(error).rpartition(": ")[2]
                raise SourceError(
                    f"{self.shown}: damaged after line {self.count} ({reason}); nothing was loaded",
                    f"fetch the {how} file again",
                ) from error
            except OSError as error:
                raise SourceError(
                    f"{self.shown} cannot be read: {error.strerror or error}", "nothing was loaded"
                ) from error

    def blocks(self, content: Content | None = None, first_line: int = 0) -> Iterator[Block]:
        """Blocks of about 2 MB: all of the file, or of `content` what lies behind its known beginning.

        A file that has grown since `content` was found out is read up to where it ended; one that is another by now is
        an error at its end (SourceError).
        """
        position, digest = 0, hashlib.sha256()
        if content and content.beginnings:
            position, digest = content.known, content.beginnings[-1][1].copy()
        self.count = first_line
        rest = b""
        with self._content(position) as chunks:
            for chunk in chunks:
                if content and position + len(rest) + len(chunk) > content.size:
                    chunk = chunk[: content.size - position - len(rest)]
                    if not chunk:
                        break
                cut = chunk.rfind(b"\n") + 1
                if cut:
                    whole, rest = rest + chunk[:cut], chunk[cut:]
                    digest.update(whole)
                    if content and position + len(whole) == content.size:
                        self._same(content, content.size, digest)
                    left = content.size - position - len(whole) if content else 0
                    yield self._block(whole, position, digest, left == len(rest) > 0)
                    position += len(whole)
                else:
                    rest += chunk
                if len(rest) > MAX_LINE:
                    raise SourceError(
                        f"{self.shown}: line {self.count + 1} is longer than {MAX_LINE >> 20} MB; nothing was loaded",
                        "lines must end with \\n or \\r\\n",
                    )
        digest.update(rest)
        if content:
            self._same(content, position + len(rest), digest)
        if rest:
            yield self._block(rest, position, digest, False)

    def _same(self, content: Content, size: int, digest: "_Hash") -> None:
        if (size, digest.hexdigest()) != (content.size, content.sha256):
            raise SourceError(f"{self.shown} changed while it was read; nothing was loaded", "load it again")

    def around(self, position: int, size: int) -> tuple[str, str]:
        """What stands before and behind a position of the content, at most `size` bytes each."""
        start = max(0, position - size)
        found = b""
        with self._content(start) as chunks:
            for chunk in chunks:
                found += chunk
                if len(found) >= position - start + size:
                    break
        encoding = "utf-8" if self._wide else self.encoding
        before, behind = found[: position - start], found[position - start : position - start + size]
        return before.decode(encoding, "replace"), behind.decode(encoding, "replace")

    def goes_on_in_line(self, content: Content) -> bool:
        """Was the known beginning cut off within a line, which goes on now?"""
        if not 0 < content.known < content.size:
            return False
        with self._content(content.known - 1) as chunks:
            around = b""
            for chunk in chunks:
                around += chunk
                if len(around) > 2:
                    break
        return around[:1] != b"\n" and not around[1:].startswith((b"\n", b"\r\n"))

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
                f"{self.shown}: not valid {self.encoding} after line {self.count}; nothing was loaded",
                "set encoding in the map to the file's",
            ) from error

    def _checked_start(self, chunk: bytes) -> None:
        """Refuse what is not text."""
        if self.encoding == "utf-8" and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SourceError(f"{self.shown} looks like UTF-16, not {self.encoding}", "set encoding: utf-16 in the map")
        head = chunk[:65536]
        control = sum(head.count(bytes([c])) for c in range(32) if c not in b"\t\n\v\f\r\x1b")
        if control > 8 and control > len(head) // 20:
            raise SourceError(
                f"{self.shown} is not text (binary data)",
                "give CSV, TSV or JSONL, plain or compressed with gzip or zstd",
            )

    def _block(self, data: bytes, position: int, digest: "_Hash", before_tail: bool) -> Block:
        encoding = "utf-8" if self._wide else self.encoding
        end, flagged = position + len(data), {}
        if position == 0 and encoding == "utf-8":
            data = data.removeprefix(codecs.BOM_UTF8)
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
        return Block(lines, flagged, end, digest.copy(), before_tail)


def opening(path: Path, shown: str) -> tuple[bytes, int]:
    """The first bytes and the size of a readable file that is not empty (SourceError)."""
    try:
        if path.is_dir():
            raise SourceError(f"{shown} is a directory", "name a file")
        if not path.is_file() and path.exists():
            raise SourceError(f"{shown} is no regular file", "for a pipe write -, and give it to the standard input")
        with open(path, "rb") as stream:
            head = stream.read(16)
            size = path.stat().st_size
    except FileNotFoundError as error:
        raise SourceError(f"{shown} does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{shown} cannot be read: {reason}", "check the path and its rights") from error
    if not head:
        raise SourceError(f"{shown} is empty", "nothing was loaded")
    return head, size


def _behind(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
    for chunk in chunks:
        if start < len(chunk):
            yield chunk[start:] if start else chunk
        start = max(0, start - len(chunk))


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


class _Counted:
    """The stored bytes, with the position kept on the way."""

    def __init__(self, stream: BinaryIO, file: LineFile) -> None:
        self._stream, self._file = stream, file

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._file.position += len(data)
        return data
