"""Rows of a Parquet file: row groups streamed by pyarrow, written as CSV for COPY into columns of their own types.

pyarrow's CSV tells an empty text from NULL, and numbers by their shortest form, which reads back to the same bits.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ubp_sql.errors import InstallError, SourceError
from ubp_sql.expressions import column_names
from ubp_sql.sources import rows
from ubp_sql.sources.lines import Content, opening
from ubp_sql.sources.rows import MAX_COLUMNS, TAKEN, Bad, Batch, PartEnd

MAGIC = b"PAR1"
HASHED = 1 << 20
DAMAGED = "fetch or write the file again"


class ParquetRows:
    """A Parquet file; `columns` are the staging names, `types` their SQL types, `position` rows read of `size`."""

    def __init__(self, path: Path, shown: str) -> None:
        """Raises SourceError for what is no whole Parquet file, InstallError without pyarrow."""
        head, self.bytes = opening(path, shown)
        if not head.startswith(MAGIC):
            raise SourceError(f"{shown} is not a Parquet file", "write the format that it has in the map")
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise InstallError(
                "reading Parquet takes pyarrow, which is not installed", "pip install pyarrow"
            ) from error
        self.path, self.shown, self.position = path, shown, 0
        try:
            # A page at a time, not a column of a row group whole.
            self._file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
            schema = self._file.schema_arrow
            self.size = int(self._file.metadata.num_rows)
        except Exception as error:
            raise SourceError(f"{shown} is no readable Parquet file: {_line(error)}", DAMAGED) from error
        self.header = [str(name) for name in schema.names]
        if len(self.header) > MAX_COLUMNS:
            raise SourceError(
                f"{shown}: {len(self.header)} columns are more than {MAX_COLUMNS}", "select the ones you need"
            )
        if len(set(self.header)) < len(self.header) or "" in self.header:
            raise SourceError(f"{shown}: two columns have one name, or one has none", "rename them")
        self.columns = column_names(self.header, TAKEN)
        self.types = [_sql_type(schema.field(place).type) for place in range(len(self.header))]

    def scan(self, known: dict[int, set[str]]) -> Content:
        """Hash of the file's bytes; known are its first rows up to the furthest position with that hash."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as stream:
            for chunk in iter(lambda: stream.read(HASHED), b""):
                digest.update(chunk)
        sha256 = digest.hexdigest()
        found = tuple((position, digest) for position in sorted(known) if sha256 in known[position])
        return Content(sha256, self.size, found)

    def batches(self, wanted: list[str], content: Content) -> Iterator[Batch]:
        """Rows behind those that are known, with the columns `wanted` (staging names)."""
        import pyarrow as pa

        places = [self.columns.index(name) for name in wanted]
        names = [self.header[place] for place in places]
        row = self.position = content.known
        in_part = 0
        try:
            for table in self._tables(names, row):
                batch = _batch(pa, table.select(names), [self.types[place] for place in places], row)
                row += table.num_rows
                in_part += table.num_rows
                self.position = row
                if row == self.size:
                    self._same(content)
                if in_part >= rows.PART_ROWS or row == self.size:
                    batch.end, in_part = PartEnd(row, row, content.sha256), 0
                yield batch
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SourceError(
                f"{self.shown}: damaged after row {row} ({_line(error)}); nothing was loaded", DAMAGED
            ) from error
        if self.size == 0:
            yield Batch(end=PartEnd(0, 0, content.sha256))

    def _same(self, content: Content) -> None:
        if self.scan({}).sha256 != content.sha256:
            raise SourceError(f"{self.shown} changed while it was read; nothing was loaded", "load it again")

    def _tables(self, names: list[str], skip: int) -> Iterator[Any]:
        metadata = self._file.metadata
        first = 0
        while first < metadata.num_row_groups and skip >= metadata.row_group(first).num_rows:
            skip -= metadata.row_group(first).num_rows
            first += 1
        groups = list(range(first, metadata.num_row_groups))
        for table in self._file.iter_batches(rows.BATCH_ROWS, groups, columns=names, use_threads=False):
            if skip < table.num_rows:
                yield table.slice(skip) if skip else table
            skip = max(0, skip - table.num_rows)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _sql_type(kind: Any) -> str:
    """The type of a staging column. Lists, structs and maps are jsonb."""
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return _sql_type(kind.value_type)
    if kind.__class__.__name__ == "UuidType":
        return "uuid"
    tests = (
        (t.is_boolean, "boolean"), (t.is_uint64, "numeric"), (t.is_integer, "bigint"),
        (t.is_float64, "double precision"), (t.is_floating, "real"), (t.is_decimal, "numeric"), (t.is_date, "date"),
        (t.is_time, "time"), (t.is_duration, "interval"), (t.is_nested, "jsonb"),
    )  # fmt: skip
    if t.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    return next((name for test, name in tests if test(kind)), "text")


