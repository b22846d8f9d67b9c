"""Batches of rows for the staging table: CSV records or JSONL lines, each with its line number and raw text."""

import bisect
import csv
import io
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from ubp_sql.errors import SourceError
from ubp_sql.expressions import column_names
from ubp_sql.sources.lines import Block, Content, LineFile
from ubp_sql.sources.load_map import LoadMap

if TYPE_CHECKING:
    import _csv

BATCH_ROWS = 20_000  # 5,000 cost 25 % more on the server, 50,000 nothing less
BATCH_CHARACTERS = 8 << 20
PART_ROWS = 200_000  # about two seconds: what a kill costs, and what a commit and its statements cost 1 % of
PART_BYTES = 128 << 20
# The staging table's own columns and its name, which stands for the whole row, and PostgreSQL's system columns.
RESERVED = ("ubp_line", "ubp_ord", "ubp_raw", "ubp_reason", "ubp_staging")
TAKEN = (*RESERVED, "ctid", "tableoid", "oid", "xmin", "xmax", "cmin", "cmax")
MAX_COLUMNS = 1000

Row = tuple[object, ...]  # line, then the columns


class Bad(NamedTuple):
    """A row that cannot be used as it stands in the file."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True)
class PartEnd:
    """A part may end here: its last line, and how far into which content that is (ubp.load_parts)."""

    line: int
    position: int
    sha256: str


@dataclass
class Batch:
    """Rows with their raw texts, rows that cannot be used, and whether a part ends behind them.

    data  `count` rows of a Parquet file from `first` on as COPY reads them (format csv), in place of `rows`
    """

    rows: list[Row] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    end: PartEnd | None = None
    data: bytes | None = None
    count: int = 0
    first: int = 0
    raw_at: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return (self.count if self.data is not None else len(self.rows)) + len(self.bad)

    def raw(self, line: int) -> str:
        """Raw text of the row that starts in a line."""
        if self.raw_at is not None:
            return self.raw_at(line)
        place = bisect.bisect_left(self.rows, line, key=itemgetter(0))
        return self.raws[place].rstrip("\r\n")


class _Part:
    """Whether the part under way has rows or bytes enough to end."""

    def __init__(self, position: int) -> None:
        self._began, self._rows = position, 0

    def end(self, line: int, block: Block, batch: Batch) -> PartEnd | None:
        """At the end of a block whose last rows are in `batch`."""
        rows, size = self._rows + len(batch), block.position - self._began
        if not (block.before_tail and size) and rows < PART_ROWS and size < PART_BYTES:
            return None
        return PartEnd(line, block.position, block.digest.hexdigest())

    def take(self, batch: Batch) -> Batch:
        """Note that a batch is handed out."""
        self._rows += len(batch)
        if batch.end is not None:
            self._began, self._rows = batch.end.position, 0
        return batch

    def last(self, line: int, block: Block | None, batch: Batch) -> Iterator[Batch]:
        """What is left at the end of the file."""
        if block is not None and block.position > self._began:
            batch.end = PartEnd(line, block.position, block.digest.hexdigest())
            yield batch


class CsvRows:
    """Rows of a CSV or TSV file. `columns` are the staging names of the header; an empty field is NULL.

    A record may span lines; its line is where it starts. A quote that is never closed costs the line it stands in,
    not the rest of the file.
    """

    def __init__(self, file: LineFile, load_map: LoadMap) -> None:
        """Read the header. Raises SourceError where there is none."""
        self._file, self._map = file, load_map
        self._begin(file.blocks(), 0, 0)
        self.header = self._read_header(file.shown)
        self._header_lines = self._start
        self.columns = column_names(self.header, TAKEN)

    def _begin(self, blocks: Iterator[Block], line: int, skip: int) -> None:
        """Read on behind line number `line`, of which the next `skip` are not wanted."""
        self._blocks, self._skip = blocks, skip
        self._window: list[str] = []  # physical lines from line index _base on; consumed ones leave with the next block
        self._base = self._start = line + skip
        self._flagged: dict[int, str] = {}
        self._block: Block | None = None
        self._exhausted = False

    def _reader(self, replay: list[str]) -> "_csv.Reader":
        lines, delimiter = self._feed(replay), self._map.delimiter
        if self._map.quote is None:
            return csv.reader(lines, delimiter=delimiter, quotechar=None, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=delimiter, quotechar=self._map.quote)

    def _feed(self, replay: list[str]) -> Iterator[str]:
        yield from replay
        for block in self._blocks:
            skipped = min(self._skip, len(block.lines))
            self._skip -= skipped
            lines = block.lines[skipped:] if skipped else block.lines
            self._window = self._window[self._start - self._base :] + lines
            self._base = self._start
            offset = self._base + len(self._window) - len(lines) - skipped
            if block.flagged:
                self._flagged |= {offset + place: why for place, why in block.flagged.items() if place >= skipped}
            self._block = block
            yield from lines
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

    def batches(self, wanted: list[str], content: Content, line: int) -> Iterator[Batch]:
        """Rows with the columns `wanted` (staging names), at most BATCH_ROWS at a time.

        content, line  what is known of its beginning was loaded, and ends with that line
        """
        self._begin(self._file.blocks(content, line), line, 0 if line else self._header_lines)
        part = _Part(content.known)
        places = [self.columns.index(name) for name in wanted]
        pick: Callable[[list[str]], tuple[str, ...]] = (
            itemgetter(*places) if len(places) > 1 else lambda row: tuple(row[place] for place in places)
        )
        expected = len(self.columns)
        batch, characters = Batch(), 0
        replay: list[str] | None = []
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
                if row or problem is not None:
                    raw = self._window[start - self._base]
                    if end - start > 1:
                        raw = "".join(self._window[start - self._base : end - self._base])
                    if self._flagged:
                        flags = [self._flagged.pop(place) for place in range(start, end) if place in self._flagged]
                        problem = flags[0] if flags else problem
                    if problem is None and len(row) != expected:
                        problem = f"wrong number of columns ({expected} expected, {len(row)} found)"
                    if problem is None:
                        batch.rows.append((start + 1, *[value or None for value in pick(row)]))
                        batch.raws.append(raw)
                    else:
                        batch.bad.append(Bad(start + 1, problem, raw.rstrip("\r\n")))
                    characters += len(raw)
                if self._block and end == self._base + len(self._window):
                    batch.end = part.end(end, self._block, batch)
                if batch.end or len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                    yield part.take(batch)
                    batch, characters = Batch(), 0
                if problem is not None and (end == start + 1) and reader.line_num + offset > end:
                    # The reader ran on past the bad line: begin again behind it.
                    replay = self._window[end - self._base :]
                    break
        yield from part.last(self._start, self._block, batch)


def goes_on_in_quotes(before: str, behind: str, load_map: LoadMap) -> bool:
    """Does the last line of `before` open a quote that `behind` closes?

    One that nothing closes, or that closes within a field, costs its line and no other.
    """
    if load_map.quote is None:
        return False
    line = before[before.rfind("\n", 0, -1) + 1 :]
    lines = io.StringIO(line + behind, newline="\n")
    reader = csv.reader(lines, delimiter=load_map.delimiter, quotechar=load_map.quote, strict=True)
    try:
        next(reader)
    except (csv.Error, StopIteration):
        return False
    return reader.line_num > 1


def _plain(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a quote is not closed, or a field is longer than {csv.field_size_limit()} characters"
    return "a carriage return inside a value without quotes" if "new-line" in text else text


def jsonl_batches(file: LineFile, content: Content, line: int) -> Iterator[Batch]:
    """Lines of a JSONL file as (line, raw); blank lines are not rows. `content` and `line` as CsvRows has them."""
    part = _Part(content.known)
    batch, characters, block = Batch(), 0, None
    for block in file.blocks(content, line):
        last = len(block.lines) - 1
        for place, text in enumerate(block.lines):
            line += 1
            raw = text.strip(" \t\r\n")
            if raw and place in block.flagged:
                batch.bad.append(Bad(line, block.flagged[place], raw))
            elif raw:
                batch.rows.append((line, raw))
                batch.raws.append(raw)
            characters += len(raw)
            if place == last:
                batch.end = part.end(line, block, batch)
            if batch.end or len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield part.take(batch)
                batch, characters = Batch(), 0
    yield from part.last(line, block, batch)


def prefetch(batches: Iterator[Batch], depth: int = 2) -> Generator[Batch, None, None]:
    """The same batches, prepared by a thread while the caller works; its exceptions are raised here."""
    box: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
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
