"""Sorted portions of events on their way into a run: in memory while they are few, else in a temporary file."""

import mmap
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ubp_sql.mirror.layout import Block, Column
from ubp_sql.mirror.merge import Cursor

TOGETHER = 1 << 18
"""Events merged at a time, over all portions: sorting them takes less than 100 ms."""
ENTRIES = ("user_id", "first", "complete")
IN_MEMORY = 128 << 20
"""Bytes of portions that stay in memory."""


class Place(NamedTuple):
    """Where an array lies in the file."""

    offset: int
    length: int
    dtype: np.dtype[Any]


class Portions:
    """Blocks in any order of arrival, to be read as one stream in the order of events.

    folder  where the temporary file is made; it has no name there and goes with the last reference
    """

    def __init__(self, folder: Path, limit: int = IN_MEMORY) -> None:
        self._folder, self._limit = folder, limit
        self._parts: list[Block | dict[str, Place]] = []  # in the order of arrival: a newer entry may void older ones
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self.events = 0

    def add(self, block: Block) -> None:
        """Takes a sorted block."""
        if not len(block.user_id):
            return
        self.events += block.n
        parts = {**block.columns, **{name: getattr(block, name) for name in ENTRIES}}
        size = sum(column.nbytes for column in parts.values())
        if self._bytes + size <= self._limit:
            self._bytes += size
            self._parts.append(block)
            return
        if self._file is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix="ubp_")  # noqa: SIM115 - lives as long as we
            weakref.finalize(self, self._file.close)
        places: dict[str, Place] = {}
        for name, column in parts.items():
            places[name] = Place(self._file.tell(), len(column), column.dtype)
            self._file.write(np.ascontiguousarray(column).data)
            self._file.write(bytes(-column.nbytes % 8))
        self._parts.append(places)

    def cursors(self) -> list[Cursor]:
        """The portions, oldest first, cut so that one piece of each makes about TOGETHER events."""
        whole: bytes | mmap.mmap = b""
        if self._file is not None:
            self._file.flush()
            whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        blocks = [part if isinstance(part, Block) else _mapped(whole, part) for part in self._parts]
        rows = max(256, TOGETHER // max(1, len(blocks)))
        return [Cursor(pieces(block, rows)) for block in blocks]


def _mapped(whole: "bytes | mmap.mmap", places: dict[str, Place]) -> Block:
    """A block whose arrays lie in the file."""
    columns: dict[str, Column] = {
        name: np.frombuffer(whole, place.dtype, place.length, place.offset) for name, place in places.items()
    }
    entries = {name: columns.pop(name) for name in ENTRIES}
    return Block(columns=columns, **entries)


def pieces(block: Block, rows: int) -> Iterator[tuple[Block, bool]]:
    """A block in pieces of at most so many events and users; with each, whether its last user goes on in the next."""
    low, begin, u = 0, 0, len(block.user_id)
    while low < u:
        high = min(int(np.searchsorted(block.first, begin + rows, "right")) - 1, low + rows)
        if high > low:
            end, goes_on = int(block.first[high]), False
        else:
            high, end, goes_on = low + 1, begin + rows, True
        first = np.clip(block.first[low : high + 1], begin, end) - begin
        columns = {name: column[begin:end] for name, column in block.columns.items()}
        yield Block(block.user_id[low:high], first, block.complete[low:high], columns), goes_on
        low, begin = (low, end) if goes_on else (high, end)
