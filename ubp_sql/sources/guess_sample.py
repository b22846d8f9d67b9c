"""A file as a sample of columns: which format, how it is laid out, and what its columns hold."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ubp_sql.errors import SourceError
from ubp_sql.expressions import ascii_lower, check_text, column_names
from ubp_sql.sources import guess_names
from ubp_sql.sources.guess_bytes import PARQUET, Text, as_text, look
from ubp_sql.sources.guess_json import ROWS, Sample, read_lines
from ubp_sql.sources.guess_times import time_form
from ubp_sql.sources.guess_values import MOMENTS, Column, read_numbers
from ubp_sql.sources.parquet import ParquetRows
from ubp_sql.sources.rows import MAX_COLUMNS, TAKEN

DELIMITERS = (",", ";", "\t", "|", "\x01")
_LONG_NAMES = {"timestamptz": MOMENTS[2], "timestamp": MOMENTS[1], "time": "time without time zone"}
_CHOICE = 1 << 18  # characters that the delimiter is told from
# Words that an expression reads as something else than a column's name.
_SQL_WORDS = guess_names.word_set(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
    cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default
    deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
    greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
    lateral leading least left like limit localtime localtimestamp national natural nchar none normalize not notnull
    null nullif numeric offset on only or order out outer overlaps overlay placing position precision primary real
    references returning right row select session_user setof similar smallint some substring symmetric system_user
    table tablesample then time timestamp to trailing treat trim true union unique user using values varchar
    variadic verbose when where window with
    """
)


def needs_quotes(name: str) -> bool:
    """Would SQL read the name as something else where it stands without double quotes?"""
    return not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in _SQL_WORDS


def word_of(name: str) -> str:
    """A column of a file as an expression names it: loads have only names that SQL folds to."""
    folded = ascii_lower(name)
    return '"' + folded.replace('"', '""') + '"' if needs_quotes(folded) else name


def read_sample(path: Path) -> Sample:
    """Look at the beginning of a file and a few places further on.

    Raises SourceError (UB012) for what cannot be read, or is in no format that a load takes, InstallError (UB011) for a
    Parquet file without pyarrow.
    """
    found = look(path)
    if found.head.startswith(PARQUET):
        return _parquet(path)
    text = as_text(found, path)
    start = text.head.lstrip()
    if not start:
        raise SourceError(f"{path} holds no line", "there is nothing to look at")
    if start.startswith("{"):
        return read_lines(text, path)
    if re.match(r"\[\s*(\{|$)", start):
        raise SourceError(
            f"{path} is one JSON array", f"jq -c '.[]' {path} > events.jsonl makes a line of each element"
        )
    return _csv(text, path)


def _csv(text: Text, path: Path) -> Sample:
    delimiter, quote = _dialect(text.head[:_CHOICE])
    notes = list(text.notes)
    rows = list(_records(text.head, delimiter, quote, ROWS))
    if not rows:
        raise SourceError(f"{path} holds no line", "there is nothing to look at")
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if max(width, len(rows[0])) > MAX_COLUMNS:
        raise SourceError(f"{path} has {width:,} columns, more than {MAX_COLUMNS:,}", "is it a table of events?")
    header, note = _header(rows, width)
    if note:
        notes.append(note)
    names = rows[0] if header else [f"c{place}" for place in range(1, width + 1)]
    width = len(names)
    body = rows[1:] if header else rows
    kept = [row for row in body if len(row) == width]
    if len(kept) < len(body):
        notes.append(f"{len(body) - len(kept):,} of {len(body):,} rows have not {width} columns and will be rejected")
    head = len(kept)
    for later in text.places:
        kept += [row for row in _records(later, delimiter, quote, ROWS) if len(row) == width]
    alike = Counter(names)
    columns = []
    for number, staged in enumerate(column_names(names, TAKEN)):
        name = names[number] if alike[names[number]] == 1 else staged
        columns.append(_column(name, staged, [row[number] or None for row in kept], head))
    settings: dict[str, object] = {}
    form = "tsv" if delimiter == "\t" else "csv"
    if delimiter not in ",\t":
        settings["delimiter"] = delimiter
    if quote != '"':
        settings["quote"] = quote
    if not header:
        settings["header"] = False
    if text.encoding != "utf-8":
        settings["encoding"] = text.encoding
    return Sample(form, columns, len(kept), settings, notes)


