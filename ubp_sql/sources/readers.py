"""A file of any format as columns and batches."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ubp_sql.sources.lines import Content, LineFile
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.parquet import ParquetRows
from ubp_sql.sources.rows import Batch, CsvRows, goes_on_in_quotes, jsonl_batches


class Reader(Protocol):
    """position of `size` have been read: stored bytes, or rows of a Parquet file. `warnings`: known after `scan`."""

    warnings: list[str]

    @property
    def position(self) -> int: ...
    @property
    def size(self) -> int: ...

    def scan(self, known: dict[int, set[str]]) -> Content:
        """Know the content and which of its beginnings are known (position -> hashes)."""

    def cut_in_line(self, content: Content) -> bool:
        """Does the known beginning end within a line that goes on now?"""

    def columns(self) -> tuple[list[str], list[str], list[str]]:
        """Staging names, names as the file has them, SQL types."""

    def batches(self, used: list[str], content: Content, line: int) -> Iterator[Batch]:
        """Rows with the columns `used` behind the known beginning, whose last line is `line`."""


def open_reader(path: Path, load_map: LoadMap, shown: str) -> Reader:
    """Raises SourceError for what can be refused before it is read."""
    if load_map.format == "parquet":
        return _Parquet(path, shown)
    return _Text(path, load_map, shown)


class _Text:
    def __init__(self, path: Path, load_map: LoadMap, shown: str) -> None:
        self._file, self._map = LineFile(path, load_map.encoding, shown), load_map
        self._rows: CsvRows | None = None
        self.warnings: list[str] = []

    @property
    def position(self) -> int:
        return self._file.position

    @property
    def size(self) -> int:
        return self._file.size

    def scan(self, known: dict[int, set[str]]) -> Content:
        content = self._file.scan(known)
        if self._file.looks_utf8:
            self.warnings.append(
                f"{self._file.shown} is valid UTF-8, read as {self._map.encoding}: is encoding right? Letters beyond"
                " ASCII come out garbled if not"
            )
        return content

    def cut_in_line(self, content: Content) -> bool:
        if self._file.goes_on_in_line(content):
            return True
        if self._map.format == "jsonl" or not 0 < content.known < content.size:
            return False
        return goes_on_in_quotes(*self._file.around(content.known, 2 * csv.field_size_limit()), self._map)

    def columns(self) -> tuple[list[str], list[str], list[str]]:
        if self._map.format == "jsonl":
            return ["doc", "record"], ["doc", "record"], ["jsonb", "jsonb"]
        self._rows = CsvRows(self._file, self._map)
        return self._rows.columns, self._rows.header, ["text"] * len(self._rows.columns)

    def batches(self, used: list[str], content: Content, line: int) -> Iterator[Batch]:
        if self._rows is None:
            return jsonl_batches(self._file, content, line)
        return self._rows.batches(used, content, line)


class _Parquet:
    def __init__(self, path: Path, shown: str) -> None:
        self._rows = ParquetRows(path, shown)
        self.warnings: list[str] = []

    @property
    def position(self) -> int:
        return self._rows.position

    @property
    def size(self) -> int:
        return self._rows.size

    def scan(self, known: dict[int, set[str]]) -> Content:
        return self._rows.scan(known)

    def cut_in_line(self, content: Content) -> bool:
        return False

    def columns(self) -> tuple[list[str], list[str], list[str]]:
        return self._rows.columns, self._rows.header, self._rows.types

    def batches(self, used: list[str], content: Content, line: int) -> Iterator[Batch]:
        return self._rows.batches(used, content)
