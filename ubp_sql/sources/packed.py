"""Decompression in pieces of bounded size: gzip and Zstandard, of one member or several."""

import zlib
from collections.abc import Callable, Iterator

import zstandard

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
FORMATS = {GZIP: "gzip", ZSTD: "zstd"}
ENDINGS = {".gz": "gzip", ".zst": "zstd"}
MOST_WINDOW = 1 << 27
"""Bytes that a Zstandard frame may look back, as its own command line allows without --long."""
ZSTD_STEP = 2048
"""Bytes decompressed at a time: 4 bytes may stand for 128 kB, and one call gives all that its input holds."""
ERRORS = (zlib.error, zstandard.ZstdError)
Read = Callable[[int], bytes]


def unpacked(how: str, read: Read, size: int) -> Iterator[bytes]:
    """Decompressed pieces of about `size` bytes. EOFError where the last member is cut short, ERRORS for damage."""
    return _gunzipped(read, size) if how == "gzip" else _unzstd(read, size)


def _gunzipped(read: Read, size: int) -> Iterator[bytes]:
    """The gzip module loses what it had decompressed when the end is missing, and with it the line number."""
    member = zlib.decompressobj(wbits=31)
    for data in iter(lambda: read(max(1, size >> 4)), b""):
        rest, produced = data, 0
        while rest or produced == size:
            if member.eof:
                rest = rest.lstrip(b"\0")  # padding between members
                if not rest:
                    break
                member = zlib.decompressobj(wbits=31)
            piece = member.decompress(rest, size)
            produced = len(piece)
            if piece:
                yield piece
            rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise EOFError


def _unzstd(read: Read, size: int) -> Iterator[bytes]:
    """A stream reader would end without a word where the last frame is cut short."""
    opened = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW)
    frame = opened.decompressobj()
    fresh = True  # nothing of the present frame was read
    held = bytearray()
    for data in iter(lambda: read(ZSTD_STEP), b""):
        rest = data
        while rest:
            if frame.eof:
                frame, fresh = opened.decompressobj(), True
            try:
                held += frame.decompress(rest)
            except zstandard.ZstdError:
                yield bytes(held)  # what came before the damage counts lines
                raise
            fresh = False
            rest = frame.unused_data if frame.eof else b""
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
    if held:
        yield bytes(held)
    if not frame.eof and not fresh:
        raise EOFError