def _batch(pa: Any, table: Any, types: list[str], before: int) -> Batch:
    """Rows of one Arrow batch as CSV; those that COPY would refuse are taken out and say why."""
    import pyarrow.compute as pc
    import pyarrow.csv

    problems: dict[int, str] = {}
    columns = []
    for name, kind in zip(table.schema.names, types, strict=True):
        columns.append(_readable(pa, pc, table.column(name), kind, name, problems))
    lines = pa.array(range(before + 1, before + 1 + table.num_rows), pa.int64())
    ready = pa.Table.from_arrays([lines, *columns], [str(place) for place in range(len(columns) + 1)])
    if problems:
        ready = ready.filter(pa.array([place not in problems for place in range(table.num_rows)]))
    out = io.BytesIO()
    pyarrow.csv.write_csv(ready, out, pyarrow.csv.WriteOptions(include_header=False))

    def raw_at(line: int) -> str:
        row = {name: _shown(table.column(name)[line - before - 1]) for name in table.schema.names}
        return json.dumps(row, default=str, ensure_ascii=False).replace("\\u0000", "\\x00")

    bad = [Bad(before + 1 + place, reason, raw_at(before + 1 + place)) for place, reason in sorted(problems.items())]
    return Batch(bad=bad, data=out.getvalue(), count=ready.num_rows, first=before + 1, raw_at=raw_at)


def _readable(pa: Any, pc: Any, values: Any, kind: str, name: str, problems: dict[int, str]) -> Any:
    """The column as write_csv and COPY take it. What one of them would refuse is NULL, and its row among `problems`."""

    def refuse(places: Any, reason: str) -> None:
        for place in places:
            problems.setdefault(int(place), f"{name}: {reason}")

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if kind == "uuid":
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if kind in ("timestamp", "timestamptz", "date"):
        return _in_our_era(pa, pc, values, refuse)
    if kind == "interval":
        return pa.array(_intervals(values.cast(pa.int64()).to_pylist(), values.type.unit, refuse), pa.string())
    if kind == "jsonb":
        return pa.array([_json(place, value, refuse) for place, value in enumerate(values)], pa.string())
    if kind != "text":
        return values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        values = _as_text(pa, values, refuse)
    else:
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            values = _as_text(pa, values.cast(pa.binary()), refuse)
    nul = pc.match_substring(values, "\0")
    if pc.any(nul).as_py():
        refuse(pc.indices_nonzero(nul).to_pylist(), "contains a NUL character")
    return values


def _intervals(counts: list[int | None], unit: str, refuse: Any) -> list[str | None]:
    times, parts = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}[unit]
    texts: list[str | None] = []
    for place, count in enumerate(counts):
        microseconds = None if count is None else count * times // parts
        if microseconds is not None and abs(microseconds) >= 1 << 62:
            refuse([place], "duration is out of range")
            microseconds = None
        texts.append(None if microseconds is None else f"{microseconds} microseconds")
    return texts


def _json(place: int, scalar: Any, refuse: Any) -> str | None:
    try:
        value = scalar.as_py()
        text = None if value is None else json.dumps(value, default=str, allow_nan=False)
    except (ValueError, OverflowError):  # NaN, bytes that are no text, a time that Python has no value for
        refuse([place], "has no JSON form")
        return None
    if text and "\\u0000" in text:
        refuse([place], "contains a NUL character")
        return None
    return text


def _shown(scalar: Any) -> Any:
    """A value for people, whatever it is."""
    try:
        value = scalar.as_py()
    except (ValueError, OverflowError):
        return "?"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


def _as_text(pa: Any, values: Any, refuse: Any) -> Any:
    """Bytes that are UTF-8, which older writers do not declare as text; any other type as Python writes it."""
    found: list[str | None] = []
    for place, value in enumerate(values.to_pylist()):
        try:
            found.append(value.decode() if isinstance(value, bytes) else None if value is None else str(value))
        except UnicodeDecodeError:
            refuse([place], "not valid utf-8")
            found.append(None)
    return pa.array(found, pa.string())


def _in_our_era(pa: Any, pc: Any, values: Any, refuse: Any) -> Any:
    """Times of the years 1 to 9999, which both sides write with four digits."""
    kind = values.type
    day = 1 if kind == pa.date32() else 86_400_000 if kind == pa.date64() else None
    step = day or 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    low, high = -719_162 * step, 2_932_897 * step
    numbers = values.cast(pa.int32() if kind == pa.date32() else pa.int64())
    limit = 2**31 if kind == pa.date32() else 2**63
    outside = pc.or_(
        pc.less(numbers, pa.scalar(max(low, -limit), numbers.type)),
        pc.greater_equal(numbers, pa.scalar(min(high, limit - 1), numbers.type)),
    )
    if pc.any(outside).as_py():
        refuse(pc.indices_nonzero(outside).to_pylist(), "time is outside of the years 1 to 9999")
        values = pc.if_else(outside, pa.scalar(None, kind), values)
    return values
