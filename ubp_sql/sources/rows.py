"""Batches of rows for the staging table: CSV records or JSONL lines, each with its line number and raw text."""

import csv
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING

from ubp_sql.errors import SourceError
from ubp_sql.sources.expressions import column_names
from ubp_sql.sources.lines import Block
from ubp_sql.sources.load_map import LoadMap

if TYPE_CHECKING:
    import _csv

BATCH_ROWS = 20_000  # 5,000 cost 25 % more on the server, 50,000 nothing less
BATCH_CHARACTERS = 8 << 20
# The staging table's own columns and its name, which stands for the whole row, and PostgreSQL's system columns.
RESERVED = ("ubp_line", "ubp_ord", "ubp_raw", "ubp_reason", "ubp_staging")
TAKEN = (*RESERVED, "ctid", "tableoid", "oid", "xmin", "xmax", "cmin", "cmax")
MAX_COLUMNS = 1000

Row = tuple[object, ...]  # line, raw, reason or None, then the columns


class CsvRows:
    """Rows of a CSV file. `columns` are the staging names of the header; an empty field is NULL.

    A record may span lines; its line is where it starts. A quote that is never closed costs the line it stands in,
    not the rest of the file.
    """

    def __init__(self, blocks: Iterator[Block], load_map: LoadMap, name: str) -> None:
        """Read up to the header. Raises SourceError where there is none."""
        self._blocks, self._map = blocks, load_map
        self._window: list[str] = []  # physical lines from line index _base on; consumed ones leave with the next block
        self._base = self._start = 0
        self._flagged: dict[int, str] = {}
        self._exhausted = False
        self.header = self._read_header(name)
        self.columns = column_names(self.header, TAKEN)

    def _reader(self, replay: list[str]) -> "_csv.Reader":
        lines, delimiter = self._feed(replay), self._map.delimiter
        if self._map.quote is None:
            return csv.reader(lines, delimiter=delimiter, quotechar=None, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=delimiter, quotechar=self._map.quote)

    def _feed(self, replay: list[str]) -> Iterator[str]:
        yield from replay
        for block in self._blocks:
            self._window = self._window[self._start - self._base :] + block.lines
            self._base = self._start
            offset = self._base + len(self._window) - len(block.lines)
            if block.flagged:
                self._flagged |= {offset + place: reason for place, reason in block.flagged.items()}
            yield from block.lines
        self._exhausted = True

    def _read_header(self, name: str) -> list[str]:
        reader = self._reader([])
        try:
            first: list[str] = next(filter(None, reader), [])
            if first and self._exhausted:
                raise csv.Error("a quote is not closed")
        except csv.Error as error:
            hint = "lines must end with \\n or \\r\\n, and quotes be closed"
            raise SourceError(f"{name}: the header cannot be read: {_plain(error)}", hint) from error
        if not first:
            raise SourceError(f"{name} holds no line", "nothing was loaded")
        if len(first) > MAX_COLUMNS:
            raise SourceError(f"{name}: {len(first)} columns are more than {MAX_COLUMNS}", "is the delimiter right?")
        if self._map.header is True:
            self._start = reader.line_num
            if problems := [reason for line, reason in self._flagged.items() if line < self._start]:
                raise SourceError(f"{name}: the header is unusable: {problems[0]}", "set encoding in the map")
            return first
        names = self._map.header or [f"c{place}" for place in range(1, len(first) + 1)]
        return list(names)

    def batches(self, wanted: list[str]) -> Iterator[list[Row]]:
        """Rows with the columns `wanted` (staging names), at most BATCH_ROWS at a time."""
        places = [self.columns.index(name) for name in wanted]
        pick: Callable[[list[str]], tuple[str, ...]] = (
            itemgetter(*places) if len(places) > 1 else lambda row: tuple(row[place] for place in places)
        )
        nothing = (None,) * len(places)
        expected = len(self.columns)
        batch: list[Row] = []
        characters = 0
        replay: list[str] | None = self._window[self._start - self._base :]
        while replay is not None:
            reader, offset, replay = self._reader(replay), self._start, None
            self._exhausted = False
            while True:
                problem = None
                start = self._start
                try:
                    row: list[str] = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    problem, row, end = _plain(error), [""], start + 1
                else:
                    end = offset + reader.line_num
                    if self._exhausted:  # the reader asked for a line in the middle of a record and there was none
                        problem, end = "a quote is not closed", start + 1
                self._start = end
                if not row and problem is None:
                    continue
                raw = self._window[start - self._base]
                if end - start > 1:
                    raw = "".join(self._window[start - self._base : end - self._base])
                raw = raw.rstrip("\r\n")
                if self._flagged:
                    flags = [self._flagged.pop(line) for line in range(start, end) if line in self._flagged]
                    problem = flags[0] if flags else problem
                if problem is None and len(row) != expected:
                    problem = f"wrong number of columns ({expected} expected, {len(row)} found)"
                if problem is None:
                    batch.append((start + 1, raw, None, *[value or None for value in pick(row)]))
                else:
                    batch.append((start + 1, raw, problem, *nothing))
                characters += len(raw)
                if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
                if problem is not None and (end == start + 1) and reader.line_num + offset > end:
                    # The reader ran on past the bad line: begin again behind it.
                    replay = self._window[end - self._base :]
                    break
        if batch:
            yield batch


def _plain(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a quote is not closed, or a field is longer than {csv.field_size_limit()} characters"
    return "a carriage return inside a value without quotes" if "new-line" in text else text


def jsonl_batches(blocks: Iterator[Block]) -> Iterator[list[Row]]:
    """Lines of a JSONL file as (line, raw, reason); blank lines are not rows."""
    batch: list[Row] = []
    characters = line = 0
    for block in blocks:
        for place, text in enumerate(block.lines):
            line += 1
            raw = text.strip(" \t\r\n")
            if not raw:
                continue
            batch.append((line, raw, block.flagged.get(place)))
            characters += len(raw)
            if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch


def prefetch(batches: Iterator[list[Row]], depth: int = 2) -> Generator[list[Row], None, None]:
    """The same batches, prepared by a thread while the caller works; its exceptions are raised here."""
    box: queue.Queue[list[Row] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: list[Row] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return box.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
        except BaseException as error:
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=work, name="ubp-load-reader", daemon=True)
    thread.start()
    try:
        while (item := box.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