def _records(text: str, delimiter: str, quote: str | None, most: int) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="\n")
    if quote is None:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=None, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=quote)
    found = 0
    while found < most:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue
        if row:
            found += 1
            yield row


def _dialect(text: str) -> tuple[str, str | None]:
    """The delimiter and quote under which the rows agree best on how many columns there are."""
    cut = text.rfind("\n") + 1
    text = text[:cut] if cut and len(text) >= _CHOICE else text

    def agreement(delimiter: str, quote: str | None) -> tuple[float, int, int]:
        """Share of the rows that agree on the number of columns, that number, and how many rows there are."""
        widths = [len(row) for row in _records(text, delimiter, quote, 2000)]
        if not widths:
            return 0.0, 0, 0
        width, rows = Counter(widths).most_common(1)[0]
        share = rows / len(widths)
        return (share if width > 1 and widths[0] == width else share / 2 if width > 1 else 0.0), width, len(widths)

    ranked = {delimiter: agreement(delimiter, '"') for delimiter in DELIMITERS if delimiter in text}
    if not ranked:
        return ",", '"'
    best = max(ranked, key=lambda d: (round(ranked[d][0], 1), ranked[d][1]))
    usual, bare = agreement(best, '"'), agreement(best, None)
    # A quote that was none swallows lines; without quoting, texts of several lines would not agree.
    if '"' in text and (bare[0] > usual[0] or (bare[0] == usual[0] and bare[2] > usual[2])):
        return best, None
    start = text[:20_000]
    edge = re.escape(best)
    wrapped = re.findall(rf"(?:^|{edge})'[^'\n]*'(?={edge}|\r?$)", start, re.MULTILINE)
    if len(wrapped) > 0.5 * (start.count("\n") + 1) and '"' not in start:
        return best, "'"
    return best, '"'


def _header(rows: list[list[str]], width: int) -> tuple[bool, str]:
    """Does the first row hold names? With a note where nothing tells."""
    first, body = rows[0], [row for row in rows[1:2001] if len(row) == len(rows[0])]
    if len(first) != width and body:
        return True, ""
    if any(read_numbers([cell]) or time_form([cell], 1) for cell in first if cell.strip()):
        return False, ""
    for place in range(len(first)):
        values = [row[place] for row in body if row[place].strip()]
        if values and (read_numbers(values) or time_form(values, len(values))):
            return True, ""
    parts = ("user", "item", "kind", "event_time", "order_id", "total", "quantity")
    if any(guess_names.score(part, cell) >= 0.5 for cell in first for part in parts):
        return True, ""
    if any(first[place] == row[place] != "" for row in body for place in range(len(first))):
        return False, "the first row seems to be data: its values are met again"
    return True, "cannot tell whether the first row holds names: taken as names"


def _parquet(path: Path) -> Sample:
    opened = ParquetRows(path, str(path))  # names and types, and refuses what a load would
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            groups = file.num_row_groups
            batches = list(itertools.islice(file.iter_batches(batch_size=ROWS), 1))
            for group in sorted({groups // 2, groups - 1} - {0, -1}):
                batches += itertools.islice(file.iter_batches(batch_size=ROWS // 10, row_groups=[group]), 1)
    except (pa.ArrowException, OSError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise SourceError(f"{path} cannot be read as Parquet: {text}", "fetch the file again") from error
    if not batches:
        raise SourceError(f"{path} holds no row", "there is nothing to look at")
    columns = []
    for number, (title, staged, sql_type) in enumerate(zip(opened.header, opened.columns, opened.types, strict=True)):
        try:
            values = [v or None for batch in batches for v in batch.column(number).cast(pa.string()).to_pylist()]
        except (pa.ArrowException, ValueError):
            continue  # lists and structs have no text that a part of an event could be
        columns.append(_column(title, staged, values, batches[0].num_rows, _LONG_NAMES.get(sql_type, sql_type)))
    return Sample("parquet", columns, sum(batch.num_rows for batch in batches))


def _column(name: str, staged: str, values: list[str | None], head: int, sql_type: str | None = None) -> Column:
    """A column that a map names as the file does, where that can be told from an expression."""
    same = ascii_lower(name) == staged
    readable = re.fullmatch(r"\w[\w ]*\w|\w", name) and check_text(name) is None
    return Column(name, word_of(name if same else staged), name if readable else staged, values, head, sql_type)
